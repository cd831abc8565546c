"""Our Cap'n Web against the reference library in JavaScript: every combination of the two as client and as server.

Client and server are processes of their own on 127.0.0.1, without TLS and compression. Beside each rate or time stands
the CPU time both ends spent on one operation: on a shared machine it swings less than the clock.

The peer is always the reference library at both ends. Each round runs both sides in turns of some ten milliseconds, so
that what else the machine does meets both alike. Before a case is measured both sides run it unmeasured, so that
JavaScript's compiler and our caches are past their beginnings. Every round has fresh processes, since two runs of one
process are not two samples; a quick run keeps them, for what it has to save is warming up.
"""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._harness import Benchmark, Case

HERE = Path(__file__).parent
NODE_MODULES = HERE.parent / "capnweb" / "node" / "node_modules"

benchmark = Benchmark("capnweb")

STARTED = time.monotonic()


TURNS = 5 if benchmark.is_quick else 8
"""How often the sides take turns in a round."""

HURRY_SECONDS = 35.0
"""From when on a quick run on a busy machine takes one turn a round, to be done in time."""


@dataclass(frozen=True)
class Operation:
    """One kind of load: how much of it makes a turn, and its row's form.

    Attributes
    ----------
    name : str
        What the drivers call it.
    count : int
        Operations in a turn. Before the first a side runs as many as in all turns of a round.
    """

    name: str
    title: str
    unit: str
    better: Literal["more", "less"]
    count: int


OPERATIONS = [
    Operation("sequential", "call, one after the other", "/s", "more", 250),
    Operation("in_flight", "call, 1,000 in flight", "/s", "more", 2_000),
    Operation("chain", "3 pipelined steps and a read", "µs", "less", 120),
    Operation("events_1", "events of 50-55 B, 1 a call", "events/s", "more", 1_000),
    Operation("events_100", "events of 50-55 B, 100 a call", "events/s", "more", 25_600),
    Operation("events_1000", "events of 50-55 B, 1,000 a call", "events/s", "more", 64_000),
]


@dataclass(frozen=True)
class End:
    """A program that can be either end."""

    name: str
    command: tuple[str, ...]


NODE = End("Node", (shutil.which("node") or "", str(HERE / "capnweb_peer.mjs")))
OURS = End("ours", (sys.executable, str(HERE / "_capnweb_peer.py")))
FAST = End("ours", (*OURS.command, "--fast"))


class Pair:
    """A client process connected to a server process."""

    def __init__(self, client: End, server: End) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._start(server, "server")
        url = self._read()["url"]
        self._start(client, "client", url)
        self._read()

    def _start(self, end: End, *arguments: str) -> None:
        command = [*end.command, *arguments]
        self._processes.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )

    def _read(self) -> dict[str, Any]:
        """Return the next line of the process started last."""
        process = self._processes[-1]
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{process.args!r} ended with {process.wait()} in the middle of the benchmark")
        return dict(json.loads(line))

    def run(self, name: str, count: int) -> dict[str, float]:
        """Run `count` operations and return seconds and both ends' CPU µs of them all."""
        stdin = self._processes[-1].stdin
        assert stdin
        stdin.write(f"{name} {count}\n")
        stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the client, then the server."""
        for process in reversed(self._processes):
            process.communicate(timeout=20)


@dataclass(frozen=True)
class Spent:
    """What one operation took: seconds of the clock, and CPU µs of both ends."""

    seconds: float
    client_cpu_us: float
    server_cpu_us: float

    @classmethod
    def median(cls, of: Iterable[Spent]) -> Spent:
        """The medians: a turn in which the machine did something else counts for nothing."""
        return cls(*map(statistics.median, zip(*map(astuple, of), strict=True)))


class Side:
    """One combination of ends."""

    def __init__(self, client: End, server: End) -> None:
        self._ends = client, server
        self._pair: Pair | None = None
        self._warm: set[str] = set()

    def run(self, load: Operation) -> Spent:
        """Run one turn, in processes that have run this load before."""
        if self._pair is None:
            self._pair = Pair(*self._ends)
        if load.name not in self._warm:
            self._warm.add(load.name)
            self._pair.run(load.name, load.count * TURNS)
        told = self._pair.run(load.name, load.count)
        return Spent(*(told[key] / load.count for key in ("seconds", "client_cpu_us", "server_cpu_us")))

    def close(self) -> None:
        """End the processes, if any run; the next turn has new ones."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        self._warm.clear()


class Duel:
    """Two sides that take turns. The harness asks for one side's figure and then the other's: both are of one round."""

    def __init__(self, ours: Side, peer: Side | None) -> None:
        self._sides = {"ours": ours} if peer is None else {"ours": ours, "peer": peer}
        self._waiting: dict[tuple[str, str], float] = {}
        self._done: set[str] = set()
        self._spent: defaultdict[tuple[str, str], list[Spent]] = defaultdict(list)

    def measuring(self, load: Operation, side: str) -> Callable[[], float]:
        """What measures `side` under `load`."""

        def measure() -> float:
            if (load.name, side) not in self._waiting:
                self._run_round(load)
            return self._waiting.pop((load.name, side))

        return measure

    def _run_round(self, load: Operation) -> None:
        if load.name in self._done and not benchmark.is_quick:
            self.close()
        self._done.add(load.name)
        turns: dict[str, list[Spent]] = {side: [] for side in self._sides}
        is_late = benchmark.is_quick and time.monotonic() - STARTED > HURRY_SECONDS
        for turn in range(1 if is_late else TURNS):
            for side in self._sides if turn % 2 == 0 else reversed(self._sides):
                turns[side].append(self._sides[side].run(load))
        for side, spent in turns.items():
            median = Spent.median(spent)
            self._spent[load.name, side].append(median)
            self._waiting[load.name, side] = median.seconds * 1e6 if load.unit == "µs" else 1 / median.seconds

    def details(self, load: Operation) -> dict[str, float]:
        """The medians of the CPU µs of both ends of both sides for one operation."""
        figures: dict[str, float] = {}
        for side in self._sides:
            median = Spent.median(self._spent[load.name, side])
            figures[f"{side}_client_cpu_us"] = median.client_cpu_us
            figures[f"{side}_server_cpu_us"] = median.server_cpu_us
        return figures

    def close(self) -> None:
        """End all processes."""
        for side in self._sides.values():
            side.close()
        self._done.clear()


@dataclass(frozen=True)
class Combination:
    """Two ends to compare with the peer, and the ratios to reach by operation."""

    title: str
    client: End
    server: End
    budgets: Mapping[str, float]


# A chain may take twice as long over `websockets`, a fifth longer over the fast transport.
COMBINATIONS = [
    Combination(
        "ours → Node, websockets",
        OURS,
        NODE,
        {"sequential": 0.35, "in_flight": 1.0, "chain": 1 / 2, "events_100": 0.8},
    ),
    Combination(
        "ours → ours, websockets",
        OURS,
        OURS,
        {"sequential": 0.25, "in_flight": 0.6, "events_100": 0.6},
    ),
    Combination(
        "ours → Node, picows",
        FAST,
        NODE,
        {"sequential": 0.65, "in_flight": 1.4, "chain": 1 / 1.2},
    ),
    Combination("ours → ours, picows", FAST, FAST, {}),
    Combination("Node → ours, websockets", NODE, OURS, {}),
]


def compare(combination: Combination, duel: Duel, *, has_peer: bool) -> list[Case]:
    """The cases of one combination of ends."""
    return [
        Case(
            f"{load.title}, {combination.title}",
            load.unit,
            duel.measuring(load, "ours"),
            duel.measuring(load, "peer") if has_peer else None,
            "Node → Node, capnweb 0.12",
            load.better,
            combination.budgets.get(load.name),
            functools.partial(duel.details, load),
        )
        for load in OPERATIONS
    ]


def main() -> None:
    has_node = bool(NODE.command[0]) and NODE_MODULES.is_dir()
    has_fast = find_spec("picows") is not None and find_spec("uvloop") is not None
    if not has_node:
        print(f"No peer: needs node on the path and npm packages in {NODE_MODULES}.", file=sys.stderr)
    if not has_fast:
        print("No fast transport: picows or uvloop is not installed.", file=sys.stderr)
    chosen = [
        combination
        for combination in COMBINATIONS
        if (has_node or NODE not in (combination.client, combination.server))
        and (has_fast or FAST not in (combination.client, combination.server))
    ]
    duels: list[Duel] = []
    cases: list[Case] = []
    for combination in chosen:
        ours = Side(combination.client, combination.server)
        duel = Duel(ours, Side(NODE, NODE) if has_node else None)
        duels.append(duel)
        cases += compare(combination, duel, has_peer=has_node)
    try:
        benchmark.run(cases, more_rounds=False)
    finally:
        for duel in duels:
            duel.close()


if __name__ == "__main__":
    main()
