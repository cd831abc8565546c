"""All SQL of the engine: one file, one writer, read-only readers, one owner.

A store is a directory with ``streams.db`` (SQLite, WAL, ``synchronous=FULL``) and a lock. Nothing outside this package
knows that it is SQLite. An append is durable when :meth:`Writer.commit` returns.
"""

from itx_notebook.streams.storage.reader import Reader, StoredStream
from itx_notebook.streams.storage.store import Store
from itx_notebook.streams.storage.writer import Row, Snapshot, StreamWrite, Writer

__all__ = ["Reader", "Row", "Snapshot", "Store", "StoredStream", "StreamWrite", "Writer"]
