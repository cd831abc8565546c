"""The tree: what a look costs when the answer is known, what an update costs, when it is painted, however large it is.

Kernel side in process; the paint in a real JupyterLab, where a Chromium is found (``_tree_page.py``). Bytes are those
of the comm message, as JSON. A tree of n nodes has 100 open groups of n / 100 children.
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
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook._clock import SystemClock
from itx_notebook._loop import get_io_loop
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.query import QueryClient, prefetch_itx_query, project_stream_state_query
from itx_notebook.streams import core_type
from itx_notebook.tree import LiveTree
from itx_notebook.types import ADMIN
from tests.benchmarks._harness import Benchmark, Case

benchmark = Benchmark("tree")

_T = TypeVar("_T")

HITS: Final = 20_000
UPDATES: Final = 5 if benchmark.is_quick else 15
GROUPS: Final = 100
STATIC: Final = Path(__file__).parents[2] / "itx_notebook" / "widgets" / "static"
CHROMIUM: Final = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


class Bench:
    """A project on an engine of its own, in a directory that goes with it."""

    def __init__(self, home: Path, deployment: Deployment, project: Any) -> None:
        self.home = home
        self.deployment = deployment
        self.project = project
        self.queries = QueryClient(SystemClock())

    @classmethod
    async def open(cls) -> Bench:
        home = Path(tempfile.mkdtemp(prefix="itx-bench-"))
        deployment = await Deployment.open(home)
        return cls(home, deployment, await deployment.directory.create("bench"))

    async def close(self) -> None:
        await self.queries.close()
        await self.deployment.close()
        shutil.rmtree(self.home)

    async def get_itx(self, project: str) -> Any:
        return get_server_itx(self.deployment, project, ADMIN)

    async def name(self, parent: str, children: list[str]) -> None:
        """Let a stream name children; they need not exist to be shown."""
        kind = core_type("child-stream-created")
        named = [{"type": kind, "payload": {"childPath": path}} for path in children]
        await self.deployment.engine.stream(self.project.id, parent).append_batch(named)


def with_bench(work: Callable[[Bench], Awaitable[float]]) -> Callable[[], float]:
    async def measure() -> float:
        bench = await Bench.open()
        try:
            return await work(bench)
        finally:
            await bench.close()

    def run() -> float:
        # Playwright, once started, keeps a loop running in the main thread.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, measure()).result()

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


class Followed:
    """An open tree of many nodes on the I/O thread, all its groups expanded. Opened at the first use, then kept."""

    def __init__(self, nodes: int) -> None:
        self._leaves = nodes // GROUPS
        self._patches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._held_up = 0.0

    def get_bytes(self) -> float:
        """Of the patch for one append."""
        return statistics.median(size for size, _ in self._run(self._update()))

    def get_delay(self) -> float:
        """Milliseconds from just before an append to its patch."""
        return statistics.median(delay for _, delay in self._run(self._update()))

    def get_hold_up(self) -> float:
        """The most milliseconds that the I/O thread worked in one go while somebody opened, searched and ordered."""
        return self._run(self._use())

    def close(self) -> None:
        self._run(self._close())

    def open(self) -> None:
        self._run(self._open())

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, get_io_loop()).result()

    async def _open(self) -> None:
        self._bench = await Bench.open()
        self._groups = [f"/group-{number:03}" for number in range(GROUPS)]
        for group in self._groups:
            await self._bench.name(group, [f"{group}/leaf-{number:04}" for number in range(self._leaves)])
        bench = self._bench
        self._tree = LiveTree(bench.project, queries=bench.queries, get_itx=bench.get_itx, expand=self._groups)
        await self._tree.prefetch(deadline=30.0)
        self._tree.subscribe(lambda seq, patch: self._patches.put_nowait({"kind": "patch", "seq": seq, **patch}))
        self._tree.open()
        self._watch = asyncio.create_task(self._watch_loop())
        await self._rest()

    async def _close(self) -> None:
        self._watch.cancel()
        self._tree.close()
        await self._bench.close()

    async def _rest(self) -> None:
        """Until nothing has changed for a while."""
        while True:
            try:
                await asyncio.wait_for(self._patches.get(), 0.2)
            except TimeoutError:
                return

    async def _watch_loop(self) -> None:
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0.001)
            self._held_up = max(self._held_up, (time.thread_time() - begun) * 1e3)

    async def _update(self) -> list[tuple[int, float]]:
        told = []
        stream = self._bench.deployment.engine.stream(self._bench.project.id, self._groups[GROUPS // 2])
        for _ in range(UPDATES):
            begun = time.perf_counter()
            await stream.append({"type": "x"})
            patch = await self._patches.get()
            told.append((len(json.dumps(patch)), (time.perf_counter() - begun) * 1e3))
            # The next frame begins 40 ms after this one; wait for it, so that no delay holds the end of a frame.
            await asyncio.sleep(0.05)
        return told

    async def _use(self) -> float:
        await self._rest()
        self._held_up = 0.0
        steps: list[Callable[[], object]] = [
            *(lambda group=group: self._tree.collapse(group) for group in self._groups),
            *(lambda group=group: self._tree.expand(group) for group in self._groups),
            lambda: self._tree.set_filter("leaf-05"),
            lambda: self._tree.set_filter(""),
            lambda: self._tree.set_sort("count"),
            lambda: self._tree.set_sort("name"),
            lambda: self._tree.select(f"{self._groups[-1]}/leaf-0001"),
        ]
        for step in steps:
            step()
            await asyncio.sleep(0.002)
        await self._rest()
        return self._held_up


@cache
def follow(nodes: int) -> Followed:
    followed = Followed(nodes)
    followed.open()
    return followed


def make_kernel_cases() -> list[Case]:
    small, large = 1_000, 100_000
    cases = [
        Case(
            "prefetch, cache hit, asked for at once",
            "µs",
            with_bench(hit_sync),
            lambda: 5.0,
            "the budget, 5 µs",
            "less",
            1.0,
        ),
        Case(
            "prefetch, cache hit, awaited",
            "µs",
            with_bench(hit_awaited),
            lambda: 20.0,
            "the budget, 20 µs",
            "less",
            1.0,
        ),
        Case(
            "prefetch when nothing answers, deadline 0.1 s",
            "s",
            with_bench(hang),
            lambda: 0.1,
            "the deadline",
            "less",
            0.9,
        ),
    ]
    for nodes in (10_000, large):
        few, many = follow(small), follow(nodes)
        cases += [
            Case(
                f"bytes of one update, {nodes:,} nodes",
                "B",
                many.get_bytes,
                few.get_bytes,
                f"the same with {small:,} nodes",
                "less",
                0.95,
            ),
            Case(
                f"append → patch, {nodes:,} nodes",
                "ms",
                many.get_delay,
                few.get_delay,
                f"the same with {small:,} nodes",
                "less",
                0.8,
            ),
        ]
    cases.append(
        Case(
            f"I/O thread in one go: open, search, order {large:,}",
            "ms",
            follow(large).get_hold_up,
            lambda: 50.0,
            "the budget, 50 ms",
            "less",
            1.0,
        )
    )
    return cases


def get_stored_size() -> float:
    """Kilobytes of the front end, which every widget stores."""
    return sum(file.stat().st_size for file in STATIC.iterdir()) / 1e3


def make_beat_case(page: Any, when: str, *, is_busy: bool, details: Callable[[], Mapping[str, float]]) -> Case:
    return Case(
        f"append → painted, {when}, p50",
        "ms",
        lambda: page.beat("tree", is_busy=is_busy),
        lambda: page.beat("bare", is_busy=is_busy),
        "a bare message → painted",
        "less",
        None,
        details,
    )


def make_page_cases(page: Any) -> list[Case]:
    def tell(*names: str) -> Callable[[], Mapping[str, float]]:
        return lambda: {f"p99 of {name} ms": page.get_percentile(name, 99) for name in names}

    memory = cache(page.measure_memory)
    page.show_groups()
    return [
        Case(
            "first paint, 1,000 nodes, cached",
            "s",
            page.paint_cached,
            page.paint_html,
            "ipywidgets.HTML of the rows",
            "less",
        ),
        Case(
            "first paint, 1,000 nodes, saved notebook",
            "s",
            lambda: page.paint_saved("tree"),
            lambda: page.paint_saved("html"),
            "ipywidgets.HTML of the rows",
            "less",
        ),
        Case(
            "first paint, 1,000 nodes, fresh kernel",
            "s",
            lambda: page.paint_cold("tree"),
            lambda: page.paint_cold("html"),
            "ipywidgets.HTML of the rows",
            "less",
        ),
        Case(
            f"first paint, {page.peer_nodes} nodes",
            "s",
            page.paint_as_many,
            page.paint_ipytree if page.ipytree else None,
            "ipytree",
            "less",
        ),
        Case(
            "expand 1,000 of 100,000 nodes, not loaded, p50",
            "ms",
            page.expand,
            page.echo,
            "a bare widget's round trip",
            "less",
            None,
            tell("expand", "echo"),
        ),
        make_beat_case(page, "no cell runs", is_busy=False, details=tell("tree, idle", "bare, idle")),
        make_beat_case(page, "a cell computes", is_busy=True, details=tell("tree, busy", "bare, busy")),
        Case(
            "frames while 10,000 events/s arrive",
            "1/s",
            lambda: page.flood("/flood"),
            lambda: page.flood("/unseen"),
            "the same into a stream not followed",
            "more",
            0.8,
            lambda: {"events/s appended": statistics.median(page.details["/flood, events/s"])},
        ),
        Case(
            "JavaScript heap of 100,000 open nodes",
            "MB",
            lambda: memory()[0],
            lambda: 25.0,
            "the bare prototype, 25 MB",
            "less",
            1.0,
        ),
        Case(
            "kernel's memory (RSS) of 100,000 open nodes",
            "MB",
            lambda: memory()[1],
            lambda: 50.0,
            "the budget, 50 MB",
            "less",
            1.0,
        ),
        Case("front end, as stored", "KB", get_stored_size, lambda: 50.0, "the budget, 50 KB", "less", 1.0),
    ]


def main() -> None:
    cases = make_kernel_cases()
    if CHROMIUM is None:
        print("No Chromium here: the paint is not measured.", file=sys.stderr)
        benchmark.run(cases, more_rounds=False)
        return
    from tests.benchmarks._tree_page import PageBench

    page = PageBench(is_quick=benchmark.is_quick, chromium=CHROMIUM)
    try:
        benchmark.run([*cases, *make_page_cases(page)], more_rounds=False)
    finally:
        page.close()


if __name__ == "__main__":
    main()
    for nodes in (1_000, 10_000, 100_000):
        follow(nodes).close()
