"""The seam between a session and its wire: what a transport must do and what it will call.

Kept apart from every wire, so that a session is written once and a new wire (another WebSocket library, a pair in
memory) is one class. Everything here runs on the loop's own thread; nothing is a coroutine, because a task or a queue
per message costs more than the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "ABNORMAL_CLOSURE",
    "CLOSE_REASON_MAX_BYTES",
    "DEFAULT_OPTIONS",
    "GOING_AWAY",
    "INTERNAL_ERROR",
    "INVALID_TEXT",
    "MESSAGE_TOO_BIG",
    "NORMAL_CLOSURE",
    "NO_STATUS",
    "PROTOCOL_ERROR",
    "UNSUPPORTED_DATA",
    "HandshakeError",
    "Receiver",
    "Transport",
    "TransportOptions",
    "cut_reason",
    "is_sendable_close_code",
]

# RFC 6455, section 7.4.1.
NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
NO_STATUS = 1005
ABNORMAL_CLOSURE = 1006
INVALID_TEXT = 1007
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011

_RESERVED_CLOSE_CODES = frozenset({1004, NO_STATUS, ABNORMAL_CLOSURE, *range(1015, 3000)})

CLOSE_REASON_MAX_BYTES = 123
"""A control frame holds 125 bytes, two of which are the close code."""


class Receiver(Protocol):
    """What a transport calls: a session. Always on the loop's thread, never from within a call to the transport."""

    def messages_received(self, messages: list[bytes]) -> None:
        """Whole text messages in the order sent, valid UTF-8, never an empty list.

        One call per read of the socket. It may call anything of the transport. Raising is a defect: the loop's
        exception handler hears of it and the connection is cut.
        """

    def resume_writing(self) -> None:
        """The bytes waiting had passed ``high_water_bytes`` and have fallen to ``low_water_bytes`` or below."""

    def connection_lost(self, code: int, reason: str) -> None:
        """The end: exactly once, and nothing comes after it.

        `code` and `reason` are those of the close frame that was first, whichever side sent it: the peer's; our own
        ``close()``; or ours for what the peer did wrong (1002 protocol, 1003 a binary frame, 1007 text that is not
        UTF-8, 1009 a message too large, 1011 a peer that has fallen silent). 1005 for a close frame without a code,
        1006 when the wire was cut with no close frame at all, then with the system's words as reason if it has any.
        """


class Transport(Protocol):
    """One connection that carries text messages both ways. To be used on the loop's thread only."""

    def start(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from the next turn of the loop on; once.

        Messages that came before have waited, unread where the wire allows it.
        """

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as one text frame, all of them in one write.

        Never blocks and never raises for a dead peer; after an end has begun, messages are dropped. That a message
        is UTF-8 and within the peer's limit is the caller's business.
        """

    def close(self, code: int, reason: str) -> None:
        """Send what waits and a close frame, wait for the peer's answer up to ``close_timeout``, then cut.

        No message is delivered any more, only ``connection_lost``. `reason` is cut to 123 bytes of UTF-8 on a
        character's boundary. Repeating is harmless.

        Raises
        ------
        ValueError
            `code` may not stand in a close frame (1005, 1006, below 1000, above 4999 …).
        """

    def abort(self) -> None:
        """Cut the wire now, without a close frame. ``connection_lost`` follows on a later turn of the loop."""

    def pause_reading(self) -> None:
        """Read nothing more from the wire, so that the peer's writes come to a halt. Repeating is harmless."""

    def resume_reading(self) -> None:
        """Read again, from the next turn of the loop on. Repeating is harmless."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes sent and not yet taken by the system; over TLS, less some 200 KiB that are encrypted already."""

    @property
    def peer(self) -> str:
        """The other end, for people: ``127.0.0.1:4312``, a socket's path, ``memory``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """The limits of one connection.

    Attributes
    ----------
    max_message_bytes
        The largest message accepted, also when it comes in fragments. A larger one closes the connection with 1009.
    high_water_bytes, low_water_bytes
        Once ``buffered_bytes`` has passed the first, falling to the second calls ``resume_writing``.
    close_timeout
        Seconds a closing connection has for what it still has to send and for the peer's answer.
    ping_interval
        Seconds of silence after which the peer is pinged, again and again while it lasts. None: never.
    ping_timeout
        Seconds after the first ping of a silence without a byte from the peer, be it a pong or anything else, after
        which the connection is closed with 1011. None: never.
    """

    max_message_bytes: int = 32 * 1024 * 1024
    high_water_bytes: int = 1024 * 1024
    low_water_bytes: int = 256 * 1024
    close_timeout: float = 5.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 60.0


DEFAULT_OPTIONS = TransportOptions()


class HandshakeError(ConnectionError):
    """The peer was reached, but did not become a WebSocket peer.

    Attributes
    ----------
    status
        The HTTP status it answered with; None if its answer was no HTTP or there was none.
    headers
        The headers of its answer, names in lower case.
    body
        The beginning of its answer's body, for people.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.body = body


def is_sendable_close_code(code: int) -> bool:
    """Whether `code` may stand in a close frame."""
    return 1000 <= code < 5000 and code not in _RESERVED_CLOSE_CODES


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def cut_reason(reason: str) -> str:
    """`reason`, as much of it as a close frame holds: 123 bytes of UTF-8, never half a character.

    Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
    """
    encoded = _LONE_SURROGATE.sub("\ufffd", reason).encode()
    return encoded[:CLOSE_REASON_MAX_BYTES].decode(errors="ignore")
