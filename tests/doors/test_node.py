"""The original's client against our doors, in two versions: what it is answered, and every frame that goes to and fro.

The flows are those of June-2026 and of v4. ``tests/capnweb/node/door.mjs`` does what a program of theirs does. The
published ``iterate`` command itself comes in too; ``chat.mjs`` stands for the terminal that it starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment
from tests.capnweb.peers import VERSIONS, find_node
from tests.doors.cases import MEMBER, PROJECT_ID
from tests.doors.doors import ADMIN_SECRET, Site, open_site
from tests.support import open_deployment

_VOLATILE: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{8}-[0-9a-f-]{27}|prj_[0-9a-f]{32}")

JUNE_FRAMES: Final = """
> ["push",["pipeline",0,["projects","get"],["demo"]]]
> ["pull",1]
< ["resolve",1,["export",-1]]
> ["release",1,1]
> ["push",["pipeline",-1,["streams","get"],["/chat"]]]
> ["push",["pipeline",2,["append"],[{"type":"chat.said","payload":{"lines":[["a",[["b"]]]]}}]]]
> ["pull",3]
< ["resolve",3,{"type":"chat.said","payload":{"lines":[["a",[["b"]]]]},"metadata":{},"offset":3,"createdAt":"*","streamPath":"/chat"}]
> ["release",3,1]
> ["push",["pipeline",-1,["streams","get"],["/chat"]]]
> ["push",["pipeline",4,["read"],[{"afterOffset":2,"beforeOffset":"end"}]]]
> ["pull",5]
< ["resolve",5,[[{"type":"chat.said","payload":{"lines":[["a",[["b"]]]]},"metadata":{},"offset":3,"createdAt":"*","streamPath":"/chat"}]]]
> ["release",5,1]
> ["push",["pipeline",-1,["streams","get"],["/chat"]]]
> ["push",["pipeline",6,["getState"],[]]]
> ["pull",7]
< ["resolve",7,{"namespace":"*","path":"/chat","eventCount":3,"childPaths":[[]],"metadata":{}}]
> ["release",7,1]
> ["push",["pipeline",-1,["streams","get"],["/chat"]]]
> ["push",["pipeline",8,["subscribe"],[["export",-1],{"afterOffset":2}]]]
> ["pull",9]
< ["resolve",9,["export",-2]]
> ["release",9,1]
> ["push",["pipeline",-1,["streams","get"],["/chat"]]]
> ["push",["pipeline",10,["append"],[{"type":"chat.more"}]]]
> ["pull",11]
< ["resolve",11,{"type":"chat.more","metadata":{},"offset":5,"createdAt":"*","streamPath":"/chat"}]
> ["release",11,1]
> ["push",["pipeline",-2,["unsubscribe"],[]]]
> ["pull",12]
< ["resolve",12,["undefined"]]
> ["release",12,1]
> ["release",-2,1]
"""  # noqa: E501  # frames are lines

V4_FRAMES: Final = """
> ["push",["pipeline",0,["authenticate"],[{"type":"from-server-cookie"}]]]
> ["pull",1]
< ["reject",1,["error","Error","missing or invalid auth"]]
> ["release",1,1]
> ["push",["pipeline",0,["authenticate"],[{"type":"bearer","token":"SECRET"}]]]
> ["pull",2]
< ["resolve",2,["export",-1]]
> ["release",2,1]
> ["push",["pipeline",-1,["__describe"],[]]]
> ["pull",3]
< ["resolve",3,{"instructions":"Narrow to a project: projects.get(idOrSlug).","children":[["projects","streams"]],"principal":{"type":"admin","userId":null,"isAdmin":false,"projects":[[]]}}]
> ["release",3,1]
> ["push",["pipeline",-1,["projects","list"],[]]]
> ["pull",4]
< ["resolve",4,[[{"id":"*","slug":"demo","deploymentStatus":"ready","organizationId":"org_local","organizationName":"Local","organizationSlug":"local"}]]]
> ["release",4,1]
> ["push",["pipeline",-1,["projects","get"],["demo"]]]
> ["push",["pipeline",5,["streams","get"],["/chat"]]]
> ["push",["pipeline",6,["append"],[{"type":"chat.said","payload":{"lines":[["a",[["b"]]]]}},{"type":"chat.more","payload":{}}]]]
> ["pull",7]
< ["resolve",7,[[{"type":"chat.said","payload":{"lines":[["a",[["b"]]]]},"offset":3,"createdAt":"*","path":"/chat"},{"type":"chat.more","payload":{},"offset":4,"createdAt":"*","path":"/chat"}]]]
> ["release",7,1]
> ["push",["pipeline",6,["getEvents"],[{"afterOffset":2,"limit":500}]]]
> ["pull",8]
"""  # noqa: E501  # frames are lines


@pytest.fixture
async def demo(home: Path) -> AsyncIterator[Deployment]:
    """A deployment with the one project ``demo``."""
    async with open_deployment(home) as deployment:
        await deployment.directory.create("demo")
        yield deployment


async def run_client(deployment: Deployment, version: str, dialect: str) -> dict[str, Any]:
    """What the original's client was answered, and the frames."""
    async with open_site(deployment) as site:
        process = await asyncio.create_subprocess_exec(
            find_node(),
            "door.mjs",
            version,
            site.server.url,
            dialect,
            ADMIN_SECRET,
            cwd="tests/capnweb/node",
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(output)
    return result


def write_down(frames: list[Any], *, without_calls: bool) -> list[str]:
    """Frames as lines, with ``*`` for what no two runs share; without the server's own calls, whose place is free."""
    lines = [f"{way} {json.dumps(frame, separators=(',', ':'))}" for way, frame in frames]
    if without_calls:
        lines = [line for line in lines if not line.startswith(('< ["push"', '< ["release"'))]
    return [_VOLATILE.sub("*", line).replace(ADMIN_SECRET, "SECRET") for line in lines]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("dialect", "wanted"), [("june", JUNE_FRAMES), ("v4", V4_FRAMES)])
async def test_frames_of_the_originals_client_are_those_of_the_original(
    demo: Deployment, version: str, dialect: str, wanted: str
) -> None:
    result = await run_client(demo, version, dialect)
    expected = wanted.strip().splitlines()
    assert write_down(result["frames"], without_calls=True)[: len(expected)] == expected


def coded(message: str, code: str, **details: Any) -> dict[str, Any]:
    """An error as a client has it: the class and the name are lost, the code is not."""
    return {"error": {"name": "Error", "message": message, "code": code, **({"details": details} if details else {})}}


@pytest.mark.parametrize("version", VERSIONS)
async def test_client_of_june_is_answered_right(demo: Deployment, version: str) -> None:
    answers = (await run_client(demo, version, "june"))["answers"]
    project = demo.directory.try_get("demo")
    assert project is not None
    assert [event["type"] for event in answers["first"]["events"]] == [
        "chat.said",
        "events.iterate.com/stream/subscriber-connected",
    ]
    assert (answers["first"]["streamMaxOffset"], answers["first"]["state"]["eventCount"]) == (4, 4)
    assert [event["type"] for event in answers["second"]["events"]] == ["chat.more"]
    assert answers["second"]["streamMaxOffset"] == 5
    assert answers["unsubscribed"] is True
    assert answers["watched"] == {**answers["state"], "eventCount": 7}
    assert [child["path"] for child in answers["children"]] == ["/chat"]
    not_found = coded("Project nope not found.", "NOT_FOUND", projectIdOrSlug="nope")
    assert answers["missing"] == answers["pipelined"] == not_found
    assert answers["badRequest"]["error"]["code"] == "BAD_REQUEST"
    assert answers["foreign"] == coded('No stream namespace "global" for this handle.', "NOT_FOUND", namespace="global")
    assert answers["conflict"] == coded("Project demo exists already.", "CONFLICT", slug="demo", id=project.id)


@pytest.mark.parametrize("version", VERSIONS)
async def test_client_of_v4_is_answered_right(demo: Deployment, version: str) -> None:
    answers = (await run_client(demo, version, "v4"))["answers"]
    assert answers["refused"] == {"error": {"name": "Error", "message": "missing or invalid auth"}}
    assert answers["principal"] == "admin"
    assert [project["slug"] for project in answers["projects"]] == ["demo"]
    assert answers["events"] == answers["append"]
    assert (answers["state"]["coreProcessorState"]["eventCount"], answers["state"]["runtime"]) == (
        4,
        {"connections": {}},
    )
    assert (answers["first"]["events"], answers["first"]["streamMaxOffset"]) == ([], 5)
    assert answers["first"]["state"]["connectionsByKey"] == {
        "k": {"subscriptionType": "ephemeral", "connectedAtOffset": 5}
    }
    assert (answers["key"], answers["ping"], answers["unsubscribed"], answers["pingAfter"]) == ("k", True, True, False)
    assert answers["pages"] == [["chat.said"], ["chat.more"]]
    assert answers["waited"] == {"n": 2}
    assert (answers["at"][0]["path"], answers["missingEvent"], answers["replayed"]) == ("/other", True, [1, 2])
    assert answers["missing"] == coded("Project nope not found.", "NOT_FOUND", projectIdOrSlug="nope")
    assert answers["tooMany"] == coded("getEvents limit must be at most 500.", "BAD_REQUEST")
    assert answers["badPayload"] == coded("Event payload 1 is no object.", "BAD_REQUEST")
    assert answers["configured"] == coded("configured subscriptions require trusted internal auth", "FORBIDDEN")
    # What was let go of, and what was waited for, has left the stream again.
    project = demo.directory.try_get("demo")
    assert project is not None
    assert demo.engine.stream(project.id, "/chat").connections == ()


CHAT: Final = Path("tests/capnweb/node").resolve()


async def chat(site: Site, tmp_path: Path, secrets: dict[str, str], session: dict[str, str] | None) -> tuple[int, str]:
    """Run the published command ``iterate chat``, whose terminal is a program of ours; its exit status and output."""
    config = {
        "osBaseUrl": site.server.http_url,
        **({} if session is None else {"session": session}),
    }
    (tmp_path / "iterate").mkdir()
    (tmp_path / "iterate/config.json").write_text(json.dumps({"configs": {"here": config}}))
    # What the command starts its terminal with.
    bun = tmp_path / "bun"
    bun.write_text(f'#!/bin/sh\nexec "{find_node()}" "{CHAT}/chat.mjs" "$@"\n')
    bun.chmod(0o700)
    process = await asyncio.create_subprocess_exec(
        find_node(),
        CHAT / "node_modules/iterate/bin/iterate.js",
        "chat",
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(tmp_path), "AGENT": "1", **secrets},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("way", ["secret", "token"])
async def test_published_command_line_signs_in_finds_its_project_and_uses_streams(
    demo: Deployment, tmp_path: Path, way: str
) -> None:
    project = demo.directory.try_get("demo")
    assert project is not None
    await demo.people.create_user("ada")
    await demo.people.grant("ada", project.id)
    _, token = await demo.people.create_token("ada")
    async with open_site(demo) as site:
        if way == "secret":
            status, output = await chat(site, tmp_path, {"APP_CONFIG_ADMIN_API_SECRET": ADMIN_SECRET}, None)
        else:
            status, output = await chat(site, tmp_path, {}, {"token": token})
    assert status == 0, output
    answers = json.loads(output)
    assert answers["arguments"]["project-id"] == project.id
    assert answers["principal"] == {"secret": "admin", "token": "user"}[way]
    assert answers["projects"] == [["demo", "ready"]]
    assert answers["texts"] == ["first", "second"]
    assert [offset for offset, _ in answers["seen"]] == list(range(1, len(answers["seen"]) + 1))
    assert [name for _, name in answers["seen"] if name.startswith("chat.")] == ["chat.said", "chat.said", "chat.done"]
    assert answers["waited"] == "chat.done"
    assert answers["count"] >= len(answers["seen"])
    assert answers["streams"] == ["/", "/agents", "/agents/onboarding"]
    # What is not offered is refused by name, and at once.
    reason = "this deployment keeps streams, and runs neither agents nor scripts."
    assert answers["refused"] == [
        ["NOT_FOUND", f'No capability named "{name}": {reason}']
        for name in ("agents", "capabilityHost", "processor", "liveState")
    ]


async def test_published_command_line_with_a_wrong_secret_is_told_so(demo: Deployment, tmp_path: Path) -> None:
    async with open_site(demo) as site:
        status, output = await chat(site, tmp_path, {"APP_CONFIG_ADMIN_API_SECRET": "not the secret of it"}, None)
    assert status == 1
    assert "missing or invalid auth" in output


async def test_member_in_v4_sees_its_own_and_nothing_of_the_deployment(deployment: Deployment) -> None:
    async with open_site(deployment) as site, rpc.connect(f"{site.server.url}api") as root:
        session = await root.authenticate({"type": "test", "who": site.name(MEMBER)})
        assert [project["id"] for project in await session.projects.list()] == [PROJECT_ID]
        assert (await session["__describe"]())["children"] == ["projects"]
        for call, code in (
            (session.projects.list({"scope": "deployment"}), "FORBIDDEN"),
            (session.projects.create({"slug": "mine"}), "FORBIDDEN"),
            (session.streams.get("/projects").getEvents(), "FORBIDDEN"),
            (session.projects.list({"scope": "all"}), "BAD_REQUEST"),
            (session.projects.get("other")["__describe"](), "NOT_FOUND"),
        ):
            with pytest.raises(rpc.RemoteError) as refused:
                await call
            assert refused.value.props["code"] == code
        streams = session.projects.get(PROJECT_ID).streams
        await streams.get("/a/b").append({"type": "t", "payload": {}})
        await deployment.engine.settle()
        assert [stream["path"] for stream in await streams.list()] == ["/", "/a", "/a/b"]


async def test_admin_in_v4_reads_the_deployments_own_streams(deployment: Deployment) -> None:
    async with open_site(deployment) as site, rpc.connect(f"{site.server.url}api") as root:
        session = await root.authenticate({"type": "admin-secret", "secret": ADMIN_SECRET})
        made = await session.projects.create({"slug": "made", "organizationSlug": "local", "projectId": "prj_made"})
        assert (await made["__describe"]())["projectId"] == "prj_made"
        events = await session.streams.get("/projects").getEvents()
        assert events[-1]["payload"] == {"id": "prj_made", "slug": "made"}
        state = await session.streams.get("/projects").runtimeState()
        assert state["coreProcessorState"]["projectId"] is None


async def test_ping_of_a_subscription_whose_stream_was_killed_rejects(deployment: Deployment) -> None:
    async with open_site(deployment) as site, rpc.connect(f"{site.server.url}api") as root:
        session = await root.authenticate({"type": "test", "who": site.name(MEMBER)})
        stream = session.projects.get(PROJECT_ID).streams.get("/x")
        subscription = await stream.subscribe({"processEventBatch": lambda _: None})
        assert await subscription.ping() is True
        await deployment.engine.stream(PROJECT_ID, "/x").kill()
        with pytest.raises(rpc.RemoteError, match="kill requested"):
            await subscription.ping()


async def test_wait_of_a_client_that_is_gone_leaves_the_stream(deployment: Deployment) -> None:
    stream = deployment.engine.stream(PROJECT_ID, "/x")
    left, seen = asyncio.Event(), asyncio.Event()

    def note(batch: Any) -> None:
        for event in batch.events:
            (left if event.type.endswith("disconnected") else seen).set()

    await stream.subscribe(note, presence=False)
    async with open_site(deployment) as site:
        session = await rpc.open_session(f"{site.server.url}api")
        itx = await session.main.authenticate({"type": "test", "who": site.name(MEMBER)})
        target = itx.projects.get(PROJECT_ID).streams.get("/x")
        waiting = asyncio.ensure_future(target.waitForEvent({"eventTypes": ["never"], "timeoutMs": 3_600_000}))
        await asyncio.wait_for(seen.wait(), 10)
        await session.close()
        with pytest.raises(rpc.RpcError):
            await waiting
        await asyncio.wait_for(left.wait(), 10)
