"""From an address to a session, and from a main object to a server."""

from __future__ import annotations

import asyncio
import os
import socket as socket_module
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypedDict, Unpack

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.http import answer_batch
from itx_notebook.capnweb.http1 import HandshakeRequest
from itx_notebook.capnweb.listener import Authenticate, Listener, OnAnswer, OnRequest, listen
from itx_notebook.capnweb.protocol.machine import Options
from itx_notebook.capnweb.session import Session, fit
from itx_notebook.capnweb.stub import RpcStub
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, TransportOptions
from itx_notebook.capnweb.websocket import dial

__all__ = ["MainFactory", "OnConnection", "OnSession", "Server", "connect", "open_session", "serve"]

_DEFAULT: Final = Options()

MainFactory = Callable[[HandshakeRequest], Any]
"""Makes the main object of one connection, from the request that opened it."""

OnConnection = Callable[[Connection, HandshakeRequest], None]
"""Told of each new connection, before there is a session on it."""

OnSession = Callable[[Session, HandshakeRequest], None]
"""Told of each new session, before it reads."""


async def open_session(
    url: str,
    main: Any = None,
    *,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    unix: str | os.PathLike[str] | None = None,
    open_timeout: float | None = 10.0,
    fast: bool | None = None,
    options: Options = _DEFAULT,
    transport_options: TransportOptions = DEFAULT_OPTIONS,
) -> Session:
    """Connect to a server and return the session; :func:`connect` is the same as a context manager.

    Parameters
    ----------
    url : str
        ``ws://``, ``wss://``, or ``unix:/path/of/socket``.
    main : object, optional
        What the server gets as its main stub.
    headers, ssl, origin, subprotocols
        Of the WebSocket's handshake.
    unix : path, optional
        The Unix socket to connect to instead of the URL's host and port.
    open_timeout : float, optional
        Seconds for the server to be reached and to answer. ``None``: as long as it takes.
    fast : bool, optional
        Take ``picows`` for the frames: ``None`` if it is installed.
    options, transport_options
        How the session and its connection behave.

    Raises
    ------
    ValueError
        The URL or a header is malformed.
    OSError
        The server cannot be reached, or refused (:class:`HandshakeError`).
    """
    connection = await dial(
        url,
        headers=headers,
        ssl=ssl,
        origin=origin,
        subprotocols=subprotocols,
        unix=unix,
        options=fit(transport_options, options),
        open_timeout=open_timeout,
        fast=fast,
    )
    return Session(connection, main, options=options)


class ConnectArguments(TypedDict, total=False):
    """What :func:`connect` passes on."""

    headers: Mapping[str, str] | Sequence[tuple[str, str]]
    ssl: ssl_module.SSLContext | None
    origin: str | None
    subprotocols: Sequence[str]
    unix: str | os.PathLike[str] | None
    open_timeout: float | None
    fast: bool | None
    options: Options
    transport_options: TransportOptions


@asynccontextmanager
async def connect(url: str, main: Any = None, **arguments: Unpack[ConnectArguments]) -> AsyncIterator[RpcStub]:
    """Connect to a server: ``async with rpc.connect("ws://…") as api``.

    Parameters
    ----------
    url : str
        ``ws://``, ``wss://``, or ``unix:/path/of/socket``.
    main : object, optional
        What the server gets as its main stub.
    headers, ssl, origin, subprotocols, unix, open_timeout, fast, options, transport_options
        As in :func:`open_session`, which says, too, what is raised.

    Yields
    ------
    RpcStub
        The server's main object. At the end the session is closed.
    """
    session = await open_session(url, main, **arguments)
    try:
        yield session.main
    finally:
        await session.close()


class Server:
    """A listening server. Made by :func:`serve`."""

    def __init__(
        self,
        main_factory: MainFactory,
        options: Options,
        on_connection: OnConnection | None = None,
        on_session: OnSession | None = None,
    ) -> None:
        self._main_factory = main_factory
        self._on_connection = on_connection
        self._on_session = on_session
        self._options = options
        self._listener: Listener
        self._by_connection: dict[Connection, Session] = {}
        self._closed = asyncio.Event()

    @property
    def sessions(self) -> set[Session]:
        """The sessions that live."""
        return {session for session in self._by_connection.values() if session.error is None}

    @property
    def port(self) -> int | None:
        """The port; ``None`` for a Unix socket."""
        return self._listener.port

    @property
    def url(self) -> str:
        """Where to connect to: ``ws://host:port/``, or ``unix:/path``."""
        return self._listener.url

    @property
    def http_url(self) -> str | None:
        """Where batches and other requests go: ``http://host:port/``, or ``https``; ``None`` for a Unix socket."""
        url = self._listener.url
        return f"http{url.removeprefix('ws')}" if url.startswith("ws") else None

    async def close(self, *, drain_timeout: float = 10.0) -> None:
        """Stop listening, answer what is asked for, and end the sessions; after `drain_timeout` seconds in any case."""
        try:
            await self._listener.close(drain=self._drain, timeout=drain_timeout)
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until it was closed and every connection has ended. Cancelling is safe."""
        await self._closed.wait()

    async def _drain(self, connection: Connection) -> None:
        session = self._by_connection.get(connection)
        if session is not None:
            await session.drain()

    def _connected(self, connection: Connection, request: HandshakeRequest) -> None:
        if self._on_connection is not None:
            self._on_connection(connection, request)
        session = Session(connection, self._main_factory(request), options=self._options)
        self._by_connection[connection] = session
        session.call_when_closed(lambda: self._by_connection.pop(connection, None))
        if self._on_session is not None:
            self._on_session(session, request)

    async def _post(self, request: HandshakeRequest, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        answer = await answer_batch(body, self._main_factory(request), options=self._options)
        return 200, [("Content-Type", "text/plain; charset=utf-8")], answer


@asynccontextmanager
async def serve(
    main_factory: MainFactory,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    unix: str | os.PathLike[str] | None = None,
    sock: socket_module.socket | None = None,
    ssl: ssl_module.SSLContext | None = None,
    origins: Sequence[str] | None = None,
    authenticate: Authenticate | None = None,
    batch: bool = True,
    on_request: OnRequest | None = None,
    on_answer: OnAnswer | None = None,
    on_connection: OnConnection | None = None,
    on_session: OnSession | None = None,
    subprotocols: Sequence[str] = (),
    handshake_timeout: float = 10.0,
    max_connections: int = 1000,
    drain_timeout: float = 10.0,
    fast: bool | None = None,
    options: Options = _DEFAULT,
    transport_options: TransportOptions = DEFAULT_OPTIONS,
) -> AsyncIterator[Server]:
    """Serve an object: ``async with rpc.serve(lambda request: Api()) as server``.

    Parameters
    ----------
    main_factory : callable
        Gets the request that opened a connection and returns that connection's main object.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    unix : path, optional
        The Unix socket to listen on instead.
    sock : socket, optional
        A bound socket to listen on instead.
    ssl : SSLContext, optional
        For ``wss`` and ``https``.
    origins : sequence of str, optional
        The web pages that may connect, as ``https://host[:port]``; ``"*"`` for all of them. ``None``: those of the host
        that was asked, which on loopback has to be ``localhost`` or its address. Programs send no origin and pass.
    authenticate : callable, optional
        Sees each request first, also a POST; may be a coroutine function. What it returns becomes
        ``request.principal``. It refuses by raising or returning a :class:`Refusal`.
    batch : bool
        Whether POST is answered as an HTTP batch.
    on_request : callable, optional
        A coroutine function, called with each request that is no WebSocket handshake, before `authenticate`, and with a
        coroutine function that reads its body. Returns status, headers and body; or ``None`` to leave the request to
        others.
    on_answer : callable, optional
        Hears of each answer: the request (``None`` if it could not be read), the status, and the seconds it took. Must
        not raise.
    on_connection : callable, optional
        Hears of each new connection and the request that opened it, before its session is made.
    on_session : callable, optional
        Hears of each new session and the request that opened it.
    subprotocols : sequence of str
        Those known here, the preferred one first.
    handshake_timeout : float
        Seconds for TLS, then for a request's head, then for `authenticate`.
    max_connections : int
        Sockets at one time; one more is answered with 503.
    drain_timeout : float
        Seconds that answers have to go out when the server ends.
    fast : bool, optional
        Take ``picows`` for the frames: ``None`` if it is installed.
    options, transport_options
        How each session and its connection behave.

    Yields
    ------
    Server
        Listening. At the end it is closed.

    Raises
    ------
    OSError
        The address cannot be listened on.
    ImportError
        `fast` is true, and ``picows`` is missing or of a version not known to work.
    """
    server = Server(main_factory, options, on_connection, on_session)
    server._listener = await listen(
        server._connected,
        host,
        port,
        unix=unix,
        sock=sock,
        ssl=ssl,
        origins=origins,
        authenticate=authenticate,
        on_post=server._post if batch else None,
        on_request=on_request,
        on_answer=on_answer,
        subprotocols=subprotocols,
        options=fit(transport_options, options),
        handshake_timeout=handshake_timeout,
        max_connections=max_connections,
        fast=fast,
    )
    try:
        yield server
    finally:
        await server.close(drain_timeout=drain_timeout)
