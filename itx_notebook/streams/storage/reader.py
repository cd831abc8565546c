"""Reading a store: pages of a log, what is known of a stream.

On a connection of its own that cannot write. A log only grows, so what one statement found the next one finds too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from itx_notebook.streams.storage.schema import CHUNK_BYTES, OFFSET_BITS, get_row_id, store_errors

__all__ = ["Reader", "StoredStream", "StreamName", "read_chunks"]

_LAST_OFFSET: Final = 2**OFFSET_BITS - 1
_PAGE_BYTES: Final = 8 * 1024 * 1024
"""Bytes after which a page ends, however few events it has: a reader of large events needs no memory for hundreds."""
_FETCH: Final = 100
"""Rows between two looks at how large the page has become."""


class StoredStream(NamedTuple):
    """What the store knows of a stream without reading its log."""

    stream_id: int
    checkpoint: bytes | None
    checkpoint_version: int | None


class StreamName(NamedTuple):
    """A stream of the store."""

    stream_id: int
    namespace: str
    path: str


class Reader:
    """Owns the read-only connection. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def try_read_stream(self, namespace: str, path: str) -> StoredStream | None:
        """The stream's row, or ``None`` if nothing was ever committed to it."""
        with store_errors(self._path, "look a stream up"):
            row = self._connection.execute(
                "SELECT id, checkpoint, checkpoint_version FROM streams WHERE namespace = ? AND path = ?",
                (namespace, path),
            ).fetchone()
        return None if row is None else StoredStream(*row)

    def read_bodies(self, stream_id: int, *, after_offset: int, before_offset: int | None, limit: int) -> list[bytes]:
        """Bodies of up to `limit` events in order, both bounds exclusive; ``None`` is no upper bound.

        Fewer if they are large, but at least one if there is one. One whose chunks are not whole is empty.
        """
        # Clamped: an offset out of its range would name a row of another stream.
        before = _LAST_OFFSET if before_offset is None else max(0, min(before_offset, _LAST_OFFSET))
        after = max(0, min(after_offset, _LAST_OFFSET))
        bodies: list[bytes] = []
        size = 0
        with (
            store_errors(self._path, "read a stream"),
            # Closed: a cursor that is not at its end keeps the log of the store from being folded in.
            closing(
                self._connection.execute(
                    "SELECT body FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                    (get_row_id(stream_id, after), get_row_id(stream_id, before), limit),
                )
            ) as cursor,
        ):
            while size < _PAGE_BYTES and (rows := cursor.fetchmany(_FETCH)):
                page = [row[0] for row in rows]
                if b"" in page:
                    # Offsets are dense; where they are not, the event found is not the one of its place.
                    size += self._add_large(bodies, page, get_row_id(stream_id, after + len(bodies) + 1))
                else:
                    bodies += page
                    size += sum(map(len, page))
        return bodies

    def _add_large(self, bodies: list[bytes], page: list[bytes], first_id: int) -> int:
        """Add what fits of a page with events that lie in chunks; returns its bytes."""
        size = 0
        for row_id, body in enumerate(page, first_id):
            whole = body or read_chunks(self._connection, row_id)
            bodies.append(whole)
            size += len(whole)
            if size >= _PAGE_BYTES:
                break
        return size

    def read_first_bodies(self, namespace: str, paths: Sequence[str]) -> dict[str, bytes]:
        """Bodies of the first events (``created``) of those of `paths` that exist."""
        found: dict[str, bytes] = {}
        with store_errors(self._path, "look children up"):
            for path in paths:
                row = self._connection.execute(
                    "SELECT events.id, events.body FROM streams JOIN events ON events.id = (streams.id << 32) | 1"
                    " WHERE namespace = ? AND path = ?",
                    (namespace, path),
                ).fetchone()
                if row is not None:
                    found[path] = row[1] or read_chunks(self._connection, row[0])
        return found

    def try_read_snapshot(self, stream_id: int, processor: str) -> bytes | None:
        """How far a processor has come with a stream, or ``None`` if it never got anywhere."""
        with store_errors(self._path, "look a processor's snapshot up"):
            row = self._connection.execute(
                "SELECT body FROM processor_snapshots WHERE stream_id = ? AND processor = ?", (stream_id, processor)
            ).fetchone()
        return None if row is None else row[0]

    def count_streams(self, namespace: str) -> int:
        """How many streams of a namespace exist."""
        with store_errors(self._path, "count streams"):
            (count,) = self._connection.execute(
                "SELECT count(*) FROM streams WHERE namespace = ?", (namespace,)
            ).fetchone()
        return int(count)

    def read_names(self, namespace: str | None = None) -> list[StreamName]:
        """The streams of a namespace, or of all, in order of their paths."""
        with store_errors(self._path, "list streams"):
            rows = self._connection.execute(
                "SELECT id, namespace, path FROM streams WHERE namespace = ?1 OR ?1 IS NULL ORDER BY namespace, path",
                (namespace,),
            ).fetchall()
        return [StreamName(*row) for row in rows]

    def read_head(self, stream_id: int) -> int:
        """The highest offset of a stream, 0 if it has no events."""
        with store_errors(self._path, "read a stream"):
            (highest,) = self._connection.execute(
                "SELECT max(id) FROM events WHERE id > ? AND id < ?",
                (get_row_id(stream_id, 0), get_row_id(stream_id + 1, 0)),
            ).fetchone()
        return 0 if highest is None else int(highest) - get_row_id(stream_id, 0)

    @contextmanager
    def hold_still(self) -> Iterator[None]:
        """Within, every read sees the store of one moment, whatever is committed meanwhile."""
        with store_errors(self._path, "read the store"):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def read_chunks(connection: sqlite3.Connection, row_id: int) -> bytes:
    """The body of an event that lies in chunks; empty if they are not whole, which no event is."""
    chunks = connection.execute(
        "SELECT chunk_index, bytes FROM event_chunks WHERE id = ? ORDER BY chunk_index", (row_id,)
    ).fetchall()
    # Where its end is missing, the body is no JSON.
    is_whole = all(
        index == place and (len(part) == CHUNK_BYTES or place == len(chunks) - 1)
        for place, (index, part) in enumerate(chunks)
    )
    return b"".join(part for _, part in chunks) if is_whole else b""
