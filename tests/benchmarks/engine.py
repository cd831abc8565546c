"""The engine against bare SQLite that does the same durable work: what our own code costs on top.

All cases in process, ``synchronous=FULL``, events of about 200 bytes of JSON, each side in a fresh directory.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook._loop import run_blocking
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.handle import AsyncItx, Itx
from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.types import ADMIN
from tests.benchmarks._harness import Benchmark, Case

benchmark = Benchmark("engine")

SINGLES = 500 if benchmark.is_quick else 1_000
BATCHES = 40 if benchmark.is_quick else 100
LATENCIES = 300 if benchmark.is_quick else 1_000
FAN_OUT = 1_000
REPLAYED = 100_000

PAYLOAD = {"n": 1, "text": "x" * 120, "ok": True, "tags": ["a", "b"]}
EVENT = {"type": "bench.event", "payload": PAYLOAD}


@contextmanager
def fresh() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="itx-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def with_stream(work: Callable[[Stream], Awaitable[float]], *, always_threaded: bool = False) -> Callable[[], float]:
    async def measure(directory: Path) -> float:
        engine = StreamEngine.open(directory, always_threaded=always_threaded)
        stream = engine.stream("bench", "/a")
        await stream.append(EVENT)
        try:
            return await work(stream)
        finally:
            await engine.close()

    def run() -> float:
        with fresh() as directory:
            return asyncio.run(measure(directory))

    return run


async def append_singles(stream: Stream) -> float:
    started = time.perf_counter()
    for n in range(SINGLES):
        await stream.append({**EVENT, "idempotencyKey": f"k{n}"})
    return SINGLES / (time.perf_counter() - started)


async def append_in_flight(stream: Stream) -> float:
    async def appender(count: int) -> None:
        for _ in range(count):
            await stream.append(EVENT)

    started = time.perf_counter()
    await asyncio.gather(*(appender(BATCHES // 4) for _ in range(100)))
    return 100 * (BATCHES // 4) / (time.perf_counter() - started)


async def append_batches(stream: Stream) -> float:
    batch = [EVENT] * 100
    started = time.perf_counter()
    for _ in range(BATCHES):
        await stream.append_batch(batch)
    return 100 * BATCHES / (time.perf_counter() - started)


async def read_all(stream: Stream) -> float:
    for _ in range(REPLAYED // 1_000):
        await stream.append_batch([EVENT] * 1_000)
    started = time.perf_counter()
    count = len(await stream.read())
    return count / (time.perf_counter() - started)


async def measure_latency(stream: Stream) -> tuple[list[float], list[float]]:
    """Milliseconds of each append, and from its begin to its delivery to a subscriber."""
    appended: list[float] = []
    delivered: list[float] = []
    begun = 0.0
    await stream.subscribe(lambda _batch: delivered.append((time.perf_counter() - begun) * 1e3), presence=False)
    delivered.clear()
    for _ in range(LATENCIES):
        begun = time.perf_counter()
        await stream.append(EVENT)
        appended.append((time.perf_counter() - begun) * 1e3)
    return appended, delivered


async def latency_p50(stream: Stream) -> float:
    return statistics.median((await measure_latency(stream))[1])


async def append_p50(stream: Stream) -> float:
    return statistics.median((await measure_latency(stream))[0])


async def latency_over_append(stream: Stream) -> float:
    """Milliseconds at the median between the answer to an append with no subscriber and the delivery to one."""
    alone = statistics.median([await timed_append(stream) for _ in range(LATENCIES)]) * 1e3
    return max(0.001, statistics.median((await measure_latency(stream))[1]) - alone)


async def latency_p99_by_p50(stream: Stream) -> float:
    delivered = sorted((await measure_latency(stream))[1])
    return delivered[len(delivered) * 99 // 100] / statistics.median(delivered)


async def append_beside_stalled(stream: Stream) -> float:
    """Appends a second while a thousand subscribers do not come to an end with their first batch."""
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for _ in range(FAN_OUT):
        await stream.subscribe(lambda _batch: asyncio.shield(never), presence=False)
    return await append_singles(stream)


async def fan_out(stream: Stream) -> float:
    """Microseconds a subscriber adds to one append, with a thousand of them."""
    alone = statistics.median([await timed_append(stream) for _ in range(50)])
    for _ in range(FAN_OUT):
        await stream.subscribe(lambda _batch: None, presence=False)
    return (statistics.median([await timed_append(stream) for _ in range(30)]) - alone) / FAN_OUT * 1e6


async def timed_append(stream: Stream) -> float:
    started = time.perf_counter()
    await stream.append(EVENT)
    return time.perf_counter() - started


def blocking_singles() -> float:
    with fresh() as directory:
        deployment = run_blocking(Deployment.open(directory))
        project = run_blocking(deployment.directory.create("bench"))
        stream = Itx(AsyncItx(get_server_itx(deployment, project.slug, ADMIN))).streams.get("/a")
        stream.append(EVENT)
        started = time.perf_counter()
        for n in range(SINGLES):
            stream.append({**EVENT, "idempotencyKey": f"k{n}"})
        rate = SINGLES / (time.perf_counter() - started)
        run_blocking(deployment.close())
        return rate


# -- the peer ---------------------------------------------------------------------------------------------------------


class BareSqlite:
    """The least that keeps the same promises: an offset, a unique key, a fsync before the answer."""

    def __init__(self, directory: Path) -> None:
        self.connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(
            "CREATE TABLE events (offset INTEGER PRIMARY KEY, type TEXT NOT NULL, key TEXT UNIQUE, body BLOB NOT NULL)"
        )
        self.offsets = itertools.count(1)

    def append(self, bodies: list[dict[str, Any]], key: str | None = None) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            [
                (next(self.offsets), body["type"], key, json.dumps(body, separators=(",", ":")).encode())
                for body in bodies
            ],
        )
        self.connection.execute("COMMIT")


def with_sqlite(work: Callable[[BareSqlite], float]) -> Callable[[], float]:
    def run() -> float:
        with fresh() as directory:
            bare = BareSqlite(directory)
            try:
                return work(bare)
            finally:
                bare.connection.close()

    return run


def bare_singles(bare: BareSqlite) -> float:
    started = time.perf_counter()
    for n in range(SINGLES):
        bare.append([EVENT], f"k{n}")
    return SINGLES / (time.perf_counter() - started)


def bare_batches(bare: BareSqlite) -> float:
    batch = [EVENT] * 100
    started = time.perf_counter()
    for _ in range(BATCHES):
        bare.append(batch)
    return 100 * BATCHES / (time.perf_counter() - started)


def bare_group(bare: BareSqlite) -> float:
    """A hundred asyncio appenders that share a transaction a turn of the loop: group commit with nothing else in it."""
    insert = "INSERT INTO events VALUES (?, ?, ?, ?)"
    waiting: list[tuple[bytes, asyncio.Future[int]]] = []

    def flush() -> None:
        group = waiting.copy()
        waiting.clear()
        bare.connection.execute("BEGIN IMMEDIATE")
        rows = [(next(bare.offsets), EVENT["type"], None, body) for body, _ in group]
        bare.connection.executemany(insert, rows)
        bare.connection.execute("COMMIT")
        for row, (_, answer) in zip(rows, group, strict=True):
            answer.set_result(row[0])

    async def appender(count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            if not waiting:
                loop.call_soon(flush)
            answer = loop.create_future()
            waiting.append((json.dumps(EVENT, separators=(",", ":")).encode(), answer))
            await answer

    async def work() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(appender(BATCHES // 4) for _ in range(100)))
        return 100 * (BATCHES // 4) / (time.perf_counter() - started)

    return asyncio.run(work())


def bare_read(bare: BareSqlite) -> float:
    for _ in range(REPLAYED // 1_000):
        bare.append([EVENT] * 1_000)
    events: list[Any] = []
    started, cursor = time.perf_counter(), 0
    while page := bare.connection.execute(
        "SELECT offset, body FROM events WHERE offset > ? ORDER BY offset LIMIT 500", (cursor,)
    ).fetchall():
        events += [json.loads(body) for _, body in page]
        cursor = page[-1][0]
    return len(events) / (time.perf_counter() - started)


if __name__ == "__main__":
    size = f"{len(json.dumps(EVENT))} B"
    bare = "SQLite FULL, offset + key"
    benchmark.run(
        [
            Case(
                f"append single, durable, async, {size}",
                "/s",
                with_stream(append_singles),
                with_sqlite(bare_singles),
                bare,
                "more",
                0.85,
            ),
            Case(
                f"append single, durable, blocking face, {size}",
                "/s",
                blocking_singles,
                with_sqlite(bare_singles),
                bare,
                "more",
                0.6,
            ),
            Case(
                f"append, 100 in flight, durable, {size}",
                "/s",
                with_stream(append_in_flight),
                with_sqlite(bare_group),
                "SQLite FULL, 100 asyncio appenders",
                "more",
                0.8,
            ),
            Case(
                f"append_batch(100), durable, {size}",
                "events/s",
                with_stream(append_batches),
                with_sqlite(bare_batches),
                "SQLite FULL, batch of 100",
                "more",
                0.65,
            ),
            Case(
                f"read {REPLAYED:,}, decoded, {size}",
                "events/s",
                with_stream(read_all),
                with_sqlite(bare_read),
                "SQLite, pages of 500, json",
                "more",
                0.7,
            ),
            Case(
                "append → subscriber p50, durable",
                "ms",
                with_stream(latency_p50),
                with_stream(append_p50),
                "the append itself",
                "less",
            ),
            Case(
                "append → subscriber p50, over the append itself",
                "ms",
                with_stream(latency_over_append),
                lambda: 0.2,
                "the budget, 0.2 ms",
                "less",
                1.0,
            ),
            Case(
                "append → subscriber p99 by p50",
                "times",
                with_stream(latency_p99_by_p50),
                lambda: 5.0,
                "the budget, 5",
                "less",
                1.0,
            ),
            Case(
                "append single beside 1,000 stalled subscribers",
                "/s",
                with_stream(append_beside_stalled),
                with_stream(append_singles),
                "the same with none",
                "more",
                0.9,
            ),
            Case(
                "one append to 1,000 subscribers, each",
                "µs",
                with_stream(fan_out),
                lambda: 15.0,
                "the budget, 15 µs",
                "less",
                1.0,
            ),
            Case(
                "append single: commit on the loop",
                "/s",
                with_stream(append_singles),
                with_stream(append_singles, always_threaded=True),
                "commit on a thread",
                "more",
            ),
            Case(
                "append_batch(100): commit on the loop",
                "events/s",
                with_stream(append_batches),
                with_stream(append_batches, always_threaded=True),
                "commit on a thread",
                "more",
            ),
            Case(
                "100 in flight: commit on the loop",
                "/s",
                with_stream(append_in_flight),
                with_stream(append_in_flight, always_threaded=True),
                "commit on a thread",
                "more",
            ),
        ]
    )
