"""The server's socket: accepting, counting what has come, and the end.

Each socket gets a door (``door``), which lets it in as a WebSocket connection or answers it. The listener knows all of
them, so that there are never too many and so that it can end them in order: no new ones, drained ones closed, the rest
cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as socket_module
import ssl as ssl_module
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.door import (
    Authenticate,
    Door,
    OnAnswer,
    OnConnection,
    OnPost,
    OnRequest,
    PostAnswer,
    ReadBody,
    Rules,
    report_defect,
)
from itx_notebook.capnweb.forking import disown_socket, own_socket
from itx_notebook.capnweb.http1 import HandshakeRequest, Refusal
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, GOING_AWAY, TransportOptions
from itx_notebook.capnweb.websocket import choose_frames

__all__ = [
    "Authenticate",
    "HandshakeRequest",
    "Listener",
    "OnAnswer",
    "OnPost",
    "OnRequest",
    "PostAnswer",
    "ReadBody",
    "Refusal",
    "listen",
]


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
    on_request: OnRequest | None = None,
    on_answer: OnAnswer | None = None,
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
    on_request
        Called with each request that is no WebSocket handshake, before `authenticate`, and with a coroutine function
        that reads its body. It answers as `on_post` does, refuses, or leaves the request to others by returning None.
        Cancelled when the client goes.
    on_answer
        Told of each answer, refusals and handshakes too. Must not raise.
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
    rules = Rules(
        on_connection=on_connection,
        on_post=on_post,
        on_request=on_request,
        on_answer=on_answer,
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

    def __init__(self, rules: Rules, *, is_secure: bool) -> None:
        self._rules = rules
        self._is_secure = is_secure
        self._server: asyncio.Server
        self._doors: set[Door] = set()
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
        for number in self._numbers:
            disown_socket(number)
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
        self._numbers = [own_socket(listening) for listening in self._server.sockets]

    # From the doors.

    def admit(self, door: Door) -> bool:
        """Count a socket that has come; False if there are too many."""
        sockets = len(self._doors) + len(self._connections)
        # Those being told that there are too many still cost a socket for a while.
        if self._is_closing or sockets >= 2 * self._rules.max_connections:
            door.cut()
        self._doors.add(door)
        return sockets < self._rules.max_connections

    def dismiss(self, door: Door) -> None:
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

    def _open_door(self) -> Door:
        return Door(self, self._rules)

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
                report_defect("Draining a connection failed.", error)
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
