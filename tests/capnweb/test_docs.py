"""The page on Cap'n Web: its programs run, its table of limits is the class's, and it names nothing that is not there.

Its other blocks run when the page is built.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from itx_notebook import capnweb as rpc

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = (DOCS / "capnweb.md").read_text(encoding="utf-8")
UNITS: Final = {"MiB": 1024.0**2, "KiB": 1024.0, "ms": 0.001, "": 1.0}

(HELLO, SERVER) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_first_program_runs_as_it_stands() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HELLO], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Ada!\n", "")


async def test_the_server_alone_can_be_connected_to() -> None:
    assert "port=8787" in SERVER
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", SERVER.replace("port=8787", "port=0"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        words = (await process.stdout.readline()).decode().split()
        assert words[:2] == ["Listening", "on"]
        async with rpc.connect(words[2]) as api:
            assert await api.greet("Ada") == "Hello, Ada!"
    finally:
        process.kill()
        await process.wait()


def test_the_table_of_limits_is_that_of_the_class() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) ?(MiB|KiB|ms|) \|", PAGE, re.MULTILINE)
    told = {name: float(number.replace(",", "")) * UNITS[unit] for name, number, unit in rows}
    assert told == {field.name: field.default for field in dataclasses.fields(rpc.Limits)}


def test_the_page_names_nothing_that_is_not_there() -> None:
    named = set(re.findall(r"\brpc\.(\w+)", PAGE))
    assert len(named) > 30
    assert named - set(rpc.__all__) == set()


def test_the_reference_has_every_public_name() -> None:
    reference = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"::\s+itx_notebook\.capnweb\.(\w+)", reference))
    assert documented == set(rpc.__all__)
