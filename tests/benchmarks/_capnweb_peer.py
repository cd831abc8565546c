"""The Python end of the Cap'n Web benchmark: our library as server or as client, in a process of its own.

Its twin in JavaScript is ``capnweb_peer.mjs``; both carry the same load, so change them together. The server prints
``{"url"}`` and serves until its stdin ends; the client reads lines ``case count`` and answers each with one of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook import capnweb as rpc

WAVE = 1_000
"""Calls in flight at a time."""

WINDOW = 64
"""Callback calls not yet acknowledged."""

EPOCH_MS = 1_732_000_000_000


def tell(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def get_cpu_microseconds() -> int:
    return time.process_time_ns() // 1_000


class Step(rpc.RpcTarget):
    def __init__(self, depth: int) -> None:
        self._depth = depth

    def next(self) -> Step:
        return Step(self._depth + 1)

    @property
    def depth(self) -> int:
        return self._depth


class Api(rpc.RpcTarget, naming="camel"):
    def square(self, i: int) -> int:
        return i * i

    def first(self) -> Step:
        return Step(1)

    def cpu(self) -> int:
        return get_cpu_microseconds()

    async def push_events(self, callback: rpc.RpcStub, count: int, batch_size: int) -> int:
        """Call `callback` with lists of `batch_size` events until `count` events are sent and acknowledged."""
        retained = callback.dup()
        waiting: deque[asyncio.Future[Any]] = deque()
        for sent in range(0, count, batch_size):
            batch = [
                {"seq": seq, "kind": "tick", "t": EPOCH_MS + seq, "v": seq % 100 + 0.5}
                for seq in range(sent, sent + batch_size)
            ]
            if len(waiting) >= WINDOW:
                await waiting.popleft()
            waiting.append(rpc.pull(retained(batch)))
        await asyncio.gather(*waiting)
        rpc.dispose(retained)
        return count


def expect(what: object, expected: object) -> None:
    if what != expected:
        raise AssertionError(f"expected {expected}, not {what}")


# Each runs `count` operations.

Run = Callable[[rpc.RpcStub, int], Awaitable[None]]


async def run_sequential(api: rpc.RpcStub, count: int) -> None:
    for i in range(count):
        expect(await api.square(i), i * i)


async def run_in_flight(api: rpc.RpcStub, count: int) -> None:
    for _ in range(0, count, WAVE):
        squares = await rpc.gather(*[api.square(i) for i in range(WAVE)])
        expect(squares[-1], (WAVE - 1) ** 2)


async def run_chain(api: rpc.RpcStub, count: int) -> None:
    for _ in range(count):
        expect(await api.first().next().next().depth, 3)


def run_events(batch_size: int) -> Run:
    async def run(api: rpc.RpcStub, count: int) -> None:
        received = 0

        def callback(batch: list[Any]) -> None:
            nonlocal received
            received += len(batch)

        expect(await api.pushEvents(callback, count, batch_size), count)
        expect(received, count)

    return run


CASES: dict[str, Run] = {
    "sequential": run_sequential,
    "in_flight": run_in_flight,
    "chain": run_chain,
    "events_1": run_events(1),
    "events_100": run_events(100),
    "events_1000": run_events(1_000),
}


async def serve(*, is_fast: bool) -> None:
    async with rpc.serve(lambda _request: Api(), fast=is_fast) as server:
        tell({"url": server.url})
        await asyncio.to_thread(sys.stdin.read)


async def run_client(url: str, *, is_fast: bool) -> None:
    async with rpc.connect(url, fast=is_fast) as api:
        tell({"ready": await api.square(1)})
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, count = line.split()
            server_before = await api.cpu()
            client_before = get_cpu_microseconds()
            started = time.perf_counter()
            await CASES[name](api, int(count))
            seconds = time.perf_counter() - started
            client = get_cpu_microseconds() - client_before
            tell({"seconds": seconds, "client_cpu_us": client, "server_cpu_us": await api.cpu() - server_before})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="picows for the frames, uvloop for the loop")
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("url", nargs="?", help="for a client: where the server is")
    options = parser.parse_args()
    work = serve(is_fast=options.fast) if options.role == "server" else run_client(options.url, is_fast=options.fast)
    if options.fast:
        # Only here: it is an optional dependency.
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
