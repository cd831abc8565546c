"""One processor at one stream: its connection, and what happens when a batch fails.

A batch that failed is delivered again from the checkpoint, over a new connection. The generation of the old one is then
past, so nothing behind the failed batch gets in before it. The fourth failure in a row ends that, with a fact.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError
from itx_notebook.streams.batch import EventBatch
from itx_notebook.streams.core import CoreState, core_type
from itx_notebook.streams.processors.processor import Appendable, Processor
from itx_notebook.streams.processors.runner import ProcessorRunner, ProcessorRuntimeState
from itx_notebook.streams.runtime import Direction
from itx_notebook.streams.subscription import Reason, Sink, Subscription
from itx_notebook.types import Event, StreamEvent

__all__ = ["Attachment", "ProcessedStream"]

_log = logging.getLogger("itx_notebook")

_FAILURES_BORNE: Final = 3


class ProcessedStream(Appendable, Protocol):
    """What running a processor asks of its stream."""

    @property
    def path(self) -> str:
        """The canonical path."""
        ...

    @property
    def life(self) -> int:
        """Another number after every kill and reset."""
        ...

    def load(self) -> CoreState:
        """The state of this moment."""
        ...

    def try_read_snapshot(self, processor: str) -> bytes | None:
        """A processor's snapshot."""
        ...

    async def write_snapshot(self, processor: str, body: bytes, *, life: int) -> None:
        """Store it; refused if the stream's life is another by now."""
        ...

    async def end_connection(self, subscription: Subscription, reason: Reason) -> None:
        """Close a connection, with its fact."""
        ...

    async def subscribe(
        self,
        sink: Sink,
        *,
        key: str | None = None,
        replay_after_offset: int | None = None,
        event_types: Iterable[str] | None = None,
        subscriber: dict[str, Any] | None = None,
        direction: Direction = "inbound",
        tells_scans: bool = False,
    ) -> Subscription:
        """Deliver batches."""
        ...


class Attachment:
    """A processor that runs on a stream. Made by :class:`ProcessorHost`; on the engine's loop.

    Attributes
    ----------
    name, key : str
        Of the processor on this host; of its subscription.
    error : Exception or None
        Why it was given up.
    is_configured : bool
        Whether it runs because the stream is configured to have it.
    """

    def __init__(
        self,
        stream: ProcessedStream,
        name: str,
        key: str,
        processor: Processor[Any],
        *,
        view: Appendable,
        clock: Clock,
        incarnation_id: str,
        is_configured: bool,
    ) -> None:
        self.name = name
        self.key = key
        self.error: Exception | None = None
        self.is_configured = is_configured
        self.runner: ProcessorRunner[Any] = ProcessorRunner(processor, view, self, clock)
        self._stream = stream
        self._subscriber = {"incarnationId": incarnation_id, "processor": processor.contract.announcement}
        self._subscription: Subscription | None = None
        self._generation = 0
        self._life = stream.life
        self._failures = 0
        self._connecting = asyncio.Lock()
        self._is_stopped = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether the stream delivers to it."""
        return self._subscription is not None and not self._subscription.closed.is_set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._is_stopped

    @property
    def wants_connection(self) -> bool:
        """Whether it should run and does not."""
        return not (self._is_stopped or self.error or self._connecting.locked() or self.is_connected)

    def get_runtime_state(self) -> ProcessorRuntimeState:
        """Its snapshot, and what it shows beside it."""
        return self.runner.get_runtime_state()

    def pardon(self) -> None:
        """Let one that was given up try again."""
        self.error = None
        self._failures = 0

    async def connect(self) -> None:
        """Let the stream deliver from the snapshot on."""
        async with self._connecting:
            await self._connect()

    async def _connect(self) -> None:
        while not (self._is_stopped or await self._try_connect_once()):
            # The stream began another life meanwhile: what was loaded was of the old one.
            pass

    async def _try_connect_once(self) -> bool:
        self._generation += 1
        generation = self._generation
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        offset = await self.runner.load()
        self._life = self._stream.life
        contract = self.runner.contract
        subscription = await self._stream.subscribe(
            lambda batch: self._take(batch, generation),
            key=self.key,
            replay_after_offset=offset,
            event_types=["*"] if contract.consumes_all else contract.consumes,
            subscriber=self._subscriber,
            direction="outbound",
            tells_scans=True,
        )
        if self._stream.life != self._life or self._is_stopped:
            await subscription.unsubscribe()
            return False
        self._subscription = subscription
        return True

    async def try_connect(self) -> None:
        """The same; a failure is logged, and the next commit tries again."""
        async with self._connecting:
            if not self.is_connected:
                await self._attempt_connect()

    async def _attempt_connect(self) -> None:
        try:
            await self._connect()
        except Exception:
            _log.warning("could not connect %s to %s", self.name, self._stream.path, exc_info=True)

    async def stop(self, reason: Reason = "unsubscribed") -> None:
        """Stop for good: nothing more is delivered. What is under way is broken off. Repeating is harmless."""
        self._is_stopped = True
        self._generation += 1
        if self._subscription is not None:
            await self._stream.end_connection(self._subscription, reason)
        await self.abandon()

    async def abandon(self) -> None:
        """Stop without a word to the stream."""
        self._is_stopped = True
        self._generation += 1
        if self._subscription is not None:
            self._subscription.close()
        tasks = tuple(task for task in self._tasks if task is not asyncio.current_task())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.runner.shut_down()

    def break_off(self) -> None:
        """Cancel what is under way: what a hook does from now on would be done to another life of the stream."""
        self._generation += 1
        for task in self._tasks:
            task.cancel()
        self.runner.cancel_background()

    # -- its snapshots -----------------------------------------------------------------------------------------------

    async def read(self) -> bytes | None:
        """The stored snapshot."""
        return self._stream.try_read_snapshot(self.key)

    async def write(self, body: bytes) -> None:
        """Store a snapshot of the life that the connection belongs to."""
        await self._stream.write_snapshot(self.key, body, life=self._life)

    # -- delivery ----------------------------------------------------------------------------------------------------

    def _take(self, batch: EventBatch, generation: int) -> asyncio.Future[None] | None:
        if generation != self._generation:
            return None
        if not batch.events and not self._tasks:
            self.runner.note_scanned(batch.scanned_through)
            return None
        task = asyncio.get_running_loop().create_task(self._ingest(batch, generation), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Shielded: the connection may end while a batch is under way, which is then neither lost nor half done.
        return asyncio.shield(task)

    async def _ingest(self, batch: EventBatch, generation: int) -> None:
        is_current: Callable[[], bool] = lambda: generation == self._generation  # noqa: E731  # one look, named
        try:
            took = await self.runner.ingest(
                batch.events, stream_max_offset=batch.stream_max_offset, is_current=is_current
            )
        except Exception as error:
            # The connection that delivered it may still be in the making.
            async with self._connecting:
                if is_current():
                    await self._recover(error)
        else:
            if took:
                self._failures = 0
            if is_current():
                self.runner.note_scanned(batch.scanned_through)

    async def _recover(self, error: Exception) -> None:
        if self._stream.life != self._life:
            # The stream was killed or reset under it: its next wake brings the processor back.
            self._generation += 1
            return
        self._failures += 1
        _log.warning(
            "stream processor %s failed on %s (%d in a row)",
            self.name,
            self._stream.path,
            self._failures,
            exc_info=error,
        )
        if self._failures <= _FAILURES_BORNE:
            await self._attempt_connect()
            return
        self._generation += 1
        self.error = error
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.unsubscribe()
        await self._record_failure(error)

    async def _record_failure(self, error: Exception) -> None:
        offset = self.runner.checkpoint_offset
        text = str(error).strip() or type(error).__name__
        fact = Event(
            type=core_type("error-occurred"),
            payload={
                "message": f'stream processor "{self.name}" gave up after {self._failures} failed ingest attempts'
                f" at offset {offset}",
                "error": {"name": type(error).__name__, "message": text},
            },
            idempotency_key=f"processor-ingest-failed:{self.name}:{offset}",
        )
        try:
            recorded: StreamEvent = await self._stream.append(fact)
        except ItxError as refused:
            _log.warning("could not record that %s gave up: %s", self.name, refused)
        else:
            _log.error("%s, see %s at %d", recorded.payload["message"], self._stream.path, recorded.offset)
