"""What somebody who means harm would try at the door, and what they get: nothing, at a bounded price."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.websocket import dial
from itx_notebook.doors import Deployment
from itx_notebook.doors.engine_rpc import EngineStreamTarget
from itx_notebook.doors.targets import ItxTarget, ProjectsTarget, StreamsTarget, StreamTarget
from itx_notebook.doors.v4 import ProjectTarget, RootTarget, SessionTarget, V4StreamTarget
from itx_notebook.streams.storage import back_up_store
from itx_notebook.types import ADMIN
from tests.capnweb.wires import Recorder
from tests.doors.cases import MEMBER, OTHER_ID, OTHER_SLUG, PROJECT_ID, STRANGER
from tests.doors.doors import ADMIN_SECRET, Site, open_site
from tests.support import open_deployment

MESSAGE_MAX = 64 * 1024


@pytest.fixture
async def site(deployment: Deployment) -> AsyncIterator[Site]:
    limits = rpc.Limits(max_message_bytes=MESSAGE_MAX)
    async with open_site(deployment, options=rpc.Options(limits=limits)) as site:
        yield site


# -- what can be reached -----------------------------------------------------------------------------------------------

STREAM = {"append", "appendBatch", "appendText", "describe", "disableProcessor", "enableProcessor", "getEvent"}
STREAM |= {"getState", "kill", "listChildren", "onStateChange", "read", "reduce", "reset", "runtimeState", "subscribe"}
ENGINE = {"append", "appendBatch", "getEvent", "getEvents", "getProcessorRuntimeState", "kill", "reduce", "reset"}
ENGINE |= {"runtimeState", "subscribe", "waitForEvent"}
V4_STREAM = {"__describe", "append", "at", "getEvent", "getEvents", "readEvents", "runtimeState", "subscribe"}
V4_STREAM |= {"waitForEvent"}


@pytest.mark.parametrize(
    ("target", "members"),
    [
        (ItxTarget, {"describe", "people", "projects", "streams"}),
        (ProjectsTarget, {"create", "get", "list"}),
        (StreamsTarget, {"create", "get", "namespace"}),
        (StreamTarget, STREAM),
        (EngineStreamTarget, ENGINE),
        (RootTarget, {"authenticate"}),
        (SessionTarget, {"__describe", "projects", "streams"}),
        (ProjectTarget, {"__describe", "agents", "capabilityHost", "liveState", "processor", "streams"}),
        (V4StreamTarget, V4_STREAM),
    ],
)
def test_surface_is_exactly_what_is_listed(target: type[rpc.RpcTarget], members: set[str]) -> None:
    # State is read and folded over the wire, never written: a peer that could set it could configure a callable.
    from itx_notebook.capnweb.protocol.targets import _members_of

    assert set(_members_of(target)) == members


async def test_people_are_for_admins_of_the_whole_alone(site: Site) -> None:
    for path, who in (("api/itx", MEMBER), ("api/itx", STRANGER), (f"api/itx/{PROJECT_ID}", ADMIN)):
        async with site.connect(path, who) as itx:
            for call in (itx.people.listUsers(), itx.people.createToken({"userId": "x"})):
                with pytest.raises(rpc.RemoteError, match="may not look after users") as refused:
                    await call
                assert refused.value.props["code"] == "FORBIDDEN"


# -- names and paths ---------------------------------------------------------------------------------------------------

PATHS = ["..", "/..", "/a/../b", "/a//b", "/a/", "/./a", "//", "/%2e%2e", "%2F..%2Fglobal", "/a\0b", "/a\nb", "/A"]
PATHS += ["/a b", "/é", "/a\u202eb", "/" + "a" * 1023, "C:\\x", f"{OTHER_ID}:/a", "global:/access", ":/a", "a:b:/c"]


@pytest.mark.parametrize("path", PATHS)
async def test_path_that_leads_elsewhere_is_refused_everywhere(site: Site, path: str) -> None:
    engine = site.deployment.engine
    before = engine.reader.read_names()
    async with site.connect(f"api/itx/{PROJECT_ID}", MEMBER) as itx, rpc.connect(f"{site.server.url}api") as root:
        session = await root.authenticate({"type": "test", "who": site.name(MEMBER)})
        v4 = session.projects.get(PROJECT_ID).streams
        calls = [
            itx.streams.get(path).getState(),
            itx.streams.create({"streamPath": path}),
            v4.get(path).runtimeState(),
            v4.get("/a").at(path).append({"type": "t", "payload": {}}),
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = {outcome.props["code"] for outcome in outcomes if isinstance(outcome, rpc.RemoteError)}
    assert codes <= {"BAD_REQUEST", "NOT_FOUND"}
    await engine.settle()
    new = {(name.namespace, name.path) for name in engine.reader.read_names()} - {
        (name.namespace, name.path) for name in before
    }
    # A few of these are names of streams once they are read as the grammar says; all of them lie in the own project.
    assert all(namespace == PROJECT_ID for namespace, _ in new)
    assert all(".." not in made and made == made.lower() and "//" not in made for _, made in new)


@pytest.mark.parametrize("name", ["../global", "prj_other:/..", "global", "..%2f", "\0", "x" * 5000, "proj_\u202e"])
async def test_project_name_that_leads_elsewhere_is_not_found(site: Site, name: str) -> None:
    async with site.connect("api/itx", MEMBER) as itx:
        with pytest.raises(rpc.RemoteError) as refused:
            await itx.projects.get(name)
    assert refused.value.props == {"code": "NOT_FOUND", "details": {"projectIdOrSlug": name}}
    with pytest.raises(rpc.HandshakeError, match="404"):
        await rpc.open_session(f"{site.server.url}api/itx/{quote(name, safe='')}", headers={"x-who": site.name(MEMBER)})


# -- no leaks ----------------------------------------------------------------------------------------------------------


async def test_refusal_takes_no_longer_for_what_exists(site: Site) -> None:
    """Missing and forbidden are of one timing class: the same work, so medians within noise of each other."""
    rounds = 200
    async with site.connect("api/itx", STRANGER) as itx:

        async def measure(name: str) -> float:
            began = time.perf_counter()
            with pytest.raises(rpc.RemoteError):
                await itx.projects.get(name)
            return time.perf_counter() - began

        await measure(OTHER_SLUG)
        times: dict[str, list[float]] = {OTHER_SLUG: [], "nope1": []}
        for _ in range(rounds):
            for name, taken in times.items():
                taken.append(await measure(name))
    there, missing = (sorted(taken)[rounds // 2] for taken in times.values())
    assert max(there, missing) < 2 * min(there, missing)


async def test_error_that_leaves_carries_no_stack_path_or_hint(site: Site) -> None:
    async with site.connect(f"api/itx/{PROJECT_ID}", MEMBER) as itx:
        for call in (
            itx.streams.get("/x").append({"type": 1}),
            itx.streams.get("/x").read({"limit": 0}),
            itx.streams.get("/x").getEvent({"offset": 99}),
            itx.projects.create({"slug": "x"}),
        ):
            with pytest.raises(rpc.RemoteError) as refused:
                await call
            error = refused.value
            assert error.stack is None
            assert set(error.props) <= {"code", "details"}
            shown = f"{error} {error.props}"
            assert str(site.deployment.engine.directory) not in shown
            assert ".py" not in shown


async def test_secret_that_was_sent_is_in_no_log_and_no_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "a secret that must not be seen anywhere"
    faces: list[str] = []
    with pytest.raises(rpc.HandshakeError) as refused:
        await rpc.open_session(f"{site.server.url}api/itx?s={secret.replace(' ', '+')}", headers=_bearer(secret))
    faces += [str(refused.value), repr(refused.value), refused.value.body]
    async with rpc.connect(f"{site.server.url}api") as root:
        for given in (
            {"type": "bearer", "token": secret},
            {"type": "admin-secret", "secret": secret},
            {"type": secret},
            {"type": "impersonate", "secret": secret, "token": {}},
        ):
            with pytest.raises(rpc.RemoteError) as answered:
                await root.authenticate(given)
            faces += [str(answered.value), repr(answered.value), str(answered.value.props)]
    assert all(secret not in face for face in [*faces, caplog.text])


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# -- pages of other sites ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["api", "api/itx", "api/streams/%2F"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null", "file://"])
async def test_page_of_another_site_is_refused_whatever_cookie_it_rides_on(site: Site, path: str, origin: str) -> None:
    from itx_notebook.doors.credentials import format_admin_cookie

    cookie = format_admin_cookie(ADMIN_SECRET, is_secure=False).partition(";")[0]
    with pytest.raises(rpc.HandshakeError) as refused:
        await rpc.open_session(f"{site.server.url}{path}", origin=origin, headers={"Cookie": cookie})
    assert refused.value.status == 403


# -- frames ------------------------------------------------------------------------------------------------------------

DEEP = "[" * 600 + "1" + "]" * 600
HOSTILE = [
    ("too large", b'["push",["pipeline",0,["authenticate"],["' + b"x" * MESSAGE_MAX + b'"]]]'),
    ("too deep", f'["push",["pipeline",0,["authenticate"],[{DEEP}]]]'.encode()),
    ("no JSON", b"{"),
    ("no message", b'["shutdown"]'),
    ("not ours", b'["push",["pipeline",77,["x"],[]]]'),
    ("a number", b"1e999"),
]


@pytest.mark.parametrize("frame", [frame for _, frame in HOSTILE], ids=[name for name, _ in HOSTILE])
async def test_frame_that_is_none_ends_the_session_and_no_other(site: Site, frame: bytes) -> None:
    async with site.connect(f"api/itx/{PROJECT_ID}", MEMBER) as neighbour:
        connection = await dial(f"{site.server.url}api")
        recorder = Recorder()
        connection.start(recorder)
        connection.send([frame])
        code, _ = await asyncio.wait_for(recorder.wait_for_loss(), 10)
        assert code != 1000
        assert (await neighbour.describe())["context"] == PROJECT_ID


@pytest.mark.parametrize("name", ["__class__", "_deployment", "constructor", "__proto__", "then", "toString", "dup"])
async def test_member_that_is_not_exposed_is_not_there(site: Site, name: str) -> None:
    async with site.connect("api/itx", ADMIN) as itx:
        for path in ([name], ["projects", name], ["streams", name, "x"]):
            with pytest.raises(rpc.RpcError) as refused:
                await _walk(itx, path)
            assert "object at 0x" not in str(refused.value)


async def _walk(stub: Any, path: list[str]) -> Any:
    for name in path:
        stub = stub[name]
    return await stub()


async def test_session_that_is_not_signed_in_reaches_nothing(site: Site) -> None:
    async with rpc.connect(f"{site.server.url}api") as root:
        for name in ("projects", "streams", "people", "describe", "__describe"):
            with pytest.raises(rpc.RpcError):
                await root[name]()
        with pytest.raises(rpc.RemoteError, match="missing or invalid auth"):
            await root.authenticate({"type": "bearer", "token": "x"}).projects.list()


async def test_new_data_directory_and_its_backup_are_their_users_alone(tmp_path: Path) -> None:
    async with open_deployment(tmp_path / "new") as deployment:
        await deployment.people.create_user("ada")
        await deployment.people.create_token("ada")
        back_up_store(tmp_path / "new", tmp_path / "copy")
        for directory in ("new", "copy"):
            assert (tmp_path / directory).stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "access.key").stat().st_mode & 0o777 == 0o600
    # One that was there is its owner's business.
    (tmp_path / "old").mkdir(mode=0o755)
    async with open_deployment(tmp_path / "old"):
        assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755


async def test_event_that_claims_to_be_of_the_directory_changes_nobody(site: Site) -> None:
    """The directory is a stream of the deployment; a project's stream of the same name is just a stream."""
    async with site.connect(f"api/itx/{PROJECT_ID}", MEMBER) as itx:
        facts = {"userId": "eve", "name": "", "isAdmin": True}
        await itx.streams.get("/access").append({"type": "events.iterate.com/access/user-created", "payload": facts})
        with pytest.raises(rpc.RemoteError, match="No stream namespace"):
            await itx.streams.get("global:/access").append({"type": "t"})
    assert site.deployment.people.get_users() == []
    assert "eve" not in json.dumps([event.payload for event in await _read_access(site.deployment)])


async def _read_access(deployment: Deployment) -> list[Any]:
    return await deployment.engine.stream("global", "/access").read()
