"""The store on disk: refused, damaged, full, held by another, newer than this code."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine
from itx_notebook.streams.storage import Row, Store, StreamWrite
from itx_notebook.streams.storage.schema import SCHEMA_VERSION
from tests.streams.support import Consumer

HOLD = """
import sys
from pathlib import Path
from itx_notebook.streams.storage import Store
store = Store.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def execute(home: Path, *statements: str, **values: object) -> None:
    connection = sqlite3.connect(home / "streams.db")
    with connection:
        for statement in statements:
            connection.execute(statement, values)
    connection.close()


async def write(home: Path, *paths: str, count: int = 1) -> None:
    engine = StreamEngine.open(home)
    for path in paths:
        await engine.stream("p", path).append_batch([{"type": "x", "payload": "intact"}] * count)
    await engine.close()


def leave_half_made(home: Path, elsewhere: Path) -> None:
    """A store as a kill leaves it in the middle of its first transaction: with a journal that is to be rolled back."""
    half = sqlite3.connect(elsewhere / "streams.db", isolation_level=None)
    half.execute("PRAGMA cache_size = 1")
    half.execute("BEGIN")
    half.execute("CREATE TABLE streams (x)")
    half.executemany("INSERT INTO streams VALUES (?)", [("x" * 1_000,)] * 100)
    home.mkdir()
    for name in ("streams.db", "streams.db-journal"):
        shutil.copy(elsewhere / name, home)
    half.close()


def test_store_when_held_by_another_process_names_it_and_is_free_after_its_death(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreError, match=f"in use by process {holder.pid}") as caught:
            Store.open(home)
        assert caught.value.details == {"path": str(home), "owner": {"pid": holder.pid}}
        holder.kill()
    Store.open(home).close()


def test_store_when_opened_twice_in_one_process_is_refused(home: Path) -> None:
    store = Store.open(home)
    with pytest.raises(StoreError, match="this process"):
        Store.open(home)
    store.close()
    Store.open(home).close()


async def test_store_when_newer_is_refused_and_left_byte_for_byte(home: Path) -> None:
    await write(home, "/a")
    execute(home, "PRAGMA user_version = 99")
    before = (home / "streams.db").read_bytes()
    with pytest.raises(StoreError, match=f"schema version 99; this version of itx-notebook knows {SCHEMA_VERSION}"):
        StreamEngine.open(home)
    assert (home / "streams.db").read_bytes() == before


async def test_store_when_newer_and_left_by_a_crash_keeps_its_log_too(home: Path, tmp_path: Path) -> None:
    engine = StreamEngine.open(home)
    await engine.stream("p", "/a").append({"type": "x"})
    execute(home, "PRAGMA user_version = 99")
    left = tmp_path / "left"
    left.mkdir()
    for name in ("streams.db", "streams.db-wal"):
        shutil.copy(home / name, left)
    await engine.close()
    before = {path.name: path.read_bytes() for path in left.iterdir()}
    with pytest.raises(StoreError, match="schema version 99"):
        StreamEngine.open(left)
    assert {name: (left / name).read_bytes() for name in before} == before


async def test_store_when_killed_while_it_was_made_is_made_anew(home: Path, tmp_path: Path) -> None:
    leave_half_made(home, tmp_path)
    assert (home / "streams.db").stat().st_size > 0
    await write(home, "/a")
    engine = StreamEngine.open(home)
    assert engine.stream("p", "/a").load().event_count == 3
    await engine.close()


def test_directory_when_the_owner_cannot_be_noted_is_refused_and_not_kept_locked(home: Path) -> None:
    (home / "owner.json").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(home)
    (home / "owner.json").rmdir()
    Store.open(home).close()


def test_file_when_it_is_another_programs_sqlite_is_refused(home: Path) -> None:
    home.mkdir()
    execute(home, "CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="not a store of event streams"):
        Store.open(home)


def test_file_when_it_is_no_database_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "streams.db").write_bytes(b"something else " * 100)
    with pytest.raises(StoreError, match="SQLITE_NOTADB"):
        Store.open(home)


def test_directory_when_it_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(tmp_path / "file" / "itx")


async def test_event_when_damaged_is_named_and_other_streams_are_not_affected(home: Path) -> None:
    await write(home, "/bad", "/good")
    execute(
        home,
        "UPDATE events SET body = :body WHERE CAST(body AS TEXT) LIKE '%intact%'"
        " AND id >> 32 = (SELECT id FROM streams WHERE path = '/bad')",
        body=b"{damaged",
    )
    engine = StreamEngine.open(home)
    with pytest.raises(StoreError, match=r"Stream /bad cannot be read after offset 0: an event is damaged"):
        await engine.stream("p", "/bad").append({"type": "x"})
    assert (await engine.stream("p", "/good").append({"type": "x"})).offset == 5
    await engine.close()


async def test_checkpoint_when_appends_go_on_is_renewed_every_256_events(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/")
    renewed: list[int] = []
    engine._store.writer._connection.set_trace_callback(
        lambda sql: renewed.append(stream.load().max_offset + 1) if sql.startswith("UPDATE streams") else None
    )
    for _ in range(600):
        await stream.append({"type": "x"})
    assert renewed == [256, 512]
    await engine.close()


GOOD = b'{"type":"x","payload":"intact","offset":3,"createdAt":"2026-06-10T09:00:00.000Z"}'


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "malformed|hold 0 events"),
        (b"\0" * 80, "malformed"),
        (GOOD.replace(b"intact", b"\xff"), "invalid start byte"),
        (GOOD + b"," + GOOD, "1 bodies hold 2 events"),
        (GOOD.replace(b"3", b"99"), "not that of its place"),
        (b'{"type":"x"}', "required field"),
        (b'{"type":"x","payload":' + b"[" * 5_000, "recursion"),
    ],
)
async def test_event_when_damaged_in_any_way_is_never_taken_for_another(home: Path, body: bytes, fault: str) -> None:
    await write(home, "/a")
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    assert stream.load().event_count == 3
    execute(home, "UPDATE events SET body = :body WHERE type = 'x'", body=body)
    with pytest.raises(StoreError, match=f"Stream /a cannot be read after offset 2: an event is damaged.*({fault})"):
        await stream.read(after_offset=2)
    consumer = Consumer()
    subscription = await stream.subscribe(consumer, replay_after_offset=2, presence=False)
    assert (consumer.batches, type(subscription.error)) == ([], StoreError)
    assert (await stream.append({"type": "x"})).offset == 5
    await engine.close()


async def test_event_when_damaged_under_a_key_refuses_the_repeat_by_name(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x", "idempotencyKey": "k"})
    execute(home, "UPDATE events SET body = X'7B' WHERE type = 'x'")
    with pytest.raises(StoreError, match="Stream /a cannot be read at the idempotency key 'k'"):
        await stream.append({"type": "x", "idempotencyKey": "k"})
    assert (await stream.append({"type": "x"})).offset == 4
    await engine.close()


async def test_event_when_its_core_payload_is_damaged_is_named_at_the_fold(home: Path) -> None:
    await write(home, "/a")
    execute(home, "UPDATE streams SET checkpoint = NULL")
    execute(home, "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'incarnationId', 'x') AS BLOB)")
    engine = StreamEngine.open(home)
    with pytest.raises(StoreError, match="Stream /a cannot be read at offset 2"):
        engine.stream("p", "/a").get_state()
    await engine.close()


async def test_child_when_its_first_event_is_damaged_hides_no_sibling(home: Path) -> None:
    await write(home, "/a", "/b")
    execute(home, "UPDATE events SET body = X'7B' WHERE id = ((SELECT id FROM streams WHERE path = '/a') << 32) | 1")
    engine = StreamEngine.open(home)
    first, second = engine.stream("p", "/").get_children()
    assert (first.path, first.created_at, second.path) == ("/a", None, "/b")
    assert second.created_at is not None
    await engine.close()


@pytest.mark.parametrize("damage", ["checkpoint = X'7B'", "checkpoint_version = 3", "checkpoint = NULL"])
async def test_checkpoint_when_damaged_old_or_missing_is_rebuilt_from_the_log(home: Path, damage: str) -> None:
    await write(home, "/a", count=600)
    execute(home, f"UPDATE streams SET {damage}")
    engine = StreamEngine.open(home)
    state = engine.stream("p", "/a").load()
    assert (state.event_count, state.path) == (602, "/a")
    await engine.close()


async def test_disk_when_full_refuses_the_append_and_takes_it_when_there_is_room(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x"})
    connection = engine._store.writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="SQLITE_FULL") as caught:
        await stream.append({"type": "x", "payload": "x" * 100_000})
    assert "make room" in caught.value.remedy
    assert stream.load().max_offset == 3
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await stream.append({"type": "x", "payload": "x" * 100_000})).offset == 4
    await engine.close()


def test_writer_when_one_write_fails_stores_none_and_takes_the_next(home: Path) -> None:
    store = Store.open(home)
    first, second = (StreamWrite("p", path, None, [Row(1, "x", b"{}", "k")], None) for path in ("/a", "/b"))
    (stream_id,) = store.writer.commit([first])
    with pytest.raises(StoreError, match="SQLITE_CONSTRAINT"):
        store.writer.commit([second, first._replace(stream_id=stream_id)])
    assert store.reader.try_read_stream("p", "/b") is None
    (other_id,) = store.writer.commit([second])
    assert store.reader.read_bodies(other_id, after_offset=0, before_offset=None, limit=9) == [b"{}"]
    store.close()


def test_reader_when_offsets_are_out_of_range_stays_within_its_stream(home: Path) -> None:
    store = Store.open(home)
    writes = [StreamWrite("p", path, None, [Row(1, "x", path.encode(), None)], None) for path in ("/a", "/b", "/c")]
    _, middle, _ = store.writer.commit(writes)
    for after, before, expected in [
        (-(2**63), None, [b"/b"]),
        (-1, 2**63, [b"/b"]),
        (0, 2**32, [b"/b"]),
        (2**32, None, []),
        (2**63, 2**63, []),
        (0, -1, []),
    ]:
        assert store.reader.read_bodies(middle, after_offset=after, before_offset=before, limit=9) == expected
    store.close()


async def test_writer_when_asked_is_durable(home: Path) -> None:
    engine = StreamEngine.open(home)
    connection = engine._store.writer._connection
    pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    await engine.close()
