"""One loader for each data directory of this process: it finds the engine, gives out views of it, keeps the cache.

Handles, trees and prefetches of one directory share the loader, and so one engine and one query cache. A loader can be
closed and opened again; what was made from it before (a tree in the notebook) then finds the new engine by itself.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
from collections.abc import Callable, Coroutine, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from itx_notebook._clock import SystemClock
from itx_notebook._loop import is_on_io_loop, run_blocking
from itx_notebook.client.link import Link, get_link
from itx_notebook.doors import Deployment, ServerItx, get_global_itx, get_server_itx
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.query import QueryClient
from itx_notebook.types import ADMIN, Principal, Project

if TYPE_CHECKING:
    from itx_notebook import capnweb as rpc
    from itx_notebook.client.connection import Connection, Dial
    from itx_notebook.client.destination import Destination
    from itx_notebook.client.local_door import LocalDoor
    from itx_notebook.client.remote import RemoteItx
    from itx_notebook.client.remote_loader import RemoteLoader

__all__ = ["Loader", "close_loaders", "get_loader", "get_remote_loader"]

_TAKE_OVER: Final = 2.0
"""Seconds to wait for the owner of the store to go: a restarted kernel begins while the old one ends."""
_TAKE_OVER_POLL: Final = 0.05
_LAST_DELAY: Final = 0.4
"""Seconds between two looks whether the owner is back, or gone, at the most."""

View: TypeAlias = "ServerItx | RemoteItx"
"""What answers a handle: the engine here, or another process."""

_loaders: dict[Path, Loader] = {}
_remote_loaders: dict[tuple[str, Hashable], RemoteLoader] = {}


def get_loader(home: Path) -> Loader:
    """The process's loader for a data directory, not necessarily open. On the I/O loop."""
    home = home.resolve()
    loader = _loaders.get(home)
    if loader is None:
        loader = _loaders[home] = Loader(home)
    return loader


def get_remote_loader(destination: Destination) -> RemoteLoader:
    """The process's loader for a deployment and an identity, not necessarily open. On the I/O loop."""
    from itx_notebook.client.remote_loader import RemoteLoader

    key = (destination.url, destination.identity)
    loader = _remote_loaders.get(key)
    if loader is None:
        loader = _remote_loaders[key] = RemoteLoader(destination)
    return loader


class Loader:
    """Access to one data directory. On the I/O loop.

    One process owns a store. The loader of the first is its **owner**: the engine runs here, and a private door is
    open for others. Every later one is a **guest**, which goes through that door, and becomes the owner when the owner
    goes, however it goes. What was made from the loader before works on.

    Attributes
    ----------
    home : Path
        The data directory.
    queries : QueryClient
        The cache that everything of this directory shares.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.queries = QueryClient(SystemClock())
        self._principal: Principal = ADMIN
        self._deployment: Deployment | None = None
        self._door: LocalDoor | None = None
        self._connection: Connection | None = None
        self._projects: dict[str, tuple[Project, str | None]] = {}
        self._opening: asyncio.Task[None] | None = None
        self._owner_pid: int | None = None
        self._listeners: dict[object, Callable[[], object]] = {}

    @property
    def is_open(self) -> bool:
        """Whether the store can be reached: the engine runs here, or another process lets this one in."""
        return self._deployment is not None or self._connection is not None

    @property
    def is_owner(self) -> bool:
        """Whether the engine runs in this process."""
        return self._deployment is not None

    @property
    def deployment(self) -> Deployment | None:
        """What the owner has open; ``None`` for a guest."""
        return self._deployment

    @property
    def connection(self) -> Connection | None:
        """A guest's way to the owner; stays with a guest that has become the owner."""
        return self._connection

    @property
    def location(self) -> str:
        """The data directory, for people."""
        return str(self.home)

    @property
    def link(self) -> Link:
        """How the way to the engine stands: live for the owner, a guest's connection else."""
        return Link("live") if self._deployment is not None else get_link(self._connection)

    def subscribe_link(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` whenever :attr:`link` has changed; returns the function that ends it."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def _tell(self, _status: object = None) -> None:
        for listener in tuple(self._listeners.values()):
            listener()

    def __str__(self) -> str:
        if self._deployment is None and self._owner_pid is not None:
            return f"engine of process {self._owner_pid} in {self.home}"
        return f"embedded engine in {self.home}"

    async def open(self) -> None:
        """Open the engine, or the way to the process that has it. Concurrent callers share one attempt.

        Raises
        ------
        StoreError
            The store cannot be used, or its owner lets nobody in and did not go within two seconds.
        """
        if self.is_open:
            if self._connection is not None and self._connection.status == "refused":
                # A store that could not be taken over: the disk was full, perhaps.
                self._connection.reconnect()
                await self._connection.ready(_TAKE_OVER)
            return
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        # Takes its outcome in by itself: everybody who waited may have gone, out of patience.
        try:
            await self._own_or_visit()
        finally:
            self._opening = None

    async def _own_or_visit(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TAKE_OVER
        while True:
            try:
                await self._own()
            except StoreError as error:
                if not self._note_owner(error):
                    raise
                if await self._visit():
                    return
                if loop.time() >= deadline:
                    raise
            else:
                return
            await asyncio.sleep(_TAKE_OVER_POLL)

    async def _own(self) -> Deployment:
        """Take the store, if it is free, and let others in."""
        # Here and below: what speaks over a wire is dear to import, and `import itx_notebook` opens none.
        from itx_notebook.client.local_door import LocalDoor

        deployment = await Deployment.open(self.home)
        try:
            self._door = await LocalDoor.open(deployment, self.home)
        except BaseException:
            await deployment.close()
            raise
        self._deployment, self._owner_pid = deployment, None
        self._tell()
        return deployment

    async def _visit(self) -> bool:
        """Go through the owner's door, if there is one."""
        from itx_notebook.client.connection import Connection
        from itx_notebook.client.local_door import dial_local_door

        try:
            session = await dial_local_door(self.home)
        except OSError:
            return False
        self._connection = Connection(
            _Reuse(session, self._dial),
            location=str(self.home),
            clock=self.queries.clock,
            first_delay=_TAKE_OVER_POLL,
            last_delay=_LAST_DELAY,
        )
        self._connection.subscribe_status(self._tell)
        await self._connection.ready()
        return True

    async def _dial(self, _: bool) -> rpc.Session:  # noqa: FBT001  # whether credentials were refused: there are none
        """Go to the owner; or, if there is none any more, become it, and go to oneself."""
        from itx_notebook import capnweb as rpc
        from itx_notebook.client.local_door import dial_local_door
        from itx_notebook.doors.targets import ItxTarget
        from itx_notebook.doors.websocket import door_options

        try:
            deployment = self._deployment or await self._own()
        except StoreError as error:
            if not self._note_owner(error):
                raise
            return await dial_local_door(self.home)
        main = ItxTarget(get_global_itx(deployment, self._principal))
        near, _far = rpc.memory_pair(None, main, right_options=door_options())
        return near

    async def get_loader_itx(self, project_id_or_slug: str) -> View:
        """The view of a project, for queries; raises the masked ``NOT_FOUND``, or says that the engine is closed."""
        if self._deployment is not None:
            return get_server_itx(self._deployment, project_id_or_slug, self._principal)
        from itx_notebook.client.remote import RemoteItx

        connection = self._get_connection()
        known = self._projects.get(project_id_or_slug)
        if known is None:
            view = await RemoteItx(connection).projects.get(project_id_or_slug)
            if view.project is None:
                return view
            known = self._projects[project_id_or_slug] = view.project, view.context
        return RemoteItx(connection, *known)

    async def get_global_itx(self) -> View:
        """The view of the whole store."""
        if self._deployment is not None:
            return get_global_itx(self._deployment, self._principal)
        from itx_notebook.client.remote import RemoteItx

        return RemoteItx(self._get_connection())

    async def close(self) -> None:
        """Close the engine and free the store for others; :meth:`open` brings it back. Repeating is harmless."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        connection, self._connection = self._connection, None
        door, self._door = self._door, None
        deployment, self._deployment = self._deployment, None
        self._tell()
        if connection is not None:
            await connection.close()
        if door is not None:
            await door.close()
        if deployment is not None:
            await deployment.close()

    def _note_owner(self, error: StoreError) -> bool:
        """Whether another process has the store, rather than something being wrong with it; and which one."""
        details = error.details or {}
        if "owner" not in details:
            return False
        facts = details["owner"]
        self._owner_pid = facts.get("pid") if isinstance(facts, dict) else None
        return True

    def _get_connection(self) -> Connection:
        if self._connection is None:
            raise ItxError(
                f"The embedded engine of {self.home} is closed.",
                code="INTERNAL",
                details={"home": str(self.home)},
                hint="Connect again: %itx connect, or itx = itx_notebook.connect().",
            )
        return self._connection


class _Reuse:
    """Gives the session out that there is already; dials when that is spent."""

    def __init__(self, session: rpc.Session, dial: Dial) -> None:
        self._session: rpc.Session | None = session
        self._dial = dial

    async def __call__(self, are_refused: bool) -> rpc.Session:  # noqa: FBT001  # as every dial is called
        session, self._session = self._session, None
        return session if session is not None and session.error is None else await self._dial(are_refused)


async def close_loaders() -> None:
    """Close every engine of this process, and every connection to one elsewhere."""
    for remote in tuple(_remote_loaders.values()):
        await remote.close()
    for loader in tuple(_loaders.values()):
        await loader.close()


def _close_at_exit() -> None:
    if not (_loaders or _remote_loaders) or is_on_io_loop():
        return
    closing: Coroutine[Any, Any, None] = close_loaders()
    # Whatever fails here, every acknowledged event is on disk already; an exit is no place to complain.
    with contextlib.suppress(Exception):
        run_blocking(closing, timeout=2.0, what="Closing the embedded engine")


def _forget_loaders() -> None:
    """In a forked child: the engines and their locks are the parent's."""
    _loaders.clear()
    _remote_loaders.clear()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_loaders)
