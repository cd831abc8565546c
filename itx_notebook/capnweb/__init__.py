"""Cap'n Web for Python: object-capability RPC over WebSocket and HTTP, usable on its own.

Interoperable with npm ``capnweb`` 0.8.0 and newer. Write a server's object as a class, call it through a stub, pass
objects and functions as arguments; calls on a result are sent before the result is there::

    from itx_notebook import capnweb as rpc


    class Api(rpc.RpcTarget):
        def greet(self, name):
            return f"Hello, {name}!"


    async with rpc.serve(lambda request: Api()) as server, rpc.connect(server.url) as api:
        print(await api.greet("Ada"))

Nothing here knows the rest of the package.
"""

from __future__ import annotations

from itx_notebook.capnweb.http import answer_batch, batch
from itx_notebook.capnweb.http1 import HandshakeRequest, Refusal
from itx_notebook.capnweb.listener import PostAnswer, ReadBody
from itx_notebook.capnweb.protocol.errors import (
    RemoteAggregateError,
    RemoteError,
    RemoteRangeError,
    RemoteReferenceError,
    RemoteSyntaxError,
    RemoteThrown,
    RemoteTypeError,
    RpcAborted,
    RpcDisconnected,
    RpcDisposed,
    RpcError,
    RpcProtocolError,
)
from itx_notebook.capnweb.protocol.hooks import Registration
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.machine import Options, Stats
from itx_notebook.capnweb.protocol.pipes import Blob, Readable, Writable
from itx_notebook.capnweb.protocol.serialize import prepare
from itx_notebook.capnweb.protocol.targets import RpcTarget, hidden, name
from itx_notebook.capnweb.protocol.values import UNDEFINED, Headers, JsDate, Prepared, Request, Response, Url
from itx_notebook.capnweb.pump import Pump
from itx_notebook.capnweb.results import gather, pull
from itx_notebook.capnweb.server import Server, connect, open_session, serve
from itx_notebook.capnweb.session import Session, memory_pair, session_of
from itx_notebook.capnweb.stub import RpcPromise, RpcStub, dispose, on_broken, stub
from itx_notebook.capnweb.transport import HandshakeError, TransportOptions

__all__ = [
    "UNDEFINED",
    "Blob",
    "HandshakeError",
    "HandshakeRequest",
    "Headers",
    "JsDate",
    "Limits",
    "Options",
    "PostAnswer",
    "Prepared",
    "Pump",
    "ReadBody",
    "Readable",
    "Refusal",
    "Registration",
    "RemoteAggregateError",
    "RemoteError",
    "RemoteRangeError",
    "RemoteReferenceError",
    "RemoteSyntaxError",
    "RemoteThrown",
    "RemoteTypeError",
    "Request",
    "Response",
    "RpcAborted",
    "RpcDisconnected",
    "RpcDisposed",
    "RpcError",
    "RpcPromise",
    "RpcProtocolError",
    "RpcStub",
    "RpcTarget",
    "Server",
    "Session",
    "Stats",
    "TransportOptions",
    "Url",
    "Writable",
    "answer_batch",
    "batch",
    "connect",
    "dispose",
    "gather",
    "hidden",
    "memory_pair",
    "name",
    "on_broken",
    "open_session",
    "prepare",
    "pull",
    "serve",
    "session_of",
    "stub",
]
