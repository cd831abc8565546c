"""Cap'n Web under load for a long time: memory must stay flat, and nothing may be told that a clean run never tells.

A million calls, a hundred thousand callbacks and ten thousand reconnects, both ends in one process of Python's
development mode. A row is a bound rather than a race: the peer's figure is the most that may be. Memory is judged
over the second half of each load, the first being allowed to fill pools and caches. The exit status is 1 if a bound is
broken, an entry is left in a session's tables, or anything was told.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._harness import Benchmark, Case, Row

benchmark = Benchmark("capnweb_soak")

COUNTS = {"calls": 1_000_000, "callbacks": 100_000, "reconnects": 10_000}
QUICK_COUNTS = {"calls": 40_000, "callbacks": 10_000, "reconnects": 400}

FAST_PART = 4
"""The fast transport, which shares all but the frames, is given a part of the load."""

GROWTH_BOUND_KIB = 2_048
"""Resident memory a load may add in its second half: a few arenas of the allocator. Leaking is far beyond: one entry of
a session's tables in each call would be 100 MiB in the long run, 4 MiB in the quick one."""

TRACED_BOUND_KIB = 256
"""What a tenth of a load may leave allocated: asyncio alone keeps a hundred cancelled timers and where they are from.
A session left by each reconnect would be many MiB; 50 bytes left by each call 5 MiB in the long run."""


def least_squares_slope(samples: list[tuple[int, int]]) -> float:
    """The slope of a line through `samples`."""
    slope, _ = statistics.linear_regression(*zip(*samples, strict=True))
    return slope


def make_row(name: str, unit: str, value: float, bound: float, details: Mapping[str, float]) -> Row:
    """A row that is ok if `value` is at most `bound`; what shrinks counts as one."""
    value = max(1.0, value)
    case = Case(name, unit, lambda: value, lambda: bound, "the bound", "less", 1.0, lambda: details)
    return Row(case, ours=[value], peer=[bound])


def judge(name: str, transport: str, told: dict[str, Any]) -> list[Row]:
    """The rows of one load."""
    samples = [(int(done), int(rss)) for done, rss in told["samples"]]
    second_half = samples[len(samples) // 2 :]
    slope = least_squares_slope(second_half)
    count = told["count"]
    details = {
        "operations_per_s": count / told["seconds"],
        "rss_slope_bytes_per_operation": slope,
        "rss_first_kib": samples[0][1] / 1024,
        "rss_last_kib": samples[-1][1] / 1024,
        "objects_before": told["objects_before"],
        "objects_after": told["objects_after"],
    }
    operations = second_half[-1][0] - second_half[0][0]
    return [
        make_row(
            f"{count:,} {name}, {transport}: RSS added by the second half",
            "KiB",
            slope * operations / 1024,
            GROWTH_BOUND_KIB,
            details,
        ),
        make_row(
            f"{told['traced']['count']:,} {name}, {transport}: left, by tracemalloc",
            "KiB",
            told["traced"]["bytes"] / 1024,
            TRACED_BOUND_KIB,
            {},
        ),
    ]


def soak(transport: str, counts: dict[str, int]) -> tuple[list[Row], list[str]]:
    """Run all loads over one transport; return the rows, and what must not be."""
    command = [sys.executable, "-X", "dev", str(Path(__file__).with_name("_capnweb_soaked.py"))]
    command += ["--fast"] if transport == "picows" else []
    process = subprocess.run([*command, json.dumps(counts)], stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(process.stdout)
    rows = [row for name in counts for row in judge(name, transport, told[name])]
    for name in counts:
        print(f"{name}, {transport}: objects gained by type: {told[name]['grown']}")
    faults = [f"{name}: {told[name]['left']} imports, exports left" for name in counts if any(told[name]["left"])]
    return rows, faults + [f"{transport}: {line}" for line in told["noise"]]


def main() -> int:
    counts = QUICK_COUNTS if benchmark.is_quick else COUNTS
    rows, faults = soak("websockets", counts)
    if find_spec("picows") is None:
        print("No fast transport: picows is not installed.", file=sys.stderr)
    else:
        more = soak("picows", {name: count // FAST_PART for name, count in counts.items()})
        rows, faults = rows + more[0], faults + more[1]
    benchmark.report(rows)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults or not all(row.is_ok for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
