from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from itx_notebook.client.loader import Loader
from itx_notebook.handle.surface import StreamSurface
from itx_notebook.query import QueryClient
from itx_notebook.streams import Stream
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from itx_notebook.tree import LiveTree, Snapshot
from itx_notebook.tree.live import FRAME
from itx_notebook.types import Event, Project
from tests.support import open_owned
from tests.tree.applier import apply_patch


class View:
    """What a browser would have: the first snapshot with every patch applied to it."""

    def __init__(self, tree: LiveTree, clock: FakeClock) -> None:
        self.tree = tree
        self.patches: list[dict[str, Any]] = []
        self.times: list[float] = []
        self._clock = clock
        self.state: dict[str, Any] = copy.deepcopy(as_json(tree.get_snapshot()))
        tree.subscribe(self._take)

    def _take(self, seq: int, patch: dict[str, Any]) -> None:
        self.patches.append(msgspec.json.decode(msgspec.json.encode(patch)))
        self.times.append(self._clock.monotonic())
        self.state = apply_patch(self.state, seq, self.patches[-1])

    def clear(self) -> None:
        self.patches.clear()
        self.times.clear()

    def check(self) -> None:
        """The view agrees with the kernel in everything but the time it was taken."""
        now = as_json(self.tree.get_snapshot())
        assert {**self.state, "taken_at": 0} == {**now, "taken_at": 0}


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(snapshot))
    return decoded


class World:
    """A project on a real engine, on this test's loop; the trees' time stands still until it is moved."""

    def __init__(self, loader: Loader, clock: FakeClock, project: Project) -> None:
        self.loader = loader
        self.clock = clock
        self.project = project
        self._trees: list[LiveTree] = []

    async def get_stream(self, path: str) -> StreamSurface:
        return (await self.loader.get_loader_itx(self.project.id)).streams.get(path)

    async def get_actor(self, path: str) -> Stream:
        return (await open_owned(self.loader)).engine.stream(self.project.id, path)

    async def append(self, path: str, count: int = 1) -> None:
        stream = await self.get_stream(path)
        await stream.append_batch([Event(type="demo.n", payload=n) for n in range(count)])
        await self.settle()

    async def settle(self) -> None:
        await (await open_owned(self.loader)).engine.settle()
        await settle()

    async def pass_frames(self, count: int = 2) -> None:
        for _ in range(count):
            await self.clock.advance(FRAME)

    def make_tree(self, **options: Any) -> LiveTree:
        tree = LiveTree(self.project, queries=self.loader.queries, get_itx=self.loader.get_loader_itx, **options)
        self._trees.append(tree)
        return tree

    async def open_view(self, **options: Any) -> View:
        """A tree that has painted and follows, with nothing left to tell."""
        tree = self.make_tree(**options)
        await tree.prefetch()
        view = View(tree, self.clock)
        tree.open()
        await self.settle()
        await self.pass_frames()
        view.clear()
        return view

    async def get_count(self, path: str) -> int:
        return (await (await self.get_stream(path)).get_state(presence=False)).event_count

    def close(self) -> None:
        for tree in self._trees:
            tree.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def world(home: Path, clock: FakeClock) -> AsyncIterator[World]:
    """Streams ``/``, ``/agents``, ``/agents/a``, ``/agents/b``, ``/orders``."""
    loader = Loader(home)
    loader.queries = QueryClient(clock)
    deployment = await open_owned(loader)
    world = World(loader, clock, await deployment.directory.create("demo"))
    for path in ("/agents/a", "/agents/b", "/orders"):
        await world.append(path)
    yield world
    world.close()
    await loader.close()
    await settle()
    await loader.queries.close()
