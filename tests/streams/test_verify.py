"""Verification finds each kind of fault by its name, and none in a store that is whole."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine
from itx_notebook.streams.verify import verify_store


async def fill(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    for n in range(300):
        await stream.append({"type": "x", "payload": n, **({"idempotencyKey": f"k{n}"} if n % 50 == 0 else {})})
    await engine.stream("p", "/b").append({"type": "x", "payload": "x" * 1_200_000})
    await engine.stream("q", "/a").append({"type": "x"})
    await engine.close()


def find(home: Path) -> list[str]:
    return [str(fault) for fault in verify_store(home).faults]


def damage(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "streams.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


A = "id >> 32 = (SELECT id FROM streams WHERE namespace = 'p' AND path = '/a') AND (id & 0xffffffff)"
B = "id >> 32 = (SELECT id FROM streams WHERE path = '/b')"
IN_A = "stream_id = (SELECT id FROM streams WHERE namespace = 'p' AND path = '/a')"


async def test_store_when_whole_has_no_fault_and_is_counted(home: Path) -> None:
    await fill(home)
    told: list[tuple[int, int]] = []
    found = verify_store(home, on_progress=lambda done, total: told.append((done, total)))
    # p: the root (2 and two children), /a, /b; q: the root (2 and a child), /a.
    assert (found.streams, found.events, found.faults) == (5, 4 + 302 + 3 + 3 + 3, [])
    assert told == [(n, 5) for n in range(1, 6)]
    assert verify_store(home, namespace="q").events == 6


async def test_store_when_in_use_is_verified_beside_its_appends(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x"})
    verifying = asyncio.get_running_loop().run_in_executor(None, lambda: [find(home) for _ in range(5)])
    while not verifying.done():
        await stream.append({"type": "x"})
        await asyncio.sleep(0)
    assert await verifying == [[]] * 5
    await engine.close()


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        (f"DELETE FROM events WHERE {A} = 7", ["p:/a at offset 7: it is missing; the next event is at offset 8"]),
        (f"DELETE FROM events WHERE {A} >= 256", ["p:/a: the checkpoint is at offset 256, beyond the end of the log"]),
        (
            f"UPDATE events SET body = X'7B' WHERE {A} = 7",
            ["p:/a at offset 7: it is no event (Input data was truncated)"],
        ),
        (
            f"UPDATE events SET body = CAST(replace(CAST(body AS TEXT), ':7,', ':8,') AS BLOB) WHERE {A} = 7",
            ["p:/a at offset 7: it says that it is 'x' at offset 8, not 'x'"],
        ),
        (
            f"UPDATE events SET type = 'y' WHERE {A} = 7",
            ["p:/a at offset 7: it says that it is 'x' at offset 7, not 'y'"],
        ),
        (
            f"UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'incarnationId', 'i') AS BLOB) WHERE {A} = 2",
            ["p:/a at offset 2: it cannot be folded: The payload of events.iterate.com/stream/woken is not of its"],
        ),
        (
            """UPDATE streams SET checkpoint = CAST(replace(CAST(checkpoint AS TEXT), ':false', ':true') AS BLOB)""",
            ["p:/a at offset 256: the checkpoint is not the fold of the log: paused"],
        ),
        (
            "UPDATE streams SET checkpoint = X'7B' WHERE namespace = 'p' AND path = '/a'",
            ["p:/a: the checkpoint is damaged (Input data was truncated); the log is folded from the start instead"],
        ),
        (
            f"DELETE FROM idempotency WHERE {IN_A} AND key = 'k50'",
            ["p:/a at offset 53: its idempotency key 'k50' is not in the index"],
        ),
        (
            f"UPDATE idempotency SET offset = 9 WHERE {IN_A} AND key = 'k50'",
            ["p:/a at offset 9: the idempotency key 'k50' of the index is not that of the event"],
        ),
        (
            f"INSERT INTO idempotency SELECT stream_id, 'more', 4 FROM idempotency WHERE {IN_A} LIMIT 1",
            ["p:/a at offset 4: the idempotency key 'more' of the index is not that of the event"],
        ),
        (
            "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'k50', 'k0') AS BLOB)",
            [
                "p:/a at offset 53: its idempotency key 'k0' is that of offset 3",
                "p:/a at offset 53: the idempotency key 'k50' of the index is not that of the event",
            ],
        ),
        ("DELETE FROM event_chunks WHERE chunk_index = 1", ["p:/b at offset 3: its chunks are not whole"]),
        ("INSERT INTO event_chunks VALUES (7, 0, X'00')", ["1 chunks of no event"]),
        (
            f"UPDATE events SET body = X'00' WHERE {B} AND length(body) = 0",
            ["3 chunks of no event", "p:/b at offset 3"],
        ),
        (
            "DELETE FROM streams WHERE path = '/b'",
            ["3 events of no stream"],
        ),
        ("INSERT INTO idempotency VALUES (99, 'k', 1)", ["1 idempotency keys of no stream"]),
        ("INSERT INTO processor_snapshots VALUES (99, 'x', X'00')", ["1 processor snapshots of no stream"]),
        ("UPDATE streams SET path = '/z' WHERE path = '/b'", ["p:/z at offset 1: it was created as p:/b"]),
    ],
)
async def test_fault_when_made_is_found_and_no_other(home: Path, statement: str, faults: list[str]) -> None:
    await fill(home)
    damage(home, statement)
    found = find(home)
    assert len(found) == len(faults)
    for one, expected in zip(found, faults, strict=True):
        assert one.startswith(expected)


async def test_page_when_damaged_is_a_fault_and_the_other_streams_are_verified(home: Path) -> None:
    await fill(home)
    content = (home / "streams.db").read_bytes()
    place = content.index(b'"payload":150')
    page = place // 4096 * 4096
    (home / "streams.db").write_bytes(content[:page] + bytes(4096) + content[page + 4096 :])
    found = verify_store(home)
    assert found.streams == 5
    assert any(fault.path is None for fault in found.faults)
    assert {fault.path for fault in found.faults if fault.namespace == "p"} == {"/a"}


def test_directory_when_it_holds_no_store_cannot_be_verified(home: Path) -> None:
    with pytest.raises(StoreError, match="There is no store in"):
        verify_store(home)
    assert not home.exists()


async def test_store_when_older_is_not_changed_by_a_look(home: Path) -> None:
    await fill(home)
    damage(home, "PRAGMA user_version = 1")
    before = (home / "streams.db").read_bytes()
    with pytest.raises(StoreError, match="schema version 1, older than"):
        verify_store(home)
    assert (home / "streams.db").read_bytes() == before
