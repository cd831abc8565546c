"""What a stream asks of the engine it lives in: the seam between the actor and all actors of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError
from itx_notebook.streams.log import LogStore
from itx_notebook.streams.processors import ProcessorHost
from itx_notebook.streams.storage import Snapshot
from itx_notebook.types import Event, StreamEvent

if TYPE_CHECKING:
    from itx_notebook.streams.stream import Stream

__all__ = ["Host"]


class Host(LogStore, Protocol):
    """What a stream asks of its engine."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        ...

    @property
    def clock(self) -> Clock:
        """Its time."""
        ...

    def stream(self, namespace: str, path: str) -> Stream:
        """The actor of another stream."""
        ...

    @property
    def processors(self) -> ProcessorHost:
        """The processors of this process."""
        ...

    async def between_commits(self) -> None:
        """Wait until no commit is under way."""
        ...

    def commit(
        self, stream: Stream, events: Sequence[Event], *, wake: bool = False
    ) -> asyncio.Future[list[StreamEvent]]:
        """Append checked events, all or none."""
        ...

    async def end_life(self, stream: Stream, error: ItxError, *, erase: bool) -> None:
        """Refuse what waits for a stream, erase it if asked, and end its incarnation, all between two commits."""
        ...

    async def save_snapshot(self, stream: Stream, snapshot: Snapshot) -> None:
        """Store how far a processor has come."""
        ...

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run background work that the engine's end waits for."""
        ...

    def note_loaded(self, stream: Stream) -> None:
        """Take notice that the state of a stream is in memory now; others may be told to let go of theirs."""
        ...
