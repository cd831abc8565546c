"""Events as one text: how the two ends of this product hand them to each other.

Cap'n Web looks at every value of a message and escapes every list, at both ends; for a hundred events that takes longer
than the engine takes to keep them. A text is one value to it. Each end offers this and neither needs it: a door gives
texts to those who ask for them, a client sends one where the door has said that it takes them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from itx_notebook._json import decode_json, encode_json
from itx_notebook.errors import ItxError
from itx_notebook.streams.event import parse_event
from itx_notebook.types import Event, StreamEvent, StreamEventBatch

__all__ = ["TAKES_TEXTS", "format_committed", "format_events", "parse_batch", "parse_committed", "parse_events"]

TAKES_TEXTS: Final = "takesTexts"
"""The member by which a context's description says that its streams know ``appendText``."""

_decode_events: Final = msgspec.json.Decoder(list[Event]).decode
_decode_committed: Final = msgspec.json.Decoder(list[StreamEvent]).decode
_decode_batch: Final = msgspec.json.Decoder(StreamEventBatch).decode
_NO_JSON: Final = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)
"""What decoding a peer's text raises: it may be no JSON, hold half a character, or be nested without end."""

T = TypeVar("T")


def format_events(events: Sequence[Event]) -> str:
    """The text of events to append; raise ``BAD_REQUEST`` that names the fault of one that cannot be."""
    return encode_json([parse_event(event) for event in events]).decode()


def parse_events(text: Any) -> list[Event]:
    """The events to append that a peer has sent; ``BAD_REQUEST`` if they are none. The stream checks what they say."""
    events: Any = None
    if isinstance(text, str):
        try:
            try:
                return _decode_events(text)
            except msgspec.ValidationError:
                # What is wrong with an envelope, its own check says best.
                events = decode_json(text)
        except _NO_JSON as error:
            raise _refusal(str(error)) from None
    if not isinstance(events, list):
        raise _refusal(f"not {text!r:.80}")
    return [parse_event(event) for event in events]


def format_committed(value: StreamEventBatch | Sequence[StreamEvent]) -> str:
    """The text of committed events, or of a batch of them."""
    return encode_json(value).decode()


def parse_committed(text: str) -> list[StreamEvent]:
    """The committed events that a door has sent; raises :class:`msgspec.DecodeError` if they are none."""
    return _decode(_decode_committed, text)


def parse_batch(text: str) -> StreamEventBatch:
    """The batch that a door has sent; raises :class:`msgspec.DecodeError` if it is none."""
    return _decode(_decode_batch, text)


def _decode(decode: Callable[[str], T], text: str) -> T:
    # Thousands of objects come to be at once, and none can go: whoever keeps them pays as much again for collections
    # that look at them meanwhile (measured 2026-11, 1,000 events a text).
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return decode(text)
    except (UnicodeEncodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
    finally:
        if is_collecting:
            gc.enable()


def _refusal(what: str) -> ItxError:
    return ItxError(f"appendText takes the JSON of a list of events: {what}.", code="BAD_REQUEST")
