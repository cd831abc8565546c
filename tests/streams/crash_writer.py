"""A process that appends until it is killed: the victim of ``test_crash.py``.

Writes one JSON line to standard output for every acknowledgement, after it has it:
``[path, [[offset, batch, index, size], …]]``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from itx_notebook.streams import Stream, StreamEngine

PATHS = ("/a", "/a/b", "/a/b/c", "/d")


async def main(home: Path, seed: int) -> None:
    """Append in three tasks at once, single events and batches, new keys and repeated ones."""
    engine = StreamEngine.open(home, always_threaded=seed % 4 == 0)
    os.write(1, b"ready\n")
    chance = random.Random(seed)
    await asyncio.gather(*(append_for_ever(engine, chance, f"{seed}-{task}") for task in range(3)))


async def append_for_ever(engine: StreamEngine, chance: random.Random, name: str) -> None:
    """One appender."""
    number = 0
    while True:
        number += 1
        batch, size = f"{name}-{number}", chance.choice((1, 1, 1, 2, 7, 40))
        stream = engine.stream("prj_1", chance.choice(PATHS))
        events = [make_event(batch, index, size, chance) for index in range(size)]
        acknowledge(stream, await stream.append_batch(events))


def make_event(batch: str, index: int, size: int, chance: random.Random) -> dict[str, Any]:
    """An event that tells which batch it belongs to."""
    event: dict[str, Any] = {"type": "demo.x", "payload": {"batch": batch, "index": index, "size": size}}
    if chance.random() < 0.3:
        event["idempotencyKey"] = f"{batch}/{index}"
    return event


def acknowledge(stream: Stream, events: list[Any]) -> None:
    """Say, in one write, what was acknowledged."""
    facts = [[e.offset, e.payload["batch"], e.payload["index"], e.payload["size"]] for e in events]
    os.write(1, json.dumps([stream.path, facts]).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
