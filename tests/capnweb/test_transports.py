"""What every transport does, whatever its wire: the conformance suite of the seam."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, Transport
from tests.capnweb.wires import KINDS, SOCKETS, Kind, Recorder, Wire, open_wire, turn, wait_until_still

OpenWire = Callable[..., Awaitable[Wire]]

QUICK = replace(DEFAULT_OPTIONS, close_timeout=0.1)
"""For tests in which the time for closing has to run out."""


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
async def open_pair(kind: Kind, tmp_path: Path) -> AsyncIterator[OpenWire]:
    """Opens a wire of this kind, with nothing started."""
    async with AsyncExitStack() as stack:

        async def open_pair(**options: Any) -> Wire:
            return await stack.enter_async_context(open_wire(kind, tmp_path, **options))

        yield open_pair


@pytest.fixture
async def wire(open_pair: OpenWire) -> Wire:
    """A wire of this kind, both ends started."""
    wire = await open_pair()
    wire.start()
    return wire


# Messages.


async def test_messages_arrive_in_the_order_sent_however_they_are_grouped(wire: Wire) -> None:
    messages = [f"message {number}".encode() for number in range(1000)]
    for sender, receiver in ((wire.client, wire.to_server), (wire.server, wire.to_client)):
        rest, count = messages, 1
        while rest:
            sender.send(rest[:count])
            rest, count = rest[count:], count + 7
        assert await receiver.wait_for_messages(1000) == messages


async def test_messages_of_every_size_arrive_whole(wire: Wire) -> None:
    sizes = [0, 1, 125, 126, 127, 8191, 8192, 8193, 65535, 65536, 65537, 300_000]
    messages = [b"x" * size for size in sizes]
    wire.client.send(messages)
    wire.server.send(messages)
    assert await wire.to_server.wait_for_messages(len(sizes)) == messages
    assert await wire.to_client.wait_for_messages(len(sizes)) == messages


async def test_large_message_arrives_whole(wire: Wire) -> None:
    message = b"0123456789abcdef" * (1024 * 512)
    wire.client.send([message, b"after"])
    assert await wire.to_server.wait_for_messages(2) == [message, b"after"]


async def test_text_of_every_plane_arrives(wire: Wire) -> None:
    message = "aé€😀\u0000\U0010ffff".encode()
    wire.server.send([message])
    assert await wire.to_client.wait_for_messages(1) == [message]


async def test_messages_are_bytes(wire: Wire) -> None:
    wire.client.send([b"ascii", "é".encode(), b"x" * 100_000])
    assert {type(message) for message in await wire.to_server.wait_for_messages(3)} == {bytes}


async def test_sending_nothing_sends_nothing(wire: Wire) -> None:
    wire.client.send([])
    wire.client.send([b"something"])
    assert await wire.to_server.wait_for_messages(1) == [b"something"]


async def test_messages_sent_from_within_a_delivery_arrive(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.to_server = Recorder(wire.server.send)
    wire.start()
    wire.client.send([b"a", b"b"])
    assert await wire.to_client.wait_for_messages(2) == [b"a", b"b"]


async def test_message_that_is_not_utf8_ends_the_connection_with_1007(wire: Wire) -> None:
    wire.client.send([b"fine", b"\xff", b"late"])
    assert (await wire.to_server.wait_for_loss())[0] == 1007
    assert (await wire.to_client.wait_for_loss())[0] == 1007
    assert wire.to_server.messages == [b"fine"]


async def test_message_of_the_largest_size_arrives(open_pair: OpenWire) -> None:
    wire = await open_pair(server_options=replace(DEFAULT_OPTIONS, max_message_bytes=70_000))
    wire.start()
    wire.client.send([b"x" * 70_000])
    assert await wire.to_server.wait_for_messages(1) == [b"x" * 70_000]


async def test_message_over_the_largest_size_ends_the_connection_with_1009(open_pair: OpenWire) -> None:
    wire = await open_pair(server_options=replace(DEFAULT_OPTIONS, max_message_bytes=70_000))
    wire.start()
    wire.client.send([b"fine", b"x" * 70_001])
    assert (await wire.to_server.wait_for_loss())[0] == 1009
    assert (await wire.to_client.wait_for_loss())[0] == 1009
    assert wire.to_server.messages == [b"fine"]


async def test_limit_of_the_size_is_each_ends_own(open_pair: OpenWire) -> None:
    wire = await open_pair(client_options=replace(DEFAULT_OPTIONS, max_message_bytes=10))
    wire.start()
    wire.client.send([b"x" * 100])
    assert await wire.to_server.wait_for_messages(1) == [b"x" * 100]
    wire.server.send([b"x" * 11])
    assert (await wire.to_client.wait_for_loss())[0] == 1009


# Starting.


async def test_messages_sent_before_the_start_wait_for_it(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.client.start(wire.to_client)
    wire.client.send([b"early"])
    await turn()
    wire.server.start(wire.to_server)
    assert wire.to_server.reads == []
    assert await wire.to_server.wait_for_messages(1) == [b"early"]


async def test_connection_may_be_used_before_the_start(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.server.send([b"hello"])
    wire.server.close(3000, "bye")
    wire.client.start(wire.to_client)
    assert await wire.to_client.wait_for_loss() == (3000, "bye")
    assert wire.to_client.messages == [b"hello"]
    wire.server.start(wire.to_server)
    assert await wire.to_server.wait_for_loss() == (3000, "bye")


async def test_loss_before_the_start_is_told_after_it(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.server.abort()
    await turn()
    wire.server.start(wire.to_server)
    assert wire.to_server.losses == []
    assert await wire.to_server.wait_for_loss() == (1006, "")


async def test_pausing_before_the_start_holds(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.server.pause_reading()
    wire.start()
    wire.client.send([b"waiting"])
    await turn()
    assert wire.to_server.reads == []
    wire.server.resume_reading()
    assert await wire.to_server.wait_for_messages(1) == [b"waiting"]


async def test_second_start_is_refused(wire: Wire) -> None:
    with pytest.raises(RuntimeError, match="receiver already"):
        wire.client.start(Recorder())


# Closing.


@pytest.mark.parametrize("end", ["client", "server"])
async def test_close_tells_both_ends_its_code_and_reason(wire: Wire, end: str) -> None:
    getattr(wire, end).close(4321, "enough")
    assert await wire.to_client.wait_for_loss() == (4321, "enough")
    assert await wire.to_server.wait_for_loss() == (4321, "enough")


@pytest.mark.parametrize("end", ["client", "server"])
async def test_close_sends_what_was_sent_before(wire: Wire, end: str) -> None:
    sender, receiver = (wire.client, wire.to_server) if end == "client" else (wire.server, wire.to_client)
    messages = [b"x" * 1_000_000, b"last"]
    sender.send(messages)
    sender.close(1000, "")
    assert await receiver.wait_for_loss() == (1000, "")
    assert receiver.messages == messages


async def test_close_from_both_ends_at_once_ends_both(wire: Wire) -> None:
    wire.client.close(4001, "client")
    wire.server.close(4002, "server")
    assert await wire.to_client.wait_for_loss() == (4001, "client")
    assert await wire.to_server.wait_for_loss() == (4002, "server")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 100, "é" * 61),
        ("x" * 122 + "€", "x" * 122),
        ("😀" * 40, "😀" * 30),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
    ],
    ids=["fits", "one-over", "two-byte", "three-byte", "four-byte", "surrogate"],
)
async def test_close_reason_is_cut_on_a_character(wire: Wire, reason: str, expected: str) -> None:
    wire.client.close(3000, reason)
    assert await wire.to_server.wait_for_loss() == (3000, expected)
    assert await wire.to_client.wait_for_loss() == (3000, expected)


async def test_after_close_nothing_is_sent_and_only_the_loss_is_told(wire: Wire) -> None:
    wire.server.send([b"crossing"])
    wire.client.close(1000, "first")
    wire.client.close(1001, "second")
    wire.client.send([b"too late"])
    assert await wire.to_client.wait_for_loss() == (1000, "first")
    assert await wire.to_server.wait_for_loss() == (1000, "first")
    assert wire.to_client.messages == []
    assert wire.to_server.messages == []


async def test_close_from_within_a_delivery_ends_both(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.to_server = Recorder(lambda _: wire.server.close(3001, "seen enough"))
    wire.start()
    wire.client.send([b"a"])
    assert await wire.to_client.wait_for_loss() == (3001, "seen enough")
    assert await wire.to_server.wait_for_loss() == (3001, "seen enough")


async def test_calls_on_a_lost_connection_do_nothing(wire: Wire) -> None:
    wire.client.close(1000, "")
    await wire.to_client.wait_for_loss()
    wire.client.send([b"late"])
    wire.client.pause_reading()
    wire.client.resume_reading()
    wire.client.close(1000, "")
    wire.client.abort()
    assert wire.client.buffered_bytes == 0
    assert await wire.to_client.wait_for_loss() == (1000, "")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_close_refuses_codes_that_no_close_frame_may_carry(open_pair: OpenWire, code: int) -> None:
    wire = await open_pair()
    with pytest.raises(ValueError, match=str(code)):
        wire.client.close(code, "")


async def test_close_of_a_peer_that_does_not_read_is_cut_in_time(open_pair: OpenWire) -> None:
    wire = await open_pair(client_options=QUICK)
    wire.client.start(wire.to_client)
    wire.client.send([b"x" * 1_000_000] * 16)
    wire.client.close(3000, "nobody there")
    assert await wire.to_client.wait_for_loss() == (3000, "nobody there")


async def test_close_while_paused_reads_the_answer(wire: Wire) -> None:
    wire.client.pause_reading()
    wire.server.send([b"x" * 100_000] * 20)
    await turn()
    wire.client.close(1000, "done")
    assert await wire.to_server.wait_for_loss() == (1000, "done")
    assert await wire.to_client.wait_for_loss() == (1000, "done")
    assert wire.to_client.messages == []


# Cutting.


@pytest.mark.parametrize("end", ["client", "server"])
async def test_abort_loses_both_ends_with_1006(wire: Wire, end: str) -> None:
    transport: Transport = getattr(wire, end)
    transport.abort()
    transport.abort()
    assert wire.to_client.losses == wire.to_server.losses == []
    assert (await wire.to_client.wait_for_loss())[0] == 1006
    assert (await wire.to_server.wait_for_loss())[0] == 1006


async def test_abort_from_within_a_delivery_ends_it(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.to_server = Recorder(lambda _: wire.server.abort())
    wire.start()
    wire.client.send([b"a"])
    assert (await wire.to_server.wait_for_loss())[0] == 1006
    assert (await wire.to_client.wait_for_loss())[0] == 1006
    assert wire.to_server.reads == [[b"a"]]


async def test_receiver_that_raises_is_reported_and_cut(open_pair: OpenWire) -> None:
    def fail(_: list[bytes]) -> None:
        raise RuntimeError("a defect")

    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    wire = await open_pair()
    wire.to_server = Recorder(fail)
    wire.start()
    wire.client.send([b"a"])
    assert (await wire.to_server.wait_for_loss())[0] == 1006
    assert (await wire.to_client.wait_for_loss())[0] == 1006
    assert [str(report["exception"]) for report in reports] == ["a defect"]


# Back-pressure.


async def test_paused_end_reads_nothing_and_its_peers_bytes_wait(wire: Wire) -> None:
    wire.server.pause_reading()
    wire.server.pause_reading()
    await turn()
    messages: list[bytes] = []
    while await wait_until_still(lambda: wire.client.buffered_bytes) <= DEFAULT_OPTIONS.high_water_bytes:
        # What the system itself holds has an end.
        assert len(messages) < 64
        messages += [bytes([32 + len(messages)]) * 1_000_000] * 4
        wire.client.send(messages[-4:])
    assert wire.to_server.reads == []
    assert wire.to_client.resumptions == 0
    wire.server.resume_reading()
    wire.server.resume_reading()
    assert await wire.to_server.wait_for_messages(len(messages)) == messages
    await wire.to_client.wait_for(lambda: wire.to_client.resumptions > 0)
    assert await wait_until_still(lambda: wire.client.buffered_bytes) == 0
    assert wire.to_client.resumptions == 1


async def test_resumption_comes_at_the_low_water_mark(open_pair: OpenWire) -> None:
    options = replace(DEFAULT_OPTIONS, high_water_bytes=3_000_000, low_water_bytes=1_000_000)
    wire = await open_pair(client_options=options)
    levels: list[int] = []

    class Watching(Recorder):
        def resume_writing(self) -> None:
            levels.append(wire.client.buffered_bytes)
            super().resume_writing()

    wire.to_client = Watching()
    wire.start()
    wire.server.pause_reading()
    await turn()
    wire.client.send([b"x" * 100_000] * 160)
    await wait_until_still(lambda: wire.client.buffered_bytes)
    wire.server.resume_reading()
    await wire.to_client.wait_for(lambda: wire.to_client.resumptions == 1)
    assert levels[0] <= 1_000_000


async def test_reading_may_be_paused_from_within_a_delivery(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.to_server = Recorder(lambda _: wire.server.pause_reading())
    wire.start()
    wire.client.send([b"first"])
    await wire.to_server.wait_for_messages(1)
    wire.client.send([b"second"])
    await turn()
    assert wire.to_server.messages == [b"first"]
    wire.server.resume_reading()
    assert await wire.to_server.wait_for_messages(2) == [b"first", b"second"]


async def test_paused_end_can_still_send(wire: Wire) -> None:
    wire.server.pause_reading()
    wire.server.send([b"anyway"])
    assert await wire.to_client.wait_for_messages(1) == [b"anyway"]


# Sockets alone.

on_sockets = pytest.mark.parametrize("kind", SOCKETS, ids=str)


class CountingSocket:
    """What stands before a connection's socket and keeps the writes."""

    def __init__(self, socket: asyncio.Transport) -> None:
        self._socket = socket
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._socket.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@on_sockets
@pytest.mark.parametrize("end", ["client", "server"])
async def test_one_send_is_one_write(wire: Wire, end: str) -> None:
    sender, receiver = (wire.client, wire.to_server) if end == "client" else (wire.server, wire.to_client)
    await turn()
    sender._socket = counting = CountingSocket(sender._socket)
    messages = [b"x" * size for size in (0, 10, 1000, 20_000)] * 5
    sender.send(messages)
    assert await receiver.wait_for_messages(20) == messages
    assert len(counting.writes) == 1


@on_sockets
async def test_what_has_arrived_together_is_delivered_together(wire: Wire) -> None:
    wire.server.pause_reading()
    await turn()
    messages = [f"message {number:4}".encode() for number in range(1000)]
    for message in messages:
        wire.client.send([message])
    await turn()
    wire.server.resume_reading()
    assert await wire.to_server.wait_for_messages(1000) == messages
    # TLS cuts what it carries into records of 16 KiB.
    assert len(wire.to_server.reads) <= 3


@on_sockets
async def test_small_writes_are_not_held_back(wire: Wire, kind: Kind) -> None:
    for end in (wire.client, wire.server):
        raw: socket.socket = end._socket.get_extra_info("socket")
        if kind.medium != "unix":
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@on_sockets
async def test_peer_says_where_the_other_end_is(wire: Wire, kind: Kind, tmp_path: Path) -> None:
    if kind.medium == "unix":
        assert wire.client.peer == wire.server.peer == str(tmp_path / "socket")
    else:
        assert wire.client.peer == "{}:{}".format(*wire.server._socket.get_extra_info("sockname")[:2])
        assert wire.server.peer == "{}:{}".format(*wire.client._socket.get_extra_info("sockname")[:2])


@on_sockets
async def test_implementation_is_the_one_asked_for(wire: Wire, kind: Kind) -> None:
    assert wire.client.implementation == ("picows" if kind.is_client_fast else "websockets")
    assert wire.server.implementation == ("picows" if kind.is_server_fast else "websockets")


@on_sockets
async def test_input_beyond_its_limit_waits_until_it_is_lifted(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.server.limit_input(1000)
    wire.start()
    messages = [b"x" * 100_000 for _ in range(100)]
    wire.client.send(messages)
    # What one read or two of the socket bring, and no more.
    assert await wait_until_still(lambda: len(wire.to_server.messages)) < 20
    wire.server.pause_reading()
    wire.server.limit_input(None)
    assert await wait_until_still(lambda: len(wire.to_server.messages)) < 20
    wire.server.resume_reading()
    assert await wire.to_server.wait_for_messages(100) == messages


@on_sockets
async def test_connection_whose_input_is_spent_can_be_closed(open_pair: OpenWire) -> None:
    wire = await open_pair()
    wire.server.limit_input(1)
    wire.start()
    wire.client.send([b"more than that"])
    await wire.to_server.wait_for_messages(1)
    wire.server.resume_reading()
    wire.server.close(1000, "enough")
    assert await wire.to_client.wait_for_loss() == (1000, "enough")
    assert await wire.to_server.wait_for_loss() == (1000, "enough")
