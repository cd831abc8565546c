"""The HTTP/1.1 beside WebSocket: heads, bodies in every piecing, answers, and which web pages may come."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook.capnweb.http1 import (
    BodyReader,
    HandshakeRequest,
    Refusal,
    RequestHeaders,
    format_answer,
    is_origin_allowed,
    parse_request,
)


def parse(*lines: str, target: str = "/", method: str = "POST", version: str = "HTTP/1.1") -> HandshakeRequest:
    head = "\r\n".join([f"{method} {target} {version}", *lines]) + "\r\n\r\n"
    return parse_request(head.encode("latin-1"))


# Heads.


def test_request_says_what_was_asked() -> None:
    request = parse("HOST: localhost", "X-A:  one ", "x-a:two", "X-Empty:", target="/api/itx?project=a%20b&x")
    assert (request.method, request.path, request.query) == ("POST", "/api/itx", "project=a%20b&x")
    assert request.headers["X-A"] == "one, two"
    assert request.headers.get_all("x-a") == ["one", "two"]
    assert request.headers["x-empty"] == ""
    assert dict(request.headers) == {"host": "localhost", "x-a": "one, two", "x-empty": ""}
    assert request.headers.get_all("missing") == []
    assert not request.is_upgrade
    assert not request.is_last


@pytest.mark.parametrize(
    ("lines", "version", "is_last"),
    [
        ([], "HTTP/1.1", False),
        (["Connection: keep-alive"], "HTTP/1.1", False),
        (["Connection: Close"], "HTTP/1.1", True),
        (["Connection: foo, close"], "HTTP/1.1", True),
        (["Connection: keep-alive"], "HTTP/1.0", True),
    ],
)
def test_connection_is_kept_only_if_both_sides_know_how(lines: list[str], version: str, is_last: bool) -> None:
    assert parse("Host: a", *lines, version=version).is_last is is_last


@pytest.mark.parametrize(
    ("method", "lines", "is_upgrade"),
    [
        ("GET", ["Upgrade: WebSocket"], True),
        ("GET", ["Upgrade: h2c, websocket"], True),
        ("GET", ["Upgrade: h2c"], False),
        ("POST", ["Upgrade: websocket"], False),
        ("GET", [], False),
    ],
)
def test_upgrade_is_a_get_for_websocket(method: str, lines: list[str], is_upgrade: bool) -> None:
    assert parse("Host: a", *lines, method=method).is_upgrade is is_upgrade


def test_upgrade_of_http_1_0_is_none() -> None:
    assert not parse("Host: a", "Upgrade: websocket", method="GET", version="HTTP/1.0").is_upgrade


def test_credentials_are_in_no_repr() -> None:
    request = parse("Host: a", "Authorization: Bearer secret", "Cookie: secret")
    assert "secret" not in repr(request)
    assert "authorization" in repr(request)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"POST /\r\n\r\n", 400),
        (b"POST  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"PO ST / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"POST / http/1.1\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n", 400),
        (b"POST / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ],
)
def test_head_that_could_be_read_in_two_ways_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request(head)
    assert caught.value.status == status


# Bodies.


def read_body(
    pieces: Sequence[bytes], *lines: str, max_bytes: int = 1000, version: str = "HTTP/1.1"
) -> tuple[bytes, bytes]:
    """The body, and what was left in the buffer."""
    reader = BodyReader(parse("Host: a", *lines, version=version), max_bytes)
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        reader.feed(buffer)
    assert reader.is_complete
    return bytes(reader.body), bytes(buffer)


def get_body_refusal(body: bytes, *lines: str, version: str = "HTTP/1.1") -> int:
    with pytest.raises(Refusal) as caught:
        read_body([body], *lines, version=version)
    return caught.value.status


def test_body_of_a_length_leaves_what_follows() -> None:
    assert read_body([b"hel", b"lo", b" and more"], "Content-Length: 5") == (b"hello", b" and more")


def test_body_without_a_length_is_empty() -> None:
    assert read_body([b"next"]) == (b"", b"next")
    assert read_body([b"next"], "Content-Length: 0") == (b"", b"next")


def test_chunks_are_joined_and_leave_what_follows() -> None:
    body = b"3\r\nabc\r\n0A ; name=value\r\n0123456789\r\n000\r\nX-Trailer: ignored\r\n\r\nnext"
    assert read_body([body], "Transfer-Encoding: Chunked") == (b"abc0123456789", b"next")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 30), max_size=60))
def test_chunked_body_is_the_same_however_it_arrives(chunks: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\nnext"
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    assert read_body([*pieces, stream], "Transfer-Encoding: chunked") == (b"".join(chunks), b"next")


def test_chunked_body_in_single_bytes() -> None:
    stream = b"5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"
    assert read_body([stream[i : i + 1] for i in range(len(stream))], "Transfer-Encoding: chunked") == (b"hello!", b"")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
        (["Content-Length: 5", "Content-Length: 5"], 400),
        (["Content-Length: 5, 5"], 400),
        (["Content-Length: +5"], 400),
        (["Content-Length: -5"], 400),
        (["Content-Length: 0x5"], 400),
        (["Content-Length: 5 5"], 400),
        (["Content-Length:"], 400),
        (["Content-Length: \u00b2"], 400),
        (["Content-Length: " + "9" * 19], 400),
        (["Content-Length: 1001"], 413),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 501),
        (["Transfer-Encoding: xchunked"], 501),
        (["Transfer-Encoding:"], 501),
    ],
)
def test_length_that_could_be_read_in_two_ways_is_refused(lines: list[str], status: int) -> None:
    assert get_body_refusal(b"", *lines) == status


def test_chunks_in_http_1_0_are_refused() -> None:
    assert get_body_refusal(b"", "Transfer-Encoding: chunked", version="HTTP/1.0") == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x\r\n", 400),
        (b"\r\n", 400),
        (b" 1\r\n", 400),
        (b"0x1\r\n", 400),
        (b"-1\r\n", 400),
        (b"1\na\r\n", 400),
        (b"1;\x00\r\n", 400),
        (b"f" * 16 + b"\r\n", 400),
        (b"1" + b";" * 300, 400),
        (b"3\r\nabcd\r\n", 400),
        (b"3\r\nabc\n\n", 400),
        (b"3e9\r\n", 413),
        (b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n", 413),
        (b"0\r\nfolded\r\n", 400),
        (b"0\r\n" + b"A: b\r\n" * 3000, 431),
        (b"0\r\nA: " + b"x" * 9000, 400),
    ],
)
def test_chunks_that_are_malformed_or_too_many_are_refused(body: bytes, status: int) -> None:
    assert get_body_refusal(body, "Transfer-Encoding: chunked") == status


# Answers.


def test_answer_has_its_length_and_says_whether_it_is_the_last() -> None:
    answer = format_answer(200, [("Content-Type", "text/plain")], b"hello", is_last=False)
    head, body = answer.split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert body == b"hello"
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1].startswith(b"Date: ")
    assert lines[2:] == [b"Content-Length: 5", b"Connection: keep-alive", b"Content-Type: text/plain"]
    assert b"Connection: close" in format_answer(405)


@pytest.mark.parametrize("header", [("X", "a\r\nY: b"), ("X\r\n", "a"), ("X Y", "a"), ("", "a"), ("X", "a\x00")])
def test_answer_refuses_headers_that_would_be_others(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        format_answer(200, [header])


def test_headers_are_a_mapping() -> None:
    headers = RequestHeaders([("A", "1"), ("B", "2"), ("a", "3")])
    assert (len(headers), list(headers), headers.get("C"), "b" in headers) == (2, ["a", "b"], None, True)


# Origins.


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "is_loopback", "expected"),
    [
        ("http://localhost:8888", "localhost:8888", None, True, True),
        ("http://127.0.0.1:8888", "127.0.0.1:8888", None, True, True),
        ("http://[::1]:8888", "[::1]:8888", None, True, True),
        ("https://hub.example", "hub.example", None, False, True),
        ("https://HUB.example", "hub.EXAMPLE", None, False, True),
        ("http://localhost:8889", "localhost:8888", None, True, False),
        ("http://localhost", "localhost:8888", None, True, False),
        ("https://evil.example", "localhost:8888", None, True, False),
        ("http://evil.example:8888", "evil.example:8888", None, True, False),
        ("null", "localhost", None, True, False),
        ("", "", None, False, False),
        ("file://", "", None, False, False),
        ("http://[", "localhost", None, False, False),
        ("http://a:x", "a:x", None, False, False),
        ("chrome-extension://localhost", "localhost", None, False, False),
        ("https://a.example", "b.example", ["https://a.example"], True, True),
        ("https://a.example", "b.example", ["https://A.example/"], True, True),
        ("https://a.example", "a.example", ["https://b.example"], False, False),
        ("https://a.example", "a.example", [], False, False),
        ("https://a.example:8443", "b.example", ["https://a.example"], False, False),
        ("null", "b.example", "*", True, True),
        ("https://a.example", "b.example", ["*"], True, True),
    ],
)
def test_origin_is_allowed_when_named_or_of_the_same_host(
    origin: str, host: str, allowed: list[str] | None, is_loopback: bool, expected: bool
) -> None:
    assert is_origin_allowed(origin, host, allowed, is_loopback=is_loopback) is expected
