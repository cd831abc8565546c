from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams.event import commit_event, parse_event, read_events
from itx_notebook.types import UNSET, Event


def commit(event: dict[str, Any]) -> tuple[Any, Any]:
    committed, body = commit_event(
        parse_event(event), offset=3, created_at="2026-06-10T09:00:00.000Z", stream_path="/a"
    )
    return committed, json.loads(body)


def test_body_when_stored_has_the_wire_names_in_order_and_no_absent_fields() -> None:
    _, body = commit({"type": "x", "payload": {"n": 1}, "idempotencyKey": " k ", "metadata": {}})
    assert list(body.items()) == [
        ("type", "x"),
        ("payload", {"n": 1}),
        ("metadata", {}),
        ("idempotencyKey", "k"),
        ("offset", 3),
        ("createdAt", "2026-06-10T09:00:00.000Z"),
    ]


def test_payload_when_null_differs_from_absent() -> None:
    null, body = commit({"type": "x", "payload": None})
    absent, _ = commit({"type": "x"})
    assert (null.payload, absent.payload) == (None, UNSET)
    assert "payload" in body


def test_event_when_committed_is_what_a_read_gives_and_shares_nothing_with_the_caller() -> None:
    payload = {"at": datetime(2026, 6, 10, tzinfo=UTC), "n": np.int64(3), "pair": (1, 2)}
    committed, _ = commit({"type": "x", "payload": payload})
    payload["n"] = 4
    assert committed.payload == {"at": "2026-06-10T00:00:00Z", "n": 3, "pair": [1, 2]}


def test_source_when_well_formed_is_kept() -> None:
    source = {"processor": {"slug": "s", "version": "1"}}
    committed, _ = commit({"type": "x", "source": source})
    assert committed.source == source


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"type": "x", "createdAt": "now"}, "unknown field 'createdAt'"),
        ({"type": "x", "streamPath": "/a"}, "unknown field 'streamPath'"),
        ({"payload": 1}, 'has no "type"'),
        ({"type": 3}, "type 3 is not a string"),
        ({"type": "x", "metadata": []}, "metadata"),
        ({"type": "x", "idempotencyKey": "  "}, "idempotencyKey '  '"),
        ({"type": "x", "offset": -1}, "offset -1"),
        ({"type": "x", "offset": True}, "offset True"),
        ({"type": "x", "source": {"processor": {"slug": "s"}}}, "source"),
        ({"type": "x", "source": {"other": 1}}, "source"),
        ({"type": "x", "payload": {"a": [1, math.nan]}}, r"payload\.a\[1\] is nan"),
        ({"type": "x", "payload": np.float64("inf")}, "payload is inf"),
        ({"type": "x", "payload": {1: 2}}, "key 1, which is not a string"),
        ({"type": "x", "payload": b"x"}, "not a JSON value"),
        ({"type": "x", "payload": {"s": {1}}}, r"payload\.s is \{1\} \(set\)"),
        ({"type": "x", "payload": 2**64}, "outside 64 bits"),
        ({"type": "x", "payload": "\ud800"}, "half a surrogate pair"),
        ("x", "neither an Event nor a dict"),
    ],
)
def test_envelope_when_malformed_is_refused_with_field_and_value(event: Any, message: str) -> None:
    with pytest.raises(ItxError, match=message) as caught:
        parse_event(event)
    assert caught.value.code == "BAD_REQUEST"


def test_payload_when_it_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ItxError, match="contains itself"):
        parse_event({"type": "x", "payload": loop})


def test_event_when_already_checked_is_taken_as_it_is() -> None:
    event = Event(type="x", payload={"n": 1})
    assert parse_event(event) is event


def test_bodies_when_read_together_are_events_with_their_path() -> None:
    bodies = [commit_event(Event(type="x"), offset=n, created_at="t", stream_path="/a")[1] for n in (1, 2)]
    assert [(event.offset, event.stream_path) for event in read_events(bodies, "/b")] == [(1, "/b"), (2, "/b")]
