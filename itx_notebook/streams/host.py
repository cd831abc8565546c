"""What a stream asks of the engine it lives in: the seam between the actor and all actors of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError
from itx_notebook.streams.log import LogStore
from itx_notebook.streams.processors import ProcessorHost
from itx_notebook.streams.storage import Snapshot
from itx_notebook.types import Event, StreamEvent

__all__ = ["Host"]

S = TypeVar("S")
"""The actor."""


class Host(LogStore, Protocol[S]):
    """What a stream asks of its engine."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        ...

    @property
    def clock(self) -> Clock:
        """Its time."""
        ...

    def stream(self, namespace: str, path: str) -> S:
        """The actor of another stream."""
        ...

    @property
    def processors(self) -> ProcessorHost:
        """The processors of this process."""
        ...

    async def between_commits(self) -> None:
        """Wait until no commit is under way."""
        ...

    def commit(self, stream: S, events: Sequence[Event], *, wake: bool = False) -> asyncio.Future[list[StreamEvent]]:
        """Append checked events, all or none."""
        ...

    async def end_life(self, stream: S, error: ItxError, *, erase: bool) -> None:
        """Refuse what waits for a stream, erase it if asked, and end its incarnation, all between two commits."""
        ...

    async def save_snapshot(self, stream: S, snapshot: Snapshot) -> None:
        """Store how far a processor has come."""
        ...

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run background work that the engine's end waits for."""
        ...

    def note_loaded(self, stream: S) -> None:
        """Take notice that the state of a stream is in memory now; others may be told to let go of theirs."""
        ...
