"""Frames by ``picows``, whose parser and masking are compiled: the same connection at a fraction of the cost.

Importing this module needs ``picows``; :func:`itx_notebook.capnweb.websocket.choose_frames` is the one place that
asks for it, and does without where it is missing. Everything but frames is shared with the other connection:
handshakes, origins, HTTP, closing, keeping alive. What differs: ``picows`` masks with C's ``rand()``, which a hostile
proxy could predict; its buffer keeps the size of the largest message that came; a length told in more bytes than it
needs is a fault to it, as RFC 6455 says; and the reasons in close frames that complain are worded otherwise.

``picows`` writes each frame to the socket by itself. To write many at once, its protocol object is given a list to
write to instead, and is fed by hand. That class is no part of its public face, so only versions known to work are
taken; a handshake with itself, which nobody else sees, brings the object into the state we need.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import struct
from collections.abc import Sequence
from typing import Any

from picows import WSAutoPingStrategy, WSFrame, WSListener, WSMsgType, WSTransport
from picows.version import __version__ as picows_version

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.frames import is_utf8
from itx_notebook.capnweb.transport import (
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    NO_STATUS,
    PROTOCOL_ERROR,
    UNSUPPORTED_DATA,
    TransportOptions,
    is_sendable_close_code,
)

__all__ = ["FastConnection"]

_KNOWN_VERSIONS = ("2.3.",)
if not picows_version.startswith(_KNOWN_VERSIONS):
    raise ImportError(f"picows {picows_version} is installed; this needs 2.3.")

from picows.picows import WSProtocol  # type: ignore[attr-defined]  # noqa: E402  # its stub leaves the class out

# It logs every connection and every fault of a peer; what matters of that is told to the receiver.
_QUIET = logging.Logger("itx_notebook.capnweb.fast", logging.CRITICAL + 1)  # noqa: LOG001

_TEXT = WSMsgType.TEXT
_CONTINUATION = WSMsgType.CONTINUATION
_PING = WSMsgType.PING
_CLOSE = WSMsgType.CLOSE
_BINARY = WSMsgType.BINARY

# Disconnect on an exception in the listener, no time limit for the handshake with itself, no pings and no pongs: these
# are ours.
_BEHAVIOUR = (True, None, False, 1, 1, WSAutoPingStrategy.PING_WHEN_IDLE, False)
_READ_BUFFER_BYTES = 64 * 1024
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OWN_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class FastConnection(Connection, asyncio.BufferedProtocol):
    """A connection whose frames ``picows`` cuts and builds."""

    implementation = "picows"

    def __init__(self, options: TransportOptions, *, is_client: bool, subprotocol: str | None = None) -> None:
        super().__init__(options, is_client=is_client, subprotocol=subprotocol)
        self._writes: list[bytes] = []
        self._frames = _Frames(options.max_message_bytes)
        self._core = WSProtocol(
            "localhost",
            "/",
            is_client,
            lambda *_: self._frames,
            _QUIET,
            *_BEHAVIOUR,
            options.max_message_bytes,
            None,
            _READ_BUFFER_BYTES,
        )
        self._core.connection_made(_WriteList(self._writes))
        self._pour(_answer_own_request(self._core.transport) if is_client else _OWN_REQUEST)
        self._writes.clear()
        self._wire: Any = self._core.transport

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as one text frame, all of them in one write."""
        if not self._is_ending:
            send = self._wire.send
            for message in messages:
                send(_TEXT, message)
            self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the socket is to read to."""
        buffer: memoryview = self._core.get_buffer(sizehint)
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the socket read."""
        self._hear(nbytes)
        if not self._is_deaf:
            self._core.buffer_updated(nbytes)
            self._take()

    def _feed(self, data: bytes) -> None:
        if not self._is_deaf:
            self._pour(data)
            self._take()

    def _pour(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            buffer = self._core.get_buffer(-1)
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            self._core.buffer_updated(count)
            rest = rest[count:]

    def _take(self) -> None:
        """Answer pings, deliver the messages, and end if this was the end."""
        frames = self._frames
        messages, frames.messages = frames.messages, []
        close, broken = frames.close, frames.broken
        if broken is None and close is None and self._wire.is_close_frame_sent:
            # Its parser has found a fault and written the close frame itself.
            sent = self._wire.close_handshake.sent
            close = (int(sent.code), sent.reason)
            is_answered = True
        else:
            is_answered = False
        is_delivering = messages and not self._is_ending
        if close is None:
            if self._writes:
                self._flush()
            if is_delivering:
                self._deliver(messages)
            if broken is not None:
                self._fail(*broken)
            return
        was_ending, self._is_ending = self._is_ending, True
        if is_delivering:
            self._deliver(messages)
        if self._socket.is_closing():
            return
        if not was_ending:
            if not is_answered:
                self._wire.send(_CLOSE, frames.close_payload)
            self._flush()
            self._is_deaf = True
            self._begin_end(*close)
        else:
            self._writes.clear()
        if is_answered or not self.is_client:
            self._shut_down()

    def _flush(self) -> None:
        writes = self._writes
        data = b"".join(writes)
        writes.clear()
        self._socket.write(data)

    def _write_close(self, code: int, reason: str) -> None:
        self._wire.send(_CLOSE, struct.pack("!H", code) + reason.encode())
        self._flush()

    def _write_ping(self) -> None:
        self._wire.send_ping()
        self._flush()


class _Frames(WSListener):
    """Collects what one read of the socket brought."""

    def __init__(self, max_message_bytes: int) -> None:
        self.messages: list[bytes] = []
        self.broken: tuple[int, str] | None = None
        self.close: tuple[int, str] | None = None
        self.close_payload = b""
        self._fragments: bytearray | None = None
        self._max_message_bytes = max_message_bytes

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame. What follows a fault or a close frame is nobody's."""
        if self.broken is not None or self.close is not None:
            return
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.broken = (PROTOCOL_ERROR, "reserved bits must be 0")
        elif kind is _TEXT and frame.fin and self._fragments is None:
            self._add(frame.get_payload_as_bytes())
        elif kind is _PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            self._end(frame.get_payload_as_bytes())
        elif kind is _BINARY:
            self.broken = (UNSUPPORTED_DATA, "binary frame; messages are text")
        elif kind is _TEXT or kind is _CONTINUATION:
            self._take_fragment(frame, is_first=kind is _TEXT)

    def _take_fragment(self, frame: WSFrame, *, is_first: bool) -> None:
        if is_first == (self._fragments is not None):
            self.broken = (PROTOCOL_ERROR, f"{'expected a' if is_first else 'unexpected'} continuation frame")
            return
        if self._fragments is None:
            self._fragments = bytearray()
        if len(self._fragments) + frame.payload_size > self._max_message_bytes:
            self.broken = (MESSAGE_TOO_BIG, f"fragments of more than {self._max_message_bytes} bytes")
            return
        self._fragments += frame.get_payload_as_memoryview()
        if frame.fin:
            message, self._fragments = bytes(self._fragments), None
            self._add(message)

    def _add(self, message: bytes) -> None:
        if is_utf8(message):
            self.messages.append(message)
        else:
            self.broken = (INVALID_TEXT, "text that is not UTF-8")

    def _end(self, payload: bytes) -> None:
        if self._fragments is not None:
            self.broken = (PROTOCOL_ERROR, "incomplete fragmented message")
        elif not payload:
            self.close = (NO_STATUS, "")
        elif is_sendable_close_code(code := int.from_bytes(payload[:2])):
            # The parser has seen to the length and to the reason being UTF-8.
            self.close, self.close_payload = (code, payload[2:].decode()), payload
        else:
            self.broken = (PROTOCOL_ERROR, "invalid status code")


class _WriteList:
    """What stands where ``picows`` expects the socket's transport: a list of writes.

    It says that bytes are waiting, so that ``picows`` does not go past it to the socket itself.
    """

    def __init__(self, writes: list[bytes]) -> None:
        self.write = writes.append

    def writelines(self, parts: Sequence[bytes | memoryview]) -> None:
        # The first part is a view of a buffer that the next frame overwrites.
        for part in parts:
            self.write(bytes(part))

    def get_write_buffer_size(self) -> int:
        return 1

    def get_extra_info(self, name: str) -> Any:
        return _NoSocket() if name == "socket" else None

    def close(self) -> None:
        """Nothing: the connection ends itself."""

    def abort(self) -> None:
        """Nothing: the connection ends itself."""


class _NoSocket:
    """The socket whose options ``picows`` would set; asyncio sets them, and a Unix socket has none of them."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: int) -> None: ...

    def getsockopt(self, *_: int) -> int:
        return 0


def _answer_own_request(wire: WSTransport) -> bytes:
    key = wire.request.headers["Sec-WebSocket-Key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
