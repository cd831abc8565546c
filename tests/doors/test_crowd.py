"""A thousand connections, clients that dribble, clients that are gone and do not say so: what others notice of it."""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment
from itx_notebook.doors.service import ServiceSettings, open_service
from tests.client.proxy import open_proxy
from tests.doors.cases import OTHER_ID
from tests.doors.doors import ADMIN_SECRET, open_site, wait_until_empty

ADMIN = {"Authorization": f"Bearer {ADMIN_SECRET}"}
MANY = 1000


@pytest.fixture
def many_files() -> None:
    """Room for both ends of every socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MANY + 500
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else hard, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_connections_follow_one_stream_and_one_more_is_told_to_wait(deployment: Deployment) -> None:
    settings = ServiceSettings(port=0, admin_secret=ADMIN_SECRET, max_connections=MANY)
    stream = deployment.engine.stream(OTHER_ID, "/crowd")
    await stream.wake()
    async with open_service(deployment, settings) as service:
        url = f"{service.server.url}api/itx/other"
        everybody: list[rpc.Session] = []
        batches: list[asyncio.Queue[Any]] = []

        async def join() -> None:
            session = await rpc.open_session(url, headers=ADMIN, open_timeout=60)
            queue: asyncio.Queue[Any] = asyncio.Queue()
            await session.main.streams.get("/crowd").subscribe(
                queue.put_nowait, {"afterOffset": "end", "presence": False}
            )
            await queue.get()
            everybody.append(session)
            batches.append(queue)

        async with asyncio.timeout(90):
            for _ in range(0, MANY, 50):
                await asyncio.gather(*(join() for _ in range(50)))
            assert (len(service.sessions), len(stream.connections)) == (MANY, MANY)
            with pytest.raises(rpc.HandshakeError, match="503"):
                await rpc.open_session(url, headers=ADMIN)
            event = await everybody[0].main.streams.get("/crowd").append({"type": "demo.news"})
            for queue in batches:
                assert [each["offset"] for each in (await queue.get())["events"]] == [event["offset"]]
            # Who goes makes room.
            await everybody.pop().close()
            await join()
            await asyncio.gather(*(session.close() for session in everybody))
            await wait_until_empty(service.sessions)
    assert stream.connections == ()


async def test_clients_that_dribble_are_let_go_while_others_are_served(deployment: Deployment) -> None:
    async with open_site(deployment, handshake_timeout=0.3, max_connections=150) as site, AsyncExitStack() as stack:

        async def dribble() -> bytes:
            """Send a request byte by byte, so slowly that it never ends, and give what comes back."""
            reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
            stack.callback(writer.close)
            answer = asyncio.ensure_future(reader.read())
            request = iter(b"GET /api/itx HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 10_000)
            while not answer.done():
                writer.write(bytes([next(request)]))
                await asyncio.wait([answer], timeout=0.02)
            return await answer

        dribbling = asyncio.gather(*(dribble() for _ in range(100)))
        headers = {"Authorization": f"Bearer {ADMIN_SECRET}"}
        async with asyncio.timeout(30):
            async with rpc.connect(f"{site.server.url}api/itx/other", headers=headers) as itx:
                served = 0
                while not dribbling.done():
                    await itx.streams.get("/a").append({"type": "t"})
                    served += 1
            assert served > 10
            for answer in await dribbling:
                assert answer.startswith(b"HTTP/1.1 408 ")


async def test_follower_whose_cable_was_pulled_is_noticed_by_its_silence(deployment: Deployment) -> None:
    """Its socket is half open: no end ever arrives here."""
    stream = deployment.engine.stream(OTHER_ID, "/live")
    options = rpc.TransportOptions(ping_interval=0.1, ping_timeout=0.2, close_timeout=0.2)
    async with open_site(deployment, transport_options=options) as site, open_proxy(site.server.port or 0) as proxy:
        proxy.harm = "freeze"
        # It answers pings no more than it hears them.
        silent = rpc.TransportOptions(ping_interval=None)
        url = f"ws://127.0.0.1:{proxy.port}/api/itx/other"
        session = await rpc.open_session(url, headers=ADMIN, transport_options=silent)
        gone = asyncio.Event()

        def note(batch: Any) -> None:
            if any(event.type.endswith("subscriber-disconnected") for event in batch.events):
                gone.set()

        await stream.subscribe(note, presence=False)
        await session.main.streams.get("/live").subscribe(
            lambda _: None, {"afterOffset": "end", "subscriptionKey": "k"}
        )
        assert "k" in {connection.key for connection in stream.connections}
        proxy.harm_at = proxy.frames + 1
        async with asyncio.timeout(20):
            await gone.wait()
        assert "k" not in {connection.key for connection in stream.connections}
        assert session.error is None
        session.abort(RuntimeError("the test is over"))
