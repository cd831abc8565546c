from __future__ import annotations

from typing import Any

import msgspec
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams.core import (
    CoreState,
    core_type,
    fold,
    get_public_state,
    initial_state,
    without_historical_subscribers,
)
from itx_notebook.types import UNSET, StreamEvent

NOW = "2026-06-10T09:00:00.000Z"
ANNOUNCEMENT = {
    "slug": "echo",
    "version": "1",
    "description": "",
    "consumes": ["*"],
    "emits": [],
    "ownedEvents": [{"type": "echo.said"}],
}
CALLABLE = {"type": "callable", "callable": {"type": "in-process", "processorName": "echo"}}
HISTORICAL = [
    {"type": "built-in", "transport": "workers-rpc", "processorSlug": "echo"},
    {"type": "external-url", "transport": "capnweb-websocket", "url": "wss://example.org", "headers": {}},
]


def fold_all(*events: tuple[str, Any]) -> CoreState:
    state = initial_state()
    for offset, (suffix, payload) in enumerate(events, 1):
        state = fold(state, StreamEvent(type=core_type(suffix), payload=payload, offset=offset, created_at=NOW))
    return state


def created(path: str) -> tuple[str, Any]:
    return "created", {"namespace": "prj_1", "path": path}


def test_state_when_initial_has_the_shape_of_version_4() -> None:
    assert msgspec.to_builtins(initial_state()) == {
        "namespace": "uninitialized",
        "path": "uninitialized",
        "createdAt": "uninitialized",
        "incarnationId": "uninitialized",
        "metadata": {},
        "config": {"simulatedStorageSyncDelayMs": 0},
        "eventCount": 0,
        "maxOffset": 0,
        "childPaths": (),
        "paused": False,
        "pauseReason": None,
        "processorsBySlug": {},
        "subscriptionsByKey": {},
        "connectionsByKey": {},
    }


def test_created_when_not_first_is_refused() -> None:
    with pytest.raises(ItxError, match=r"(?m)created must be the first event and have offset 1$"):
        fold_all(created("/a"), created("/a"))


def test_metadata_when_updated_is_replaced_not_merged() -> None:
    state = fold_all(
        created("/a"), ("metadata-updated", {"metadata": {"a": 1}}), ("metadata-updated", {"metadata": {"b": 2}})
    )
    assert (state.metadata, state.event_count, state.max_offset) == ({"b": 2}, 3, 3)


@pytest.mark.parametrize(
    ("path", "announced", "children"),
    [
        ("/", ["/a/b/c", "/a", "/d"], ("/a", "/d")),
        ("/a", ["/a/b/c"], ("/a/b",)),
        ("/a", ["/a", "/b", "/ab/c"], ()),
    ],
)
def test_children_when_announced_are_immediate_and_in_order_of_arrival(
    path: str, announced: list[str], children: tuple[str, ...]
) -> None:
    state = fold_all(created(path), *(("child-stream-created", {"childPath": child}) for child in announced))
    assert (state.child_paths, state.event_count) == (children, 1 + len(announced))


def test_roster_when_the_stream_wakes_is_emptied() -> None:
    connected = ("subscriber-connected", {"subscriptionKey": "k", "direction": "inbound"})
    before = fold_all(created("/a"), connected)
    after = fold_all(created("/a"), connected, ("woken", {"incarnationId": "i"}))
    assert before.connections_by_key == {"k": {"direction": "inbound", "connectedAtOffset": 2}}
    assert (after.connections_by_key, after.incarnation_id) == ({}, "i")


def test_roster_when_a_subscriber_leaves_forgets_it_and_keeps_its_processor() -> None:
    state = fold_all(
        created("/a"),
        (
            "subscriber-connected",
            {"subscriptionKey": "k", "direction": "outbound", "subscriber": {"processor": ANNOUNCEMENT}},
        ),
        ("subscriber-disconnected", {"subscriptionKey": "k", "reason": "idle"}),
    )
    assert state.connections_by_key == {}
    assert state.processors_by_slug == {"echo": {"announcedAtOffset": 2, "announcement": ANNOUNCEMENT}}


def test_gate_when_paused_and_resumed_keeps_the_reason_meanwhile() -> None:
    paused = fold_all(created("/a"), ("paused", {"reason": " too fast "}))
    resumed = fold_all(created("/a"), ("paused", {}), ("resumed", UNSET))
    assert (paused.paused, paused.pause_reason) == (True, "too fast")
    assert (resumed.paused, resumed.pause_reason) == (False, None)


def test_subscription_when_configured_and_removed_keeps_the_latest() -> None:
    configured = ("subscription-configured", {"subscriptionKey": " k ", "subscriber": CALLABLE})
    state = fold_all(created("/a"), configured, configured)
    assert state.subscriptions_by_key == {
        "k": {
            "latestConfiguredEvent": {
                "offset": 3,
                "type": core_type("subscription-configured"),
                "payload": {"subscriptionKey": "k", "subscriber": CALLABLE},
                "createdAt": NOW,
            }
        }
    }
    assert (
        fold_all(created("/a"), configured, ("subscription-removed", {"subscriptionKey": "k"})).subscriptions_by_key
        == {}
    )


@pytest.mark.parametrize("subscriber", HISTORICAL, ids=lambda subscriber: subscriber["type"])
def test_subscription_when_configured_in_a_historical_form_is_forgotten(subscriber: dict[str, Any]) -> None:
    configured = ("subscription-configured", {"subscriptionKey": "k", "subscriber": CALLABLE})
    historical = ("subscription-configured", {"subscriptionKey": "k", "subscriber": subscriber})
    state = fold_all(created("/a"), configured, historical)
    assert (state.subscriptions_by_key, state.event_count) == ({}, 3)


def test_loaded_state_when_it_knows_historical_subscribers_drops_them_alone() -> None:
    configured = ("subscription-configured", {"subscriptionKey": "k", "subscriber": CALLABLE})
    state = fold_all(created("/a"), configured)
    old = {"latestConfiguredEvent": {"payload": {"subscriber": HISTORICAL[0]}}}
    loaded = msgspec.structs.replace(state, subscriptions_by_key={**state.subscriptions_by_key, "old": old})
    assert without_historical_subscribers(loaded) == state
    assert without_historical_subscribers(state) is state


def test_announcement_when_wrapped_or_padded_is_kept_bare_and_trimmed() -> None:
    padded = {**ANNOUNCEMENT, "slug": " echo ", "ownedEvents": [{"type": " echo.said ", "extra": 1}], "extra": 1}
    subscriber = {"incarnationId": " i ", "processor": {"announcement": padded}, "extra": 1}
    connected = {"subscriptionKey": "k", "direction": "outbound", "subscriber": subscriber}
    state = fold_all(created("/a"), ("subscriber-connected", connected))
    assert state.processors_by_slug == {"echo": {"announcedAtOffset": 2, "announcement": ANNOUNCEMENT}}
    assert state.connections_by_key["k"]["subscriber"] == {"incarnationId": "i", "processor": ANNOUNCEMENT}


def test_config_when_configured_is_merged() -> None:
    state = fold_all(
        created("/a"), ("configured", {"config": {"simulatedStorageSyncDelayMs": 5}}), ("configured", {"config": {}})
    )
    assert state.config == {"simulatedStorageSyncDelayMs": 5}


@pytest.mark.parametrize(
    ("suffix", "payload"),
    [
        ("created", {"namespace": " ", "path": "/a"}),
        ("woken", {}),
        ("metadata-updated", {"metadata": []}),
        ("child-stream-created", {"childPath": ""}),
        ("subscriber-connected", {"subscriptionKey": "k", "direction": "sideways"}),
        ("subscriber-disconnected", {"subscriptionKey": "k", "reason": "bored"}),
        ("subscriber-connected", {"subscriptionKey": "k", "direction": "inbound", "subscriber": {"processor": {}}}),
        ("subscription-configured", {"subscriptionKey": "k", "subscriber": {"type": "carrier-pigeon"}}),
        ("subscription-configured", {"subscriptionKey": "k", "subscriber": {"type": "callable"}}),
        ("error-occurred", {"message": ""}),
        ("paused", {"reason": ""}),
        ("configured", {"config": {"simulatedStorageSyncDelayMs": -1}}),
    ],
)
def test_core_payload_when_not_of_its_shape_is_refused(suffix: str, payload: Any) -> None:
    with pytest.raises(ItxError, match=f"payload of {core_type(suffix)}"):
        fold_all((suffix, payload))


def test_fold_when_it_steps_leaves_the_old_state_alone() -> None:
    before = fold_all(created("/"))
    after = fold(
        before,
        StreamEvent(type=core_type("child-stream-created"), payload={"childPath": "/a"}, offset=2, created_at=NOW),
    )
    assert (before.child_paths, before.event_count) == ((), 1)
    assert (after.child_paths, after.event_count) == (("/a",), 2)


def test_state_when_its_event_or_its_projection_is_changed_stays_as_it_was() -> None:
    payload = {"metadata": {"tags": ["a"]}}
    configured = {"subscriptionKey": "k", "subscriber": dict(CALLABLE)}
    state = fold_all(created("/a"), ("metadata-updated", payload), ("subscription-configured", configured))
    public = get_public_state(state, namespace="prj_1", path="/a")
    payload["metadata"]["tags"].append("b")
    configured["subscriber"] = {}
    public.metadata["tags"].append("c")
    assert state.metadata == {"tags": ["a"]}
    assert state.subscriptions_by_key["k"]["latestConfiguredEvent"]["payload"]["subscriber"] == CALLABLE


def test_unknown_core_payload_fields_when_present_are_tolerated() -> None:
    assert fold_all(("created", {"namespace": "n", "path": "/a", "extra": 1})).path == "/a"
