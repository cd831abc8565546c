"""Every door there is, each as a test enters it: in process, by path, by narrowing over a socket, in v4."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.doors.credentials import Credentials, Grant
from itx_notebook.doors.sessions import Admission, Sessions
from itx_notebook.doors.targets import ItxTarget
from itx_notebook.doors.websocket import door_options, serve_deployment
from itx_notebook.types import Principal

ADMIN_SECRET: Final = "the admin's secret for tests"


class ByName(Credentials):
    """Credentials for tests that know principals: by the header ``x-who``, or by ``authenticate({type: "test"})``."""

    def __init__(self, deployment: Deployment, known: dict[str, Principal]) -> None:
        super().__init__(deployment.people, admin_secret=ADMIN_SECRET)
        self.known = known

    async def identify(self, request: rpc.HandshakeRequest) -> Grant | None:
        who = self.known.get(request.headers.get("x-who", ""))
        return await super().identify(request) if who is None else Grant(principal=who)

    async def authenticate(self, given: object, request: rpc.HandshakeRequest) -> Grant | None:
        if isinstance(given, dict) and given.get("type") == "test":
            who = self.known.get(given["who"])
            return None if who is None else Grant(principal=who)
        return await super().authenticate(given, request)


class Site:
    """A served deployment."""

    def __init__(self, deployment: Deployment, server: rpc.Server, known: dict[str, Principal]) -> None:
        self.deployment = deployment
        self.server = server
        self.known = known

    def name(self, principal: Principal | None) -> str:
        """The name by which the door will know `principal`; empty for nobody."""
        if principal is None:
            return ""
        name = principal.user_id or principal.type
        self.known[name] = principal
        return name

    def connect(self, path: str, principal: Principal | None) -> Any:
        return rpc.connect(f"{self.server.url}{path}", headers={"x-who": self.name(principal)})


@asynccontextmanager
async def open_site(deployment: Deployment, **arguments: Any) -> AsyncIterator[Site]:
    known: dict[str, Principal] = {}
    async with serve_deployment(deployment, ByName(deployment, known), **arguments) as server:
        yield Site(deployment, server, known)


Outcome = tuple[Any, ...]
"""``("in", context, access)``, or everything by which a refusal could be told from another."""

Enter = Callable[[Site, "Principal | None", str], Awaitable[Outcome]]


async def enter_in_process(site: Site, principal: Principal | None, target: str) -> Outcome:
    # Over a pair in memory, so that the refusal is seen as the wire would carry it.
    class Main(rpc.RpcTarget):
        def enter(self) -> ItxTarget:
            return ItxTarget(get_server_itx(site.deployment, target, principal))

    near, _ = rpc.memory_pair(None, Main(), right_options=door_options())
    try:
        return await _describe(near.main.enter())
    finally:
        await near.close()


async def enter_by_narrowing(site: Site, principal: Principal | None, target: str) -> Outcome:
    try:
        async with site.connect("api/itx", principal) as itx:
            return await _describe(itx.projects.get(target))
    except rpc.HandshakeError as error:
        return ("http", error.status, error.body)


async def enter_by_path(site: Site, principal: Principal | None, target: str) -> Outcome:
    try:
        async with site.connect(f"api/itx/{quote(target, safe='')}", principal) as itx:
            return await _describe(itx)
    except rpc.HandshakeError as error:
        return ("http", error.status, error.body)


async def enter_by_v4(site: Site, principal: Principal | None, target: str) -> Outcome:
    async with rpc.connect(f"{site.server.url}api") as root:
        session = root.authenticate({"type": "test", "who": site.name(principal)})
        project = session.projects.get(target)
        try:
            facts = await project["__describe"]()
        except rpc.RemoteError as error:
            return _face(error)
        return ("in", facts["projectId"])


async def _describe(itx: Any) -> Outcome:
    try:
        facts = await itx.describe()
    except rpc.RemoteError as error:
        return _face(error)
    return ("in", facts["context"], tuple(facts["access"]))


def _face(error: rpc.RemoteError) -> Outcome:
    return ("refused", type(error), error.name, str(error), repr(error), error.props, error.stack)


async def wait_until_empty(sessions: Sessions) -> None:
    """Wait until every session has ended."""
    ended = asyncio.Event()
    listener = sessions.on_end

    def note(admission: Admission, seconds: float) -> None:
        if listener is not None:
            listener(admission, seconds)
        ended.set()

    sessions.on_end = note
    async with asyncio.timeout(10):
        while len(sessions):
            ended.clear()
            await ended.wait()
