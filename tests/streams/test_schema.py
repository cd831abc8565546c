"""Stores of every earlier version open as they are, keep what they hold, and take new events."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine
from itx_notebook.streams.storage import Store, schema

VERSION_1 = """
PRAGMA journal_mode = WAL;
PRAGMA application_id = 0x69747831;
PRAGMA user_version = 1;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    path TEXT NOT NULL,
    checkpoint BLOB,
    checkpoint_version INTEGER,
    UNIQUE (namespace, path)
) STRICT;
CREATE TABLE events (id INTEGER PRIMARY KEY, type TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE idempotency (
    stream_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (stream_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO streams VALUES (1, 'p', '/a', NULL, NULL);
INSERT INTO events VALUES
    (4294967297, 'events.iterate.com/stream/created', CAST('{"type":"events.iterate.com/stream/created",'
     || '"payload":{"namespace":"p","path":"/a"},"offset":1,"createdAt":"2026-06-10T09:00:00.000Z"}' AS BLOB)),
    (4294967298, 'x', CAST('{"type":"x","payload":"' || printf('%.600000c', 'y')
     || '","idempotencyKey":"k","offset":2,"createdAt":"2026-06-10T09:00:00.000Z"}' AS BLOB));
INSERT INTO idempotency VALUES (1, 'k', 2);
"""
"""What the first release wrote: large events in their own rows."""


def write_version_1(home: Path) -> None:
    home.mkdir()
    connection = sqlite3.connect(home / "streams.db")
    connection.executescript(VERSION_1)
    connection.close()


def read_versions(home: Path) -> tuple[int, int]:
    connection = sqlite3.connect(home / "streams.db")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return application, version


def get_names(home: Path) -> list[str]:
    connection = sqlite3.connect(home / "streams.db")
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
    connection.close()
    return names


async def test_store_of_version_1_when_opened_keeps_its_events_and_takes_large_ones(home: Path) -> None:
    write_version_1(home)
    for _ in range(2):
        engine = StreamEngine.open(home)
        stream = engine.stream("p", "/a")
        old = await stream.read(before_offset=3)
        assert [(event.offset, event.payload) for event in old[1:]] == [(2, "y" * 600_000)]
        assert await stream.append({"type": "z", "idempotencyKey": "k"}) == old[1]
        large = await stream.append({"type": "x", "payload": "z" * 600_000})
        assert (await stream.read())[-1] == large
        await engine.close()
        assert read_versions(home) == (schema.APPLICATION_ID, schema.SCHEMA_VERSION)


def test_store_of_an_old_version_when_upgraded_has_the_tables_of_a_new_one(home: Path, tmp_path: Path) -> None:
    write_version_1(home)
    Store.open(home).close()
    Store.open(tmp_path / "new").close()
    assert get_names(home) == get_names(tmp_path / "new")


@pytest.mark.parametrize("version", [-1, 0, schema.SCHEMA_VERSION + 1])
def test_store_when_its_version_is_none_we_made_is_refused_and_left(home: Path, version: int) -> None:
    write_version_1(home)
    connection = sqlite3.connect(home / "streams.db")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = (home / "streams.db").read_bytes()
    with pytest.raises(StoreError, match=f"schema version {version}; this version of itx-notebook knows"):
        Store.open(home)
    assert (home / "streams.db").read_bytes() == before
