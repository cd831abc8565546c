from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.client import following as following_module
from itx_notebook.client.following import Following
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.errors import ItxConnectionError, ItxError, project_not_found
from itx_notebook.testing.clock import FakeClock, settle
from itx_notebook.types import ADMIN, Event, StreamEventBatch
from tests.client.conftest import Seen
from tests.client.place import Place, start
from tests.support import get_async_refusal, let_engine_work


@pytest.fixture
def stream(itx: RemoteItx) -> RemoteStream:
    return itx.streams.get("/a")


@pytest.fixture
def append(deployment: Deployment) -> Callable[..., Awaitable[Any]]:
    """Append events at the other end, whether there is a connection or not."""
    server = get_server_itx(deployment, "demo", ADMIN).streams.get("/a")

    async def append(*types: str) -> None:
        await server.append_batch([Event(type=each) for each in types])

    return append


async def reconnect(place: Place, clock: FakeClock) -> None:
    """Cut the wire; a new one is dialled at once, because the old one was steady."""
    await clock.advance(20)
    await place.cut()
    await settle()


# -- each event once, in order ---------------------------------------------------------------------------------------


async def test_replays_and_follows(stream: RemoteStream, append: Any, seen: Seen) -> None:
    await append("demo.a", "demo.b")
    async with _subscribed(stream, seen):
        await seen.until_offset(5)
        await append("demo.c")
        await seen.until_offset(6)
    assert seen.offsets == [1, 2, 3, 4, 5, 6]


def _subscribed(stream: RemoteStream, seen: Any, **options: Any) -> Any:
    return _Subscribed(stream, seen, options)


class _Subscribed:
    def __init__(self, stream: RemoteStream, seen: Any, options: dict[str, Any]) -> None:
        self._stream, self._seen, self._options = stream, seen, options

    async def __aenter__(self) -> Following:
        self._following = await self._stream.subscribe(self._seen, **self._options)
        return self._following

    async def __aexit__(self, *exc_info: object) -> None:
        await self._following.unsubscribe()


async def test_opened_before_there_is_a_connection_it_waits_and_subscribes_once(peer: Peer, seen: Seen) -> None:
    gate = asyncio.Event()
    peer.place.outcomes = [OSError("not yet"), gate]
    following, opening = await peer.follow(seen)
    assert (opening.done(), following.is_live, peer.cursors) == (False, False, [])
    await peer.clock.advance(0.5)
    gate.set()
    await settle()
    await peer.send(batch(1, 2))
    await opening
    assert (following.is_live, peer.cursors, seen.offsets) == (True, [0], [1, 2])
    following.end()


async def test_says_at_once_that_it_is_not_live_and_again_when_it_is(
    stream: RemoteStream, append: Any, seen: Seen, place: Place, clock: FakeClock
) -> None:
    await append("demo.a")
    async with _subscribed(stream, seen, presence=False) as following:
        assert following.is_live
        gate = asyncio.Event()
        place.outcomes = [gate]
        await clock.advance(20)
        place.pairs[-1][0]._transport.abort()
        while place.pairs[-1][0].error is None:
            assert following.is_live
            await asyncio.sleep(0)
        # Not a turn of the loop later.
        assert not following.is_live
        gate.set()
        await settle()
        assert following.is_live
        await append("demo.b")
        await seen.until_type("demo.b")
    assert not following.is_live


@pytest.mark.parametrize("after_offset", ["start", 2, "end"])
@pytest.mark.parametrize("presence", [True, False])
async def test_goes_on_where_it_was_after_a_reconnection(
    stream: RemoteStream,
    append: Any,
    seen: Seen,
    place: Place,
    clock: FakeClock,
    after_offset: int | str,
    presence: bool,
) -> None:
    await append("demo.a")
    async with _subscribed(stream, seen, after_offset=after_offset, presence=presence):
        await append("demo.b")
        await seen.until_offset(4)
        for round_ in range(1, 4):
            place.outcomes = [OSError("down")]
            await reconnect(place, clock)
            await append("demo.gap", "demo.gap")
            await clock.advance(0.5)
            await append("demo.live")
            await seen.until_type("demo.live", round_)
    first = {"start": 1, 2: 3}.get(after_offset, seen.offsets[0])
    assert seen.offsets == list(range(first, first + len(seen.offsets)))
    assert [event.type for event in seen.events if event.type in ("demo.gap", "demo.live")] == [
        "demo.gap",
        "demo.gap",
        "demo.live",
    ] * 3


async def test_live_only_that_saw_nothing_before_the_cut_misses_nothing_after_it(
    stream: RemoteStream, append: Any, seen: Seen, place: Place, clock: FakeClock
) -> None:
    await append("demo.before")
    async with _subscribed(stream, seen, after_offset="end", presence=False):
        place.outcomes = [OSError("down")]
        await reconnect(place, clock)
        await append("demo.gap")
        await clock.advance(0.5)
        await seen.until_offset(4)
    assert [event.type for event in seen.events] == ["demo.gap"]


async def test_a_cut_in_the_middle_of_a_replay_neither_loses_nor_repeats(
    stream: RemoteStream, append: Any, seen: Seen, place: Place, clock: FakeClock
) -> None:
    for _ in range(10):
        await append(*["demo.a"] * 100)
    async with _subscribed(stream, seen, presence=False):
        await seen.until_offset(1)
        await reconnect(place, clock)
        await seen.until_offset(1002)
    assert seen.offsets == list(range(1, 1003))


async def test_only_the_types_asked_for_are_resumed(
    stream: RemoteStream, append: Any, seen: Seen, place: Place, clock: FakeClock
) -> None:
    async with _subscribed(stream, seen, event_types=["demo.b"]):
        await append("demo.a", "demo.b", "demo.a")
        await seen.until_offset(5)
        await reconnect(place, clock)
        await append("demo.a", "demo.b")
        await seen.until_offset(6)
    assert {event.type for event in seen.events} == {"demo.b"}
    assert len(seen.offsets) == 2


# A peer that can be made to do anything, for what an honest one does not do.


class Peer:
    """A stream whose subscriptions a test serves by hand, over a connection of its own."""

    def __init__(self, clock: FakeClock) -> None:
        self.cursors: list[Any] = []
        self.ears: list[Any] = []
        self.refusals: list[Exception] = []
        self.head = 0
        self.looks = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.clock = clock
        self.place = Place(lambda: PeerStream(self))
        self.connection = self.place.connect(clock)

    async def follow(
        self, seen: Any, *, after_offset: int | str = "start", **options: Any
    ) -> tuple[Following, asyncio.Task[Any]]:
        """A following of it that is being opened."""
        following = Following(
            self.connection, lambda epoch: epoch.itx, seen, after_offset=after_offset, options=options
        )
        return following, await start(following.open())

    async def send(self, *batches: dict[str, Any]) -> None:
        """Call the function that subscribed last."""
        for each in batches:
            await self.ears[-1](each)


class PeerSubscription(rpc.RpcTarget):
    def unsubscribe(self) -> None: ...


class PeerStream(rpc.RpcTarget, naming="camel"):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def describe(self) -> None: ...

    def read(self, options: Any) -> Any:
        return [{"createdAt": "a"}]

    async def get_state(self) -> Any:
        self._peer.looks += 1
        await self._peer.gate.wait()
        return batch(head=self._peer.head)["state"]

    def subscribe(self, ear: Any, options: Any) -> Any:
        if self._peer.refusals:
            raise self._peer.refusals.pop(0)
        self._peer.cursors.append(options["afterOffset"])
        self._peer.ears.append(ear.dup())
        return PeerSubscription()


def batch(*offsets: int, head: int | None = None) -> dict[str, Any]:
    events = [{"type": "t", "offset": offset, "createdAt": "2026-06-10T09:00:00.000Z"} for offset in offsets]
    top = head if head is not None else max(offsets, default=0)
    state = {"namespace": "n", "path": "/a", "eventCount": top, "childPaths": [], "metadata": {}}
    return {"events": events, "state": state, "streamMaxOffset": top}


@pytest.fixture
async def peer(clock: FakeClock) -> AsyncIterator[Peer]:
    peer = Peer(clock)
    yield peer
    await peer.connection.close()
    await peer.place.close()


async def test_a_gap_is_asked_for_and_what_came_behind_it_waits(peer: Peer, seen: Seen) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1, 2))
    await opening
    await peer.send(batch(5, 6))
    await settle()
    assert peer.cursors == [0, 2]
    # The rest of the round that is over is not heard.
    await peer.ears[0](batch(7))
    await peer.send(batch(3, 4, 5, 6))
    await peer.send(batch(7))
    assert seen.offsets == [1, 2, 3, 4, 5, 6, 7]
    await following.unsubscribe()


@pytest.mark.parametrize("hole", [(1, 3), (2,)], ids=str)
async def test_a_hole_inside_or_at_the_start_counts_too(peer: Peer, seen: Seen, hole: tuple[int, ...]) -> None:
    following, _ = await peer.follow(seen)
    await peer.send(batch(*hole))
    await settle()
    assert seen.offsets == []
    await following.unsubscribe()


async def test_a_peer_that_keeps_leaving_holes_is_asked_at_intervals(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    for _ in range(40):
        await peer.send(batch(9))
        await clock.advance(1)
    assert 4 <= len(peer.cursors) <= 7
    await following.unsubscribe()


async def test_what_was_delivered_is_cut_off_a_batch_and_empty_ones_are_not_repeated(peer: Peer, seen: Seen) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch())
    await opening
    for each in (batch(), batch(1, 2), batch(1, 2), batch(2, 3), batch(head=3)):
        await peer.send(each)
    assert [[event.offset for event in each.events] for each in seen.batches] == [[], [1, 2], [3]]
    await following.unsubscribe()


async def test_what_is_no_batch_ends_it(peer: Peer, seen: Seen) -> None:
    following, _ = await peer.follow(seen)
    await peer.send({"events": "none"})
    assert isinstance(following.error, ItxError)
    assert "not a batch" in following.error.message
    assert following.closed.is_set()


async def test_a_stream_that_sends_no_first_batch_is_followed_all_the_same(
    peer: Peer, seen: Seen, clock: FakeClock
) -> None:
    following, opening = await peer.follow(seen, after_offset="end")
    await clock.advance(4.9)
    assert not opening.done()
    await clock.advance(0.1)
    assert opening.done()
    assert peer.cursors == ["end"]
    await peer.send(batch(7))
    assert seen.offsets == [7]
    await following.unsubscribe()


async def test_a_stream_that_ends_delivery_without_a_word_is_found_out(
    peer: Peer, seen: Seen, clock: FakeClock
) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1, 2))
    await opening
    peer.head = 2
    await clock.advance(30 * 3)
    # It is quiet, and rightly so.
    assert (peer.looks, peer.cursors) == (3, [0])
    peer.head = 4
    await clock.advance(30)
    assert peer.cursors == [0, 2]
    await peer.send(batch(3, 4))
    assert seen.offsets == [1, 2, 3, 4]
    await following.unsubscribe()
    await clock.advance(90)
    assert peer.looks == 4


async def test_a_delivery_during_the_look_is_no_stall(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    peer.head = 3
    peer.gate.clear()
    await clock.advance(30)
    await peer.send(batch(2, 3))
    peer.gate.set()
    await settle()
    assert peer.cursors == [0]
    await following.unsubscribe()


async def test_a_filter_that_skips_all_is_no_stall(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    following, opening = await peer.follow(seen, eventTypes=["t"])
    await peer.send(batch(1))
    await opening
    peer.head = 9
    await clock.advance(90)
    assert (peer.cursors, peer.looks) == ([0], 0)
    await following.unsubscribe()


# -- slow consumers --------------------------------------------------------------------------------------------------


async def test_a_slow_consumer_gets_one_batch_at_a_time_in_order(peer: Peer, seen: Seen) -> None:
    seen.gate.clear()
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    for offset in range(2, 6):
        await peer.send(batch(offset))
    assert seen.offsets == [1]
    seen.gate.set()
    await settle()
    assert seen.offsets == [1, 2, 3, 4, 5]
    assert len(seen.batches) == 5
    await following.unsubscribe()


@pytest.mark.parametrize(("limit", "value"), [("_MAX_WAITING_EVENTS", 5), ("_MAX_WAITING_BYTES", 300)])
async def test_a_consumer_that_lags_leaves_the_rest_at_the_stream(
    peer: Peer, seen: Seen, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(following_module, limit, value)
    seen.gate.clear()
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    for offset in range(2, 30):
        await peer.send(batch(offset))
    kept = len(following._queue)
    assert kept < 8
    assert peer.cursors == [0]
    seen.gate.set()
    await settle()
    # It went on when it had caught up with what was kept, and not a moment sooner.
    assert seen.offsets == list(range(1, kept + 2))
    assert peer.cursors == [0, kept + 1]
    await following.unsubscribe()


async def test_a_consumer_of_states_that_lags_is_told_the_newest(peer: Peer, seen: Seen) -> None:
    seen.gate.clear()
    following, opening = await peer.follow(seen, events=False)
    for head in range(1, 50):
        await peer.send(batch(head=head))
    await opening
    seen.gate.set()
    await settle()
    assert [each.state.event_count for each in seen.batches] == [1, 49]
    await following.unsubscribe()


async def test_a_slow_consumer_over_a_real_stream_misses_nothing(
    stream: RemoteStream, append: Any, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setattr(following_module, "_MAX_WAITING_EVENTS", 150)

    async def slowly(received: StreamEventBatch) -> None:
        seen(received)
        await asyncio.sleep(0)

    for _ in range(10):
        await append(*["demo.a"] * 100)
    async with _subscribed(stream, slowly, presence=False):
        await seen.until_offset(1002)
    assert seen.offsets == list(range(1, 1003))


# -- states ----------------------------------------------------------------------------------------------------------


async def test_state_only_catches_up_after_a_reconnection_and_repeats_no_state(
    stream: RemoteStream, append: Any, seen: Seen, place: Place, clock: FakeClock
) -> None:
    await append("demo.a")
    async with _subscribed(stream, seen, events=False, presence=False):
        await reconnect(place, clock)
        await settle()
        assert [each.state.event_count for each in seen.batches] == [3]
        place.outcomes = [OSError("down")]
        await reconnect(place, clock)
        await append("demo.gap", "demo.gap")
        await clock.advance(0.5)
        await seen.until_count(5)
    assert [each.state.event_count for each in seen.batches] == [3, 5]
    assert seen.events == []


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_what_the_consumer_raises_ends_it_and_is_kept(
    stream: RemoteStream, append: Any, deployment: Deployment, is_coroutine: bool
) -> None:
    failure = RuntimeError("mine")

    def fail(_: StreamEventBatch) -> Any:
        if not is_coroutine:
            raise failure
        return fail_later()

    async def fail_later() -> None:
        raise failure

    following = await stream.subscribe(fail)
    await following.closed.wait()
    assert following.error is failure
    await append("demo.a")
    await let_engine_work(deployment)
    server = get_server_itx(deployment, "demo", ADMIN).streams.get("/a")
    assert (await server.get_runtime_state()).runtime.connections == {}


async def test_after_unsubscribing_no_batch_begins_and_the_other_end_knows(
    stream: RemoteStream, append: Any, seen: Seen
) -> None:
    following = await stream.subscribe(seen, after_offset="end")
    await following.unsubscribe()
    await following.unsubscribe()
    count = len(seen.batches)
    await append("demo.a")
    types = [event.type.rpartition("/")[2] for event in await stream.read(presence=False)]
    assert types == ["created", "woken", "subscriber-connected", "subscriber-disconnected", "demo.a"]
    assert len(seen.batches) == count
    assert (following.closed.is_set(), following.error) == (True, None)


async def test_a_consumer_may_unsubscribe_itself(peer: Peer) -> None:
    taken: list[int] = []

    async def take(received: StreamEventBatch) -> None:
        taken.append(received.events[0].offset)
        if len(taken) == 2:
            await following.unsubscribe()

    following, opening = await peer.follow(take)
    for offset in range(1, 6):
        await peer.send(batch(offset))
    await settle()
    assert taken == [1, 2]
    assert opening.done()


async def test_unsubscribing_while_it_is_opened_leaves_no_ghost(
    stream: RemoteStream, deployment: Deployment, seen: Seen
) -> None:
    opening = asyncio.ensure_future(stream.subscribe(seen))
    for _ in range(3):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    await let_engine_work(deployment)
    await stream.get_state()
    await let_engine_work(deployment)
    server = get_server_itx(deployment, "demo", ADMIN).streams.get("/a")
    assert (await server.get_runtime_state()).runtime.connections == {}


async def test_a_subscription_under_the_same_key_ends_the_first_for_good(
    stream: RemoteStream, append: Any, seen: Seen
) -> None:
    first = await stream.subscribe(seen, key="k")
    second_seen = Seen()
    second = await stream.subscribe(second_seen, key="k")
    await first.closed.wait()
    assert first.error is None
    await append("demo.a")
    await second_seen.until_offset(6)
    assert not second.closed.is_set()
    await second.unsubscribe()


async def test_a_refusal_is_what_opening_raises(peer: Peer, seen: Seen) -> None:
    peer.refusals = [ItxError("no", code="INTERNAL")]
    _, opening = await peer.follow(seen)
    error = await get_async_refusal(opening)
    assert error.message == "no"


async def test_a_refusal_in_a_later_round_ends_it(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    peer.refusals = [project_not_found("demo")]
    await reconnect(peer.place, clock)
    await following.closed.wait()
    assert isinstance(following.error, ItxError)
    assert (following.error.code, following.error.message) == ("NOT_FOUND", "Project demo not found.")


async def test_an_engine_that_is_restarting_is_asked_again(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    peer.refusals = [ItxError("The streams engine is closed.", code="INTERNAL")] * 2
    await reconnect(peer.place, clock)
    await clock.advance(1 + 2)
    assert peer.cursors == [0, 1]
    assert not following.closed.is_set()
    await following.unsubscribe()


async def test_credentials_refused_for_good_end_it(
    stream: RemoteStream, seen: Seen, place: Place, clock: FakeClock
) -> None:
    following = await stream.subscribe(seen)
    place.outcomes = [rpc.HandshakeError("HTTP 401", status=401)] * 2
    await reconnect(place, clock)
    await following.closed.wait()
    assert isinstance(following.error, ItxConnectionError)
    assert following.error.is_final


async def test_opening_without_a_connection_has_an_end(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    peer.place.outcomes = [OSError("down")] * 9
    _, opening = await peer.follow(seen)
    await clock.advance(30)
    assert "down" in (await get_async_refusal(opening)).message


async def test_kill_and_reset_end_it_with_what_the_engine_says(stream: RemoteStream, append: Any) -> None:
    for end, message in ((stream.kill, "kill requested"), (stream.reset, "reset requested")):
        following = await stream.subscribe(Seen())
        await end()
        await following.closed.wait()
        assert isinstance(following.error, ItxError)
        assert following.error.message == message


@pytest.mark.parametrize("events_of_the_new_life", [1, 20])
async def test_a_reset_during_a_gap_is_told_when_the_connection_is_back(
    stream: RemoteStream,
    append: Any,
    seen: Seen,
    deployment: Deployment,
    place: Place,
    clock: FakeClock,
    events_of_the_new_life: int,
) -> None:
    await append("demo.a", "demo.b", "demo.c")
    following = await stream.subscribe(seen)
    await seen.until_offset(5)
    place.outcomes = [OSError("down")]
    await reconnect(place, clock)
    server = get_server_itx(deployment, "demo", ADMIN).streams.get("/a")
    await server.reset()
    # Until the wall clock shows another millisecond the two lives could not be told apart.
    await append(*["demo.new"] * events_of_the_new_life)
    await clock.advance(0.5)
    await following.closed.wait()
    assert isinstance(following.error, ItxError)
    assert "reset" in following.error.message
    assert [event.type for event in seen.events if event.type == "demo.new"] == []


async def test_a_peer_that_cannot_tell_why_it_let_go_is_asked_again(peer: Peer, seen: Seen, clock: FakeClock) -> None:
    following, opening = await peer.follow(seen)
    await peer.send(batch(1))
    await opening
    rpc.dispose(peer.ears[0])
    await settle()
    assert not following.closed.is_set()
    assert peer.cursors == [0, 1]
    await following.unsubscribe()
