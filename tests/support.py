"""Helpers that several rooms' tests share: real engines, opened and closed; a second process; an IPython shell."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from itx_notebook._loop import run_blocking
from itx_notebook.client import Loader, close_loaders
from itx_notebook.doors import Deployment
from itx_notebook.errors import ItxError
from itx_notebook.testing.clock import settle


@asynccontextmanager
async def open_deployment(home: Path) -> AsyncIterator[Deployment]:
    """An engine with its directory on this test's own loop."""
    deployment = await Deployment.open(home)
    try:
        yield deployment
    finally:
        await deployment.close()


async def let_engine_work(deployment: Deployment) -> None:
    """Wait until announcements are written and delivered."""
    await deployment.engine.settle()
    await settle()


def close_engines() -> None:
    """Close what ``connect()`` opened in this process."""
    run_blocking(close_loaders(), timeout=10)


def on_io_loop(call: Callable[[], Any]) -> Any:
    """Run a plain function on the I/O loop and give back what it returns, after everything sent there before."""

    async def run() -> Any:
        await settle()
        result = call()
        await settle()
        return result

    return run_blocking(run(), timeout=10)


def get_refusal(call: Callable[[], Any]) -> ItxError:
    """The :class:`ItxError` that `call` raises."""
    with pytest.raises(ItxError) as caught:
        call()
    return caught.value


async def get_async_refusal(awaitable: Any) -> ItxError:
    """The :class:`ItxError` that awaiting raises."""
    with pytest.raises(ItxError) as caught:
        await awaitable
    return caught.value


async def open_owned(loader: Loader) -> Deployment:
    """Open a loader whose process owns the store, and give what it opened."""
    await loader.open()
    assert loader.deployment is not None
    return loader.deployment


class OtherProcess:
    """A Python process that runs a script, speaks in lines, and goes on at the next line it is told."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self) -> str:
        """Its next line; empty if it ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def end(self) -> int:
        """Close its input, wait for its end, and give its exit status."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        return self._process.wait(20)


HOLD_STORE = """
import sys, itx_notebook
itx = itx_notebook.connect(home=sys.argv[1])
itx.streams.get("/held").append("demo.held")
print("held", flush=True)
sys.stdin.readline()
"""
"""A script for :class:`OtherProcess`: holds the store until it is told a line."""


@contextmanager
def hold_store(home: Path) -> Iterator[OtherProcess]:
    """Another process that holds the store in `home`."""
    other = OtherProcess(HOLD_STORE, str(home))
    try:
        assert other.hear() == "held"
        yield other
    finally:
        other.kill()
        other.end()


@contextmanager
def open_shell(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """The process's IPython shell, with its files in `directory` and no history."""
    monkeypatch.setenv("IPYTHONDIR", str(directory))
    monkeypatch.setattr(HistoryManager, "enabled", False)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    try:
        yield shell
    finally:
        shell.restore_sys_module_state()  # type: ignore[no-untyped-call]  # IPython ships no types for it
        InteractiveShell.clear_instance()


class Ran:
    """What running a cell gave: its value, its error, and what it displayed."""

    def __init__(self, result: Any, captured: Any) -> None:
        self.value: Any = result.result
        self.error: BaseException | None = result.error_before_exec or result.error_in_exec
        self.stdout: str = captured.stdout
        self.stderr: str = captured.stderr
        self.displayed: list[dict[str, Any]] = [output.data for output in captured.outputs]


def run_cell(shell: InteractiveShell, source: str) -> Ran:
    """Run a cell as a notebook would."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=False)  # type: ignore[no-untyped-call]  # IPython ships no types for it
    return Ran(result, captured)


async def gather(*awaitables: Any) -> list[Any]:
    """Results or errors, in order."""
    return await asyncio.gather(*awaitables, return_exceptions=True)
