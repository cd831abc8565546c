from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from itx_notebook.doors import Deployment, ServerItx
from itx_notebook.testing.clock import settle
from itx_notebook.types import UNSET, Event, StreamEventBatch
from tests.doors.cases import PROJECT_ID
from tests.support import get_async_refusal, let_engine_work


async def _append(itx: ServerItx, path: str, *numbers: int) -> None:
    await itx.streams.get(path).append_batch([Event(type="demo.n", payload=n) for n in numbers])


def _payloads(events: Any) -> list[Any]:
    return [event.payload for event in events if event.type == "demo.n"]


async def test_append_without_metadata_keeps_an_empty_object(itx: ServerItx) -> None:
    stream = itx.streams.get("/a")
    bare = await stream.append(Event(type="demo.hello"))
    given = await stream.append(Event(type="demo.hello", metadata={"by": "me"}))
    batch = await stream.append_batch([Event(type="demo.hello")])
    assert [bare.metadata, given.metadata, batch[0].metadata] == [{}, {"by": "me"}, {}]
    assert bare.payload is UNSET


async def test_results_always_say_where_they_were_read(itx: ServerItx) -> None:
    stream = itx.streams.get("/a")
    appended = await stream.append(Event(type="demo.hello", idempotency_key="once"))
    repeated = await stream.append(Event(type="demo.hello", idempotency_key="once"))
    read = await stream.read()
    assert repeated == appended
    assert {event.stream_path for event in [appended, repeated, *read]} == {"/a"}


@pytest.mark.parametrize(
    ("after", "before", "offsets"),
    [
        ("start", "end", [1, 2, 3, 4, 5]),
        (0, "end", [1, 2, 3, 4, 5]),
        (2, "end", [3, 4, 5]),
        ("start", 3, [1, 2]),
        (2, 5, [3, 4]),
        (2, 3, []),
        (4, 2, []),
        ("end", "end", []),
        ("end", "start", []),
        ("start", "start", []),
        ("start", 0, []),
        (5, "end", []),
        (10**12, "end", []),
        ("start", 10**30, [1, 2, 3, 4, 5]),
        (10**30, 10**31, []),
    ],
)
async def test_read_between_two_cursors_is_exclusive_at_both(
    itx: ServerItx, after: Any, before: Any, offsets: list[int]
) -> None:
    await _append(itx, "/a", 1, 2, 3)
    events = await itx.streams.get("/a").read(after_offset=after, before_offset=before)
    assert [event.offset for event in events] == offsets


BAD_CURSORS = [-1, 1.0, True, "begin", "", None, [1]]


@pytest.mark.parametrize("cursor", BAD_CURSORS)
async def test_cursor_when_it_is_not_one_is_a_bad_request_that_leaves_no_trace(
    deployment: Deployment, itx: ServerItx, cursor: Any
) -> None:
    stream = itx.streams.get("/untouched")
    errors = [
        await get_async_refusal(stream.read(after_offset=cursor)),
        await get_async_refusal(stream.read(before_offset=cursor)),
        await get_async_refusal(stream.subscribe(lambda _batch: None, after_offset=cursor)),
    ]
    names = ("after_offset", "before_offset", "after_offset")
    assert [(error.code, error.message) for error in errors] == [
        ("BAD_REQUEST", f'{name} {cursor!r} is not "start", "end" or an offset of 0 or more.') for name in names
    ]
    assert deployment.engine.stream(PROJECT_ID, "/untouched").get_state().event_count == 0


async def test_cursor_of_an_array_library_counts_as_the_number_it_holds(itx: ServerItx) -> None:
    await _append(itx, "/a", 1, 2, 3)
    cursor: Any = np.int64(4)
    assert [event.offset for event in await itx.streams.get("/a").read(after_offset=cursor)] == [5]


@pytest.mark.parametrize(("cursor", "old"), [("start", [1, 2]), (0, [1, 2]), (3, [2]), ("end", []), (4, [])], ids=str)
async def test_subscribe_from_each_cursor_replays_what_is_after_it_and_then_follows(
    itx: ServerItx, cursor: Any, old: list[int]
) -> None:
    await _append(itx, "/a", 1, 2)
    batches: list[StreamEventBatch] = []
    subscription = await itx.streams.get("/a").subscribe(batches.append, after_offset=cursor, presence=False)
    await settle()
    assert _payloads(event for batch in batches for event in batch.events) == old
    assert batches, "the first batch comes at once"
    await _append(itx, "/a", 3)
    await settle()
    assert _payloads(event for batch in batches for event in batch.events) == [*old, 3]
    await subscription.unsubscribe()
    await _append(itx, "/a", 4)
    await settle()
    assert _payloads(event for batch in batches for event in batch.events) == [*old, 3]


async def test_batch_always_carries_the_state_that_get_state_gives(itx: ServerItx) -> None:
    stream = itx.streams.get("/a")
    await _append(itx, "/a", 1)
    batches: list[StreamEventBatch] = []
    await stream.subscribe(batches.append, after_offset="end", presence=False)
    await _append(itx, "/a", 2)
    await settle()
    state = await stream.get_state()
    assert batches[-1].state == state
    assert batches[-1].stream_max_offset == state.event_count
    assert set(type(state).__struct_fields__) == {"namespace", "path", "event_count", "child_paths", "metadata"}


async def test_silent_look_at_a_stream_that_is_not_there_neither_makes_nor_announces_it(
    deployment: Deployment, itx: ServerItx
) -> None:
    before = deployment.engine.count_streams(PROJECT_ID)
    stream = itx.streams.get("/deep/down")
    state = await stream.get_state(presence=False)
    assert await stream.read(presence=False) == []
    assert await stream.list_children(presence=False) == []
    await let_engine_work(deployment)
    assert (state.event_count, state.child_paths, state.path) == (0, (), "/deep/down")
    assert deployment.engine.count_streams(PROJECT_ID) == before
    assert (await itx.streams.get("/").get_state(presence=False)).child_paths == ()


async def test_silent_look_after_a_restart_does_not_wake_the_stream(home: Any) -> None:
    from itx_notebook.doors import get_server_itx
    from itx_notebook.types import ADMIN
    from tests.support import open_deployment

    async with open_deployment(home) as deployment:
        project = await deployment.directory.create("demo")
        await _append(get_server_itx(deployment, "demo", ADMIN), "/a", 1)
    async with open_deployment(home) as deployment:
        stream = get_server_itx(deployment, "demo", ADMIN).streams.get("/a")
        silent = await stream.get_state(presence=False)
        again = await stream.get_state(presence=False)
        loud = await stream.get_state()
        assert [silent.event_count, again.event_count, loud.event_count] == [3, 3, 4]
        assert project.id == stream.namespace


async def test_get_state_when_not_silent_makes_the_stream_and_its_ancestors_know(
    deployment: Deployment, itx: ServerItx
) -> None:
    state = await itx.streams.get("/deep/down").get_state()
    await let_engine_work(deployment)
    assert state.event_count == 2
    assert (await itx.streams.get("/").get_state()).child_paths == ("/deep",)
    assert (await itx.streams.get("/deep").get_state()).child_paths == ("/deep/down",)


async def test_list_children_gives_each_childs_own_time_of_creation(deployment: Deployment, itx: ServerItx) -> None:
    await _append(itx, "/b", 1)
    await _append(itx, "/a/deep", 1)
    await let_engine_work(deployment)
    children = await itx.streams.get("/").list_children()
    assert [child.path for child in children] == ["/b", "/a"]
    for child in children:
        first = (await itx.streams.get(child.path).read(before_offset=2))[0]
        assert child.created_at == first.created_at


async def test_list_children_when_a_child_was_announced_but_not_made_has_no_time(
    deployment: Deployment, itx: ServerItx
) -> None:
    announcement = {"type": "events.iterate.com/stream/child-stream-created", "payload": {"childPath": "/ghost"}}
    await deployment.engine.stream(PROJECT_ID, "/").append(announcement)
    assert [(child.path, child.created_at) for child in await itx.streams.get("/").list_children()] == [
        ("/ghost", None)
    ]


async def test_describe_counts_the_projects_own_streams(deployment: Deployment, itx: ServerItx) -> None:
    await _append(itx, "/a/b", 1)
    await let_engine_work(deployment)
    facts = await itx.describe()
    assert facts.stream_count == 3
    assert facts.project is not None
    assert (facts.project.id, facts.engine, facts.location) == (
        PROJECT_ID,
        "embedded",
        str(deployment.engine.directory),
    )


async def test_views_when_the_engine_has_closed_answer_with_an_error_that_says_so(
    deployment: Deployment, itx: ServerItx
) -> None:
    await _append(itx, "/a", 1)
    await deployment.close()
    stream = itx.streams.get("/a")
    errors = [
        await get_async_refusal(stream.append(Event(type="demo.n"))),
        await get_async_refusal(stream.read()),
        await get_async_refusal(itx.describe()),
        await get_async_refusal(itx.streams.get("/never-loaded").get_state(presence=False)),
        await get_async_refusal(stream.list_children()),
    ]
    assert [error.code for error in errors] == ["INTERNAL"] * 5
    assert [error.message for error in errors] == ["The streams engine is closed."] * 5
    assert all("itx_notebook.connect()" in error.remedy for error in errors)


async def test_cancelled_subscribe_leaves_no_connection(deployment: Deployment, itx: ServerItx) -> None:
    await _append(itx, "/a", 1)
    batches: list[StreamEventBatch] = []
    task = asyncio.ensure_future(itx.streams.get("/a").subscribe(batches.append))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await _append(itx, "/a", 2)
    await settle()
    assert batches == []
    assert deployment.engine.stream(PROJECT_ID, "/a").connections == ()


def test_view_of_a_stream_offers_this_and_nothing_that_writes_its_state(itx: ServerItx) -> None:
    assert sorted(name for name in dir(itx.streams.get("/a")) if not name.startswith("_")) == [
        "append",
        "append_batch",
        "disable_processor",
        "enable_processor",
        "get_event",
        "get_runtime_state",
        "get_state",
        "kill",
        "list_children",
        "namespace",
        "path",
        "read",
        "reduce",
        "reset",
        "run_processor",
        "subscribe",
        "subscribe_sink",
        "wait_for_event",
    ]
