"""As much HTTP/1.1 as a WebSocket port has to understand beside WebSocket: a request's head, its body, an answer.

No I/O. Small and strict instead of lenient: whatever two programs in a row might read differently (two lengths, a
length beside chunks, folded lines, bare line feeds, spaces before a colon) is refused, so that nothing can be smuggled
past a proxy in front of it.
"""

from __future__ import annotations

import email.utils
import http
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "BodyReader",
    "HandshakeRequest",
    "Refusal",
    "RequestHeaders",
    "format_answer",
    "is_origin_allowed",
    "parse_request",
]

BLANK_LINE = b"\r\n\r\n"
_CHUNK_LINE_MAX_BYTES = 256
_TRAILER_MAX_BYTES = 8 * 1024

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")


class Refusal(Exception):  # noqa: N818  # an answer rather than an error
    """A request that is answered with a status and a line of text instead of what it asked for.

    Attributes
    ----------
    status
        The HTTP status, 400 to 599.
    text
        The answer's body, for people. The peer reads it: no secrets.
    headers
        More headers of the answer.
    """

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.headers = tuple(headers)


class RequestHeaders(Mapping[str, str]):
    """A request's headers. Names in any case; a header sent several times reads as its values joined with a comma."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # Values may be credentials.
        return f"RequestHeaders({', '.join(self._values)})"

    def get_all(self, name: str) -> list[str]:
        """The values of a header in the order sent; empty if it was not."""
        return list(self._values.get(name.lower(), ()))

    def has_token(self, name: str, token: str) -> bool:
        """Whether `token`, in lower case, is among a header's comma-separated values."""
        return token in [part.strip().lower() for value in self.get_all(name) for part in value.split(",")]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeRequest:
    """What a client asked for: a WebSocket handshake, or a POST.

    Attributes
    ----------
    target
        Path and query as sent, percent signs and all.
    peer
        Where it came from, for people: address and port, or the Unix socket's path.
    is_secure
        Whether it came over TLS to this very process.
    principal
        What ``authenticate`` returned.
    """

    method: str
    target: str
    headers: RequestHeaders
    is_http_11: bool = True
    peer: str = ""
    is_secure: bool = False
    principal: Any = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The target up to its query, percent-encoded as sent."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target's query without the question mark; may be empty."""
        return self.target.partition("?")[2]

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return self.method == "GET" and self.is_http_11 and self.headers.has_token("upgrade", "websocket")

    @property
    def is_last(self) -> bool:
        """Whether the client wants the connection closed after the answer."""
        return not self.is_http_11 or self.headers.has_token("connection", "close")


def parse_request(head: bytes, *, peer: str = "", is_secure: bool = False) -> HandshakeRequest:
    """Parse a whole head, up to and with its blank line.

    Raises
    ------
    Refusal
        400 if it is malformed, 505 for another version of HTTP.
    """
    request_line, *lines = head.removesuffix(BLANK_LINE).split(b"\r\n")
    parts = request_line.split(b" ")
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise Refusal(400, "The request line is malformed.")
    method, target, version = parts
    if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    headers = RequestHeaders(_parse_header(line) for line in lines)
    hosts = headers.get_all("host")
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise Refusal(400, "A request needs one Host header.")
    return HandshakeRequest(
        method=method.decode(),
        target=target.decode(),
        headers=headers,
        is_http_11=version == b"HTTP/1.1",
        peer=peer,
        is_secure=is_secure,
    )


def _parse_header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise Refusal(400, "A header is malformed.")
    return name.decode(), value.strip(b" \t").decode("latin-1")


class BodyReader:
    """Takes a request's body off the front of a buffer, however it arrives.

    Raises
    ------
    Refusal
        400 for a length that is malformed or ambiguous, 413 for a body over `max_bytes`, 501 for a coding other than
        chunks; at construction, or while feeding.
    """

    def __init__(self, request: HandshakeRequest, max_bytes: int) -> None:
        self.body = bytearray()
        self.is_complete = False
        self._max_bytes = max_bytes
        self._is_chunked = False
        self._is_in_trailers = False
        self._trailer_bytes = 0
        # Bytes still to come of the body or of this chunk, its line end included; None before a chunk's first line.
        self._missing: int | None = None
        codings = request.headers.get_all("transfer-encoding")
        lengths = request.headers.get_all("content-length")
        if codings:
            if lengths or not request.is_http_11:
                raise Refusal(400, "The length of the body is ambiguous.")
            if [coding.lower() for coding in codings] != ["chunked"]:
                raise Refusal(501, "Bodies may be chunked, in no other coding.")
            self._is_chunked = True
        elif lengths:
            if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
                raise Refusal(400, "The length of the body is malformed.")
            self._missing = int(lengths[0])
            self._check_size(self._missing)
            self.is_complete = self._missing == 0
        else:
            self.is_complete = True

    def feed(self, buffer: bytearray) -> None:
        """Take from `buffer` what belongs to the body, and leave the rest."""
        if self._is_chunked:
            while not self.is_complete and self._feed_chunked(buffer):
                pass
        elif self._missing:
            taken = buffer[: self._missing]
            del buffer[: self._missing]
            self.body += taken
            self._missing -= len(taken)
            self.is_complete = self._missing == 0

    def _feed_chunked(self, buffer: bytearray) -> bool:
        """Go one step; False if that needs more bytes."""
        if self._missing is None:
            line = self._take_line(buffer)
            if line is None:
                return False
            if self._is_in_trailers:
                self._take_trailer(line)
            else:
                self._begin_chunk(line)
            return True
        if len(buffer) < self._missing and self._missing > 2:
            taken = min(len(buffer), self._missing - 2)
            self.body += buffer[:taken]
            del buffer[:taken]
            self._missing -= taken
            return False
        if len(buffer) < self._missing:
            return False
        if buffer[self._missing - 2 : self._missing] != b"\r\n":
            raise Refusal(400, "A chunk does not end where it says.")
        self.body += buffer[: self._missing - 2]
        del buffer[: self._missing]
        self._missing = None
        return True

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise Refusal(400, "A chunk's size is malformed.")
        size = int(match[1], 16)
        self._check_size(len(self.body) + size)
        if size:
            self._missing = size + 2
        else:
            self._is_in_trailers = True

    def _take_trailer(self, line: bytes) -> None:
        if line:
            _parse_header(line)
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _TRAILER_MAX_BYTES:
                raise Refusal(431, "The trailers are too large.")
        else:
            self.is_complete = True

    def _take_line(self, buffer: bytearray) -> bytes | None:
        limit = _TRAILER_MAX_BYTES if self._is_in_trailers else _CHUNK_LINE_MAX_BYTES
        end = buffer.find(b"\r\n", 0, limit + 2)
        if end < 0:
            if len(buffer) > limit:
                raise Refusal(400, "A line of the body is too long.")
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise Refusal(413, f"The body is larger than {self._max_bytes} bytes.")


def format_answer(
    status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, is_last: bool = True
) -> bytes:
    """An answer's bytes. Length, date and connection are added.

    Raises
    ------
    ValueError
        The status is unknown, or a header holds characters that HTTP does not allow.
    """
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
    own = [
        ("Date", email.utils.formatdate(usegmt=True)),
        ("Content-Length", str(len(body))),
        ("Connection", "close" if is_last else "keep-alive"),
    ]
    for name, value in [*own, *headers]:
        encoded_name, encoded_value = name.encode(), value.encode("latin-1")
        if not _NAME.fullmatch(encoded_name) or not _VALUE.fullmatch(encoded_value):
            raise ValueError(f"The header {name!r} or its value holds characters that HTTP does not allow.")
        lines.append(encoded_name + b": " + encoded_value)
    return b"\r\n".join(lines) + BLANK_LINE + body


_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def is_origin_allowed(origin: str, host: str, allowed: Sequence[str] | None, *, is_loopback: bool) -> bool:
    """Whether a request that a web page made may pass.

    Parameters
    ----------
    origin
        The request's ``Origin``: the page it comes from.
    host
        The request's ``Host``.
    allowed
        The origins that may; ``"*"``, also as a member, for all of them. None: the host that was asked, and no other.
    is_loopback
        Whether the request came over this machine's loopback. A page that reaches us there under another name than
        ``localhost`` has had its name pointed at this machine (DNS rebinding), and being of the same host says nothing.
    """
    if allowed is not None:
        names = [allowed] if isinstance(allowed, str) else allowed
        return "*" in names or origin.lower() in [name.lower().rstrip("/") for name in names]
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host}")
        is_same = (page.hostname, page.port) == (asked.hostname, asked.port)
    except ValueError:
        return False
    if not is_same or page.scheme not in {"http", "https"} or page.hostname is None:
        return False
    return not is_loopback or page.hostname in _LOOPBACK_HOSTS
