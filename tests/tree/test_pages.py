from __future__ import annotations

import json
from typing import Any, cast

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.handle.surface import StreamSurface
from itx_notebook.streams import processor
from itx_notebook.tree import pages, read_page
from itx_notebook.types import Event, StreamEvent
from tests.tree.conftest import World


async def test_pages_go_from_the_newest_event_to_the_first(world: World) -> None:
    await world.append("/orders", 60)
    stream, count = await world.get_stream("/orders"), await world.get_count("/orders")
    offsets: list[int] = []
    before = None
    while True:
        page = await read_page(stream, before=before)
        assert len(page["events"]) <= pages.PAGE
        offsets += [event["offset"] for event in page["events"]]
        before = page["before"]
        if before is None:
            break
    assert offsets == list(range(count, 0, -1))
    assert await world.get_count("/orders") == count, "looking leaves no trace"


async def test_page_of_a_type_looks_far_back_but_not_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = await world.get_stream("/orders")
    rare = await stream.append(Event(type="demo.rare"))
    await world.append("/orders", 200)
    page = await read_page(stream, event_type="demo.rare")
    assert [event["offset"] for event in page["events"]] == [rare.offset]
    assert page["before"] is None
    monkeypatch.setattr(pages, "_MAX_REACH", 50)
    page = await read_page(stream, event_type="demo.rare")
    assert page["events"] == []
    assert 1 < page["before"] < await world.get_count("/orders") - 50


async def test_page_after_an_offset_has_what_is_new(world: World) -> None:
    stream = await world.get_stream("/orders")
    known = await world.get_count("/orders")
    await world.append("/orders", 3)
    page = await read_page(stream, after=known)
    assert [event["offset"] for event in page["events"]] == [known + 3, known + 2, known + 1]
    assert page["before"] is None
    page = await read_page(stream, after=known + 3)
    assert (page["events"], page["before"]) == ([], None)
    await world.append("/orders", 60)
    page = await read_page(stream, after=known + 3)
    assert len(page["events"]) == pages.PAGE
    assert page["before"] == known + 63 - pages.PAGE + 1, "something is between"


async def test_page_after_an_offset_the_stream_has_not_reached_begins_at_the_end(world: World) -> None:
    page = await read_page(await world.get_stream("/orders"), after=1000)
    assert len(page["events"]) == await world.get_count("/orders")


async def test_page_of_a_type_after_an_offset_does_not_look_further_back(world: World) -> None:
    stream = await world.get_stream("/orders")
    await stream.append(Event(type="demo.rare"))
    await world.append("/orders", 40)
    known = await world.get_count("/orders")
    rare = await stream.append(Event(type="demo.rare"))
    page = await read_page(stream, after=known, event_type="demo.rare")
    assert [event["offset"] for event in page["events"]] == [rare.offset]
    assert page["before"] is None


async def test_page_of_a_type_with_more_than_a_page_goes_on_where_it_ended(world: World) -> None:
    await world.append("/orders", 80)
    stream = await world.get_stream("/orders")
    first = await read_page(stream, event_type="demo.n")
    second = await read_page(stream, before=first["before"], event_type="demo.n")
    offsets = [event["offset"] for event in (*first["events"], *second["events"])]
    assert len(offsets) == 2 * pages.PAGE
    assert offsets == list(range(offsets[0], offsets[0] - len(offsets), -1))


async def test_event_that_is_large_is_told_by_its_size(world: World) -> None:
    stream = await world.get_stream("/orders")
    large = await stream.append(Event(type="demo.large", payload="x" * pages.MAX_EVENT_BYTES))
    event = (await read_page(stream))["events"][0]
    assert set(event) == {"type", "offset", "createdAt", "bytes"}
    assert (event["offset"], event["type"]) == (large.offset, "demo.large")
    assert event["bytes"] > pages.MAX_EVENT_BYTES


@pytest.mark.parametrize("payload", [{"ids": [{"id": 2**64 - 1}]}, -(2**53)])
async def test_event_with_a_number_that_a_browser_would_round_is_told_as_text(world: World, payload: Any) -> None:
    stream = await world.get_stream("/orders")
    await stream.append(Event(type="demo.exact", payload=2**53 - 1))
    await stream.append(Event(type="demo.large", payload=payload))
    large, exact = (await read_page(stream))["events"][:2]
    assert set(large) == {"type", "offset", "createdAt", "json"}
    assert json.loads(large["json"]) == {"payload": payload, "metadata": {}}
    assert exact["payload"] == 2**53 - 1


async def test_page_of_a_stream_without_events_is_empty(world: World) -> None:
    page = await read_page(await world.get_stream("/none"))
    assert (page["events"], page["before"]) == ([], None)


async def test_newest_page_tells_of_the_stream_and_an_older_one_does_not(world: World) -> None:
    await world.append("/orders", 60)
    stream, count = await world.get_stream("/orders"), await world.get_count("/orders")
    page = await read_page(stream)
    assert page["about"]["count"] == count
    first = await stream.get_event(1, idempotency_key=None)
    assert first is not None
    assert page["about"]["created_at"] == first.created_at
    assert page["about"]["active_at"] == page["events"][0]["createdAt"]
    assert (await read_page(stream, before=page["before"]))["about"] is None


async def test_page_of_a_type_tells_when_the_newest_event_of_any_type_was(world: World) -> None:
    stream = await world.get_stream("/orders")
    await stream.append(Event(type="demo.rare"))
    newest = await stream.append(Event(type="demo.n"))
    page = await read_page(stream, event_type="demo.rare")
    assert [event["type"] for event in page["events"]] == ["demo.rare"]
    assert page["about"]["active_at"] == newest.created_at


async def test_page_tells_who_is_present_and_which_processor_failed(world: World) -> None:
    stream = await world.get_stream("/orders")
    present = await stream.subscribe(lambda _batch: None, after_offset="end", events=True, presence=True, key="ada")
    running = await stream.run_processor(_stumbling, key=None, view=await world.get_actor("/orders"))
    assert {each["key"]: each["name"] for each in (await read_page(stream))["about"]["connections"]} == {
        "ada": None,
        "processor:stumbling": "stumbling",
    }
    await stream.append(Event(type="demo.stone"))
    await stream.wait_for_event(
        None,
        event_types=["events.iterate.com/stream/error-occurred"],
        after_offset="start",
        timeout=5,
        presence=False,
    )
    (told,) = (await read_page(stream))["about"]["processors"]
    assert (told["slug"], told["state"], told["served"]) == ("stumbling", "failed", None)
    assert told["detail"].endswith("over a stone")
    await running.stop()
    await present.unsubscribe()


@processor("stumbling", consumes=["demo.stone"])
def _stumbling(state: dict[str, Any], event: StreamEvent) -> None:
    raise ValueError("over a stone")


async def test_page_of_an_itx_that_tells_no_more_than_the_state_has_what_there_is(world: World) -> None:
    class Terse:
        """A stream of a deployment that answers the whole state in a shape of its own."""

        def __init__(self, stream: StreamSurface) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        async def get_runtime_state(self) -> Any:
            raise ItxError("The answer is not of the expected shape.", code="INTERNAL")

    page = await read_page(cast("StreamSurface", Terse(await world.get_stream("/orders"))))
    assert len(page["events"]) == page["about"]["count"] == await world.get_count("/orders")
    assert (page["about"]["paused"], page["about"]["processors"]) == (None, None)
    assert page["about"]["active_at"] == page["events"][0]["createdAt"]
