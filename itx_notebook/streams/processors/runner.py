"""One processor on one stream: batches in, one after the other; a snapshot out before memory moves on.

Knows no connection and no engine: whoever hosts it delivers, and redelivers from the checkpoint what failed.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from itx_notebook._clock import Clock
from itx_notebook._json import encode_json
from itx_notebook.errors import ItxError, ItxTimeoutError
from itx_notebook.streams.processors.processor import Appendable, Processor, ProcessorBatch, ReducedEvent
from itx_notebook.types import StreamEvent

__all__ = ["ProcessorRunner", "ProcessorRuntimeState", "ProcessorSnapshot", "SnapshotStore"]

_log = logging.getLogger("itx_notebook")

S = TypeVar("S")


class ProcessorSnapshot(msgspec.Struct, frozen=True):
    """How far a processor has come, and what it has made of the events until there."""

    offset: int
    state: dict[str, Any]


class ProcessorRuntimeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A processor as it is now; ``runtime`` is what it shows of itself beside its state."""

    snapshot: ProcessorSnapshot
    runtime: Any | UnsetType = UNSET


_decode_snapshot = msgspec.json.Decoder(ProcessorSnapshot).decode


class SnapshotStore(Protocol):
    """Where snapshots are kept."""

    async def read(self) -> bytes | None:
        """The last one, or ``None``."""
        ...

    async def write(self, body: bytes) -> None:
        """Replace it; returns when it is stored."""
        ...


class _Waiter:
    """Somebody who waits for an event to have been processed."""

    def __init__(self, offset: int | None, predicate: Callable[[StreamEvent], bool] | None) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._offset = offset
        self._predicate = predicate

    def look(self, events: Sequence[StreamEvent], reached: int) -> None:
        if self.future.done():
            return
        try:
            if self._has_come(events, reached):
                self.future.set_result(None)
        except Exception as error:
            # A future takes no StopIteration, which a bare next() in a predicate raises.
            self.future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def _has_come(self, events: Sequence[StreamEvent], reached: int) -> bool:
        if self._predicate is not None:
            return any(map(self._predicate, events))
        return self._offset is not None and reached >= self._offset


class ProcessorRunner(Generic[S]):
    """Runs one :class:`Processor`. On the engine's loop.

    Attributes
    ----------
    processor : Processor
    checkpoint_offset : int
        Offset of the last event whose effects are stored; 0 before the first.
    reached_offset : int
        The same, or further if nothing after it was for this processor.
    """

    def __init__(self, processor: Processor[S], stream: Appendable, snapshots: SnapshotStore, clock: Clock) -> None:
        self.processor = processor
        self.contract = processor.contract
        self.checkpoint_offset = 0
        self.reached_offset = 0
        self._state: S = self.contract.make_initial_state()
        self._stream = stream
        self._snapshots = snapshots
        self._clock = clock
        self._turn = asyncio.Lock()
        self._is_prepared = False
        self._is_loaded = False
        self._is_shut_down = False
        self._background: set[asyncio.Task[Any]] = set()
        self._waiters: list[_Waiter] = []
        self._listeners: list[Callable[[int, S], object]] = []

    # -- what it is doing --------------------------------------------------------------------------------------------

    @property
    def state(self) -> S:
        """The state up to the checkpoint. To be read only."""
        return self._state

    @property
    def snapshot(self) -> ProcessorSnapshot:
        """Offset and state, as plain values."""
        return ProcessorSnapshot(offset=self.checkpoint_offset, state=self.contract.encode_state(self._state))

    def get_runtime_state(self) -> ProcessorRuntimeState:
        """The snapshot, and what the processor shows beside it."""
        shown = self.processor.get_runtime_state()
        return ProcessorRuntimeState(snapshot=self.snapshot, runtime=UNSET if shown is None else shown)

    def on_state_change(self, callback: Callable[[int, S], object]) -> Callable[[], None]:
        """Call ``callback(offset, state)`` now and after every batch that changed the state; returns how to stop.

        A callback that raises is dropped.
        """
        self._listeners.append(callback)
        self._tell(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    async def wait_until_event(
        self,
        offset: int | None = None,
        *,
        predicate: Callable[[StreamEvent], bool] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # of the engine's clock
    ) -> None:
        """Wait until the event at `offset`, or the first for which `predicate` is true, has been dealt with.

        By offset it returns at once if that is past, also for an event the processor does not take. A predicate is
        asked of the events of batches that succeed from now on; what it raises ends this wait alone.
        """
        if (offset is None) == (predicate is None):
            raise ItxError("waitUntilEvent takes an offset or a predicate.", code="BAD_REQUEST")
        waiter = _Waiter(offset, predicate)
        waiter.look((), self.reached_offset)
        self._waiters.append(waiter)
        timer = None if timeout is None else self._clock.call_later(timeout, lambda: _time_out(waiter, timeout))
        try:
            await waiter.future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiters.remove(waiter)

    # -- what its host does with it ----------------------------------------------------------------------------------

    async def load(self) -> int:
        """Go back to the stored snapshot; returns the offset to go on after."""
        async with self._turn:
            self._is_loaded = False
            await self._load()
        return self.checkpoint_offset

    def note_scanned(self, offset: int) -> None:
        """There is nothing for this processor up to `offset`."""
        self._advance((), offset)

    async def ingest(
        self,
        events: Sequence[StreamEvent],
        *,
        stream_max_offset: int,
        is_current: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Take one batch: fold, side effects, snapshot, memory. Raises if any fails, and then nothing has changed.

        A batch waits for those before it. Events at or below the checkpoint are passed over. Returns whether there
        were others. `is_current` is asked when its turn has come; if it is not, nothing happens.
        """
        async with self._turn:
            if self._is_shut_down:
                raise ItxError(f'Processor "{self.contract.slug}" is shut down.', code="INTERNAL")
            if not is_current():
                return False
            await self._load()
            fresh = [event for event in events if event.offset > self.checkpoint_offset]
            if not fresh:
                return False
            await self._process(fresh, stream_max_offset)
            return True

    async def shut_down(self) -> None:
        """Take nothing more, and end the work in the background."""
        self._is_shut_down = True
        error = ItxError(f'Processor "{self.contract.slug}" is shut down.', code="INTERNAL")
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)
        background = self.cancel_background()
        if background:
            await asyncio.wait(background)

    def cancel_background(self) -> list[asyncio.Task[Any]]:
        """Break off the work in the background; returns what has yet to end."""
        for task in self._background:
            task.cancel()
        return list(self._background)

    # -- one batch ---------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        if not self._is_prepared:
            await self.processor.prepare()
            self._is_prepared = True
        if self._is_loaded:
            return
        body = await self._snapshots.read()
        if body is None:
            self._state, self.checkpoint_offset = self.contract.make_initial_state(), 0
        else:
            stored = _decode_snapshot(body)
            self._state, self.checkpoint_offset = self.contract.parse_state(stored.state), stored.offset
        self.reached_offset = self.checkpoint_offset
        self._is_loaded = True

    async def _process(self, fresh: list[StreamEvent], stream_max_offset: int) -> None:
        before = state = self._state
        steps: list[ReducedEvent[S]] = []
        for event in fresh:
            taken = self.contract.try_consume(event)
            if taken is not None:
                reduced = self.processor.reduce(state, taken)
                after = state if reduced is None else reduced
                steps.append(ReducedEvent(taken, state, after))
                state = after
        if steps:
            await self._run_hooks(fresh, steps, before, state, stream_max_offset)
        offset = fresh[-1].offset
        snapshot = ProcessorSnapshot(offset=offset, state=self.contract.encode_state(state))
        await self._snapshots.write(encode_json(snapshot))
        self._state, self.checkpoint_offset = state, offset
        self._advance(fresh, offset)
        if state is not before:
            for callback in tuple(self._listeners):
                self._tell(callback)

    async def _run_hooks(
        self,
        fresh: list[StreamEvent],
        steps: list[ReducedEvent[S]],
        before: S,
        after: S,
        stream_max_offset: int,
    ) -> None:
        blocking: list[asyncio.Future[object]] = []
        batch = ProcessorBatch(
            self.contract,
            self._stream,
            fresh,
            steps,
            previous_state=before,
            state=after,
            stream_max_offset=stream_max_offset,
            block_while=lambda work: blocking.append(_start(work)),
            run_in_background=self._run_in_background,
        )
        error: BaseException | None = None
        try:
            pending = self.processor.process_batch(batch)
            if inspect.isawaitable(pending):
                await pending
        except BaseException as raised:
            error = raised
        # Work that was begun is let come to its end before anybody hears of a failure: it must not run into the retry.
        failures = await _settle(blocking, cancel=isinstance(error, asyncio.CancelledError))
        if error is not None:
            raise error
        if failures:
            raise failures[0]

    def _run_in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._background.add(task)
        task.add_done_callback(self._end_background)

    def _end_background(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("stream processor background work failed: %s", self.contract.slug, exc_info=error)

    def _advance(self, events: Sequence[StreamEvent], offset: int) -> None:
        self.reached_offset = max(self.reached_offset, offset)
        for waiter in tuple(self._waiters):
            waiter.look(events, self.reached_offset)

    def _tell(self, callback: Callable[[int, S], object]) -> None:
        try:
            callback(self.checkpoint_offset, self._state)
        except Exception:
            _log.warning("a listener to the state of %s was dropped", self.contract.slug, exc_info=True)
            self._listeners.remove(callback)


def _start(work: Awaitable[object]) -> asyncio.Future[object]:
    async def run() -> object:
        return await work

    if isinstance(work, asyncio.Future):
        return work
    return asyncio.get_running_loop().create_task(run(), context=contextvars.Context())


async def _settle(work: list[asyncio.Future[object]], *, cancel: bool) -> list[BaseException]:
    """Wait for all of `work`, and for what it added to the list meanwhile; returns what failed."""
    settled = 0
    while settled < len(work):
        under_way = work[settled:]
        settled = len(work)
        try:
            if cancel:
                raise asyncio.CancelledError
            await asyncio.wait(under_way)
        except asyncio.CancelledError:
            for each in under_way:
                each.cancel()
            await asyncio.wait(under_way)
            if not cancel:
                raise
    failures = [asyncio.CancelledError() if each.cancelled() else each.exception() for each in work]
    return [failure for failure in failures if failure is not None]


def _time_out(waiter: _Waiter, timeout: float) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(
            ItxTimeoutError(f"waitUntilEvent timed out after {timeout * 1000:g}ms", timeout=timeout)
        )
