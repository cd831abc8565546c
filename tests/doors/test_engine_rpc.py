"""The engine's own RPC beyond the recorded sessions: single events, waiting, what-ifs, lives, and refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment
from itx_notebook.types import ADMIN
from tests.doors.cases import PROJECT_ID
from tests.doors.doors import ADMIN_SECRET, Site, open_site


@pytest.fixture
async def site(deployment: Deployment) -> AsyncIterator[Site]:
    async with open_site(deployment) as site:
        yield site


def connect(site: Site, path: str = "/a/b") -> Any:
    return site.connect(f"api/streams/{quote(path, safe='')}?namespace={PROJECT_ID}", ADMIN)


async def test_event_is_found_by_offset_and_by_key(site: Site) -> None:
    async with connect(site) as stream:
        event = await stream.append({"event": {"type": "t", "idempotencyKey": "k"}})
        assert event == {"type": "t", "idempotencyKey": "k", "offset": 3, "createdAt": event["createdAt"]}
        assert await stream.getEvent({"offset": 3.0}) == event
        assert await stream.getEvent({"idempotencyKey": "k"}) == event
        assert await stream.getEvent({"idempotencyKey": "none"}) is None
        with pytest.raises(rpc.RemoteError, match="No stream event found at offset 9"):
            await stream.getEvent({"offset": 9})


async def test_append_reaches_other_streams_of_its_namespace(site: Site) -> None:
    async with connect(site) as stream:
        assert len(await stream.appendBatch({"events": [{"type": "t"}] * 2, "streamPath": "../c"})) == 2
        assert await stream.appendBatch({"events": []}) == []
        with pytest.raises(rpc.RemoteError, match="escapes the stream root"):
            await stream.append({"event": {"type": "t"}, "streamPath": "../../../x"})
    assert site.deployment.engine.stream(PROJECT_ID, "/a/c").get_state().event_count == 4


async def test_wait_ends_with_the_event_the_peers_function_wants(site: Site) -> None:
    async with connect(site) as stream:
        asked: list[int] = []

        def wants(event: dict[str, Any]) -> bool:
            asked.append(event["payload"])
            return bool(event["payload"] == 2)

        waiting = asyncio.ensure_future(
            stream.waitForEvent({"predicate": wants, "eventTypes": ["n"], "afterOffset": 0, "timeoutMs": 10_000})
        )
        await stream.appendBatch({"events": [{"type": "n", "payload": n} for n in (1, 2, 3)]})
        assert (await waiting)["payload"] == 2
        assert asked == [1, 2]


async def test_wait_that_is_in_vain_tells_what_it_saw(site: Site) -> None:
    async with connect(site) as stream:
        for options, text in (
            ({"eventTypes": ["n"], "timeoutMs": 20}, "Timed out waiting for stream event after 20ms"),
            ({"eventTypes": ["n"]}, "timeoutMs must be a positive number"),
            ({"eventTypes": ["n"], "timeoutMs": -1}, "timeoutMs must be a positive number"),
            ({"timeoutMs": 10}, "waitForEvent requires eventTypes or predicate"),
            ({"eventTypes": ["n"], "afterOffset": -1, "timeoutMs": 10}, "afterOffset must be a non-negative integer"),
        ):
            with pytest.raises(rpc.RemoteError, match=text):
                await stream.waitForEvent(options)


async def test_wait_of_a_batch_whose_client_is_gone_leaves_the_stream(site: Site) -> None:
    stream = site.deployment.engine.stream(PROJECT_ID, "/a/b")
    left, seen = asyncio.Event(), asyncio.Event()

    def note(batch: Any) -> None:
        for event in batch.events:
            (left if event.type.endswith("disconnected") else seen).set()

    await stream.subscribe(note, presence=False)
    wait = {"eventTypes": [["never"]], "timeoutMs": 3_600_000}
    body = f'["push",["pipeline",0,["waitForEvent"],[{json.dumps(wait)}]]]\n["pull",1]'.encode()
    _, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    head = f"POST /api/streams/%2Fa%2Fb?namespace={PROJECT_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Authorization: Bearer {ADMIN_SECRET}\r\n\r\n".encode() + body)
    await asyncio.wait_for(seen.wait(), 10)
    writer.close()
    await asyncio.wait_for(left.wait(), 10)


async def test_reduce_keeps_nothing(site: Site) -> None:
    async with connect(site) as stream:
        await stream.append({"event": {"type": "t"}})
        paused = {"type": "events.iterate.com/stream/paused", "payload": {"reason": "r"}}
        state = await stream.reduce({"event": paused})
        assert (state["paused"], state["eventCount"]) == (True, 4)
        again = await stream.reduce({"event": {"type": "t"}, "coreProcessorState": state})
        assert (again["paused"], again["eventCount"]) == (True, 5)
        assert (await stream.runtimeState())["coreProcessorState"]["paused"] is False
        assert await stream.getProcessorRuntimeState({"subscriptionKey": "none"}) is None


async def test_kill_and_reset_end_lives(site: Site) -> None:
    async with connect(site) as stream:
        await stream.append({"event": {"type": "t"}})
        await stream.kill()
        types = [event["type"].rpartition("/")[2] for event in await stream.getEvents()]
        assert types == ["created", "woken", "t", "woken"]
        await stream.reset()
        types = [event["type"].rpartition("/")[2] for event in await stream.getEvents()]
        assert types == ["created", "woken"]


async def test_subscription_under_the_same_key_replaces_and_leaves_only_its_own(site: Site) -> None:
    async with connect(site) as stream:
        batches: asyncio.Queue[Any] = asyncio.Queue()
        first = await stream.subscribe({"processEventBatch": lambda _: None, "subscriptionKey": "k"})
        second = await stream.subscribe({"processEventBatch": batches.put_nowait, "subscriptionKey": "k"})
        assert (first["subscriptionKey"], second["subscriptionKey"]) == ("k", "k")
        await first["unsubscribe"]()
        await batches.get()
        await stream.append({"event": {"type": "t"}})
        assert [event["type"] for event in (await batches.get())["events"]] == ["t"]
        await second["unsubscribe"]()
        await second["unsubscribe"]()


async def test_arguments_that_are_not_right_name_the_member(site: Site) -> None:
    async with connect(site) as stream:
        for call, text in (
            (stream.append({"type": "t"}), "append has no option 'type'"),
            (stream.append({}), "append needs an event"),
            (stream.appendBatch({}), "appendBatch needs events"),
            (stream.append({"event": {"type": "t", "streamPath": "/x"}}), "unknown field 'streamPath'"),
            (stream.getEvents({"limit": 1.5}), "limit must be a positive integer"),
            (stream.getEvent({}), "getEvent takes an offset or an idempotencyKey"),
            (stream.subscribe({}), "A subscription needs a function"),
            (stream.subscribe({"processEventBatch": "x"}), "processEventBatch 'x' is of the wrong kind"),
            (stream.subscribe({"processEventBatch": lambda _: None, "subscriber": {"processor": 1}}), "Subscriber"),
            (stream.reduce({}), "reduce needs an event"),
        ):
            with pytest.raises(rpc.RemoteError, match=text) as refused:
                await call
            assert refused.value.props["code"] == "BAD_REQUEST"
