"""What holds the actors together: announcements, background work, opening and closing."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams import StreamEngine
from tests.streams.support import Consumer, read_short


def damage_events_of(home: Path, path: str) -> None:
    """Make the log of one stream unreadable, behind the engine's back."""
    connection = sqlite3.connect(home / "streams.db")
    with connection:
        connection.execute("UPDATE streams SET checkpoint = NULL")
        connection.execute(
            "UPDATE events SET body = X'00' WHERE id >> 32 = (SELECT id FROM streams WHERE path = ?)", (path,)
        )
    connection.close()


async def test_append_when_an_ancestor_is_damaged_is_answered_and_told_to_the_others(home: Path) -> None:
    engine = StreamEngine.open(home)
    for path in ("/a/b", "/a"):
        await engine.stream("p", path).append({"type": "x"})
    await engine.close()
    damage_events_of(home, "/a")
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a/b")
    assert (await asyncio.wait_for(stream.append({"type": "y"}), 5)).offset == 5
    assert (await asyncio.wait_for(stream.append({"type": "y"}), 5)).offset == 6
    await engine.settle()
    with pytest.raises(StoreError, match="Stream /a cannot be read"):
        engine.stream("p", "/a").load()
    assert engine.stream("p", "/").load().child_paths == ("/a",)
    await engine.close()


async def test_group_when_telling_of_one_stream_fails_keeps_the_others_in_step(home: Path) -> None:
    engine = StreamEngine.open(home)
    first, second = engine.stream("p", "/a"), engine.stream("p", "/b")
    await asyncio.gather(first.wake(), second.wake())
    consumer = Consumer()
    await second.subscribe(consumer, presence=False)

    def fail(_: object) -> None:
        raise ValueError("a consumer that breaks")

    await first.subscribe(fail, presence=False)
    got = await asyncio.gather(first.append({"type": "x"}), second.append({"type": "x"}))
    assert [event.offset for event in got] == [3, 3]
    assert [event.offset for event in await asyncio.gather(first.append({"type": "y"}), second.append({"type": "y"}))]
    assert consumer.flat == [3, 4]
    await engine.close()


async def test_stream_when_asked_for_twice_is_one_actor(engine: StreamEngine) -> None:
    assert engine.stream("prj_1", "/a") is engine.stream("prj_1", "/a")
    assert engine.stream("prj_1", "/a") is not engine.stream("prj_2", "/a")


async def test_namespaces_when_they_share_a_store_share_nothing_else(engine: StreamEngine) -> None:
    await engine.stream("prj_1", "/a").append({"type": "x", "idempotencyKey": "k"})
    await engine.stream("prj_2", "/a").append({"type": "y", "idempotencyKey": "k"})
    await engine.settle()
    assert await read_short(engine.stream("prj_2", "/a"), after_offset=2) == [(3, "y")]
    assert (engine.count_streams("prj_1"), engine.count_streams("prj_2"), engine.count_streams("prj_3")) == (2, 2, 0)


async def test_directory_when_relative_is_meant_from_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = StreamEngine.open(Path("data"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await engine.stream("p", "/a").append({"type": "x"})
    assert engine.directory == tmp_path / "data"
    await engine.close()
    assert (tmp_path / "data" / "streams.db").exists()


async def test_directory_when_its_name_is_strange_is_opened_all_the_same(tmp_path: Path) -> None:
    home = tmp_path / "a b?c#d%20ä"
    for offset in (3, 5):
        engine = StreamEngine.open(home)
        assert (await engine.stream("p", "/").append({"type": "x"})).offset == offset
        await engine.close()


async def test_close_when_appends_are_queued_commits_them_first(engine: StreamEngine) -> None:
    stream = engine.stream("p", "/a/b")
    tasks = [asyncio.create_task(stream.append({"type": "x", "payload": n})) for n in range(5)]
    await asyncio.sleep(0)
    await engine.close()
    assert [(await task).offset for task in tasks] == [3, 4, 5, 6, 7]


async def test_close_when_cancelled_still_frees_the_store(engine: StreamEngine) -> None:
    append = asyncio.create_task(engine.stream("p", "/a/b").append({"type": "x"}))
    await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await engine.close()
    assert (await append).offset == 3
    again = StreamEngine.open(engine.directory)
    assert again.stream("p", "/a/b").load().event_count == 3
    await again.close()


async def test_close_when_called_by_two_ends_for_both_when_the_store_is_free(engine: StreamEngine) -> None:
    await engine.stream("p", "/a").append({"type": "x"})

    async def close_and_open() -> str:
        await engine.close()
        try:
            again = StreamEngine.open(engine.directory)
        except StoreError:
            return "in use by the other"
        await again.close()
        return "free"

    assert "free" in await asyncio.gather(close_and_open(), close_and_open())
    assert engine.is_closed


async def test_background_work_when_it_fails_is_logged_and_raises_nowhere(
    engine: StreamEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("lost")

    engine.start(fail())
    await engine.settle()
    assert [record.message for record in caplog.records] == ["background work of the streams engine failed"]


async def test_everything_when_asked_of_a_closed_engine_is_refused_by_name(engine: StreamEngine) -> None:
    stream, other = engine.stream("p", "/a"), engine.stream("p", "/never-touched")
    await stream.append({"type": "x"})
    await engine.close()
    for call in (
        stream.append({"type": "x"}),
        stream.append_batch([{"type": "x"}]),
        other.wake(),
        stream.read(),
        stream.subscribe(Consumer()),
    ):
        with pytest.raises(ItxError, match=r"(?m)^The streams engine is closed\.$"):
            await call
    for look in (stream.get_state, other.get_state, stream.get_children):
        with pytest.raises(ItxError, match=r"(?m)^The streams engine is closed\.$"):
            look()
