"""One processor without an engine: what a batch does, and what one that fails leaves as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from itx_notebook.errors import ItxError, ItxTimeoutError
from itx_notebook.streams.processors import (
    EventCatalog,
    EventType,
    Processor,
    ProcessorBatch,
    ProcessorContract,
    ProcessorRunner,
    ReducedEvent,
)
from itx_notebook.testing.clock import FakeClock, settle
from itx_notebook.types import UNSET, Event, StreamEvent

Step = ReducedEvent[dict[str, Any]]
Batch = ProcessorBatch[dict[str, Any]]


class Snapshots:
    """A store of one snapshot, which may refuse."""

    def __init__(self, body: bytes | None = None) -> None:
        self.body = body
        self.writes: list[Any] = []
        self.reads = 0
        self.refusals = 0

    async def read(self) -> bytes | None:
        self.reads += 1
        if self.refusals:
            self.refusals -= 1
            raise OSError("cannot be read")
        return self.body

    async def write(self, body: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("cannot be written")
        self.body = body
        self.writes.append(json.loads(body))


class Log:
    """A stream that only takes."""

    def __init__(self) -> None:
        self.appended: list[Event] = []

    async def append(self, event: Event) -> StreamEvent:
        self.appended.append(event)
        return StreamEvent(type=event.type, offset=len(self.appended), created_at="")


class Counting(Processor[dict[str, Any]]):
    """Counts; what its hooks do is the test's."""

    contract = ProcessorContract(
        slug="count",
        version="1.0.0",
        initial_state={"count": 0},
        deps=(EventCatalog("test", {"n": EventType(payload=int), "poison": EventType()}),),
        consumes=("n", "poison"),
    )

    def __init__(self, hook: Callable[[Step, Batch], Awaitable[object] | None] | None = None) -> None:
        self.hook = hook
        self.seen: list[int] = []
        self.batches: list[Batch] = []

    def reduce(self, state: dict[str, Any], event: StreamEvent) -> dict[str, Any] | None:
        return {"count": state["count"] + 1} if event.type == "n" else None

    def process_batch(self, batch: Batch) -> Awaitable[object] | None:
        self.batches.append(batch)
        return super().process_batch(batch)

    def process_event(self, step: Step, batch: Batch) -> Awaitable[object] | None:
        self.seen.append(step.event.offset)
        return None if self.hook is None else self.hook(step, batch)


def make(
    processor: Processor[Any] | None = None, snapshots: Snapshots | None = None, clock: FakeClock | None = None
) -> ProcessorRunner[Any]:
    return ProcessorRunner(processor or Counting(), Log(), snapshots or Snapshots(), clock or FakeClock())


def events(*offsets: int, kind: str = "n") -> list[StreamEvent]:
    return [
        StreamEvent(type=kind, payload=n if kind == "n" else UNSET, offset=n, created_at="2026-06-10T09:00:00.000Z")
        for n in offsets
    ]


async def ingest(runner: ProcessorRunner[Any], *batch: StreamEvent) -> bool:
    return await runner.ingest(batch, stream_max_offset=batch[-1].offset)


async def test_batch_is_folded_then_acted_on_then_stored_once_then_remembered() -> None:
    snapshots = Snapshots()
    order: list[Any] = []

    def hook(step: Step, batch: Batch) -> None:
        order.append((step.event.offset, step.previous_state, step.state, runner.checkpoint_offset, snapshots.body))

    processor = Counting(hook)
    runner = make(processor, snapshots)
    assert await ingest(runner, *events(1, 2), *events(3, kind="other"))
    assert order == [(1, {"count": 0}, {"count": 1}, 0, None), (2, {"count": 1}, {"count": 2}, 0, None)]
    assert snapshots.writes == [{"offset": 3, "state": {"count": 2}}]
    assert (runner.state, runner.checkpoint_offset) == ({"count": 2}, 3)
    (batch,) = processor.batches
    assert (batch.previous_state, batch.state, batch.checkpoint_offset) == ({"count": 0}, {"count": 2}, 3)
    assert [event.offset for event in batch.events] == [1, 2, 3]


async def test_batch_of_others_advances_the_checkpoint_without_hooks() -> None:
    snapshots = Snapshots()
    processor = Counting()
    runner = make(processor, snapshots)
    await ingest(runner, *events(1, 2, kind="other"))
    assert (processor.batches, snapshots.writes) == ([], [{"offset": 2, "state": {"count": 0}}])


async def test_batch_when_delivered_again_does_nothing_and_is_not_written() -> None:
    snapshots = Snapshots()
    processor = Counting()
    runner = make(processor, snapshots)
    await ingest(runner, *events(1, 2))
    assert not await ingest(runner, *events(1, 2))
    assert (processor.seen, len(snapshots.writes)) == ([1, 2], 1)


async def test_snapshot_when_there_is_one_is_gone_on_from() -> None:
    snapshots = Snapshots(b'{"offset": 5, "state": {"count": 5}}')
    processor = Counting()
    runner = make(processor, snapshots)
    assert await runner.load() == 5
    assert not await ingest(runner, *events(4))
    await ingest(runner, *events(4, 5, 6))
    assert (processor.seen, runner.state, runner.checkpoint_offset) == ([6], {"count": 6}, 6)


async def test_reduce_when_it_raises_leaves_everything_as_it_was() -> None:
    class Poisoned(Counting):
        def reduce(self, state: dict[str, Any], event: StreamEvent) -> dict[str, Any] | None:
            if event.type == "poison":
                raise ValueError("poison")
            return super().reduce(state, event)

    snapshots = Snapshots()
    processor = Poisoned()
    runner = make(processor, snapshots)
    with pytest.raises(ValueError, match="poison"):
        await ingest(runner, *events(1), *events(2, kind="poison"))
    assert (processor.seen, snapshots.writes, runner.state, runner.checkpoint_offset) == ([], [], {"count": 0}, 0)
    await ingest(runner, *events(1))
    assert runner.state == {"count": 1}


async def test_payload_when_bad_fails_the_batch_at_the_old_checkpoint() -> None:
    runner = make()
    bad = StreamEvent(type="n", payload="one", offset=1, created_at="")
    with pytest.raises(ItxError, match="cannot take n at offset 1"):
        await ingest(runner, bad)
    assert runner.checkpoint_offset == 0


async def test_snapshot_when_it_cannot_be_written_keeps_memory_back() -> None:
    snapshots = Snapshots()
    runner = make(snapshots=snapshots)
    await ingest(runner, *events(1))
    snapshots.refusals = 1
    with pytest.raises(OSError, match="cannot be written"):
        await ingest(runner, *events(2))
    assert (runner.state, runner.checkpoint_offset) == ({"count": 1}, 1)
    await ingest(runner, *events(2))
    assert snapshots.writes[-1] == {"offset": 2, "state": {"count": 2}}


async def test_snapshot_when_it_cannot_be_read_is_read_by_the_next_batch() -> None:
    snapshots = Snapshots(b'{"offset": 1, "state": {"count": 1}}')
    snapshots.refusals = 1
    runner = make(snapshots=snapshots)
    with pytest.raises(OSError, match="cannot be read"):
        await ingest(runner, *events(2))
    await ingest(runner, *events(2))
    await ingest(runner, *events(3))
    assert (runner.state, snapshots.reads) == ({"count": 3}, 2)


async def test_preparation_is_done_once_and_again_if_it_fails() -> None:
    prepared: list[int] = []

    class Preparing(Counting):
        async def prepare(self) -> None:
            prepared.append(len(prepared))
            if len(prepared) == 1:
                raise OSError("not yet")

    runner = make(Preparing())
    with pytest.raises(OSError, match="not yet"):
        await ingest(runner, *events(1))
    await ingest(runner, *events(1))
    await ingest(runner, *events(2))
    assert prepared == [0, 1]


async def test_snapshot_waits_for_work_that_blocks_and_not_for_work_in_the_background(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate, never = asyncio.Event(), asyncio.Event()
    snapshots = Snapshots()

    async def fail() -> None:
        await gate.wait()
        raise ValueError("in the background")

    def hook(step: Step, batch: Batch) -> None:
        batch.block_while(gate.wait())
        batch.run_in_background(fail())
        batch.run_in_background(never.wait())

    runner = make(Counting(hook), snapshots)
    task = asyncio.create_task(ingest(runner, *events(1)))
    await settle()
    assert snapshots.writes == []
    gate.set()
    assert await task
    await settle()
    assert [record.message for record in caplog.records] == ["stream processor background work failed: count"]
    await runner.shut_down()


async def test_hook_when_it_raises_is_heard_after_the_work_it_began_has_settled() -> None:
    gate = asyncio.Event()
    ended: list[str] = []

    async def work() -> None:
        await gate.wait()
        ended.append("work")

    def hook(step: Step, batch: Batch) -> None:
        batch.block_while(work())
        raise ValueError("hook")

    runner = make(Counting(hook))
    task = asyncio.create_task(ingest(runner, *events(1)))
    await settle()
    assert not task.done()
    gate.set()
    with pytest.raises(ValueError, match="hook"):
        await task
    assert (ended, runner.checkpoint_offset) == (["work"], 0)


async def test_blocking_work_when_it_fails_fails_the_batch() -> None:
    async def work() -> None:
        raise ValueError("work")

    runner = make(Counting(lambda _, batch: batch.block_while(work())))
    with pytest.raises(ValueError, match="work"):
        await ingest(runner, *events(1))
    assert runner.checkpoint_offset == 0


async def test_coroutine_hooks_run_one_after_the_other() -> None:
    order: list[str] = []

    async def hook(step: Step, batch: Batch) -> None:
        order.append(f"{step.event.offset} begins")
        await asyncio.sleep(0)
        order.append(f"{step.event.offset} ends")

    await ingest(make(Counting(hook)), *events(1, 2))
    assert order == ["1 begins", "1 ends", "2 begins", "2 ends"]


async def test_batches_wait_for_one_another_and_one_that_fails_does_no_harm_to_the_next() -> None:
    gate = asyncio.Event()

    async def hook(step: Step, batch: Batch) -> None:
        if step.event.offset == 1:
            await gate.wait()
            raise ValueError("first")

    processor = Counting(hook)
    runner = make(processor)
    first = asyncio.create_task(ingest(runner, *events(1)))
    second = asyncio.create_task(ingest(runner, *events(2)))
    await settle()
    assert processor.seen == [1]
    gate.set()
    with pytest.raises(ValueError, match="first"):
        await first
    assert await second
    assert processor.seen == [1, 2]


async def test_batch_when_its_generation_is_past_is_dropped() -> None:
    processor = Counting()
    runner = make(processor)
    assert not await runner.ingest(events(1), stream_max_offset=1, is_current=lambda: False)
    assert processor.seen == []


async def test_append_of_a_batch_says_who_and_is_kept_once() -> None:
    async def hook(step: Step, batch: Batch) -> None:
        await batch.append("said", {"n": 1}, key="echo", cause=step.event)
        await batch.append("said", key="once")

    runner = make(Counting(hook))
    await ingest(runner, *events(4))
    source = {"processor": {"slug": "count", "version": "1.0.0"}}
    assert runner._stream.appended == [  # type: ignore[attr-defined]  # of the test's log
        Event(type="said", payload={"n": 1}, source=source, idempotency_key="count/echo@4"),
        Event(type="said", source=source, idempotency_key="count/once"),
    ]


async def test_wait_by_offset_ends_after_the_snapshot_and_at_once_if_past() -> None:
    snapshots = Snapshots()
    runner = make(snapshots=snapshots)
    waiting = asyncio.create_task(runner.wait_until_event(2))
    await settle()
    await ingest(runner, *events(1))
    await settle()
    assert not waiting.done()
    await ingest(runner, *events(3, kind="other"))
    await waiting
    await runner.wait_until_event(2)
    runner.note_scanned(9)
    await runner.wait_until_event(9)
    assert (runner.checkpoint_offset, runner.reached_offset) == (3, 9)


async def test_wait_by_predicate_sees_batches_that_succeed_and_fails_alone() -> None:
    runner = make()

    def fail(event: StreamEvent) -> bool:
        raise ValueError("predicate")

    good = asyncio.create_task(runner.wait_until_event(predicate=lambda event: event.offset == 2))
    bad = asyncio.create_task(runner.wait_until_event(predicate=fail))
    await settle()
    await ingest(runner, *events(1, 2))
    await good
    with pytest.raises(ValueError, match="predicate"):
        await bad


async def test_wait_when_time_runs_out_says_so() -> None:
    clock = FakeClock()
    runner = make(clock=clock)
    waiting = asyncio.create_task(runner.wait_until_event(2, timeout=0.25))
    await settle()
    await clock.advance(0.25)
    with pytest.raises(ItxTimeoutError, match=r"(?m)^waitUntilEvent timed out after 250ms$"):
        await waiting
    with pytest.raises(ItxError, match="an offset or a predicate"):
        await runner.wait_until_event()


async def test_listener_is_told_at_once_and_of_new_states_alone() -> None:
    runner = make()
    told: list[Any] = []
    stop = runner.on_state_change(lambda offset, state: told.append((offset, state)))
    await ingest(runner, *events(1))
    await ingest(runner, *events(2, kind="other"))
    stop()
    await ingest(runner, *events(3))
    assert told == [(0, {"count": 0}), (1, {"count": 1})]


async def test_listener_when_it_raises_is_dropped() -> None:
    runner = make()
    told: list[int] = []

    def fail(offset: int, state: Any) -> None:
        told.append(offset)
        raise ValueError("listener")

    runner.on_state_change(fail)
    await ingest(runner, *events(1))
    assert (told, runner.checkpoint_offset) == ([0], 1)


async def test_runner_when_shut_down_takes_nothing_and_lets_those_who_wait_go() -> None:
    runner = make()
    waiting = asyncio.create_task(runner.wait_until_event(2))
    await settle()
    await runner.shut_down()
    for call in (ingest(runner, *events(1)), waiting):
        with pytest.raises(ItxError, match="shut down"):
            await call


async def test_runtime_state_shows_the_snapshot_and_what_the_processor_adds() -> None:
    class Showing(Counting):
        def get_runtime_state(self) -> Any:
            return {"seen": len(self.seen)}

    runner = make(Showing())
    await ingest(runner, *events(1))
    state = runner.get_runtime_state()
    assert (state.snapshot.offset, state.snapshot.state, state.runtime) == (1, {"count": 1}, {"seen": 1})
    assert make().get_runtime_state().runtime is UNSET
