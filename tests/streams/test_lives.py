"""Kill and reset: what a stream forgets, what it keeps, and what those who were with it are told."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.testing.clock import FakeClock
from tests.streams.support import Consumer, read_short


async def test_kill_ends_the_incarnation_and_keeps_the_log(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x", "idempotencyKey": "k"})
    consumer = Consumer()
    subscription = await stream.subscribe(consumer, key="watcher")
    first = stream.load().incarnation_id
    await stream.kill()
    assert subscription.closed.is_set()
    assert str(subscription.error) == "kill requested"
    assert (await stream.append({"type": "y", "idempotencyKey": "k"})).offset == 3
    await stream.append({"type": "y"})
    assert consumer.flat == [4]
    assert await read_short(stream, after_offset=2) == [
        (3, "x"),
        (4, "subscriber-connected"),
        (5, "woken"),
        (6, "y"),
    ]
    assert stream.load().connections_by_key == {}
    assert stream.load().incarnation_id != first


async def test_kill_when_nothing_follows_leaves_no_trace(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    before = stream.load()
    await stream.kill()
    await stream.kill()
    assert stream.load() == before


async def test_calls_under_way_when_a_stream_is_killed_are_refused(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    await engine.settle()
    other = engine.stream("prj_1", "/other")
    append = asyncio.create_task(stream.append({"type": "late"}))
    unharmed = asyncio.create_task(other.append({"type": "late"}))
    await asyncio.sleep(0)
    await stream.kill()
    assert (await unharmed).offset == 3
    with pytest.raises(ItxError, match=r"(?m)^kill requested$"):
        await append
    assert [offset for offset, _ in await read_short(stream)] == [1, 2, 3]


async def test_reset_begins_a_new_life_at_offset_1(home: Path) -> None:
    clock = FakeClock()
    engine = StreamEngine.open(home, clock=clock)
    stream = engine.stream("p", "/a/b")
    await stream.append_batch([{"type": "x", "idempotencyKey": f"k{n}"} for n in range(300)])
    await engine.settle()
    consumer = Consumer()
    subscription = await stream.subscribe(consumer)
    created = stream.load().created_at
    await clock.advance(1)
    await stream.reset()
    assert str(subscription.error) == "reset requested"
    assert subscription.closed.is_set()
    assert (stream.load().event_count, await stream.read()) == (0, [])
    assert (await stream.append({"type": "y", "idempotencyKey": "k0"})).offset == 3
    assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "y")]
    assert stream.load().created_at > created
    await engine.settle()
    assert engine.stream("p", "/").load().child_paths == ("/a",)
    await engine.close()
    engine = StreamEngine.open(home)
    assert await read_short(engine.stream("p", "/a/b")) == [(1, "created"), (2, "woken"), (3, "y")]
    await engine.close()


async def test_reset_when_it_returns_is_durable_and_touches_no_other_stream(engine: StreamEngine) -> None:
    streams = [engine.stream("p", path) for path in ("/a", "/b", "/c")]
    for stream in streams:
        await stream.append({"type": "x", "payload": "x" * 600_000, "idempotencyKey": "k"})
    await engine.settle()
    await streams[1].reset()
    with sqlite3.connect(engine.directory / "streams.db") as looking:
        left = looking.execute("SELECT path FROM streams WHERE path <> '/' ORDER BY path").fetchall()
        chunks = looking.execute("SELECT count(DISTINCT id) FROM event_chunks").fetchall()
        keys = looking.execute("SELECT count(*) FROM idempotency WHERE key = 'k'").fetchall()
    looking.close()
    assert (left, chunks, keys) == ([("/a",), ("/c",)], [(2,)], [(2,)])
    assert [stream.load().event_count for stream in streams] == [3, 0, 3]


async def test_reset_when_nothing_was_ever_written_is_harmless(engine: StreamEngine, stream: Stream) -> None:
    await stream.reset()
    assert (await stream.append({"type": "x"})).offset == 3


async def test_reset_when_the_disk_refuses_leaves_the_stream_as_it_was(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    consumer = Consumer()
    subscription = await stream.subscribe(consumer, presence=False)
    engine._store.writer._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError):
        await stream.reset()
    engine._store.writer._connection.execute("PRAGMA query_only = OFF")
    assert not subscription.closed.is_set()
    assert (await stream.append({"type": "y"})).offset == 4
    assert consumer.flat == [4]


async def test_reset_when_the_caller_gives_up_is_done_all_the_same(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    await engine.settle()
    resetting = asyncio.create_task(stream.reset())
    await asyncio.sleep(0)
    resetting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resetting
    assert (await stream.append({"type": "y"})).offset == 3
    assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "y")]


async def test_appends_when_a_reset_is_under_way_begin_the_new_life(engine: StreamEngine, stream: Stream) -> None:
    await stream.append_batch([{"type": "x"}] * 500)
    await engine.settle()
    resetting = asyncio.create_task(stream.reset())
    await asyncio.sleep(0)
    late = [asyncio.create_task(stream.append({"type": "y", "payload": n})) for n in range(3)]
    await resetting
    assert [(await task).offset for task in late] == [3, 4, 5]


async def test_read_when_its_stream_is_killed_in_the_middle_is_refused(engine: StreamEngine, stream: Stream) -> None:
    await stream.append_batch([{"type": "x"}] * 2_500)
    await engine.settle()
    reading = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    await stream.kill()
    with pytest.raises(ItxError, match="killed or reset"):
        await reading


async def test_children_when_their_parent_was_reset_announce_themselves_at_their_next_wake(
    engine: StreamEngine, stream: Stream
) -> None:
    await stream.append({"type": "x"})
    await engine.settle()
    parent = engine.stream("prj_1", "/a")
    await parent.reset()
    await parent.append({"type": "x"})
    assert parent.load().child_paths == ()
    await stream.kill()
    await stream.append({"type": "x"})
    await engine.settle()
    assert parent.load().child_paths == ("/a/b",)


async def test_lives_when_the_engine_is_closed_are_refused(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    await engine.close()
    for call in (stream.kill(), stream.reset()):
        with pytest.raises(ItxError, match="engine is closed"):
            await call
