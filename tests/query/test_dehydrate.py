from __future__ import annotations

import json
import logging
from typing import Any

import msgspec
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.query import (
    DehydratedCache,
    DehydratedQuery,
    QueryClient,
    QueryState,
    project_stream_state_query,
)
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from itx_notebook.types import StreamState
from tests.query.source import Source

KEY = ("things", "one")
STATE = StreamState(namespace="prj_1", path="/", event_count=2, child_paths=("/a",), metadata={})


def snapshot(data: Any, at_ms: int, key: tuple[Any, ...] = KEY) -> DehydratedCache:
    query = DehydratedQuery(query_key=key, data=data, data_updated_at_ms=at_ms)
    return DehydratedCache(queries=(query,), dehydrated_at_ms=at_ms)


def carried(payload: DehydratedCache) -> list[Any]:
    return [query.data for query in payload.queries]


def any_of(_key: object, _state: QueryState[Any]) -> bool:
    return True


async def failed(client: QueryClient, *key: str) -> None:
    source = Source(*key)
    client.begin_fetch(source.query, retry=False)
    await source.fail()


# Out


async def test_snapshot_is_camel_case_json_when_encoded(client: QueryClient, clock: FakeClock) -> None:
    definition = project_stream_state_query("prj_1", "/")
    client.set_query_data(definition.query_key, STATE)
    await clock.advance(1)

    assert json.loads(msgspec.json.encode(client.dehydrate())) == {
        "queries": [
            {
                "queryKey": ["itx", "project", "prj_1", "streams", "state", "/"],
                "data": {"namespace": "prj_1", "path": "/", "eventCount": 2, "childPaths": ["/a"], "metadata": {}},
                "dataUpdatedAtMs": clock.now_ms() - 1000,
                "isInvalidated": False,
            }
        ],
        "dehydratedAtMs": clock.now_ms(),
    }


async def test_snapshot_holds_what_succeeded_when_nothing_else_is_said(client: QueryClient) -> None:
    client.set_query_data(("ok",), None)
    client.set_query_data(("stale data, failed refresh",), "old")
    await failed(client, "stale data, failed refresh")
    await failed(client, "errored and empty")
    client.begin_fetch(Source("pending").query)

    assert [query.query_key for query in client.dehydrate().queries] == [("ok",)]


async def test_snapshot_never_holds_the_errored_and_empty_when_all_is_asked_for(
    client: QueryClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.set_query_data(("refresh failed",), "old")
    await failed(client, "refresh failed")
    await failed(client, "errored and empty")
    client.begin_fetch(Source("pending").query)

    payload = client.dehydrate(any_of)

    assert [(query.query_key, query.is_invalidated) for query in payload.queries] == [(("refresh failed",), True)]
    assert caplog.records == []


async def test_snapshot_holds_what_the_predicate_chooses_when_one_is_given(client: QueryClient) -> None:
    client.set_query_data(("a",), 1)
    client.set_query_data(("b",), 2)

    assert carried(client.dehydrate(lambda key, _state: key[0] == "b")) == [2]


async def test_snapshot_leaves_data_out_when_json_cannot_say_it(
    client: QueryClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.set_query_data(("odd",), object())
    client.set_query_data(("ok",), 1)

    with caplog.at_level(logging.WARNING):
        assert carried(client.dehydrate()) == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_snapshot_does_not_change_when_the_cached_value_does(client: QueryClient) -> None:
    rows = [1]
    client.set_query_data(KEY, {"rows": rows})
    payload = client.dehydrate()

    rows.append(2)

    assert carried(payload) == [{"rows": [1]}]


# In


@pytest.mark.parametrize(("age_ms", "expected"), [(-1, "local"), (0, "local"), (1, "saved")])
async def test_hydrating_a_known_key_replaces_it_when_strictly_newer(
    client: QueryClient, age_ms: int, expected: str
) -> None:
    client.set_query_data(KEY, "local", updated_at_ms=1000)

    client.hydrate(snapshot("saved", 1000 + age_ms))

    assert client.get_query_data(KEY) == expected


async def test_hydrating_an_unknown_key_creates_it_idle_when_it_has_data(client: QueryClient) -> None:
    client.hydrate(snapshot(None, 1000))

    state = client.get_query_state(KEY)
    assert state is not None
    assert (state.status, state.fetch_status, state.data, state.data_updated_at_ms) == (
        "success",
        "idle",
        None,
        1000,
    )


async def test_hydrating_keeps_the_local_fetch_when_one_is_under_way(client: QueryClient) -> None:
    source = Source()
    client.begin_fetch(source.query)

    client.hydrate(snapshot("saved", 1000))
    state = client.get_query_state(KEY)
    assert state is not None
    assert (state.status, state.fetch_status, state.data) == ("success", "fetching", "saved")
    await source.succeed("fetched")

    assert client.get_query_data(KEY) == "fetched"


async def test_hydrated_data_keeps_its_age_and_refetches_at_mount_when_stale(
    client: QueryClient, clock: FakeClock
) -> None:
    source = Source(stale_time=10.0)
    client.hydrate(snapshot("saved", clock.now_ms() - 10_000))
    await settle()
    assert source.calls == 0

    observer = client.observe(source.query, lambda _state: None)
    assert (observer.result.data, observer.result.is_fetching) == ("saved", True)
    await source.succeed("new")

    assert (observer.result.data, source.calls) == ("new", 1)


async def test_hydrated_data_is_used_as_it_is_when_still_fresh(client: QueryClient, clock: FakeClock) -> None:
    source = Source(stale_time=10.0)
    client.hydrate(snapshot("saved", clock.now_ms() - 9_999))

    assert (await client.fetch_query(source.query), source.calls) == ("saved", 0)


async def test_hydrating_tells_observers_when_it_brings_something_newer(client: QueryClient) -> None:
    heard: list[Any] = []
    client.set_query_data(KEY, "local", updated_at_ms=1000)
    client.observe(Source().query, lambda state: heard.append(state.data), enabled=False)

    client.hydrate(snapshot("older", 999))
    client.hydrate(snapshot("newer", 1001))

    assert heard == ["newer"]


async def test_a_cache_survives_json_when_dehydrated_and_hydrated(client: QueryClient, clock: FakeClock) -> None:
    definition = project_stream_state_query("prj_1", "/")
    client.set_query_data(definition.query_key, STATE)
    client.set_query_data(("q", {"deep": ["x", 1]}), [1, {"a": None}])
    client.invalidate_queries(("q",))
    text = msgspec.json.encode(client.dehydrate())

    other = QueryClient(clock)
    other.hydrate(json.loads(text))

    assert other.get_query_data(definition.query_key) == STATE
    assert other.get_query_state(("q", {"deep": ["x", 1]})) == client.get_query_state(("q", {"deep": ["x", 1]}))
    await other.close()


async def test_hydrated_entries_go_when_nobody_uses_them(client: QueryClient, clock: FakeClock) -> None:
    client.hydrate(snapshot("saved", 1000))

    await clock.advance(300)

    assert client.get_query_state(KEY) is None


async def test_hydrating_leaves_data_out_when_it_does_not_fit_its_key(
    client: QueryClient, caplog: pytest.LogCaptureFixture
) -> None:
    definition = project_stream_state_query("prj_1", "/")

    with caplog.at_level(logging.WARNING):
        client.hydrate(snapshot({"namespace": 1}, 1000, definition.query_key))

    assert client.get_query_state(definition.query_key) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "payload", [{}, {"queries": [{}], "dehydratedAtMs": 1}, {"queries": [], "dehydratedAtMs": -1}, [], None]
)
async def test_hydrating_refuses_when_the_payload_is_not_a_snapshot(client: QueryClient, payload: Any) -> None:
    with pytest.raises(ItxError, match="not a snapshot") as caught:
        client.hydrate(payload)
    assert caught.value.code == "BAD_REQUEST"
