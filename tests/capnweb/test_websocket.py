"""Our connection against peers that speak raw bytes: the frames of RFC 6455 right and wrong, and both handshakes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, HandshakeError
from itx_notebook.capnweb.websocket import dial
from tests.capnweb.wires import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    Recorder,
    answer_upgrade,
    build_close,
    build_frame,
    get_client_tls,
    open_under_test,
    serve_raw,
    turn,
)

Side = Literal["client", "server"]

pytestmark = [
    pytest.mark.parametrize("fast", [False, True], ids=["websockets", "picows"]),
]

on_both_sides = pytest.mark.parametrize("side", ["client", "server"])

QUICK = replace(DEFAULT_OPTIONS, close_timeout=0.1)


# Frames.


@on_both_sides
async def test_fragments_become_one_message(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        message = "first é second € third".encode()
        peer.write(
            peer.frame(TEXT, message[:7], is_last=False),
            peer.frame(PING, b"between"),
            peer.frame(CONTINUATION, b"", is_last=False),
            peer.frame(CONTINUATION, message[7:17], is_last=False),
            peer.frame(CONTINUATION, message[17:]),
            peer.text("whole"),
        )
        assert await recorder.wait_for_messages(2) == [message, b"whole"]
        assert await peer.read_frame() == (PONG, b"between")


@on_both_sides
async def test_bytes_that_come_singly_are_put_together(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        stream = peer.text("one", "x" * 200) + peer.frame(TEXT, b"tw", is_last=False) + peer.frame(CONTINUATION, b"o")
        for position in range(len(stream)):
            peer.write(stream[position : position + 1])
            await turn(1)
        assert await recorder.wait_for_messages(3) == [b"one", b"x" * 200, b"two"]


@on_both_sides
async def test_frames_that_come_together_are_delivered_together(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (connection, recorder, peer):
        connection.pause_reading()
        await turn()
        peer.write(peer.text(*(f"message {number}" for number in range(1000))))
        await turn()
        connection.resume_reading()
        await recorder.wait_for_messages(1000)
        assert [len(read) for read in recorder.reads] == [1000]


@on_both_sides
async def test_pings_are_answered_with_what_they_carry(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, _recorder, peer):
        peer.write(peer.frame(PING, b"a"), peer.frame(PING), peer.frame(PING, b"x" * 125))
        assert [await peer.read_frame() for _ in range(3)] == [(PONG, b"a"), (PONG, b""), (PONG, b"x" * 125)]


@on_both_sides
async def test_pongs_nobody_asked_for_are_nothing(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        peer.write(peer.frame(PONG, b"unasked"), peer.text("fine"))
        assert await recorder.wait_for_messages(1) == [b"fine"]


@on_both_sides
async def test_messages_are_sent_as_single_text_frames(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (connection, _, peer):
        messages = [b"", b"a", b"x" * 126, b"y" * 70_000]
        connection.send(messages)
        assert [await peer.read_frame() for _ in messages] == [(TEXT, message) for message in messages]


Build = Callable[[RawPeer], bytes]

FAULTS: dict[str, tuple[int, Build]] = {
    "binary": (1003, lambda peer: peer.frame(BINARY, b"[]")),
    "binary-fragment": (
        1003,
        lambda peer: peer.frame(BINARY, b"[", is_last=False) + peer.frame(CONTINUATION, b"]"),
    ),
    "not-utf8": (1007, lambda peer: peer.frame(TEXT, b"\xc3\x28")),
    "half-a-character": (1007, lambda peer: peer.frame(TEXT, "é".encode()[:1])),
    "surrogate": (1007, lambda peer: peer.frame(TEXT, b"\xed\xa0\x80")),
    "not-utf8-in-fragments": (
        1007,
        lambda peer: peer.frame(TEXT, b"\xc3", is_last=False) + peer.frame(CONTINUATION, b"\x28"),
    ),
    "too-large": (1009, lambda peer: peer.frame(TEXT, b"x" * 1001)),
    "too-large-by-its-head": (1009, lambda peer: peer.frame(TEXT, length=2**40)),
    "too-large-in-fragments": (
        1009,
        lambda peer: peer.frame(TEXT, b"x" * 600, is_last=False) + peer.frame(CONTINUATION, b"x" * 401),
    ),
    "masked-wrongly": (1002, lambda peer: build_frame(TEXT, b"a", is_masked=not peer.is_client)),
    "reserved-bit-1": (1002, lambda peer: peer.frame(TEXT, b"a", reserved=4)),
    "reserved-bit-3": (1002, lambda peer: peer.frame(TEXT, b"a", reserved=1)),
    "reserved-bit-of-a-ping": (1002, lambda peer: peer.frame(PING, b"a", reserved=4)),
    "unknown-data-opcode": (1002, lambda peer: peer.frame(0x3, b"a")),
    "unknown-control-opcode": (1002, lambda peer: peer.frame(0xB, b"a")),
    "long-ping": (1002, lambda peer: peer.frame(PING, b"x" * 126)),
    "fragmented-ping": (1002, lambda peer: peer.frame(PING, b"x", is_last=False)),
    "continuation-of-nothing": (1002, lambda peer: peer.frame(CONTINUATION, b"x")),
    "text-amid-fragments": (
        1002,
        lambda peer: peer.frame(TEXT, b"x", is_last=False) + peer.frame(TEXT, b"y"),
    ),
    "close-amid-fragments": (
        1002,
        lambda peer: peer.frame(TEXT, b"x", is_last=False) + peer.frame(CLOSE, build_close(1000)),
    ),
    "close-of-one-byte": (1002, lambda peer: peer.frame(CLOSE, b"\x03")),
    "close-1005": (1002, lambda peer: peer.frame(CLOSE, build_close(1005))),
    "close-1006": (1002, lambda peer: peer.frame(CLOSE, build_close(1006))),
    "close-0": (1002, lambda peer: peer.frame(CLOSE, build_close(0))),
    "close-999": (1002, lambda peer: peer.frame(CLOSE, build_close(999))),
    "close-2000": (1002, lambda peer: peer.frame(CLOSE, build_close(2000))),
    "close-5000": (1002, lambda peer: peer.frame(CLOSE, build_close(5000))),
    "close-reason-not-utf8": (1007, lambda peer: peer.frame(CLOSE, build_close(1000, b"\xff"))),
}


@on_both_sides
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_of_the_peer_is_answered_with_its_code(side: Side, fast: bool, fault: str) -> None:
    code, build = FAULTS[fault]
    options = replace(DEFAULT_OPTIONS, max_message_bytes=1000)
    async with open_under_test(side, fast=fast, options=options) as (_, recorder, peer):
        peer.write(peer.text("before"), build(peer), peer.text("after"))
        assert (await peer.read_close())[0] == code
        assert await peer.read_to_end() == b""
        peer.cut()
        assert (await recorder.wait_for_loss())[0] == code
        assert recorder.messages == [b"before"]


@on_both_sides
async def test_fragments_without_bytes_cost_nothing_and_do_not_end(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        empty = peer.frame(CONTINUATION, is_last=False)
        peer.write(peer.frame(TEXT, b"a", is_last=False), empty * 10_000, peer.frame(CONTINUATION, b"b"))
        assert await recorder.wait_for_messages(1) == [b"ab"]


@on_both_sides
async def test_peer_that_floods_after_its_fault_is_cut_in_time(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=QUICK) as (_, recorder, peer):
        peer.write(peer.frame(BINARY, b"a"))

        async def flood() -> None:
            while not recorder.losses:
                peer.write(peer.text("x" * 10_000))
                await turn(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(flood())
            assert (await recorder.wait_for_loss())[0] == 1003
        assert recorder.messages == []


# Closing.


@on_both_sides
async def test_close_is_answered_with_what_it_carries(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        peer.write(peer.text("last"), peer.frame(CLOSE, build_close(4001, "bye é".encode())), peer.text("late"))
        assert await peer.read_close() == (4001, "bye é")
        if side == "server":
            # The server's end of the TCP connection comes first, so that the client's port is free at once.
            assert await peer.read_to_end() == b""
        peer.writer.close()
        assert await recorder.wait_for_loss() == (4001, "bye é")
        assert recorder.messages == [b"last"]


@on_both_sides
async def test_close_without_a_code_is_answered_alike_and_told_as_1005(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        peer.write(peer.frame(CLOSE))
        assert await peer.read_frame() == (CLOSE, b"")
        peer.writer.close()
        assert await recorder.wait_for_loss() == (1005, "")


@on_both_sides
async def test_peer_that_never_answers_the_close_is_cut(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=QUICK) as (connection, recorder, peer):
        connection.close(3000, "hello?")
        assert await peer.read_close() == (3000, "hello?")
        assert await recorder.wait_for_loss() == (3000, "hello?")
        assert await peer.read_to_end() == b""


@on_both_sides
async def test_peer_that_answers_the_close_and_stays_is_cut(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=QUICK) as (connection, recorder, peer):
        connection.close(3000, "")
        await peer.read_close()
        peer.write(peer.frame(CLOSE, build_close(3000)))
        assert await recorder.wait_for_loss() == (3000, "")


@on_both_sides
async def test_peer_that_breaks_the_rules_while_closing_gets_no_second_close(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=QUICK) as (connection, recorder, peer):
        connection.close(3000, "")
        peer.write(peer.frame(0x3, b"?"), peer.frame(BINARY, b"?"))
        assert await peer.read_close() == (3000, "")
        assert await peer.read_to_end() == b""
        assert await recorder.wait_for_loss() == (3000, "")


@on_both_sides
async def test_ping_while_closing_does_no_harm(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (connection, recorder, peer):
        connection.close(3000, "")
        peer.write(peer.frame(PING, b"late"), peer.frame(CLOSE, build_close(3000)))
        assert await peer.read_close() == (3000, "")
        peer.writer.close()
        assert await recorder.wait_for_loss() == (3000, "")


# Cutting.


@on_both_sides
@pytest.mark.parametrize("kept", [0, 1, 3, 7, 50], ids=lambda kept: f"after-{kept}-bytes")
async def test_cut_within_a_frame_is_told_as_1006(side: Side, fast: bool, kept: int) -> None:
    async with open_under_test(side, fast=fast) as (_, recorder, peer):
        peer.write(peer.text("whole"), peer.text("x" * 200)[:kept])
        await recorder.wait_for_messages(1)
        peer.writer.close()
        assert (await recorder.wait_for_loss())[0] == 1006
        assert recorder.messages == [b"whole"]


@on_both_sides
async def test_reset_is_told_as_1006_while_sending_goes_on(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast) as (connection, recorder, peer):
        peer.cut()
        async with asyncio.timeout(10):
            while not recorder.losses:
                connection.send([b"x" * 1000])
                await turn(1)
        assert (await recorder.wait_for_loss())[0] == 1006


@on_both_sides
async def test_peer_that_ends_its_half_and_takes_nothing_is_cut(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=QUICK) as (connection, recorder, peer):
        peer.stop_reading()
        connection.send([b"x" * 1_000_000] * 16)
        peer.writer.write_eof()
        assert (await recorder.wait_for_loss())[0] == 1006


# Keeping alive.

ALIVE = replace(DEFAULT_OPTIONS, ping_interval=0.02, ping_timeout=0.05, close_timeout=0.1)
PATIENT = replace(ALIVE, ping_timeout=5.0)
"""For peers that do answer, however busy this machine is."""


@on_both_sides
async def test_silent_peer_is_pinged_then_closed_with_1011(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=ALIVE) as (_, recorder, peer):
        assert await peer.read_frame() == (PING, b"")
        code, reason = await recorder.wait_for_loss()
        assert code == 1011
        assert "nothing heard" in reason


@on_both_sides
async def test_peer_that_answers_pings_stays(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=PATIENT) as (_, recorder, peer):
        for _ in range(5):
            assert await peer.read_frame() == (PING, b"")
            peer.write(peer.frame(PONG))
        assert recorder.losses == []


@on_both_sides
async def test_peer_that_sends_anything_but_pongs_stays(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=PATIENT) as (_, recorder, peer):
        alive = peer.text("alive")
        # Part of a frame is a sign of life too.
        for part in (alive[:1], alive[1:2], alive[2:]):
            assert await peer.read_frame() == (PING, b"")
            peer.write(part)
        assert await recorder.wait_for_messages(1) == [b"alive"]
        assert recorder.losses == []


@on_both_sides
async def test_silence_is_pinged_again_and_again(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=PATIENT) as (_, recorder, peer):
        assert [await peer.read_frame() for _ in range(5)] == [(PING, b"")] * 5
        assert recorder.losses == []


@on_both_sides
async def test_pings_without_a_time_limit_never_end(side: Side, fast: bool) -> None:
    options = replace(ALIVE, ping_timeout=None)
    async with open_under_test(side, fast=fast, options=options) as (_, recorder, peer):
        assert [await peer.read_frame() for _ in range(5)] == [(PING, b"")] * 5
        assert recorder.losses == []


@on_both_sides
async def test_blocked_loop_does_not_take_its_peer_for_dead(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=ALIVE) as (connection, recorder, peer):
        assert await peer.read_frame() == (PING, b"")
        # Answered, but the loop hangs until long after the time limit, as in a method that computes.
        peer.write(peer.frame(PONG))
        loop = asyncio.get_running_loop()
        blocked_until = loop.time() + 0.2
        while loop.time() < blocked_until:
            pass
        await turn(1)
        await turn(1)
        assert recorder.losses == []
        assert not connection._is_ending


@on_both_sides
async def test_paused_end_does_not_take_its_peer_for_dead(side: Side, fast: bool) -> None:
    async with open_under_test(side, fast=fast, options=ALIVE) as (connection, recorder, peer):
        assert await peer.read_frame() == (PING, b"")
        connection.pause_reading()
        peer.write(peer.text("unread"))
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.call_later(0.2, later.set_result, None)
        await later
        assert recorder.losses == []
        connection.resume_reading()
        assert await recorder.wait_for_messages(1) == [b"unread"]


# The client's handshake.


def answer_with(*parts: bytes) -> Callable[[RawPeer], Awaitable[None]]:
    """A server that reads the head, then writes `parts` in one go and closes."""

    async def talk(peer: RawPeer) -> None:
        await peer.read_head()
        peer.write(*parts)

    return talk


async def get_refusal(talk: Callable[[RawPeer], Awaitable[None]], fast: bool, **options: Any) -> HandshakeError:
    async with serve_raw(talk) as url:
        with pytest.raises(HandshakeError) as caught:
            await dial(url, fast=fast, **options)
        return caught.value


async def test_messages_that_come_with_the_answer_wait_for_the_start(fast: bool) -> None:
    async def talk(peer: RawPeer) -> None:
        head = await peer.read_head()
        peer.write(answer_upgrade(head), b"\r\n", peer.text("early", "bird"), peer.text("half")[:3])
        await turn()
        peer.write(peer.text("half")[3:])
        await peer.read_close()

    async with serve_raw(talk) as url:
        connection = await dial(url, fast=fast)
        recorder = Recorder()
        await turn()
        connection.start(recorder)
        assert recorder.reads == []
        assert await recorder.wait_for_messages(3) == [b"early", b"bird", b"half"]
        assert recorder.reads[0] == [b"early", b"bird"]
        connection.close(1000, "")
        await recorder.wait_for_loss()


async def test_answer_in_single_bytes_is_put_together(fast: bool) -> None:
    async def talk(peer: RawPeer) -> None:
        answer = answer_upgrade(await peer.read_head()) + b"\r\n" + peer.text("early")
        for position in range(len(answer)):
            peer.write(answer[position : position + 1])
            await turn(1)
        await peer.read_close()

    async with serve_raw(talk) as url:
        connection = await dial(url, fast=fast)
        recorder = Recorder()
        connection.start(recorder)
        assert await recorder.wait_for_messages(1) == [b"early"]
        connection.close(1000, "")
        await recorder.wait_for_loss()


async def test_request_is_as_asked_for(fast: bool) -> None:
    heads: list[bytes] = []

    async def talk(peer: RawPeer) -> None:
        heads.append(await peer.read_head())
        peer.write(answer_upgrade(heads[0]), b"Sec-WebSocket-Protocol: two\r\n\r\n")
        await peer.read_to_end()

    async with serve_raw(talk) as url:
        connection = await dial(
            f"{url.replace('//', '//user:pass@')}api/itx?project=a%20b",
            headers={"Cookie": "token=1", "Host": "example.org"},
            origin="https://example.org",
            subprotocols=["one", "two"],
            fast=fast,
        )
        assert connection.subprotocol == "two"
        connection.abort()
    request_line, *lines = heads[0].decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    assert request_line == "GET /api/itx?project=a%20b HTTP/1.1"
    assert len(headers.pop("sec-websocket-key")) == 24
    assert headers == {
        "authorization": "Basic dXNlcjpwYXNz",
        "connection": "Upgrade",
        "cookie": "token=1",
        "host": "example.org",
        "origin": "https://example.org",
        "sec-websocket-protocol": "one, two",
        "sec-websocket-version": "13",
        "upgrade": "websocket",
    }


async def test_refusal_tells_status_headers_and_body(fast: bool) -> None:
    error = await get_refusal(
        answer_with(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nX-Why: a\r\nX-Why: b\r\n\r\ngo away\n"), fast
    )
    assert str(error) == "The server answered 403 Forbidden: go away"
    assert (error.status, error.headers["x-why"], error.body) == (403, "a, b", "go away\n")


async def test_refusal_without_a_length_is_read_to_its_end(fast: bool) -> None:
    error = await get_refusal(answer_with(b"HTTP/1.1 500 Oops\r\n\r\n", b"broken"), fast)
    assert (error.status, error.body) == (500, "broken")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no WebSocket handshake"),
        (b"\x00\x01\x02\r\n\r\n", "no WebSocket handshake"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "no WebSocket handshake"),
        (answer_upgrade(b"Sec-WebSocket-Key: another\r\n") + b"\r\n", "no WebSocket handshake"),
        (b"HTTP/1.1 101 Switching", "no WebSocket handshake"),
        (b"", "no WebSocket handshake"),
        (b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Long: x\r\n" * 7000, "no end to its headers"),
    ],
    ids=["other-protocol", "noise", "no-connection", "wrong-accept", "half", "nothing", "endless"],
)
async def test_answer_that_is_no_handshake_is_an_error(fast: bool, answer: bytes, complaint: str) -> None:
    error = await get_refusal(answer_with(answer), fast)
    assert complaint in str(error)
    assert error.status is None


async def test_extension_nobody_offered_is_an_error(fast: bool) -> None:
    async def talk(peer: RawPeer) -> None:
        head = await peer.read_head()
        assert b"extensions" not in head.lower()
        peer.write(answer_upgrade(head), b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")

    assert "no extensions supported" in str(await get_refusal(talk, fast))


async def test_server_that_never_answers_is_given_up(fast: bool) -> None:
    async def talk(peer: RawPeer) -> None:
        await peer.read_to_end()

    async with serve_raw(talk) as url:
        with pytest.raises(TimeoutError, match=re.escape("127.0.0.1:")) as caught:
            await dial(url, open_timeout=0.05, fast=fast)
        assert "0.05 s" in str(caught.value)


async def test_cancelling_a_dial_cuts_the_socket(fast: bool) -> None:
    has_come, has_gone = asyncio.Event(), asyncio.Event()

    async def talk(peer: RawPeer) -> None:
        await peer.read_head()
        has_come.set()
        await peer.read_to_end()
        has_gone.set()

    async with serve_raw(talk) as url:
        task = asyncio.create_task(dial(url, fast=fast))
        async with asyncio.timeout(10):
            await has_come.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await has_gone.wait()


async def test_nobody_listening_is_an_os_error(fast: bool) -> None:
    async with serve_raw(answer_with(b"")) as url:
        pass
    with pytest.raises(ConnectionRefusedError):
        await dial(url, fast=fast)


@pytest.mark.parametrize(
    "url",
    ["http://localhost/", "localhost:80", "ws://", "ws://localhost/#fragment", "ws://user@localhost/", "ws://h:port/"],
)
async def test_url_that_is_none_is_a_value_error(fast: bool, url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await dial(url, fast=fast)


@pytest.mark.parametrize(
    "headers",
    [{"Upgrade": "h2c"}, {"Sec-WebSocket-Key": "mine"}, {"X": "a\r\nY: b"}, {"X\r\nY": "a"}, {"X": "\u20ac"}],
    ids=["upgrade", "key", "value-with-line-end", "name-with-line-end", "value-beyond-latin-1"],
)
async def test_header_that_cannot_be_sent_is_a_value_error(fast: bool, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        await dial("ws://localhost:1/", headers=headers, fast=fast)


async def test_tls_for_a_url_without_is_a_value_error(fast: bool) -> None:
    with pytest.raises(ValueError, match="wss"):
        await dial("ws://localhost:1/", ssl=get_client_tls(), fast=fast)
