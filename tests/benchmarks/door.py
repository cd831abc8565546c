"""The door and the connection: what a call, an event and a reconnection cost over loopback and a Unix socket.

The engine is served by another process, durable (``synchronous=FULL``), events of about 200 bytes of JSON; the client
is ours, on this process's I/O loop, with everything that a user has: the handle's surface, typed events, a connection
that mends itself. Beside it Redis Streams with ``appendfsync always`` on a Unix socket, through a blocking client.
``ITX_DOOR_KILLS=50`` also kills the server so often while two clients append and follow.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook import capnweb as rpc
from itx_notebook._clock import SystemClock
from itx_notebook._loop import run_blocking
from itx_notebook.client.connection import Connection
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.types import Event, StreamEventBatch
from tests.benchmarks._harness import Benchmark, Case
from tests.benchmarks._peers import Redis, find_redis

benchmark = Benchmark("door")

SINGLES = 200 if benchmark.is_quick else 1_000
BATCHES = 20 if benchmark.is_quick else 50
LATENCIES = 200 if benchmark.is_quick else 1_000
REPLAYED = 20_000 if benchmark.is_quick else 100_000
FAN_OUT_APPENDS = 10 if benchmark.is_quick else 30

PAYLOAD = {"n": 1, "text": "x" * 120, "ok": True, "tags": ["a", "b"]}
BODY = {"type": "bench.event", "payload": PAYLOAD}
EVENT = Event(type="bench.event", payload=PAYLOAD)

SERVE = """
import asyncio, sys
from pathlib import Path
from itx_notebook.doors import Deployment
from itx_notebook.doors.websocket import OwnerOnly, serve_deployment

async def main():
    home = Path(sys.argv[1])
    deployment = await Deployment.open(home)
    await deployment.directory.create("bench")
    async with (
        serve_deployment(deployment, OwnerOnly()) as port,
        serve_deployment(deployment, OwnerOnly(), unix=home / "s"),
    ):
        print(port.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class Server:
    """The engine in another process, and connections to it."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="itx-door-")
        self._home = Path(self._directory.name)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self._home)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._url = self._process.stdout.readline().strip()
        self._connections: dict[tuple[str, int], Connection] = {}
        self._streams = 0
        atexit.register(self.close)

    async def connect(self, wire: str, number: int = 0) -> Connection:
        """The connection of this number over ``loopback`` or ``unix``."""
        key = (wire, number)
        if key not in self._connections:

            async def dial(_: bool) -> rpc.Session:
                if wire == "unix":
                    return await rpc.open_session("ws://localhost/api/itx", unix=self._home / "s")
                return await rpc.open_session(f"{self._url}api/itx")

            self._connections[key] = Connection(dial, location=wire, clock=SystemClock())
        return self._connections[key]

    async def open_stream(self, wire: str, number: int = 0, path: str | None = None) -> RemoteStream:
        """A new stream, or the one of a path, over a connection."""
        if path is None:
            self._streams += 1
            path = f"/bench/s{self._streams}"
        itx = await RemoteItx(await self.connect(wire, number)).projects.get("bench")
        return itx.streams.get(path)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


@cache
def get_server() -> Server:
    return Server()


@cache
def get_redis() -> tuple[Redis, Redis]:
    """A client to write and one to read."""
    running = Redis.running()
    redis = running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    path = redis._socket.getpeername()
    return redis, Redis(Path(path))


def measure(work: Callable[[], Awaitable[float]]) -> float:
    """Run on the I/O loop, as everything of the client's does."""

    async def run() -> float:
        return await work()

    return run_blocking(run())


# -- appending -------------------------------------------------------------------------------------------------------


async def append_singles(wire: str) -> float:
    stream = await get_server().open_stream(wire)
    await stream.append(EVENT)
    started = time.perf_counter()
    for _ in range(SINGLES):
        await stream.append(EVENT)
    return SINGLES / (time.perf_counter() - started)


async def append_batches(wire: str, size: int) -> float:
    stream = await get_server().open_stream(wire)
    events = [EVENT] * size
    await stream.append_batch(events)
    started = time.perf_counter()
    for _ in range(BATCHES):
        await stream.append_batch(events)
    return BATCHES * size / (time.perf_counter() - started)


def redis_singles() -> float:
    redis, _ = get_redis()
    started = time.perf_counter()
    for _ in range(SINGLES):
        redis.send(_xadd())
    return SINGLES / (time.perf_counter() - started)


def redis_batches(size: int) -> float:
    redis, _ = get_redis()
    started = time.perf_counter()
    for _ in range(BATCHES):
        redis.send((b"MULTI",), *(_xadd() for _ in range(size)), (b"EXEC",))
    return BATCHES * size / (time.perf_counter() - started)


def _xadd(key: bytes = b"bench") -> tuple[bytes, ...]:
    return (b"XADD", key, b"*", b"body", json.dumps(BODY).encode())


# -- delivering ------------------------------------------------------------------------------------------------------


class Latencies:
    """Times from an append to a subscriber on another connection; p50 is the row, p99 a detail of it."""

    def __init__(self) -> None:
        self.tails: list[float] = []

    def take(self, times: list[float]) -> float:
        times.sort()
        self.tails.append(times[int(len(times) * 0.99)] * 1000)
        return statistics.median(times) * 1000

    def get_details(self) -> dict[str, float]:
        return {"p99_ms": statistics.median(self.tails)}


async def deliver(wire: str, latencies: Latencies) -> float:
    stream = await get_server().open_stream(wire)
    reader = await get_server().open_stream(wire, 1, stream.path)
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


def redis_deliver(latencies: Latencies) -> float:
    writer, reader = get_redis()
    key = f"bench-{time.monotonic_ns()}".encode()
    times: list[float] = []
    arrived = threading.Semaphore(0)
    ready = threading.Semaphore(0)

    def read() -> None:
        last = b"$"
        for _ in range(LATENCIES):
            ready.release()
            answer = reader.send((b"XREAD", b"BLOCK", b"0", b"STREAMS", key, last))[0]
            moments.append(time.perf_counter())
            last = answer[0][1][-1][0]
            json.loads(answer[0][1][-1][1][1])
            arrived.release()

    moments: list[float] = []
    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(LATENCIES):
        ready.acquire()
        # Until its request stands at the server.
        time.sleep(0.0005)
        started = time.perf_counter()
        writer.send(_xadd(key))
        arrived.acquire()
        times.append(moments[-1] - started)
    thread.join()
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
    for following in followings:
        await following.unsubscribe()
    return statistics.median(times) * 1e6 / subscribers


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


def redis_replay() -> float:
    redis, _ = get_redis()
    key = b"full"
    if redis.send((b"XLEN", key))[0] == b"0":
        for _ in range(REPLAYED // 1000):
            redis.send((b"MULTI",), *(_xadd(key) for _ in range(1000)), (b"EXEC",))
    started = time.perf_counter()
    count, after = 0, b"-"
    while page := redis.send((b"XRANGE", key, after, b"+", b"COUNT", b"500"))[0]:
        for _, fields in page:
            json.loads(fields[1])
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
    connection = await get_server().connect("loopback", 2)
    epoch = connection.epoch
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


def get_cases() -> list[Case]:
    has_redis = find_redis() is not None
    if not has_redis:
        print("redis-server is not installed: its column stays empty", file=sys.stderr)
    ours = {wire: Latencies() for wire in ("loopback", "unix")}
    theirs = Latencies()

    def peer(work: Callable[[], float]) -> Callable[[], float] | None:
        return work if has_redis else None

    cases = []
    for wire in ("loopback", "unix"):
        cases += [
            Case(
                f"append single, durable, {wire}",
                "events/s",
                partial(measure, partial(append_singles, wire)),
                peer(redis_singles),
                "Redis XADD, fsync always",
                "more",
                budget=0.9,
            ),
            *(
                Case(
                    f"append_batch({size}), durable, {wire}",
                    "events/s",
                    partial(measure, partial(append_batches, wire, size)),
                    peer(partial(redis_batches, size)),
                    "Redis MULTI, fsync always",
                    "more",
                    budget=2.5 if size == 100 else None,
                )
                for size in (100, 1000)
            ),
            Case(
                f"append to subscriber, p50, {wire}",
                "ms",
                partial(measure, partial(deliver, wire, ours[wire])),
                peer(partial(redis_deliver, theirs)),
                "Redis XREAD BLOCK, fsync always",
                "less",
                budget=1 / 1.3,
                details=lambda wire=wire: {  # type: ignore[misc]  # a default is how a lambda keeps a loop's value
                    **ours[wire].get_details(),
                    **({"peer_p99_ms": theirs.get_details()["p99_ms"]} if has_redis else {}),
                },
            ),
        ]
    path = get_full_stream()
    for name, work in (("read", read_all), ("subscribe", follow_all)):
        for wire in ("loopback", "unix"):
            cases.append(
                Case(
                    f"replay of {REPLAYED:,}, {name}, {wire}",
                    "events/s",
                    partial(measure, partial(work, wire, path)),
                    peer(redis_replay),
                    "Redis XRANGE 500 + json",
                    "more",
                    budget=1.0,
                )
            )
    for subscribers in (1, 10, 100, 1000):
        cases.append(
            Case(
                f"one append to {subscribers:,} subscribers, for each",
                "µs",
                partial(measure, partial(fan_out, subscribers)),
                None,
                "",
                "less",
            )
        )
    cases.append(Case("from a cut to live again, steady socket", "ms", partial(measure, reconnect), None, "", "less"))
    return cases


if __name__ == "__main__":
    benchmark.run(get_cases(), more_rounds=False)
    if kills := int(os.environ.get("ITX_DOOR_KILLS", "0")):
        from tests.client.test_faults import kill_and_restart

        with tempfile.TemporaryDirectory() as directory:
            started = time.monotonic()
            slowest = asyncio.run(kill_and_restart(Path(directory) / "killed", kills))
            print(
                f"server killed {kills} times in {time.monotonic() - started:.0f} s: nothing lost, nothing twice; "
                f"at most {slowest * 1000:.0f} ms from its return to the next acknowledgement"
            )
