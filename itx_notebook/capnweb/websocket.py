"""WebSocket by the ``websockets`` library, and nowhere else: both handshakes, and frames.

Only the library's core is used, which does no I/O: it is fed what the socket read and asked what to write. That leaves
out its tasks, queues and locks, which cost several times the frames themselves. Compression is never offered nor
accepted: most messages are some twenty bytes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl as ssl_module
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Side
from websockets.protocol import Protocol as Core
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.frames import SHORT_MAX_BYTES, build_text_frames, cut_text_frames, is_utf8
from itx_notebook.capnweb.transport import (
    DEFAULT_OPTIONS,
    INVALID_TEXT,
    UNSUPPORTED_DATA,
    HandshakeError,
    TransportOptions,
)

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

__all__ = ["WebSocketConnection", "answer_upgrade", "choose_frames", "dial", "open_connection"]

# The library asks its logger at every frame whether to describe it. It never shall: at DEBUG it would write down the
# headers of handshakes, credentials among them, and everything that is said. At INFO it has only "connection open".
_log = logging.getLogger("itx_notebook.capnweb.websocket")
_log.setLevel(logging.WARNING)

_BLANK_LINE = b"\r\n\r\n"
_RESPONSE_HEAD_MAX_BYTES = 64 * 1024
_ERROR_BODY_MAX_CHARACTERS = 2000

_TEXT = Opcode.TEXT
_CONT = Opcode.CONT
_CLOSE = Opcode.CLOSE
_BINARY = Opcode.BINARY


class WebSocketConnection(Connection, asyncio.Protocol):
    """A connection whose frames ``websockets`` cuts and builds.

    Parameters
    ----------
    core
        The library's protocol object, open: its handshake is done and it has been fed nothing beyond it.
    """

    implementation = "websockets"

    def __init__(self, core: Core, options: TransportOptions) -> None:
        super().__init__(options, is_client=core.side is Side.CLIENT, subprotocol=core.subprotocol)
        self._core = core
        self._fragments: bytearray | None = None
        # Bytes fed to the core since a frame last ended there. While it is in a frame, it gets everything.
        self._fed_bytes = 0

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as one text frame, all of them in one write."""
        if not self._is_ending:
            # One write, not writelines(): that passes over the high-water mark in some releases of Python 3.12.
            self._socket.write(build_text_frames(messages, is_masked=self.is_client, build_long=self._build_long))

    def _build_long(self, message: bytes) -> bytes:
        return Frame(_TEXT, message).serialize(mask=self.is_client)

    def data_received(self, data: bytes) -> None:
        """Take what the socket read."""
        self._hear(len(data))
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._is_deaf:
            return
        core = self._core
        messages: list[bytes] = []
        if self._fed_bytes == 0 and self._fragments is None and core.state is OPEN:
            end = cut_text_frames(
                data, messages, is_masked=not self.is_client, max_bytes=self.options.max_message_bytes
            )
            if end == len(data):
                if messages and not self._is_ending:
                    self._deliver(messages)
                return
            data = data[end:]
        core.receive_data(data)
        self._fed_bytes += len(data)
        broken: tuple[int, str] | None = None
        for frame in core.events_received():
            # After the handshake all events are frames.
            frame = cast("Frame", frame)
            self._fed_bytes -= _get_frame_bytes(frame, is_masked=not self.is_client)
            opcode = frame.opcode
            if opcode is _TEXT and frame.fin:
                message = bytes(frame.data)
            elif opcode is _TEXT:
                self._fragments = bytearray(frame.data)
                continue
            elif opcode is _CONT and self._fragments is not None:
                self._fragments += frame.data
                if not frame.fin:
                    continue
                message, self._fragments = bytes(self._fragments), None
            elif opcode is _BINARY:
                broken = (UNSUPPORTED_DATA, "binary frame; messages are text")
                break
            else:
                continue
            if not is_utf8(message):
                broken = (INVALID_TEXT, "text that is not UTF-8")
                break
            messages.append(message)
        self._take(messages, broken)

    def _take(self, messages: list[bytes], broken: tuple[int, str] | None) -> None:
        """Answer what the core wants answered, deliver, and end if this was the end."""
        core = self._core
        is_delivering = messages and not self._is_ending
        answers = core.data_to_send()
        if core.state is OPEN:
            if answers:
                self._socket.write(b"".join(answers))
            if is_delivering:
                self._deliver(messages)
            if broken is not None:
                self._fail(*broken)
            return
        # The core has written a close frame: ours of before, an answer to the peer's, or one over the peer's fault.
        was_ending, self._is_ending = self._is_ending, True
        if is_delivering:
            self._deliver(messages)
        if self._socket.is_closing():
            return
        self._socket.write(b"".join(answers))
        close = core.close_sent
        is_fault = False
        if close is not None and not was_ending:
            self._is_deaf = True
            # The answer to the peer's close frame is that very frame.
            is_fault = close is not core.close_rcvd
            self._begin_end(*(broken or (close.code, close.reason)))
        # An empty answer is the core's word for the end of our half of the stream.
        if is_fault or b"" in answers:
            self._shut_down()

    def _write_close(self, code: int, reason: str) -> None:
        self._core.send_close(code, reason)
        self._socket.write(b"".join(self._core.data_to_send()))

    def _write_ping(self) -> None:
        self._core.send_ping(b"")
        self._socket.write(b"".join(self._core.data_to_send()))


def _get_frame_bytes(frame: Frame, *, is_masked: bool) -> int:
    """The least bytes that `frame` had on the wire: its length may have been told in more than it needed."""
    length = len(frame.data)
    head = 2 if length <= SHORT_MAX_BYTES else 4 if length < 1 << 16 else 10
    return head + 4 * is_masked + length


def choose_frames(*, fast: bool | None) -> bool:
    """Whether ``picows`` is to cut the frames: None if it is installed, True by all means, False never.

    Raises
    ------
    ImportError
        `fast` is True and ``picows`` is missing or of a version we do not know.
    """
    if fast is False:
        return False
    try:
        import itx_notebook.capnweb.fast  # noqa: F401  # whether it can be imported is the question
    except ImportError:
        if fast:
            raise
        return False
    return True


def open_connection(core: Core, options: TransportOptions, *, fast: bool) -> Connection:
    """A connection for a handshake that is done; `fast` is what :func:`choose_frames` said."""
    if fast:
        from itx_notebook.capnweb.fast import FastConnection

        return FastConnection(options, is_client=core.side is Side.CLIENT, subprotocol=core.subprotocol)
    return WebSocketConnection(core, options)


def answer_upgrade(
    head: bytes, *, subprotocols: Sequence[str], options: TransportOptions
) -> tuple[bytes, ServerProtocol | None]:
    """The bytes that answer an upgrade request, and the core that goes on from there; None if they refuse it.

    `head` is the whole head of the request with its blank line, and nothing beyond it. The first of `subprotocols` that
    the client offers is agreed on; a client that offers none of them is served without.
    """

    def select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((Subprotocol(name) for name in subprotocols if name in offered), None)

    core = ServerProtocol(select_subprotocol=select, max_size=options.max_message_bytes, logger=_log)
    core.receive_data(head)
    for request in core.events_received():
        core.send_response(core.accept(cast("Request", request)))
    answer = b"".join(core.data_to_send())
    return answer, core if core.state is OPEN else None


async def dial(
    url: str,
    *,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    unix: str | os.PathLike[str] | None = None,
    options: TransportOptions = DEFAULT_OPTIONS,
    open_timeout: float | None = 10.0,
    fast: bool | None = None,
) -> Connection:
    """Connect to a WebSocket server.

    Redirects are not followed and no proxy is asked for. Cancelling is safe: the socket is cut.

    Parameters
    ----------
    url
        ``ws://host[:port]/path?query``, ``wss://…``, or ``unix:/path/of/socket`` for the root of a server behind a
        Unix socket. User and password in it become an ``Authorization`` header.
    headers
        More headers for the handshake; those that make it a handshake cannot be replaced, ``Host`` can.
    ssl
        For ``wss``; None takes the system's certificates.
    unix
        The Unix socket to connect to instead of the URL's host and port.
    open_timeout
        Seconds for reaching the server and its answer together. None: as long as it takes.
    fast
        Take ``picows`` for the frames: None if it is installed, True by all means, False never.

    Returns
    -------
    Connection
        Not reading yet: see :meth:`~itx_notebook.capnweb.transport.Transport.start`.

    Raises
    ------
    ValueError
        The URL or a header is malformed.
    OSError
        The server cannot be reached; :class:`ssl.SSLError` and :class:`TimeoutError` are among these.
    HandshakeError
        It was reached and refused, or is no WebSocket server.
    ImportError
        `fast` is True without a ``picows`` that we know.
    """
    is_fast = choose_frames(fast=fast)
    if url.startswith("unix:") and unix is None:
        url, unix = "ws://localhost/", url.removeprefix("unix:")
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise ValueError(f"{error}.") from error
    if ssl is not None and not uri.secure:
        raise ValueError("An SSL context needs a wss:// URL.")
    offered = [Subprotocol(name) for name in subprotocols] or None
    core = ClientProtocol(
        uri,
        origin=None if origin is None else Origin(origin),
        subprotocols=offered,
        max_size=options.max_message_bytes,
        logger=_log,
    )
    request = core.connect()
    _add_headers(request, headers)
    where = f"{os.fspath(unix)}" if unix is not None else f"{uri.host}:{uri.port}"
    try:
        async with asyncio.timeout(open_timeout):
            socket, early = await _shake_hands(core, request, uri, ssl, unix)
    except TimeoutError as error:
        raise TimeoutError(f"{where} did not answer the handshake within {open_timeout} s.") from error
    try:
        connection = open_connection(core, options, fast=is_fast)
        connection.attach(socket, early)
    except BaseException:
        socket.abort()
        raise
    return connection


async def _shake_hands(
    core: ClientProtocol,
    request: Request,
    uri: WebSocketURI,
    ssl: ssl_module.SSLContext | None,
    unix: str | os.PathLike[str] | None,
) -> tuple[asyncio.Transport, bytes]:
    """The socket, paused, and the bytes that came after the server's answer."""
    loop = asyncio.get_running_loop()
    if uri.secure and ssl is None:
        # It reads the system's certificates from disk.
        ssl = await asyncio.to_thread(ssl_module.create_default_context)
    dialing = _Dialing(core, request)
    if unix is None:
        socket, _ = await loop.create_connection(lambda: dialing, uri.host, uri.port, ssl=ssl)
    else:
        name = uri.host if ssl is not None else None
        socket, _ = await loop.create_unix_connection(lambda: dialing, os.fspath(unix), ssl=ssl, server_hostname=name)
    try:
        return socket, await dialing.answered
    except BaseException:
        socket.abort()
        raise


_HANDSHAKE_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    }
)
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def _add_headers(request: Request, headers: Mapping[str, str] | Sequence[tuple[str, str]]) -> None:
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in pairs:
        if name.lower() in _HANDSHAKE_HEADERS:
            raise ValueError(f"The handshake sets the header {name} itself.")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            # Not shown: it may be a secret.
            raise ValueError(f"The header {name!r} or its value holds characters that HTTP does not allow.")
    for name in {name.lower() for name, _ in pairs} & {"host", "authorization", "origin"}:
        if name in request.headers:
            del request.headers[name]
    for name, value in pairs:
        request.headers[name] = value


class _Dialing(asyncio.Protocol):
    """The client's side of the handshake: asks, and waits for the whole head of the answer."""

    def __init__(self, core: ClientProtocol, request: Request) -> None:
        self._core = core
        self._request = request
        self._received = bytearray()
        self._is_refused = False
        self._socket: asyncio.Transport
        # The bytes that came after the answer's head.
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        self._core.send_request(self._request)
        self._socket.write(b"".join(self._core.data_to_send()))

    def data_received(self, data: bytes) -> None:
        if self.answered.done():
            return
        self._received += data
        end = self._received.find(_BLANK_LINE)
        if end < 0:
            if len(self._received) > _RESPONSE_HEAD_MAX_BYTES:
                self._refuse(HandshakeError("The server's answer has no end to its headers."))
            return
        if not self._received.startswith(b"HTTP/1.1 101 "):
            # The library waits for the body too, which says why.
            self._core.receive_data(data if self._is_refused else bytes(self._received))
            self._is_refused = True
            self._conclude(b"")
            return
        end += len(_BLANK_LINE)
        self._core.receive_data(bytes(self._received[:end]))
        self._conclude(bytes(self._received[end:]))

    def eof_received(self) -> bool | None:
        if not self.answered.done():
            self._core.receive_eof()
            self._conclude(b"")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._refuse(exc or HandshakeError("The server closed the connection instead of answering."))

    def _conclude(self, early: bytes) -> None:
        core = self._core
        if core.state is OPEN:
            # The answer itself; from here on, events are frames.
            core.events_received()
            # Whoever starts the connection reads on.
            self._socket.pause_reading()
            self.answered.set_result(early)
        elif core.handshake_exc is not None:
            self._refuse(_explain(core.handshake_exc))

    def _refuse(self, error: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


def _explain(error: Exception) -> HandshakeError:
    """What was wrong with the server's answer, as an error of ours."""
    if isinstance(error, InvalidStatus):
        response: Response = error.response
        names = dict.fromkeys(name.lower() for name in response.headers)
        body = bytes(response.body).decode(errors="replace")[:_ERROR_BODY_MAX_CHARACTERS]
        said = f": {body.strip()}" if body.strip() else "."
        return HandshakeError(
            f"The server answered {response.status_code} {response.reason_phrase}{said}",
            status=response.status_code,
            headers={name: ", ".join(response.headers.get_all(name)) for name in names},
            body=body,
        )
    cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
    return HandshakeError(f"The server's answer is no WebSocket handshake: {error}{cause}.")
