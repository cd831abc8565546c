"""The wire cut at every frame, half-closed, frozen and slow, while two write and one follows: nothing lost or twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook._clock import SystemClock
from itx_notebook.client import connection as connection_module
from itx_notebook.client.connection import Connection, Epoch
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.doors import Deployment
from itx_notebook.doors.websocket import OwnerOnly, serve_deployment
from itx_notebook.types import Event
from tests.client.conftest import Seen
from tests.client.proxy import Harm, Proxy, jitter, open_proxy
from tests.support import OtherProcess


class Truth:
    """Checks at every change that the status says what is so."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.statuses: list[str] = []
        connection.subscribe_status(self._check)

    def _check(self, status: str) -> None:
        self.statuses.append(status)
        self.check()

    def check(self) -> None:
        epoch = self._connection.epoch
        is_there = epoch is not None and epoch.session.error is None and not epoch.lost.is_set()
        assert (self._connection.status == "connected") == is_there


class Line:
    """A served deployment, a proxy before it, and connections through that."""

    def __init__(self, proxy: Proxy, server: rpc.Server, stack: AsyncExitStack) -> None:
        self.proxy = proxy
        self.server = server
        self._stack = stack

    async def connect(self) -> Connection:
        async def dial(_: bool) -> rpc.Session:
            return await rpc.open_session(
                f"ws://127.0.0.1:{self.proxy.port}/api/itx",
                transport_options=rpc.TransportOptions(close_timeout=0.2),
            )

        connection = Connection(dial, location="proxied", clock=SystemClock(), first_delay=0.01, last_delay=0.05)
        self._stack.push_async_callback(connection.close)
        return connection


@asynccontextmanager
async def open_line(deployment: Deployment, **options: Any) -> AsyncIterator[Line]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serve_deployment(
                deployment,
                OwnerOnly(),
                drain_timeout=0.2,
                transport_options=rpc.TransportOptions(close_timeout=0.2),
                **options,
            )
        )
        assert server.port is not None
        proxy = await stack.enter_async_context(open_proxy(server.port))
        yield Line(proxy, server, stack)


@pytest.fixture
async def line(deployment: Deployment) -> AsyncIterator[Line]:
    async with open_line(deployment) as line:
        yield line


APPENDS = 4


async def work(connection: Connection, path: str) -> tuple[list[int], list[Any], Truth]:
    """Follow a stream while two append to it; what the follower saw, and what was acknowledged."""
    truth = Truth(connection)
    stream: RemoteStream = (await RemoteItx(connection).projects.get("demo")).streams.get(path)
    seen = Seen()
    following = await stream.subscribe(seen, presence=False)

    async def write(name: str) -> list[Any]:
        acknowledged = []
        for number in range(APPENDS):
            key = f"{name}-{number}"
            event = Event(type=f"demo.{name}", payload=number, idempotency_key=key)
            acknowledged.append(await stream.append(event))
            truth.check()
        return acknowledged

    acknowledged = [*await write_all(write("a"), write("b")), *await write("c")]
    await seen.until_type("demo.c", APPENDS)
    await following.unsubscribe()
    truth.check()
    stored = await stream.read(presence=False)
    assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
    assert {(event.offset, event.idempotency_key) for event in acknowledged} <= {
        (event.offset, event.idempotency_key) for event in stored
    }
    keys = [event.idempotency_key for event in stored if event.type.startswith("demo.")]
    assert len(keys) == len(set(keys)) == 3 * APPENDS
    assert seen.events == [event for event in stored if event.offset <= seen.offsets[-1]]
    return seen.offsets, acknowledged, truth


async def write_all(*writers: Any) -> list[Any]:
    return [event for events in await asyncio.gather(*writers) for event in events]


@pytest.mark.parametrize("harm", ["abort", "half-close"])
async def test_a_wire_that_is_harmed_at_any_frame_loses_and_repeats_nothing(line: Line, harm: Harm) -> None:
    proxy = line.proxy
    connection = await line.connect()
    await work(connection, "/whole")
    await connection.close()
    count = proxy.frames
    assert count > 30
    proxy.harm = harm
    for index in range(1, count + 1):
        proxy.frames, proxy.harm_at = 0, index
        before = proxy.connections
        connection = await line.connect()
        async with asyncio.timeout(20):
            _, _, truth = await work(connection, f"/harmed-{harm}-{index}")
        await connection.close()
        if proxy.connections > before + 1:
            assert "reconnecting" in truth.statuses
        assert truth.statuses[-1] == "closed"


async def test_a_slow_wire_changes_nothing(line: Line) -> None:
    line.proxy.delay = jitter(0.004)
    connection = await line.connect()
    _, _, truth = await work(connection, "/slow")
    assert truth.statuses == ["connecting", "connected"]


@pytest.mark.parametrize("index", [3, 12, 30])
async def test_a_frozen_wire_is_noticed_by_its_silence(line: Line, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    monkeypatch.setattr(connection_module, "_PROBE_INTERVAL", 0.1)
    monkeypatch.setattr(connection_module, "_PROBE_TIMEOUT", 0.1)
    line.proxy.harm, line.proxy.harm_at = "freeze", index
    connection = await line.connect()
    async with asyncio.timeout(20):
        _, _, truth = await work(connection, "/frozen")
    assert "reconnecting" in truth.statuses
    assert line.proxy.connections == 2


async def test_cuts_without_end_slow_it_down_and_no_more(line: Line) -> None:
    connection = await line.connect()
    cutting = asyncio.ensure_future(_cut_over_and_over(line.proxy))
    async with asyncio.timeout(60):
        await work(connection, "/cut-often")
    cutting.cancel()


async def _cut_over_and_over(proxy: Proxy) -> None:
    """Cut everything, each time that some more frames have passed."""
    seen = proxy.frames
    while True:
        await asyncio.sleep(0)
        if proxy.frames >= seen + 25:
            seen = proxy.frames
            proxy.cut_all()


async def test_an_append_without_a_key_is_never_made_twice(line: Line) -> None:
    connection = await line.connect()
    stream = (await RemoteItx(connection).projects.get("demo")).streams.get("/keyless")
    await stream.append(Event(type="demo.first"))
    outcomes: list[str] = []
    for index in range(1, 12):
        line.proxy.frames, line.proxy.harm_at = 0, index
        try:
            await stream.append(Event(type="demo.n", payload=index))
        except ConnectionError:
            outcomes.append("lost")
        else:
            outcomes.append("acknowledged")
        await connection.ready()
    line.proxy.harm_at = None
    stored = [event.payload for event in await stream.read(presence=False) if event.type == "demo.n"]
    assert len(stored) == len(set(stored))
    assert len(stored) >= outcomes.count("acknowledged")
    assert "lost" in outcomes


async def test_a_peer_that_never_answers_the_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_DIAL_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        async def dial(_: bool) -> rpc.Session:
            return await rpc.open_session(f"ws://127.0.0.1:{port}/api/itx")

        connection = Connection(dial, location="silent", clock=SystemClock(), first_delay=0.01)
        with pytest.raises(ConnectionError, match="no answer within"):
            await connection.ready(0.5)
        await connection.close()


async def test_many_connections_come_back_after_one_cut(line: Line) -> None:
    connections = [await line.connect() for _ in range(100)]
    await asyncio.gather(*(each.ready() for each in connections))
    lost = [each.epoch for each in connections]
    line.proxy.cut_all()
    await asyncio.gather(*(each.lost.wait() for each in lost if isinstance(each, Epoch)))
    async with asyncio.timeout(20):
        await asyncio.gather(*(each.ready() for each in connections))
    assert {each.status for each in connections} == {"connected"}
    await asyncio.gather(*(each.close() for each in connections))


SERVE = """
import asyncio, sys
from pathlib import Path
from itx_notebook.doors import Deployment
from itx_notebook.doors.websocket import OwnerOnly, serve_deployment

async def main():
    deployment = await Deployment.open(Path(sys.argv[1]))
    if deployment.directory.try_get("demo") is None:
        await deployment.directory.create("demo")
    async with serve_deployment(deployment, OwnerOnly(), port=int(sys.argv[2])) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def kill_and_restart(home: Path, kills: int) -> float:
    """Append and follow while the server is killed so often; the longest time to the next acknowledgement."""
    loop = asyncio.get_running_loop()
    server = OtherProcess(SERVE, str(home), "0")
    port = await asyncio.to_thread(server.hear)

    async def dial(_: bool) -> rpc.Session:
        return await rpc.open_session(f"ws://127.0.0.1:{port}/api/itx")

    connection = Connection(dial, location="killed", clock=SystemClock(), first_delay=0.02, last_delay=0.1)
    truth = Truth(connection)
    stream = (await RemoteItx(connection).projects.get("demo")).streams.get("/killed")
    seen = Seen()
    following = await stream.subscribe(seen, presence=False)
    acknowledged: list[Any] = []
    enough = asyncio.Event()
    is_over = False

    async def write() -> None:
        while not is_over:
            number = len(acknowledged)
            acknowledged.append(await stream.append(Event(type="demo.n", payload=number, idempotency_key=f"k{number}")))
            truth.check()
            enough.set()

    writing = asyncio.ensure_future(write())
    slowest = 0.0
    for kill in range(kills):
        while len(acknowledged) < 20 * (kill + 1):
            enough.clear()
            await enough.wait()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.end)
        server = OtherProcess(SERVE, str(home), port)
        assert await asyncio.to_thread(server.hear) == port
        begun = loop.time()
        enough.clear()
        await enough.wait()
        slowest = max(slowest, loop.time() - begun)
    is_over = True
    await writing
    await seen.until_type("demo.n", len(acknowledged))
    await following.unsubscribe()
    stored = await stream.read(presence=False)
    await connection.close()
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.end)
    mine = [event for event in stored if event.type == "demo.n"]
    assert [event.payload for event in mine] == list(range(len(acknowledged)))
    assert mine == acknowledged
    assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
    assert seen.events == stored[: len(seen.events)]
    return slowest


async def test_a_server_that_is_killed_five_times_loses_nothing(tmp_path: Path) -> None:
    assert await kill_and_restart(tmp_path / "killed", 5) < 5
