from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from itx_notebook._loop import get_io_loop, is_on_io_loop
from itx_notebook.errors import ItxError
from itx_notebook.handle import AsyncStream
from itx_notebook.handle.aio import make_event
from itx_notebook.notebook import NotebookItx
from itx_notebook.types import UNSET, Event, StreamEventBatch
from tests.handle.conftest import NeverStream
from tests.support import get_async_refusal, get_refusal


def test_event_from_a_type_and_fields_has_what_was_given_and_nothing_else() -> None:
    assert make_event("demo.hello") == Event(type="demo.hello")
    assert make_event("demo.hello", None) == Event(type="demo.hello", payload=None)
    assert make_event("a", {"n": 1}, metadata={"by": "me"}, idempotency_key="k", offset=3) == Event(
        type="a", payload={"n": 1}, metadata={"by": "me"}, idempotency_key="k", offset=3
    )


def test_event_given_whole_is_taken_as_it_stands() -> None:
    whole = Event(type="demo.hello", payload=1)
    assert make_event(whole) is whole
    assert make_event({"type": "demo.hello", "payload": 1, "idempotencyKey": "k"}) == Event(
        type="demo.hello", payload=1, idempotency_key="k"
    )
    assert make_event({"type": "demo.hello", "idempotency_key": "k"}).payload is UNSET


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_event_of_a_blank_type_is_refused(blank: str) -> None:
    error = get_refusal(lambda: make_event(blank))
    assert (error.code, error.message) == ("BAD_REQUEST", f"Event type {blank!r} is blank.")


@pytest.mark.parametrize(
    "fields", [{"payload": None}, {"payload": 1}, {"metadata": {}}, {"idempotency_key": "k"}, {"offset": 1}], ids=str
)
def test_event_given_whole_with_fields_beside_it_is_refused(fields: dict[str, Any]) -> None:
    for whole in ({"type": "demo.hello"}, Event(type="demo.hello")):
        error = get_refusal(lambda whole=whole: make_event(whole, **fields))  # type: ignore[misc]  # bound for the loop
        assert (error.code, error.message) == ("BAD_REQUEST", "append() was given a whole event and fields beside it.")


@pytest.mark.parametrize("value", [None, 7, ["demo.hello"], b"demo", {"payload": 1}, {"type": "a", "colour": 1}])
def test_event_that_is_not_one_is_refused_with_the_value(value: Any) -> None:
    assert get_refusal(lambda: make_event(value)).code == "BAD_REQUEST"


@pytest.mark.parametrize("metadata", ["text", 7, [1], [("a", 1)]])
async def test_append_with_metadata_that_is_not_a_mapping_is_a_bad_request(itx: NotebookItx, metadata: Any) -> None:
    stream = itx.aio.streams.get("/a")
    error = await get_async_refusal(stream.append("demo.hello", metadata=metadata))
    assert error.code == "BAD_REQUEST"


@pytest.mark.parametrize(
    "events",
    ["demo.hello", {"type": "demo.hello"}, ["demo.hello"], [{"type": "demo.hello"}, "demo.hello"], [None]],
    ids=str,
)
async def test_append_batch_of_what_is_not_a_list_of_events_writes_nothing(itx: NotebookItx, events: Any) -> None:
    stream = itx.aio.streams.get("/a")
    error = await get_async_refusal(stream.append_batch(events))
    assert error.code == "BAD_REQUEST"
    assert (await stream.get_state(presence=False)).event_count == 0


async def test_async_handle_on_a_foreign_loop_works_and_runs_on_the_io_loop(itx: NotebookItx) -> None:
    assert asyncio.get_running_loop() is not get_io_loop()
    stream = itx.aio.streams.get("/a")
    appended = await stream.append("demo.hello", {"n": 1})
    where: list[bool] = []
    seen = threading.Event()

    def on_batch(batch: StreamEventBatch) -> None:
        where.append(is_on_io_loop())
        seen.set()

    closed: list[bool] = []
    async with await stream.subscribe(on_batch, presence=False) as subscription:
        assert await asyncio.to_thread(seen.wait, 5)
        closed.append(subscription.is_closed)
    assert [*closed, subscription.is_closed] == [False, True]
    assert set(where) == {True}
    assert (await stream.read())[-1] == appended
    assert [child.path for child in await itx.aio.streams.get("/").list_children()] == ["/a"]
    narrowed = await itx.aio.projects.get("default")
    assert (await narrowed.describe()).context == (await itx.aio.describe()).context
    assert (await itx.aio.projects.list()).total == 1


async def test_async_handle_cancelled_on_a_foreign_loop_cancels_the_work(never: NeverStream) -> None:
    task = asyncio.ensure_future(AsyncStream(never).read())
    assert await asyncio.to_thread(never.was_asked.wait, 5)
    assert not never.was_cancelled.is_set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(never.was_cancelled.wait, 5)


async def test_async_handle_errors_reach_a_foreign_loop_as_they_are(itx: NotebookItx) -> None:
    error = await get_async_refusal(itx.aio.streams.get("/a").append("demo.hello", float("nan")))
    assert type(error) is ItxError
    assert error.code == "BAD_REQUEST"


async def test_async_subscription_whose_consumer_breaks_says_why(itx: NotebookItx) -> None:
    stream = itx.aio.streams.get("/a")
    trouble = ValueError("mine")

    def on_state(_state: object) -> None:
        raise trouble

    subscription = await stream.on_state_change(on_state)
    assert (subscription.is_closed, subscription.error) == (True, trouble)
    assert repr(subscription) == "<AsyncSubscription to /a, dropped: ValueError('mine')>"
    await subscription.unsubscribe()


async def test_async_on_state_change_gives_the_bare_state_now_and_later(itx: NotebookItx) -> None:
    stream = itx.aio.streams.get("/a")
    counts: list[int] = []
    enough = threading.Event()

    async def on_state(state: Any) -> None:
        counts.append(state.event_count)
        if state.event_count == 3:
            enough.set()

    async with await stream.on_state_change(on_state, presence=False):
        await stream.append("demo.hello")
        assert await asyncio.to_thread(enough.wait, 5)
    assert counts == [0, 3]


def test_async_handle_shows_what_it_is(itx: NotebookItx) -> None:
    aio = itx.aio
    assert [repr(each) for each in (aio, aio.projects, aio.streams, aio.streams.get("/a"))] == [
        "<AsyncItx default>",
        "<AsyncProjects: .get(id_or_slug), .list(), .create(slug)>",
        "<AsyncStreams: .get(path)>",
        "<AsyncStream /a>",
    ]
