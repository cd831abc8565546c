"""One event appended for a browser, once, however often the browser has to ask.

The channel to a browser loses messages, answers among them. So the browser makes a key for each event a person sends,
and the stream keeps one event per key: asking again is the way to learn what became of it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from itx_notebook._json import decode_json
from itx_notebook.errors import ItxError
from itx_notebook.handle.surface import StreamSurface
from itx_notebook.streams.event import parse_event
from itx_notebook.types import UNSET, Event

__all__ = ["append_once", "make_appended"]

_KEY_PREFIX: Final = "itx-tree:"
"""Says in the log where such an event came from."""


async def append_once(stream: StreamSurface, *, key: str, event_type: str, payload: str | None) -> int:
    """Append the event unless it is there; its offset.

    Parameters
    ----------
    key : str
        The browser's, one for each event.
    payload : str, optional
        JSON as it was typed; without it the event has no payload. It stays text up to here, because a browser's numbers
        are not JSON's.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: what was typed is no event. Else whatever the stream answers.
    """
    return (await stream.append(make_appended(key=key, event_type=event_type, payload=payload))).offset


def make_appended(*, key: str, event_type: str, payload: str | None) -> Event:
    """The event, checked as the engine checks any other."""
    if not event_type.strip():
        raise ItxError("The event has no type.", code="BAD_REQUEST", hint="Say in a word what happened.")
    event = {
        "type": event_type,
        "payload": UNSET if payload is None else _parse_payload(payload),
        "idempotencyKey": f"{_KEY_PREFIX}{key}",
    }
    return parse_event(event)


def _parse_payload(text: str) -> Any:
    try:
        return decode_json(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ItxError(
            f"The payload is not JSON: {_locate(text, error)}.",
            code="BAD_REQUEST",
            hint="Correct it there; texts and keys stand in double quotes.",
        ) from None


def _locate(text: str, error: Exception) -> str:
    """Where the fault is, which the quick decoder tells in bytes."""
    try:
        json.loads(text)
    except json.JSONDecodeError as located:
        return f"{located.msg}, line {located.lineno}, column {located.colno}"
    except RecursionError:
        return "it is nested too deep"
    return str(error)
