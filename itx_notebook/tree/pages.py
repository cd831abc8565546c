"""Pages of a stream's newest events, as the details of a stream show them: bounded in number, reach and bytes.

Apart from the tree because nothing is followed here: the browser asks for a page when a count has moved, so a page
that a lossy channel drops is only asked for again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from itx_notebook.errors import ItxError, is_itx_access_error
from itx_notebook.handle.surface import StreamSurface
from itx_notebook.streams import RuntimeState
from itx_notebook.tree.about import FAILED, About, describe_state, describe_stream, get_absent_processors
from itx_notebook.types import StreamEvent, StreamState

__all__ = ["MAX_EVENT_BYTES", "PAGE", "read_page"]

PAGE: Final = 25
"""Events in a page at the most."""
MAX_EVENT_BYTES: Final = 8_192
"""A longer event is told without its payload; a page is then at most 200 KB, which the channel carries."""
_MAX_WINDOW: Final = 250
"""Offsets read at once: their events are in memory together."""
_MAX_REACH: Final = 20_000
"""Offsets looked through for one page of a type; the page then says where to go on."""
_ERROR_REACH: Final = 1_000
"""Newest offsets among which it is looked up why a processor was given up."""
_MAX_EXACT: Final = 2**53
"""From here on a browser rounds whole numbers."""


async def read_page(
    stream: StreamSurface, *, before: int | None = None, after: int | None = None, event_type: str | None = None
) -> dict[str, Any]:
    """The newest events before an offset, newest first, without a trace in the stream.

    Parameters
    ----------
    before : int, optional
        Offset, exclusive; without it from the end.
    after : int, optional
        Offset, exclusive: what is older is known. One that the stream has not reached is of an earlier life of it, and
        does not count.
    event_type : str, optional
        Only events of this type.

    Returns
    -------
    dict
        ``events``, those with numbers that a browser would round as a text, ``json``; ``before``, the offset to go on
        from, or ``None`` at the beginning or at `after`; ``about``, what else there is to say of the stream
        (:class:`~itx_notebook.tree.about.About`), or ``None`` for a page from further back.
    """
    told = None
    if before is None:
        told = await _fetch_state(stream)
        before = _get_count(told) + 1
    floor = after if after is not None and after < before else 0
    found: list[StreamEvent] = []
    high, reach = before, PAGE
    while high > floor + 1 and len(found) < PAGE and before - high < _MAX_REACH:
        low = max(floor, high - 1 - reach)
        window = await stream.read(
            after_offset=low,
            before_offset=high,
            event_types=None if event_type is None else [event_type],
            limit=None,
            presence=False,
        )
        found += reversed(window)
        high, reach = low + 1, min(4 * reach, _MAX_WINDOW)
    shown = found[:PAGE]
    rest = shown[-1].offset if len(found) > PAGE else high
    return {
        "events": [_describe(event) for event in shown],
        "before": rest if rest > floor + 1 else None,
        "about": None if told is None else msgspec.to_builtins(await _read_about(stream, told, shown)),
    }


async def _fetch_state(stream: StreamSurface) -> RuntimeState | StreamState:
    """The whole state, or the public one of an itx that gives no more."""
    try:
        return await stream.get_runtime_state()
    except ItxError as error:
        if is_itx_access_error(error):
            raise
        return await stream.get_state(presence=False)


def _get_count(told: RuntimeState | StreamState) -> int:
    return told.core_processor_state.event_count if isinstance(told, RuntimeState) else told.event_count


async def _read_about(stream: StreamSurface, told: RuntimeState | StreamState, shown: list[StreamEvent]) -> About:
    count = _get_count(told)
    newest: StreamEvent | None = shown[0] if shown and shown[0].offset == count else None
    if newest is None and count:
        newest = await stream.get_event(count, idempotency_key=None)
    active_at = None if newest is None else newest.created_at
    if isinstance(told, StreamState):
        return describe_state(told, active_at=active_at)
    errors: list[StreamEvent] = []
    if absent := get_absent_processors(told):
        errors = await stream.read(
            after_offset=max(min(absent.values()), count - _ERROR_REACH),
            before_offset=count + 1,
            event_types=[FAILED],
            limit=None,
            presence=False,
        )
    return describe_stream(told, active_at=active_at, errors=errors)


def _describe(event: StreamEvent) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(event)
    told.pop("streamPath", None)
    body = msgspec.json.encode(told)
    named = {name: told[name] for name in ("type", "offset", "createdAt")}
    if len(body) > MAX_EVENT_BYTES:
        return {**named, "bytes": len(body)}
    if _is_exact_in_browsers(told):
        return told
    rest = {name: value for name, value in told.items() if name not in named}
    return {**named, "json": msgspec.json.encode(rest).decode()}


def _is_exact_in_browsers(value: Any) -> bool:
    """Whether no whole number is too large for a browser, whose numbers are all floating-point."""
    if isinstance(value, dict):
        return all(map(_is_exact_in_browsers, value.values()))
    if isinstance(value, list):
        return all(map(_is_exact_in_browsers, value))
    return not isinstance(value, int) or abs(value) < _MAX_EXACT
