"""A store whose disk, place or file fails says so, with what to do; it neither hangs nor makes it worse."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine, committer
from itx_notebook.streams.storage import Store, place
from itx_notebook.types import StreamEvent
from tests.streams.test_committer import begin, busy

PAGE = 4096
PATHS = ("/", "/a", "/a/b", "/c", "/d")


async def fill(home: Path) -> dict[str, list[StreamEvent]]:
    """A store of some sixty pages, closed, and what it holds."""
    engine = StreamEngine.open(home)
    chance = random.Random(1)
    for turn in range(40):
        for path in PATHS:
            text = "".join(chance.choices("abcdefgh ", k=chance.choice((10, 100, 900))))
            await engine.stream("p", path).append({"type": "x", "payload": text, "idempotencyKey": f"{turn}"})
    await engine.stream("p", "/d").append({"type": "x", "payload": "large" * 120_000})
    await engine.settle()
    logs = {path: await engine.stream("p", path).read() for path in PATHS}
    await engine.close()
    return logs


# -- the place ---------------------------------------------------------------------------------------------------------

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw,relatime shared:7 - nfs4 server:/home rw,vers=4.2
31 30 8:1 / /home/me/local rw - xfs /dev/sdb1 rw
32 27 0:41 / /mnt/my\\040share rw - cifs //server/share rw
nonsense
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/home/me/local/itx", "xfs"),
        ("/homework", "ext4"),
        ("/mnt/my share/itx", "cifs"),
    ],
)
def test_file_system_when_looked_up_is_that_of_the_nearest_mount(
    directory: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(place, "_MOUNTS", tmp_path / "mountinfo")
    assert place.try_get_file_system(Path(directory)) == kind


def test_directory_when_on_a_network_file_system_is_refused_and_stays_empty(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {home} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(place, "_MOUNTS", tmp_path / "mountinfo")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)") as caught:
        Store.open(home)
    assert caught.value.details == {"path": str(home), "fileSystem": "nfs4"}
    assert "ITX_HOME" in caught.value.remedy
    assert list(home.iterdir()) == []


def test_directory_when_the_system_tells_nothing_of_mounts_is_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_MOUNTS", tmp_path / "missing")
    Store.open(home).close()


AS_NOBODY = """
import asyncio, json, os, sys, warnings
from pathlib import Path
import filelock
from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)

async def main():
    try:
        engine = StreamEngine.open(Path(sys.argv[1]))
    except StoreError as error:
        return [error.message, error.remedy]
    await engine.close()
    return None

print(json.dumps(asyncio.run(main())))
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may enter, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="itx-test-"))
    directory.chmod(0o755)
    yield directory
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(directory)


def open_as_nobody(home: Path) -> list[str] | None:
    """Open a store in a process without root's powers: its complaint, and the remedy it names."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AS_NOBODY, str(home)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    complaint: list[str] | None = json.loads(ran.stdout)
    return complaint


@pytest.mark.skipif(os.name != "posix", reason="permissions of this kind are POSIX's")
class TestWithoutPermission:
    """A directory that may be read at the most; the store in it, if there is one, is left as it was."""

    def check(self, home: Path) -> None:
        before = (home / "streams.db").read_bytes() if (home / "streams.db").exists() else None
        complaint = open_as_nobody(home)
        assert complaint is not None
        message, remedy = complaint
        assert str(home) in message
        assert "ITX_HOME" in remedy
        assert before == ((home / "streams.db").read_bytes() if (home / "streams.db").exists() else None)

    def test_directory_when_it_cannot_be_made_is_refused(self, public: Path) -> None:
        public.chmod(0o555)
        self.check(public / "itx")

    def test_directory_when_empty_is_refused(self, public: Path) -> None:
        (public / "itx").mkdir(mode=0o555)
        self.check(public / "itx")

    def test_directory_when_it_holds_a_store_is_refused(self, public: Path) -> None:
        asyncio.run(fill(public / "itx"))
        (public / "itx").chmod(0o555)
        self.check(public / "itx")

    def test_file_when_it_alone_cannot_be_written_is_refused(self, public: Path) -> None:
        home = public / "itx"
        asyncio.run(fill(home))
        home.chmod(0o777)
        for name in ("streams.lock", "owner.json"):
            (home / name).touch()
            (home / name).chmod(0o666)
        (home / "streams.db").chmod(0o444)
        self.check(home)


# -- the disk ----------------------------------------------------------------------------------------------------------

FULL_DISK = """
import asyncio, json, resource, sys
from pathlib import Path
from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine

async def main():
    home = Path(sys.argv[1])
    engine = StreamEngine.open(home, always_threaded=sys.argv[2] == "threaded")
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x"})
    seen = []
    for room in (0, 1, 5000, 40_000, 100_000):
        used = (home / "streams.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + room, resource.RLIM_INFINITY))
        try:
            await stream.append_batch([{"type": "x", "payload": "x" * 200_000}, {"type": "y"}])
        except StoreError as error:
            seen.append([error.details["sqlite"], error.remedy, stream.load().max_offset])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    last = await stream.append({"type": "z"})
    read = [event.offset for event in await stream.read()]
    await engine.close()
    print(json.dumps([seen, last.offset, read]))

asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of this kind are POSIX's")
@pytest.mark.parametrize("mode", ["inline", "threaded"])
def test_disk_when_it_takes_no_more_refuses_the_append_and_goes_on_when_there_is_room(home: Path, mode: str) -> None:
    # A limit of the file's size, at several places within a commit: real writes fail, in real SQLite.
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(home), mode], capture_output=True, text=True, timeout=60, check=True
    )
    seen, last, read = json.loads(ran.stdout)
    assert len(seen) == 5
    for sqlite, remedy, head in seen:
        assert sqlite.startswith(("SQLITE_IOERR", "SQLITE_FULL"))
        assert "nothing of this call was written" in remedy
        assert head == 3
    assert (last, read) == (4, [1, 2, 3, 4])


# -- the file ----------------------------------------------------------------------------------------------------------


async def check_damaged(home: Path, logs: dict[str, list[StreamEvent]]) -> int:
    """Every stream of a damaged store gives what it held or says that it cannot; returns how many could not."""
    refused = 0
    try:
        engine = StreamEngine.open(home)
    except StoreError:
        return len(PATHS)
    try:
        for path in PATHS:
            stream = engine.stream("p", path)
            try:
                assert await stream.read() == logs[path]
                appended = await stream.append({"type": "y"})
                assert await stream.read(after_offset=len(logs[path]) + 1) == [appended]
            except StoreError:
                refused += 1
    finally:
        await engine.close()
    return refused


@pytest.mark.parametrize("with_zeros", [True, False])
async def test_page_when_it_is_overwritten_is_noticed_by_whoever_needs_it(
    home: Path, tmp_path: Path, with_zeros: bool
) -> None:
    logs = await fill(home)
    content = (home / "streams.db").read_bytes()
    chance, refused = random.Random(2), 0
    pages = len(content) // PAGE
    # All that hold rows, and of the large event's, which are alike, a few.
    for page in (*range(min(pages, 70)), *chance.sample(range(70, pages), 10)):
        damaged = tmp_path / "damaged"
        damaged.mkdir()
        garbage = bytes(PAGE) if with_zeros else chance.randbytes(PAGE)
        (damaged / "streams.db").write_bytes(content[: page * PAGE] + garbage + content[(page + 1) * PAGE :])
        refused += await asyncio.wait_for(check_damaged(damaged, logs), 20)
        shutil.rmtree(damaged)
    assert refused > pages // 4


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
async def test_file_when_its_end_is_missing_is_noticed(home: Path, share: float) -> None:
    logs = await fill(home)
    content = (home / "streams.db").read_bytes()
    (home / "streams.db").write_bytes(content[: int(len(content) * share)])
    if share == 0:
        # An empty file is a new store; what was in it is for nobody to say.
        StreamEngine.open(home)
        return
    assert await check_damaged(home, logs) > 0


@pytest.mark.parametrize("junk", [b"", b"junk" * 5_000])
async def test_log_when_it_is_junk_is_no_part_of_the_store(home: Path, junk: bytes) -> None:
    logs = await fill(home)
    (home / "streams.db-wal").write_bytes(junk)
    assert await check_damaged(home, logs) == 0


def test_lock_when_left_by_a_process_that_is_gone_holds_nobody_up(home: Path) -> None:
    home.mkdir()
    (home / "streams.lock").touch()
    (home / "owner.json").write_text('{"pid": 999999999}')
    Store.open(home).close()
    (home / "owner.json").write_text("half a li")
    Store.open(home).close()


async def test_file_when_another_program_writes_to_it_refuses_in_time_and_goes_on_after(
    engine: StreamEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "PATIENCE", 0.05)
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x"})
    with busy(engine), pytest.raises(StoreError, match="database is locked") as caught:
        await stream.append({"type": "x"})
    assert "Another program" in caught.value.remedy
    assert (await stream.append({"type": "x"})).offset == 4


async def test_loop_when_another_program_writes_goes_on_turning_and_the_append_is_made_after_it(
    engine: StreamEngine,
) -> None:
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x"})
    with busy(engine):
        (append,) = await begin(stream.append({"type": "y"}))
        assert [event.offset for event in await stream.read()] == [1, 2, 3]
        assert not append.done()
    assert (await append).offset == 4


FORK = """
import asyncio, os, sys
from pathlib import Path
from itx_notebook.errors import ItxError
from itx_notebook.streams import StreamEngine

async def main():
    engine = StreamEngine.open(Path(sys.argv[1]))
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x"})
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (lambda: stream.append({"type": "x"}), lambda: stream.read()):
            try:
                await call()
            except ItxError:
                refused += 1
        os._exit(refused)
    _, status = os.waitpid(child, 0)
    assert (await stream.append({"type": "x"})).offset == 4
    await engine.close()
    engine = StreamEngine.open(Path(sys.argv[1]))
    print(os.waitstatus_to_exitcode(status), [event.offset for event in await engine.stream("p", "/a").read()])
    await engine.close()

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_engine_when_forked_refuses_in_the_child_and_goes_on_in_the_parent(home: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(home)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "2 [1, 2, 3, 4]"
