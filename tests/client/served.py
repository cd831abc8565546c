"""An itx that is served from this process's own I/O loop, on a port of loopback: for tests that block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from itx_notebook import capnweb as rpc
from itx_notebook._loop import run_blocking
from itx_notebook.doors import Deployment
from itx_notebook.doors.websocket import serve_deployment
from itx_notebook.types import ADMIN, Principal, Project

ADMIN_TOKEN = "itx_admin"


class ByToken:
    """Knows its callers by their token, and counts how often each was tried."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {ADMIN_TOKEN: ADMIN}
        self.asked: list[str] = []

    async def identify(self, request: rpc.HandshakeRequest) -> Principal | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append(token)
        return self.known.get(token)


class Served:
    """A deployment with its door. Its engine stays while the door is shut and opened again."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.people = ByToken()
        self.port = 0
        self._stack = AsyncExitStack()
        self._server: rpc.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def create(self, slug: str, *tokens: str) -> Project:
        """Make a project, and members of it."""
        project: Project = run_blocking(self.deployment.directory.create(slug))
        for token in tokens:
            self.people.known[token] = Principal.user(token, projects=(project.id,))
        return project

    def append(self, project: Project, path: str, *types: str) -> None:
        """Append behind the door."""
        from itx_notebook.doors import get_server_itx
        from itx_notebook.types import Event

        async def append() -> None:
            stream = get_server_itx(self.deployment, project.id, ADMIN).streams.get(path)
            await stream.append_batch([Event(type=each) for each in types])
            await self.deployment.engine.settle()

        run_blocking(append())

    def start(self, **options: Any) -> None:
        """Open the door, on the port where it was before."""

        async def start() -> None:
            self._server = await self._stack.enter_async_context(
                serve_deployment(self.deployment, self.people, port=self.port, drain_timeout=0.1, **options)
            )
            self.port = self._server.port or 0

        run_blocking(start())

    def stop(self) -> None:
        """Shut the door."""
        run_blocking(self._stack.aclose(), timeout=20)

    def cut(self) -> None:
        """End every session; whoever comes again is let in."""

        async def cut() -> None:
            for session in self._server.sessions:
                session.abort(rpc.RpcError("cut"))

        run_blocking(cut())


@contextmanager
def serve_here(home: Path) -> Iterator[Served]:
    """Serve a new store."""
    deployment: Deployment = run_blocking(Deployment.open(home))
    served = Served(deployment)
    served.start()
    try:
        yield served
    finally:
        served.stop()
        run_blocking(deployment.close())
