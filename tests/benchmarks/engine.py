"""The engine against bare SQLite that does the same durable work: what our own code costs on top.

All cases in process, ``synchronous=FULL``, events of about 200 bytes of JSON, each side in a fresh directory. Where the
peer is one bare table, ours is one stream in a store that has no other; the row of 16 streams shows what it costs that
streams lie beside each other in one table. Redis and PostgreSQL are servers, with a process and a socket in between.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import itertools
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook._loop import run_blocking
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.handle import AsyncItx, Itx
from itx_notebook.streams import Stream, StreamEngine
from itx_notebook.types import ADMIN
from tests.benchmarks._harness import Benchmark, Case
from tests.benchmarks._peers import Postgres, Redis, find_postgres, find_redis

benchmark = Benchmark("engine")

SINGLES = 500 if benchmark.is_quick else 1_000
BATCHES = 40 if benchmark.is_quick else 100
LATENCIES = 300 if benchmark.is_quick else 1_000
FAN_OUT = 1_000
REPLAYED = 20_000 if benchmark.is_quick else 100_000
WRITERS = 16
STREAMS = 10_000

PAYLOAD = {"n": 1, "text": "x" * 120, "ok": True, "tags": ["a", "b"]}
EVENT = {"type": "bench.event", "payload": PAYLOAD}


@contextmanager
def fresh() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="itx-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def with_engine(work: Callable[[StreamEngine], Awaitable[float]]) -> Callable[[], float]:
    async def measure(directory: Path) -> float:
        engine = StreamEngine.open(directory)
        try:
            return await work(engine)
        finally:
            await engine.close()

    def run() -> float:
        with fresh() as directory:
            return asyncio.run(measure(directory))

    return run


def with_stream(work: Callable[[Stream], Awaitable[float]], *, always_threaded: bool = False) -> Callable[[], float]:
    async def measure(directory: Path) -> float:
        engine = StreamEngine.open(directory, always_threaded=always_threaded)
        stream = engine.stream("bench", "/")
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


async def append_on_many_streams(engine: StreamEngine) -> float:
    """Appends a second of sixteen writers, each on a stream of its own."""

    async def writer(stream: Stream) -> None:
        for n in range(BATCHES):
            await stream.append({**EVENT, "idempotencyKey": f"k{n}"})

    streams = [engine.stream("bench", f"/w/{n}") for n in range(WRITERS)]
    await asyncio.gather(*(stream.append(EVENT) for stream in streams))
    await engine.settle()
    started = time.perf_counter()
    await asyncio.gather(*map(writer, streams))
    return WRITERS * BATCHES / (time.perf_counter() - started)


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


async def latency_of_the_last(stream: Stream) -> list[float]:
    """Milliseconds from the begin of an append to its delivery to the last of a hundred subscribers."""
    delivered: list[float] = []
    begun, taken = 0.0, 0

    def take(_batch: object) -> None:
        nonlocal taken
        taken += 1
        if taken == 100:
            delivered.append((time.perf_counter() - begun) * 1e3)

    for _ in range(100):
        await stream.subscribe(take, presence=False)
    delivered.clear()
    for _ in range(LATENCIES // 2):
        begun, taken = time.perf_counter(), 0
        await stream.append(EVENT)
    return sorted(delivered)


async def last_p50(stream: Stream) -> float:
    return statistics.median(await latency_of_the_last(stream))


async def last_p99(stream: Stream) -> float:
    delivered = await latency_of_the_last(stream)
    return delivered[len(delivered) * 99 // 100]


async def latency_p99(stream: Stream) -> float:
    delivered = sorted((await measure_latency(stream))[1])
    return delivered[len(delivered) * 99 // 100]


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
        stream = Itx(AsyncItx(get_server_itx(deployment, project.slug, ADMIN))).streams.get("/")
        stream.append(EVENT)
        started = time.perf_counter()
        for n in range(SINGLES):
            stream.append({**EVENT, "idempotencyKey": f"k{n}"})
        rate = SINGLES / (time.perf_counter() - started)
        run_blocking(deployment.close())
        return rate


# -- a store of many streams ------------------------------------------------------------------------------------------


@cache
def get_large_store() -> Path:
    """A store of ten thousand streams, made once."""
    directory = Path(tempfile.mkdtemp(prefix="itx-bench-"))
    atexit.register(shutil.rmtree, directory)

    async def fill() -> None:
        engine = StreamEngine.open(directory)
        for start in range(0, STREAMS, 500):
            streams = [engine.stream("bench", f"/{n // 100}/{n}") for n in range(start, start + 500)]
            await asyncio.gather(*(stream.append_batch([EVENT] * 3) for stream in streams))
        await engine.close()

    asyncio.run(fill())
    return directory


def boot_large_store() -> float:
    """Milliseconds from nothing to the first append."""
    directory = get_large_store()

    async def boot() -> float:
        started = time.perf_counter()
        engine = StreamEngine.open(directory)
        await engine.stream("bench", "/50/5000").append(EVENT)
        seconds = time.perf_counter() - started
        await engine.close()
        return seconds * 1e3

    return asyncio.run(boot())


def idle_stream_bytes() -> float:
    """Bytes of memory that an idle stream takes, with its state, when ten thousand were looked at."""
    directory = get_large_store()

    async def look() -> float:
        engine = StreamEngine.open(directory)
        gc.collect()
        tracemalloc.start()
        for n in range(STREAMS):
            engine.stream("bench", f"/{n // 100}/{n}").get_state()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await engine.close()
        return taken / STREAMS

    return asyncio.run(look())


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
    return group_commit(bare, appenders=100, each=BATCHES // 4, keyed=False)


def bare_writers(bare: BareSqlite) -> float:
    return group_commit(bare, appenders=WRITERS, each=BATCHES, keyed=True)


def group_commit(bare: BareSqlite, *, appenders: int, each: int, keyed: bool) -> float:
    """Asyncio appenders that share a transaction a turn of the loop: group commit with nothing else in it."""
    insert = "INSERT INTO events VALUES (?, ?, ?, ?)"
    waiting: list[tuple[bytes, asyncio.Future[int]]] = []

    def flush() -> None:
        group = waiting.copy()
        waiting.clear()
        bare.connection.execute("BEGIN IMMEDIATE")
        rows = [
            (offset := next(bare.offsets), EVENT["type"], f"k{offset}" if keyed else None, body) for body, _ in group
        ]
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
        await asyncio.gather(*(appender(each) for _ in range(appenders)))
        return appenders * each / (time.perf_counter() - started)

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


# -- servers ----------------------------------------------------------------------------------------------------------

BODY = json.dumps(EVENT, separators=(",", ":")).encode()
XADD = (b"XADD", b"s", b"*", b"e", BODY)


def with_redis(work: Callable[[Redis], float]) -> Callable[[], float] | None:
    def run() -> float:
        with Redis.running() as redis:
            return work(redis)

    return None if find_redis() is None else run


def redis_singles(redis: Redis) -> float:
    started = time.perf_counter()
    for _ in range(SINGLES):
        redis.send(XADD)
    return SINGLES / (time.perf_counter() - started)


def redis_batches(redis: Redis) -> float:
    started = time.perf_counter()
    for _ in range(BATCHES):
        redis.send(*([XADD] * 100))
    return 100 * BATCHES / (time.perf_counter() - started)


def redis_read(redis: Redis) -> float:
    for _ in range(REPLAYED // 1_000):
        redis.send(*([XADD] * 1_000))
    events: list[Any] = []
    started, cursor = time.perf_counter(), b"-"
    while page := redis.send((b"XRANGE", b"s", cursor, b"+", b"COUNT", b"500"))[0]:
        events += [json.loads(fields[1]) for _, fields in page]
        cursor = b"(" + page[-1][0]
    assert len(events) == REPLAYED
    return len(events) / (time.perf_counter() - started)


def with_postgres(work: Callable[[Postgres], float]) -> Callable[[], float] | None:
    def run() -> float:
        with Postgres.running() as postgres:
            return work(postgres)

    return None if find_postgres() is None else run


def postgres_singles(postgres: Postgres) -> float:
    started = time.perf_counter()
    for n in range(SINGLES):
        postgres.append([EVENT], f"k{n}")
    return SINGLES / (time.perf_counter() - started)


def postgres_batches(postgres: Postgres) -> float:
    batch = [EVENT] * 100
    started = time.perf_counter()
    for _ in range(BATCHES // 4):
        postgres.append(batch)
    return 100 * (BATCHES // 4) / (time.perf_counter() - started)


def postgres_read(postgres: Postgres) -> float:
    with postgres.connection.cursor().copy("COPY events (type, body) FROM STDIN") as copy:
        for _ in range(REPLAYED):
            copy.write_row(("bench.event", BODY.decode()))
    events: list[Any] = []
    started, cursor = time.perf_counter(), 0
    while page := postgres.connection.execute(
        "SELECT id, body FROM events WHERE id > %s ORDER BY id LIMIT 500", (cursor,)
    ).fetchall():
        events += [body for _, body in page]
        cursor = page[-1][0]
    assert len(events) == REPLAYED
    return len(events) / (time.perf_counter() - started)


def server_cases(size: str) -> list[Case]:
    """Ours beside the servers that people use for this; a server that is not installed is a row that says so."""
    ours = {
        f"append single, durable, async, {size}": ("/s", with_stream(append_singles)),
        f"append_batch(100), durable, {size}": ("events/s", with_stream(append_batches)),
        f"read {REPLAYED:,}, decoded, {size}": ("events/s", with_stream(read_all)),
    }
    redis = (redis_singles, redis_batches, redis_read)
    postgres = (postgres_singles, postgres_batches, postgres_read)
    return [
        Case(name, unit, mine, peer, f"{server}, {where}", "more")
        for server, where, peers in (
            ("Redis Streams", "appendfsync always, Unix socket", [with_redis(work) for work in redis]),
            ("PostgreSQL", "synchronous_commit, Unix socket", [with_postgres(work) for work in postgres]),
        )
        for (name, (unit, mine)), peer in zip(ours.items(), peers, strict=True)
    ]


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
                f"append, {WRITERS} writers on {WRITERS} streams, durable, {size}",
                "/s",
                with_engine(append_on_many_streams),
                with_sqlite(bare_writers),
                f"SQLite FULL, {WRITERS} asyncio appenders, one table",
                "more",
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
                "append → last of 100 subscribers p50, durable",
                "ms",
                with_stream(last_p50),
                with_stream(latency_p50),
                "the same with one",
                "less",
            ),
            Case(
                "append → last of 100 subscribers p99, durable",
                "ms",
                with_stream(last_p99),
                with_stream(latency_p99),
                "the same with one",
                "less",
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
                f"boot of a store of {STREAMS:,} streams, to the first append",
                "ms",
                boot_large_store,
                lambda: 150.0,
                "the budget, 150 ms",
                "less",
                1.0,
            ),
            Case(
                "memory of an idle stream",
                "B",
                idle_stream_bytes,
                lambda: 3_000.0,
                "the budget, 3 KB",
                "less",
                1.0,
            ),
            *server_cases(size),
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
