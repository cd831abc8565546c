"""A real ``itx-notebook serve`` killed fifty times within two minutes, while two clients append to it and follow.

One client dials as often as it can, so that every life of the server is written to and cut off in the middle of it. The
other waits between dials as long as everybody's does, so that most lives pass it by.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook._clock import SystemClock
from itx_notebook.client.connection import FIRST_DELAY, LAST_DELAY, Connection
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.errors import ItxConnectionError
from itx_notebook.types import Event, StreamEvent
from tests.client.conftest import Seen
from tests.client.truth import Truth

KILLS: Final = 50
TWO_MINUTES: Final = 120.0
SECRET: Final = "a secret of the killed server"
APPENDS_PER_LIFE: Final = 20


class Server:
    """``itx-notebook serve`` in a process of its own, again and again, at one port."""

    def __init__(self, home: Path) -> None:
        self.port = 0
        self._home = home
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Begin a life; returns when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "itx_notebook.cli", "--home", str(self._home)),
            *("serve", "--port", str(self.port), "--no-access-log"),
            env={**os.environ, "ITX_ADMIN_SECRET": SECRET},
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        said = b""
        while b"Serving" not in said:
            line = await self._process.stderr.readline()
            assert line, said.decode()
            said += line
        self.port = int(said.split(b"Serving")[1].split(b"/ ")[0].rpartition(b":")[2])

    async def kill(self) -> None:
        """End this life without a word."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """End it as one should."""
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


class Client:
    """Appends and follows, until it is told that it is enough."""

    def __init__(
        self, name: str, server: Server, *, first_delay: float = FIRST_DELAY, last_delay: float = LAST_DELAY
    ) -> None:
        async def dial(_: bool) -> rpc.Session:
            return await rpc.open_session(
                f"ws://127.0.0.1:{server.port}/api/itx", headers={"Authorization": f"Bearer {SECRET}"}
            )

        self.connection = Connection(
            dial, location=name, clock=SystemClock(), first_delay=first_delay, last_delay=last_delay
        )
        self.truth = Truth(self.connection)
        self.seen = Seen()
        self.acknowledged: list[StreamEvent] = []
        self.is_enough = False
        self._type = f"demo.{name}"
        self._appended = asyncio.Event()

    async def open(self) -> RemoteStream:
        """Follow the stream; give it back."""
        stream = (await RemoteItx(self.connection).projects.get("demo")).streams.get("/killed")
        self._following = await stream.subscribe(self.seen, presence=False)
        return stream

    async def write(self, stream: RemoteStream) -> None:
        """Append one after the other."""
        while not self.is_enough:
            number = len(self.acknowledged)
            event = Event(type=self._type, payload=number, idempotency_key=f"{self._type}-{number}")
            try:
                acknowledged = await stream.append(event)
            except ItxConnectionError as error:
                if error.is_final:
                    raise
                # It had no connection for longer than a call waits for one. The key makes asking again harmless.
                continue
            self.acknowledged.append(acknowledged)
            self.truth.check()
            self._appended.set()

    async def until_appended(self, count: int) -> None:
        """Wait until so many more events are acknowledged."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(60):
            while len(self.acknowledged) < goal:
                self._appended.clear()
                await self._appended.wait()

    async def until_noticed(self) -> None:
        """The server is dead: wait until that is known, and see that nothing else is said."""
        epoch = self.connection.epoch
        if epoch is not None:
            async with asyncio.timeout(10):
                await epoch.lost.wait()
        assert (self.connection.status, self.connection.epoch) == ("reconnecting", None)

    async def until_all_seen(self) -> None:
        await self.seen.until_type(self._type, len(self.acknowledged))
        await self._following.unsubscribe()
        assert self._following.error is None

    def check(self, stored: list[StreamEvent]) -> None:
        """Everything acknowledged is there, once, as it was acknowledged; and all was delivered, in order."""
        self.truth.check()
        mine = [event for event in stored if event.type == self._type]
        assert mine == self.acknowledged
        assert [event.payload for event in mine] == list(range(len(mine)))
        assert self.seen.events == stored[: len(self.seen.events)]


@asynccontextmanager
async def open_clients(server: Server) -> AsyncIterator[tuple[Client, Client]]:
    clients = Client("eager", server, first_delay=0.02, last_delay=0.1), Client("usual", server)
    try:
        yield clients
    finally:
        for client in clients:
            await client.connection.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "killed")
    await server.start()
    yield server
    await server.kill()


async def test_a_server_that_is_killed_fifty_times_in_two_minutes_loses_and_repeats_nothing(server: Server) -> None:
    loop = asyncio.get_running_loop()
    # It may take its time where many other things run: what must be quick is checked below.
    faulthandler.cancel_dump_traceback_later()
    begun = loop.time()
    starting = 0.0
    async with open_clients(server) as clients:
        eager, _ = clients
        await RemoteItx(eager.connection).projects.create("demo")
        streams = [await client.open() for client in clients]
        writing: list[asyncio.Task[Any]] = [
            asyncio.create_task(client.write(stream)) for client, stream in zip(clients, streams, strict=True)
        ]
        slowest = 0.0
        for _ in range(KILLS):
            await eager.until_appended(APPENDS_PER_LIFE)
            await server.kill()
            for client in clients:
                await client.until_noticed()
            ended = loop.time()
            await server.start()
            back = loop.time()
            starting += back - ended
            await eager.until_appended(1)
            slowest = max(slowest, loop.time() - back)
        # Where a process takes a second to start, and that is a slow machine, this is two minutes in all.
        assert loop.time() - begun - starting < TWO_MINUTES - KILLS
        assert slowest < 15
        for client in clients:
            await client.until_appended(1)
            client.is_enough = True
        await asyncio.gather(*writing)
        for client in clients:
            await client.until_all_seen()
        stored = await streams[0].read(presence=False)
    assert await server.stop() == 0
    assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
    for client in clients:
        client.check(stored)
    assert eager.truth.statuses.count("reconnecting") == KILLS
