"""Backup and compaction beside an engine that appends: nothing waits that need not, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine
from itx_notebook.streams.storage import back_up_store, compact_store
from itx_notebook.streams.verify import verify_store


async def fill(engine: StreamEngine, path: str, count: int = 200) -> None:
    await engine.stream("p", path).append_batch([{"type": "x", "payload": "x" * 1_000}] * count)


def count_free_pages(home: Path) -> int:
    with closing(sqlite3.connect(home / "streams.db")) as connection:
        (count,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(count)


async def append_until(engine: StreamEngine, work: asyncio.Task[object]) -> list[int]:
    """Append for as long as `work` takes, and some more; the offsets that were acknowledged."""
    stream = engine.stream("p", "/busy")
    offsets: list[int] = []
    while not work.done():
        offsets.append((await stream.append({"type": "x", "idempotencyKey": f"{len(offsets)}"})).offset)
        await asyncio.sleep(0)
    return offsets


async def test_backup_when_made_beside_appends_is_the_store_of_one_moment(engine: StreamEngine, tmp_path: Path) -> None:
    await fill(engine, "/a", 2_000)
    sizes: list[int] = []
    work: asyncio.Task[object] = asyncio.create_task(
        asyncio.to_thread(back_up_store, engine.directory, tmp_path / "copy", on_progress=sizes.append)
    )
    acknowledged = await append_until(engine, work)
    assert await work == tmp_path / "copy" / "streams.db"
    assert acknowledged
    assert sizes == sorted(sizes)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["streams.db"]
    assert verify_store(tmp_path / "copy").faults == []
    copy = StreamEngine.open(tmp_path / "copy")
    assert await copy.stream("p", "/a").read() == await engine.stream("p", "/a").read()
    busy = [event.offset for event in await copy.stream("p", "/busy").read(after_offset=2)]
    assert busy == acknowledged[: len(busy)]
    await copy.close()


async def test_backup_when_a_store_is_there_already_overwrites_nothing(home: Path, tmp_path: Path) -> None:
    engine = StreamEngine.open(home)
    await fill(engine, "/a")
    back_up_store(home, tmp_path / "copy")
    before = (tmp_path / "copy" / "streams.db").read_bytes()
    with pytest.raises(StoreError, match="holds a store already"):
        back_up_store(home, tmp_path / "copy")
    assert (tmp_path / "copy" / "streams.db").read_bytes() == before
    # What one that was cut off left is in nobody's way.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "streams.db.partial").write_bytes(b"half")
    back_up_store(home, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["streams.db"]
    await engine.close()


def test_backup_when_there_is_no_store_or_no_place_says_so(home: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store in"):
        back_up_store(home, tmp_path / "copy")
    asyncio.run(open_and_close(home))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Could not write the backup"):
        back_up_store(home, tmp_path / "file" / "copy")


FULL_DISK = """
import resource, sys
from pathlib import Path
from itx_notebook.errors import StoreError
from itx_notebook.streams.storage import back_up_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    back_up_store(Path(sys.argv[1]), Path(sys.argv[2]))
except StoreError as error:
    print(error.details["sqlite"])
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of this kind are POSIX's")
def test_backup_when_its_disk_is_full_says_so_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    asyncio.run(open_and_close(home))
    command = [sys.executable, "-c", FULL_DISK, str(home), str(tmp_path / "copy")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith(("SQLITE_IOERR", "SQLITE_FULL"))
    assert list((tmp_path / "copy").iterdir()) == []


async def open_and_close(home: Path) -> None:
    engine = StreamEngine.open(home)
    await fill(engine, "/a")
    await engine.close()


async def test_compaction_when_a_stream_was_erased_gives_its_room_back(engine: StreamEngine) -> None:
    await fill(engine, "/a", 2_000)
    await fill(engine, "/b", 20)
    kept = await engine.stream("p", "/b").read()
    await engine.stream("p", "/a").reset()
    assert count_free_pages(engine.directory) > 500
    work: asyncio.Task[object] = asyncio.create_task(asyncio.to_thread(compact_store, engine.directory))
    acknowledged = await append_until(engine, work)
    assert acknowledged == list(range(3, 3 + len(acknowledged)))
    before, after = compact_store(engine.directory)
    assert count_free_pages(engine.directory) == 0
    assert after <= before
    assert await engine.stream("p", "/b").read() == kept
    assert (await engine.stream("p", "/b").append({"type": "x"})).offset == len(kept) + 1
    assert verify_store(engine.directory).faults == []


def test_compaction_when_the_store_is_older_brings_it_up(home: Path) -> None:
    asyncio.run(open_and_close(home))
    connection = sqlite3.connect(home / "streams.db")
    connection.executescript("DROP TABLE processor_snapshots; PRAGMA user_version = 2;")
    connection.close()
    compact_store(home)
    assert verify_store(home).faults == []


def test_compaction_when_there_is_no_store_makes_none(home: Path) -> None:
    with pytest.raises(StoreError, match="There is no store in"):
        compact_store(home)
    assert not home.exists()
