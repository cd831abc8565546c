"""A deployment that is elsewhere, and a connection to it that a test can do anything to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from itx_notebook.client.connection import Connection
from itx_notebook.client.remote import RemoteItx
from itx_notebook.doors import Deployment, get_global_itx
from itx_notebook.doors.targets import ItxTarget
from itx_notebook.testing.clock import FakeClock
from itx_notebook.types import ADMIN, StreamEvent, StreamEventBatch
from tests.client.place import Place
from tests.support import open_deployment


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def deployment(home: Path) -> AsyncIterator[Deployment]:
    async with open_deployment(home) as deployment:
        await deployment.directory.create("demo")
        yield deployment


@pytest.fixture
async def place(deployment: Deployment) -> AsyncIterator[Place]:
    place = Place(lambda: ItxTarget(get_global_itx(deployment, ADMIN)))
    yield place
    await place.close()


@pytest.fixture
async def connection(place: Place, clock: FakeClock) -> AsyncIterator[Connection]:
    connection = place.connect(clock)
    yield connection
    await connection.close()


@pytest.fixture
async def itx(connection: Connection) -> RemoteItx:
    """The project ``demo``, over the connection."""
    return await RemoteItx(connection).projects.get("demo")


class Seen:
    """A consumer that remembers. Slow while ``gate`` is not set."""

    def __init__(self) -> None:
        self.batches: list[StreamEventBatch] = []
        self.events: list[StreamEvent] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Event()

    def __call__(self, batch: StreamEventBatch) -> Awaitable[object] | None:
        self.batches.append(batch)
        self.events += batch.events
        self._changed.set()
        return None if self.gate.is_set() else self.gate.wait()

    @property
    def offsets(self) -> list[int]:
        return [event.offset for event in self.events]

    async def until_offset(self, offset: int) -> None:
        """Wait until an event with this offset or a later one has come."""
        while not self.events or self.events[-1].offset < offset:
            await self._change()

    async def until_type(self, event_type: str, count: int = 1) -> None:
        """Wait until so many events of a type have come."""
        while sum(event.type == event_type for event in self.events) < count:
            await self._change()

    async def until_count(self, event_count: int) -> None:
        """Wait until a state with so many events has come."""
        while not self.batches or self.batches[-1].state.event_count < event_count:
            await self._change()

    async def until_batches(self, count: int) -> None:
        while len(self.batches) < count:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        async with asyncio.timeout(20):
            await self._changed.wait()


@pytest.fixture
async def seen() -> Seen:
    return Seen()
