"""Looks at a log that take more than a line: chosen events page by page, and events that are only supposed.

Apart from the actor because they change nothing in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from itx_notebook._clock import iso_from_ms
from itx_notebook.errors import ItxError
from itx_notebook.streams.core import CoreState
from itx_notebook.streams.event import commit_event, parse_event
from itx_notebook.streams.log import READ_PAGE
from itx_notebook.types import Event, StreamEvent

__all__ = ["as_committed", "get_events", "life_over"]


class Readable(Protocol):
    """What reading asks of a stream."""

    @property
    def life(self) -> int:
        """Another number after every kill and reset."""
        ...

    def load(self) -> CoreState:
        """The state of this moment."""
        ...

    def read_page(self, *, after_offset: int, limit: int, before_offset: int | None = None) -> list[StreamEvent]:
        """Stored events after an offset, in order."""
        ...


async def get_events(
    stream: Readable,
    *,
    after_offset: int,
    before_offset: int | None,
    limit: int | None,
    event_types: Iterable[str] | None,
) -> list[StreamEvent]:
    """See :meth:`Stream.get_events`."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ItxError(
            "getEvents limit must be a positive integer.", code="BAD_REQUEST", details={"limit": repr(limit)}
        )
    wanted = None if event_types is None else frozenset(event_types)
    if wanted is not None and "*" in wanted:
        wanted = None
    life = stream.life
    head = stream.load().max_offset + 1
    before = head if before_offset is None else min(before_offset, head)
    events: list[StreamEvent] = []
    cursor = max(0, after_offset)
    while cursor < before - 1 and (limit is None or len(events) < limit):
        size = READ_PAGE if limit is None or wanted is not None else min(READ_PAGE, limit - len(events))
        page = stream.read_page(after_offset=cursor, before_offset=before, limit=size)
        if not page:
            break
        cursor = page[-1].offset
        events += page if wanted is None else [event for event in page if event.type in wanted]
        await asyncio.sleep(0)
        if stream.life != life:
            raise life_over("killed or reset")
    return events if limit is None else events[:limit]


def as_committed(
    event: Event | StreamEvent | Mapping[str, Any], state: CoreState, *, now_ms: int, stream_path: str
) -> StreamEvent:
    """The event as it would be committed to a stream in `state`; a committed one as it is."""
    if isinstance(event, StreamEvent):
        return event
    if isinstance(event, Mapping) and "createdAt" in event:
        try:
            return msgspec.convert(event, StreamEvent)
        except msgspec.ValidationError as error:
            raise ItxError(f"Event {event!r} is not a committed event: {error}.", code="BAD_REQUEST") from None
    supposed, _ = commit_event(
        parse_event(event), offset=state.max_offset + 1, created_at=iso_from_ms(now_ms), stream_path=stream_path
    )
    return supposed


def life_over(why: str) -> ItxError:
    """The error of everything that was asked of an incarnation that has ended."""
    return ItxError(
        why,
        code="INTERNAL",
        hint="The stream's incarnation was ended: call or subscribe again; what was answered before is in the log.",
    )
