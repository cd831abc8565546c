"""The original Cap'n Web as another process: a server to call, and a client that runs every check.

It runs on Node, from ``tests/capnweb/node``; ``make setup`` installs both. The processes end with their standard
input, so that none outlives the test run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["VERSIONS", "find_node", "run_node_client", "serve_node"]

VERSIONS: Final = ("0.8.0", "newest")
"""The version that June-2026 deployments run, and the newest one."""

_FOLDER: Final = Path(__file__).parent / "node"
_CLIENT_SECONDS: Final = 60.0


def find_node() -> str:
    """The path of Node; fails the test if Node or the packages are missing."""
    beside_python = Path(sys.prefix) / "node" / "bin"
    node = shutil.which("node", path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', '')}")
    if node is None:
        pytest.fail("No node: run `make setup`, which installs it, or put Node 22.12 or newer on the PATH.")
    if not (_FOLDER / "node_modules" / "ws").is_dir():
        pytest.fail(f"{_FOLDER} has no node_modules: run `make setup`, or `npm ci` there.")
    return node


@contextmanager
def serve_node(version: str, script: str = "server.mjs") -> Iterator[str]:
    """A server of the original in this version; gives its URL, ``ws://127.0.0.1:PORT/``."""
    with subprocess.Popen(
        [find_node(), script, version],
        cwd=_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"The server of capnweb {version} did not start; its standard error says why.")
        try:
            yield f"ws://127.0.0.1:{json.loads(line)['port']}/"
        finally:
            process.stdin.close()
            process.wait(20)


async def run_node_client(version: str, url: str, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run every check, or those named, as a client of the original; one result each, in order."""
    process = await asyncio.create_subprocess_exec(
        find_node(), "client.mjs", version, url, *names, cwd=_FOLDER, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _CLIENT_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]
