"""What the details of a stream say of it besides its events: its age, who is present, how its processors fare.

Pure: a value made of the stream's reduced state, its open connections and the errors it recorded. Apart from the tree's
nodes because it is read for one stream at a time, by whoever looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from itx_notebook._json import encode_json
from itx_notebook.streams import CoreState, RuntimeState, core_type
from itx_notebook.streams.processors import CircuitBreaker, get_configured_processor
from itx_notebook.types import StreamEvent, StreamState

__all__ = [
    "FAILED",
    "MAX_LISTED",
    "MAX_METADATA_BYTES",
    "About",
    "AboutConnection",
    "AboutProcessor",
    "describe_state",
    "describe_stream",
    "get_absent_processors",
]

MAX_LISTED: Final = 50
"""Connections told one by one; of more, their number."""
MAX_METADATA_BYTES: Final = 8_192
"""Longer metadata is not told: it crosses the channel with every page that follows."""
FAILED: Final = core_type("error-occurred")
"""The type of the fact by which a processor that was given up is known."""
_FAILED_KEY: Final = "processor-ingest-failed"
_TRIPPED: Final = "circuit breaker tripped"
_UNKNOWN_TIME: Final = "uninitialized"


class AboutProcessor(msgspec.Struct, frozen=True):
    """A processor that was seen at the stream, or that the stream is configured to have.

    Attributes
    ----------
    state : str
        ``running``: connected; ``failed``: given up, and the stream was told; ``tripped``: the circuit breaker, which
        has paused the stream; ``absent``: nothing of it is connected.
    served : int or None
        The offset up to which it was served; ``None`` where it is not connected.
    """

    slug: str
    version: str | None
    description: str | None
    state: Literal["running", "failed", "tripped", "absent"]
    detail: str | None
    served: int | None


class AboutConnection(msgspec.Struct, frozen=True):
    """Somebody who is connected, and not in silence. ``since`` is ISO-8601 UTC, ``served`` an offset."""

    key: str
    name: str | None
    direction: Literal["inbound", "outbound"]
    since: str
    served: int


class About(msgspec.Struct, frozen=True):
    """A stream at one moment. Times are ISO-8601 UTC.

    Attributes
    ----------
    created_at, active_at : str or None
        Of its first and newest event; ``None`` where there is none, or nobody told.
    paused : bool or None
        ``None``: this itx does not tell.
    metadata : str or None
        As JSON, because a browser rounds large numbers; ``None``: too large to be told.
    processors, connections : list or None
        ``None``: this itx does not tell. At most :data:`MAX_LISTED` connections, of ``connection_count``.
    """

    count: int
    created_at: str | None
    active_at: str | None
    paused: bool | None
    pause_reason: str | None
    metadata: str | None
    processors: list[AboutProcessor] | None
    connections: list[AboutConnection] | None
    connection_count: int


def describe_state(state: StreamState, *, active_at: str | None) -> About:
    """What the public state alone says, of an itx that tells no more."""
    return About(
        count=state.event_count,
        created_at=None,
        active_at=active_at,
        paused=None,
        pause_reason=None,
        metadata=_bound(state.metadata),
        processors=None,
        connections=None,
        connection_count=0,
    )


def describe_stream(runtime: RuntimeState, *, active_at: str | None, errors: Iterable[StreamEvent] = ()) -> About:
    """What the whole state says, with the `errors` that were found among the newest events."""
    state, open_connections = runtime.core_processor_state, runtime.runtime.connections
    connections = [
        AboutConnection(
            key=key,
            name=_get_name(state.connections_by_key.get(key, {})),
            direction=each.direction,
            since=each.started_at,
            served=each.cursor,
        )
        for key, each in open_connections.items()
    ]
    return About(
        count=state.event_count,
        created_at=None if state.created_at == _UNKNOWN_TIME else state.created_at,
        active_at=active_at,
        paused=state.paused,
        pause_reason=state.pause_reason,
        metadata=_bound(state.metadata),
        processors=_describe_processors(runtime, tuple(errors)),
        connections=connections[:MAX_LISTED],
        connection_count=len(connections),
    )


def get_absent_processors(runtime: RuntimeState) -> dict[str, int]:
    """Processors that were once connected and are not now, with the offset at which they last said who they are."""
    running = _get_running(runtime)
    known = runtime.core_processor_state.processors_by_slug
    return {slug: int(entry["announcedAtOffset"]) for slug, entry in known.items() if slug not in running}


def _describe_processors(runtime: RuntimeState, errors: tuple[StreamEvent, ...]) -> list[AboutProcessor]:
    state, running = runtime.core_processor_state, _get_running(runtime)
    failures = _get_failures(errors, get_absent_processors(runtime))
    announced = {slug: entry["announcement"] for slug, entry in state.processors_by_slug.items()}
    described = []
    for slug in sorted({*announced, *_get_configured(state)}):
        announcement: Mapping[str, Any] = announced.get(slug, {})
        served = running.get(slug)
        status: Literal["running", "failed", "tripped", "absent"] = "absent" if served is None else "running"
        detail = failures.get(slug)
        if detail is not None:
            status = "failed"
        reason = state.pause_reason or ""
        if slug == CircuitBreaker.contract.slug and state.paused and reason.startswith(_TRIPPED):
            status, detail = "tripped", reason
        described.append(
            AboutProcessor(
                slug=slug,
                version=announcement.get("version"),
                description=announcement.get("description") or None,
                state=status,
                detail=detail,
                served=served,
            )
        )
    return described


def _get_running(runtime: RuntimeState) -> dict[str, int]:
    """Slugs of the connected processors, with how far each was served."""
    running: dict[str, int] = {}
    for key, entry in runtime.core_processor_state.connections_by_key.items():
        processor = entry.get("subscriber", {}).get("processor")
        if processor is not None and (connection := runtime.runtime.connections.get(key)) is not None:
            running[processor["slug"]] = connection.cursor
    return running


def _get_configured(state: CoreState) -> set[str]:
    names = (get_configured_processor(entry) for entry in state.subscriptions_by_key.values())
    return {name for name in names if name is not None}


def _get_failures(errors: tuple[StreamEvent, ...], absent: Mapping[str, int]) -> dict[str, str]:
    """Why processors were given up since they were last connected; of several reasons the newest."""
    failures: dict[str, str] = {}
    for event in errors:
        kind, _, rest = (event.idempotency_key or "").partition(":")
        slug = rest.rpartition(":")[0]
        if kind == _FAILED_KEY and event.offset > absent.get(slug, event.offset):
            cause = event.payload.get("error", {}).get("message")
            failures[slug] = event.payload["message"] if cause is None else f"{event.payload['message']}: {cause}"
    return failures


def _get_name(entry: Mapping[str, Any]) -> str | None:
    subscriber = entry.get("subscriber", {})
    name: str | None = subscriber.get("description") or subscriber.get("processor", {}).get("slug")
    return name


def _bound(metadata: dict[str, Any]) -> str | None:
    body = encode_json(metadata)
    return body.decode() if len(body) <= MAX_METADATA_BYTES else None
