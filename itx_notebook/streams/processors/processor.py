"""What a processor does: a pure fold, and, apart from it, side effects.

``reduce`` is called for each event once or more and must only compute; everything that is seen outside (appends, calls)
belongs into the hooks, which run after the fold of a whole batch, and before its snapshot is stored. So both may happen
again for the same events, never be lost: side effects need idempotency keys, which :meth:`ProcessorBatch.append` makes.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from msgspec import UNSET

from itx_notebook.errors import ItxError
from itx_notebook.streams.core import CORE_TYPES
from itx_notebook.streams.processors.contract import EventCatalog, EventType, ProcessorContract
from itx_notebook.types import Event, StreamEvent

__all__ = ["Appendable", "Processor", "ProcessorBatch", "ProcessorDefinition", "ReducedEvent", "processor"]

S = TypeVar("S")
Reduce = Callable[[S, StreamEvent], S | None]
OnEvent = Callable[["ReducedEvent[S]", "ProcessorBatch[S]"], Awaitable[object] | None]


class Appendable(Protocol):
    """The stream as the hooks see it."""

    async def append(self, event: Any) -> StreamEvent:
        """Append one event."""
        ...


class ReducedEvent(NamedTuple, Generic[S]):
    """One consumed event, with the state before and after it."""

    event: StreamEvent
    previous_state: S
    state: S


class ProcessorBatch(Generic[S]):
    """What the hooks are given.

    Attributes
    ----------
    steps : list of ReducedEvent
        The consumed events in order. ``events`` are all, the others too.
    previous_state, state
        Before and after the whole batch.
    stream_max_offset : int
        How far the stream had come: more than ``checkpoint_offset`` while catching up.
    checkpoint_offset : int
        Up to where the snapshot will reach when the batch has succeeded.
    stream
        The stream, to append to or look at.
    """

    def __init__(
        self,
        contract: ProcessorContract[S],
        stream: Appendable,
        events: Sequence[StreamEvent],
        steps: list[ReducedEvent[S]],
        *,
        previous_state: S,
        state: S,
        stream_max_offset: int,
        block_while: Callable[[Awaitable[object]], None],
        run_in_background: Callable[[Coroutine[Any, Any, object]], None],
    ) -> None:
        self.events = events
        self.steps = steps
        self.previous_state = previous_state
        self.state = state
        self.stream_max_offset = stream_max_offset
        self.checkpoint_offset = events[-1].offset
        self.stream = stream
        self._contract = contract
        self._block_while = block_while
        self._run_in_background = run_in_background

    def block_while(self, work: Awaitable[object]) -> None:
        """Let `work` run from now on; the snapshot waits for it, and the batch fails if it does."""
        self._block_while(work)

    def run_in_background(self, work: Coroutine[Any, Any, object]) -> None:
        """Let `work` run beside everything else; if it fails, that is logged."""
        self._run_in_background(work)

    async def append(
        self, event_type: str, payload: Any = UNSET, *, key: str, cause: StreamEvent | None = None
    ) -> StreamEvent:
        """Append an event of the processor's own: it says who made it, and is kept once.

        Parameters
        ----------
        key : str
            Which fact it is; a second append of the same one answers with the first event.
        cause : StreamEvent, optional
            The event it follows from: its offset becomes part of the key.
        """
        slug = self._contract.slug.strip()
        event = Event(
            type=event_type,
            payload=payload,
            source={"processor": {"slug": slug, "version": self._contract.version.strip()}},
            idempotency_key=f"{slug}/{key}" if cause is None else f"{slug}/{key}@{cause.offset}",
        )
        return await self.stream.append(event)


class Processor(Generic[S]):
    """Base of processors. A subclass has a ``contract`` and overrides what it needs.

    One instance serves one stream. Everything is called on the engine's loop: what blocks belongs into
    ``batch.block_while(asyncio.to_thread(...))``.
    """

    contract: ClassVar[ProcessorContract[Any]]

    async def prepare(self) -> None:
        """Get ready, once, before the first batch; tried again with the next one if it fails."""

    def reduce(self, state: S, event: StreamEvent) -> S | None:
        """The state after `event`; ``None`` keeps it. Must not change `state`, and must have no side effects."""
        return None

    def process_event(self, step: ReducedEvent[S], batch: ProcessorBatch[S]) -> Awaitable[object] | None:
        """Side effects of one event. May be a coroutine function: the next event waits, and so does the snapshot."""
        return None

    def process_batch(self, batch: ProcessorBatch[S]) -> Awaitable[object] | None:
        """Side effects of a batch; calls :meth:`process_event` for each consumed event in order."""
        for index, step in enumerate(batch.steps):
            pending = self.process_event(step, batch)
            if inspect.isawaitable(pending):
                return self._go_on(pending, batch, index + 1)
        return None

    async def _go_on(self, pending: Awaitable[object], batch: ProcessorBatch[S], index: int) -> None:
        await pending
        for step in batch.steps[index:]:
            following = self.process_event(step, batch)
            if inspect.isawaitable(following):
                await following

    def get_runtime_state(self) -> Any:
        """What it would show of itself beside its state, as JSON values; ``None`` is nothing."""
        return None


class ProcessorDefinition(Generic[S]):
    """A processor made of functions; see :func:`processor`. Calling it makes an instance."""

    def __init__(self, contract: ProcessorContract[S], reduce: Reduce[S]) -> None:
        self.contract = contract
        self.__doc__ = reduce.__doc__
        self._reduce = reduce
        self._on_event: OnEvent[S] | None = None

    def on_event(self, hook: OnEvent[S]) -> OnEvent[S]:
        """Decorate the function for the side effects of an event: ``(step, batch)``; may be a coroutine function."""
        self._on_event = hook
        return hook

    def __call__(self) -> Processor[S]:
        """A new instance."""
        return _FunctionProcessor(self.contract, self._reduce, self._on_event)

    def __repr__(self) -> str:
        return f"<processor {self.contract.slug} {self.contract.version}>"


class _FunctionProcessor(Processor[S]):
    def __init__(self, contract: ProcessorContract[S], reduce: Reduce[S], on_event: OnEvent[S] | None) -> None:
        self.contract = contract  # type: ignore[misc]  # of this one, where a class has one for all
        self._reduce = reduce
        self._on_event = on_event

    def reduce(self, state: S, event: StreamEvent) -> S | None:
        return self._reduce(state, event)

    def process_event(self, step: ReducedEvent[S], batch: ProcessorBatch[S]) -> Awaitable[object] | None:
        return None if self._on_event is None else self._on_event(step, batch)


def processor(
    slug: str,
    *,
    version: str = "0.1.0",
    description: str = "",
    consumes: Sequence[str] | str = ("*",),
    initial_state: Mapping[str, Any] | None = None,
    events: Mapping[str, EventType] | None = None,
    emits: Sequence[str] | str = (),
) -> Callable[[Reduce[dict[str, Any]]], ProcessorDefinition[dict[str, Any]]]:
    """Make a processor of a fold, ``(state, event) -> state or None``, whose state is a dict.

    Types of events that it names and does not own are taken as they are.

    Examples
    --------
    >>> @processor("order-count", consumes=["order.placed"], initial_state={"count": 0})
    ... def order_count(state, event):
    ...     return {"count": state["count"] + 1}
    """
    if not isinstance(slug, str):
        raise ItxError(f"{slug!r} is no slug.", code="BAD_REQUEST", hint='Write @processor("order-count").')
    owned = dict(events or {})
    consumes, emits = (((each,) if isinstance(each, str) else tuple(each)) for each in (consumes, emits))
    known = {*owned, *CORE_TYPES, "*"}
    foreign = {name: EventType() for name in (*consumes, *emits) if name not in known}

    def define(reduce: Reduce[dict[str, Any]]) -> ProcessorDefinition[dict[str, Any]]:
        contract: ProcessorContract[dict[str, Any]] = ProcessorContract(
            slug=slug,
            version=version,
            description=description or (reduce.__doc__ or "").strip().partition("\n")[0],
            initial_state=initial_state,
            events=owned,
            deps=(EventCatalog("elsewhere", foreign),),
            consumes=consumes,
            emits=emits,
        )
        return ProcessorDefinition(contract, reduce)

    return define
