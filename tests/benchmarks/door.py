"""The door and the connection: what a call, an event and a reconnection cost over loopback and a Unix socket.

``itx-notebook serve`` runs in a process of its own, durable (``synchronous=FULL``), events of about 200 bytes of JSON;
the client is ours, on this process's I/O loop, with everything that a user has: the handle's surface, typed events, a
connection that mends itself. Both ends are as they are installed without extras; rows that say ``fast`` have the extra
of that name at both.

Beside it stands Redis Streams with ``appendfsync always`` on the same kind of socket, through redis-py's asyncio client
on the same loop: both sides are what a program would hold. What Redis does when it is spoken to by hand, without any
library, stands in rows without a budget.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook import capnweb as rpc
from itx_notebook._clock import SystemClock
from itx_notebook._loop import run_blocking
from itx_notebook.client.connection import SESSION_OPTIONS, Connection
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.types import Event, StreamEventBatch
from tests.benchmarks._harness import Benchmark, Case
from tests.benchmarks._peers import Redis, find_redis, find_redis_client, wait_for

benchmark = Benchmark("door")

SINGLES = 200 if benchmark.is_quick else 1_000
BATCHES = 20 if benchmark.is_quick else 50
LATENCIES = 200 if benchmark.is_quick else 1_000
REPLAYED = 20_000 if benchmark.is_quick else 100_000
FAN_OUT_APPENDS = 10 if benchmark.is_quick else 30
STALLED = 1_000
STALLED_CONNECTIONS = 10

PAYLOAD = {"n": 1, "text": "x" * 120, "ok": True, "tags": ["a", "b"]}
BODY = {"type": "bench.event", "payload": PAYLOAD}
EVENT = Event(type="bench.event", payload=PAYLOAD)
SIZE = f"{len(json.dumps(BODY))} B"

SERVE = "import sys; {}; from itx_notebook.cli import main; main()"
WITHOUT_EXTRAS = "sys.modules['picows'] = None"


class Server:
    """The command ``serve`` in another process, and connections to it.

    Parameters
    ----------
    is_fast : bool
        Whether both ends take the extra ``fast``.
    """

    def __init__(self, *, is_fast: bool) -> None:
        self._is_fast = is_fast
        self._directory = tempfile.TemporaryDirectory(prefix="itx-door-")
        self._home = Path(self._directory.name) / "home"
        self._secret = secrets.token_urlsafe(32)
        arguments = ["--home", str(self._home), "serve", "--port", "0", "--no-access-log"]
        log = Path(self._directory.name) / "log"
        # A file: of a pipe that nobody reads the server would one day wait for room.
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE.format("pass" if is_fast else WITHOUT_EXTRAS), *arguments],
                stderr=file,
                env={**os.environ, "ITX_ADMIN_SECRET": self._secret},
            )
        atexit.register(self.close)
        wait_for(lambda: "Serving" in log.read_text(), "the server")
        self._url = next(word for word in log.read_text().split() if word.startswith("ws://"))
        self._connections: dict[tuple[str, int], Connection] = {}
        self._streams = 0
        run_blocking(self._create_project())

    async def _create_project(self) -> None:
        await RemoteItx(self.connect("loopback")).projects.create("bench")

    @property
    def process_id(self) -> int:
        """Whom to watch, if one wants to know where its time goes."""
        return self._process.pid

    def connect(self, wire: str, number: int = 0) -> Connection:
        """The connection of this number over ``loopback`` or ``unix``."""
        key = (wire, number)
        if key not in self._connections:

            async def dial(_: bool) -> rpc.Session:
                url, unix = ("ws://localhost/", self._home / "door.sock") if wire == "unix" else (self._url, None)
                headers = {"Authorization": f"Bearer {self._secret}"}
                return await rpc.open_session(
                    f"{url}api/itx", unix=unix, headers=headers, options=SESSION_OPTIONS, fast=self._is_fast
                )

            self._connections[key] = Connection(dial, location=wire, clock=SystemClock())
        return self._connections[key]

    async def disconnect(self, wire: str, number: int) -> None:
        """Close a connection and forget it."""
        await self._connections.pop((wire, number)).close()

    async def open_stream(self, wire: str, number: int = 0, path: str | None = None) -> RemoteStream:
        """A new stream, or the one of a path, over a connection."""
        if path is None:
            self._streams += 1
            path = f"/bench/s{self._streams}"
        itx = await RemoteItx(self.connect(wire, number)).projects.get("bench")
        return itx.streams.get(path)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


def get_server(*, is_fast: bool = False) -> Server:
    return _start_server(is_fast)


@cache
def _start_server(is_fast: bool) -> Server:
    return Server(is_fast=is_fast)


@cache
def get_redis() -> Redis:
    """The server, and a client by hand."""
    running = Redis.running()
    redis = running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    return redis


@cache
def get_redis_client(wire: str, number: int = 0) -> Any:
    """The client of this number: each has a connection of its own."""
    return get_redis().connect(wire)


def measure(work: Callable[[], Awaitable[float]]) -> float:
    """Run on the I/O loop, as everything of the client's does."""

    async def run() -> float:
        return await work()

    return run_blocking(run())


# -- appending -------------------------------------------------------------------------------------------------------


async def append_singles(wire: str, *, is_fast: bool = False) -> float:
    return await time_singles(await get_server(is_fast=is_fast).open_stream(wire))


async def time_singles(stream: RemoteStream) -> float:
    """Appends a second, each awaited before the next."""
    await stream.append(EVENT)
    started = time.perf_counter()
    for _ in range(SINGLES):
        await stream.append(EVENT)
    return SINGLES / (time.perf_counter() - started)


async def append_batches(wire: str, size: int, *, is_fast: bool = False) -> float:
    stream = await get_server(is_fast=is_fast).open_stream(wire)
    events = [EVENT] * size
    await stream.append_batch(events)
    started = time.perf_counter()
    for _ in range(BATCHES):
        await stream.append_batch(events)
    return BATCHES * size / (time.perf_counter() - started)


def _encode() -> bytes:
    return msgspec.json.encode(BODY)


async def redis_singles(wire: str) -> float:
    redis = get_redis_client(wire)
    await redis.xadd("bench", {"body": _encode()})
    started = time.perf_counter()
    for _ in range(SINGLES):
        await redis.xadd("bench", {"body": _encode()})
    return SINGLES / (time.perf_counter() - started)


async def redis_batches(wire: str, size: int) -> float:
    redis = get_redis_client(wire)
    await redis.ping()
    started = time.perf_counter()
    for _ in range(BATCHES):
        pipeline = redis.pipeline(transaction=True)
        for _ in range(size):
            pipeline.xadd("bench", {"body": _encode()})
        await pipeline.execute()
    return BATCHES * size / (time.perf_counter() - started)


def bare_redis_singles() -> float:
    redis = get_redis()
    started = time.perf_counter()
    for _ in range(SINGLES):
        redis.send(_xadd())
    return SINGLES / (time.perf_counter() - started)


def bare_redis_batches(size: int) -> float:
    redis = get_redis()
    started = time.perf_counter()
    for _ in range(BATCHES):
        redis.send((b"MULTI",), *(_xadd() for _ in range(size)), (b"EXEC",))
    return BATCHES * size / (time.perf_counter() - started)


def _xadd() -> tuple[bytes, ...]:
    return (b"XADD", b"bench", b"*", b"body", _encode())


# -- delivering ------------------------------------------------------------------------------------------------------


class Latencies:
    """Times from an append to a subscriber on another connection: the p50 of a round, and then its p99."""

    def __init__(self) -> None:
        self._p99 = 0.0

    def take(self, times: list[float]) -> float:
        """Milliseconds at the middle of them."""
        times.sort()
        self._p99 = times[int(len(times) * 0.99)] * 1000
        return statistics.median(times) * 1000

    def get_p99(self) -> float:
        """Milliseconds near the end of those that were taken last."""
        return self._p99


async def deliver(wire: str, latencies: Latencies, *, is_fast: bool = False) -> float:
    server = get_server(is_fast=is_fast)
    stream = await server.open_stream(wire)
    reader = await server.open_stream(wire, 1, stream.path)
    arrived = asyncio.Event()
    following = await reader.subscribe(lambda batch: arrived.set() if batch.events else None, after_offset="end")
    times = []
    for _ in range(LATENCIES):
        arrived.clear()
        started = time.perf_counter()
        appending = asyncio.ensure_future(stream.append(EVENT))
        await arrived.wait()
        times.append(time.perf_counter() - started)
        await appending
    await following.unsubscribe()
    return latencies.take(times)


async def redis_deliver(wire: str, latencies: Latencies) -> float:
    writer, reader = get_redis_client(wire), get_redis_client(wire, 1)
    key = f"bench-{time.monotonic_ns()}"
    arrived = asyncio.Event()

    async def follow() -> None:
        last: Any = await writer.xadd(key, {"body": _encode()})
        for _ in range(LATENCIES):
            # Sent as soon as the last answer is here, and so before the next append is.
            ((_, entries),) = await reader.xread({key: last}, block=0)
            last, fields = entries[-1]
            msgspec.json.decode(fields[b"body"])
            arrived.set()

    following = asyncio.ensure_future(follow())
    times = []
    for _ in range(LATENCIES):
        arrived.clear()
        started = time.perf_counter()
        appending = asyncio.ensure_future(writer.xadd(key, {"body": _encode()}))
        await arrived.wait()
        times.append(time.perf_counter() - started)
        await appending
    await following
    return latencies.take(times)


async def fan_out(subscribers: int) -> float:
    """Microseconds from an append to the last of its subscribers, for each of them."""
    stream = await get_server().open_stream("unix")
    reader = await get_server().open_stream("unix", 1, stream.path)
    missing = 0
    done = asyncio.Event()

    def take(batch: StreamEventBatch) -> None:
        nonlocal missing
        if batch.events:
            missing -= 1
            if missing == 0:
                done.set()

    followings = [await reader.subscribe(take, after_offset="end", presence=False) for _ in range(subscribers)]
    times = []
    for _ in range(FAN_OUT_APPENDS):
        missing = subscribers
        done.clear()
        started = time.perf_counter()
        appending = asyncio.ensure_future(stream.append(EVENT))
        await done.wait()
        times.append(time.perf_counter() - started)
        await appending
    await asyncio.gather(*(following.unsubscribe() for following in followings))
    return statistics.median(times) * 1e6 / subscribers


async def append_beside_stalled() -> float:
    """Appends a second to a stream with very many subscribers, none of whom reads what is sent."""
    server = get_server()
    stream = await server.open_stream("unix")
    await stream.append(EVENT)
    numbers = range(100, 100 + STALLED_CONNECTIONS)
    behind: set[int] = set()
    all_behind = asyncio.Event()

    def take(subscriber: int, batch: StreamEventBatch) -> None:
        # Who keeps up gets one event at a time.
        if len(batch.events) > 1:
            behind.add(subscriber)
            if len(behind) == STALLED // STALLED_CONNECTIONS:
                all_behind.set()

    for number in numbers:
        reader = await server.open_stream("unix", number, stream.path)
        for subscriber in range(STALLED // STALLED_CONNECTIONS):
            await reader.subscribe(partial(take, subscriber), after_offset="end", presence=False)
        _get_transport(number).pause_reading()
    # More than the sockets and their buffers hold; what comes then is left in the log.
    for _ in range(4):
        await stream.append(Event(type="bench.large", payload="x" * 16_384))
    rate = await time_singles(stream)
    _get_transport(numbers[0]).resume_reading()
    await asyncio.wait_for(all_behind.wait(), 30)
    for number in numbers:
        await server.disconnect("unix", number)
    return rate


def _get_transport(number: int) -> Any:
    epoch = get_server().connect("unix", number).epoch
    assert epoch is not None
    return epoch.session._transport


# -- replaying -------------------------------------------------------------------------------------------------------


@cache
def get_full_stream() -> str:
    """The path of a stream with many events."""

    async def fill() -> str:
        stream = await get_server().open_stream("unix")
        for _ in range(REPLAYED // 1000):
            await stream.append_batch([EVENT] * 1000)
        return stream.path

    return run_blocking(fill())


async def read_all(wire: str, path: str) -> float:
    stream = await get_server().open_stream(wire, path=path)
    started = time.perf_counter()
    events = await stream.read(presence=False)
    assert events[-1].payload == PAYLOAD
    return len(events) / (time.perf_counter() - started)


async def follow_all(wire: str, path: str) -> float:
    stream = await get_server().open_stream(wire, path=path)
    count = 0
    done = asyncio.Event()

    def take(batch: StreamEventBatch) -> None:
        nonlocal count
        count += len(batch.events)
        if batch.events and batch.events[-1].offset >= batch.stream_max_offset:
            done.set()

    started = time.perf_counter()
    following = await stream.subscribe(take, presence=False)
    await done.wait()
    rate = count / (time.perf_counter() - started)
    await following.unsubscribe()
    return rate


async def redis_replay(wire: str, *, keeps: bool) -> float:
    """Events a second, in pages, each decoded; all of them kept, or handed on."""
    redis = get_redis_client(wire)
    key = "full"
    if not await redis.xlen(key):
        for _ in range(REPLAYED // 1000):
            pipeline = redis.pipeline(transaction=True)
            for _ in range(1000):
                pipeline.xadd(key, {"body": _encode()})
            await pipeline.execute()
    started = time.perf_counter()
    count, after = 0, b"-"
    kept: list[Any] = []
    while page := await redis.xrange(key, after, "+", count=500):
        events = [msgspec.json.decode(fields[b"body"]) for _, fields in page]
        if keeps:
            kept += events
        count += len(page)
        after = b"(" + page[-1][0]
    return count / (time.perf_counter() - started)


# -- reconnecting ----------------------------------------------------------------------------------------------------


async def reconnect() -> float:
    """Milliseconds from the end of a steady socket to the first event that a following gets over the next one."""
    stream = await get_server().open_stream("loopback", 2)
    writer = await get_server().open_stream("unix", 0, stream.path)
    arrived = asyncio.Event()
    following = await stream.subscribe(lambda batch: arrived.set() if batch.events else None, presence=False)
    await writer.append(EVENT)
    epoch = get_server().connect("loopback", 2).epoch
    assert epoch is not None
    # As if it had stood for a while: a young one waits half a second.
    epoch.since -= 60
    arrived.clear()
    started = time.perf_counter()
    epoch.session._transport.abort()
    await epoch.lost.wait()
    await writer.append(EVENT)
    await arrived.wait()
    took = (time.perf_counter() - started) * 1000
    await following.unsubscribe()
    return took


# -- the rows --------------------------------------------------------------------------------------------------------

Work = Callable[..., Awaitable[float]]
ORIGINAL = "the original engine at its best (other hour, same machine)"


def ours(work: Work, *arguments: Any, **options: Any) -> Callable[[], float]:
    return partial(measure, partial(work, *arguments, **options))


def theirs(work: Work, *arguments: Any, **options: Any) -> Callable[[], float] | None:
    """The same through redis-py, if both are here."""
    return ours(work, *arguments, **options) if find_redis() and find_redis_client() else None


def get_wire_cases(wire: str) -> list[Case]:
    """Appending and delivering over one kind of socket."""
    name = f"redis-py asyncio, {wire}, fsync always"
    mine, peers = Latencies(), Latencies()
    return [
        Case(
            f"append single, durable, {SIZE}, {wire}",
            "/s",
            ours(append_singles, wire),
            theirs(redis_singles, wire),
            f"XADD, {name}",
            "more",
            0.9,
        ),
        *(
            Case(
                f"append_batch({size:,}), durable, {SIZE}, {wire}",
                "events/s",
                ours(append_batches, wire, size),
                theirs(redis_batches, wire, size),
                f"MULTI, {name}",
                "more",
                budget,
            )
            for size, budget in ((100, 2.5), (1000, None))
        ),
        Case(
            f"append → subscriber p50, durable, {wire}",
            "ms",
            ours(deliver, wire, mine),
            theirs(redis_deliver, wire, peers),
            f"XREAD BLOCK, {name}",
            "less",
            1 / 1.3,
        ),
        Case(
            f"append → subscriber p99, durable, {wire}",
            "ms",
            mine.get_p99,
            peers.get_p99 if theirs(redis_deliver) else None,
            "the same",
            "less",
            1 / 1.3,
        ),
    ]


def get_fast_cases() -> list[Case]:
    """What the extra ``fast`` brings, against the same without it."""
    plain = "the same without the extra"
    return [
        Case(
            f"append single, durable, {SIZE}, unix, fast",
            "/s",
            ours(append_singles, "unix", is_fast=True),
            ours(append_singles, "unix"),
            plain,
            "more",
        ),
        Case(
            "append → subscriber p50, durable, unix, fast",
            "ms",
            ours(deliver, "unix", Latencies(), is_fast=True),
            ours(deliver, "unix", Latencies()),
            plain,
            "less",
        ),
    ]


def get_reference_cases() -> list[Case]:
    """Against what is no library of Python's: the original's figures, and Redis by hand."""
    by_hand = "Redis by hand, blocking, unix, fsync always"
    has_redis = find_redis() is not None
    return [
        Case(
            f"append single, durable, {SIZE}, loopback",
            "/s",
            ours(append_singles, "loopback"),
            lambda: 1_210.0,
            ORIGINAL,
            "more",
            1.5,
        ),
        Case(
            f"append_batch(100), durable, {SIZE}, loopback",
            "events/s",
            ours(append_batches, "loopback", 100),
            lambda: 4_300.0,
            ORIGINAL,
            "more",
            10,
        ),
        Case(
            f"append single, durable, {SIZE}, unix",
            "/s",
            ours(append_singles, "unix"),
            bare_redis_singles if has_redis else None,
            by_hand,
            "more",
        ),
        *(
            Case(
                f"append_batch({size:,}), durable, {SIZE}, unix",
                "events/s",
                ours(append_batches, "unix", size),
                partial(bare_redis_batches, size) if has_redis else None,
                by_hand,
                "more",
            )
            for size in (100, 1000)
        ),
    ]


def get_replay_cases() -> list[Case]:
    path = get_full_stream()
    return [
        Case(
            f"replay of {REPLAYED:,}, {name}, {wire}",
            "events/s",
            ours(work, wire, path),
            theirs(redis_replay, wire, keeps=keeps),
            f"redis-py asyncio, XRANGE 500, decoded, {wire}",
            "more",
            1.0,
        )
        for name, work, keeps in (("read", read_all, True), ("subscribe", follow_all, False))
        for wire in ("loopback", "unix")
    ]


def get_subscriber_cases() -> list[Case]:
    return [
        *(
            Case(
                f"one append to {subscribers:,} subscribers, for each",
                "µs",
                ours(fan_out, subscribers),
                (lambda: 40.0) if subscribers == 1000 else None,
                "the budget, 40 µs" if subscribers == 1000 else "",
                "less",
                1.0 if subscribers == 1000 else None,
            )
            for subscribers in (1, 10, 100, 1000)
        ),
        Case(
            f"append single beside {STALLED:,} stalled subscribers, unix",
            "/s",
            ours(append_beside_stalled),
            ours(append_singles, "unix"),
            "the same with none",
            "more",
            0.9,
        ),
        Case("from a cut to live again, steady socket", "ms", ours(reconnect), None, "", "less"),
    ]


def get_cases() -> list[Case]:
    if find_redis() is None:
        print("redis-server is not installed: its column stays empty", file=sys.stderr)
    elif not find_redis_client():
        print('redis-py is not installed (pip install "redis[hiredis]"): most of its column is empty', file=sys.stderr)
    # Started here: on the loop it would be waited for by everybody. And nobody is measured cold: the engine learns from
    # its first commits how quick the disk is.
    for is_fast in (False, True):
        get_server(is_fast=is_fast)
        for _ in range(3):
            ours(append_singles, "unix", is_fast=is_fast)()
    if (warm := theirs(redis_singles, "unix")) is not None:
        warm()
    return [
        *get_wire_cases("loopback"),
        *get_wire_cases("unix"),
        *get_replay_cases(),
        *get_subscriber_cases(),
        *get_reference_cases(),
        *get_fast_cases(),
    ]


if __name__ == "__main__":
    benchmark.run(get_cases(), more_rounds=False)
