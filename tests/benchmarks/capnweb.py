"""Our Cap'n Web against the reference library in JavaScript: every combination of the two as client and as server.

Client and server are processes of their own on 127.0.0.1, without TLS and compression. Beside each rate or time stands
the CPU time both ends spent on one operation: on a shared machine it swings less than the clock.

The peer is always the reference library at both ends, measured in the same breath. Each side has a fresh server and a
fresh client in every round; before a case is measured both run it unmeasured, so that JavaScript's compiler and our
caches are past their beginnings on either side.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._harness import Benchmark, Case

HERE = Path(__file__).parent
NODE_MODULES = HERE.parent / "capnweb" / "node" / "node_modules"

benchmark = Benchmark("capnweb")


@dataclass(frozen=True)
class Operation:
    """One kind of load: how much of it is measured, and its row's form.

    Attributes
    ----------
    name : str
        What the drivers call it.
    count, warm_up : int
        Operations measured, and run before.
    """

    name: str
    title: str
    unit: str
    better: Literal["more", "less"]
    count: int
    warm_up: int


def operation(name: str, title: str, unit: str, count: int) -> Operation:
    least = count // 2
    return Operation(
        name, title, unit, "less" if unit == "µs" else "more", least if benchmark.is_quick else count * 2, least
    )


OPERATIONS = [
    operation("sequential", "call, one after the other", "/s", 1_600),
    operation("in_flight", "call, 1,000 in flight", "/s", 8_000),
    operation("chain", "3 pipelined steps and a read", "µs", 800),
    operation("events_1", "events of 50-55 B, 1 a call", "events/s", 6_000),
    operation("events_100", "events of 50-55 B, 100 a call", "events/s", 160_000),
    operation("events_1000", "events of 50-55 B, 1,000 a call", "events/s", 320_000),
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


class Side:
    """One combination of ends over all rounds; asked for a case a second time, it starts afresh."""

    def __init__(self, client: End, server: End) -> None:
        self._ends = client, server
        self._pair: Pair | None = None
        self._done: set[str] = set()
        self.cpu_us: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def measuring(self, load: Operation) -> Callable[[], float]:
        def measure() -> float:
            if load.name in self._done:
                self.close()
            if self._pair is None:
                self._pair = Pair(*self._ends)
            self._done.add(load.name)
            self._pair.run(load.name, load.warm_up)
            told = self._pair.run(load.name, load.count)
            self.cpu_us[load.name].append((told["client_cpu_us"] / load.count, told["server_cpu_us"] / load.count))
            return told["seconds"] / load.count * 1e6 if load.unit == "µs" else load.count / told["seconds"]

        return measure

    def get_cpu_us(self, load: Operation) -> tuple[float, float]:
        """The medians of the client's and the server's CPU µs for one operation."""
        client, server = zip(*self.cpu_us[load.name], strict=True)
        return statistics.median(client), statistics.median(server)

    def close(self) -> None:
        """End the processes, if any run."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        self._done.clear()


def compare(title: str, ours: Side, peer: Side | None, budgets: Mapping[str, float]) -> list[Case]:
    """The cases of one combination of ends."""

    def details(load: Operation) -> Callable[[], dict[str, float]]:
        def tell() -> dict[str, float]:
            client, server = ours.get_cpu_us(load)
            figures = {"ours_client_cpu_us": client, "ours_server_cpu_us": server}
            if peer is not None:
                client, server = peer.get_cpu_us(load)
                figures |= {"peer_client_cpu_us": client, "peer_server_cpu_us": server}
            return figures

        return tell

    return [
        Case(
            f"{load.title}, {title}",
            load.unit,
            ours.measuring(load),
            peer.measuring(load) if peer is not None else None,
            "Node → Node, capnweb 0.12",
            load.better,
            budgets.get(load.name),
            details(load),
        )
        for load in OPERATIONS
    ]


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
    sides: list[Side] = []
    cases: list[Case] = []
    for combination in chosen:
        ours = Side(combination.client, combination.server)
        peer = Side(NODE, NODE) if has_node else None
        sides += [side for side in (ours, peer) if side is not None]
        cases += compare(combination.title, ours, peer, combination.budgets)
    try:
        benchmark.run(cases, more_rounds=False)
    finally:
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
