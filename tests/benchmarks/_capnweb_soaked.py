"""The process that the Cap'n Web soak watches: both ends of a connection in one loop, under load for a long time.

It is started in Python's development mode, where a coroutine never awaited, a socket never closed and a call from a
foreign thread are told. Everything told goes into the report: the loop's exception handler, the log, warnings and what
finalisers raise. The report is one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import json
import logging
import os
import resource
import sys
import time
import tracemalloc
import warnings
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook import capnweb as rpc

SAMPLES = 100
"""How often resident memory is read in the course of a load."""

WAVE = 100
"""Calls in flight at a time."""

WINDOW = 64
"""Callback calls not yet acknowledged."""

NOISE: list[str] = []
"""What was told that a clean run never tells."""


class Step(rpc.RpcTarget):
    def next(self) -> Step:
        return Step()

    @property
    def depth(self) -> int:
        return 1


class Api(rpc.RpcTarget, naming="camel"):
    def __init__(self) -> None:
        self._is_gone = asyncio.Event()

    def _rpc_dispose(self) -> None:
        self._is_gone.set()

    def square(self, i: int) -> int:
        return i * i

    def first(self) -> Step:
        return Step()

    async def fail(self) -> None:
        raise ValueError("asked to fail")

    async def wait(self) -> None:
        """Wait for the end of the session."""
        await self._is_gone.wait()

    async def push_events(self, callback: rpc.RpcStub, count: int) -> None:
        retained = callback.dup()
        waiting: deque[asyncio.Future[Any]] = deque()
        for seq in range(count):
            if len(waiting) >= WINDOW:
                await waiting.popleft()
            waiting.append(rpc.pull(retained({"seq": seq, "kind": "tick", "v": 0.5})))
        await asyncio.gather(*waiting)
        rpc.dispose(retained)


def get_session(api: rpc.RpcStub) -> rpc.Session:
    session = rpc.session_of(api)
    assert session is not None
    return session


async def call(api: rpc.RpcStub, i: int) -> None:
    """One call; of ten, one fails, one chains through dropped targets, one drops its promise unawaited."""
    match i % 10:
        case 0:
            try:
                await api.fail()
            except rpc.RemoteError:
                pass
            else:
                raise AssertionError("the call did not fail")
        case 1:
            assert await api.first().next().depth == 1
        case 2:
            api.first()  # type: ignore[unused-awaitable]  # dropped on purpose
        case _:
            assert await api.square(i) == i * i


Connect = Callable[[], AbstractAsyncContextManager[rpc.RpcStub]]


async def run_calls(api: rpc.RpcStub, _connect: Connect, count: int) -> None:
    for begun in range(0, count, WAVE):
        await asyncio.gather(*[call(api, i) for i in range(begun, begun + WAVE)])


async def run_callbacks(api: rpc.RpcStub, _connect: Connect, count: int) -> None:
    received = 0

    def callback(event: dict[str, Any]) -> None:
        nonlocal received
        received += event["seq"] >= 0

    await api.pushEvents(callback, count)
    assert received == count


async def run_reconnects(_api: rpc.RpcStub, connect: Connect, count: int) -> None:
    """Connect, call, and end: in turns closed in good order, cut, and with a call that is never answered."""
    for i in range(count):
        async with connect() as api:
            assert await api.square(3) == 9
            if i % 3 == 1:
                get_session(api).abort(ConnectionError("cut on purpose"))
            elif i % 3 == 2:
                pending = asyncio.ensure_future(api.wait())
                await api.square(1)
                rpc.dispose(api)
                try:
                    await pending
                except rpc.RpcError:
                    pass
                else:
                    raise AssertionError("a call outlived its session")


Load = Callable[[rpc.RpcStub, Connect, int], Awaitable[None]]
LOADS: dict[str, Load] = {"calls": run_calls, "callbacks": run_callbacks, "reconnects": run_reconnects}


def read_rss_bytes() -> int:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def count_objects() -> Counter[str]:
    """How many tracked objects there are, by type."""
    gc.collect()
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())


async def soak(load: Load, api: rpc.RpcStub, connect: Connect, count: int) -> dict[str, Any]:
    """Run a tenth of the load to get past its beginnings, then all of it with memory watched."""
    await load(api, connect, count // 10)
    before = count_objects()
    samples: list[tuple[int, int]] = []
    part = count // SAMPLES
    started = time.perf_counter()
    for done in range(part, count + 1, part):
        await load(api, connect, part)
        gc.collect()
        samples.append((done, read_rss_bytes()))
    seconds = time.perf_counter() - started
    after = count_objects()
    grown = {name: after[name] - before[name] for name in after | before if after[name] != before[name]}
    return {
        "count": count,
        "seconds": seconds,
        "samples": samples,
        "objects_before": before.total(),
        "objects_after": after.total(),
        "grown": dict(sorted(grown.items(), key=lambda item: -item[1])[:20]),
        "traced": await trace(load, api, connect, count // 10),
    }


async def trace(load: Load, api: rpc.RpcStub, connect: Connect, count: int) -> dict[str, int]:
    """Run a tenth of the load twice, and tell the bytes that the second time left allocated, by tracemalloc."""
    tracemalloc.start()
    try:
        await load(api, connect, count)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await load(api, connect, count)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return {"count": count, "bytes": after - before}


class NoiseHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        NOISE.append(f"{record.name}: {record.getMessage()}")


def listen_for_noise(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_exception_handler(lambda _loop, context: NOISE.append(f"loop: {context['message']}"))
    # Callbacks are slow on a busy machine and in a garbage collection; that alone is no fault.
    loop.slow_callback_duration = 5.0
    logging.getLogger().addHandler(NoiseHandler(logging.WARNING))
    sys.unraisablehook = lambda told: NOISE.append(f"finaliser: {told.exc_value!r} in {told.object!r}")
    warnings.showwarning = lambda message, category, *_: NOISE.append(f"{category.__name__}: {message}")


async def main(counts: dict[str, int], *, is_fast: bool) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    listen_for_noise(loop)
    report: dict[str, Any] = {"debug": loop.get_debug(), "dev_mode": sys.flags.dev_mode}
    async with rpc.serve(lambda _request: Api(), fast=is_fast) as server:
        connect = functools.partial(rpc.connect, server.url, fast=is_fast)
        for name, count in counts.items():
            async with connect() as api:
                report[name] = await soak(LOADS[name], api, connect, count)
                await api.square(1)
                stats = get_session(api).stats()
                report[name]["left"] = [stats.imports - 1, stats.exports - 1]
            print(f"{name}: {count:,} done", file=sys.stderr)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="picows for the frames")
    parser.add_argument("counts", type=json.loads, help="operations by load")
    options = parser.parse_args()
    told = asyncio.run(main(options.counts, is_fast=options.fast))
    gc.collect()
    print(json.dumps({**told, "noise": NOISE[:50], "noise_count": len(NOISE), "pid": os.getpid()}))
