"""The tree and its cache: what a look costs when the answer is known, what an update costs, when the tree is painted.

Kernel side in process; the paint in a real JupyterLab, where a Chromium is found. Bytes are those of the comm message,
as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook._clock import SystemClock
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.query import QueryClient, prefetch_itx_query, project_stream_state_query
from itx_notebook.streams import core_type
from itx_notebook.tree import LiveTree
from itx_notebook.types import ADMIN
from tests.benchmarks._harness import Benchmark, Case

benchmark = Benchmark("tree")

HITS = 20_000
UPDATES = 5 if benchmark.is_quick else 15


class Bench:
    """A project whose root has `size` children, on an engine of its own."""

    def __init__(self, deployment: Deployment, project: Any) -> None:
        self.deployment = deployment
        self.project = project
        self.queries = QueryClient(SystemClock())

    async def get_itx(self, project: str) -> Any:
        return get_server_itx(self.deployment, project, ADMIN)

    @property
    def root(self) -> Any:
        return self.deployment.engine.stream(self.project.id, "/")


def with_bench(size: int, work: Callable[[Bench], Awaitable[float]]) -> Callable[[], float]:
    async def measure(home: Path) -> float:
        deployment = await Deployment.open(home)
        bench = Bench(deployment, await deployment.directory.create("bench"))
        kind = core_type("child-stream-created")
        names = [{"type": kind, "payload": {"childPath": f"/stream-{n:06}"}} for n in range(size)]
        if names:
            await bench.root.append_batch(names)
        try:
            return await work(bench)
        finally:
            await bench.queries.close()
            await deployment.close()

    def run() -> float:
        home = Path(tempfile.mkdtemp(prefix="itx-bench-"))
        try:
            # Playwright, once started, keeps a loop running in the main thread.
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(asyncio.run, measure(home)).result()
        finally:
            shutil.rmtree(home)

    return run


async def hit_sync(bench: Bench) -> float:
    query = project_stream_state_query(bench.project.id, "/")
    await prefetch_itx_query(query, bench.queries, bench.get_itx)
    started = time.perf_counter()
    for _ in range(HITS):
        bench.queries.try_get_fresh(query)
    return (time.perf_counter() - started) / HITS * 1e6


async def hit_awaited(bench: Bench) -> float:
    query = project_stream_state_query(bench.project.id, "/")
    await prefetch_itx_query(query, bench.queries, bench.get_itx)
    started = time.perf_counter()
    for _ in range(HITS):
        await prefetch_itx_query(query, bench.queries, bench.get_itx)
    return (time.perf_counter() - started) / HITS * 1e6


async def hang(bench: Bench) -> float:
    """Seconds that a prefetch with a deadline of 0.1 s takes when nothing answers."""

    async def never(_project: str) -> Any:
        await asyncio.Event().wait()

    started = time.perf_counter()
    await prefetch_itx_query(project_stream_state_query(bench.project.id, "/"), bench.queries, never, deadline=0.1)
    return time.perf_counter() - started


async def watch_updates(bench: Bench) -> tuple[list[int], list[float]]:
    """Bytes of the patch for one append to the root, and milliseconds from the append's begin to the patch."""
    tree = LiveTree(bench.project, queries=bench.queries, get_itx=bench.get_itx)
    await tree.prefetch()
    patches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    tree.subscribe(lambda seq, patch: patches.put_nowait({"kind": "patch", "seq": seq, **patch}))
    tree.open()
    sizes, delays = [], []
    while True:
        try:
            await asyncio.wait_for(patches.get(), 0.2)
        except TimeoutError:
            break
    for _ in range(UPDATES):
        started = time.perf_counter()
        await bench.root.append({"type": "x"})
        patch = await patches.get()
        delays.append((time.perf_counter() - started) * 1e3)
        sizes.append(len(json.dumps(patch)))
        # The next frame begins 40 ms after this one; wait for it, so that no delay holds the end of a frame.
        await asyncio.sleep(0.05)
    tree.close()
    return sizes, delays


async def update_bytes(bench: Bench) -> float:
    return statistics.median((await watch_updates(bench))[0])


async def update_delay(bench: Bench) -> float:
    return statistics.median((await watch_updates(bench))[1])


def painted(cell: str, selector: str) -> Callable[[], float]:
    """Seconds from running a cell to its output being painted, in JupyterLab; one server and browser for all calls."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as home:
            from tests.browser.lab import open_notebook

            server, browser = browser_of()
            with open_notebook(server, browser, Path(home) / "itx", [PREPARE, cell]) as page:
                page.run(1)
                started = time.perf_counter()
                page.start(2)
                page.page.locator(selector).first.wait_for(state="visible")
                return time.perf_counter() - started

    return run


PREPARE = """
import itx_notebook, ipywidgets, anywidget
itx = itx_notebook.connect()
kind = "events.iterate.com/stream/child-stream-created"
itx.streams.get("/").append_batch(
    [{"type": kind, "payload": {"childPath": f"/stream-{n:06}"}} for n in range(1000)])
lines = "".join(f"<div class='bench-row'>stream-{n:06}</div>" for n in range(1000))
"""

_browser: list[Any] = []


def browser_of() -> Any:
    """The server and the browser, started at the first call and ended with the process."""
    if not _browser:
        import atexit
        from contextlib import ExitStack

        from playwright.sync_api import sync_playwright

        from tests.browser.lab import CHROMIUM_FLAGS, start_lab

        stack = ExitStack()
        atexit.register(stack.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(start_lab(folder))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        stack.callback(browser.close)
        _browser.extend((server, browser))
    return tuple(_browser)


CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

if __name__ == "__main__":
    cases = [
        Case(
            "prefetch, cache hit, asked for at once",
            "µs",
            with_bench(0, hit_sync),
            lambda: 5.0,
            "the budget, 5 µs",
            "less",
            1.0,
        ),
        Case(
            "prefetch, cache hit, awaited",
            "µs",
            with_bench(0, hit_awaited),
            lambda: 20.0,
            "the budget, 20 µs",
            "less",
            1.0,
        ),
        Case(
            "prefetch when nothing answers, deadline 0.1 s",
            "s",
            with_bench(0, hang),
            lambda: 0.1,
            "the deadline",
            "less",
            0.9,
        ),
        Case(
            "bytes of one update, 10,000 nodes",
            "B",
            with_bench(10_000, update_bytes),
            with_bench(100, update_bytes),
            "the same with 100 nodes",
            "less",
            0.95,
        ),
        Case(
            "append → patch, 10,000 nodes",
            "ms",
            with_bench(10_000, update_delay),
            with_bench(100, update_delay),
            "the same with 100 nodes",
            "less",
            0.8,
        ),
    ]
    if CHROMIUM:
        tree = painted("browser = itx.tree()\nbrowser", '[role=treeitem][data-path="/stream-000001"]')
        html = painted("ipywidgets.HTML(lines)", ".bench-row")
        cases.append(
            Case("first paint, 1,000 nodes, JupyterLab", "s", tree, html, "ipywidgets.HTML of the rows", "less")
        )
    else:
        print("No Chromium here: the paint is not measured.", file=sys.stderr)
    benchmark.run(cases)
