"""All SQL of the engine: one file, one writer, read-only readers, one owner.

A store is a directory with ``streams.db`` (SQLite, WAL, ``synchronous=FULL``) and a lock. Nothing outside this package
knows that it is SQLite. An append is durable when :meth:`Writer.commit` returns.
"""

from itx_notebook.streams.storage.audit import Auditor, EventRow
from itx_notebook.streams.storage.maintenance import Compaction, back_up_store, compact_store
from itx_notebook.streams.storage.reader import Reader, StoredStream, StreamName
from itx_notebook.streams.storage.store import Store, open_to_read
from itx_notebook.streams.storage.writer import PATIENCE, BusyError, KeyTakenError, Row, Snapshot, StreamWrite, Writer

__all__ = [
    "PATIENCE",
    "Auditor",
    "BusyError",
    "Compaction",
    "EventRow",
    "KeyTakenError",
    "Reader",
    "Row",
    "Snapshot",
    "Store",
    "StoredStream",
    "StreamName",
    "StreamWrite",
    "Writer",
    "back_up_store",
    "compact_store",
    "open_to_read",
]
