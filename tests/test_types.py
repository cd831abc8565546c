"""The values: their names on the wire, what is absent, and that nobody changes them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from itx_notebook.types import (
    ADMIN,
    UNSET,
    Event,
    Principal,
    Project,
    ProjectList,
    StreamChild,
    StreamEvent,
    StreamEventBatch,
    StreamState,
    absent_to_none,
)

NOW = "2026-06-10T09:00:00.000Z"
EVENT = StreamEvent(type="x", payload={"n": 1}, idempotency_key="k", offset=3, created_at=NOW, stream_path="/a")
STATE = StreamState(namespace="prj_1", path="/a", event_count=3, child_paths=("/a/b",), metadata={})
PROJECT = Project(id="prj_1", slug="one", created_at=NOW, updated_at=NOW)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (
            EVENT,
            {
                "type": "x",
                "payload": {"n": 1},
                "idempotencyKey": "k",
                "offset": 3,
                "createdAt": NOW,
                "streamPath": "/a",
            },
        ),
        (StreamEvent(type="x", payload=None, offset=1, created_at=NOW), '{"type":"x","payload":null,"offset":1,'),
        (Event(type="x", idempotency_key="k"), {"type": "x", "idempotencyKey": "k"}),
        (
            STATE,
            {"namespace": "prj_1", "path": "/a", "eventCount": 3, "childPaths": ["/a/b"], "metadata": {}},
        ),
        (StreamChild(path="/a", created_at=None), {"path": "/a", "createdAt": None}),
        (
            ProjectList(projects=(PROJECT,), total=1),
            {"projects": [{"id": "prj_1", "slug": "one", "createdAt": NOW, "updatedAt": NOW}], "total": 1},
        ),
    ],
)
def test_value_when_written_has_the_wires_names_and_no_absent_fields(value: Any, wire: Any) -> None:
    written = msgspec.json.encode(value)
    if isinstance(wire, str):
        assert written.decode().startswith(wire)
    else:
        assert msgspec.json.decode(written) == wire
    assert msgspec.json.decode(written, type=type(value)) == value


def test_batch_when_written_and_read_is_the_same() -> None:
    batch = StreamEventBatch(events=(EVENT,), state=STATE, stream_max_offset=3)
    written = msgspec.json.encode(batch)
    assert set(msgspec.json.decode(written)) == {"events", "state", "streamMaxOffset"}
    assert msgspec.json.decode(written, type=StreamEventBatch) == batch


def test_envelope_when_it_has_another_field_is_refused_and_a_stored_event_is_not() -> None:
    with pytest.raises(msgspec.ValidationError, match="createdAt"):
        msgspec.convert({"type": "x", "createdAt": NOW}, Event)
    stored = msgspec.convert({"type": "x", "offset": 1, "createdAt": NOW, "later": 1}, StreamEvent)
    assert stored == StreamEvent(type="x", offset=1, created_at=NOW)


@pytest.mark.parametrize("value", [EVENT, STATE, PROJECT, ADMIN, Event(type="x")])
def test_value_when_somebody_sets_a_field_refuses(value: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(value, value.__struct_fields__[0], "y")


def test_absent_when_asked_is_falsy_and_becomes_none_in_tables() -> None:
    event = Event(type="x")
    assert not event.payload
    assert event.payload is UNSET
    values: list[Any] = [UNSET, None, 0, "", {}]
    assert [absent_to_none(value) for value in values] == [None, None, 0, "", {}]


def test_principal_when_made_is_an_admin_or_a_user_with_projects() -> None:
    user = Principal.user("usr_1", projects=("prj_1",))
    assert user == Principal(type="user", user_id="usr_1", projects=("prj_1",))
    assert (ADMIN.type, ADMIN.user_id, ADMIN.projects) == ("admin", None, ())
    assert Principal.user("usr_2", is_admin=True).is_admin
