"""Sessions under their grants: what ends them, in both dialects, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment, Directory
from itx_notebook.doors.credentials import Credentials
from itx_notebook.doors.people import People
from itx_notebook.doors.sessions import Sessions
from itx_notebook.doors.websocket import serve_deployment
from itx_notebook.streams import StreamEngine
from itx_notebook.testing.clock import FakeClock
from tests.doors.doors import ADMIN_SECRET, wait_until_empty


class Served:
    """A deployment with the project ``demo``, whose members are Ada and the admin Root, and a clock to move."""

    def __init__(self, deployment: Deployment, server: rpc.Server, sessions: Sessions, clock: FakeClock) -> None:
        self.people = deployment.people
        self.server = server
        self.sessions = sessions
        self.clock = clock

    async def open_june(self, token: str) -> rpc.Session:
        headers = {"Authorization": f"Bearer {token}"}
        session = await rpc.open_session(f"{self.server.url}api/itx/demo", headers=headers)
        await session.main.describe()
        return session

    async def open_v4(self, token: str) -> rpc.Session:
        session = await rpc.open_session(f"{self.server.url}api")
        itx = await session.main.authenticate({"type": "bearer", "token": token})
        await itx["__describe"]()
        return session


@pytest.fixture
async def served(home: Path) -> AsyncIterator[Served]:
    clock = FakeClock()
    engine = StreamEngine.open(home, clock=clock)
    deployment = Deployment(engine, await Directory.open(engine), await People.open(engine))
    demo = await deployment.directory.create("demo")
    await deployment.people.create_user("ada")
    await deployment.people.grant("ada", demo.id)
    await deployment.people.create_user("root", is_admin=True)
    sessions = Sessions(deployment.people, clock)
    credentials = Credentials(deployment.people, admin_secret=ADMIN_SECRET)
    async with serve_deployment(deployment, credentials, sessions=sessions) as server:
        yield Served(deployment, server, sessions, clock)
    await deployment.close()


both_dialects = pytest.mark.parametrize("dialect", ["june", "v4"])


@asynccontextmanager
async def held(served: Served, dialect: str, token: str) -> AsyncIterator[rpc.Session]:
    session = await (served.open_june(token) if dialect == "june" else served.open_v4(token))
    try:
        yield session
    finally:
        await session.close()


async def wait_for_end(session: rpc.Session) -> str:
    async with asyncio.timeout(10):
        await session.wait_closed()
    return str(session.error)


@both_dialects
async def test_session_when_its_token_is_revoked_ends_and_cannot_come_back(served: Served, dialect: str) -> None:
    token, text = await served.people.create_token("ada")
    _, other_text = await served.people.create_token("ada")
    async with held(served, dialect, text) as session, held(served, dialect, other_text) as kept:
        await served.people.revoke_token(token.id)
        assert "missing or invalid auth" in await wait_for_end(session)
        assert kept.error is None
        assert served.sessions.ended == {"token": 1}
    if dialect == "june":
        with pytest.raises(rpc.HandshakeError, match="401"):
            await served.open_june(text)
    else:
        with pytest.raises(rpc.RemoteError, match="missing or invalid auth") as refused:
            await served.open_v4(text)
        assert (refused.value.name, refused.value.props, refused.value.stack) == ("Error", {}, None)


@both_dialects
@pytest.mark.parametrize("what", ["project", "user"])
async def test_session_when_its_user_loses_what_it_holds_ends(served: Served, dialect: str, what: str) -> None:
    _, text = await served.people.create_token("ada")
    async with held(served, dialect, text) as session:
        (project,) = served.people.get_users()[0].projects
        await (served.people.revoke("ada", project) if what == "project" else served.people.remove_user("ada"))
        assert "missing or invalid auth" in await wait_for_end(session)


@both_dialects
async def test_session_when_its_token_expires_ends(served: Served, dialect: str) -> None:
    _, text = await served.people.create_token("ada", expires_in=3 * 86400)
    async with held(served, dialect, text) as session:
        await served.clock.advance(3 * 86400 - 1)
        assert session.error is None
        assert len(served.sessions) == 1
        await served.clock.advance(1)
        assert "missing or invalid auth" in await wait_for_end(session)


@both_dialects
@pytest.mark.parametrize("jump", [7200, -7200])
async def test_session_when_the_clock_is_set_ends_by_the_new_time(served: Served, dialect: str, jump: int) -> None:
    _, text = await served.people.create_token("ada", expires_in=3600)
    async with held(served, dialect, text) as session:
        served.clock._start_ms += jump * 1000
        if jump < 0:
            await served.clock.advance(3600 - jump - 1)
            assert session.error is None
        await served.clock.advance(60)
        assert "missing or invalid auth" in await wait_for_end(session)


async def test_session_when_others_change_stays(served: Served) -> None:
    _, text = await served.people.create_token("ada")
    async with held(served, "june", text) as session:
        await served.people.create_user("eve")
        await served.people.grant("ada", "prj_more")
        await served.people.remove_user("root")
        await served.clock.advance(10 * 86400)
        assert (await session.main.describe())["project"]["slug"] == "demo"


async def test_v4_session_finds_a_project_that_was_granted_meanwhile(served: Served) -> None:
    await served.people.create_user("eve")
    _, text = await served.people.create_token("eve")
    session = await rpc.open_session(f"{served.server.url}api")
    itx = await session.main.authenticate({"type": "bearer", "token": text})
    with pytest.raises(rpc.RemoteError, match="Project demo not found"):
        await itx.projects.get("demo")
    await served.people.grant("eve", served.people.get_users()[0].projects[0])
    assert (await itx.projects.get("demo")["__describe"]())["name"] == "demo"
    await session.close()


async def test_v4_session_whose_token_is_no_more_is_nobodys_before_it_has_ended(served: Served) -> None:
    token, text = await served.people.create_token("ada")
    session = await rpc.open_session(f"{served.server.url}api")
    itx = await session.main.authenticate({"type": "bearer", "token": text})
    # As if it had not been noticed.
    served.sessions.close()
    await served.people.revoke_token(token.id)
    for call in (itx.projects.list(), itx.projects.get("demo"), itx["__describe"]()):
        with pytest.raises(rpc.RemoteError, match="missing or invalid auth"):
            await call
    await session.close()


async def test_v4_socket_that_proves_nothing_in_time_is_closed(served: Served) -> None:
    session = await rpc.open_session(f"{served.server.url}api")
    with pytest.raises(rpc.RemoteError, match="missing or invalid auth"):
        await session.main.authenticate({"type": "bearer", "token": "wrong"})
    await served.clock.advance(15)
    assert "missing or invalid auth" in await wait_for_end(session)
    assert served.sessions.ended == {"nobody": 1}
    _, text = await served.people.create_token("ada")
    async with held(served, "v4", text) as kept:
        await served.clock.advance(60)
        assert kept.error is None


async def test_v4_socket_that_tries_credentials_out_is_closed(served: Served) -> None:
    session = await rpc.open_session(f"{served.server.url}api")
    attempts: list[Any] = []
    while session.error is None and len(attempts) < 100:
        attempts.append(await asyncio.gather(session.main.authenticate({"type": "x"}), return_exceptions=True))
    assert len(attempts) <= 6
    assert "missing or invalid auth" in await wait_for_end(session)


LARGE = {"type": "t", "payload": {"text": "x" * 8_000_000}}


async def test_v4_socket_is_not_read_on_before_it_has_proved_who_it_is(served: Served) -> None:
    _, text = await served.people.create_token("ada")
    session = await rpc.open_session(f"{served.server.url}api")
    too_much = session.main.nothing(LARGE)
    late = asyncio.ensure_future(session.main.authenticate({"type": "bearer", "token": text}))
    async with held(served, "v4", text) as neighbour:
        for _ in range(50):
            await neighbour.main.authenticate({"type": "bearer", "token": text})
    assert not late.done()
    await served.clock.advance(15)
    assert "missing or invalid auth" in await wait_for_end(session)
    for answer in (too_much, late):
        with pytest.raises(rpc.RpcError):
            await answer


async def test_v4_session_may_ask_for_much_before_it_knows_that_it_is_known(served: Served) -> None:
    """Clients do not wait for the answer to ``authenticate``: what they ask for goes out behind it."""
    _, text = await served.people.create_token("ada")
    session = await rpc.open_session(f"{served.server.url}api")
    stream = session.main.authenticate({"type": "bearer", "token": text}).projects.get("demo").streams.get("/a")
    async with asyncio.timeout(20):
        events = await stream.append(LARGE)
        assert await asyncio.gather(*(stream.getEvent({"offset": 3}) for _ in range(3))) == events * 3
    await session.close()


async def test_batch_that_says_in_itself_who_sends_it_is_not_read_without_end(served: Served) -> None:
    url = f"http://127.0.0.1:{served.server.port}/api"
    _, text = await served.people.create_token("ada")

    async def append(size: int) -> Any:
        async with rpc.batch(url) as root:
            project = root.authenticate({"type": "bearer", "token": text}).projects.get("demo")
            return await project.streams.get("/a").append({"type": "t", "payload": {"text": "x" * size}})

    assert (await append(100_000))[0]["offset"] == 3
    with pytest.raises(rpc.RpcError, match="413"):
        await append(2_000_000)


async def test_door_forgets_sessions_that_are_gone(served: Served) -> None:
    _, text = await served.people.create_token("ada", expires_in=3600)
    pending = served.clock.pending
    for _ in range(10):
        async with held(served, "june", text), held(served, "v4", text):
            assert len(served.sessions) >= 2
    await wait_until_empty(served.sessions)
    assert served.clock.pending == pending
    assert served.sessions.opened == {"june": 10, "v4": 10}
    assert served.sessions.count() == {}
