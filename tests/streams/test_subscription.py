"""Delivery: catching up and live, fast and slow consumers, presence and silence."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams import Stream, StreamEngine, core_type
from itx_notebook.streams.batch import EventBatch
from tests.streams.support import Consumer, read_short


async def test_trace_when_replayed_followed_and_left_is_the_worked_example(stream: Stream) -> None:
    await stream.append({"type": "demo.x"})
    consumer = Consumer()
    subscription = await stream.subscribe(consumer, replay_after_offset=0)
    await stream.append({"type": "demo.x"})
    await subscription.unsubscribe()
    assert consumer.offsets == [[1, 2, 3, 4], [5]]
    assert [batch.stream_max_offset for batch in consumer.batches] == [4, 5]
    assert await read_short(stream, after_offset=3) == [
        (4, "subscriber-connected"),
        (5, "demo.x"),
        (6, "subscriber-disconnected"),
    ]
    assert (await stream.read())[-1].payload == {"subscriptionKey": subscription.key, "reason": "unsubscribed"}


async def test_first_batch_when_live_only_comes_before_subscribe_returns(stream: Stream) -> None:
    await stream.append({"type": "demo.x"})
    consumer = Consumer()
    subscription = await stream.subscribe(consumer)
    assert consumer.offsets == [[4]]
    assert subscription.stream_max_offset == 4
    assert consumer.batches[0].state == stream.load()


async def test_every_batch_when_catching_up_carries_the_state_of_now(stream: Stream) -> None:
    await stream.append_batch([{"type": "x"}] * 250)
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0)
    await consumer.wait_for(253)
    assert [len(offsets) for offsets in consumer.offsets] == [100, 100, 53]
    assert consumer.flat == list(range(1, 254))
    assert {(batch.state.event_count, batch.stream_max_offset) for batch in consumer.batches} == {(253, 253)}


async def test_states_when_asked_alone_come_at_once_and_coalesce(stream: Stream) -> None:
    await stream.append({"type": "x"})
    consumer = Consumer(slow=True)
    await stream.subscribe(consumer, events=False, replay_after_offset=0, presence=False)
    for _ in range(5):
        await stream.append({"type": "x"})
    consumer.let_go()
    await consumer.wait_for(8)
    assert [(batch.events, batch.stream_max_offset) for batch in consumer.batches] == [((), 3), ((), 8)]


async def test_observer_when_silent_leaves_no_trace(engine: StreamEngine, stream: Stream) -> None:
    consumer = Consumer()
    subscription = await stream.subscribe(consumer, presence=False)
    assert [batch.state.event_count for batch in consumer.batches] == [0]
    assert engine.count_streams("prj_1") == 0
    await stream.append({"type": "x"})
    await subscription.unsubscribe()
    await stream.append({"type": "y"})
    assert consumer.flat == [1, 2, 3]
    assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "x"), (4, "y")]


async def test_types_when_filtered_are_skipped_not_deferred(stream: Stream) -> None:
    await stream.append_batch([{"type": "a"}, {"type": "b"}] * 150)
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0, event_types=["a"], presence=False)
    await consumer.wait_for(301)
    await stream.append({"type": "b"})
    await stream.append({"type": "a"})
    await consumer.wait_for(304)
    assert consumer.flat == [*range(3, 303, 2), 304]


async def test_first_batch_when_everything_is_filtered_is_empty_with_the_state(stream: Stream) -> None:
    await stream.append({"type": "b"})
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0, event_types=["a"], presence=False)
    assert (consumer.offsets, consumer.batches[0].state.event_count) == ([[]], 3)


async def test_cursor_when_beyond_the_head_is_silent_until_passed(stream: Stream) -> None:
    await stream.append({"type": "x"})
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=5, presence=False)
    await stream.append({"type": "x"})
    await stream.append({"type": "x"})
    await stream.append({"type": "x"})
    assert consumer.offsets == [[], [6]]


async def test_consumer_when_slow_has_one_batch_under_way_and_misses_nothing(stream: Stream) -> None:
    slow, quick = Consumer(slow=True), Consumer()
    await stream.subscribe(slow, presence=False)
    await stream.subscribe(quick, presence=False)
    for n in range(300):
        await stream.append({"type": "x", "payload": n})
    assert len(slow.batches) == 1
    assert quick.flat[-1] == 302
    slow.let_go()
    await slow.wait_for(302)
    assert slow.flat == list(range(1, 303))
    assert slow.most_under_way == 1
    assert max(len(offsets) for offsets in slow.offsets) == 100


async def test_batch_when_longer_than_a_page_reaches_even_a_quick_consumer_in_pages(stream: Stream) -> None:
    consumer = Consumer()
    await stream.subscribe(consumer, presence=False)
    await stream.append_batch([{"type": "x"}] * 248)
    await consumer.wait_for_event(250)
    assert [len(offsets) for offsets in consumer.offsets] == [0, 100, 100, 50]
    assert consumer.flat == list(range(1, 251))


async def test_consumer_when_it_raises_is_dropped_and_the_append_stands(engine: StreamEngine, stream: Stream) -> None:
    def fail(batch: EventBatch) -> None:
        raise ValueError(batch.stream_max_offset)

    consumer = Consumer()
    broken = await stream.subscribe(fail, key="broken")
    await stream.subscribe(consumer, presence=False)
    await engine.settle()
    assert isinstance(broken.error, ValueError)
    assert broken.closed.is_set()
    event = await stream.append({"type": "x"})
    assert consumer.flat[-1] == event.offset
    assert (4, "subscriber-disconnected") in await read_short(stream)
    assert stream.load().connections_by_key == {}


async def test_consumer_when_its_answer_is_rejected_is_dropped(engine: StreamEngine, stream: Stream) -> None:
    async def fail(batch: EventBatch) -> None:
        raise ValueError("late")

    broken = await stream.subscribe(fail, presence=False)
    await asyncio.wait_for(broken.closed.wait(), 5)
    assert isinstance(broken.error, ValueError)


async def test_key_when_taken_again_replaces_the_old_connection(stream: Stream) -> None:
    await stream.append_batch([{"type": "x"}] * 8)
    old, new = Consumer(), Consumer()
    await stream.subscribe(old, key="k")
    await stream.subscribe(new, key=" k ")
    assert old.flat == [11]
    assert new.offsets == [[13]]
    assert (await stream.read())[11].payload == {"subscriptionKey": "k", "reason": "replaced"}


async def test_handle_when_old_never_closes_its_successor(stream: Stream) -> None:
    old = await stream.subscribe(Consumer(), key="k")
    consumer = Consumer()
    new = await stream.subscribe(consumer, key="k")
    await old.unsubscribe()
    event = await stream.append({"type": "x"})
    assert not new.closed.is_set()
    assert consumer.flat[-1] == event.offset


async def test_delivery_when_unsubscribed_ends_even_in_the_middle_of_a_replay(stream: Stream) -> None:
    await stream.append_batch([{"type": "x"}] * 1_000)
    consumer = Consumer(slow=True)
    subscription = await stream.subscribe(consumer, replay_after_offset=0, presence=False)
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    consumer.let_go()
    await stream.append({"type": "x"})
    assert len(consumer.batches) == 1


async def test_callback_when_it_unsubscribes_itself_gets_nothing_more(stream: Stream) -> None:
    seen: list[int] = []
    closing: list[asyncio.Task[None]] = []

    def once(batch: EventBatch) -> None:
        seen.append(batch.stream_max_offset)
        if len(seen) == 2:
            closing.append(asyncio.get_running_loop().create_task(subscription.unsubscribe()))

    subscription = await stream.subscribe(once, presence=False)
    await stream.append({"type": "x"})
    await asyncio.gather(*closing)
    await stream.append({"type": "x"})
    assert seen == [0, 3]


async def test_coroutine_callback_when_it_unsubscribes_itself_ends_in_peace(stream: Stream) -> None:
    async def once(batch: EventBatch) -> None:
        if batch.events:
            await subscription.unsubscribe()
            done.set()

    done = asyncio.Event()
    subscription = await stream.subscribe(once, presence=False)
    await stream.append({"type": "x"})
    await asyncio.wait_for(done.wait(), 5)
    assert subscription.error is None


async def test_replay_when_appends_go_on_meanwhile_has_no_gap_and_no_double(stream: Stream) -> None:
    await stream.append_batch([{"type": "x"}] * 500)
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0, presence=False)
    for _ in range(200):
        await stream.append({"type": "y"})
    await consumer.wait_for(702)
    assert consumer.flat == list(range(1, 703))


async def test_filter_when_it_skips_a_whole_replay_lets_the_loop_turn_between_pages(stream: Stream) -> None:
    await stream.append_batch([*([{"type": "b"}] * 2_000), {"type": "a"}])
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0, event_types=["a"], presence=False)
    assert consumer.offsets == [[]]
    await consumer.wait_for_event(2_003)
    assert consumer.offsets == [[], [2_003]]


async def test_types_when_filtered_live_get_one_batch_an_append_and_none_for_others(stream: Stream) -> None:
    await stream.append({"type": "b"})
    consumer = Consumer()
    await stream.subscribe(consumer, event_types=["a"], presence=False)
    await stream.append_batch([{"type": "a"}, {"type": "b"}, {"type": "a"}])
    await stream.append({"type": "b"})
    await stream.append({"type": "a"})
    assert consumer.offsets == [[], [4, 6], [8]]
    assert [batch.stream_max_offset for batch in consumer.batches] == [3, 6, 8]


async def test_types_when_a_star_is_among_them_are_all_and_when_empty_none(stream: Stream) -> None:
    await stream.append({"type": "x"})
    every, none = Consumer(), Consumer()
    await stream.subscribe(every, replay_after_offset=0, event_types=["y", "*"], presence=False)
    await stream.subscribe(none, replay_after_offset=0, event_types=[], presence=False)
    await stream.append({"type": "x"})
    assert (every.offsets, none.offsets) == ([[1, 2, 3], [4]], [[]])


async def test_consumer_when_it_raises_a_cancellation_does_not_end_the_append(stream: Stream) -> None:
    def give_up(batch: EventBatch) -> None:
        if batch.events:
            raise asyncio.CancelledError

    consumer = Consumer()
    broken = await stream.subscribe(give_up, presence=False)
    await stream.subscribe(consumer, presence=False)
    event = await asyncio.wait_for(stream.append({"type": "x"}), 5)
    assert consumer.flat == [1, 2, event.offset]
    assert isinstance(broken.error, asyncio.CancelledError)


async def test_consumer_when_its_answer_is_cancelled_is_dropped(stream: Stream) -> None:
    def take(batch: EventBatch) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.cancel()
        return answer

    broken = await stream.subscribe(take, presence=False)
    await asyncio.wait_for(broken.closed.wait(), 5)
    assert isinstance(broken.error, asyncio.CancelledError)


async def test_coroutine_callback_when_left_before_it_began_never_begins_and_warns_nobody(stream: Stream) -> None:
    begun: list[int] = []

    async def take(batch: EventBatch) -> None:
        begun.append(batch.stream_max_offset)

    subscription = await stream.subscribe(take, presence=False)
    await subscription.unsubscribe()
    await asyncio.sleep(0)
    gc.collect()
    assert begun == []


async def test_first_batch_when_live_only_on_a_stream_asleep_is_the_connected_fact_alone(home: Path) -> None:
    for expected in ([3], [6]):
        engine = StreamEngine.open(home)
        consumer = Consumer()
        subscription = await engine.stream("p", "/").subscribe(consumer)
        assert consumer.offsets == [expected]
        await subscription.unsubscribe()
        await engine.close()


async def test_key_when_taken_by_two_at_once_leaves_one_connection(stream: Stream) -> None:
    await stream.append({"type": "x"})
    consumers = [Consumer() for _ in range(3)]
    await stream.subscribe(consumers[0], key="k")
    subscriptions = await asyncio.gather(*(stream.subscribe(consumer, key="k") for consumer in consumers[1:]))
    event = await stream.append({"type": "y"})
    live = [consumer for consumer in consumers if event.offset in consumer.flat]
    assert [subscription.closed.is_set() for subscription in subscriptions].count(False) == 1
    assert len(live) == 1
    assert list(stream.load().connections_by_key) == ["k"]


async def test_cursor_when_negative_replays_this_stream_and_no_other(engine: StreamEngine, stream: Stream) -> None:
    await engine.stream("prj_2", "/theirs").append({"type": "secret"})
    await stream.append({"type": "mine"})
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=-5, presence=False)
    assert consumer.offsets == [[1, 2, 3]]
    assert await read_short(stream, after_offset=-5) == [(1, "created"), (2, "woken"), (3, "mine")]


async def test_subscribe_when_the_engine_is_closed_is_refused(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    await engine.close()
    for presence in (True, False):
        with pytest.raises(ItxError, match="engine is closed"):
            await stream.subscribe(Consumer(), presence=presence)


async def test_subscribe_when_cancelled_leaves_no_connection_behind(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    consumer = Consumer()
    task = asyncio.create_task(stream.subscribe(consumer))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.settle()
    seen = len(consumer.batches)
    await stream.append({"type": "y"})
    assert len(consumer.batches) == seen
    assert stream.load().connections_by_key == {}


async def test_close_when_a_consumer_is_in_the_middle_of_a_batch_lets_it_go(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append_batch([{"type": "x"}] * 500)
    slow, quick = Consumer(slow=True), Consumer()
    subscriptions = [await stream.subscribe(consumer, replay_after_offset=0) for consumer in (slow, quick)]
    await engine.close()
    slow.let_go()
    await asyncio.sleep(0)
    assert [subscription.closed.is_set() for subscription in subscriptions] == [True, True]
    assert len(slow.batches) == 1
    engine = StreamEngine.open(home)
    assert list(engine.stream("p", "/a").load().connections_by_key) == [each.key for each in subscriptions]
    await engine.stream("p", "/a").wake()
    assert engine.stream("p", "/a").load().connections_by_key == {}
    await engine.close()


class Transport:
    """A consumer behind a transport that can die."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        self.on_death: Callable[[], object] | None = None

    def __call__(self, batch: EventBatch) -> None:
        self.consumer(batch)

    def on_broken(self, callback: Callable[[], object]) -> None:
        self.on_death = callback

    def die(self) -> None:
        assert self.on_death is not None
        self.on_death()


async def test_connection_when_its_transport_dies_is_dropped_with_that_reason(
    engine: StreamEngine, stream: Stream
) -> None:
    transport = Transport()
    subscription = await stream.subscribe(transport, key="remote")
    transport.die()
    transport.die()
    assert subscription.closed.is_set()
    await engine.settle()
    await stream.append({"type": "x"})
    assert transport.consumer.flat == [3]
    assert [event.payload for event in await stream.read(after_offset=3, limit=1)] == [
        {"subscriptionKey": "remote", "reason": "rpc-broken"}
    ]
    assert stream.load().connections_by_key == {}


async def test_transport_when_it_dies_after_it_was_replaced_ends_only_its_own(stream: Stream) -> None:
    old, new = Transport(), Transport()
    await stream.subscribe(old, key="k")
    successor = await stream.subscribe(new, key="k")
    old.die()
    assert not successor.closed.is_set()


async def test_sink_when_it_only_looks_as_if_it_could_break_is_served_all_the_same(stream: Stream) -> None:
    class Pretender(Transport):
        def on_broken(self, callback: Callable[[], object]) -> None:
            raise RuntimeError("not really")

    pretender = Pretender()
    subscription = await stream.subscribe(pretender)
    await stream.append({"type": "x"})
    assert (pretender.consumer.flat, subscription.closed.is_set()) == ([3, 4], False)


async def test_descriptor_when_malformed_is_refused_before_anything_is_registered(stream: Stream) -> None:
    await stream.append({"type": "x"})
    for bad in ({"processor": {"slug": "s"}}, {"description": 7}, {"incarnationId": " "}, "who"):
        with pytest.raises(ItxError, match="Subscriber") as caught:
            await stream.subscribe(Consumer(), key="k", subscriber=bad)  # type: ignore[arg-type]  # what is tested
        assert caught.value.code == "BAD_REQUEST"
    assert (stream.connections, stream.load().event_count) == ((), 3)


async def test_key_when_configured_is_reserved(stream: Stream) -> None:
    subscriber = {"type": "callable", "callable": {"type": "elsewhere"}}
    configured = {"subscriptionKey": "mine", "subscriber": subscriber}
    await stream.append({"type": core_type("subscription-configured"), "payload": configured})
    with pytest.raises(ItxError, match=r'subscriptionKey "mine" is reserved for a configured subscriber'):
        await stream.subscribe(Consumer(), key=" mine ")
    assert stream.connections == ()


async def test_batch_when_many_keep_up_is_one_and_so_is_what_is_made_of_it(stream: Stream) -> None:
    made: list[int] = []

    def serialise(batch: EventBatch) -> bytes:
        made.append(batch.stream_max_offset)
        return msgspec.json.encode(batch.public)

    wire: list[bytes] = []
    consumers = [Consumer() for _ in range(3)]
    for consumer in consumers:
        await stream.subscribe(consumer, presence=False)
        await stream.subscribe(lambda batch: wire.append(batch.share(serialise)), presence=False)
    made.clear()
    wire.clear()
    await stream.append({"type": "x"})
    assert made == [3]
    assert len(wire) == 3
    assert {id(text) for text in wire} == {id(wire[0])}
    assert {id(consumer.batches[-1]) for consumer in consumers} == {id(consumers[0].batches[-1])}
    assert consumers[0].batches[-1].public.state == stream.get_state()


async def test_filter_when_asked_tells_of_what_it_skipped(stream: Stream) -> None:
    scanned: list[tuple[int, int]] = []

    def take(batch: EventBatch) -> None:
        scanned.append((len(batch.events), batch.scanned_through))

    await stream.append_batch([{"type": "b"}] * 248)
    subscription = await stream.subscribe(
        take, replay_after_offset=0, event_types=["a"], presence=False, tells_scans=True
    )
    while (pump := subscription._pump) is not None:
        await asyncio.wait([pump])
    await stream.append({"type": "a"})
    await stream.append({"type": "b"})
    assert scanned == [(0, 100), (0, 200), (0, 250), (1, 251), (0, 252)]


async def test_state_of_a_batch_at_the_live_edge_is_the_streams_own(stream: Stream) -> None:
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0)
    for event in ({"type": "x"}, {"type": core_type("metadata-updated"), "payload": {"metadata": {"a": 1}}}):
        committed = await stream.append(event)
        batch = consumer.batches[-1]
        assert batch.state == stream.get_runtime_state().core_processor_state
        assert batch.state.event_count == batch.state.max_offset == batch.stream_max_offset == committed.offset


async def test_keys_when_left_out_are_random_and_their_connections_their_own(stream: Stream) -> None:
    first, second = Consumer(), Consumer()
    one = await stream.subscribe(first)
    other = await stream.subscribe(second, key="  ")
    keys = {str(uuid.UUID(each.key)) for each in (one, other)}
    assert keys == {one.key, other.key}
    await one.unsubscribe()
    event = await stream.append({"type": "x"})
    assert (first.flat[-1] < event.offset, second.flat[-1]) == (True, event.offset)


async def test_sink_when_it_answers_with_anything_that_cannot_be_awaited_is_fine(stream: Stream) -> None:
    seen: list[int] = []

    def take(batch: EventBatch) -> object:
        seen.append(batch.stream_max_offset)
        return batch.stream_max_offset

    await stream.subscribe(take, presence=False)  # type: ignore[arg-type]  # callbacks of people answer with anything
    await stream.append({"type": "x"})
    await stream.append({"type": "x"})
    assert seen == [0, 3, 4]
