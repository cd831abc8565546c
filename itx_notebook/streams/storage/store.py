"""One data directory, held by one process: the lock, the file, and the way out.

The lock is held for as long as the store is open, and the system frees it when the process dies, however it dies.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from itx_notebook.errors import StoreError
from itx_notebook.streams.storage.place import check_place
from itx_notebook.streams.storage.reader import Reader
from itx_notebook.streams.storage.schema import SCHEMA_VERSION, read_schema_version, store_errors, upgrade_schema
from itx_notebook.streams.storage.writer import Writer

if TYPE_CHECKING:
    import filelock

__all__ = ["Store", "get_database_path", "open_to_read"]

_BUSY_TIMEOUT_MS: Final = 5000

R = TypeVar("R", bound=Reader)


class Store:
    """An open store. Made by :meth:`open`; used from one thread at a time, except for the writer (see there)."""

    def __init__(self, directory: Path, lock: filelock.BaseFileLock, writer: Writer, reader: Reader) -> None:
        self.directory = directory
        self.writer = writer
        self.reader = reader
        self.is_closed = False
        self._lock = lock

    @classmethod
    def open(cls, directory: Path) -> Store:
        """Open the store in `directory`, made if absent; returns at once, whoever else holds it.

        Raises
        ------
        StoreError
            Another process holds it (``details["owner"]``), the directory cannot be used, or the file is newer than
            this code, foreign or damaged.
        """
        # A later change of the working directory must not move the store.
        directory = directory.absolute()
        try:
            # A new one is its user's alone, whatever the umask: it will hold everything in plain text.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(directory, error) from error
        check_place(directory)
        lock = _try_lock(directory)
        try:
            return cls(directory, lock, *_open_file(get_database_path(directory)))
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the file and let others have it. Repeating is harmless."""
        self.is_closed = True
        self.reader.close()
        self.writer.close()
        self._lock.release()


def get_database_path(directory: Path) -> Path:
    """The file of a store."""
    return directory.absolute() / "streams.db"


@contextmanager
def open_to_read(directory: Path, kind: type[R]) -> Iterator[R]:
    """Look at the store in `directory` beside whoever holds it, or with nobody; changes nothing and locks nobody out.

    Raises
    ------
    StoreError
        There is no store, or its file is older or newer than this code, foreign or damaged.
    """
    path = get_database_path(directory)
    if not path.exists():
        raise StoreError(
            f"There is no store in {path.parent}.",
            details={"path": str(path.parent)},
            hint="Name the directory of one with ITX_HOME or --home.",
        )
    with store_errors(path, "open the store"):
        connection = _connect_to_read(path)
    with closing(connection):
        with store_errors(path, "open the store"):
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            version = read_schema_version(connection, path)
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {version}, older than {SCHEMA_VERSION}, and is not changed by a look.",
                details={"path": str(path), "version": version, "known": SCHEMA_VERSION},
                hint="Open it once with this version: itx_notebook.connect(), or itx-notebook compact.",
            )
        yield kind(connection, path)


def _try_lock(directory: Path) -> filelock.BaseFileLock:
    import filelock  # a tenth of the time of `import itx_notebook`, which a kernel that opens no store need not pay

    # thread_local=False: the store is opened on the I/O thread and may be closed by another one at exit.
    lock = filelock.FileLock(directory / "streams.lock", thread_local=False)
    owner = directory / "owner.json"
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        facts = _try_read_owner(owner)
        raise StoreError(
            f"The store in {directory} is in use by {_name_owner(facts)}.",
            details={"path": str(directory), "owner": facts},
            hint="One process holds a store: shut that kernel down, or name another directory with ITX_HOME or home=.",
        ) from None
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        owner.write_text(json.dumps({"pid": os.getpid()}))
    except OSError as error:
        lock.release()
        raise _unusable(directory, error) from error
    return lock


def _try_read_owner(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _name_owner(facts: dict[str, Any] | None) -> str:
    pid = facts.get("pid") if facts else None
    if pid == os.getpid():
        return "this process, which opened it already"
    return f"process {pid}" if pid else "another process"


def _unusable(directory: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The directory {directory} cannot be used: {error.strerror or error}.",
        details={"path": str(directory)},
        hint="Name a directory you may write with ITX_HOME or home=.",
    )


def _without_wal(path: Path, mode: str) -> StoreError:
    return StoreError(
        f"{path} is on a file system without shared memory (journal mode {mode}).",
        details={"path": str(path), "journal_mode": mode},
        hint="Put the store on a local disk with ITX_HOME.",
    )


def _open_file(path: Path) -> tuple[Writer, Reader]:
    with store_errors(path, "open the store"):
        _look(path)
        # check_same_thread=False: commits move to a thread of their own while the disk is slow (committer.py).
        writing = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            writing.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            upgrade_schema(writing, read_schema_version(writing, path))
            (mode,) = writing.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise _without_wal(path, mode)
            writing.execute("PRAGMA synchronous = FULL")
            # A file that can only be read opens like any other, and even begins a transaction: better refused now than
            # at the first append.
            writing.execute("BEGIN IMMEDIATE")
            writing.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            writing.execute("ROLLBACK")
            # From here on whoever commits says how long it may wait: the loop must not stand still for others.
            writing.execute("PRAGMA busy_timeout = 0")
            reading = _connect_to_read(path)
            reading.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        except BaseException:
            writing.close()
            raise
    return Writer(writing, path), Reader(reading, path)


def _look(path: Path) -> None:
    """Refuse a file that is not ours to write through a connection that cannot: closing another would tidy it up."""
    if not path.exists():
        return
    with closing(_connect_to_read(path)) as looking:
        try:
            read_schema_version(looking, path)
        except sqlite3.OperationalError:
            # Its journal is to be rolled back first, which only a writer may do. The writer looks as well.
            return


def _connect_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
