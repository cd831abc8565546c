"""The server's socket: accepting, the door that each connection passes, and the end.

A door is what a socket meets first. It reads one HTTP request at a time, checks where it comes from and who sent it,
and then either hands the socket over to a WebSocket connection or answers a POST. What happens on a connection
afterwards is none of its business; what a client may cost before that is limited here: the size of a head, the time
for it, and the number of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket as socket_module
import ssl as ssl_module
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from itx_notebook.capnweb.connection import Connection, get_peer_name
from itx_notebook.capnweb.http1 import (
    BLANK_LINE,
    BodyReader,
    HandshakeRequest,
    Refusal,
    format_answer,
    is_origin_allowed,
    parse_request,
)
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, GOING_AWAY, TransportOptions
from itx_notebook.capnweb.websocket import answer_upgrade, choose_frames, open_connection

__all__ = ["HandshakeRequest", "Listener", "PostAnswer", "Refusal", "listen"]

PostAnswer: TypeAlias = tuple[int, Sequence[tuple[str, str]], bytes]
"""Status, headers and body."""

Authenticate: TypeAlias = Callable[[HandshakeRequest], Any]
OnConnection: TypeAlias = Callable[[Connection, HandshakeRequest], None]
OnPost: TypeAlias = Callable[[HandshakeRequest, bytes], Awaitable[PostAnswer]]

_HEAD_MAX_BYTES = 32 * 1024
_READ_AHEAD_MAX_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What every door of a listener goes by."""

    on_connection: OnConnection
    on_post: OnPost | None
    authenticate: Authenticate | None
    origins: Sequence[str] | None
    subprotocols: Sequence[str]
    options: TransportOptions
    handshake_timeout: float
    body_timeout: float
    max_connections: int
    fast: bool


async def listen(
    on_connection: OnConnection,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    unix: str | os.PathLike[str] | None = None,
    sock: socket_module.socket | None = None,
    ssl: ssl_module.SSLContext | None = None,
    origins: Sequence[str] | None = None,
    authenticate: Authenticate | None = None,
    on_post: OnPost | None = None,
    subprotocols: Sequence[str] = (),
    options: TransportOptions = DEFAULT_OPTIONS,
    handshake_timeout: float = 10.0,
    body_timeout: float = 60.0,
    max_connections: int = 1000,
    fast: bool | None = None,
) -> Listener:
    """Serve WebSocket, and HTTP's POST, on one port.

    Parameters
    ----------
    on_connection
        Called with each new connection, not reading yet, and the request that opened it. If it raises, the loop's
        exception handler hears of it and the connection is cut.
    port
        0 takes a free one: see :attr:`Listener.port`.
    unix
        The path of a Unix socket to make instead, which only this user may connect to. What is there already is
        replaced if it is a socket, so have a lock of your own. It is removed at the end.
    sock
        A socket to listen on instead, bound already.
    origins
        The web pages that may connect, as ``https://host[:port]``; ``"*"`` for all of them. None: those of the host
        that was asked, which on loopback has to be ``localhost`` or its address. Programs send no ``Origin`` and pass.
    authenticate
        Called with each request, also a POST, before anything is done for it; may be a coroutine function. What it
        returns becomes the request's ``principal``. It refuses by raising or returning a :class:`Refusal`.
    on_post
        Answers a POST with status, headers and body. Cancelled when the client goes. None: POST is refused as every
        other method is, with 405.
    subprotocols
        Those we know, the preferred one first.
    handshake_timeout
        Seconds for TLS, then for a request's head, then for ``authenticate``; and how long a connection may stay
        between two requests.
    body_timeout
        Seconds for a POST's body, and for the client to take the answer.
    max_connections
        Sockets at one time; one more is answered with 503.
    fast
        Take ``picows`` for the frames: None if it is installed, True by all means, False never.

    Raises
    ------
    OSError
        The address cannot be listened on.
    ImportError
        `fast` is True without a ``picows`` that we know.
    """
    rules = _Rules(
        on_connection=on_connection,
        on_post=on_post,
        authenticate=authenticate,
        origins=origins,
        subprotocols=subprotocols,
        options=options,
        handshake_timeout=handshake_timeout,
        body_timeout=body_timeout,
        max_connections=max_connections,
        fast=choose_frames(fast=fast),
    )
    listener = Listener(rules, is_secure=ssl is not None)
    await listener.open(host, port, unix=unix, sock=sock, ssl=ssl)
    return listener


class Listener:
    """An open port; made by :func:`listen`. As an async context manager it closes at the end."""

    def __init__(self, rules: _Rules, *, is_secure: bool) -> None:
        self._rules = rules
        self._is_secure = is_secure
        self._server: asyncio.Server
        self._doors: set[_Door] = set()
        self._connections: set[Connection] = set()
        self._is_closing = False
        self._emptied = asyncio.Event()
        # Path and inode of the Unix socket we made.
        self._made: tuple[Path, int] | None = None

    @property
    def port(self) -> int | None:
        """The port; None on a Unix socket."""
        name = self._name
        return name[1] if isinstance(name, tuple) else None

    @property
    def url(self) -> str:
        """What :func:`~itx_notebook.capnweb.websocket.dial` takes: ``ws://127.0.0.1:4312/`` or ``unix:/path``."""
        name = self._name
        if not isinstance(name, tuple):
            return f"unix:{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{'wss' if self._is_secure else 'ws'}://{host}:{name[1]}/"

    @property
    def connections(self) -> list[Connection]:
        """The WebSocket connections that are open or closing."""
        return list(self._connections)

    async def close(
        self,
        *,
        drain: Callable[[Connection], Awaitable[None]] | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109  # what it bounds is the peers' time; the end comes in any case
    ) -> None:
        """Accept no more, let what runs come to its end, and cut the rest after `timeout` seconds.

        Each connection is closed with 1001 once `drain` has returned for it; a POST being answered is finished.
        Repeating is harmless. Cancelling cuts everything at once.
        """
        self._is_closing = True
        self._server.close()
        try:
            async with asyncio.timeout(timeout):
                for door in list(self._doors):
                    door.retire()
                await asyncio.gather(*(self._retire(connection, drain) for connection in self.connections))
                await self._wait_until_empty()
        except TimeoutError:
            # The peers had their time.
            pass
        finally:
            self._cut_everything()
        await self._wait_until_empty()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(
        self,
        host: str,
        port: int,
        *,
        unix: str | os.PathLike[str] | None,
        sock: socket_module.socket | None,
        ssl: ssl_module.SSLContext | None,
    ) -> None:
        """Begin to accept; what :func:`listen` does."""
        loop = asyncio.get_running_loop()
        timeout = None if ssl is None else self._rules.handshake_timeout
        if unix is not None:
            path = Path(unix)
            made, inode = _bind_unix(path)
            self._made = (path, inode)
            self._server = await loop.create_unix_server(
                self._open_door, sock=made, ssl=ssl, ssl_handshake_timeout=timeout
            )
        elif sock is not None:
            self._server = await loop.create_server(self._open_door, sock=sock, ssl=ssl, ssl_handshake_timeout=timeout)
        else:
            self._server = await loop.create_server(
                self._open_door, host, port, ssl=ssl, ssl_handshake_timeout=timeout, reuse_address=os.name == "posix"
            )
        self._name: Any = self._server.sockets[0].getsockname()

    # From the doors.

    def admit(self, door: _Door) -> bool:
        """Count a socket that has come; False if there are too many."""
        sockets = len(self._doors) + len(self._connections)
        # Those being told that there are too many still cost a socket for a while.
        if self._is_closing or sockets >= 2 * self._rules.max_connections:
            door.cut()
        self._doors.add(door)
        return sockets < self._rules.max_connections

    def dismiss(self, door: _Door) -> None:
        """A door has closed, or has handed its socket over."""
        self._doors.discard(door)
        self._tell_empty()

    def adopt(self, connection: Connection) -> None:
        """A connection has come out of a door."""
        self._connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is lost."""
        self._connections.discard(connection)
        self._tell_empty()

    # Inside.

    def _open_door(self) -> _Door:
        return _Door(self, self._rules)

    def _tell_empty(self) -> None:
        if not self._doors and not self._connections:
            self._emptied.set()

    async def _wait_until_empty(self) -> None:
        while self._doors or self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    async def _retire(self, connection: Connection, drain: Callable[[Connection], Awaitable[None]] | None) -> None:
        if drain is not None:
            try:
                await drain(connection)
            except Exception as error:
                _report("Draining a connection failed.", error)
        connection.close(GOING_AWAY, "the server is closing")

    def _cut_everything(self) -> None:
        for door in list(self._doors):
            door.cut()
        for connection in self.connections:
            connection.abort()
        if self._made is not None:
            path, inode = self._made
            self._made = None
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()


class _Gone(Exception):  # noqa: N818  # the client's right
    """The client says nothing between two requests, or does not take its answer."""


class _Door(asyncio.Protocol):
    """One socket until it is a WebSocket connection or closed."""

    def __init__(self, listener: Listener, rules: _Rules) -> None:
        self._listener = listener
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._is_answering = False
        self._is_finished = False
        self._is_read_ahead_full = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # From asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        if not self._listener.admit(self):
            self._finish(_format_refusal(Refusal(503, "Too many connections.")))
        else:
            self._task = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        if self._is_finished:
            return
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > _READ_AHEAD_MAX_BYTES:
            self._is_read_ahead_full = True
            self._socket.pause_reading()

    def eof_received(self) -> bool | None:
        # A client that ends its half is taken to have gone: hardly any that still reads an answer does that.
        self._cut_in_time()
        return None

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._listener.dismiss(self)

    # From the listener.

    def retire(self) -> None:
        """Take no further request."""
        if not self._is_answering and not self._is_finished:
            self.cut()

    def cut(self) -> None:
        self._socket.abort()

    # Requests.

    async def _serve(self) -> None:
        try:
            try:
                while await self._serve_request():
                    pass
            except Refusal as refusal:
                self._finish(_format_refusal(refusal))
        except _Gone:
            self._socket.close()
            self._cut_in_time()
        except Exception as error:
            _report("Answering an HTTP request failed.", error)
            self._finish(_format_refusal(Refusal(500, "Something went wrong here.")))

    async def _serve_request(self) -> bool:
        """Serve one request; True if another may come."""
        self._is_answering = False
        head = await self._read_head()
        self._is_answering = True
        is_secure = self._socket.get_extra_info("ssl_object") is not None
        request = parse_request(head, peer=get_peer_name(self._socket), is_secure=is_secure)
        self._check_origin(request)
        if request.is_upgrade:
            self._upgrade(head, await self._authenticate(request))
            return False
        on_post = self._rules.on_post
        if on_post is None or request.method != "POST":
            allowed = "GET" if on_post is None else "GET, POST"
            raise Refusal(405, "This is a WebSocket port.", [("Allow", allowed)])
        request = await self._authenticate(request)
        body = await self._read_body(request)
        return await self._answer_post(request, await on_post(request, body))

    def _check_origin(self, request: HandshakeRequest) -> None:
        origins = request.headers.get_all("origin")
        if not origins:
            return
        host = request.headers.get("host", "")
        name = self._socket.get_extra_info("sockname")
        is_loopback = not isinstance(name, tuple) or name[0] == "::1" or name[0].startswith("127.")
        allowed = self._rules.origins
        if len(origins) > 1 or not is_origin_allowed(origins[0], host, allowed, is_loopback=is_loopback):
            raise Refusal(403, "Pages of this origin may not connect here.")

    async def _authenticate(self, request: HandshakeRequest) -> HandshakeRequest:
        if self._rules.authenticate is None:
            return request
        principal = self._rules.authenticate(request)
        if isinstance(principal, Awaitable):
            try:
                async with asyncio.timeout(self._rules.handshake_timeout):
                    principal = await principal
            except TimeoutError:
                raise Refusal(503, "It took too long to find out who you are.") from None
        if isinstance(principal, Refusal):
            raise principal
        return dataclasses.replace(request, principal=principal)

    def _upgrade(self, head: bytes, request: HandshakeRequest) -> None:
        rules = self._rules
        answer, core = answer_upgrade(head, subprotocols=rules.subprotocols, options=rules.options)
        if core is None:
            self._finish(answer or _format_refusal(Refusal(400, "The handshake is malformed.")))
            return
        connection = open_connection(core, rules.options, fast=rules.fast)
        self._socket.pause_reading()
        self._socket.write(answer)
        self._listener.adopt(connection)
        connection.attach(self._socket, bytes(self._buffer), self._listener.forget)
        self._listener.dismiss(self)
        try:
            rules.on_connection(connection, request)
        except Exception as error:
            _report("Taking a new connection failed; it is cut.", error)
            connection.abort()

    async def _answer_post(self, request: HandshakeRequest, answer: PostAnswer) -> bool:
        status, headers, body = answer
        origin = request.headers.get("origin")
        if origin is not None:
            # It was let in, so its page may read the answer.
            headers = [*headers, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        data = format_answer(status, headers, body, is_last=request.is_last)
        if request.is_last:
            self._finish(data)
            return False
        self._socket.write(data)
        try:
            async with asyncio.timeout(self._rules.body_timeout):
                await self._drained.wait()
        except TimeoutError:
            raise _Gone from None
        return True

    # Reading and ending.

    async def _read_head(self) -> bytes:
        searched = 0
        try:
            async with asyncio.timeout(self._rules.handshake_timeout):
                while (end := self._buffer.find(BLANK_LINE, max(0, searched - 3), _HEAD_MAX_BYTES)) < 0:
                    searched = len(self._buffer)
                    if searched >= _HEAD_MAX_BYTES:
                        raise Refusal(431, f"A request's head may have {_HEAD_MAX_BYTES} bytes.")
                    await self._read_more()
        except TimeoutError:
            if not self._buffer:
                raise _Gone from None
            raise Refusal(408, "The request took too long.") from None
        end += len(BLANK_LINE)
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        return head

    async def _read_body(self, request: HandshakeRequest) -> bytes:
        reader = BodyReader(request, self._rules.options.max_message_bytes)
        expectation = request.headers.get("expect", "").lower()
        if expectation not in {"", "100-continue"}:
            raise Refusal(417, "Only 100-continue can be expected.")
        reader.feed(self._buffer)
        if expectation and not reader.is_complete:
            self._socket.write(b"HTTP/1.1 100 Continue" + BLANK_LINE)
        try:
            async with asyncio.timeout(self._rules.body_timeout):
                while not reader.is_complete:
                    await self._read_more()
                    reader.feed(self._buffer)
        except TimeoutError:
            raise Refusal(408, "The request took too long.") from None
        return bytes(reader.body)

    async def _read_more(self) -> None:
        """Wait for more bytes in the buffer."""
        self._arrived.clear()
        if self._is_read_ahead_full:
            self._is_read_ahead_full = False
            self._socket.resume_reading()
        await self._arrived.wait()

    def _finish(self, data: bytes) -> None:
        """Send a last answer, then close; read on for a while, as closing over unread bytes can lose the answer."""
        self._is_finished = True
        self._buffer.clear()
        if self._is_read_ahead_full:
            self._socket.resume_reading()
        self._socket.write(data)
        if self._socket.can_write_eof():
            self._socket.write_eof()
        else:
            self._socket.close()
        self._cut_in_time()

    def _cut_in_time(self) -> None:
        """Cut the socket if what is still to be sent has not gone after a while."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._rules.options.close_timeout, self.cut)


def _format_refusal(refusal: Refusal) -> bytes:
    headers = [("Content-Type", "text/plain; charset=utf-8"), *refusal.headers]
    return format_answer(refusal.status, headers, f"{refusal.text}\n".encode())


def _report(message: str, error: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": f"Cap'n Web: {message}", "exception": error})


def _bind_unix(path: Path) -> tuple[socket_module.socket, int]:
    """A Unix socket bound at `path` that only this user may connect to, and its inode."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    made = socket_module.socket(socket_module.AF_UNIX, socket_module.SOCK_STREAM)
    try:
        made.bind(os.fspath(path))
        # Nobody can connect before it listens.
        path.chmod(0o600)
        return made, path.stat().st_ino
    except BaseException:
        made.close()
        raise
