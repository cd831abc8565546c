"""The README's example is what a new user copies first: it runs as it stands, twice on one store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_example_when_run_twice_prints_the_same(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", example],
            env={**os.environ, "ITX_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert [line.split() for line in outputs[0].splitlines()] == [
        ["payload.item"],
        ["cake", "21.0"],
        ["tea", "12.5"],
        ["Name:", "payload.amount,", "dtype:", "float64"],
    ]
    assert outputs[1] == outputs[0]
