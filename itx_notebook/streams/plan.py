"""What one append means for one stream: a pure decision, taken before anything is stored.

In the order that the semantics hang on: envelope, idempotency key, pause gate, offset, fold. Any failure raises and
leaves nothing behind, because nothing outside the returned plan was touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import UNSET

from itx_notebook._clock import Clock, iso_from_ms
from itx_notebook.errors import ItxError
from itx_notebook.streams.core import PASSES_PAUSE, CoreState, fold
from itx_notebook.streams.event import commit_event
from itx_notebook.streams.storage import Row
from itx_notebook.types import Event, StreamEvent

__all__ = ["Plan", "plan_append"]


class Plan(NamedTuple):
    """The outcome of :func:`plan_append`, not yet stored."""

    results: list[StreamEvent]
    """The answer, aligned with the input; repeats of a key stand here as the original event."""
    committed: list[StreamEvent]
    rows: list[Row]
    keys: dict[str, StreamEvent]
    """The committed events that have an idempotency key, by it."""
    state: CoreState


def plan_append(
    state: CoreState,
    events: Sequence[Event],
    *,
    stream_path: str,
    try_find: Callable[[str], StreamEvent | None],
    clock: Clock,
) -> Plan:
    """Decide what appending checked `events` to a stream in `state` commits and answers.

    Parameters
    ----------
    try_find : callable
        The event that an earlier batch committed under an idempotency key, or ``None``.

    Raises
    ------
    ItxError
        ``INTERNAL``: the stream is paused, or an offset precondition does not hold; ``BAD_REQUEST``: the payload of a
        core event is not of its shape.
    """
    results: list[StreamEvent] = []
    new: list[StreamEvent] = []
    rows: list[Row] = []
    own: dict[str, StreamEvent] = {}
    for event in events:
        key = None if event.idempotency_key is UNSET else event.idempotency_key
        if key is not None and (known := own.get(key) or try_find(key)) is not None:
            _check_repeat(event, known)
            results.append(known)
            continue
        if state.paused and event.type not in PASSES_PAUSE:
            raise _paused(state, stream_path)
        offset = state.max_offset + 1
        if event.offset is not UNSET and event.offset != offset:
            raise ItxError(
                f"expected offset {offset}, got {event.offset}",
                code="INTERNAL",
                details={"expected": offset, "given": event.offset},
                hint="Somebody else appended: read what is new, decide again, append at the new offset.",
            )
        created_at = iso_from_ms(clock.now_ms())
        committed, body = commit_event(event, offset=offset, created_at=created_at, stream_path=stream_path)
        state = fold(state, committed)
        if key is not None:
            own[key] = committed
        results.append(committed)
        new.append(committed)
        rows.append(Row(offset, committed.type, body, key))
    return Plan(results, new, rows, own, state)


def _check_repeat(event: Event, known: StreamEvent) -> None:
    if event.offset is not UNSET and event.offset != known.offset:
        raise ItxError(
            f"idempotency hit at offset {known.offset}, got {event.offset}",
            code="INTERNAL",
            details={"existing": known.offset, "given": event.offset},
            hint="The key was used before: leave the offset out to get that event, or use a new key.",
        )


def _paused(state: CoreState, stream_path: str) -> ItxError:
    return ItxError(
        f"stream paused: {state.pause_reason or 'unknown reason'}",
        code="INTERNAL",
        details={"path": stream_path, "pauseReason": state.pause_reason},
        hint='Append {"type": "events.iterate.com/stream/resumed"} to the stream, then call again.',
    )
