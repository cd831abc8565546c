"""A store's copies and its size: backup and compaction, while whoever holds it goes on.

Both go past the lock. A backup only reads, from one moment of the store. A compaction changes the file and none of what
is in it; appends wait for its end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from itx_notebook.errors import StoreError
from itx_notebook.streams.storage.reader import Reader
from itx_notebook.streams.storage.schema import store_errors
from itx_notebook.streams.storage.store import Store, get_database_path, open_to_read

__all__ = ["Compaction", "back_up_store", "compact_store"]

_STEPS_BETWEEN_LOOKS: Final = 200_000
"""Steps of SQLite's machine between two reports of progress: a few milliseconds."""
_BUSY_TIMEOUT_MS: Final = 5000


class Compaction(NamedTuple):
    """Bytes of the file and its log before and after."""

    before: int
    after: int


class _Copier(Reader):
    """A reader that can write all it sees into another file."""

    def copy_into(self, target: Path, on_progress: Callable[[], object] | None) -> None:
        def look() -> None:
            if on_progress is not None:
                on_progress()

        self._connection.set_progress_handler(look, _STEPS_BETWEEN_LOOKS)
        with store_errors(self._path, "back the store up"):
            # Not Connection.backup(), which begins again whenever somebody commits; and this leaves out what is empty.
            self._connection.execute("VACUUM INTO ?", (str(target),))


def back_up_store(directory: Path, destination: Path, *, on_progress: Callable[[int], object] | None = None) -> Path:
    """Copy the store of one moment into a new data directory; returns the copy's file.

    The copy appears under its name when it is whole and on disk.

    Parameters
    ----------
    destination : Path
        A directory, made if absent, that holds no store.
    on_progress : callable, optional
        Told now and then how many bytes are written.

    Raises
    ------
    StoreError
        There is no store to copy or one to overwrite, or a disk refused.
    """
    target = get_database_path(destination)
    partial = target.with_name(f"{target.name}.partial")
    if target.exists():
        raise StoreError(
            f"{target.parent} holds a store already.",
            details={"path": str(target.parent)},
            hint="Name a directory that is new; a backup never overwrites.",
        )
    with open_to_read(directory, _Copier) as store:
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            store.copy_into(partial, None if on_progress is None else lambda: on_progress(_get_size(partial)))
            _sync(partial)
            partial.rename(target)
            _sync(target.parent)
        except StoreError:
            partial.unlink(missing_ok=True)
            raise
        except OSError as error:
            raise StoreError(
                f"Could not write the backup {target}: {error.strerror or error}.",
                details={"path": str(target)},
                hint="Look at the place of the backup; the store itself is as it was.",
            ) from error
    return target


def compact_store(directory: Path) -> Compaction:
    """Give the room of what was erased back to the disk, and fold the log into the file.

    Needs as much free space as the store has. Appends of whoever holds the store wait meanwhile, reads do not.

    Raises
    ------
    StoreError
        There is no store, it is newer than this code, or the disk refused; then it is as it was.
    """
    path = get_database_path(directory)
    _upgrade(directory)
    with open_to_read(directory, Reader):
        before = _get_size(path) + _get_size(path.with_name(f"{path.name}-wal"))
    with store_errors(path, "compact the store"), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Compaction(before, _get_size(path) + _get_size(path.with_name(f"{path.name}-wal")))


def _upgrade(directory: Path) -> None:
    """Bring an older store to this version, unless somebody holds it, who has done that."""
    if not get_database_path(directory).exists():
        return
    try:
        Store.open(directory).close()
    except StoreError as error:
        if "owner" not in (error.details or {}):
            raise


def _get_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle of a directory to sync
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
