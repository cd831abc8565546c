"""The core fold: what a stream knows of itself, as a pure function of its events.

``fold(state, event)`` never changes its argument, so the working state of a batch that fails is simply dropped. The
state shares nothing with the events it was folded from, nor with what handles see of it: both are in the hands of
others, who may change them, and a checkpoint would make that last.
Names and shapes are the June-2026 engine's, core-state version 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from itx_notebook.errors import ItxError
from itx_notebook.streams.path import get_child_path
from itx_notebook.types import StreamEvent, StreamState

__all__ = [
    "CORE_STATE_VERSION",
    "CORE_TYPES",
    "PASSES_PAUSE",
    "CoreState",
    "core_type",
    "fold",
    "get_public_state",
    "initial_state",
    "parse_subscriber",
    "without_historical_subscribers",
]

CORE_STATE_VERSION: Final = 4
_PREFIX: Final = "events.iterate.com/stream/"
_UNINITIALIZED: Final = "uninitialized"


def core_type(suffix: str) -> str:
    """The full name of a core event: ``core_type("paused")`` is ``events.iterate.com/stream/paused``."""
    return _PREFIX + suffix


PASSES_PAUSE: Final = frozenset(
    map(core_type, ("resumed", "error-occurred", "woken", "subscriber-connected", "subscriber-disconnected"))
)
"""The types a paused stream still takes."""


class CoreState(msgspec.Struct, frozen=True, rename="camel"):
    """The reduced state of one stream. ``event_count == max_offset``: offsets are dense."""

    namespace: str = _UNINITIALIZED
    path: str = _UNINITIALIZED
    created_at: str = _UNINITIALIZED
    incarnation_id: str = _UNINITIALIZED
    metadata: dict[str, Any] = {}
    config: dict[str, Any] = msgspec.field(default_factory=lambda: {"simulatedStorageSyncDelayMs": 0})
    event_count: int = 0
    max_offset: int = 0
    child_paths: tuple[str, ...] = ()
    paused: bool = False
    pause_reason: str | None = None
    processors_by_slug: dict[str, Any] = {}
    subscriptions_by_key: dict[str, Any] = {}
    connections_by_key: dict[str, Any] = {}


def initial_state() -> CoreState:
    """The state of a stream before its first event."""
    return CoreState()


def get_public_state(state: CoreState, *, namespace: str, path: str) -> StreamState:
    """The projection that handles see. Identity comes from the actor: a stream nobody wrote to has none of its own."""
    return StreamState(
        namespace=namespace,
        path=path,
        event_count=state.event_count,
        child_paths=state.child_paths,
        metadata=deepcopy(state.metadata) if state.metadata else {},
    )


def without_historical_subscribers(state: CoreState) -> CoreState:
    """A loaded state without subscriptions of a form that nobody dials any more; `state` itself if it has none."""
    kept = {
        key: entry
        for key, entry in state.subscriptions_by_key.items()
        if entry["latestConfiguredEvent"]["payload"]["subscriber"].get("type") == "callable"
    }
    if len(kept) == len(state.subscriptions_by_key):
        return state
    return msgspec.structs.replace(state, subscriptions_by_key=kept)


def parse_subscriber(value: object) -> dict[str, Any]:
    """Check who a subscriber says it is, ``{incarnationId?, description?, processor?}``, or raise ``BAD_REQUEST``."""
    try:
        parsed: dict[str, Any] = msgspec.to_builtins(msgspec.convert(value, _Subscriber))
    except msgspec.ValidationError as error:
        raise ItxError(
            f"Subscriber {value!r} is not {{incarnationId?, description?, processor?}}: {error}.", code="BAD_REQUEST"
        ) from None
    return parsed


def fold(state: CoreState, event: StreamEvent) -> CoreState:
    """The state after `event`; raises ``BAD_REQUEST`` if a core event's payload is not of its shape."""
    changes: dict[str, Any] = {}
    if event.type.startswith(_PREFIX):
        step = _STEPS.get(event.type)
        if step is not None:
            parse, apply = step
            changes = apply(state, event, parse(event))
    return msgspec.structs.replace(state, event_count=state.event_count + 1, max_offset=event.offset, **changes)


# -- payloads of the core events -------------------------------------------------------------------------------------

_NonBlank = Annotated[str, msgspec.Meta(pattern=r"\S")]


class _Created(msgspec.Struct):
    namespace: _NonBlank
    path: _NonBlank


class _Woken(msgspec.Struct, rename="camel"):
    incarnation_id: _NonBlank


class _Config(msgspec.Struct, rename="camel"):
    simulated_storage_sync_delay_ms: Annotated[int, msgspec.Meta(ge=0)] | UnsetType | None = UNSET


class _Configured(msgspec.Struct):
    config: _Config


class _MetadataUpdated(msgspec.Struct):
    metadata: dict[str, Any]


class _ChildStreamCreated(msgspec.Struct, rename="camel"):
    child_path: _NonBlank


class _Callable(msgspec.Struct, tag_field="type", tag="callable"):
    callable: dict[str, Any]


class _BuiltIn(msgspec.Struct, tag_field="type", tag="built-in"):
    """How a subscriber was named before there were callables; still taken, never dialed."""


class _ExternalUrl(msgspec.Struct, tag_field="type", tag="external-url"):
    """The other historical form."""


class _SubscriptionConfigured(msgspec.Struct, rename="camel"):
    subscription_key: _NonBlank
    subscriber: _Callable | _BuiltIn | _ExternalUrl


class _SubscriptionRemoved(msgspec.Struct, rename="camel"):
    subscription_key: _NonBlank


class _OwnedEvent(msgspec.Struct):
    type: _NonBlank
    description: str | UnsetType = UNSET


class _Announcement(msgspec.Struct, rename="camel", omit_defaults=True):
    slug: _NonBlank
    version: _NonBlank
    description: str
    consumes: list[str]
    emits: list[str]
    owned_events: list[_OwnedEvent]

    def __post_init__(self) -> None:
        self.slug = self.slug.strip()
        self.version = self.version.strip()
        for event in self.owned_events:
            event.type = event.type.strip()


class _Subscriber(msgspec.Struct, rename="camel", omit_defaults=True):
    incarnation_id: _NonBlank | UnsetType = UNSET
    description: str | UnsetType = UNSET
    processor: dict[str, Any] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.incarnation_id is not UNSET:
            self.incarnation_id = self.incarnation_id.strip()
        if self.processor is not UNSET:
            # Later engines wrap the announcement in an object; both are taken, the bare form is kept.
            bare = self.processor if "slug" in self.processor else self.processor.get("announcement")
            self.processor = msgspec.to_builtins(msgspec.convert(bare, _Announcement))


class _SubscriberConnected(msgspec.Struct, rename="camel"):
    subscription_key: _NonBlank
    direction: Literal["inbound", "outbound"]
    subscriber: _Subscriber | UnsetType = UNSET


class _SubscriberDisconnected(msgspec.Struct, rename="camel"):
    subscription_key: _NonBlank
    reason: Literal["replaced", "unsubscribed", "rpc-broken", "subscription-removed", "delivery-failed", "idle"]


class _ErrorDetail(msgspec.Struct):
    message: _NonBlank
    name: _NonBlank | UnsetType = UNSET
    code: _NonBlank | UnsetType = UNSET
    stack: _NonBlank | UnsetType = UNSET


class _ErrorOccurred(msgspec.Struct):
    message: _NonBlank
    error: _ErrorDetail | UnsetType = UNSET


class _Gate(msgspec.Struct):
    reason: _NonBlank | UnsetType = UNSET


# -- what each of them changes ---------------------------------------------------------------------------------------


def _created(state: CoreState, event: StreamEvent, payload: _Created) -> dict[str, Any]:
    if event.offset != 1:
        raise ItxError(f"{event.type} must be the first event and have offset 1", code="BAD_REQUEST")
    return {"namespace": payload.namespace.strip(), "path": payload.path.strip(), "created_at": event.created_at}


def _woken(state: CoreState, event: StreamEvent, payload: _Woken) -> dict[str, Any]:
    return {"incarnation_id": payload.incarnation_id.strip(), "connections_by_key": {}}


def _configured(state: CoreState, event: StreamEvent, payload: _Configured) -> dict[str, Any]:
    return {"config": {**state.config, **msgspec.to_builtins(payload.config)}}


def _metadata_updated(state: CoreState, event: StreamEvent, payload: _MetadataUpdated) -> dict[str, Any]:
    return {"metadata": deepcopy(payload.metadata)}


def _child_stream_created(state: CoreState, event: StreamEvent, payload: _ChildStreamCreated) -> dict[str, Any]:
    child = get_child_path(state.path, payload.child_path.strip())
    return {} if child is None or child in state.child_paths else {"child_paths": (*state.child_paths, child)}


def _subscription_configured(state: CoreState, event: StreamEvent, payload: _SubscriptionConfigured) -> dict[str, Any]:
    key = payload.subscription_key.strip()
    if not isinstance(payload.subscriber, _Callable):
        return {"subscriptions_by_key": _without(state.subscriptions_by_key, key)}
    kept = {"subscriptionKey": key, "subscriber": deepcopy(event.payload["subscriber"])}
    latest = {"offset": event.offset, "type": event.type, "payload": kept, "createdAt": event.created_at}
    return {"subscriptions_by_key": {**state.subscriptions_by_key, key: {"latestConfiguredEvent": latest}}}


def _subscription_removed(state: CoreState, event: StreamEvent, payload: _SubscriptionRemoved) -> dict[str, Any]:
    return {"subscriptions_by_key": _without(state.subscriptions_by_key, payload.subscription_key.strip())}


def _subscriber_connected(state: CoreState, event: StreamEvent, payload: _SubscriberConnected) -> dict[str, Any]:
    entry: dict[str, Any] = {"direction": payload.direction, "connectedAtOffset": event.offset}
    changes: dict[str, Any] = {}
    if payload.subscriber is not UNSET:
        entry["subscriber"] = msgspec.to_builtins(payload.subscriber)
        if (announcement := entry["subscriber"].get("processor")) is not None:
            known = {"announcedAtOffset": event.offset, "announcement": announcement}
            changes["processors_by_slug"] = {**state.processors_by_slug, announcement["slug"]: known}
    return {**changes, "connections_by_key": {**state.connections_by_key, payload.subscription_key.strip(): entry}}


def _subscriber_disconnected(state: CoreState, event: StreamEvent, payload: _SubscriberDisconnected) -> dict[str, Any]:
    return {"connections_by_key": _without(state.connections_by_key, payload.subscription_key.strip())}


def _error_occurred(state: CoreState, event: StreamEvent, payload: _ErrorOccurred) -> dict[str, Any]:
    return {}


def _paused(state: CoreState, event: StreamEvent, payload: _Gate) -> dict[str, Any]:
    return {"paused": True, "pause_reason": None if payload.reason is UNSET else payload.reason.strip()}


def _resumed(state: CoreState, event: StreamEvent, payload: _Gate) -> dict[str, Any]:
    return {"paused": False, "pause_reason": None}


def _without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: item for name, item in mapping.items() if name != key}


def _step(
    shape: type[Any], apply: Callable[[CoreState, StreamEvent, Any], dict[str, Any]]
) -> tuple[Callable[[StreamEvent], Any], Callable[[CoreState, StreamEvent, Any], dict[str, Any]]]:
    def parse(event: StreamEvent) -> Any:
        payload = {} if event.payload is UNSET else event.payload
        try:
            return msgspec.convert(payload, shape)
        except msgspec.ValidationError as error:
            raise ItxError(
                f"The payload of {event.type} is not of its shape: {error}.",
                code="BAD_REQUEST",
                details={"type": event.type},
                hint="Core events have fixed payloads; use a type of your own for other facts.",
            ) from None

    return parse, apply


_STEPS: Final = {
    core_type("created"): _step(_Created, _created),
    core_type("woken"): _step(_Woken, _woken),
    core_type("configured"): _step(_Configured, _configured),
    core_type("metadata-updated"): _step(_MetadataUpdated, _metadata_updated),
    core_type("child-stream-created"): _step(_ChildStreamCreated, _child_stream_created),
    core_type("subscription-configured"): _step(_SubscriptionConfigured, _subscription_configured),
    core_type("subscription-removed"): _step(_SubscriptionRemoved, _subscription_removed),
    core_type("subscriber-connected"): _step(_SubscriberConnected, _subscriber_connected),
    core_type("subscriber-disconnected"): _step(_SubscriberDisconnected, _subscriber_disconnected),
    core_type("error-occurred"): _step(_ErrorOccurred, _error_occurred),
    core_type("paused"): _step(_Gate, _paused),
    core_type("resumed"): _step(_Gate, _resumed),
}

CORE_TYPES: Final = frozenset(_STEPS)
"""The types that mean something to the stream itself."""
