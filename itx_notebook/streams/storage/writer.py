"""The one writer: many streams' new events in one transaction, durable when it returns.

It makes no decisions; offsets, keys and folds were decided before. It may be called from any thread, by one caller at a
time.

It also looks idempotency keys up, for whoever decides: a connection that does not write must fetch the pages of the
last commit again, which takes 50 µs of each append (2026-11-23) where its own are at hand. Mostly nobody asks: a key
that is taken is noticed as it is stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from itx_notebook.streams.storage.reader import read_chunks
from itx_notebook.streams.storage.schema import CHUNK_BYTES, get_row_id, store_errors

__all__ = ["PATIENCE", "BusyError", "KeyTakenError", "Row", "Snapshot", "StreamWrite", "Writer"]

PATIENCE: Final = 60.0
"""Seconds to wait for another program that writes to the file, such as a compaction."""

_INSERT_EVENT: Final = "INSERT INTO events (id, type, body) VALUES (?, ?, ?)"
_INSERT_KEY: Final = "INSERT INTO idempotency (stream_id, key, offset) VALUES (?, ?, ?)"


class KeyTakenError(Exception):
    """An idempotency key of the commit is that of an event which is stored; nothing was stored."""


class BusyError(Exception):
    """Another program is writing to the file, and nobody wanted to wait; nothing was stored."""


class Row(NamedTuple):
    """One event to store."""

    offset: int
    type: str
    body: bytes
    idempotency_key: str | None


class StreamWrite(NamedTuple):
    """What one transaction adds to one stream. ``stream_id`` is ``None`` for a stream that has no row yet."""

    namespace: str
    path: str
    stream_id: int | None
    rows: Sequence[Row]
    checkpoint: tuple[int, bytes] | None
    """``(version, state)`` to replace the stream's checkpoint with, or ``None`` to leave it."""


class Snapshot(NamedTuple):
    """How far a processor has come with a stream, replacing what was stored before."""

    stream_id: int
    processor: str
    body: bytes


class Writer:
    """Owns the only connection that writes."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def commit(
        self, writes: Sequence[StreamWrite], snapshots: Sequence[Snapshot] = (), *, patience: float = PATIENCE
    ) -> list[int]:
        """Store all of `writes` and `snapshots` or nothing, and return the stream ids in the order of `writes`.

        When it returns, the events are on disk (``synchronous=FULL``). Whatever it raises, nothing was stored.

        Parameters
        ----------
        patience : float
            Seconds to wait for another program that is writing.

        Raises
        ------
        KeyTakenError
            A key is taken.
        BusyError
            Another program is writing, and `patience` is 0.
        StoreError
            The disk refused, or the other program took too long.
        """
        connection = self._connection
        with store_errors(self._path, "append"):
            self._begin(patience)
            try:
                ids = [self._store(write) for write in writes]
                if snapshots:
                    connection.executemany("INSERT OR REPLACE INTO processor_snapshots VALUES (?, ?, ?)", snapshots)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return ids

    def erase(self, stream_id: int) -> None:
        """Delete a stream with all that belongs to it. When it returns, that is on disk."""
        connection = self._connection
        bounds = (get_row_id(stream_id, 0), get_row_id(stream_id + 1, 0))
        with store_errors(self._path, "erase a stream"):
            self._begin(PATIENCE)
            try:
                connection.execute("DELETE FROM events WHERE id >= ? AND id < ?", bounds)
                connection.execute("DELETE FROM idempotency WHERE stream_id = ?", (stream_id,))
                connection.execute("DELETE FROM processor_snapshots WHERE stream_id = ?", (stream_id,))
                connection.execute("DELETE FROM streams WHERE id = ?", (stream_id,))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _begin(self, patience: float) -> None:
        if not patience:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    raise BusyError from None
                raise
            return
        self._connection.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        finally:
            self._connection.execute("PRAGMA busy_timeout = 0")

    def _store(self, write: StreamWrite) -> int:
        connection = self._connection
        stream_id = write.stream_id
        if stream_id is None:
            (stream_id,) = connection.execute(
                "INSERT INTO streams (namespace, path) VALUES (?, ?) RETURNING id", (write.namespace, write.path)
            ).fetchone()
        base = get_row_id(stream_id, 0)
        if len(write.rows) == 1:
            ((offset, kind, body, key),) = write.rows
            if len(body) > CHUNK_BYTES:
                body = self._cut(base | offset, body)
            connection.execute(_INSERT_EVENT, (base | offset, kind, body))
            if key is not None:
                self._store_keys([(stream_id, key, offset)])
        else:
            connection.executemany(
                _INSERT_EVENT,
                [
                    (base | offset, kind, body if len(body) <= CHUNK_BYTES else self._cut(base | offset, body))
                    for offset, kind, body, _ in write.rows
                ],
            )
            keyed = [(stream_id, key, offset) for offset, _, _, key in write.rows if key is not None]
            if keyed:
                self._store_keys(keyed)
        if write.checkpoint is not None:
            version, state = write.checkpoint
            connection.execute(
                "UPDATE streams SET checkpoint = ?, checkpoint_version = ? WHERE id = ?", (state, version, stream_id)
            )
        return int(stream_id)

    def _store_keys(self, keyed: list[tuple[int, str, int]]) -> None:
        try:
            self._connection.executemany(_INSERT_KEY, keyed)
        except sqlite3.IntegrityError:
            raise KeyTakenError from None

    def _cut(self, row_id: int, body: bytes) -> bytes:
        """Put a large body into chunks; returns what the event's own row holds then, which is nothing."""
        view = memoryview(body)
        self._connection.executemany(
            "INSERT INTO event_chunks (id, chunk_index, bytes) VALUES (?, ?, ?)",
            (
                (row_id, index, view[start : start + CHUNK_BYTES])
                for index, start in enumerate(range(0, len(body), CHUNK_BYTES))
            ),
        )
        return b""

    def try_read_by_key(self, stream_id: int, key: str) -> bytes | None:
        """Body of the event that was committed under an idempotency key. To be called between commits, not in one."""
        with store_errors(self._path, "look an idempotency key up"):
            row = self._connection.execute(
                "SELECT events.id, events.body FROM idempotency JOIN events ON events.id = (stream_id << 32) | offset"
                " WHERE stream_id = ? AND key = ?",
                (stream_id, key),
            ).fetchone()
            return None if row is None else row[1] or read_chunks(self._connection, row[0])

    def close(self) -> None:
        """Close the connection; what was committed stays committed."""
        self._connection.close()
