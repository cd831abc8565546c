"""Waiting for one event: found, refused, out of time, and cut short."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.errors import ItxError, ItxTimeoutError
from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.testing.clock import FakeClock, settle
from itx_notebook.types import StreamEvent
from tests.streams.support import read_short


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def timed(home: Path, clock: FakeClock) -> AsyncIterator[Stream]:
    engine = StreamEngine.open(home, clock=clock)
    yield engine.stream("p", "/a")
    await engine.close()


async def begin(stream: Stream, *args: Any, **options: Any) -> asyncio.Task[StreamEvent]:
    """A wait that has begun."""
    task = asyncio.create_task(stream.wait_for_event(*args, **options))
    await settle()
    return task


async def test_wait_when_a_live_event_matches_answers_with_it_and_ignores_others(timed: Stream) -> None:
    await timed.append({"type": "match", "payload": 0})
    waiting = await begin(timed, lambda event: event.payload == 2, event_types=["match"])
    await timed.append({"type": "other", "payload": 2})
    await timed.append({"type": "match", "payload": 1})
    await timed.append_batch([{"type": "match", "payload": 2}, {"type": "match", "payload": 2}])
    assert (await waiting).offset == 7
    facts = [event for event in await timed.read(after_offset=3) if "subscriber" in event.type]
    assert [event.payload.get("subscriber") for event in facts] == [{"description": "waitForEvent"}, None]
    assert timed.connections == ()


async def test_wait_when_given_an_offset_looks_back_and_in_silence_leaves_no_trace(timed: Stream) -> None:
    await timed.append_batch([{"type": "x", "payload": n} for n in range(300)])
    found = await timed.wait_for_event(event_types=["x"], after_offset=200, presence=False)
    assert found.offset == 201
    assert (await read_short(timed))[-1] == (302, "x")


async def test_predicate_when_it_is_a_coroutine_is_asked_in_order(timed: Stream) -> None:
    asked: list[Any] = []

    async def is_third(event: StreamEvent) -> bool:
        await asyncio.sleep(0)
        asked.append(event.payload)
        return len(asked) == 3

    waiting = await begin(timed, is_third, event_types=["x"])
    await timed.append_batch([{"type": "x", "payload": n} for n in range(5)])
    assert (await waiting).payload == 2
    assert asked == [0, 1, 2]


async def test_wait_when_time_runs_out_tells_what_it_saw(timed: Stream, clock: FakeClock) -> None:
    waiting = await begin(timed, lambda _: False, timeout=1.5, presence=False)
    await timed.append_batch([{"type": f"t{n}"} for n in range(30)])
    await settle()
    await clock.advance(1.5)
    with pytest.raises(ItxTimeoutError) as caught:
        await waiting
    types = ", ".join(f"t{n}" for n in range(10, 30))
    assert caught.value.message == (
        f"Timed out waiting for stream event after 1500ms (saw 32 events; recent types: {types})."
    )
    assert timed.connections == ()
    assert clock.pending == 0


async def test_wait_when_it_saw_nothing_says_none(timed: Stream, clock: FakeClock) -> None:
    waiting = await begin(timed, event_types=["x"], timeout=0.05)
    await clock.advance(1)
    with pytest.raises(ItxTimeoutError, match=r"after 50ms \(saw 0 events; recent types: none\)\."):
        await waiting


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration()], ids=repr)
async def test_predicate_when_it_raises_ends_the_wait_alone(timed: Stream, error: Exception) -> None:
    def fail(event: StreamEvent) -> bool:
        raise error

    waiting = await begin(timed, fail, event_types=["x"])
    other = await begin(timed, event_types=["x"])
    event = await timed.append({"type": "x"})
    with pytest.raises((ValueError, RuntimeError)):
        await waiting
    assert await other == event


async def test_wait_when_the_stream_is_killed_says_so(timed: Stream) -> None:
    waiting = await begin(timed, event_types=["x"])
    await timed.kill()
    with pytest.raises(ItxError, match=r"Stream subscription closed before matching event\."):
        await waiting


async def test_wait_when_cancelled_leaves_no_connection(timed: Stream) -> None:
    waiting = await begin(timed, event_types=["x"])
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (timed.connections, timed.load().connections_by_key) == ((), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "waitForEvent requires eventTypes or predicate."),
        ({"event_types": ["x"], "timeout": 0}, "waitForEvent timeoutMs must be a positive number."),
        ({"event_types": ["x"], "timeout": math.inf}, "waitForEvent timeoutMs must be a positive number."),
        ({"event_types": ["x"], "timeout": math.nan}, "waitForEvent timeoutMs must be a positive number."),
        ({"event_types": ["x"], "after_offset": -1}, "waitForEvent afterOffset must be a non-negative integer."),
        ({"event_types": ["x"], "after_offset": 1.5}, "waitForEvent afterOffset must be a non-negative integer."),
    ],
)
async def test_wait_when_asked_wrongly_is_refused_without_a_trace(
    timed: Stream, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ItxError) as caught:
        await timed.wait_for_event(**options)
    assert (caught.value.code, caught.value.message) == ("BAD_REQUEST", message)
    assert timed.load().event_count == 0
