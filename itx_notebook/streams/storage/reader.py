"""Reading a store: pages of a log, what is known of a stream.

On a connection of its own that cannot write. A log only grows, so what one statement found the next one finds too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from itx_notebook.streams.storage.schema import OFFSET_BITS, get_row_id, store_errors

__all__ = ["Reader", "StoredStream"]

_LAST_OFFSET: Final = 2**OFFSET_BITS - 1


class StoredStream(NamedTuple):
    """What the store knows of a stream without reading its log."""

    stream_id: int
    checkpoint: bytes | None
    checkpoint_version: int | None


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
        """Bodies of up to `limit` events in order, both bounds exclusive; ``None`` is no upper bound."""
        # Clamped: an offset out of its range would name a row of another stream.
        before = _LAST_OFFSET if before_offset is None else max(0, min(before_offset, _LAST_OFFSET))
        after = max(0, min(after_offset, _LAST_OFFSET))
        with store_errors(self._path, "read a stream"):
            rows = self._connection.execute(
                "SELECT body FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                (get_row_id(stream_id, after), get_row_id(stream_id, before), limit),
            ).fetchall()
        return [row[0] for row in rows]

    def read_first_bodies(self, namespace: str, paths: Sequence[str]) -> dict[str, bytes]:
        """Bodies of the first events (``created``) of those of `paths` that exist."""
        found: dict[str, bytes] = {}
        with store_errors(self._path, "look children up"):
            for path in paths:
                row = self._connection.execute(
                    "SELECT events.body FROM streams JOIN events ON events.id = (streams.id << 32) | 1"
                    " WHERE namespace = ? AND path = ?",
                    (namespace, path),
                ).fetchone()
                if row is not None:
                    found[path] = row[0]
        return found

    def count_streams(self, namespace: str) -> int:
        """How many streams of a namespace exist."""
        with store_errors(self._path, "count streams"):
            (count,) = self._connection.execute(
                "SELECT count(*) FROM streams WHERE namespace = ?", (namespace,)
            ).fetchone()
        return int(count)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
