"""The WebSocket door, in the June-2026 dialect, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment
from itx_notebook.doors.websocket import serve_deployment
from itx_notebook.types import ADMIN, Principal


class ByHeader:
    """Knows its callers by a header, as a test may."""

    def __init__(self, known: Mapping[str, Principal]) -> None:
        self.known = known

    async def identify(self, request: rpc.HandshakeRequest) -> Principal | None:
        return self.known.get(request.headers.get("x-who", ""))


class Fixture:
    """A served deployment with the project ``demo``, and somebody of each kind."""

    def __init__(self, deployment: Deployment, server: rpc.Server) -> None:
        self.deployment = deployment
        self.server = server

    def connect(self, path: str = "api/itx", *, who: str = "admin") -> Any:
        return rpc.connect(f"{self.server.url}{path}", headers={"x-who": who})


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Fixture]:
    deployment = await Deployment.open(tmp_path)
    project = await deployment.directory.create("demo")
    known = {
        "admin": ADMIN,
        "member": Principal.user("user_member", projects=(project.id,)),
        "stranger": Principal.user("user_stranger"),
    }
    async with serve_deployment(deployment, ByHeader(known)) as server:
        yield Fixture(deployment, server)
    await deployment.close()


async def test_a_project_is_reached_by_slug_and_by_id(door: Fixture) -> None:
    async with door.connect(who="member") as itx:
        by_slug = await itx.projects.get("demo")
        description = await by_slug.describe()
        by_id = await itx.projects.get(description["project"]["id"])
        assert await by_id.describe() == description
        assert description["context"] == description["project"]["id"]


async def test_the_path_may_name_the_project(door: Fixture) -> None:
    async with door.connect("api/itx/demo", who="member") as itx:
        assert (await itx.describe())["project"]["slug"] == "demo"


@pytest.mark.parametrize("project", ["demo", "no-such-project"])
async def test_foreign_and_missing_projects_are_refused_alike(door: Fixture, project: str) -> None:
    with pytest.raises(rpc.HandshakeError) as refused:
        async with door.connect(f"api/itx/{project}", who="stranger"):
            pass
    assert refused.value.status == 404
    assert refused.value.body == '{"code": "NOT_FOUND", "error": "Context not found"}'
    async with door.connect(who="stranger") as itx:
        with pytest.raises(rpc.RemoteError) as masked:
            await itx.projects.get(project)
    assert str(masked.value) == f"Project {project} not found."
    assert masked.value.props == {"code": "NOT_FOUND", "details": {"projectIdOrSlug": project}}
    assert masked.value.stack is None


async def test_nobody_is_401_and_an_unknown_path_404(door: Fixture) -> None:
    with pytest.raises(rpc.HandshakeError) as nobody:
        async with door.connect(who=""):
            pass
    assert (nobody.value.status, nobody.value.body) == (401, "Unauthorized")
    with pytest.raises(rpc.HandshakeError) as elsewhere:
        async with door.connect("api/other"):
            pass
    assert elsewhere.value.status == 404


async def test_append_read_state_and_children_speak_the_originals_names(door: Fixture) -> None:
    async with door.connect("api/itx/demo") as itx:
        stream = itx.streams.get("/chat/room")
        event = await stream.append({"type": "said", "payload": {"lines": ["a", ["b"]]}, "idempotencyKey": "k"})
        assert event == {
            "type": "said",
            "payload": {"lines": ["a", ["b"]]},
            "metadata": {},
            "idempotencyKey": "k",
            "offset": 3,
            "createdAt": event["createdAt"],
            "streamPath": "/chat/room",
        }
        assert await stream.appendBatch([]) == []
        assert (await stream.read({"afterOffset": 2}))[0] == event
        assert await stream.read({"afterOffset": "end"}) == []
        state = await stream.getState()
        assert (state["path"], state["eventCount"], state["childPaths"]) == ("/chat/room", 3, [])
        assert await stream.getEvent({"idempotencyKey": "k"}) == event
        assert await stream.getEvent({"idempotencyKey": "other"}) is None


async def test_a_subscription_replays_then_follows_until_it_is_ended(door: Fixture) -> None:
    async with door.connect("api/itx/demo") as itx:
        stream = itx.streams.get("/live")
        await stream.append({"type": "before"})
        batches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        subscription = await stream.subscribe(batches.put_nowait, {"afterOffset": 2})
        first = await batches.get()
        assert first["events"][0]["type"] == "before"
        await stream.append({"type": "after"})
        later = await batches.get()
        assert [event["type"] for event in later["events"]] == ["after"]
        assert later["state"]["eventCount"] == later["streamMaxOffset"]
        await subscription.unsubscribe()
        assert await subscription.ping() is False
        await stream.append({"type": "unheard"})
        assert batches.empty()


async def test_a_subscriber_whose_socket_dies_is_dropped(door: Fixture) -> None:
    async with door.connect("api/itx/demo") as watcher:
        seen: asyncio.Queue[str] = asyncio.Queue()

        def note(batch: dict[str, Any]) -> None:
            for event in batch["events"]:
                seen.put_nowait(event["type"].rpartition("/")[2])

        await watcher.streams.get("/live").subscribe(note, {"afterOffset": "end", "presence": False})
        async with door.connect("api/itx/demo") as itx:
            await itx.streams.get("/live").subscribe(lambda _: None, {"afterOffset": "end"})
        kinds = [await seen.get()]
        while kinds[-1] != "subscriber-disconnected":
            kinds.append(await seen.get())
        assert kinds == ["created", "woken", "subscriber-connected", "subscriber-disconnected"]


async def test_bad_input_names_the_member_and_its_remedy(door: Fixture) -> None:
    async with door.connect("api/itx/demo") as itx:
        stream = itx.streams.get("/x")
        for call, text in (
            (stream.append({"tpe": 1}), "unknown field 'tpe'"),
            (stream.read({"from": 1}), "read has no option 'from'; there are afterOffset"),
            (stream.read({"limit": "many"}), "read: limit 'many' is of the wrong kind"),
            (stream.appendBatch({"type": "t"}), "appendBatch takes a list of events"),
            (stream.subscribe(None), "A subscription needs a function to call"),
            (itx.projects.create({}), "projects.create needs a slug"),
        ):
            with pytest.raises(rpc.RemoteError, match=text) as refused:
                await call
            assert refused.value.props["code"] == "BAD_REQUEST"


async def test_handles_of_a_session_are_given_back_with_it(door: Fixture) -> None:
    async with door.connect("api/itx/demo") as itx:
        for number in range(50):
            await itx.streams.get("/x").append({"type": "t", "payload": number})
        session = rpc.session_of(itx)
        assert session is not None
        # Releases go out with the next message, and arrive before its answer leaves.
        await itx.describe()
        await itx.describe()
        (served,) = door.server.sessions
        assert session.stats() == rpc.Stats(imports=1, exports=1)
        assert served.stats().exports <= 2
