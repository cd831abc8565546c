from __future__ import annotations

from typing import Any

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.query import (
    Query,
    QueryClient,
    hash_query_key,
    itx_key,
    parse_itx_data,
    parse_stream_state,
    project_stream_state_query,
)
from itx_notebook.types import StreamState

STATE = StreamState(
    namespace="prj_1", path="/agents", event_count=3, child_paths=("/agents/a",), metadata={"owner": "kit"}
)
REPLY = {
    "namespace": "prj_1",
    "path": "/agents",
    "eventCount": 3,
    "childPaths": ["/agents/a"],
    "metadata": {"owner": "kit"},
}


class Handle:
    """A project handle as far as the query goes: answers one state, and keeps how it was asked."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.asked: list[tuple[str, bool]] = []
        self._path = ""

    @property
    def streams(self) -> Handle:
        return self

    def get(self, path: str) -> Handle:
        self._path = path
        return self

    async def get_state(self, *, presence: bool = True) -> Any:
        self.asked.append((self._path, presence))
        return self.reply


def test_project_keys_are_hierarchical_when_parts_are_added() -> None:
    assert itx_key.project("prj_1") == ("itx", "project", "prj_1")
    assert itx_key.project("prj_1", "streams") == ("itx", "project", "prj_1", "streams")


def test_stream_state_query_has_one_key_and_stale_time_when_defined_twice() -> None:
    one = project_stream_state_query("prj_1", "/agents")
    other = project_stream_state_query(project_id="prj_1", path="/agents")

    assert one.query_key == other.query_key == ("itx", "project", "prj_1", "streams", "state", "/agents")
    assert (one.project, one.stale_time) == ("prj_1", 10.0)
    assert one.query_hash == other.query_hash == hash_query_key(one.query_key)


@pytest.mark.parametrize("reply", [STATE, REPLY])
async def test_stream_state_query_looks_in_silence_when_it_fetches(reply: Any) -> None:
    handle = Handle(reply)

    state = await project_stream_state_query("prj_1", "/agents").query_fn(handle)

    assert (state, handle.asked) == (STATE, [("/agents", False)])


async def test_bound_query_asks_for_its_handle_anew_when_fetched_again(client: QueryClient) -> None:
    asked: list[str] = []

    async def get_itx(project: str) -> Handle:
        asked.append(project)
        return Handle(REPLY)

    definition = project_stream_state_query("prj_1", "/agents")
    query = definition.bind(get_itx)
    await client.fetch_query(query)
    await client.fetch_query(query, stale_time=0.0)

    assert (asked, client.get_query_data(definition.query_key)) == (["prj_1", "prj_1"], STATE)
    assert (query.query_hash, query.stale_time) == (definition.query_hash, 10.0)


def test_a_query_refuses_when_its_key_is_not_json() -> None:
    with pytest.raises(ItxError, match="Query key"):
        Query(query_key=(object(),), query_fn=Handle(None).get_state)


def test_stream_state_is_narrowed_when_a_real_one_has_parts_nobody_knows() -> None:
    reply = {
        **REPLY,
        "projectId": "prj_1",
        "processors": {"legacy": {"subscriber": {"kind": "legacy-do-binding", "binding": "AGENT"}}},
    }

    assert parse_stream_state(reply) == STATE


@pytest.mark.parametrize(
    "reply", [None, "state", {}, {**REPLY, "eventCount": "3"}, {**REPLY, "childPaths": None}, [REPLY]]
)
def test_stream_state_is_refused_when_navigation_could_not_use_it(reply: Any) -> None:
    with pytest.raises(ItxError, match="not a stream state") as caught:
        parse_stream_state(reply)
    assert caught.value.code == "INTERNAL"


def test_saved_data_gets_its_type_back_when_the_key_is_known() -> None:
    assert parse_itx_data(itx_key.project("prj_1", "streams", "state", "/agents"), REPLY) == STATE
    assert parse_itx_data(itx_key.project("prj_1", "streams", "list"), REPLY) is REPLY
    assert parse_itx_data(("other",), REPLY) is REPLY
