"""Group commit: who shares a transaction, what happens while one is under way, and when it moves to a thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams import Stream, StreamEngine, core_type
from itx_notebook.types import StreamEvent
from tests.streams.support import Consumer, read_short


@pytest.fixture
async def threaded(home: Path) -> AsyncIterator[StreamEngine]:
    engine = StreamEngine.open(home, always_threaded=True)
    yield engine
    await engine.close()


@contextmanager
def busy(engine: StreamEngine) -> Iterator[None]:
    """Somebody else's transaction, which every commit on the thread waits for."""
    other = sqlite3.connect(engine.directory / "streams.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def begin(*appends: Any) -> list[asyncio.Task[Any]]:
    """Start appends and let their commit, or the wait for the one under way, begin."""
    tasks = [asyncio.create_task(append) for append in appends]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def count_commits(engine: StreamEngine) -> list[int]:
    """A list that grows by one with every commit from now on."""
    commits: list[int] = []

    def note(sql: str) -> None:
        if sql.startswith("COMMIT"):
            commits.append(len(commits) + 1)

    engine._store.writer._connection.set_trace_callback(note)
    return commits


async def test_requests_when_made_in_one_turn_share_a_commit(engine: StreamEngine) -> None:
    streams = [engine.stream("p", f"/{name}") for name in "abc"]
    await asyncio.gather(*(stream.wake() for stream in streams))
    await engine.settle()
    commits = count_commits(engine)
    await asyncio.gather(*(stream.append({"type": "x"}) for stream in streams for _ in range(10)))
    assert len(commits) == 1
    await streams[0].append({"type": "x"})
    await streams[0].append({"type": "x"})
    assert len(commits) == 3


async def test_key_when_used_by_two_in_one_turn_is_committed_once(engine: StreamEngine, stream: Stream) -> None:
    first, second = await asyncio.gather(
        stream.append({"type": "x", "payload": 1, "idempotencyKey": "k"}),
        stream.append({"type": "y", "payload": 2, "idempotencyKey": "k"}),
    )
    assert first == second
    assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "x")]


def count_lookups(engine: StreamEngine) -> list[str]:
    """A list that grows with every idempotency key that is looked up from now on."""
    keys: list[str] = []
    look = engine._store.writer.try_read_by_key

    def note(stream_id: int, key: str) -> bytes | None:
        keys.append(key)
        return look(stream_id, key)

    engine._store.writer.try_read_by_key = note  # type: ignore[method-assign]  # counts what passes through
    return keys


async def test_keys_when_new_are_stored_without_a_look_and_looked_up_when_one_is_taken(
    engine: StreamEngine, stream: Stream
) -> None:
    await stream.wake()
    await engine.settle()
    keys = count_lookups(engine)
    for key in "abc":
        await stream.append({"type": "x", "payload": key, "idempotencyKey": key})
    assert keys == []
    got = await stream.append_batch([{"type": "y", "idempotencyKey": key} for key in "dbe"])
    assert [(event.offset, event.type) for event in got] == [(6, "y"), (4, "x"), (7, "y")]
    assert keys == ["d", "b", "e"]


async def test_key_when_taken_leaves_those_beside_it_in_the_group_as_if_it_had_been_known(
    engine: StreamEngine, stream: Stream
) -> None:
    await stream.append({"type": "x", "idempotencyKey": "k"})
    other = engine.stream("p", "/other")
    await other.wake()
    await engine.settle()
    # Were the key new, the second would be at offset 5, the third refused, and all after the pause too.
    got = await asyncio.gather(
        stream.append({"type": "y", "idempotencyKey": "k"}),
        stream.append({"type": "y", "offset": 4}),
        stream.append({"type": "y", "offset": 4}),
        other.append({"type": "y", "idempotencyKey": "k"}),
        stream.append({"type": core_type("paused")}),
        stream.append({"type": "y", "idempotencyKey": "k"}),
        stream.append({"type": "y", "idempotencyKey": "new"}),
        return_exceptions=True,
    )
    assert "expected offset 5, got 4" in str(got[2])
    assert [each.offset for each in got if isinstance(each, StreamEvent)] == [3, 4, 3, 5, 3]
    assert "stream paused" in str(got[6])
    assert await read_short(stream, after_offset=2) == [(3, "x"), (4, "y"), (5, "paused")]


async def test_key_when_taken_by_a_pause_does_not_pause_again(engine: StreamEngine, stream: Stream) -> None:
    paused = {"type": core_type("paused"), "idempotencyKey": "pause"}
    await stream.append(paused)
    await stream.append({"type": core_type("resumed")})
    got = await asyncio.gather(stream.append(paused), stream.append({"type": "x"}))
    assert [event.offset for event in got] == [3, 5]


async def test_requests_when_a_commit_is_under_way_form_the_next_group(threaded: StreamEngine) -> None:
    stream = threaded.stream("p", "/")
    await stream.wake()
    commits = count_commits(threaded)
    with busy(threaded):
        first = await begin(stream.append({"type": "a", "idempotencyKey": "k"}))
        rest = await begin(
            stream.append({"type": "b"}),
            stream.append({"type": "c", "idempotencyKey": "k"}),
            stream.append({"type": "d"}),
        )
        assert not any(task.done() for task in (*first, *rest))
        assert stream.load().max_offset == 2
    assert [(await task).offset for task in (*first, *rest)] == [3, 4, 3, 5]
    assert len(commits) == 2


async def test_loop_when_the_disk_is_slow_goes_on_turning(threaded: StreamEngine) -> None:
    stream = threaded.stream("p", "/")
    await stream.append_batch([{"type": "x"}] * 10)
    consumer = Consumer()
    with busy(threaded):
        (append,) = await begin(stream.append({"type": "y"}))
        await stream.subscribe(consumer, replay_after_offset=0, presence=False)
        assert (len(await stream.read()), consumer.flat) == (12, list(range(1, 13)))
        assert not append.done()
    assert (await append).offset == 13
    assert consumer.flat == list(range(1, 14))


async def test_append_when_cancelled_in_the_middle_of_its_commit_stands(threaded: StreamEngine) -> None:
    stream = threaded.stream("p", "/")
    await stream.wake()
    with busy(threaded):
        (append,) = await begin(stream.append({"type": "x"}))
        append.cancel()
        with pytest.raises(asyncio.CancelledError):
            await append
    assert (await stream.append({"type": "y"})).offset == 4
    assert await read_short(stream, after_offset=2) == [(3, "x"), (4, "y")]


async def test_close_when_a_commit_is_under_way_waits_for_it_and_for_what_is_queued(threaded: StreamEngine) -> None:
    stream = threaded.stream("p", "/")
    await stream.wake()
    with busy(threaded):
        appends = [
            *await begin(stream.append({"type": "a"})),
            *await begin(stream.append({"type": "b"}), stream.append({"type": "c"})),
        ]
        (closing,) = await begin(threaded.close())
        assert not closing.done()
    await closing
    assert [(await task).offset for task in appends] == [3, 4, 5]
    assert "itx-writer_0" not in [thread.name for thread in threading.enumerate()]


async def test_commit_when_the_store_refuses_it_refuses_the_whole_group_and_changes_nothing(
    engine: StreamEngine,
) -> None:
    first, second = engine.stream("p", "/a"), engine.stream("p", "/b")
    await asyncio.gather(first.wake(), second.wake())
    await engine.settle()
    connection = engine._store.writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    got = await asyncio.gather(
        first.append({"type": "x"}), second.append({"type": "x", "payload": "x" * 100_000}), return_exceptions=True
    )
    assert [type(each) for each in got] == [StoreError, StoreError]
    assert (first.load().max_offset, second.load().max_offset) == (2, 2)
    connection.execute("PRAGMA max_page_count = 1000000")
    assert [
        event.offset for event in await asyncio.gather(first.append({"type": "y"}), second.append({"type": "y"}))
    ] == [
        3,
        3,
    ]


async def test_large_commit_when_the_disk_is_quick_still_goes_to_the_thread(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/")
    await stream.append({"type": "x"})
    assert "itx-writer_0" not in [thread.name for thread in threading.enumerate()]
    await stream.append_batch([{"type": "x"}] * 1_000)
    assert "itx-writer_0" in [thread.name for thread in threading.enumerate()]
    await engine.close()


async def test_commits_when_they_are_slow_on_average_move_to_the_thread_and_come_back(home: Path) -> None:
    engine = StreamEngine.open(home)
    committer = engine._committer
    # The first is a hiccup, which is no slow disk.
    modes = []
    for seconds in (0.015, 0.015, 0.015, 0.015):
        committer._note_duration(seconds)
        modes.append(committer.is_threaded)
    assert (modes[0], modes[-1]) == (False, True)
    stream = engine.stream("p", "/")
    for offset in range(3, 33):
        assert (await stream.append({"type": "x"})).offset == offset
    for _ in range(20):
        committer._note_duration(0.0005)
    assert not committer.is_threaded
    assert (await stream.append({"type": "x"})).offset == 33
    await engine.close()


async def test_request_when_made_of_a_closed_committer_is_refused(engine: StreamEngine, stream: Stream) -> None:
    await engine._committer.close()
    with pytest.raises(ItxError, match="engine is closed"):
        await stream.append({"type": "x"})
