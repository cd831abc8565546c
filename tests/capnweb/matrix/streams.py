"""Streams for both ends: sources and sinks to hand over, and what reads and writes those that come.

``../node/streams.mjs`` holds the same in JavaScript.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.describe import describe

__all__ = ["make_readable", "make_writable", "read_all", "read_counters", "read_some", "write_into"]

_CHUNK_BYTES: Final = 16_384
_LONG: Final = 20

_CHUNKS: Final[Mapping[str, Callable[[], list[Any]]]] = {
    "empty": list,
    "texts": lambda: ["one", "two", "three"],
    "kinds": lambda: [1, "two", None, b"\x03", {"four": [4, [5]]}, [6], datetime.fromtimestamp(0, UTC), 2**64],
    "many": lambda: list(range(500)),
    # Beyond the first window of flow control, 256 KiB.
    "bytes": lambda: [bytes([i]) * _CHUNK_BYTES for i in range(64)],
}
"""Name of a kind → the chunks of a readable."""


class _Source:
    """Chunks of a kind: of those above, "failing" after two, or "endless" until cancelled."""

    def __init__(self, kind: str, log: list[Any]) -> None:
        self._kind = kind
        self._log = log
        self._sent = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        index = self._sent
        self._sent += 1
        if self._kind == "endless":
            return index
        if self._kind == "failing":
            if index == 2:
                raise ValueError("source broke")
            return index
        chunks = _CHUNKS[self._kind]()
        if index == len(chunks):
            raise StopAsyncIteration
        return chunks[index]

    def cancel(self, reason: Any) -> None:
        self._log.append(f"cancelled {_text_of(reason)}")


class _Sink:
    """Logs what happens to it; a "failing" one refuses the second chunk."""

    def __init__(self, kind: str, log: list[Any]) -> None:
        self._kind = kind
        self._log = log
        self._received = 0

    async def write(self, chunk: Any) -> None:
        self._received += 1
        if self._kind == "failing" and self._received == 2:
            raise ValueError("sink broke")
        if self._kind == "slow":
            await asyncio.sleep(0)
        self._log.append(f"wrote {json.dumps(await describe(chunk), separators=(',', ':'))}")

    def close(self) -> None:
        self._log.append("closed")

    def abort(self, reason: Any) -> None:
        self._log.append(f"aborted {_text_of(reason)}")


def _text_of(reason: Any) -> str:
    return reason.message if isinstance(reason, rpc.RpcError) else str(reason)


def make_readable(kind: str, log: list[Any]) -> rpc.Readable:
    """A readable of a kind; being cancelled is logged."""
    return rpc.Readable(_Source(kind, log))


def make_writable(kind: str, log: list[Any]) -> rpc.Writable:
    """A writable that logs: "plain", "slow", or "failing" at the second chunk."""
    return rpc.Writable(_Sink(kind, log))


async def read_all(stream: rpc.Readable) -> str:
    """Every chunk of `stream` as JSON text; of a stream that breaks only the error, which may overtake its chunks."""
    try:
        texts = [await describe(chunk) async for chunk in stream]
    except rpc.RpcError as error:
        return json.dumps({"broke": await describe(error)})
    return json.dumps({"count": len(texts), "last": texts[-1]} if len(texts) > _LONG else {"chunks": texts})


async def read_counters(stream: rpc.Readable) -> list[Any]:
    """Increment every counter of `stream` and give it back: the values."""
    values = []
    async for counter in stream:
        values.append(await counter.increment(10))
        rpc.dispose(counter)
    return values


async def read_some(stream: rpc.Readable, count: int) -> str:
    """The first `count` chunks as JSON text; the stream is cancelled after them."""
    texts = [await describe(await anext(stream)) for _ in range(count)]
    await stream.cancel(RuntimeError("enough"))
    return json.dumps(texts)


async def write_into(stream: rpc.Writable, ending: str) -> str:
    """Write three chunks into `stream` and end it: "close", "abort", or "leave" it as it is."""
    try:
        for chunk in ("one", 2, {"three": [3]}):
            await stream.write(chunk)
        if ending == "close":
            await stream.close()
        elif ending == "abort":
            await stream.abort(RuntimeError("given up"))
    except rpc.RpcError as error:
        return json.dumps(await describe(error))
    return json.dumps(ending)
