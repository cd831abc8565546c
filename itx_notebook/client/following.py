"""A subscription that outlives its socket: each event once, in order, whatever happens to the connection.

Batches come in by a callback of the peer's and wait in a queue for the consumer, one at a time. What has been handed
over is the cursor: after a lost connection, a gap, or a queue that grew too long, the stream is asked for what comes
after it. So a slow consumer costs a bounded amount of memory, and nothing is delivered twice.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from itx_notebook import capnweb as rpc
from itx_notebook.client.connection import Connection, Epoch, from_wire_error
from itx_notebook.errors import ItxConnectionError, ItxError
from itx_notebook.types import StreamEventBatch

__all__ = ["Following"]

OnBatch = Callable[[StreamEventBatch], Awaitable[object] | None]

_MAX_WAITING_EVENTS: Final = 10_000
"""Events that may wait for the consumer; beyond it they are left at the stream, and asked for later."""

_RETRY: Final = 1.0
"""Seconds before a stream is asked again that would not be subscribed to, though the connection is there."""


class Following:
    """One subscription, opened as often as it takes.

    Parameters
    ----------
    connection : Connection
        The socket.
    get_stub : callable
        The stream's stub in an epoch.
    on_batch : callable
        The consumer. What it raises ends the subscription.
    after_offset : int or str
        Where to begin: an offset, ``"start"`` or ``"end"``.
    options : dict
        The other options of ``subscribe``.

    Attributes
    ----------
    error : BaseException or None
        Why it ended, if nobody asked it to.
    closed : asyncio.Event
        Set when nothing more is delivered.
    """

    def __init__(
        self,
        connection: Connection,
        get_stub: Callable[[Epoch], Any],
        on_batch: OnBatch,
        *,
        after_offset: int | str,
        options: dict[str, Any],
    ) -> None:
        self.error: BaseException | None = None
        self.closed = asyncio.Event()
        self._connection = connection
        self._get_stub = get_stub
        self._on_batch = on_batch
        self._options = options
        # The offset after which to ask next; a word only until the first batch has come.
        self._cursor: int | str = after_offset
        self._is_state_only = options.get("events") is False
        self._is_filtered = "eventTypes" in options
        self._queue: deque[StreamEventBatch] = deque()
        self._waiting_events = 0
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        # Set when the running subscription is of no more use: its socket died, or events are missing.
        self._broken = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Subscribe; returns when the stream has agreed. Raises what it says instead."""
        loop = asyncio.get_running_loop()
        for work in (self._keep_subscribed(), self._deliver()):
            self._tasks.append(loop.create_task(work, context=contextvars.Context()))
        try:
            await self._opened
        except BaseException:
            self._end()
            raise

    async def unsubscribe(self) -> None:
        """Stop delivery; no batch begins afterwards. Repeating is harmless."""
        self._end()

    # Subscribing

    async def _keep_subscribed(self) -> None:
        while not self.closed.is_set():
            try:
                epoch = await self._connection.ready()
                await self._subscribe_once(epoch)
            except rpc.RpcError as error:
                failure = from_wire_error(error, self._connection.location)
                if not isinstance(failure, ItxConnectionError):
                    self._fail(failure)
                    return
                await self._connection.clock.sleep(_RETRY if self._connection.epoch is not None else 0)
            except ItxError as error:
                # There will be no connection any more.
                self._fail(error)
                return

    async def _subscribe_once(self, epoch: Epoch) -> None:
        self._broken.clear()
        # Batches of an earlier round may still be on their way: each round listens for its own.
        received = _Round(self)
        subscription = await self._get_stub(epoch).subscribe(
            received.take, {**self._options, "afterOffset": self._cursor}
        )
        try:
            if not self._opened.done():
                self._opened.set_result(None)
            await self._until_broken(epoch)
        finally:
            received.is_over = True
            if not epoch.lost.is_set():
                # Sent, not awaited: this task may be ending.
                rpc.dispose(subscription.unsubscribe())
                rpc.dispose(subscription)

    async def _until_broken(self, epoch: Epoch) -> None:
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (epoch.lost, self._broken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        # What waits is delivered first; the stream is then asked for what comes after it.
        await self._drained.wait()

    def receive(self, message: dict[str, Any]) -> None:
        """Take a batch off the wire."""
        batch = msgspec.convert(message, StreamEventBatch)
        if not self._is_state_only and not self._accepts(batch):
            self._broken.set()
            return
        self._waiting_events += len(batch.events)
        self._queue.append(batch)
        self._arrived.set()
        self._drained.clear()
        if self._waiting_events > _MAX_WAITING_EVENTS:
            self._broken.set()

    def _accepts(self, batch: StreamEventBatch) -> bool:
        """Whether nothing is missing between what came before and this batch."""
        if self._is_filtered or not batch.events or not isinstance(self._received, int):
            return True
        return batch.events[0].offset <= self._received + 1

    @property
    def _received(self) -> int | str:
        """The cursor once all that waits has been handed over."""
        for batch in reversed(self._queue):
            if batch.events:
                return batch.events[-1].offset
        return self._cursor

    # Delivering

    async def _deliver(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                batch = self._queue.popleft()
                self._waiting_events -= len(batch.events)
                fresh = self._advance(batch)
                if fresh is None:
                    continue
                try:
                    answer = self._on_batch(fresh)
                    if inspect.isawaitable(answer):
                        await answer
                except Exception as error:  # whatever the consumer raises is why it is dropped
                    self._fail(error)
                    return
            self._drained.set()

    def _advance(self, batch: StreamEventBatch) -> StreamEventBatch | None:
        """Move the cursor past a batch; return it without what was delivered before, ``None`` if that is all of it."""
        if self._is_state_only:
            return batch
        cursor = self._cursor
        if not isinstance(cursor, int):
            # Live from here on: what is appended while the connection is away belongs to it too.
            self._cursor = batch.events[-1].offset if batch.events else _start_of(cursor, batch)
            return batch
        if not batch.events:
            return batch
        fresh = tuple(event for event in batch.events if event.offset > cursor)
        if not fresh:
            return None
        self._cursor = fresh[-1].offset
        return batch if len(fresh) == len(batch.events) else replace(batch, events=fresh)

    # Ending

    def _fail(self, error: BaseException) -> None:
        self.error = error
        if not self._opened.done():
            self._opened.set_exception(error)
        self._end()

    def _end(self) -> None:
        self.closed.set()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()


class _Round:
    """One round of being subscribed: what comes after its end is not heard."""

    __slots__ = ("_following", "is_over")

    def __init__(self, following: Following) -> None:
        self._following = following
        self.is_over = False

    def take(self, message: dict[str, Any]) -> None:
        """Called by the peer with each batch."""
        if not self.is_over:
            self._following.receive(message)


def _start_of(cursor: str, batch: StreamEventBatch) -> int:
    return batch.stream_max_offset if cursor == "end" else 0
