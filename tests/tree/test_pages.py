from __future__ import annotations

import pytest

from itx_notebook.tree import pages, read_page
from itx_notebook.types import Event
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


async def test_page_of_a_stream_without_events_is_empty(world: World) -> None:
    page = await read_page(await world.get_stream("/none"))
    assert (page["events"], page["before"]) == ([], None)
