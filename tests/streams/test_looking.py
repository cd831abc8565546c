"""Single events, chosen events, what-ifs and the runtime state: looks that leave no trace."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams import Stream, StreamEngine, core_type
from itx_notebook.streams.core import initial_state
from itx_notebook.testing.clock import FakeClock
from itx_notebook.types import Event
from tests.streams.support import Consumer, short


async def test_event_when_asked_for_by_offset_or_key_is_the_committed_one(stream: Stream) -> None:
    source = {"processor": {"slug": "echo", "version": "1.0.0"}}
    one = await stream.append({"type": "x", "payload": {"n": 1}, "source": source, "idempotencyKey": "k"})
    assert stream.get_event(3) == one
    assert await stream.try_get_event_by_key(" k ") == one
    assert await stream.try_get_event_by_key("never") is None


@pytest.mark.parametrize("offset", [0, 4, -1, 2**40, 10**30])
async def test_event_when_there_is_none_at_the_offset_is_not_found(stream: Stream, offset: int) -> None:
    await stream.append({"type": "x"})
    with pytest.raises(ItxError) as caught:
        stream.get_event(offset)
    assert (caught.value.code, caught.value.message) == ("NOT_FOUND", f"No stream event found at offset {offset}.")


async def test_key_when_the_stream_was_never_touched_is_not_known(stream: Stream) -> None:
    assert await stream.try_get_event_by_key("k") is None
    assert stream.load().event_count == 0


async def test_events_when_limited_or_chosen_are_the_first_that_are_wanted(stream: Stream) -> None:
    await stream.append_batch([{"type": "a" if n % 2 else "b"} for n in range(3, 2_503)])
    assert [event.offset for event in await stream.get_events(after_offset=5, limit=2)] == [6, 7]
    assert short(await stream.get_events(event_types=["a"], limit=3)) == [(3, "a"), (5, "a"), (7, "a")]
    assert len(await stream.get_events(event_types=["a"])) == 1_250
    assert short(await stream.get_events(event_types=["b"], after_offset=2_500)) == [(2_502, "b")]
    assert len(await stream.get_events(event_types=["a", "*"])) == 2_502
    assert await stream.get_events(event_types=[]) == []


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2"])
async def test_limit_when_not_a_positive_integer_is_refused(stream: Stream, limit: Any) -> None:
    with pytest.raises(ItxError, match=r"(?m)^getEvents limit must be a positive integer\.$"):
        await stream.get_events(limit=limit)


async def test_reduce_when_asked_what_if_changes_nothing(stream: Stream) -> None:
    await stream.append({"type": "x"})
    before = stream.load()
    paused = stream.reduce({"type": core_type("paused"), "payload": {"reason": "what if"}})
    assert (paused.paused, paused.pause_reason, paused.max_offset) == (True, "what if", 4)
    again = stream.reduce(Event(type=core_type("resumed")), paused)
    assert (again.paused, again.max_offset) == (False, 5)
    assert stream.load() is before


async def test_reduce_when_given_a_committed_event_checks_no_offset(stream: Stream) -> None:
    given = {"type": core_type("metadata-updated"), "payload": {"metadata": {"a": 1}}, "offset": 70}
    state = stream.reduce({**given, "createdAt": "2026-06-10T09:00:00.000Z"}, initial_state())
    assert (state.metadata, state.max_offset, state.event_count) == ({"a": 1}, 70, 1)
    with pytest.raises(ItxError, match="is not a committed event"):
        stream.reduce({**given, "createdAt": 7})
    with pytest.raises(ItxError, match="payload of"):
        stream.reduce({"type": core_type("metadata-updated"), "payload": {}})


async def test_runtime_state_counts_what_each_connection_was_given(home: Path) -> None:
    clock = FakeClock()
    engine = StreamEngine.open(home, clock=clock)
    stream = engine.stream("p", "/a")
    await stream.append_batch([{"type": "a"}, {"type": "b"}])
    who = {"description": "a test"}
    await stream.subscribe(Consumer(), key="typed", replay_after_offset=0, event_types=["a"], subscriber=who)
    await stream.subscribe(Consumer(), key="state", events=False)
    await stream.subscribe(Consumer(), presence=False)
    await clock.advance(1.25)
    await stream.append({"type": "a"})
    runtime = stream.get_runtime_state()
    assert json.loads(msgspec.json.encode(runtime.runtime)) == {
        "connections": {
            "typed": {
                "direction": "inbound",
                "startedAt": "2026-05-28T20:26:40.000Z",
                "cursor": 7,
                "batchesSent": 2,
                "eventsSent": 2,
                "lastDeliveredAt": "2026-05-28T20:26:41.250Z",
            },
            "state": {
                "direction": "inbound",
                "startedAt": "2026-05-28T20:26:40.000Z",
                "cursor": 7,
                "batchesSent": 2,
                "eventsSent": 0,
                "lastDeliveredAt": "2026-05-28T20:26:41.250Z",
            },
        }
    }
    assert runtime.core_processor_state == stream.load()
    assert set(runtime.runtime.connections) == set(stream.load().connections_by_key)
    assert stream.load().connections_by_key["typed"]["subscriber"] == who
    await engine.close()


async def test_relative_paths_when_appended_to_are_resolved_as_a_file_system_would(stream: Stream) -> None:
    for given, resolved in [
        ("child", "/a/b/child"),
        ("./child", "/a/b/child"),
        ("/abs", "/abs"),
        ("../x", "/a/x"),
        ("../../x/.././y", "/y"),
        (".", "/a/b"),
    ]:
        assert stream.at(given).path == resolved
        assert (await stream.at(given).append({"type": "x"})).stream_path == resolved
    assert stream.at(".") is stream
    with pytest.raises(ItxError, match=r'streamPath "\.\./\.\./\.\." escapes the stream root'):
        stream.at("../../..")


async def test_checkpoint_when_of_another_version_is_folded_anew_and_replaced(home: Path) -> None:
    engine = StreamEngine.open(home)
    await engine.stream("p", "/a").append_batch([{"type": "x"}] * 300)
    before = engine.stream("p", "/a").load()
    await engine.close()
    for spoil in ("checkpoint_version = 3, checkpoint = X'00'", "checkpoint = X'00'"):
        spoil_checkpoint(home, spoil)
        engine = StreamEngine.open(home)
        stream = engine.stream("p", "/a")
        assert stream.load() == before
        await stream.append({"type": "y"})
        before = stream.load()
        assert read_checkpoint(home) == (4, before.max_offset)
        await engine.close()


def spoil_checkpoint(home: Path, what: str) -> None:
    with sqlite3.connect(home / "streams.db") as connection:
        connection.execute(f"UPDATE streams SET {what} WHERE path = '/a'")
    connection.close()


def read_checkpoint(home: Path) -> tuple[int, int]:
    with sqlite3.connect(home / "streams.db") as connection:
        version, state = connection.execute(
            "SELECT checkpoint_version, checkpoint FROM streams WHERE path = '/a'"
        ).fetchone()
    connection.close()
    return version, json.loads(state)["maxOffset"]
