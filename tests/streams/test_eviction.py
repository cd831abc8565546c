"""Idle streams give their memory back, and nobody can tell by what a stream answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.streams.eviction import LoadedStates
from tests.streams.support import Consumer, read_short
from tests.streams.test_machine import EngineMachine


class FakeStream:
    """A stream that notes whether it was told to go."""

    def __init__(self, *, is_idle: bool = True) -> None:
        self.is_idle = is_idle
        self.is_evicted = False

    def evict(self) -> None:
        self.is_evicted = True


def get_loaded(engine: StreamEngine) -> set[str]:
    return {path for (_, path), stream in engine._streams.items() if stream._state is not None}


def test_states_when_more_than_the_limit_are_loaded_lose_the_oldest() -> None:
    loaded = LoadedStates(most=2)
    streams = [FakeStream() for _ in range(4)]
    for stream in streams:
        loaded.note(stream)
    assert [stream.is_evicted for stream in streams] == [True, True, False, False]
    assert len(loaded) == 2


def test_state_when_loaded_again_counts_as_new() -> None:
    loaded = LoadedStates(most=2)
    first, second, third = (FakeStream() for _ in range(3))
    for stream in (first, second, first, third):
        loaded.note(stream)
    assert [stream.is_evicted for stream in (first, second, third)] == [False, True, False]


def test_state_when_somebody_is_connected_stays_and_the_next_goes() -> None:
    loaded = LoadedStates(most=2)
    watched, *others = FakeStream(is_idle=False), *(FakeStream() for _ in range(3))
    for stream in (watched, *others):
        loaded.note(stream)
    assert [stream.is_evicted for stream in (watched, *others)] == [False, True, True, False]


def test_states_when_all_are_connected_stay_and_the_search_ends() -> None:
    loaded = LoadedStates(most=2)
    streams = [FakeStream(is_idle=False) for _ in range(100)]
    for stream in streams:
        loaded.note(stream)
    assert len(loaded) == 100
    for stream in streams:
        stream.is_idle = True
    for _ in range(20):
        loaded.note(FakeStream())
    assert len(loaded) == 2


async def test_streams_when_evicted_answer_as_before_and_are_not_woken_again(engine: StreamEngine) -> None:
    engine._loaded = LoadedStates(most=3)
    streams = [engine.stream("p", f"/{n}") for n in range(10)]
    for turn in range(3):
        for n, stream in enumerate(streams):
            event = await stream.append({"type": "x", "payload": [turn, n], "idempotencyKey": f"{turn}"})
            assert event.offset == 3 + turn
    await engine.settle()
    assert len(get_loaded(engine)) <= 3
    for stream in streams:
        assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "x"), (4, "x"), (5, "x")]
        assert (await stream.append({"type": "x", "idempotencyKey": "1"})).offset == 4
        assert stream.get_state().event_count == 5
    assert engine.stream("p", "/").get_state().child_paths == tuple(f"/{n}" for n in range(10))


async def test_stream_when_somebody_is_connected_is_not_evicted(engine: StreamEngine) -> None:
    engine._loaded = LoadedStates(most=2)
    watched, consumer = engine.stream("p", "/watched"), Consumer()
    subscription = await watched.subscribe(consumer, presence=False)
    for n in range(20):
        await engine.stream("p", f"/{n}").append({"type": "x"})
    assert "/watched" in get_loaded(engine)
    await watched.append({"type": "x"})
    await consumer.wait_for_event(3)
    assert consumer.flat == [1, 2, 3]
    await subscription.unsubscribe()
    for n in range(20):
        engine.stream("p", f"/{n}").load()
    assert "/watched" not in get_loaded(engine)


async def test_stream_when_evicted_in_the_middle_of_its_commit_goes_on_behind_it(engine: StreamEngine) -> None:
    engine._loaded = LoadedStates(most=1)
    streams = [engine.stream("p", f"/{n}") for n in range(5)]
    for turn in range(4):
        # All in one group: the drafts are made from states of which all but one are gone before the commit.
        events = await asyncio.gather(*(stream.append({"type": "x"}) for stream in streams for _ in range(2)))
        assert [event.offset for event in events] == [3 + 2 * turn, 4 + 2 * turn] * 5
    assert len(get_loaded(engine)) <= 1


class EvictingMachine(EngineMachine):
    """The whole engine, with memory for a single state."""

    async def open(self) -> StreamEngine:
        engine = await super().open()
        engine._loaded = LoadedStates(most=1)
        return engine


def test_engine_when_it_can_keep_one_state_agrees_with_the_model() -> None:
    run_state_machine_as_test(
        EvictingMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


@pytest.mark.parametrize("most", [1, 4_096])
async def test_boot_when_the_store_holds_many_streams_reads_only_what_is_asked_for(home: Path, most: int) -> None:
    engine = StreamEngine.open(home)
    for n in range(0, 2_000, 500):
        await asyncio.gather(*(engine.stream("p", f"/a/{m}").append({"type": "x"}) for m in range(n, n + 500)))
    await engine.close()
    engine = StreamEngine.open(home)
    engine._loaded = LoadedStates(most=most)
    statements: list[str] = []
    engine.reader._connection.set_trace_callback(statements.append)
    stream: Stream = engine.stream("p", "/a/777")
    assert (await stream.append({"type": "x"})).offset == 5
    await engine.settle()
    # Its own row and log, and those of the two streams above it, which are asked whether they know it.
    assert len(statements) <= 12
    assert get_loaded(engine) <= {"/a/777", "/a", "/"}
    await engine.close()
