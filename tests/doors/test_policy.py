"""Which streams a view may append to, which namespaces it reaches, and what nobody may erase."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment, ServerItx, get_global_itx, get_server_itx
from itx_notebook.doors.policy import AppendPolicy
from itx_notebook.types import ADMIN, Event, Principal
from tests.doors.cases import OTHER_ID, PROJECT_ID, PROJECT_SLUG
from tests.doors.doors import ADMIN_SECRET, open_site
from tests.support import get_async_refusal, get_refusal, let_engine_work


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (AppendPolicy(mode="none"), []),
        (AppendPolicy(), ["/a"]),
        (AppendPolicy(mode="children"), ["/a", "/a/b", "/a/b/c"]),
        (AppendPolicy(mode="any"), ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]),
        (AppendPolicy(mode="pattern", pattern="/a/*"), ["/a/b"]),
        (AppendPolicy(mode="pattern", pattern="/a/**"), ["/a/b", "/a/b/c"]),
        (AppendPolicy(mode="pattern", pattern="/*b"), ["/ab", "/b"]),
        (AppendPolicy(mode="pattern", pattern="**"), ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]),
        (AppendPolicy(mode="pattern", pattern="/a."), []),
    ],
    ids=lambda value: f"{value.mode} {value.pattern}" if isinstance(value, AppendPolicy) else "",
)
def test_policy_allows_what_its_mode_says(policy: AppendPolicy, allowed: list[str]) -> None:
    paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]
    assert [path for path in paths if policy.allows(path, base="/a")] == allowed


def test_children_of_the_root_are_everything() -> None:
    policy = AppendPolicy(mode="children")
    assert all(policy.allows(path, base="/") for path in ("/", "/a", "/a/b"))


async def test_append_to_another_stream_is_refused_unless_the_policy_lets_it(
    deployment: Deployment, itx: ServerItx
) -> None:
    own = itx.streams.get("/a")
    error = await get_async_refusal(own.append(Event(type="x"), stream_path="/b"))
    assert (error.code, error.message) == ("FORBIDDEN", "Stream append policy rejected append to /b.")
    assert error.details == {"path": "/b", "policyMode": "stream"}
    assert (await own.append(Event(type="x"), stream_path="/a")).offset == 3
    below = itx.streams.get("/a", policy=AppendPolicy(mode="children"))
    for given, path in [("b", "/a/b"), ("./c", "/a/c"), (".///d/e", "/a/d/e"), ("/a/f", "/a/f"), (None, "/a")]:
        appended = await below.append_batch([Event(type="x")], stream_path=given)
        assert [(event.stream_path, event.metadata) for event in appended] == [(path, {})]
    for bad in ("../b", "", "  ", "b/", "B"):
        assert (await get_async_refusal(below.append(Event(type="x"), stream_path=bad))).code == "BAD_REQUEST"
    await let_engine_work(deployment)
    assert (await itx.streams.get("/b").get_state(presence=False)).event_count == 0


async def test_create_lets_a_stream_exist_and_gives_its_state(itx: ServerItx) -> None:
    state = await itx.streams.create("agents/a")
    assert (state.path, state.event_count) == ("/agents/a", 2)
    assert (await itx.streams.create("/agents/a")).event_count == 2
    assert (await itx.streams.create()).path == "/"


async def test_namespace_when_out_of_reach_is_not_found_whether_it_is_there_or_not(
    deployment: Deployment, itx: ServerItx
) -> None:
    assert itx.streams.namespace(PROJECT_ID).get("/a").namespace == PROJECT_ID
    for name in (OTHER_ID, "prj_nowhere", "global"):
        error = get_refusal(lambda name=name: itx.streams.namespace(name))  # type: ignore[misc]  # bound for the loop
        assert (error.code, error.message) == ("NOT_FOUND", f'No stream namespace "{name}" for this handle.')


def test_namespace_of_the_whole_deployment_narrows_and_never_widens(deployment: Deployment) -> None:
    everything = get_global_itx(deployment, ADMIN).streams
    narrowed = everything.namespace(OTHER_ID)
    assert narrowed.get("/a").namespace == OTHER_ID
    assert everything.get(f"{OTHER_ID}:/a").namespace == OTHER_ID
    assert get_refusal(lambda: narrowed.get(f"{PROJECT_ID}:/a")).code == "NOT_FOUND"
    assert get_refusal(lambda: narrowed.namespace("global")).code == "NOT_FOUND"
    member = get_global_itx(deployment, Principal.user("u", projects=(PROJECT_ID,))).streams
    assert member.namespace(PROJECT_ID).get("/a").namespace == PROJECT_ID
    for other in (OTHER_ID, "global"):
        assert get_refusal(lambda other=other: member.namespace(other)).code == "NOT_FOUND"  # type: ignore[misc]  # bound


def test_door_gives_the_same_streams_by_either_way(deployment: Deployment) -> None:
    by_project: Any = get_server_itx(deployment, PROJECT_SLUG, ADMIN).streams.get("/a")
    by_namespace: Any = get_global_itx(deployment, ADMIN).streams.namespace(PROJECT_ID).get("/a")
    assert by_project._stream is by_namespace._stream


@pytest.mark.parametrize("path", ["/projects", "/access"])
async def test_facts_of_the_deployment_itself_may_not_be_erased(deployment: Deployment, path: str) -> None:
    await deployment.people.create_user("ada")
    whole = get_global_itx(deployment, ADMIN)
    error = await get_async_refusal(whole.streams.get(path).reset())
    assert (error.code, error.details) == ("FORBIDDEN", {"path": path})
    async with open_site(deployment) as site:
        url = f"{site.server.url}api/streams/{quote(path, safe='')}"
        async with rpc.connect(url, headers={"Authorization": f"Bearer {ADMIN_SECRET}"}) as stream:
            with pytest.raises(rpc.RemoteError, match="may not be reset"):
                await stream.reset()
    assert len(await deployment.engine.stream("global", path).read()) > 0
    # A project's stream of the same name is a stream like others.
    await get_server_itx(deployment, PROJECT_ID, ADMIN).streams.get(path).reset()
