"""HTTP batch: a session that lasts one POST. Calls go up together, with those pipelined on them; the answers come down.

The body in both directions is one message a line. The server cannot call back, since the client has stopped talking
when the server begins: such a call fails, on the server, with :class:`RpcDisconnected`.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl as ssl_module
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from itx_notebook.capnweb.protocol.errors import RpcDisconnected, RpcError
from itx_notebook.capnweb.protocol.machine import Machine, Options
from itx_notebook.capnweb.runtime import AsyncioRuntime
from itx_notebook.capnweb.stub import RpcPromise, RpcStub

__all__ = ["answer_batch", "batch"]

_DEFAULT: Final = Options()
_ENDED: Final = "Batch RPC request ended."


def _make_machine(main: Any, options: Options, wake: Any) -> Machine:
    runtime = AsyncioRuntime(
        asyncio.get_running_loop(),
        RpcStub,
        RpcPromise,
        max_running=options.limits.max_running_calls,
        max_held_bytes=options.limits.max_held_bytes,
        on_call_error=options.on_call_error,
        keeps_undefined=options.keep_undefined,
    )
    return Machine(main, runtime=runtime, options=options, wake=wake)


async def answer_batch(body: bytes, main: Any, *, options: Options = _DEFAULT) -> bytes:
    """Return the answer to the body of a batch request, once every result it asks for is there.

    Cancelling is safe: what runs goes on, and nobody hears of it.
    """
    machine = _make_machine(main, options, lambda: None)
    machine.sends_streams = False
    try:
        for line in body.split(b"\n"):
            if line.strip():
                machine.receive(line)
        machine.settle()
        machine.input_ended(RpcDisconnected(1000, "A batch's server cannot call its client."))
        answered = asyncio.Event()
        machine.call_when_answered(answered.set)
        await answered.wait()
        return b"\n".join(machine.outbox)
    finally:
        machine.shut_down()


@asynccontextmanager
async def batch(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    timeout: float = 60.0,  # noqa: ASYNC109  # of the request, which runs in a thread
    options: Options = _DEFAULT,
) -> AsyncIterator[RpcStub]:
    """Collect calls, and send them in one POST: ``async with rpc.batch(url) as api``.

    Everything called until the event loop has turned twice goes into the batch: make all calls, then await them
    together with ``asyncio.gather``. A later call, or a second batch, needs a new ``batch``.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``.
    headers : mapping, optional
        More headers for the request.
    ssl : SSLContext, optional
        For ``https``; ``None`` takes the system's certificates.
    timeout : float
        Seconds for the server to be reached, and for each read of its answer.
    options : Options
        How the session behaves.

    Raises
    ------
    ValueError
        The URL is neither http nor https.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is no http:// or https:// URL.")
    loop = asyncio.get_running_loop()
    posting: asyncio.Task[None] | None = None

    def wake() -> None:
        if posting is None:
            loop.call_soon(loop.call_soon, post)

    def post() -> None:
        nonlocal posting
        if posting is None and machine.error is None:
            posting = loop.create_task(exchange())

    async def exchange() -> None:
        messages, machine.outbox = machine.outbox, []
        try:
            answer = await asyncio.to_thread(_post, url, b"\n".join(messages), dict(headers or {}), ssl, timeout)
        except (OSError, http.client.HTTPException, RpcError) as error:
            machine.connection_lost(1006, f"{type(error).__name__}: {error}")
            return
        for line in answer.split(b"\n"):
            if line.strip():
                machine.receive(line)
        machine.connection_lost(1000, _ENDED)

    machine = _make_machine(None, options, wake)
    stub = machine.main
    assert isinstance(stub, RpcStub)  # noqa: S101  # what the runtime was told to make
    try:
        yield stub
        if machine.outbox:
            # Calls whose results nobody awaits, or not yet, are made all the same.
            post()
        if posting is not None:
            await asyncio.shield(posting)
    finally:
        machine.shut_down()
        if posting is not None:
            await posting


def _post(url: str, body: bytes, headers: dict[str, str], ssl: ssl_module.SSLContext | None, timeout: float) -> bytes:
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=ssl)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
    try:
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        text = answer[:200].decode(errors="replace").strip()
        raise RpcError(f"{host} answered {response.status} {response.reason}{f': {text}' if text else ''}")
    return answer
