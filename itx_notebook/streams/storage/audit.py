"""Reading a store row by row, trusting nothing: what ``verify`` needs of the tables.

A reader of events asks for pages and takes it that offsets are dense; here every row is given as it stands, with its
place, and the tables are compared with each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final, NamedTuple

from itx_notebook.streams.storage.reader import Reader, read_chunks
from itx_notebook.streams.storage.schema import OFFSET_BITS, get_row_id, store_errors

__all__ = ["Auditor", "EventRow"]

_LOOSE: Final = {
    "events of no stream": "SELECT count(*) FROM events WHERE id >> 32 NOT IN (SELECT id FROM streams)",
    "chunks of no event": (
        "SELECT count(*) FROM event_chunks WHERE id NOT IN (SELECT id FROM events WHERE length(body) = 0)"
    ),
    "idempotency keys of no stream": (
        "SELECT count(*) FROM idempotency WHERE stream_id NOT IN (SELECT id FROM streams)"
    ),
    "processor snapshots of no stream": (
        "SELECT count(*) FROM processor_snapshots WHERE stream_id NOT IN (SELECT id FROM streams)"
    ),
}


class EventRow(NamedTuple):
    """One event as it lies in the table. The body is empty if its chunks are not whole."""

    offset: int
    type: str
    body: bytes


class Auditor(Reader):
    """A reader that looks at every row."""

    def read_event_rows(self, stream_id: int) -> Iterator[EventRow]:
        """All rows of a stream, in order of their place."""
        with (
            store_errors(self._path, "read a stream"),
            closing(
                self._connection.execute(
                    "SELECT id, type, body FROM events WHERE id >= ? AND id < ? ORDER BY id",
                    (get_row_id(stream_id, 0), get_row_id(stream_id + 1, 0)),
                )
            ) as rows,
        ):
            for row_id, kind, body in rows:
                whole = body or read_chunks(self._connection, row_id)
                yield EventRow(row_id & (2**OFFSET_BITS - 1), kind, whole)

    def read_keys(self, stream_id: int) -> dict[str, int]:
        """The idempotency keys of a stream, with the offset each points at."""
        with store_errors(self._path, "read idempotency keys"):
            return dict(
                self._connection.execute("SELECT key, offset FROM idempotency WHERE stream_id = ?", (stream_id,))
            )

    def find_file_faults(self) -> list[str]:
        """What is wrong with the file itself: pages, indexes, and rows that belong to nothing."""
        faults: list[str] = []
        with store_errors(self._path, "check the file"):
            found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check(20)")]
            if found != ["ok"]:
                return found  # whoever counts rows of such a file stumbles over it
            for what, sql in _LOOSE.items():
                (count,) = self._connection.execute(sql).fetchone()
                if count:
                    faults.append(f"{count} {what}")
        return faults
