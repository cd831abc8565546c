"""The wire cut at every frame, half-closed, frozen and slow, while two write and one follows: nothing lost or twice."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook._clock import SystemClock
from itx_notebook.client import connection as connection_module
from itx_notebook.client.connection import Connection, Epoch
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.doors import Deployment
from itx_notebook.doors.service import ServiceSettings, open_service
from itx_notebook.doors.websocket import OwnerOnly, serve_deployment
from itx_notebook.errors import ItxConnectionError
from itx_notebook.types import Event
from tests.client.conftest import Seen
from tests.client.proxy import Harm, Proxy, jitter, open_proxy
from tests.client.truth import Truth


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
    whole = proxy.frames
    proxy.harm = harm
    # Each index once, from the first frame on, until a session ends before it is reached.
    for index in itertools.count(1):
        proxy.frames, proxy.harm_at = 0, index
        proxy.harmed.clear()
        before = proxy.connections
        connection = await line.connect()
        async with asyncio.timeout(20):
            _, _, truth = await work(connection, f"/harmed-{harm}-{index}")
        await connection.close()
        truth.check()
        if proxy.connections > before + 1:
            assert "reconnecting" in truth.statuses
        assert truth.statuses[-1] == "closed"
        if not proxy.harmed.is_set():
            break
    # How many frames there are varies with what leaves together.
    assert index > 0.8 * whole > 30


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


async def test_a_token_that_is_revoked_parks_its_client_and_tells_who_follows(deployment: Deployment) -> None:
    """Against the whole service: the session ends, one more dial is refused, and nothing is dialled from then on."""
    people = deployment.people
    project = deployment.directory.get_all()[0]
    await people.create_user("ada")
    await people.grant("ada", project.id)
    known, token = await people.create_token("ada")
    _, another = await people.create_token("ada")
    dials: list[bool] = []
    async with open_service(deployment, ServiceSettings(port=0)) as service:

        async def dial(are_refused: bool) -> rpc.Session:
            dials.append(are_refused)
            return await rpc.open_session(
                f"{service.server.url}api/itx",
                headers={"Authorization": f"Bearer {token}"},
            )

        connection = Connection(dial, location="served", clock=SystemClock(), first_delay=0.01, last_delay=0.02)
        truth = Truth(connection)
        stream = (await RemoteItx(connection).projects.get("demo")).streams.get("/a")
        seen = Seen()
        following = await stream.subscribe(seen, presence=False)
        waiting = asyncio.ensure_future(
            stream.wait_for_event(None, event_types=["demo.never"], after_offset="end", timeout=20, presence=False)
        )
        acknowledged = [await stream.append(Event(type="demo.n", payload=n, idempotency_key=f"{n}")) for n in range(5)]
        await people.revoke_token(known.id)
        async with asyncio.timeout(10):
            await following.closed.wait()
            with pytest.raises(ItxConnectionError, match=r"refused the credentials \(401\)"):
                await waiting
        assert isinstance(following.error, ItxConnectionError)
        assert following.error.is_final
        # The cut may be taken for a young socket's failure once; a refusal asks for other credentials once.
        assert dials in ([False, False, True], [False, True])
        for _ in range(20):
            with pytest.raises(ItxConnectionError):
                await stream.append(Event(type="demo.n", payload=9, idempotency_key="late"))
        assert len(dials) <= 3
        truth.check()
        assert truth.statuses[-1] == "refused"
        # With another token, and asked to, it goes on.
        token = another
        connection.reconnect()
        events = await stream.read(presence=False)
        assert [event for event in events if event.type == "demo.n"] == acknowledged
        await connection.close()
