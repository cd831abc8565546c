"""What one append means, decided without a store."""

from __future__ import annotations

from typing import Any

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams import core_type
from itx_notebook.streams.core import CoreState, initial_state
from itx_notebook.streams.event import parse_event
from itx_notebook.streams.plan import Plan, plan_append
from itx_notebook.testing import FakeClock
from itx_notebook.types import StreamEvent

PAUSED: dict[str, Any] = {"type": core_type("paused"), "payload": {"reason": "too fast"}}
RESUMED: dict[str, Any] = {"type": core_type("resumed")}
KNOWN = StreamEvent(type="first", payload=1, idempotency_key="known", offset=1, created_at="t", stream_path="/a")


def plan(state: CoreState, *events: dict[str, Any], known: dict[str, StreamEvent] | None = None) -> Plan:
    return plan_append(
        state,
        [parse_event(event) for event in events],
        stream_path="/a",
        try_find=(known or {}).get,
        clock=FakeClock(1_781_082_000_000),
    )


def refuse(state: CoreState, *events: dict[str, Any]) -> ItxError:
    with pytest.raises(ItxError) as caught:
        plan(state, *events, known={"known": KNOWN})
    return caught.value


def test_plan_when_made_stamps_offset_and_time_and_folds() -> None:
    made = plan(initial_state(), {"type": "a"}, {"type": "b", "idempotencyKey": "k"})
    assert [(event.offset, event.type, event.created_at, event.stream_path) for event in made.committed] == [
        (1, "a", "2026-06-10T09:00:00.000Z", "/a"),
        (2, "b", "2026-06-10T09:00:00.000Z", "/a"),
    ]
    assert made.results == made.committed
    assert [(row.offset, row.type, row.idempotency_key) for row in made.rows] == [(1, "a", None), (2, "b", "k")]
    assert (made.state.event_count, made.state.max_offset) == (2, 2)
    assert made.keys == {"k": made.committed[1]}


def test_plan_when_keys_repeat_is_aligned_with_the_input() -> None:
    made = plan(
        initial_state(),
        {"type": "new", "idempotencyKey": "k"},
        {"type": "again", "idempotencyKey": "known"},
        {"type": "other", "payload": 2, "idempotencyKey": "k"},
        {"type": "last"},
        known={"known": KNOWN},
    )
    new, last = made.committed
    assert made.results == [new, KNOWN, new, last]
    assert [event.offset for event in made.committed] == [1, 2]


def test_plan_when_all_are_repeats_commits_nothing_and_keeps_the_very_state() -> None:
    state = initial_state()
    made = plan(state, {"type": "x", "idempotencyKey": "known", "offset": 1}, known={"known": KNOWN})
    assert (made.results, made.committed, made.rows) == ([KNOWN], [], [])
    assert made.state is state


def test_key_when_repeated_is_looked_at_before_the_gate_and_the_offset() -> None:
    paused = plan(initial_state(), PAUSED).state
    assert plan(paused, {"type": "x", "idempotencyKey": "known"}, known={"known": KNOWN}).results == [KNOWN]
    error = refuse(paused, {"type": "x", "idempotencyKey": "known", "offset": 2})
    assert (str(error), error.code, error.details) == (
        "idempotency hit at offset 1, got 2",
        "INTERNAL",
        {"existing": 1, "given": 2},
    )


def test_precondition_when_it_names_another_offset_is_refused_and_inside_a_batch_counts_on() -> None:
    error = refuse(initial_state(), {"type": "a"}, {"type": "b", "offset": 1})
    assert (str(error), error.code, error.details) == (
        "expected offset 2, got 1",
        "INTERNAL",
        {"expected": 2, "given": 1},
    )
    assert [
        e.offset for e in plan(initial_state(), {"type": "a", "offset": 1}, {"type": "b", "offset": 2}).committed
    ] == [
        1,
        2,
    ]
    assert str(refuse(initial_state(), {"type": "a", "offset": 0})) == "expected offset 1, got 0"


@pytest.mark.parametrize(
    "suffix", ["paused", "configured", "metadata-updated", "child-stream-created", "subscription-configured"]
)
def test_gate_when_paused_refuses_these_core_events_as_any_other(suffix: str) -> None:
    error = refuse(plan(initial_state(), PAUSED).state, {"type": core_type(suffix), "payload": {}})
    assert (str(error), error.code) == ("stream paused: too fast", "INTERNAL")
    assert error.details == {"path": "/a", "pauseReason": "too fast"}


@pytest.mark.parametrize(
    ("suffix", "payload"),
    [
        ("resumed", {}),
        ("error-occurred", {"message": "m"}),
        ("woken", {"incarnationId": "i"}),
        ("subscriber-connected", {"subscriptionKey": "k", "direction": "inbound"}),
        ("subscriber-disconnected", {"subscriptionKey": "k", "reason": "idle"}),
    ],
)
def test_gate_when_paused_lets_these_pass(suffix: str, payload: dict[str, Any]) -> None:
    paused = plan(initial_state(), PAUSED).state
    assert plan(paused, {"type": core_type(suffix), "payload": payload}).state.max_offset == 2


def test_gate_when_it_changes_inside_a_batch_holds_from_there_on() -> None:
    assert str(refuse(initial_state(), PAUSED, {"type": "x"})) == "stream paused: too fast"
    assert plan(plan(initial_state(), PAUSED).state, RESUMED, {"type": "x"}).state.max_offset == 3
    reasonless = plan(initial_state(), {"type": core_type("paused")}).state
    assert str(refuse(reasonless, {"type": "x"})) == "stream paused: unknown reason"


def test_plan_when_it_is_refused_leaves_the_state_it_began_from() -> None:
    state = plan(initial_state(), {"type": "a"}).state
    refuse(state, {"type": "b"}, {"type": core_type("metadata-updated"), "payload": {"metadata": 1}})
    assert (state.event_count, state.metadata) == (1, {})
