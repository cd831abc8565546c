from __future__ import annotations

from typing import Any

import msgspec

from itx_notebook.streams import CoreState, RuntimeState
from itx_notebook.streams.runtime import ConnectionRuntime, StreamRuntime
from itx_notebook.tree import about
from itx_notebook.tree.about import (
    FAILED,
    AboutConnection,
    AboutProcessor,
    describe_state,
    describe_stream,
    get_absent_processors,
)
from itx_notebook.types import StreamEvent, StreamState

AT = "2026-11-23T12:00:00.000Z"
LATER = "2026-11-23T13:00:00.000Z"


def announce(slug: str, at: int = 3) -> dict[str, Any]:
    """An entry of ``processors_by_slug``."""
    announcement = {"slug": slug, "version": "1", "description": "", "consumes": [], "emits": [], "ownedEvents": []}
    return {"announcedAtOffset": at, "announcement": announcement}


def connect(slug: str | None = None, **subscriber: Any) -> dict[str, Any]:
    """An entry of ``connections_by_key``."""
    if slug is not None:
        subscriber["processor"] = announce(slug)["announcement"]
    return {"direction": "inbound", "connectedAtOffset": 3, "subscriber": subscriber}


def configure(name: str) -> dict[str, Any]:
    """An entry of ``subscriptions_by_key``."""
    target = {"type": "in-process", "processorName": name}
    return {"latestConfiguredEvent": {"payload": {"subscriber": {"type": "callable", "callable": target}}}}


def make_runtime(served: dict[str, int] | None = None, **state: Any) -> RuntimeState:
    """A stream whose open connections have been served up to these offsets."""
    connections = {
        key: ConnectionRuntime(direction="inbound", started_at=LATER, cursor=cursor, batches_sent=1, events_sent=1)
        for key, cursor in (served or {}).items()
    }
    core = CoreState(**{"event_count": 9, "max_offset": 9, "created_at": AT, **state})
    return RuntimeState(core, StreamRuntime(connections))


def fail(slug: str, offset: int, cause: str | None = None) -> StreamEvent:
    """The fact that a processor was given up."""
    payload: dict[str, Any] = {"message": f"{slug} gave up"}
    if cause is not None:
        payload["error"] = {"message": cause}
    key = f"processor-ingest-failed:{slug}:2"
    return StreamEvent(type=FAILED, payload=payload, idempotency_key=key, offset=offset, created_at=AT)


def test_stream_tells_its_age_its_pause_and_its_metadata() -> None:
    runtime = make_runtime(paused=True, pause_reason="stock-taking", metadata={"owner": "ada"})
    told = describe_stream(runtime, active_at=LATER)
    assert (told.count, told.created_at, told.active_at) == (9, AT, LATER)
    assert (told.paused, told.pause_reason, told.metadata) == (True, "stock-taking", '{"owner":"ada"}')
    assert (told.processors, told.connections) == ([], [])


def test_stream_nobody_wrote_to_has_no_age() -> None:
    told = describe_stream(make_runtime(created_at="uninitialized", event_count=0), active_at=None)
    assert (told.count, told.created_at, told.active_at, told.paused) == (0, None, None, False)


def test_who_is_present_is_who_is_connected_now_by_the_name_they_gave() -> None:
    roster = {"a": connect(description="Ada's notebook"), "b": connect("totals"), "gone": connect()}
    told = describe_stream(make_runtime({"a": 5, "b": 9, "c": 1}, connections_by_key=roster), active_at=None)
    assert told.connections == [
        AboutConnection("a", "Ada's notebook", "inbound", LATER, 5),
        AboutConnection("b", "totals", "inbound", LATER, 9),
        AboutConnection("c", None, "inbound", LATER, 1),
    ]


def test_many_connections_are_told_by_their_number() -> None:
    told = describe_stream(make_runtime({f"k{n}": n for n in range(80)}), active_at=None)
    assert told.connections is not None
    assert (len(told.connections), told.connection_count) == (about.MAX_LISTED, 80)


def test_processor_runs_while_it_is_connected_and_is_absent_otherwise() -> None:
    runtime = make_runtime(
        {"processor:totals": 7},
        processors_by_slug={"totals": announce("totals"), "mailer": announce("mailer")},
        connections_by_key={"processor:totals": connect("totals"), "processor:mailer": connect("mailer")},
        subscriptions_by_key={"processor:never": configure("never-seen")},
    )
    assert get_absent_processors(runtime) == {"mailer": 3}
    assert describe_stream(runtime, active_at=None).processors == [
        AboutProcessor("mailer", "1", None, "absent", None, None),
        AboutProcessor("never-seen", None, None, "absent", None, None),
        AboutProcessor("totals", "1", None, "running", None, 7),
    ]


def test_processor_that_was_given_up_has_failed_with_its_newest_reason() -> None:
    known = {"mailer": announce("mailer", at=5)}
    errors = [fail("mailer", 4, "of an earlier life"), fail("mailer", 6), fail("mailer", 8, "no route"), fail("x", 9)]
    runtime = make_runtime(processors_by_slug=known)
    assert describe_stream(runtime, active_at=None, errors=errors).processors == [
        AboutProcessor("mailer", "1", None, "failed", "mailer gave up: no route", None)
    ]
    (told,) = describe_stream(runtime, active_at=None, errors=errors[:1]).processors or []
    assert told.state == "absent", "it was connected again since"


def test_error_of_something_else_is_no_failure_of_a_processor() -> None:
    other = StreamEvent(type=FAILED, payload={"message": "x"}, offset=9, created_at=AT)
    runtime = make_runtime(processors_by_slug={"mailer": announce("mailer")})
    (told,) = describe_stream(runtime, active_at=None, errors=[other]).processors or []
    assert told.state == "absent"


def test_circuit_breaker_that_paused_the_stream_is_tripped() -> None:
    reason = "circuit breaker tripped: burst rate limit exceeded"
    running: dict[str, Any] = {
        "served": {"processor:circuit-breaker": 9},
        "processors_by_slug": {"circuit-breaker": announce("circuit-breaker")},
        "connections_by_key": {"processor:circuit-breaker": connect("circuit-breaker")},
    }
    for paused, why, state, detail in (
        (True, reason, "tripped", reason),
        (True, "stock-taking", "running", None),
        (False, None, "running", None),
    ):
        runtime = make_runtime(**running, paused=paused, pause_reason=why)
        (told,) = describe_stream(runtime, active_at=None).processors or []
        assert (told.state, told.detail) == (state, detail)


def test_large_metadata_is_not_told() -> None:
    runtime = make_runtime(metadata={"text": "x" * about.MAX_METADATA_BYTES})
    assert describe_stream(runtime, active_at=None).metadata is None


def test_itx_that_tells_only_the_public_state_leaves_the_rest_open() -> None:
    state = StreamState(namespace="n", path="/a", event_count=3, child_paths=(), metadata={"a": 1})
    assert msgspec.to_builtins(describe_state(state, active_at=AT)) == {
        "count": 3,
        "created_at": None,
        "active_at": AT,
        "paused": None,
        "pause_reason": None,
        "metadata": '{"a":1}',
        "processors": None,
        "connections": None,
        "connection_count": 0,
    }
