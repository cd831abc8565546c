"""One loader for each data directory of this process: it opens the embedded engine, gives out views, keeps the cache.

Handles, trees and prefetches of one directory share the loader, and so one engine and one query cache. A loader can be
closed and opened again; what was made from it before (a tree in the notebook) then finds the new engine by itself.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from itx_notebook._clock import SystemClock
from itx_notebook._loop import is_on_io_loop, run_blocking
from itx_notebook.doors import Deployment, ServerItx, get_global_itx, get_server_itx
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.query import QueryClient
from itx_notebook.types import ADMIN, Principal

__all__ = ["Loader", "close_loaders", "get_loader"]

_TAKE_OVER: Final = 2.0
"""Seconds to wait for the owner of the store to go: a restarted kernel begins while the old one ends."""
_TAKE_OVER_POLL: Final = 0.05

_loaders: dict[Path, Loader] = {}


def get_loader(home: Path) -> Loader:
    """The process's loader for a data directory, not necessarily open. On the I/O loop."""
    home = home.resolve()
    loader = _loaders.get(home)
    if loader is None:
        loader = _loaders[home] = Loader(home)
    return loader


class Loader:
    """Access to one data directory, as the process's owner. On the I/O loop.

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
        self._opening: asyncio.Task[Deployment] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the engine runs."""
        return self._deployment is not None

    async def open(self) -> Deployment:
        """Open the engine, or give the one that is open. Concurrent callers share one attempt.

        Raises
        ------
        StoreError
            The store is held by another process (which was given two seconds to go) or cannot be used.
        """
        if self._deployment is not None:
            return self._deployment
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Deployment:
        # Takes its outcome in by itself: everybody who waited may have gone, out of patience.
        try:
            self._deployment = await _open_deployment(self.home)
            return self._deployment
        finally:
            self._opening = None

    async def get_loader_itx(self, project_id_or_slug: str) -> ServerItx:
        """The view of a project, for queries; raises the masked ``NOT_FOUND``, or says that the engine is closed."""
        return get_server_itx(self._get_deployment(), project_id_or_slug, self._principal)

    async def get_global_itx(self) -> ServerItx:
        """The view of the whole store."""
        return get_global_itx(self._get_deployment(), self._principal)

    async def close(self) -> None:
        """Close the engine and free the store for others; :meth:`open` brings it back. Repeating is harmless."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        deployment, self._deployment = self._deployment, None
        if deployment is not None:
            await deployment.close()

    def _get_deployment(self) -> Deployment:
        if self._deployment is None:
            raise ItxError(
                f"The embedded engine of {self.home} is closed.",
                code="INTERNAL",
                details={"home": str(self.home)},
                hint="Connect again: %itx connect, or itx = itx_notebook.connect().",
            )
        return self._deployment


async def _open_deployment(home: Path) -> Deployment:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _TAKE_OVER
    while True:
        try:
            return await Deployment.open(home)
        except StoreError as error:
            if "owner" not in (error.details or {}) or loop.time() >= deadline:
                raise
        await asyncio.sleep(_TAKE_OVER_POLL)


async def close_loaders() -> None:
    """Close every engine of this process."""
    for loader in tuple(_loaders.values()):
        await loader.close()


def _close_at_exit() -> None:
    if not _loaders or is_on_io_loop():
        return
    closing: Coroutine[Any, Any, None] = close_loaders()
    # Whatever fails here, every acknowledged event is on disk already; an exit is no place to complain.
    with contextlib.suppress(Exception):
        run_blocking(closing, timeout=2.0, what="Closing the embedded engine")


def _forget_loaders() -> None:
    """In a forked child: the engines and their locks are the parent's."""
    _loaders.clear()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_loaders)
