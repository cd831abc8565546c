"""Delivery: one pump per connection, the same loop for catching up and for live events.

The log is the queue. A pump keeps a cursor, moves it before it delivers, and has at most one batch under way; a slow
consumer therefore costs one batch of memory, never slows the stream, and pages from storage what it missed. A consumer
that keeps up is handed the just-committed events without a read.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from itx_notebook.types import StreamEvent, StreamEventBatch

if TYPE_CHECKING:
    from itx_notebook.streams.stream import Stream

__all__ = ["PAGE_SIZE", "Sink", "Subscription"]

PAGE_SIZE: Final = 100
"""Events in a batch at the most (the June engine's figure)."""

Sink = Callable[[StreamEventBatch], Awaitable[object] | None]
"""Takes a batch. What it returns, if awaitable, is awaited before the next batch; meanwhile the pump falls behind."""


class Subscription:
    """One open connection of a consumer to a stream. Made by :meth:`Stream.subscribe`; I/O loop only.

    Attributes
    ----------
    key : str
        Another subscription under the same key replaces this one.
    stream_max_offset : int
        Highest offset when it was opened, its own ``subscriber-connected`` included.
    error : BaseException or None
        Why the consumer was dropped: what it raised.
    """

    __slots__ = (
        "_cursor",
        "_events",
        "_first_batch_owed",
        "_is_silent",
        "_pump",
        "_sink",
        "_stream",
        "_types",
        "closed",
        "error",
        "key",
        "stream_max_offset",
    )

    def __init__(
        self,
        stream: Stream,
        key: str,
        sink: Sink,
        *,
        cursor: int,
        events: bool,
        types: frozenset[str] | None,
        is_silent: bool,
    ) -> None:
        self.key = key
        self.stream_max_offset = cursor
        self.closed = asyncio.Event()
        self.error: BaseException | None = None
        self._stream = stream
        self._sink = sink
        self._cursor = cursor
        self._events = events
        self._types = types
        self._is_silent = is_silent
        self._first_batch_owed = True
        self._pump: asyncio.Task[None] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it leaves no presence facts in the stream."""
        return self._is_silent

    async def unsubscribe(self) -> None:
        """Stop delivery at once; no batch arrives afterwards. Repeating is harmless."""
        await self._stream.disconnect(self, "unsubscribed")

    # -- for the stream ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Deliver what is owed: at least one batch, at once."""
        if not self.closed.is_set() and self._pump is None:
            self._run()

    def push(self, committed: Sequence[StreamEvent], batch: Callable[[], StreamEventBatch]) -> None:
        """Take notice of a commit; `batch` makes (once for all takers) the batch of exactly these events."""
        if self._pump is not None or self.closed.is_set():
            return
        if (
            self._events
            and self._types is None
            and len(committed) <= PAGE_SIZE
            and self._cursor == committed[0].offset - 1
        ):
            self._cursor = committed[-1].offset
            self._first_batch_owed = False
            self._run(self._deliver(batch()))
        else:
            self._run()

    def close(self) -> None:
        """Stop delivering and let the consumer go. A callback may close its own subscription."""
        self.closed.set()
        pump, self._pump = self._pump, None
        if pump is not None and pump is not _current_task():
            pump.cancel()

    # -- the pump ----------------------------------------------------------------------------------------------------

    def _run(self, pending: Awaitable[object] | None = None) -> None:
        """Deliver in this very turn as long as the consumer takes at once; go on in a task when it does not."""
        if pending is None:
            try:
                batch = self._next_batch()
            except Exception as error:
                self._fail(error)
                return
            if batch is None:
                return
            pending = self._deliver(batch)
            if self.closed.is_set() or (pending is None and self._is_caught_up()):
                return
        elif self.closed.is_set():
            return
        self._pump = asyncio.get_running_loop().create_task(self._drain(pending), context=contextvars.Context())

    async def _drain(self, pending: Awaitable[object] | None) -> None:
        try:
            while True:
                if pending is None:
                    await asyncio.sleep(0)
                else:
                    await pending
                if self.closed.is_set() or (batch := self._next_batch()) is None:
                    break
                pending = self._deliver(batch)
        except Exception as error:
            self._fail(error)
        finally:
            # No await between the last empty look and here, so no commit can fall between.
            self._pump = None

    def _is_caught_up(self) -> bool:
        return self._cursor >= self._stream.load().max_offset

    def _next_batch(self) -> StreamEventBatch | None:
        """The next batch, with the cursor already moved past it; ``None`` when nothing is owed."""
        stream = self._stream
        while True:
            head = stream.load().max_offset
            if self._cursor >= head:
                page: list[StreamEvent] = []
            elif self._events:
                page = stream.read_page(after_offset=self._cursor, limit=PAGE_SIZE)
                self._cursor = page[-1].offset
                if self._types is not None:
                    page = [event for event in page if event.type in self._types]
                if not page and not self._first_batch_owed:
                    continue
            else:
                page = []
                self._cursor = head
                self._first_batch_owed = True
            if not page and not self._first_batch_owed:
                return None
            self._first_batch_owed = False
            return stream.get_batch(page)

    def _deliver(self, batch: StreamEventBatch) -> Awaitable[object] | None:
        try:
            taken = self._sink(batch)
        except Exception as error:
            self._fail(error)
            return None
        return taken if inspect.isawaitable(taken) else None

    def _fail(self, error: BaseException) -> None:
        """The consumer broke: drop it, remember why, and let the stream know in the background."""
        if not self.closed.is_set():
            self.error = error
            self._stream.drop(self)


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
