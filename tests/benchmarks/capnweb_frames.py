"""What the short way for whole text frames saves a call, against the `websockets` library's own parser and builder.

Client and server are one process on 127.0.0.1, so that its CPU time is that of both ends. The peer is our connection
with the short way taken out: nothing is cut before the library, and every frame is one of the library's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb import websocket
from tests.benchmarks._harness import Benchmark, Case

benchmark = Benchmark("capnweb_frames")

CALLS = 1000 if benchmark.is_quick else 4000
WAVE = 500


class Api(rpc.RpcTarget):
    def square(self, n: int) -> int:
        return n * n


def _cut_nothing(data: bytes, messages: list[bytes], *, is_masked: bool, max_bytes: int) -> int:
    return 0


def _build_all(messages: Sequence[bytes], *, is_masked: bool, build_long: Callable[[bytes], bytes]) -> bytes:
    return b"".join(map(build_long, messages))


async def measure(wave: int) -> float:
    """CPU time of both ends for one call, in microseconds; `wave` calls are made at a time."""
    async with rpc.serve(lambda _: Api(), fast=False) as server, rpc.connect(server.url, fast=False) as api:
        await asyncio.gather(*(rpc.pull(api.square(n)) for n in range(WAVE)))
        started = time.process_time()
        for _ in range(CALLS // wave):
            await asyncio.gather(*(rpc.pull(api.square(3)) for _ in range(wave)))
        return (time.process_time() - started) / CALLS * 1e6


def case(name: str, wave: int) -> Case:
    """A row: ours, and the same without the short way."""

    def peer() -> float:
        with patch.multiple(websocket, cut_text_frames=_cut_nothing, build_text_frames=_build_all):
            return asyncio.run(measure(wave))

    return Case(name, "µs CPU", lambda: asyncio.run(measure(wave)), peer, "frames of websockets", "less")


if __name__ == "__main__":
    benchmark.run([case("calls one after the other", 1), case(f"{WAVE} calls at a time", WAVE)])
