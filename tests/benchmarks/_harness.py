"""How a benchmark is run and told: ours and the peer interleaved, medians, one table of ratios, JSON on request.

A lone figure says nothing on a shared machine, so a case always measures both sides in the same rounds. What counts is
the median of the rounds' ratios: the two figures of one round were taken within a moment of each other, those of
different rounds perhaps under another load. It is turned so that larger is better for us.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

__all__ = ["Benchmark", "Case", "Row"]

Measure = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes
    ----------
    name : str
        What is measured, with durability, event size, batch size and transport.
    ours, peer : callable
        Runs once and returns one value in `unit`. ``peer=None``: not installed, a row without a ratio.
    better : {"more", "less"}
        Which way is good: rates are better when more, times when less.
    budget : float, optional
        The least ratio to reach; ``None`` is a row for information.
    details : callable, optional
        Further figures of the row by name, asked for once when it has been measured.
    """

    name: str
    unit: str
    ours: Measure
    peer: Measure | None
    peer_name: str
    better: Literal["more", "less"]
    budget: float | None = None
    details: Callable[[], Mapping[str, float]] | None = None


@dataclass
class Row:
    """What was measured of a case."""

    case: Case
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    def measure(self, round_number: int) -> None:
        """Run both sides once; their order changes, so that neither always has the warm disk."""
        sides = [(self.case.ours, self.ours), *([(self.case.peer, self.peer)] if self.case.peer else [])]
        for measure, values in sides if round_number % 2 == 0 else reversed(sides):
            values.append(measure())

    @property
    def ratio(self) -> float | None:
        """The median over the rounds of ours against the peer; larger is better for us."""
        return statistics.median(self.ratios) if self.peer else None

    @property
    def ratios(self) -> list[float]:
        """Ours against the peer in each round."""
        good, bad = (self.ours, self.peer) if self.case.better == "more" else (self.peer, self.ours)
        return [one / other if other > 0 else float("inf") for one, other in zip(good, bad, strict=False)]

    @property
    def is_ok(self) -> bool | None:
        """Whether the budget is met; ``None`` if there is none."""
        return None if self.case.budget is None or self.ratio is None else self.ratio >= self.case.budget

    def to_json(self) -> dict[str, Any]:
        """The row in the common form."""
        return {
            "case": self.case.name,
            "unit": self.case.unit,
            "ours": statistics.median(self.ours),
            "peer": statistics.median(self.peer) if self.peer else None,
            "peer_name": self.case.peer_name,
            "ratio": self.ratio,
            "budget": self.case.budget,
            "ok": self.is_ok,
            "runs": len(self.ours),
            **self.details,
        }

    @property
    def details(self) -> Mapping[str, float]:
        """What the case tells besides."""
        return self.case.details() if self.case.details else {}


class Benchmark:
    """A named set of cases, run from the command line: ``--quick`` for fewer rounds, ``--json FILE``."""

    def __init__(self, name: str) -> None:
        self.name = name
        parser = argparse.ArgumentParser(prog=f"make bench NAME={name}")
        parser.add_argument("--quick", action="store_true", help="smaller loads, fewer rounds, within a minute")
        parser.add_argument("--json", type=Path, help="write the rows to this file as well")
        self._options = parser.parse_args()

    @property
    def is_quick(self) -> bool:
        """Whether loads should be small."""
        return bool(self._options.quick)

    def run(self, cases: list[Case], *, more_rounds: bool = True) -> None:
        """Measure, print the table, and write the JSON if asked.

        A case gets a few rounds at the least, and as many more as fit into its seconds: what is measured quickly, and
        so swings most, is measured most often. Where a run prepares much that is not measured, ``more_rounds=False``
        leaves it at the least.
        """
        least, most, seconds = (3, 15, 2.0) if self.is_quick else (7, 41, 8.0)
        most = most if more_rounds else least
        rows = [Row(case) for case in cases]
        spent = dict.fromkeys(range(len(rows)), 0.0)
        for round_number in range(most):
            due = [index for index in spent if round_number < least or spent[index] < seconds]
            for index in due:
                started = time.perf_counter()
                rows[index].measure(round_number)
                spent[index] += time.perf_counter() - started
            if due:
                print(f"round {round_number + 1}: {len(due)} cases", file=sys.stderr)
        self.report(rows)

    def report(self, rows: list[Row]) -> None:
        """Print the table of what was measured, and write the JSON if asked."""
        self._print(rows)
        if self._options.json:
            self._options.json.write_text(json.dumps(self._describe(rows), indent=2) + "\n")

    def _print(self, rows: list[Row]) -> None:
        print(f"\n{'case':<62}{'unit':>10}{'ours':>14}{'peer':>14}{'ratio':>8}{'budget':>8}  peer")
        for row in rows:
            facts = row.to_json()
            peer = "not here" if facts["peer"] is None else f"{facts['peer']:,.5g}"
            ratio = "-" if facts["ratio"] is None else f"{facts['ratio']:.2f}"
            budget = "-" if facts["budget"] is None else f"{facts['budget']:.2f}"
            mark = {True: "", False: "  < budget", None: ""}[facts["ok"]]
            print(
                f"{facts['case']:<62}{facts['unit']:>10}{facts['ours']:>14,.5g}{peer:>14}{ratio:>8}{budget:>8}"
                f"  {facts['peer_name']}{mark}"
            )
            spread = f"{min(row.ours):,.5g} … {max(row.ours):,.5g}"
            against = f" against {min(row.peer):,.5g} … {max(row.peer):,.5g}" if row.peer else ""
            ratios = f", ratio {min(row.ratios):.2f} … {max(row.ratios):.2f}" if row.peer else ""
            print(f"{'':<62}{'':>10}  {facts['runs']} rounds: {spread}{against}{ratios}")
            if details := ", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in row.details.items()):
                print(f"{'':<62}{'':>10}  {details}")

    def _describe(self, rows: list[Row]) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "rows": [row.to_json() for row in rows],
        }
