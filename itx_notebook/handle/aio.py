"""``AsyncItx``: the handle as it really is.

Every coroutine here may be awaited on any loop (in a cell, in a program of yours); its body runs on the I/O loop, which
keeps going while a cell is busy. Cancelling the awaiting task cancels the work; an append whose cancellation came after
its commit is in the stream all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self

from itx_notebook._loop import on_io_loop
from itx_notebook.errors import ItxError
from itx_notebook.handle.running import AsyncRunningProcessor
from itx_notebook.handle.surface import (
    Cursor,
    ItxSurface,
    OnBatch,
    ProjectsSurface,
    StreamsSurface,
    StreamSurface,
    SubscriptionSurface,
)
from itx_notebook.streams import CoreState, RuntimeState
from itx_notebook.streams.event import parse_event
from itx_notebook.streams.processors import Build
from itx_notebook.streams.waiting import Predicate
from itx_notebook.types import (
    UNSET,
    Event,
    ItxDescription,
    Project,
    ProjectList,
    StreamChild,
    StreamEvent,
    StreamEventBatch,
    StreamState,
)

__all__ = ["AsyncItx", "AsyncProjects", "AsyncStream", "AsyncStreams", "AsyncSubscription", "make_event"]


def make_event(
    event: str | Event | Mapping[str, Any],
    payload: Any = UNSET,
    *,
    metadata: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    offset: int | None = None,
) -> Event:
    """The envelope from what a person writes: a type with keyword fields, or a whole event as it stands."""
    if isinstance(event, str):
        if not event.strip():
            raise ItxError(
                f"Event type {event!r} is blank.", code="BAD_REQUEST", hint='Use a type such as "demo.hello".'
            )
        return Event(
            type=event,
            payload=payload,
            metadata=UNSET if metadata is None else _as_dict(metadata),
            idempotency_key=UNSET if idempotency_key is None else idempotency_key,
            offset=UNSET if offset is None else offset,
        )
    if payload is not UNSET or metadata is not None or idempotency_key is not None or offset is not None:
        raise ItxError(
            "append() was given a whole event and fields beside it.",
            code="BAD_REQUEST",
            hint='Write append("demo.hello", {"n": 1}) or append({"type": "demo.hello", "payload": {"n": 1}}).',
        )
    return parse_event(event)


def _as_dict(metadata: Any) -> Any:
    """A mapping as the dict that the envelope keeps; anything else as it is, for the envelope's check to refuse."""
    return dict(metadata) if isinstance(metadata, Mapping) else metadata


class AsyncSubscription:
    """An open subscription. ``async with`` unsubscribes at the end."""

    def __init__(self, path: str, subscription: SubscriptionSurface) -> None:
        self._path = path
        self._subscription = subscription

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is delivered: unsubscribed, or dropped."""
        return self._subscription.closed.is_set()

    @property
    def is_live(self) -> bool:
        """Whether what is appended is delivered now. ``False`` once it is closed, and while a connection is away."""
        return self._subscription.is_live

    @property
    def error(self) -> BaseException | None:
        """What the callback raised, if that is why it was dropped; or that the stream was killed or reset."""
        return self._subscription.error

    @on_io_loop
    async def unsubscribe(self) -> None:
        """Stop delivery; no batch begins afterwards. Repeating is harmless."""
        await self._subscription.unsubscribe()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.unsubscribe()

    def __repr__(self) -> str:
        return f"<AsyncSubscription to {self._path}, {describe_subscription(self)}>"


def describe_subscription(subscription: AsyncSubscription) -> str:
    """What a subscription's repr says of its health."""
    if subscription.error is not None:
        return f"dropped: {subscription.error!r}"
    return "closed" if subscription.is_closed else "live" if subscription.is_live else "reconnecting"


class AsyncStream:
    """One stream of the handle's project. Making one does no I/O."""

    def __init__(self, stream: StreamSurface) -> None:
        self._stream = stream

    @property
    def path(self) -> str:
        """The canonical path."""
        return self._stream.path

    @property
    def namespace(self) -> str:
        """The id of the project, or ``"global"``."""
        return self._stream.namespace

    @on_io_loop
    async def append(
        self,
        event: str | Event | Mapping[str, Any],
        payload: Any = UNSET,
        *,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        offset: int | None = None,
    ) -> StreamEvent:
        """Append one event; returns it as committed, when it is on disk.

        Parameters
        ----------
        event : str, Event or mapping
            The type, with the fields as arguments; or a whole event, ``{"type": …, "payload": …}``.
        payload : JSON value, optional
            What happened. Dates and UUIDs become strings, numpy scalars numbers.
        metadata : mapping, optional
            Facts about the event; ``{}`` is kept when absent.
        idempotency_key : str, optional
            A repeat of the key answers with the first event and appends nothing, however its payload differs.
        offset : int, optional
            Append only if the event gets exactly this offset.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: the event is not well formed, with the field and value named. ``INTERNAL``: the stream is
            paused, or the offset is another one.
        """
        return await self._stream.append(
            make_event(event, payload, metadata=metadata, idempotency_key=idempotency_key, offset=offset)
        )

    @on_io_loop
    async def append_batch(self, events: Iterable[Event | Mapping[str, Any]]) -> list[StreamEvent]:
        """Append all of `events` or none; the committed events, aligned with the input."""
        # Not make_event(): a lone event or type given by mistake iterates into strings, which it takes for types.
        return await self._stream.append_batch([parse_event(event) for event in events])

    @on_io_loop
    async def read(
        self,
        *,
        after_offset: Cursor = "start",
        before_offset: Cursor = "end",
        event_types: Iterable[str] | None = None,
        limit: int | None = None,
        presence: bool = True,
    ) -> list[StreamEvent]:
        """Events after one cursor and before another, both exclusive, in order.

        Parameters
        ----------
        after_offset, before_offset : int, "start" or "end"
            ``after_offset=10`` begins with event 11; ``before_offset=10`` ends with event 9.
        event_types : iterable of str, optional
            The types that are wanted; all if absent.
        limit : int, optional
            How many events at the most.
        presence : bool
            ``True``: touching the stream creates it and records this process, as every touch does. ``False``: a silent
            look that leaves no trace.
        """
        return await self._stream.read(
            after_offset=after_offset,
            before_offset=before_offset,
            event_types=event_types,
            limit=limit,
            presence=presence,
        )

    @on_io_loop
    async def get_event(self, offset: int | None = None, *, idempotency_key: str | None = None) -> StreamEvent | None:
        """One event, by its offset or its idempotency key. A silent look.

        Parameters
        ----------
        offset : int, optional
            ``NOT_FOUND`` if there is none.
        idempotency_key : str, optional
            ``None`` is the answer if there is none.
        """
        return await self._stream.get_event(offset, idempotency_key=idempotency_key)

    @on_io_loop
    async def get_state(self, *, presence: bool = True) -> StreamState:
        """The state folded from the log: event count, children, metadata.

        Parameters
        ----------
        presence : bool
            ``True``: touching the stream creates it and records this process, as every touch does. ``False``: a silent
            look that leaves no trace.
        """
        return await self._stream.get_state(presence=presence)

    @on_io_loop
    async def get_runtime_state(self) -> RuntimeState:
        """The whole reduced state, and the connections of this process with what each was given. A silent look."""
        return await self._stream.get_runtime_state()

    @on_io_loop
    async def reduce(
        self, event: str | Event | Mapping[str, Any], payload: Any = UNSET, *, state: CoreState | None = None
    ) -> CoreState:
        """What the whole state would be after an event. Changes and stores nothing.

        Parameters
        ----------
        event, payload
            As for :meth:`append`.
        state : CoreState, optional
            The state to begin from, such as the result of another what-if; the stream's own if absent.
        """
        return await self._stream.reduce(make_event(event, payload), state)

    @on_io_loop
    async def list_children(self, *, presence: bool = True) -> list[StreamChild]:
        """Immediate children, in order of arrival. ``presence=False``: a silent look, see :meth:`get_state`."""
        return await self._stream.list_children(presence=presence)

    @on_io_loop
    async def subscribe(
        self,
        on_batch: OnBatch,
        *,
        after_offset: Cursor = "start",
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
        key: str | None = None,
    ) -> AsyncSubscription:
        """Deliver batches from a cursor on: what is there, then what comes. The first batch, with the state, at once.

        Parameters
        ----------
        on_batch : callable
            Called on the I/O loop, so it must be quick; a coroutine function is awaited, and the next batch waits for
            it. If it raises, the subscription is dropped and says why in ``error``.
        after_offset : int, "start" or "end"
            Exclusive; ``"end"`` is live only.
        event_types : iterable of str, optional
            The types that are wanted; all if absent.
        events : bool
            ``False``: states only, with ``events`` empty, coalesced.
        presence : bool
            ``False``: a silent observer; otherwise subscribing is itself an event of the stream.
        key : str, optional
            A subscription under the same key is ended first.
        """
        subscription = await self._stream.subscribe(
            on_batch,
            after_offset=after_offset,
            event_types=event_types,
            events=events,
            presence=presence,
            key=key,
        )
        return AsyncSubscription(self.path, subscription)

    @on_io_loop
    async def on_state_change(
        self, on_state: Callable[[StreamState], Awaitable[object] | None], *, presence: bool = True
    ) -> AsyncSubscription:
        """Deliver the state now and at every change, coalesced. See :meth:`subscribe`."""

        def on_batch(batch: StreamEventBatch) -> Awaitable[object] | None:
            return on_state(batch.state)

        subscription = await self._stream.subscribe(on_batch, after_offset="end", events=False, presence=presence)
        return AsyncSubscription(self.path, subscription)

    @on_io_loop
    async def wait_for_event(
        self,
        predicate: Predicate | None = None,
        *,
        event_types: Iterable[str] | None = None,
        after_offset: Cursor = "end",
        presence: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109  # of the engine's clock, and the error tells what was seen
    ) -> StreamEvent:
        """The first event that matches, from a cursor on.

        Parameters
        ----------
        predicate : callable, optional
            Takes an event, on the I/O loop, so it must be quick. What it raises ends the wait.
        event_types : iterable of str, optional
            The types that count. One of the two must be given.
        after_offset : int, "start" or "end"
            Exclusive; ``"end"``: events from now on.
        timeout : float, optional
            Seconds; ``None`` waits without limit.
        presence : bool
            ``False``: a silent observer; otherwise the waiting is itself in the log.

        Raises
        ------
        ItxTimeoutError
            There was none in time; it tells what was seen.
        """
        return await self._stream.wait_for_event(
            predicate, event_types=event_types, after_offset=after_offset, timeout=timeout, presence=presence
        )

    @on_io_loop
    async def run(self, processor: Build, *, key: str | None = None) -> AsyncRunningProcessor:
        """Run a processor on this stream in this process, from where it was stopped before.

        Parameters
        ----------
        processor : class or callable
            Makes the processor: a subclass of ``Processor``, or what ``@processor`` made. Its hooks run on the I/O
            loop.
        key : str, optional
            The subscription key, under which its progress is stored; ``processor:<slug>`` if absent. One that runs
            under the same key is stopped first.
        """
        running = await self._stream.run_processor(processor, key=key, view=self)
        return AsyncRunningProcessor(self.path, running)

    @on_io_loop
    async def enable_processor(self, name: str) -> None:
        """Configure the stream to be processed by every process that knows a name. Repeating is harmless.

        Parameters
        ----------
        name : str
            ``"circuit-breaker"``, or what :meth:`Streams.register_processor` made known.
        """
        await self._stream.enable_processor(name)

    @on_io_loop
    async def disable_processor(self, name: str) -> None:
        """Take back what :meth:`enable_processor` did. Repeating is harmless."""
        await self._stream.disable_processor(name)

    @on_io_loop
    async def kill(self) -> None:
        """End the stream's incarnation, as if its process had died: subscribers are let go, the log stays."""
        await self._stream.kill()

    @on_io_loop
    async def reset(self) -> None:
        """Erase the stream for good: its next life begins at offset 1.

        Subscribers are let go with an error. Streams below it stay. There is no way back but a backup.
        """
        await self._stream.reset()

    def __repr__(self) -> str:
        return f"<AsyncStream {self.path}>"


class AsyncStreams:
    """The streams of the handle's project."""

    def __init__(self, streams: StreamsSurface) -> None:
        self._streams = streams

    def get(self, ref: str | Mapping[str, str]) -> AsyncStream:
        """A stream by path, such as ``"/agents/a"``. No I/O; it need not exist yet.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: not a path; ``NOT_FOUND``: another project's.
        """
        return AsyncStream(self._streams.get(ref))

    @on_io_loop
    async def register_processor(self, processor: Build, *, name: str | None = None) -> str:
        """Make a processor known in this process, for the streams that are configured to have it.

        Parameters
        ----------
        processor : class or callable
            Makes the processor, once for each stream.
        name : str, optional
            The processor's slug if absent. What is known under the name already is replaced for new starts.

        Returns
        -------
        str
            The name, for :meth:`Stream.enable_processor`.
        """
        return self._streams.register_processor(processor, name=name)

    def __repr__(self) -> str:
        return "<AsyncStreams: .get(path)>"


class AsyncProjects:
    """The projects this handle may narrow to."""

    def __init__(self, projects: ProjectsSurface) -> None:
        self._projects = projects

    @on_io_loop
    async def get(self, id_or_slug: str) -> AsyncItx:
        """A new handle, narrowed to one project.

        Raises
        ------
        ItxError
            ``NOT_FOUND``: there is no such project, or it is not yours; the two cannot be told apart.
        """
        return AsyncItx(await self._projects.get(id_or_slug))

    @on_io_loop
    async def list(self, *, limit: int = 100, offset: int = 0) -> ProjectList:
        """A page of the projects this handle may narrow to, in order of creation."""
        return await self._projects.list(limit=limit, offset=offset)

    @on_io_loop
    async def create(self, slug: str, *, project_id: str | None = None) -> Project:
        """Create a project. ``FORBIDDEN`` on a handle narrowed to one; ``CONFLICT`` if the slug is taken."""
        return await self._projects.create(slug, project_id=project_id)

    def __repr__(self) -> str:
        return "<AsyncProjects: .get(id_or_slug), .list(), .create(slug)>"


class AsyncItx:
    """A handle: a view of one project (or, for its owner, of the whole deployment).

    Attributes
    ----------
    projects : AsyncProjects
    streams : AsyncStreams
    """

    def __init__(self, surface: ItxSurface) -> None:
        self._surface = surface
        self.projects = AsyncProjects(surface.projects)
        self.streams = AsyncStreams(surface.streams)

    @property
    def project(self) -> Project | None:
        """The project it is narrowed to; ``None`` for the whole deployment."""
        return self._surface.project

    @on_io_loop
    async def describe(self) -> ItxDescription:
        """What this handle points at: project, engine, where the data is."""
        return await self._surface.describe()

    def __repr__(self) -> str:
        return f"<AsyncItx {'(whole deployment)' if self.project is None else self.project.slug}>"
