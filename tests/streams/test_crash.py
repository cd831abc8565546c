"""A writer killed with SIGKILL at any moment loses nothing it acknowledged and leaves no half batch."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from itx_notebook.streams import StreamEngine
from itx_notebook.streams.core import fold, initial_state

KILLS = 60
WRITER = Path(__file__).parent / "crash_writer.py"

Acknowledged = dict[str, dict[int, tuple[str, int, int]]]


def run_and_kill(home: Path, seed: int, chance: random.Random) -> list[bytes]:
    """Start a writer, kill it at a random moment, and give the lines it had written by then."""
    with subprocess.Popen([sys.executable, str(WRITER), str(home), str(seed)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        lines: list[bytes] = []
        if seed % 3 == 0:
            # Somewhere in its first moments: imports, opening the store, the first commits.
            try:
                writer.wait(chance.uniform(0.02, 0.35))
            except subprocess.TimeoutExpired:
                pass
            else:
                pytest.fail(f"the writer ended by itself: {writer.returncode}")
        else:
            lines += [writer.stdout.readline() for _ in range(chance.randint(1, 300))]
        writer.kill()
        lines += writer.stdout.readlines()
    # The line that the kill cut off acknowledges nothing.
    return [line for line in lines if line.endswith(b"\n") and line != b"ready\n"]


def note(lines: list[bytes], acknowledged: Acknowledged) -> None:
    for line in lines:
        path, events = json.loads(line)
        for offset, batch, index, size in events:
            acknowledged[path][offset] = (batch, index, size)


async def check(home: Path, acknowledged: Acknowledged) -> None:
    engine = StreamEngine.open(home)
    try:
        for path in (*acknowledged, "/"):
            await check_stream(engine, path, acknowledged.get(path, {}))
    finally:
        await engine.close()


async def check_stream(engine: StreamEngine, path: str, acknowledged: dict[int, tuple[str, int, int]]) -> None:
    stream = engine.stream("prj_1", path)
    events = await stream.read()
    assert [event.offset for event in events] == list(range(1, len(events) + 1))
    found = {
        event.offset: (event.payload["batch"], event.payload["index"], event.payload["size"])
        for event in events
        if event.type == "demo.x"
    }
    assert acknowledged.items() <= found.items()
    batches: dict[str, list[int]] = defaultdict(list)
    for batch, index, size in found.values():
        batches[batch].append(index)
        assert index < size
    sizes = {batch: size for batch, _, size in found.values()}
    assert {batch: list(range(size)) for batch, size in sizes.items()} == batches
    rebuilt = initial_state()
    for event in events:
        rebuilt = fold(rebuilt, event)
    assert stream.load() == rebuilt


async def test_writer_when_killed_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(20)
    acknowledged: Acknowledged = defaultdict(dict)
    for kill in range(KILLS):
        note(run_and_kill(tmp_path, kill, chance), acknowledged)
        await check(tmp_path, acknowledged)
    assert sum(len(events) for events in acknowledged.values()) > 10 * KILLS


async def test_tree_when_announcements_were_lost_to_kills_is_whole_after_the_next_wake(tmp_path: Path) -> None:
    chance = random.Random(21)
    for kill in range(0, 30, 3):
        run_and_kill(tmp_path, kill, chance)
    engine = StreamEngine.open(tmp_path)
    for path in ("/a", "/a/b", "/a/b/c", "/d"):
        await engine.stream("prj_1", path).wake()
    await engine.settle()
    children = {path: set(engine.stream("prj_1", path).load().child_paths) for path in ("/", "/a", "/a/b", "/d")}
    await engine.close()
    assert children == {"/": {"/a", "/d"}, "/a": {"/a/b"}, "/a/b": {"/a/b/c"}, "/d": set()}
