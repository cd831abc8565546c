"""The seam below a handle: what it asks of whatever it was given, a view in this process or (later) a remote stub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, Protocol

from itx_notebook.handle.running import RunningSurface
from itx_notebook.streams import CoreState, RuntimeState
from itx_notebook.streams.processors import Appendable, Build
from itx_notebook.streams.waiting import Predicate
from itx_notebook.types import (
    Event,
    ItxDescription,
    Project,
    ProjectList,
    StreamChild,
    StreamEvent,
    StreamEventBatch,
    StreamState,
)

__all__ = [
    "Closed",
    "Cursor",
    "ItxSurface",
    "OnBatch",
    "ProjectsSurface",
    "StreamSurface",
    "StreamsSurface",
    "SubscriptionSurface",
]

Cursor = Literal["start", "end"] | int
"""An offset (exclusive), or ``"start"`` or ``"end"`` of a stream."""

OnBatch = Callable[[StreamEventBatch], Awaitable[object] | None]
"""Takes a batch on the I/O loop; what it returns, if awaitable, is awaited before the next one."""


class Closed(Protocol):
    """An event that is set once."""

    def is_set(self) -> bool:
        """Whether it has happened."""
        ...

    async def wait(self) -> Literal[True]:
        """Wait until it has happened."""
        ...


class SubscriptionSurface(Protocol):
    """An open subscription."""

    error: BaseException | None

    @property
    def closed(self) -> Closed:
        """Set when nothing more is delivered."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether it is served now: not closed, and the way to the stream is there."""
        ...

    async def unsubscribe(self) -> None:
        """Stop delivery."""
        ...


class StreamSurface(Protocol):
    """One stream."""

    @property
    def namespace(self) -> str:
        """The namespace."""
        ...

    @property
    def path(self) -> str:
        """The canonical path."""
        ...

    async def append(self, event: Event) -> StreamEvent:
        """Append one event."""
        ...

    async def append_batch(self, events: Sequence[Event]) -> list[StreamEvent]:
        """Append all or none."""
        ...

    async def read(
        self,
        *,
        after_offset: Cursor,
        before_offset: Cursor,
        event_types: Iterable[str] | None,
        limit: int | None,
        presence: bool,
    ) -> list[StreamEvent]:
        """Events between two cursors."""
        ...

    async def get_event(self, offset: int | None, *, idempotency_key: str | None) -> StreamEvent | None:
        """One event."""
        ...

    async def get_runtime_state(self) -> RuntimeState:
        """The whole reduced state, and the connections."""
        ...

    async def reduce(self, event: Event, state: CoreState | None) -> CoreState:
        """What the state would be."""
        ...

    async def get_state(self, *, presence: bool) -> StreamState:
        """The public state."""
        ...

    async def list_children(self, *, presence: bool) -> list[StreamChild]:
        """Immediate children."""
        ...

    async def subscribe(
        self,
        on_batch: OnBatch,
        *,
        after_offset: Cursor,
        event_types: Iterable[str] | None = None,
        events: bool,
        presence: bool,
        key: str | None = None,
    ) -> SubscriptionSurface:
        """Deliver batches."""
        ...

    async def wait_for_event(
        self,
        predicate: Predicate | None,
        *,
        event_types: Iterable[str] | None,
        after_offset: Cursor,
        timeout: float | None,  # noqa: ASYNC109  # of the engine's clock
        presence: bool,
    ) -> StreamEvent:
        """The first event that matches."""
        ...

    async def kill(self) -> None:
        """End the incarnation."""
        ...

    async def reset(self) -> None:
        """Erase the stream."""
        ...

    async def run_processor(self, build: Build, *, key: str | None, view: Appendable) -> RunningSurface:
        """Run a processor."""
        ...

    async def enable_processor(self, name: str) -> None:
        """Configure the stream to have a processor."""
        ...

    async def disable_processor(self, name: str) -> None:
        """Take that back."""
        ...


class StreamsSurface(Protocol):
    """The streams of a namespace."""

    def get(self, ref: object) -> StreamSurface:
        """A stream by reference."""
        ...

    def register_processor(self, build: Build, *, name: str | None) -> str:
        """Make a processor known by name."""
        ...


class ProjectsSurface(Protocol):
    """The projects a view may narrow to."""

    async def get(self, id_or_slug: str) -> ItxSurface:
        """A narrower view."""
        ...

    async def list(self, *, limit: int, offset: int) -> ProjectList:
        """A page of projects."""
        ...

    async def create(self, slug: str, *, project_id: str | None) -> Project:
        """Create a project."""
        ...


class ItxSurface(Protocol):
    """A view of one context."""

    @property
    def project(self) -> Project | None:
        """The project it is narrowed to."""
        ...

    @property
    def projects(self) -> ProjectsSurface:
        """The projects it may narrow to."""
        ...

    @property
    def streams(self) -> StreamsSurface:
        """Its streams."""
        ...

    async def describe(self) -> ItxDescription:
        """What it points at."""
        ...
