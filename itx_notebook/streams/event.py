"""The envelope: from what a caller hands in to the event a log keeps, and its bytes.

The returned event is decoded from the very bytes that are stored. So what an append answers is what a later read
gives, and a caller who goes on changing its payload dict changes nobody's event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import force_setattr

from itx_notebook._json import check_json, encode_json
from itx_notebook.errors import ItxError
from itx_notebook.types import Event, StreamEvent

__all__ = ["DAMAGE", "commit_event", "parse_event", "read_event", "read_events"]

_ENCODED: Final = {field.encode_name: field.name for field in msgspec.structs.fields(Event)}
_FIELDS: Final = _ENCODED | {name: name for name in _ENCODED.values()}

_decode_event: Final = msgspec.json.Decoder(StreamEvent).decode
_decode_events: Final = msgspec.json.Decoder(list[StreamEvent]).decode

DAMAGE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a body raises that is no event."""


def parse_event(value: object) -> Event:
    """Check the strict envelope of one event to append; raise ``BAD_REQUEST`` that names the fault.

    Parameters
    ----------
    value : Event or Mapping
        Fields ``type``, ``payload``, ``metadata``, ``source``, ``idempotencyKey``, ``offset``; ``idempotency_key`` is
        taken too. No other field is allowed. The idempotency key is trimmed.
    """
    event = value if isinstance(value, Event) else _from_mapping(value)
    if not isinstance(event.type, str):
        raise _refusal(f"Event type {event.type!r} is not a string.")
    check_json(event.type, "type")
    if event.payload is not UNSET:
        check_json(event.payload, "payload")
    if event.metadata is not UNSET:
        if not isinstance(event.metadata, dict):
            raise _refusal(f"Event metadata {event.metadata!r} is not a dict.")
        check_json(event.metadata, "metadata")
    if event.source is not UNSET:
        _check_source(event.source)
    if event.offset is not UNSET and (type(event.offset) is not int or event.offset < 0):
        raise _refusal(f"Event offset {event.offset!r} is not an integer of 0 or more.")
    if event.idempotency_key is not UNSET:
        key: object = event.idempotency_key
        if not isinstance(key, str) or not key.strip():
            raise _refusal(f"Event idempotencyKey {key!r} is not a text of at least one character.")
        check_json(key, "idempotencyKey")
        if key != key.strip():
            event = msgspec.structs.replace(event, idempotency_key=key.strip())
    return event


def _from_mapping(value: object) -> Event:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise _refusal(f"Event {value!r} is neither an Event nor a dict.")
    fields: dict[str, Any] = {}
    for name, item in value.items():
        field = _FIELDS.get(name)
        if field is None:
            raise _refusal(f"Event has the unknown field {name!r}; allowed are {', '.join(_ENCODED)}.")
        fields[field] = item
    if "type" not in fields:
        raise _refusal('Event has no "type".')
    return Event(**fields)


class _Processor(msgspec.Struct, forbid_unknown_fields=True):
    slug: str
    version: str


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    processor: _Processor | UnsetType = UNSET


def _check_source(source: object) -> None:
    try:
        msgspec.convert(source, _Source, strict=True)
    except msgspec.ValidationError:
        raise _refusal(f'Event source {source!r} is not {{"processor": {{"slug": …, "version": …}}}}.') from None
    check_json(source, "source")


def commit_event(event: Event, *, offset: int, created_at: str, stream_path: str) -> tuple[StreamEvent, bytes]:
    """Stamp a checked `event`: the committed event, and the bytes the log keeps (which do not carry the path)."""
    stamped = StreamEvent(
        type=event.type,
        payload=event.payload,
        metadata=event.metadata,
        source=event.source,
        idempotency_key=event.idempotency_key,
        offset=offset,
        created_at=created_at,
    )
    try:
        body = encode_json(stamped)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(f"Event {event.type!r} cannot be written as JSON: {error}.") from None
    return read_event(body, stream_path), body


def read_event(body: bytes, stream_path: str) -> StreamEvent:
    """The event in one stored body; :data:`DAMAGE` if it is none."""
    event = _decode_event(body)
    force_setattr(event, "stream_path", stream_path)
    return event


def read_events(bodies: list[bytes], stream_path: str) -> list[StreamEvent]:
    """The events in many stored bodies: joined and decoded at once, which is what makes a replay fast."""
    events = _decode_events(b"[" + b",".join(bodies) + b"]")
    if len(events) != len(bodies):
        raise msgspec.DecodeError(f"{len(bodies)} bodies hold {len(events)} events")
    for event in events:
        force_setattr(event, "stream_path", stream_path)
    return events


def _refusal(message: str) -> ItxError:
    return ItxError(message, code="BAD_REQUEST", hint='An event is {"type": "…", "payload": …}.')
