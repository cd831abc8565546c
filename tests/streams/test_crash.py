"""A process killed at any moment, or between any two steps, loses nothing it acknowledged and leaves no half batch.

``ITX_TEST_KILLS`` sets how many die under load; a release is worth some thousand.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.streams import StreamEngine
from itx_notebook.streams.transfer import open_archive
from itx_notebook.streams.verify import verify_store
from itx_notebook.types import StreamEvent
from tests.streams.test_schema import write_version_1

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the victims are forked")

KILLS = int(os.environ.get("ITX_TEST_KILLS", "500"))
ON_ONE_STORE = 25
ROOT = Path(__file__).parents[2]

Facts = dict[str, Any]
Acknowledged = dict[str, dict[int, tuple[str, int, int]]]


class Victims:
    """The server of victims; one at a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.streams.crash_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._pid = 0

    def start(self, **order: Any) -> None:
        """Send the next one off."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._server.stdin.flush()
        self._pid = self.hear()["pid"]

    def hear(self) -> Facts:
        """The next line of the victim or the server."""
        assert self._server.stdout is not None
        facts: Facts = json.loads(self._server.stdout.readline())
        assert "error" not in facts, facts["error"]
        return facts

    def kill(self) -> None:
        """End the one that lives."""
        os.kill(self._pid, signal.SIGKILL)

    def hear_out(self) -> tuple[list[Facts], int]:
        """All that the victim still said, and how it ended."""
        said: list[Facts] = []
        while "status" not in (facts := self.hear()):
            said.append(facts)
        return said, facts["status"]

    def close(self) -> None:
        """End the server."""
        for pipe in (self._server.stdin, self._server.stdout):
            assert pipe is not None
            pipe.close()
        self._server.wait(20)


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    victims = Victims()
    yield victims
    victims.close()


def note(said: list[Facts], acknowledged: Acknowledged) -> None:
    for facts in said:
        for offset, batch, index, size in facts.get("events", ()):
            acknowledged[facts["path"]][offset] = (batch, index, size)


async def check(home: Path, acknowledged: Acknowledged) -> None:
    """Nothing acknowledged is missing, nothing is there twice or in part, and what is folded agrees with the logs."""
    if not (home / "streams.db").exists():
        assert not acknowledged
        return
    engine = StreamEngine.open(home)
    try:
        for name in engine.reader.read_names("prj_1"):
            check_log(await engine.stream("prj_1", name.path).read(), acknowledged.get(name.path, {}))
        assert set(acknowledged) <= {name.path for name in engine.reader.read_names("prj_1")}
        for path, events in acknowledged.items():
            for offset, (batch, index, _) in random.Random(len(events)).sample(sorted(events.items()), 1):
                # A repeat finds what was acknowledged; without a key it was none.
                stream = engine.stream("prj_1", path)
                (event,) = await stream.read(after_offset=offset - 1, before_offset=offset + 1)
                if event.idempotency_key:
                    again = {"type": "demo.x", "payload": "again", "idempotencyKey": f"{batch}/{index}"}
                    assert await stream.append(again) == event
    finally:
        await engine.close()
    assert verify_store(home).faults == []


def check_log(events: list[StreamEvent], acknowledged: dict[int, tuple[str, int, int]]) -> None:
    found = {
        event.offset: (event.payload["batch"], event.payload["index"], event.payload["size"])
        for event in events
        if event.type == "demo.x"
    }
    assert acknowledged.items() <= found.items()
    batches: dict[str, list[int]] = defaultdict(list)
    for batch, index, _ in found.values():
        batches[batch].append(index)
    assert batches == {batch: list(range(size)) for batch, _, size in found.values()}


# -- under load --------------------------------------------------------------------------------------------------------


async def test_writer_when_killed_at_any_moment_under_load_loses_nothing_acknowledged(
    tmp_path: Path, victims: Victims
) -> None:
    chance = random.Random(20)
    total = 0
    acknowledged: Acknowledged = defaultdict(dict)
    for kill in range(KILLS):
        home = tmp_path / f"{kill // ON_ONE_STORE}"
        if kill % ON_ONE_STORE == 0:
            acknowledged = defaultdict(dict)
        before = sum(map(len, acknowledged.values()))
        victims.start(scenario="load", home=str(home), seed=kill)
        # Some die while they open the store, which the one before left as it was when it died.
        said = [victims.hear() for _ in range(0 if kill % 10 == 0 else chance.randint(1, 60))]
        victims.kill()
        rest, status = victims.hear_out()
        assert status == -signal.SIGKILL
        note(said + rest, acknowledged)
        total += sum(map(len, acknowledged.values())) - before
        await check(home, acknowledged)
    assert total > 20 * KILLS


async def test_tree_when_announcements_were_lost_to_kills_is_whole_after_the_next_wake(
    home: Path, victims: Victims
) -> None:
    for kill in range(10):
        victims.start(scenario="load", home=str(home), seed=kill)
        for _ in range(3):
            victims.hear()
        victims.kill()
        victims.hear_out()
    engine = StreamEngine.open(home)
    for path in ("/a", "/a/b", "/a/b/c", "/d"):
        await engine.stream("prj_1", path).wake()
    await engine.settle()
    children = {path: set(engine.stream("prj_1", path).load().child_paths) for path in ("/", "/a", "/a/b", "/d")}
    await engine.close()
    assert children == {"/": {"/a", "/d"}, "/a": {"/a/b"}, "/a/b": {"/a/b/c"}, "/d": set()}


# -- between any two steps ---------------------------------------------------------------------------------------------


def run_to_step(victims: Victims, step: int, **order: Any) -> tuple[list[Facts], bool]:
    """Let a victim die at a step; what it said, and whether it came to its end before."""
    victims.start(step=step, **order)
    said, status = victims.hear_out()
    assert status in (0, -signal.SIGKILL)
    return said, status == 0


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("is_new", [True, False])
async def test_writer_when_killed_between_any_two_steps_loses_nothing_acknowledged(
    tmp_path: Path, victims: Victims, is_new: bool, threaded: bool
) -> None:
    template = tmp_path / "template"
    before: Acknowledged = defaultdict(dict)
    if not is_new:
        victims.start(scenario="live", home=str(template), threaded=threaded, life="old")
        said, status = victims.hear_out()
        assert status == 0
        note(said, before)
        del before["/erased"]
    is_done, step = False, 0
    while not is_done:
        step += 1
        home = tmp_path / f"{step}"
        if not is_new:
            shutil.copytree(template, home)
        said, is_done = run_to_step(victims, step, scenario="live", home=str(home), threaded=threaded, life="new")
        acknowledged: Acknowledged = defaultdict(dict, {path: dict(events) for path, events in before.items()})
        note(said, acknowledged)
        erased = acknowledged.pop("/erased", None)
        await check(home, acknowledged)
        if erased is not None:
            # The erasure was under way, or done: all of the old life is there or nothing of it.
            with open_archive(home) as archive:
                stream = archive.try_get_stream("prj_1", "/erased")
                types = [] if stream is None else [event.type for event in archive.read_events(stream)]
            assert types.count("demo.x") in (0, 2)
            assert not ({"erased": True} in said and "demo.x" in types)
        shutil.rmtree(home, ignore_errors=True)
    assert step > 80


async def read_all(home: Path) -> dict[str, list[StreamEvent]]:
    with open_archive(home) as archive:
        return {name.path: list(archive.read_events(name)) for name in archive.get_streams("p")}


async def make_store(home: Path) -> None:
    engine = StreamEngine.open(home)
    for path in ("/a", "/a/b", "/erased"):
        events = [{"type": "x", "payload": "x" * 500, "idempotencyKey": f"{n}"} for n in range(300)]
        await engine.stream("p", path).append_batch(events)
    await engine.stream("p", "/a").append({"type": "x", "payload": "x" * 1_000_000})
    await engine.settle()
    await engine.stream("p", "/erased").reset()
    await engine.close()


async def test_upgrade_when_killed_between_any_two_steps_is_done_or_not_begun(tmp_path: Path, victims: Victims) -> None:
    is_done, step = False, 0
    while not is_done:
        step += 1
        home = tmp_path / f"{step}"
        write_version_1(home)
        _, is_done = run_to_step(victims, step, scenario="upgrade", home=str(home))
        engine = StreamEngine.open(home)
        assert [event.offset for event in await engine.stream("p", "/a").read()] == [1, 2]
        await engine.close()
        assert verify_store(home).faults == []
    assert step > 8


async def test_compaction_when_killed_between_any_two_steps_changes_nothing(tmp_path: Path, victims: Victims) -> None:
    await make_store(tmp_path / "template")
    logs = await read_all(tmp_path / "template")
    is_done, step = False, 0
    while not is_done:
        step += 1
        home = tmp_path / f"{step}"
        shutil.copytree(tmp_path / "template", home)
        _, is_done = run_to_step(victims, step, scenario="compact", home=str(home))
        assert verify_store(home).faults == []
        assert await read_all(home) == logs
        shutil.rmtree(home, ignore_errors=True)
    assert step > 8


async def test_backup_when_killed_between_any_two_steps_is_whole_or_absent_and_can_be_made_again(
    tmp_path: Path, victims: Victims
) -> None:
    home = tmp_path / "store"
    await make_store(home)
    logs = await read_all(home)
    is_done, step = False, 0
    while not is_done:
        step += 1
        copy = tmp_path / f"{step}"
        _, is_done = run_to_step(victims, step, scenario="back_up", home=str(home), copy=str(copy))
        if not (copy / "streams.db").exists():
            victims.start(scenario="back_up", home=str(home), copy=str(copy))
            assert victims.hear_out() == ([], 0)
        assert await read_all(copy) == logs
        assert verify_store(copy).faults == []
    assert step > 4


async def test_import_when_killed_between_any_two_steps_is_gone_on_with_by_repeating_it(
    tmp_path: Path, victims: Victims
) -> None:
    await make_store(tmp_path / "template")
    logs = await read_all(tmp_path / "template")
    export = tmp_path / "export.jsonl"
    with open_archive(tmp_path / "template") as archive:
        export.write_bytes(b"".join(line for name in archive.get_streams("p") for line in archive.read_lines(name)))
    is_done, step = False, 0
    while not is_done:
        step += 1
        home = tmp_path / f"{step}"
        _, is_done = run_to_step(victims, step, scenario="bring_in", home=str(home), export=str(export))
        if (home / "streams.db").exists() and (home / "streams.db").stat().st_size:
            assert verify_store(home).faults == []
        victims.start(scenario="bring_in", home=str(home), export=str(export))
        assert victims.hear_out() == ([], 0)
        assert await read_all(home) == logs
        shutil.rmtree(home, ignore_errors=True)
    assert step > 30


# -- the machine itself ------------------------------------------------------------------------------------------------


async def test_log_when_the_machine_ended_in_the_middle_of_a_write_holds_whole_commits_and_all_acknowledged(
    home: Path, tmp_path: Path
) -> None:
    engine = StreamEngine.open(home)
    log = home / "streams.db-wal"
    begun = log.stat().st_size
    synced: list[tuple[int, int]] = []
    chance = random.Random(3)
    for batch in range(40):
        size = chance.choice((1, 1, 3, 20))
        text = "x" * chance.choice((10, 5_000, 600_000 if batch == 20 else 10))
        payloads = [{"batch": f"{batch}", "index": n, "size": size, "text": text} for n in range(size)]
        events = await engine.stream("p", "/a").append_batch([{"type": "demo.x", "payload": each} for each in payloads])
        synced.append((log.stat().st_size, events[-1].offset))
    files = {name: (home / name).read_bytes() for name in ("streams.db", "streams.db-wal")}
    await engine.close()
    content = files["streams.db-wal"]
    cuts = sorted(
        {begun, len(content), *(size for size, _ in synced), *chance.choices(range(begun, len(content)), k=120)}
    )
    for number, cut in enumerate(cuts):
        left = tmp_path / "left"
        left.mkdir()
        (left / "streams.db").write_bytes(files["streams.db"])
        # What was not synced may be missing, or be anything.
        tail = b"" if number % 2 else chance.randbytes(min(9_000, len(content) - cut))
        (left / "streams.db-wal").write_bytes(content[:cut] + tail)
        again = StreamEngine.open(left)
        events = await again.stream("p", "/a").read()
        await again.close()
        check_log(events, {})
        assert len(events) >= max([offset for size, offset in synced if size <= cut], default=0)
        assert verify_store(left).faults == []
        shutil.rmtree(left)
