"""What is the wire's own of a remote surface: pages, stubs, keys. The rest is in the suite that every handle passes."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.client import remote as remote_module
from itx_notebook.client.connection import Connection
from itx_notebook.client.following import Following
from itx_notebook.client.remote import RemoteItx, RemoteStream
from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.errors import ItxConnectionError
from itx_notebook.streams.processors import CircuitBreaker
from itx_notebook.testing.clock import settle
from itx_notebook.types import ADMIN, Event
from tests.client.place import Place
from tests.support import get_async_refusal, get_refusal


@pytest.fixture
def stream(itx: RemoteItx) -> RemoteStream:
    return itx.streams.get("/a")


async def fill(stream: RemoteStream, count: int, size: int = 1) -> None:
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        await stream.append_batch([Event(type=f"demo.{n % 2}", payload={"n": n, "x": "x" * size}) for n in numbers])


@pytest.mark.parametrize("count", [0, 1, 998, 999, 1001, 3456])
async def test_a_long_stream_is_read_in_pages_and_whole(stream: RemoteStream, count: int) -> None:
    await fill(stream, count)
    events = await stream.read(presence=False)
    assert [event.offset for event in events] == list(range(1, count + 3 if count else 1))
    assert [event.payload["n"] for event in events[2:]] == list(range(count))


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"after_offset": 2002}, range(2000, 2500)),
        ({"after_offset": 12, "before_offset": 1514}, range(10, 1511)),
        ({"event_types": ["demo.1"]}, range(1, 2500, 2)),
        ({"event_types": ["demo.1"], "limit": 1100}, range(1, 2200, 2)),
        ({"after_offset": 2, "limit": 1700}, range(1700)),
        ({"after_offset": 2, "limit": 3}, range(3)),
        ({"before_offset": 10**9, "after_offset": 1502}, range(1500, 2500)),
        ({"after_offset": "end"}, range(0)),
        ({"before_offset": "start"}, range(0)),
    ],
    ids=str,
)
async def test_pages_keep_to_cursors_types_and_limit(
    stream: RemoteStream, options: dict[str, Any], numbers: range
) -> None:
    await fill(stream, 2500)
    events = await stream.read(**options, presence=False)
    assert [event.payload["n"] for event in events if event.type.startswith("demo.")] == list(numbers)


async def test_pages_are_cut_by_their_size_too(stream: RemoteStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "_PAGE_BYTES", 5_000)
    await fill(stream, 300, size=1000)
    await stream.append(Event(type="demo.0", payload={"n": 300, "x": "x" * 20_000}))
    for types in (None, ["demo.0", "demo.1"]):
        events = await stream.read(presence=False, event_types=types)
        assert [event.payload["n"] for event in events if event.type.startswith("demo.")] == list(range(301))


async def test_more_than_any_answer_may_hold_is_read(stream: RemoteStream) -> None:
    await fill(stream, 600, size=60_000)
    events = await stream.read(presence=False)
    assert len(events) == 602


async def test_an_event_of_twenty_megabytes_goes_both_ways(stream: RemoteStream) -> None:
    text = "0123456789abcdef" * (20 * 1024 * 1024 // 16)
    event = await stream.append(Event(type="demo.x", payload=text))
    assert event.payload == text
    assert (await stream.read(presence=False))[-1] == event


async def test_reading_that_fails_or_is_cancelled_leaves_no_request_behind(
    stream: RemoteStream, place: Place, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "_WINDOW", 100)
    await fill(stream, 3000)
    near, _ = place.pairs[-1]
    gc.collect()
    await settle()
    before = near.stats()
    reading = asyncio.ensure_future(stream.read(presence=False))
    for _ in range(30):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await stream.get_state(presence=False)
    await settle()
    gc.collect()
    await settle()
    assert near.stats() == before
    reading = asyncio.ensure_future(stream.read(presence=False))
    for _ in range(30):
        await asyncio.sleep(0)
    await connection.close()
    assert isinstance(await get_async_refusal(reading), ItxConnectionError)


async def test_many_streams_and_operations_leave_nothing_in_the_tables(itx: RemoteItx, place: Place) -> None:
    await itx.streams.get("/s0").append(Event(type="demo.x"))
    near, far = place.pairs[-1]
    gc.collect()
    await settle()
    before = near.stats(), far.stats()
    # Other tests of this process may have left some behind.
    others = [each for each in gc.get_objects() if isinstance(each, Following)]

    async def use(number: int) -> None:
        stream = itx.streams.get(f"/s{number % 50}")
        await stream.append(Event(type="demo.x"))
        await stream.get_state(presence=False)
        following = await stream.subscribe(lambda _: None, presence=False)
        await following.unsubscribe()

    for number in range(500):
        await use(number)
    gc.collect()
    await settle()
    assert (near.stats(), far.stats()) == before
    assert [each for each in gc.get_objects() if isinstance(each, Following) and each not in others] == []


async def test_a_hundred_thousand_questions_to_streams_leave_both_tables_as_they_were(
    itx: RemoteItx, place: Place
) -> None:
    streams = [itx.streams.get(f"/s{number}") for number in range(20)]

    async def ask_all(times: int) -> None:
        for _ in range(times):
            await asyncio.gather(*(stream.get_state(presence=False) for stream in streams))

    await ask_all(1)
    near, far = place.pairs[-1]
    await settle()
    gc.collect()
    before = near.stats(), far.stats()
    for _ in range(10):
        await ask_all(500)
        await settle()
        assert (near.stats(), far.stats()) == before
    # A stream that nobody holds any more is given back.
    del streams[:]
    gc.collect()
    await settle()
    assert near.stats().imports <= before[0].imports - 20


async def test_what_runs_where_the_engine_is_is_refused_with_the_way(itx: RemoteItx) -> None:
    error = get_refusal(lambda: itx.streams.register_processor(CircuitBreaker))
    assert (error.code, "enable_processor" in error.remedy) == ("BAD_REQUEST", True)


async def test_an_answer_that_makes_no_sense_is_said_to_be_one(place: Place) -> None:
    class Odd(rpc.RpcTarget):
        def describe(self) -> Any:
            return {"project": {"id": 7}}

    odd = Place(Odd)
    connection = odd.connect()
    error = await get_async_refusal(RemoteItx(connection).describe())
    assert "makes no sense" in error.message
    await connection.close()
    await odd.close()


async def test_what_is_not_json_is_refused_before_it_is_sent(stream: RemoteStream, place: Place) -> None:
    for payload in (float("nan"), b"bytes", {1: 2}):
        error = await get_async_refusal(stream.append(Event(type="demo.x", payload=payload)))
        assert (error.code, "payload" in error.message) == ("BAD_REQUEST", True)


async def test_location_of_a_server_is_its_own_business(itx: RemoteItx, deployment: Deployment, home: Path) -> None:
    here = await get_server_itx(deployment, "demo", ADMIN).describe()
    there = await itx.describe()
    assert here.location == str(home)
    assert (there.location, there.engine) == ("here", "served")


class JuneStream(rpc.RpcTarget, naming="camel"):
    """A stream of a deployment that has never heard of texts or pages."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def append(self, event: dict[str, Any]) -> Any:
        return self.append_batch([event])[0]

    def append_batch(self, events: list[dict[str, Any]]) -> Any:
        start = len(self.events) + 1
        committed = [{**event, "offset": n, "createdAt": "t"} for n, event in enumerate(events, start)]
        self.events += committed
        return committed if events[0]["type"] != "demo.lost" else committed[1:]

    def read(self, options: dict[str, Any]) -> Any:
        return self.events


class JuneItx(rpc.RpcTarget):
    """Its context, its projects and its streams: whatever is asked of it."""

    def __init__(self) -> None:
        self.stream = JuneStream()

    def describe(self) -> Any:
        return {"context": "demo", "project": {"id": "demo", "slug": "demo"}}

    @property
    def projects(self) -> JuneItx:
        return self

    @property
    def streams(self) -> JuneItx:
        return self

    def get(self, name: str) -> Any:
        return self.stream if name.startswith("/") else self


async def test_a_deployment_that_takes_no_texts_is_spoken_to_as_ever() -> None:
    june = JuneItx()
    place = Place(lambda: june)
    connection = place.connect()
    stream = (await RemoteItx(connection).projects.get("demo")).streams.get("/a")
    one = await stream.append(Event(type="demo.x", payload=[1, [2]]))
    more = await stream.append_batch([Event(type="demo.y"), Event(type="demo.z", metadata={"a": None})])
    assert connection.epoch is not None
    assert not connection.epoch.takes_texts
    assert await stream.read() == [one, *more]
    assert june.stream.events[0] == {"type": "demo.x", "payload": [1, [2]], "offset": 1, "createdAt": "t"}
    assert "makes no sense" in (await get_async_refusal(stream.append_batch([Event(type="demo.lost")]))).message
    await connection.close()
    await place.close()


async def test_our_own_door_gets_texts_once_it_has_said_so(stream: RemoteStream, connection: Connection) -> None:
    first = await stream.append(Event(type="demo.x", payload=[1]))
    assert connection.epoch is not None
    assert connection.epoch.takes_texts
    # What Cap'n Web has no expression for goes through all the same.
    second = await stream.append(Event(type="demo.x", payload={"constructor": [[]]}))
    assert (await stream.read(presence=False))[-2:] == [first, second]


async def test_what_is_appended_is_what_was_handed_in(stream: RemoteStream, place: Place) -> None:
    payload = {"n": 1}
    appending = asyncio.ensure_future(stream.append(Event(type="demo.x", payload=payload)))
    await asyncio.sleep(0)
    payload["n"] = 2
    assert (await appending).payload == {"n": 1}
