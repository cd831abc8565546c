"""The listening socket: who gets in, HTTP beside WebSocket, limits, and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.listener import HandshakeRequest, Listener, PostAnswer, ReadBody, Refusal, listen
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, HandshakeError
from itx_notebook.capnweb.websocket import dial
from tests.capnweb.wires import (
    PATIENCE,
    TEXT,
    UPGRADE,
    RawPeer,
    Recorder,
    get_client_tls,
    get_server_tls,
    open_raw_client,
    turn,
)

QUICK = replace(DEFAULT_OPTIONS, close_timeout=0.1)


class Site:
    """A listener that keeps what came to it, and opens more."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.connections: list[Connection] = []
        self.requests: list[HandshakeRequest] = []
        self.recorders: list[Recorder] = []

    def take(self, connection: Connection, request: HandshakeRequest) -> None:
        recorder = Recorder()
        self.connections.append(connection)
        self.requests.append(request)
        self.recorders.append(recorder)
        connection.start(recorder)

    async def open(self, **options: Any) -> Listener:
        listener = await listen(self.take, **options)

        async def close() -> None:
            await listener.close(timeout=0)

        self._stack.push_async_callback(close)
        return listener

    async def dial(self, listener: Listener, **options: Any) -> tuple[Connection, Recorder]:
        connection = await dial(listener.url, **options)
        self._stack.callback(connection.abort)
        recorder = Recorder()
        connection.start(recorder)
        return connection, recorder

    async def open_raw(self, listener: Listener) -> RawPeer:
        return await self._stack.enter_async_context(open_raw_client(listener))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack)
    await turn()


def hear(reports: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))


async def echo(request: HandshakeRequest, body: bytes) -> PostAnswer:
    return 200, [("Content-Type", "text/plain")], body


def post(body: bytes = b"", *lines: str, target: str = "/", length: bool = True) -> bytes:
    headers = ["Host: 127.0.0.1", *([f"Content-Length: {len(body)}"] if length else []), *lines]
    return f"POST {target} HTTP/1.1\r\n".encode() + "".join(f"{line}\r\n" for line in headers).encode() + b"\r\n" + body


async def ask(site: Site, listener: Listener, request: bytes) -> tuple[int, dict[str, str], bytes]:
    peer = await site.open_raw(listener)
    peer.write(request)
    return await peer.read_answer()


# Addresses.


async def test_port_and_url_are_where_it_listens(site: Site) -> None:
    listener = await site.open()
    assert listener.port is not None
    assert listener.url == f"ws://127.0.0.1:{listener.port}/"
    connection, _ = await site.dial(listener)
    assert connection.peer == f"127.0.0.1:{listener.port}"


async def test_url_of_ipv6_has_brackets(site: Site) -> None:
    listener = await site.open(host="::1")
    assert listener.url == f"ws://[::1]:{listener.port}/"
    connection, _ = await site.dial(listener)
    assert connection.peer == f"[::1]:{listener.port}"


async def test_socket_bound_by_the_caller_is_taken(site: Site) -> None:
    made = socket.create_server(("127.0.0.1", 0))
    listener = await site.open(sock=made)
    assert listener.port == made.getsockname()[1]
    await site.dial(listener)


async def test_unix_socket_is_private_and_goes_with_the_listener(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = await site.open(unix=path)
    assert listener.port is None
    assert listener.url == f"unix:{path}"
    assert path.stat().st_mode & 0o777 == 0o600
    await site.dial(listener)
    await listener.close(timeout=0)
    assert not path.exists()


async def test_unix_socket_left_behind_is_replaced(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listener = await site.open(unix=path)
    await site.dial(listener)


async def test_file_in_the_place_of_the_unix_socket_stays(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await site.open(unix=path)
    assert path.read_text() == "precious"


async def test_unix_socket_of_a_successor_stays_at_the_end(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = await site.open(unix=path)
    second = await site.open(unix=path)
    await first.close(timeout=0)
    await site.dial(second)


async def test_path_and_host_of_the_url_are_kept_over_a_unix_socket(site: Site, tmp_path: Path) -> None:
    await site.open(unix=tmp_path / "socket")
    connection = await dial("ws://example.org/api/itx?a=b", unix=tmp_path / "socket")
    connection.abort()
    request = site.requests[0]
    assert (request.target, request.headers["host"]) == ("/api/itx?a=b", "example.org")


async def test_certificate_nobody_vouches_for_is_refused(site: Site) -> None:
    listener = await site.open(ssl=get_server_tls())
    with pytest.raises(ssl.SSLCertVerificationError):
        await dial(f"wss://localhost:{listener.port}/")
    assert site.connections == []


# Who gets in.


async def test_request_comes_with_the_connection(site: Site) -> None:
    listener = await site.open()
    connection = await dial(f"{listener.url}api/itx/project?x=1", headers={"Cookie": "a=b"})
    request = site.requests[0]
    assert (request.method, request.path, request.query) == ("GET", "/api/itx/project", "x=1")
    assert request.headers["cookie"] == "a=b"
    assert (request.is_secure, request.principal) == (False, None)
    assert request.peer == site.connections[0].peer
    connection.abort()


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (None, None, 101),
        (None, "http://127.0.0.1", 101),
        (None, "http://evil.example", 403),
        (None, "null", 403),
        ([], None, 101),
        ([], "http://127.0.0.1", 403),
        (["https://a.example"], "https://a.example", 101),
        (["https://a.example"], "https://b.example", 403),
        ("*", "https://b.example", 101),
    ],
)
async def test_page_is_let_in_by_its_origin(
    site: Site, origins: Sequence[str] | None, origin: str | None, status: int
) -> None:
    listener = await site.open(origins=origins, on_post=echo)
    lines = f"Origin: {origin}\r\n".encode() if origin is not None else b""
    peer = await site.open_raw(listener)
    peer.write(UPGRADE, lines, b"\r\n")
    assert int((await peer.read_head()).split()[1]) == status
    answer = await ask(site, listener, post(b"a", *([f"Origin: {origin}"] if origin is not None else [])))
    assert answer[0] == (200 if status == 101 else 403)
    if status == 101 and origin is not None:
        assert (answer[1]["access-control-allow-origin"], answer[1]["vary"]) == (origin, "Origin")
    else:
        assert "access-control-allow-origin" not in answer[1]


async def test_two_origins_are_refused(site: Site) -> None:
    listener = await site.open(origins="*")
    peer = await site.open_raw(listener)
    peer.write(UPGRADE, b"Origin: http://127.0.0.1\r\nOrigin: http://127.0.0.1\r\n\r\n")
    assert (await peer.read_answer())[0] == 403


async def test_page_whose_name_was_pointed_at_this_machine_is_refused(site: Site) -> None:
    listener = await site.open()
    peer = await site.open_raw(listener)
    upgrade = UPGRADE.replace(b"Host: 127.0.0.1", b"Host: evil.example")
    peer.write(upgrade, b"Origin: http://evil.example\r\n\r\n")
    assert (await peer.read_answer())[0] == 403


def authenticate_by_header(request: HandshakeRequest) -> str:
    if request.headers.get("authorization") != "Bearer right":
        raise Refusal(401, "Who are you?", [("WWW-Authenticate", "Bearer")])
    return "ada"


async def authenticate_later(request: HandshakeRequest) -> Any:
    await asyncio.sleep(0)
    try:
        return authenticate_by_header(request)
    except Refusal as refusal:
        return refusal


@pytest.mark.parametrize("authenticate", [authenticate_by_header, authenticate_later])
async def test_authenticate_names_the_principal_or_refuses(site: Site, authenticate: Any) -> None:
    listener = await site.open(authenticate=authenticate, on_post=answer_principal)
    with pytest.raises(HandshakeError) as caught:
        await dial(listener.url)
    error = caught.value
    assert (error.status, error.body, error.headers["www-authenticate"]) == (401, "Who are you?", "Bearer")
    connection, _ = await site.dial(listener, headers={"Authorization": "Bearer right"})
    assert [request.principal for request in site.requests] == ["ada"]
    assert (await ask(site, listener, post()))[0] == 401
    assert (await ask(site, listener, post(b"", "Authorization: Bearer right")))[2] == b"ada"
    connection.abort()


async def answer_principal(request: HandshakeRequest, body: bytes) -> PostAnswer:
    return 200, [], str(request.principal).encode()


async def test_authenticate_that_fails_is_reported_and_nobody_gets_in(site: Site) -> None:
    reports: list[dict[str, Any]] = []
    hear(reports)

    def fail(_: HandshakeRequest) -> None:
        raise LookupError("secret detail")

    listener = await site.open(authenticate=fail)
    with pytest.raises(HandshakeError) as caught:
        await dial(listener.url)
    assert (caught.value.status, "secret" in caught.value.body) == (500, False)
    assert [str(report["exception"]) for report in reports] == ["secret detail"]
    assert site.connections == []


async def test_authenticate_that_takes_too_long_is_given_up(site: Site) -> None:
    async def never(_: HandshakeRequest) -> None:
        await asyncio.Event().wait()

    listener = await site.open(authenticate=never, handshake_timeout=0.05)
    with pytest.raises(HandshakeError) as caught:
        await dial(listener.url)
    assert caught.value.status == 503


async def test_authenticate_is_cancelled_when_the_client_goes(site: Site) -> None:
    has_begun, has_ended = asyncio.Event(), asyncio.Event()

    async def wait(_: HandshakeRequest) -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()

    listener = await site.open(authenticate=wait)
    peer = await site.open_raw(listener)
    peer.write(UPGRADE, b"\r\n")
    async with asyncio.timeout(PATIENCE):
        await has_begun.wait()
        peer.cut()
        await has_ended.wait()


async def test_refusal_with_a_status_nobody_knows_is_a_defect_of_ours(site: Site) -> None:
    reports: list[dict[str, Any]] = []
    hear(reports)
    listener = await site.open(authenticate=lambda _: Refusal(299, "?"))
    assert (await ask(site, listener, UPGRADE + b"\r\n"))[0] == 500
    assert len(reports) == 1


async def test_on_connection_that_fails_is_reported_and_cut() -> None:
    reports: list[dict[str, Any]] = []
    hear(reports)

    def fail(connection: Connection, _: HandshakeRequest) -> None:
        raise LookupError("a defect")

    async with await listen(fail) as listener:
        connection = await dial(listener.url)
        recorder = Recorder()
        connection.start(recorder)
        assert (await recorder.wait_for_loss())[0] == 1006
    assert [str(report["exception"]) for report in reports] == ["a defect"]


async def test_subprotocol_we_prefer_is_agreed_on(site: Site) -> None:
    listener = await site.open(subprotocols=["new", "old"])
    connection, _ = await site.dial(listener, subprotocols=["old", "other", "new"])
    assert connection.subprotocol == "new"
    assert site.connections[0].subprotocol == "new"
    plain, _ = await site.dial(listener)
    assert plain.subprotocol is None


async def test_extensions_offered_are_not_taken(site: Site) -> None:
    listener = await site.open()
    peer = await site.open_raw(listener)
    peer.write(UPGRADE, b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    head = await peer.read_head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in head.lower()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (UPGRADE.replace(b"Connection: Upgrade", b"Connection: keep-alive") + b"\r\n", 426),
        (UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n", 400),
        (UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=") + b"\r\n", 400),
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", 405),
        (UPGRADE + b"Content-Length: 5\r\n\r\nhello", 400),
        (UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=["connection", "version", "key", "http-1.0", "body", "chunks"],
)
async def test_handshake_that_is_malformed_is_refused(site: Site, request_bytes: bytes, status: int) -> None:
    listener = await site.open()
    peer = await site.open_raw(listener)
    peer.write(request_bytes)
    assert int((await peer.read_head()).split()[1]) == status
    await peer.read_to_end()
    assert site.connections == []


@pytest.mark.parametrize("fast", [False, True], ids=["websockets", "picows"])
async def test_messages_sent_with_the_request_arrive(site: Site, fast: bool) -> None:
    listener = await site.open(fast=fast)
    peer = await site.open_raw(listener)
    half = peer.text("half")
    peer.write(UPGRADE, b"\r\n", peer.text("early", "bird"), half[:5])
    await peer.read_head()
    peer.write(half[5:])
    assert await site.recorders[0].wait_for_messages(3) == [b"early", b"bird", b"half"]


# HTTP.


async def test_post_is_answered(site: Site) -> None:
    requests: list[HandshakeRequest] = []

    async def answer(request: HandshakeRequest, body: bytes) -> PostAnswer:
        requests.append(request)
        return 201, [("X-Seen", "yes")], body.upper()

    listener = await site.open(on_post=answer)
    status, headers, body = await ask(site, listener, post(b"hello", "X-A: b", target="/rpc?x=1"))
    assert (status, body, headers["x-seen"], headers["connection"]) == (201, b"HELLO", "yes", "keep-alive")
    assert (requests[0].target, requests[0].headers["x-a"]) == ("/rpc?x=1", "b")


async def test_posts_on_one_connection_are_answered_in_order(site: Site) -> None:
    listener = await site.open(on_post=echo)
    peer = await site.open_raw(listener)
    chunked = post(b"", "Transfer-Encoding: chunked", length=False) + b"3\r\ntwo\r\n0\r\n\r\n"
    peer.write(post(b"one"), chunked, post(b""), post(b"four", "Connection: close"), post(b"never"))
    assert [(await peer.read_answer())[2] for _ in range(4)] == [b"one", b"two", b"", b"four"]
    assert await peer.read_to_end() == b""


async def test_websocket_may_follow_a_post_on_one_connection(site: Site) -> None:
    listener = await site.open(on_post=echo)
    peer = await site.open_raw(listener)
    peer.write(post(b"one"), UPGRADE, b"\r\n", peer.text("hello"))
    assert (await peer.read_answer())[2] == b"one"
    assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
    assert await site.recorders[0].wait_for_messages(1) == [b"hello"]
    site.connections[0].send([b"world"])
    assert await peer.read_frame() == (TEXT, b"world")


async def test_large_body_in_pieces_arrives_whole(site: Site) -> None:
    listener = await site.open(on_post=echo)
    peer = await site.open_raw(listener)
    body = bytes(range(256)) * 8192
    request = post(body)
    for start in range(0, len(request), 100_000):
        peer.write(request[start : start + 100_000])
        await turn(1)
    assert (await peer.read_answer())[2] == body


async def test_expectation_is_met_before_the_body_is_sent(site: Site) -> None:
    listener = await site.open(on_post=echo)
    peer = await site.open_raw(listener)
    head, body = post(b"hello", "Expect: 100-continue").split(b"\r\n\r\n")
    peer.write(head, b"\r\n\r\n")
    assert await peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.write(body)
    assert (await peer.read_answer())[2] == b"hello"


async def test_expectation_is_not_met_for_a_request_that_is_refused(site: Site) -> None:
    listener = await site.open(on_post=echo, options=replace(DEFAULT_OPTIONS, max_message_bytes=10))
    head = post(b"x" * 11, "Expect: 100-continue").split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert (await ask(site, listener, head))[0] == 413
    assert (await ask(site, listener, post(b"", "Expect: magic")))[0] == 417


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"hello?\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/3\r\nHost: a\r\n\r\n", 505),
        (post(b"x", "Transfer-Encoding: chunked"), 400),
        (post(b"x" * 101), 413),
        (post(b"", "Transfer-Encoding: chunked", length=False) + b"65\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 8000 + b"\r\n", 431),
    ],
)
async def test_request_we_do_not_serve_is_refused_and_the_connection_closed(
    site: Site, request_bytes: bytes, status: int
) -> None:
    listener = await site.open(on_post=echo, options=replace(DEFAULT_OPTIONS, max_message_bytes=100))
    peer = await site.open_raw(listener)
    peer.write(request_bytes)
    answer = await peer.read_answer()
    assert (answer[0], answer[1]["connection"]) == (status, "close")
    assert answer[1].get("allow") == ("GET, POST" if status == 405 else None)
    assert await peer.read_to_end() == b""


async def test_post_where_none_is_served_is_refused(site: Site) -> None:
    listener = await site.open()
    status, headers, _ = await ask(site, listener, post(b"x"))
    assert (status, headers["allow"]) == (405, "GET")


async def test_post_that_fails_is_reported_and_answered_with_500(site: Site) -> None:
    reports: list[dict[str, Any]] = []
    hear(reports)

    async def fail(_: HandshakeRequest, body: bytes) -> PostAnswer:
        raise LookupError("secret detail")

    listener = await site.open(on_post=fail)
    status, _, body = await ask(site, listener, post(b"x"))
    assert (status, b"secret" in body) == (500, False)
    assert [str(report["exception"]) for report in reports] == ["secret detail"]


async def test_post_may_be_refused_by_its_handler(site: Site) -> None:
    async def refuse(_: HandshakeRequest, body: bytes) -> PostAnswer:
        raise Refusal(422, "no such thing")

    listener = await site.open(on_post=refuse)
    assert (await ask(site, listener, post(b"x")))[::2] == (422, b"no such thing")


@pytest.mark.parametrize(
    "sent", [b"", b"POST / HT", post(b"hello")[:-2]], ids=["nothing", "half-a-head", "half-a-body"]
)
async def test_client_that_ends_its_half_before_the_request_is_let_go(site: Site, sent: bytes) -> None:
    listener = await site.open(on_post=echo)
    peer = await site.open_raw(listener)
    peer.write(sent)
    peer.writer.write_eof()
    assert await peer.read_to_end() == b""


async def test_post_is_cancelled_when_its_client_goes(site: Site) -> None:
    has_begun, has_ended = asyncio.Event(), asyncio.Event()

    async def wait(_: HandshakeRequest, body: bytes) -> PostAnswer:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()
        raise AssertionError

    listener = await site.open(on_post=wait)
    peer = await site.open_raw(listener)
    peer.write(post(b"x"))
    async with asyncio.timeout(PATIENCE):
        await has_begun.wait()
        peer.cut()
        await has_ended.wait()


async def test_post_over_tls_is_answered(site: Site) -> None:
    listener = await site.open(on_post=echo, ssl=get_server_tls())
    reader, writer = await asyncio.open_connection(
        "localhost", listener.port, ssl=get_client_tls(), family=socket.AF_INET
    )
    peer = RawPeer(reader, writer, is_client=True)
    peer.write(post(b"x" * 300_000), post(b"two", "Connection: close"))
    assert [(await peer.read_answer())[2] for _ in range(2)] == [b"x" * 300_000, b"two"]
    assert await peer.read_to_end() == b""
    writer.transport.abort()


# Limits.


async def test_client_that_dribbles_its_request_is_answered_with_408(site: Site) -> None:
    listener = await site.open(handshake_timeout=0.05)
    peer = await site.open_raw(listener)
    peer.write(UPGRADE)
    status, headers, _ = await peer.read_answer()
    assert (status, headers["connection"]) == (408, "close")


async def test_client_that_dribbles_its_body_is_answered_with_408(site: Site) -> None:
    listener = await site.open(on_post=echo, body_timeout=0.05)
    peer = await site.open_raw(listener)
    peer.write(post(b"hello")[:-1])
    assert (await peer.read_answer())[0] == 408


@pytest.mark.parametrize("first", [b"", post(b"x")], ids=["at-first", "between-requests"])
async def test_client_that_says_nothing_is_let_go(site: Site, first: bytes) -> None:
    listener = await site.open(on_post=echo, handshake_timeout=0.05)
    peer = await site.open_raw(listener)
    peer.write(first)
    answer = await peer.read_to_end()
    assert answer.startswith(b"HTTP/1.1 200 OK") if first else answer == b""


async def test_client_that_does_not_take_its_answers_is_cut(site: Site) -> None:
    async def answer(_: HandshakeRequest, body: bytes) -> PostAnswer:
        return 200, [], b"x" * 10_000_000

    listener = await site.open(on_post=answer, body_timeout=0.05, options=QUICK)
    peer = await site.open_raw(listener)
    peer.stop_reading()
    peer.write(post(b"1") + post(b"2"))
    await wait_for_sockets(listener, 1)
    await wait_for_sockets(listener, 0)


async def wait_for_sockets(listener: Listener, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(listener._doors) + len(listener._connections) != count:
            await turn(1)


async def test_client_that_does_not_go_after_its_refusal_is_cut(site: Site) -> None:
    listener = await site.open(options=QUICK)
    peer = await site.open_raw(listener)
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await peer.read_answer())[0] == 405
    await wait_for_sockets(listener, 0)


async def test_sockets_over_the_limit_are_answered_with_503_and_many_more_are_cut(site: Site) -> None:
    listener = await site.open(max_connections=2)
    first, _ = await site.dial(listener)
    await site.dial(listener)
    with pytest.raises(HandshakeError) as caught:
        await dial(listener.url)
    assert caught.value.status == 503
    await wait_for_sockets(listener, 2)
    lingering = [await site.open_raw(listener) for _ in range(2)]
    for peer in lingering:
        assert (await peer.read_answer())[0] == 503
    assert await (await site.open_raw(listener)).read_to_end() == b""
    for peer in lingering:
        peer.cut()
    first.abort()
    await wait_for_sockets(listener, 1)
    await site.dial(listener)


@pytest.mark.parametrize("fast", [False, True], ids=["websockets", "picows"])
async def test_many_connections_are_served_at_once(site: Site, fast: bool) -> None:
    listener = await site.open(fast=fast)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(site.dial(listener, fast=fast)) for _ in range(200)]
    for number, task in enumerate(tasks):
        task.result()[0].send([f"from {number}".encode()])
    for connection, recorder in zip(site.connections, site.recorders, strict=True):
        connection.send(await recorder.wait_for_messages(1))
    for number, task in enumerate(tasks):
        assert await task.result()[1].wait_for_messages(1) == [f"from {number}".encode()]


# The end.


async def test_close_tells_every_peer_1001(site: Site) -> None:
    listener = await site.open()
    peers = [await site.dial(listener) for _ in range(3)]
    await listener.close()
    for _, recorder in peers:
        assert (await recorder.wait_for_loss())[0] == 1001
    for recorder in site.recorders:
        assert (await recorder.wait_for_loss())[0] == 1001
    assert listener.connections == []
    with pytest.raises(ConnectionRefusedError):
        await dial(listener.url)
    await listener.close()


async def test_close_waits_for_each_connection_to_drain(site: Site) -> None:
    listener = await site.open()
    client, recorder = await site.dial(listener)
    is_drained = asyncio.Event()

    async def drain(connection: Connection) -> None:
        assert connection is site.connections[0]
        await is_drained.wait()
        connection.send([b"last words"])

    closing = asyncio.create_task(listener.close(drain=drain))
    await turn()
    client.send([b"still here"])
    assert await site.recorders[0].wait_for_messages(1) == [b"still here"]
    with pytest.raises(ConnectionRefusedError):
        await dial(listener.url)
    is_drained.set()
    await closing
    assert (await recorder.wait_for_loss())[0] == 1001
    assert recorder.messages == [b"last words"]


async def test_close_cuts_what_does_not_drain_in_time(site: Site) -> None:
    listener = await site.open()
    _, recorder = await site.dial(listener)

    async def drain(_: Connection) -> None:
        await asyncio.Event().wait()

    await listener.close(drain=drain, timeout=0.05)
    assert (await recorder.wait_for_loss())[0] == 1006
    assert (await site.recorders[0].wait_for_loss())[0] == 1006


async def test_drain_that_fails_is_reported_and_the_connection_closed(site: Site) -> None:
    reports: list[dict[str, Any]] = []
    hear(reports)
    listener = await site.open()
    _, recorder = await site.dial(listener)

    async def drain(_: Connection) -> None:
        raise LookupError("a defect")

    await listener.close(drain=drain)
    assert (await recorder.wait_for_loss())[0] == 1001
    assert [str(report["exception"]) for report in reports] == ["a defect"]


async def test_close_lets_a_post_finish_and_drops_idle_clients(site: Site) -> None:
    has_begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: HandshakeRequest, body: bytes) -> PostAnswer:
        has_begun.set()
        await may_go_on.wait()
        return 200, [], body

    listener = await site.open(on_post=answer)
    busy, idle = await site.open_raw(listener), await site.open_raw(listener)
    busy.write(post(b"hello"), post(b"too late"))
    await has_begun.wait()
    closing = asyncio.create_task(listener.close())
    assert await idle.read_to_end() == b""
    may_go_on.set()
    _, headers, body = await busy.read_answer()
    assert (headers["connection"], body) == ("close", b"hello")
    assert await busy.read_to_end() == b""
    busy.cut()
    await closing


async def test_cancelling_a_close_cuts_everything(site: Site) -> None:
    listener = await site.open()
    _, recorder = await site.dial(listener)

    async def drain(_: Connection) -> None:
        await asyncio.Event().wait()

    closing = asyncio.create_task(listener.close(drain=drain))
    await turn()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert (await recorder.wait_for_loss())[0] == 1006


async def test_leaving_the_context_closes(site: Site) -> None:
    async with await listen(site.take) as listener:
        _, recorder = await site.dial(listener)
    assert (await recorder.wait_for_loss())[0] == 1001


# What is imported.


async def test_importing_itx_notebook_imports_no_websocket_library() -> None:
    code = "import sys, json, itx_notebook; print(json.dumps(sorted(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    modules = set(json.loads(output))
    assert not modules & {"websockets", "picows", "uvloop", "itx_notebook.capnweb"}


# What is neither a handshake nor a batch.


async def answer_hello(request: HandshakeRequest, read_body: ReadBody) -> PostAnswer | None:
    if request.path == "/hello":
        return 200, [("Content-Type", "text/plain")], b"hello"
    if request.path == "/echo":
        return 200, [], await read_body(4)
    if request.path == "/refused":
        raise Refusal(418, "No.")
    return None


@pytest.mark.parametrize(
    ("request_bytes", "status", "body"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", 200, b"hello"),
        (b"GET /hello?x=1 HTTP/1.0\r\n\r\n", 200, b"hello"),
        (post(b"1234", target="/echo"), 200, b"1234"),
        (post(b"12345", target="/echo"), 413, b"The body is larger than 4 bytes."),
        (b"DELETE /refused HTTP/1.1\r\nHost: a\r\n\r\n", 418, b"No."),
        (b"GET /else HTTP/1.1\r\nHost: a\r\n\r\n", 405, b"This is a WebSocket port."),
        (post(b"batch", target="/else"), 200, b"batch"),
        (post(b"", "Content-Length: 1", target="/hello"), 400, b"The length of the body is malformed."),
    ],
)
async def test_request_is_answered_by_the_hook_or_left_to_others(
    site: Site, request_bytes: bytes, status: int, body: bytes
) -> None:
    listener = await site.open(on_post=echo, on_request=answer_hello)
    answer = await ask(site, listener, request_bytes)
    assert (answer[0], answer[2]) == (status, body)


async def test_body_that_the_hook_leaves_unread_is_not_taken_for_a_request(site: Site) -> None:
    listener = await site.open(on_request=answer_hello)
    peer = await site.open_raw(listener)
    smuggled = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
    peer.write(post(smuggled, target="/hello"))
    status, headers, body = await peer.read_answer()
    assert (status, headers["connection"], body) == (200, "close", b"hello")
    assert await peer.read_to_end() == b""


async def test_connection_serves_on_after_the_hook_has_answered(site: Site) -> None:
    listener = await site.open(on_request=answer_hello)
    peer = await site.open_raw(listener)
    for _ in range(2):
        peer.write(post(b"1234", target="/echo"))
        assert (await peer.read_answer())[2] == b"1234"


async def test_every_answer_is_told(site: Site) -> None:
    told: list[tuple[str | None, Any, int]] = []

    def note(request: HandshakeRequest | None, status: int, seconds: float) -> None:
        assert 0 <= seconds < PATIENCE
        told.append((None if request is None else request.path, request and request.principal, status))

    listener = await site.open(
        on_post=echo, on_request=answer_hello, on_answer=note, authenticate=authenticate_by_header
    )
    await ask(site, listener, b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    await ask(site, listener, post(b"", "Authorization: Bearer right", target="/batch"))
    await ask(site, listener, post(b"", target="/batch"))
    await ask(site, listener, b"nonsense\r\n\r\n")
    await site.dial(listener, headers={"Authorization": "Bearer right"})
    assert told == [
        ("/hello", None, 200),
        ("/batch", "ada", 200),
        ("/batch", None, 401),
        (None, None, 400),
        ("/", "ada", 101),
    ]
