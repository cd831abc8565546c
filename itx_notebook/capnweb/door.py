"""What a socket meets first: one HTTP request at a time, who sent it and from where, then a WebSocket or an answer.

A door reads a request, checks where it comes from and asks who sent it, and then either hands the socket over to a
WebSocket connection or answers a POST. What happens on a connection afterwards is none of its business; what a client
may cost before that is limited here: the size of a head, the time for it, and the number of sockets.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

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
from itx_notebook.capnweb.transport import TransportOptions
from itx_notebook.capnweb.websocket import answer_upgrade, open_connection

__all__ = [
    "Authenticate",
    "Door",
    "Keeper",
    "OnAnswer",
    "OnConnection",
    "OnPost",
    "OnRequest",
    "PostAnswer",
    "ReadBody",
    "Rules",
    "report_defect",
]

PostAnswer: TypeAlias = tuple[int, Sequence[tuple[str, str]], bytes]
"""Status, headers and body."""

Authenticate: TypeAlias = Callable[[HandshakeRequest], Any]
OnConnection: TypeAlias = Callable[[Connection, HandshakeRequest], None]
OnPost: TypeAlias = Callable[[HandshakeRequest, bytes], Awaitable[PostAnswer]]

ReadBody: TypeAlias = Callable[[int], Awaitable[bytes]]
"""Reads a request's body, which may have this many bytes; a :class:`Refusal` is raised for a larger one."""

OnRequest: TypeAlias = Callable[[HandshakeRequest, ReadBody], Awaitable["PostAnswer | None"]]
OnAnswer: TypeAlias = Callable[["HandshakeRequest | None", int, float], None]
"""Told of each answer: the request (None if it could not be read), the status, and the seconds it took."""

_HEAD_MAX_BYTES = 32 * 1024
_READ_AHEAD_MAX_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What every door of a listener goes by."""

    on_connection: OnConnection
    on_post: OnPost | None
    on_request: OnRequest | None
    on_answer: OnAnswer | None
    authenticate: Authenticate | None
    origins: Sequence[str] | None
    subprotocols: Sequence[str]
    options: TransportOptions
    handshake_timeout: float
    body_timeout: float
    max_connections: int
    fast: bool


class Keeper(Protocol):
    """What a door tells: the listener."""

    def admit(self, door: Door) -> bool:
        """Count a socket that has come; False if there are too many."""

    def dismiss(self, door: Door) -> None:
        """A door has closed, or has handed its socket over."""

    def adopt(self, connection: Connection) -> None:
        """A connection has come out of a door."""

    def forget(self, connection: Connection) -> None:
        """A connection is lost."""


class _Gone(Exception):  # noqa: N818  # the client's right
    """The client says nothing between two requests, or does not take its answer."""


class Door(asyncio.Protocol):
    """One socket until it is a WebSocket connection or closed."""

    def __init__(self, keeper: Keeper, rules: Rules) -> None:
        self._keeper = keeper
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._is_answering = False
        self._is_finished = False
        self._is_retiring = False
        self._is_read_ahead_full = False
        self._request: HandshakeRequest | None = None
        self._has_body = False
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # From asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, or send the socket away."""
        self._socket = cast("asyncio.Transport", transport)
        if not self._keeper.admit(self):
            self._refuse(Refusal(503, "Too many connections."))
        else:
            self._task = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Keep what came until it is asked for."""
        if self._is_finished:
            return
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > _READ_AHEAD_MAX_BYTES:
            self._is_read_ahead_full = True
            self._socket.pause_reading()

    def eof_received(self) -> bool | None:
        """Let asyncio close."""
        # A client that ends its half is taken to have gone: hardly any that still reads an answer does that.
        self._cut_in_time()
        return None

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """The client has taken its answers."""
        self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what was being done for the client."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._keeper.dismiss(self)

    # From the listener.

    def retire(self) -> None:
        """Take no further request."""
        self._is_retiring = True
        if not self._is_answering and not self._is_finished:
            self.cut()

    def cut(self) -> None:
        """Cut the socket."""
        self._socket.abort()

    # Requests.

    async def _serve(self) -> None:
        try:
            try:
                while await self._serve_request():
                    pass
            except Refusal as refusal:
                self._refuse(refusal)
        except _Gone:
            self._socket.close()
            self._cut_in_time()
        except Exception as error:
            report_defect("Answering an HTTP request failed.", error)
            self._refuse(Refusal(500, "Something went wrong here."))

    async def _serve_request(self) -> bool:
        """Serve one request; True if another may come."""
        self._is_answering = False
        self._request = None
        head = await self._read_head()
        self._is_answering = True
        self._began = self._loop.time()
        is_secure = self._socket.get_extra_info("ssl_object") is not None
        request = self._request = parse_request(head, peer=get_peer_name(self._socket), is_secure=is_secure)
        self._check_origin(request)
        if request.is_upgrade:
            self._upgrade(head, await self._authenticate(request))
            return False
        if self._rules.on_request is not None:
            self._has_body = not BodyReader(request, self._rules.options.max_message_bytes).is_complete
            answer = await self._rules.on_request(request, self._read_body_within)
            if answer is not None:
                # What was not read of the body must not be taken for a request.
                return await self._answer_post(request, answer, is_last=self._has_body)
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
        self._request = dataclasses.replace(request, principal=principal)
        return self._request

    def _upgrade(self, head: bytes, request: HandshakeRequest) -> None:
        rules = self._rules
        answer, core = answer_upgrade(head, subprotocols=rules.subprotocols, options=rules.options)
        if core is None:
            self._tell(400)
            self._finish(answer or _format_refusal(Refusal(400, "The handshake is malformed.")))
            return
        self._tell(101)
        connection = open_connection(core, rules.options, fast=rules.fast)
        self._socket.pause_reading()
        self._socket.write(answer)
        self._keeper.adopt(connection)
        connection.attach(self._socket, bytes(self._buffer), self._keeper.forget)
        self._keeper.dismiss(self)
        try:
            rules.on_connection(connection, request)
        except Exception as error:
            report_defect("Taking a new connection failed; it is cut.", error)
            connection.abort()

    async def _answer_post(self, request: HandshakeRequest, answer: PostAnswer, *, is_last: bool = False) -> bool:
        status, headers, body = answer
        self._tell(status)
        origin = request.headers.get("origin")
        if origin is not None:
            # It was let in, so its page may read the answer.
            headers = [*headers, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        is_last = is_last or request.is_last or self._is_retiring
        data = format_answer(status, headers, body, is_last=is_last)
        if is_last:
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

    async def _read_body_within(self, max_bytes: int) -> bytes:
        """Read the body for whoever answers a request that is no batch."""
        assert self._request is not None  # noqa: S101  # it is being answered
        body = await self._read_body(self._request, max_bytes)
        self._has_body = False
        return body

    async def _read_body(self, request: HandshakeRequest, max_bytes: int | None = None) -> bytes:
        reader = BodyReader(request, max_bytes or self._rules.options.max_message_bytes)
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

    def _tell(self, status: int) -> None:
        """Tell who keeps count of an answer."""
        if self._rules.on_answer is not None:
            seconds = 0.0 if self._request is None else self._loop.time() - self._began
            self._rules.on_answer(self._request, status, seconds)

    def _refuse(self, refusal: Refusal) -> None:
        self._tell(refusal.status)
        self._finish(_format_refusal(refusal))

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
    headers = list(refusal.headers)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "text/plain; charset=utf-8"))
    return format_answer(refusal.status, headers, refusal.text.encode())


def report_defect(message: str, error: Exception) -> None:
    """Tell the loop's exception handler of an error that has nobody to be raised to."""
    asyncio.get_running_loop().call_exception_handler({"message": f"Cap'n Web: {message}", "exception": error})
