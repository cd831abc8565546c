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
from typing import TYPE_CHECKING, Final, Literal, Protocol

from msgspec import UNSET

from itx_notebook._clock import iso_from_ms
from itx_notebook.streams.batch import EventBatch
from itx_notebook.streams.runtime import ConnectionRuntime, Direction
from itx_notebook.types import StreamEvent

if TYPE_CHECKING:
    from itx_notebook.streams.core import CoreState

__all__ = ["PAGE_SIZE", "Reason", "Sink", "Subscription"]

PAGE_SIZE: Final = 100
"""Events in a batch at the most (the June engine's figure)."""

Sink = Callable[[EventBatch], Awaitable[object] | None]
"""Takes a batch. What it returns, if awaitable, is awaited before the next batch; meanwhile the pump falls behind.

One with a method ``on_ended`` is told when nothing more will be delivered, whoever wanted that."""

Reason = Literal["replaced", "unsubscribed", "rpc-broken", "subscription-removed", "delivery-failed", "idle"]
"""Why a connection ended, as its fact says."""


class Source(Protocol):
    """What a pump asks of its stream."""

    def load(self) -> CoreState:
        """The state of this moment."""
        ...

    def read_page(self, *, after_offset: int, limit: int) -> list[StreamEvent]:
        """Stored events after an offset, in order."""
        ...

    def get_batch(self, events: Sequence[StreamEvent], *, scanned_through: int) -> EventBatch:
        """A batch of these events, with the state of this moment."""
        ...

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds."""
        ...


class Roster(Protocol):
    """Where a connection is entered, and ended."""

    async def disconnect(self, subscription: Subscription, reason: Reason) -> None:
        """Close a connection, and record it."""
        ...

    def drop(self, subscription: Subscription, reason: Reason) -> None:
        """Close a connection whose consumer broke."""
        ...


class Subscription:
    """One open connection of a consumer to a stream. Made by :meth:`Stream.subscribe`; I/O loop only.

    Attributes
    ----------
    key : str
        Another subscription under the same key replaces this one.
    stream_max_offset : int
        Highest offset when it was opened, its own ``subscriber-connected`` included.
    direction : {"inbound", "outbound"}
    error : BaseException or None
        Why it ended, if neither side asked for that: what the consumer raised, or what became of the stream.
    is_busy : bool
        Whether a batch or a replay is under way. A commit passes over it then: its pump looks by itself.
    """

    __slots__ = (
        "_batches_sent",
        "_cursor",
        "_events",
        "_events_sent",
        "_first_batch_owed",
        "_is_silent",
        "_last_delivered_ms",
        "_pending",
        "_pump",
        "_roster",
        "_sink",
        "_started_ms",
        "_stream",
        "_tells_scans",
        "_types",
        "closed",
        "direction",
        "error",
        "is_busy",
        "key",
        "stream_max_offset",
    )

    def __init__(
        self,
        stream: Source,
        roster: Roster,
        key: str,
        sink: Sink,
        *,
        cursor: int,
        events: bool,
        types: frozenset[str] | None,
        is_silent: bool,
        direction: Direction = "inbound",
        tells_scans: bool = False,
    ) -> None:
        self.key = key
        self.direction = direction
        self.stream_max_offset = cursor
        self.closed = asyncio.Event()
        self.error: BaseException | None = None
        self._stream = stream
        self._roster = roster
        self._sink = sink
        self._cursor = cursor
        self._events = events
        self._types = types
        self._is_silent = is_silent
        self._tells_scans = tells_scans
        self._started_ms = stream.now_ms()
        self._last_delivered_ms: int | None = None
        self._batches_sent = 0
        self._events_sent = 0
        self._first_batch_owed = True
        self._pending: Awaitable[object] | None = None
        self._pump: asyncio.Task[None] | None = None
        self.is_busy = False

    @property
    def is_live(self) -> bool:
        """Whether it is served: its stream is in this process, so always until it is closed."""
        return not self.closed.is_set()

    @property
    def is_silent(self) -> bool:
        """Whether it leaves no presence facts in the stream."""
        return self._is_silent

    async def unsubscribe(self) -> None:
        """Stop delivery at once; no batch arrives afterwards. Repeating is harmless."""
        await self._roster.disconnect(self, "unsubscribed")

    def get_runtime(self) -> ConnectionRuntime:
        """How far it was served, and when."""
        last = self._last_delivered_ms
        return ConnectionRuntime(
            direction=self.direction,
            started_at=iso_from_ms(self._started_ms),
            cursor=self._cursor,
            batches_sent=self._batches_sent,
            events_sent=self._events_sent,
            last_delivered_at=UNSET if last is None else iso_from_ms(last),
        )

    # -- for the stream ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Deliver what is owed: at least one batch, at once."""
        if not self.closed.is_set() and self._pump is None:
            self._run()

    def push(self, committed: Sequence[StreamEvent], batch: Callable[[], EventBatch]) -> None:
        """Take notice of a commit; `batch` makes (once for all takers) the batch of exactly these events."""
        if self.is_busy or self.closed.is_set():
            return
        if not self._events or len(committed) > PAGE_SIZE or self._cursor != committed[0].offset - 1:
            self._run()
            return
        self._cursor = committed[-1].offset
        if self._types is None:
            self._first_batch_owed = False
            self._go_on(self._deliver(batch()))
        elif (page := [event for event in committed if event.type in self._types]) or self._must_deliver():
            self._first_batch_owed = False
            self._go_on(self._deliver(self._stream.get_batch(page, scanned_through=self._cursor)))

    def close(self) -> None:
        """Stop delivering and let the consumer go. A callback may close its own subscription."""
        self.closed.set()
        _discard(self._pending)
        self._pending = None
        pump, self._pump = self._pump, None
        if pump is not None and pump is not _current_task():
            pump.cancel()
        on_ended = getattr(self._sink, "on_ended", None)
        if callable(on_ended):
            on_ended()

    # -- the pump ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Deliver in this very turn as long as the consumer takes at once; go on in a task when it does not."""
        try:
            batch = self._try_next_batch()
        except Exception as error:
            self._fail(error)
            return
        self._go_on(None if batch is None else self._deliver(batch))

    def _go_on(self, pending: Awaitable[object] | None) -> None:
        """Leave what the consumer answered, and all the rest, to a task, if there is any of either."""
        if self.closed.is_set():
            _discard(pending)
        elif pending is not None or not self._is_caught_up():
            self._pending = pending
            self.is_busy = True
            self._pump = asyncio.get_running_loop().create_task(self._drain(), context=contextvars.Context())

    async def _drain(self) -> None:
        pending, self._pending = self._pending, None
        try:
            while True:
                # One page a turn: neither a consumer that takes at once nor a filter that skips all may hold the loop.
                await (asyncio.sleep(0) if pending is None else pending)
                if self.closed.is_set():
                    break
                batch = self._try_next_batch()
                pending = None if batch is None else self._deliver(batch)
                if pending is None and (self.closed.is_set() or self._is_caught_up()):
                    break
        except asyncio.CancelledError as error:
            # The pump's own end, or a consumer that answered with something that was cancelled?
            if _is_being_cancelled():
                raise
            self._fail(error)
        except Exception as error:
            self._fail(error)
        finally:
            # No await between the last look at the head and here, so no commit can fall between.
            self._pump = None
            self.is_busy = False

    def _must_deliver(self) -> bool:
        """Whether even a page that holds nothing for the consumer is told."""
        return self._first_batch_owed or self._tells_scans

    def _is_caught_up(self) -> bool:
        return self._cursor >= self._stream.load().max_offset

    def _try_next_batch(self) -> EventBatch | None:
        """What one page owes the consumer, with the cursor already moved past it; ``None`` if that is nothing."""
        stream = self._stream
        head = stream.load().max_offset
        page: list[StreamEvent] = []
        is_owed = self._first_batch_owed
        if self._cursor < head:
            is_owed = self._must_deliver()
            if self._events:
                page = stream.read_page(after_offset=self._cursor, limit=PAGE_SIZE)
                self._cursor = page[-1].offset
                if self._types is not None:
                    page = [event for event in page if event.type in self._types]
            else:
                self._cursor = head
                is_owed = True
        if not page and not is_owed:
            return None
        self._first_batch_owed = False
        return stream.get_batch(page, scanned_through=self._cursor)

    def _deliver(self, batch: EventBatch) -> Awaitable[object] | None:
        self._batches_sent += 1
        self._events_sent += len(batch.events)
        self._last_delivered_ms = self._stream.now_ms()
        try:
            taken = self._sink(batch)
        except (Exception, asyncio.CancelledError) as error:
            # Raised by a plain call, CancelledError is the consumer's; it must not end the commit that is being told.
            self._fail(error)
            return None
        return taken if inspect.isawaitable(taken) else None

    def _fail(self, error: BaseException) -> None:
        """The consumer broke: drop it, remember why, and let the stream know in the background."""
        if not self.closed.is_set():
            self.error = error
            self._roster.drop(self, "unsubscribed" if self.direction == "inbound" else "delivery-failed")


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _is_being_cancelled() -> bool:
    task = _current_task()
    return task is not None and task.cancelling() > 0


def _discard(pending: Awaitable[object] | None) -> None:
    """Let go of an answer that will not be awaited; a coroutine that never began would be warned about."""
    if inspect.iscoroutine(pending):
        pending.close()
