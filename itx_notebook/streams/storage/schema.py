"""The tables, their version, and the mapping of SQLite's errors to ours.

One file holds all streams of a store. An event's row id is ``stream_id * 2**32 + offset``: the events of a stream lie
next to each other in one B-tree, a range of offsets is a range of row ids, and an append touches a single index.

The schema is a list of steps, each of which takes a file from one version to the next: a new file takes all of them, an
older one the rest, in one transaction.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from itx_notebook.errors import StoreError

__all__ = [
    "CHUNK_BYTES",
    "OFFSET_BITS",
    "SCHEMA_VERSION",
    "get_row_id",
    "read_schema_version",
    "store_errors",
    "upgrade_schema",
]

APPLICATION_ID: Final = 0x69747831  # "itx1": tells our files from other people's SQLite
OFFSET_BITS: Final = 32
CHUNK_BYTES: Final = 512 * 1024
"""Bytes of an event's stored text above which it lies in chunks of this size (the June engine's figure)."""

_STEPS: Final = (
    """
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    path TEXT NOT NULL,
    checkpoint BLOB,            -- the folded core state as JSON, possibly behind the log; NULL: fold from the start
    checkpoint_version INTEGER, -- of the fold that made it; another version is not trusted
    UNIQUE (namespace, path)
) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY,     -- stream_id << 32 | offset
    type TEXT NOT NULL,
    body BLOB NOT NULL          -- the committed event as UTF-8 JSON, without its stream path
) STRICT;
CREATE TABLE idempotency (
    stream_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (stream_id, key)
) STRICT, WITHOUT ROWID;
""",
    # Events of an older file that are larger stay where they are: a body that is not empty is whole.
    """
CREATE TABLE event_chunks (     -- of an event whose body is empty: its bytes, cut anywhere
    id INTEGER NOT NULL,        -- the event's
    chunk_index INTEGER NOT NULL,
    bytes BLOB NOT NULL,        -- all but the last have CHUNK_BYTES
    PRIMARY KEY (id, chunk_index)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER chunks_go_with_their_event AFTER DELETE ON events WHEN length(old.body) = 0 BEGIN
    DELETE FROM event_chunks WHERE id = old.id;
END;
""",
    """
CREATE TABLE processor_snapshots (
    stream_id INTEGER NOT NULL,
    processor TEXT NOT NULL,    -- the subscription key it runs under
    body BLOB NOT NULL,         -- {"offset", "state"} as JSON: how far it has come, and what it made of it
    PRIMARY KEY (stream_id, processor)
) STRICT, WITHOUT ROWID;
""",
)
SCHEMA_VERSION: Final = len(_STEPS)


def get_row_id(stream_id: int, offset: int) -> int:
    """Where the event at `offset` of a stream is kept."""
    return (stream_id << OFFSET_BITS) | offset


def upgrade_schema(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file of an older version (0: a new file) to :data:`SCHEMA_VERSION`, or leave it as it was."""
    if version < SCHEMA_VERSION:
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            f"{''.join(_STEPS[version:])} COMMIT;"
        )


def read_schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a file that this code may write, 0 if it is new; :class:`StoreError` for any other file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise StoreError(
            f"{path} is an SQLite file, but not a store of event streams.",
            details={"path": str(path)},
            hint="Name another directory with ITX_HOME or home=; the file was left as it is.",
        )
    if not 0 < version <= SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}; this version of itx-notebook knows {SCHEMA_VERSION}.",
            details={"path": str(path), "version": version, "known": SCHEMA_VERSION},
            hint="Update itx-notebook, or name another directory with ITX_HOME; the file was left as it is.",
        )
    return int(version)


class store_errors:  # noqa: N801  # reads as the verb it is: `with store_errors(path, "append"):`
    """Turn SQLite's errors into a :class:`StoreError` that says what was being done, to which file, and what to do.

    A class rather than a generator: it stands around every append, and this halves what it costs.
    """

    __slots__ = ("_doing", "_path")

    def __init__(self, path: Path, doing: str) -> None:
        self._path = path
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        if isinstance(error, sqlite3.Error):
            name = getattr(error, "sqlite_errorname", None) or type(error).__name__
            raise StoreError(
                f"Could not {self._doing} in {self._path}: {error} ({name}).",
                details={"path": str(self._path), "sqlite": name},
                hint=_remedy(name),
            ) from error


def _remedy(name: str) -> str:
    if name.startswith("SQLITE_FULL"):
        return "The disk is full: make room and call again; nothing of this call was written."
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return "The directory cannot be written: check its permissions, or name another with ITX_HOME."
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "The file is damaged: stop, copy it away, and restore a backup; nothing was changed."
    if name.startswith("SQLITE_BUSY"):
        return "Another program is writing to the file: let it end, and call again; nothing of this call was written."
    if name.startswith("SQLITE_IOERR"):
        return "The disk refused: look whether it is full or failing, and call again; nothing of this call was written."
    return "Nothing of this call was written; if it goes on, look at the disk and at other programs that use the file."
