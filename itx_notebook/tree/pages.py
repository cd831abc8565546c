"""Pages of a stream's newest events, as the details of a stream show them: bounded in number, reach and bytes.

Apart from the tree because nothing is followed here: the browser asks for a page when a count has moved, so a page
that a lossy channel drops is only asked for again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from itx_notebook.handle.surface import StreamSurface
from itx_notebook.types import StreamEvent

__all__ = ["MAX_EVENT_BYTES", "PAGE", "read_page"]

PAGE: Final = 25
"""Events in a page at the most."""
MAX_EVENT_BYTES: Final = 8_192
"""A longer event is told without its payload; a page is then at most 200 KB, which the channel carries."""
_MAX_WINDOW: Final = 250
"""Offsets read at once: their events are in memory together."""
_MAX_REACH: Final = 20_000
"""Offsets looked through for one page of a type; the page then says where to go on."""


async def read_page(
    stream: StreamSurface, *, before: int | None = None, event_type: str | None = None
) -> dict[str, Any]:
    """The newest events before an offset, newest first, without a trace in the stream.

    Parameters
    ----------
    before : int, optional
        Offset, exclusive; without it from the end.
    event_type : str, optional
        Only events of this type.

    Returns
    -------
    dict
        ``events``; ``before``, the offset to go on from, or ``None`` at the beginning; ``metadata`` of the stream.
    """
    state = await stream.get_state(presence=False)
    end = state.event_count + 1 if before is None else before
    found: list[StreamEvent] = []
    high, reach = end, PAGE
    while high > 1 and len(found) < PAGE and end - high < _MAX_REACH:
        low = max(0, high - 1 - reach)
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
        "before": rest if rest > 1 else None,
        "metadata": state.metadata,
    }


def _describe(event: StreamEvent) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(event)
    told.pop("streamPath", None)
    size = len(msgspec.json.encode(told))
    if size <= MAX_EVENT_BYTES:
        return told
    kept = {name: told[name] for name in ("type", "offset", "createdAt")}
    return {**kept, "bytes": size}
