"""What ``import itx_notebook`` costs a kernel's start, against importing only what the engine cannot do without.

Each side is a fresh interpreter that imports and then tells how long that took; its own start is not in it.
``asyncio`` and ``sqlite3`` stand on the peer's side too, because any durable engine on a loop needs both.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._harness import Benchmark, Case

SCRIPT = "import time; started = time.perf_counter(); import {}; print((time.perf_counter() - started) * 1e3)"


def importing(modules: str) -> Callable[[], float]:
    """Milliseconds that a fresh interpreter takes for ``import modules``."""

    def measure() -> float:
        command = [sys.executable, "-c", SCRIPT.format(modules)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return measure


if __name__ == "__main__":
    Benchmark("import_time").run(
        [
            Case(
                "import itx_notebook, fresh interpreter",
                "ms",
                importing("itx_notebook"),
                importing("msgspec, asyncio, sqlite3"),
                "import msgspec, asyncio, sqlite3",
                "less",
                1 / 1.5,
            ),
        ]
    )
