"""What the tests of streams say in words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from itx_notebook.streams import Stream, core_type
from itx_notebook.streams.batch import EventBatch
from itx_notebook.types import StreamEvent

PREFIX = core_type("")


class Consumer:
    """Collects batches; waits for an offset; takes each batch only when let, if `slow`."""

    def __init__(self, *, slow: bool = False) -> None:
        self.batches: list[EventBatch] = []
        self.under_way = 0
        self.most_under_way = 0
        self._slow = slow
        self._gate = asyncio.Event()
        self._changed = asyncio.Event()

    def __call__(self, batch: EventBatch) -> asyncio.Task[None] | None:
        self.batches.append(batch)
        self._changed.set()
        return asyncio.get_running_loop().create_task(self._take()) if self._slow else None

    async def _take(self) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self._gate.wait()
        self.under_way -= 1

    def let_go(self) -> None:
        """Take what is under way and whatever comes, at once."""
        self._gate.set()

    @property
    def offsets(self) -> list[list[int]]:
        """The offsets of each batch."""
        return [[event.offset for event in batch.events] for batch in self.batches]

    @property
    def flat(self) -> list[int]:
        """All offsets delivered."""
        return [offset for offsets in self.offsets for offset in offsets]

    async def wait_for(self, offset: int) -> None:
        """Wait until a batch told of a stream that has come as far as `offset`, with its events."""
        while (
            not self.batches
            or max([*self.flat, *(b.stream_max_offset for b in self.batches if not b.events)], default=0) < offset
        ):
            await self._wait_for_change()

    async def wait_for_event(self, offset: int) -> None:
        """Wait until the event at `offset`, or one after it, was delivered."""
        while max(self.flat, default=0) < offset:
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await asyncio.wait_for(self._changed.wait(), 10)


def short(events: Iterable[StreamEvent]) -> list[tuple[int, str]]:
    """Offset and type, core types by their suffix."""
    return [(event.offset, event.type.removeprefix(PREFIX)) for event in events]


async def read_short(stream: Stream, **cursors: Any) -> list[tuple[int, str]]:
    """What is in the stream."""
    return short(await stream.read(**cursors))
