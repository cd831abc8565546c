"""The one writer: many streams' new events in one transaction, durable when it returns.

It makes no decisions; offsets, keys and folds were decided before. It may be called from any thread, by one caller at a
time.

It also looks idempotency keys up, for whoever decides: a connection that does not write must fetch the pages of the
last commit again, which takes 50 µs of each append (2026-11-23) where its own are at hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from itx_notebook.streams.storage.reader import read_chunks
from itx_notebook.streams.storage.schema import CHUNK_BYTES, get_row_id, store_errors

__all__ = ["Row", "Snapshot", "StreamWrite", "Writer"]

_INSERT_EVENT: Final = "INSERT INTO events (id, type, body) VALUES (?, ?, ?)"


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

    def commit(self, writes: Sequence[StreamWrite], snapshots: Sequence[Snapshot] = ()) -> list[int]:
        """Store all of `writes` and `snapshots` or nothing, and return the stream ids in the order of `writes`.

        When it returns, the events are on disk (``synchronous=FULL``). :class:`StoreError`: nothing was stored.
        """
        connection = self._connection
        with store_errors(self._path, "append"):
            connection.execute("BEGIN IMMEDIATE")
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
            connection.execute("BEGIN IMMEDIATE")
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

    def _store(self, write: StreamWrite) -> int:
        connection = self._connection
        stream_id = write.stream_id
        if stream_id is None:
            (stream_id,) = connection.execute(
                "INSERT INTO streams (namespace, path) VALUES (?, ?) RETURNING id", (write.namespace, write.path)
            ).fetchone()
        base = get_row_id(stream_id, 0)
        if len(write.rows) == 1:
            row = write.rows[0]
            connection.execute(_INSERT_EVENT, (base | row.offset, row.type, self._place(base | row.offset, row.body)))
        else:
            connection.executemany(
                _INSERT_EVENT,
                [(base | row.offset, row.type, self._place(base | row.offset, row.body)) for row in write.rows],
            )
        keyed = [(stream_id, row.idempotency_key, row.offset) for row in write.rows if row.idempotency_key is not None]
        if keyed:
            connection.executemany("INSERT INTO idempotency (stream_id, key, offset) VALUES (?, ?, ?)", keyed)
        if write.checkpoint is not None:
            version, state = write.checkpoint
            connection.execute(
                "UPDATE streams SET checkpoint = ?, checkpoint_version = ? WHERE id = ?", (state, version, stream_id)
            )
        return int(stream_id)

    def _place(self, row_id: int, body: bytes) -> bytes:
        """What the event's own row holds: its body, or nothing if that is large and was put into chunks."""
        if len(body) <= CHUNK_BYTES:
            return body
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
