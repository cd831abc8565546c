"""Victims for ``test_crash.py``: a server that has everything imported and forks a process for each death.

An order is a JSON line on standard input: ``{"scenario", "home", …}``. The answers are lines on standard output:
``{"pid"}``, then what the victim says, then ``{"status"}`` when it has ended. A victim says one line for every
acknowledgement, after it has it: ``{"path", "events": [[offset, batch, index, size], …]}``. Lines are short enough for
a pipe to take each whole or not at all.

Where a victim is to die by itself, at the n-th step of what it does to its store, the steps are those that Python tells
of: SQL statements as they begin (SQLite's trace) and files as they are opened, renamed or made (audit events). So the
product needs no places made for tests. Of many steps of one kind in a row, two count.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.streams.storage import back_up_store, compact_store
from itx_notebook.streams.transfer import import_lines

PATHS = ("/a", "/a/b", "/a/b/c", "/d")
APPENDERS = 4

Order = dict[str, Any]


def say(**facts: Any) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def make_event(batch: str, index: int, size: int, *, keyed: bool, text: str = "") -> dict[str, Any]:
    """An event that tells which batch it belongs to."""
    event: dict[str, Any] = {"type": "demo.x", "payload": {"batch": batch, "index": index, "size": size, "text": text}}
    return {**event, "idempotencyKey": f"{batch}/{index}"} if keyed else event


async def append(stream: Stream, batch: str, size: int, *, keyed: bool = False, text: str = "") -> None:
    """Append a batch, and say so when it is acknowledged."""
    events = await stream.append_batch([make_event(batch, n, size, keyed=keyed, text=text) for n in range(size)])
    payloads: list[Any] = [event.payload for event in events]
    facts = [[e.offset, p["batch"], p["index"], p["size"]] for e, p in zip(events, payloads, strict=True)]
    # A long batch would not fit; its ends tell as much.
    say(path=stream.path, events=facts if size <= 40 else [facts[0], facts[-1]])


# -- scenarios ---------------------------------------------------------------------------------------------------------


async def load(order: Order) -> None:
    """Four appenders at once, single events and batches, with and without keys, for ever."""
    seed = order["seed"]
    engine = StreamEngine.open(Path(order["home"]), always_threaded=seed % 4 == 0)
    say(ready=True)
    chance = random.Random(seed)

    async def append_for_ever(name: str) -> None:
        number = 0
        while True:
            number += 1
            stream = engine.stream("prj_1", chance.choice(PATHS))
            size = chance.choice((1, 1, 1, 2, 7, 40))
            text = "x" * 600_000 if chance.random() < 0.005 else ""
            await append(stream, f"{name}-{number}", size, keyed=chance.random() < 0.3, text=text)

    await asyncio.gather(*(append_for_ever(f"{seed}-{n}") for n in range(APPENDERS)))


async def live(order: Order) -> None:
    """Everything a writer does to its store, once: from the making of the file to its closing."""
    engine = StreamEngine.open(Path(order["home"]), always_threaded=order["threaded"])
    life = order["life"]
    await append(engine.stream("prj_1", "/a/b"), f"{life}-first", 1)
    await append(engine.stream("prj_1", "/a/b"), f"{life}-keyed", 1, keyed=True)
    await asyncio.gather(
        append(engine.stream("prj_1", "/a"), f"{life}-together", 3, keyed=True),
        append(engine.stream("prj_1", "/d"), f"{life}-with", 1),
    )
    await append(engine.stream("prj_1", "/d"), f"{life}-large", 1, text="x" * 1_100_000)
    await append(engine.stream("prj_1", "/a"), f"{life}-checkpoint", 300)
    await append(engine.stream("prj_1", "/erased"), f"{life}-erased", 2, keyed=True, text="x" * 600_000)
    await engine.stream("prj_1", "/erased").reset()
    say(erased=True)
    await engine.close()


async def upgrade(order: Order) -> None:
    """Open a store of an earlier version."""
    await StreamEngine.open(Path(order["home"])).close()


async def compact(order: Order) -> None:
    """Compact a store."""
    compact_store(Path(order["home"]))


async def back_up(order: Order) -> None:
    """Copy a store."""
    back_up_store(Path(order["home"]), Path(order["copy"]))


async def bring_in(order: Order) -> None:
    """Import an export."""
    with Path(order["export"]).open("rb") as lines:  # noqa: ASYNC230  # nothing else runs here
        import_lines(Path(order["home"]), lines, locate=lambda namespace, path: (namespace, path))


SCENARIOS: dict[str, Callable[[Order], Coroutine[Any, Any, None]]] = {
    scenario.__name__: scenario for scenario in (load, live, upgrade, compact, back_up, bring_in)
}


# -- dying at a step ---------------------------------------------------------------------------------------------------

_STEPS = ("os.mkdir", "os.rename", "os.remove", "open")


def die_at(step: int) -> None:
    """Let this process die at its n-th step from now on; it says how far it came if it lives on."""
    done = 0
    last: list[str] = []

    def note(kind: str) -> None:
        nonlocal done
        if last == [kind, kind]:
            return
        last[:] = [*last[-1:], kind]
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def connect_and_trace(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_trace_callback(lambda sql: note(sql[:24]))
        return connection

    def hear(event: str, args: tuple[Any, ...]) -> None:
        # What is opened to be read changes nothing; modules are, at their first import.
        if event in _STEPS and not (event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0):
            note(event)

    sqlite3.connect = connect_and_trace  # type: ignore[assignment]  # stands for all of its overloads
    sys.addaudithook(hear)


def run_victim(order: Order) -> None:
    if "step" in order:
        die_at(order["step"])
    asyncio.run(SCENARIOS[order["scenario"]](order))


def main() -> None:
    for line in sys.stdin:
        may_begin, begin = os.pipe()
        victim = os.fork()
        if victim == 0:
            try:
                os.read(may_begin, 1)
                run_victim(json.loads(line))
            except BaseException as error:
                say(error=repr(error))
                os._exit(1)
            os._exit(0)
        say(pid=victim)
        os.write(begin, b"!")
        os.close(begin)
        os.close(may_begin)
        _, status = os.waitpid(victim, 0)
        say(status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
