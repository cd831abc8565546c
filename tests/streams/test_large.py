"""Values beyond the usual: large ones in chunks, odd ones decided before the commit, and streams without end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from itx_notebook._json import encode_json
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.streams.storage.schema import CHUNK_BYTES
from tests.streams.support import Consumer

# What stands around a payload's text in the stored body, with the times and offsets of a short stream.
AROUND = len('{"type":"x","payload":"","offset":3,"createdAt":"2026-06-10T09:00:00.000Z"}')


@contextmanager
def database(home: Path) -> Iterator[sqlite3.Connection]:
    """The store's file, beside whoever has it open."""
    with closing(sqlite3.connect(home / "streams.db", isolation_level=None)) as connection:
        yield connection


def count_chunks(home: Path) -> int:
    with database(home) as connection:
        (count,) = connection.execute("SELECT count(*) FROM event_chunks").fetchone()
    return int(count)


async def reopen_and_read(home: Path, **cursors: Any) -> list[Any]:
    engine = StreamEngine.open(home)
    events = await engine.stream("p", "/a").read(**cursors)
    await engine.close()
    return [event.payload for event in events]


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (CHUNK_BYTES - 1, 0),
        (CHUNK_BYTES, 0),
        (CHUNK_BYTES + 1, 2),
        (2 * CHUNK_BYTES, 2),
        (2 * CHUNK_BYTES + 1, 3),
    ],
)
async def test_event_when_its_stored_text_is_above_a_chunk_is_cut_at_exactly_that(
    home: Path, size: int, chunks: int
) -> None:
    engine = StreamEngine.open(home)
    text = "x" * (size - AROUND)
    await engine.stream("p", "/a").append({"type": "x", "payload": text})
    await engine.close()
    assert count_chunks(home) == chunks
    assert (await reopen_and_read(home))[-1] == text


@pytest.mark.parametrize("shift", range(4))
async def test_event_when_cut_within_a_character_comes_back_whole(home: Path, shift: int) -> None:
    # Bytes count, not characters: of four bytes each, these are cut at every place within one.
    text = "x" * shift + "😀" * 200_000
    engine = StreamEngine.open(home)
    await engine.stream("p", "/a").append({"type": "x", "payload": text})
    await engine.close()
    assert count_chunks(home) == 2
    assert (await reopen_and_read(home))[-1] == text


async def test_event_of_twenty_mebibytes_is_appended_read_delivered_and_found_by_its_key(engine: StreamEngine) -> None:
    stream = engine.stream("p", "/a")
    text = "é" * (10 * 1024 * 1024)
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0, presence=False)
    committed = await stream.append({"type": "x", "payload": text, "idempotencyKey": "k"})
    assert (await stream.append({"type": "y", "idempotencyKey": "k"})) == committed
    await stream.append({"type": "z"})
    assert [event.payload == text for event in await stream.read(after_offset=2)] == [True, False]
    replayed = Consumer()
    await stream.subscribe(replayed, replay_after_offset=0, presence=False)
    await replayed.wait_for_event(4)
    await consumer.wait_for_event(4)
    assert consumer.flat == replayed.flat == [1, 2, 3, 4]


async def test_large_commit_when_it_is_one_event_leaves_the_loop_free(home: Path) -> None:
    engine = StreamEngine.open(home)
    await engine.stream("p", "/a").append({"type": "x"})
    assert "itx-writer_0" not in [thread.name for thread in threading.enumerate()]
    await engine.stream("p", "/a").append({"type": "x", "payload": "x" * 2_000_000})
    assert "itx-writer_0" in [thread.name for thread in threading.enumerate()]
    await engine.close()


async def test_page_when_its_events_are_large_ends_early_and_is_read_on(engine: StreamEngine) -> None:
    stream = engine.stream("p", "/a")
    texts = [str(n) * 1_000_000 for n in range(10)]
    for text in texts:
        await stream.append_batch([{"type": "x", "payload": text}, {"type": "y", "payload": "small"}])
    page = stream.read_page(after_offset=2, limit=1_000)
    assert 8 <= sum(event.type == "x" for event in page) < 10
    assert [event.payload for event in await stream.read(after_offset=2) if event.type == "x"] == texts
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=0, presence=False)
    await consumer.wait_for_event(22)
    assert consumer.flat == list(range(1, 23))
    assert len(consumer.batches) > 1


async def test_boot_when_the_log_holds_large_events_folds_them_all(home: Path) -> None:
    engine = StreamEngine.open(home)
    for _ in range(12):
        await engine.stream("p", "/a").append({"type": "x", "payload": "x" * 1_000_000})
    await engine.close()
    engine = StreamEngine.open(home)
    assert engine.stream("p", "/a").load().max_offset == 14
    await engine.close()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM event_chunks WHERE chunk_index = 0",
        "DELETE FROM event_chunks WHERE chunk_index = 1",
        "DELETE FROM event_chunks WHERE chunk_index = 2",
        "DELETE FROM event_chunks",
        "UPDATE event_chunks SET bytes = substr(bytes, 2) WHERE chunk_index = 1",
        "UPDATE event_chunks SET chunk_index = 9 WHERE chunk_index = 2",
    ],
)
async def test_event_when_its_chunks_are_not_whole_is_named_and_never_taken_for_another(
    home: Path, damage: str
) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x", "payload": "x" * 1_200_000, "idempotencyKey": "k"})
    with database(home) as connection:
        connection.execute(damage)
    with pytest.raises(StoreError, match="Stream /a cannot be read after offset 2: an event is damaged"):
        await stream.read(after_offset=2)
    with pytest.raises(StoreError, match="Stream /a cannot be read at the idempotency key 'k'"):
        await stream.append({"type": "x", "idempotencyKey": "k"})
    assert (await stream.append({"type": "y"})).offset == 4
    await engine.close()


async def test_chunks_when_their_event_is_deleted_go_with_it(home: Path) -> None:
    engine = StreamEngine.open(home)
    for path in ("/a", "/b"):
        await engine.stream("p", path).append({"type": "x", "payload": "x" * 600_000})
    await engine.close()
    assert count_chunks(home) == 4
    with database(home) as connection:
        connection.execute("DELETE FROM events WHERE id >> 32 = (SELECT id FROM streams WHERE path = '/a')")
    assert count_chunks(home) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\ud800", r"payload is '\\ud800', with half a surrogate pair"),
        (["ok", {"deep": "a\udfffb"}], r"payload\[1\].deep is 'a\\udfffb', with half a surrogate pair"),
        ({"\udc00": 1}, "a key of payload is .*, with half a surrogate pair"),
        (2**64, "payload is 18446744073709551616, outside 64 bits"),
        (-(2**63) - 1, "payload is -9223372036854775809, outside 64 bits"),
        (float("inf"), "payload is inf, which JSON cannot say"),
        (b"bytes", "payload is b'bytes' .bytes., not a JSON value"),
    ],
)
async def test_value_when_a_log_cannot_keep_it_exactly_is_refused_before_anything_is_stored(
    stream: Stream, value: Any, message: str
) -> None:
    await stream.wake()
    with pytest.raises(ItxError, match=message) as caught:
        await stream.append_batch([{"type": "x"}, {"type": "x", "payload": value}])
    assert caught.value.code == "BAD_REQUEST"
    assert stream.load().max_offset == 2


@pytest.mark.parametrize("value", [2**53 + 1, 2**64 - 1, -(2**63), "😀", "\u0000", "\u2028", {"": ""}, 1e308, -0.0])
async def test_value_when_odd_but_json_comes_back_exactly(home: Path, value: Any) -> None:
    engine = StreamEngine.open(home)
    committed = await engine.stream("p", "/a").append({"type": "x", "payload": value})
    await engine.close()
    (read_back,) = await reopen_and_read(home, after_offset=2)
    assert (committed.payload, repr(read_back)) == (value, repr(value))


MILLION = 1_000_000


async def make_long_stream(home: Path, count: int) -> None:
    """A stream of `count` events: two by the engine, the others as the engine would have written them."""
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.wake()
    checkpoint = encode_json(replace(stream.load(), event_count=count - 100, max_offset=count - 100))
    await engine.close()
    with database(home) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(
            "WITH RECURSIVE offsets(n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM offsets WHERE n < ?)"
            " INSERT INTO events SELECT (SELECT id << 32 FROM streams WHERE path = '/a') | n, 'x',"
            " CAST(printf(?, n, n) AS BLOB) FROM offsets",
            (count, '{"type":"x","payload":%d,"offset":%d,"createdAt":"2026-06-10T09:00:00.000Z"}'),
        )
        connection.execute("UPDATE streams SET checkpoint = ?, checkpoint_version = 4 WHERE path = '/a'", (checkpoint,))
        connection.execute("COMMIT")


async def test_stream_of_a_million_events_boots_at_once_and_is_read_appended_and_followed(home: Path) -> None:
    await make_long_stream(home, MILLION)
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    read: list[str] = []
    engine.reader._connection.set_trace_callback(read.append)
    assert stream.get_state().event_count == MILLION
    # The row, the events after the checkpoint, and the look that finds no more.
    assert len(read) == 3
    consumer = Consumer()
    await stream.subscribe(consumer, replay_after_offset=MILLION - 250, presence=False)
    await stream.append_batch([{"type": "x", "payload": "new", "idempotencyKey": "k"}] * 2)
    await consumer.wait_for_event(MILLION + 2)
    assert consumer.flat == list(range(MILLION - 249, MILLION + 3))
    middle = await stream.read(after_offset=500_000, before_offset=500_003)
    assert [(event.offset, event.payload) for event in middle] == [(500_001, 500_001), (500_002, 500_002)]
    assert sum(event.type == "x" for event in await stream.read()) == MILLION - 1
    await engine.close()
