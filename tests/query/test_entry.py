"""One fetch for all, and whose it is: joining, cancelling, removal under way."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.query import Query, QueryClient, QueryState
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from tests.query.source import Source, internal

KEY = ("things", "one")


def ignore(_state: QueryState[Any]) -> None:
    """Watch without looking."""


def state_of(client: QueryClient) -> QueryState[Any]:
    state = client.get_query_state(KEY)
    assert state is not None
    return state


async def test_callers_get_the_same_object_when_they_join_one_fetch(client: QueryClient) -> None:
    source = Source()
    tasks = [asyncio.create_task(client.fetch_query(source.query)) for _ in range(3)]
    data: dict[str, list[int]] = {"rows": []}

    await source.succeed(data)
    results = await asyncio.gather(*tasks)

    assert source.calls == 1
    assert all(result is data for result in results)


async def test_callers_get_the_same_error_when_they_join_one_fetch(client: QueryClient) -> None:
    source, error = Source(), internal()
    tasks = [asyncio.create_task(client.fetch_query(source.query, retry=False)) for _ in range(3)]

    await source.fail(error)
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert source.calls == 1
    assert all(result is error for result in results)


async def test_the_fetch_goes_on_for_the_others_when_one_caller_is_cancelled(client: QueryClient) -> None:
    source = Source()
    first = asyncio.create_task(client.fetch_query(source.query))
    second = asyncio.create_task(client.fetch_query(source.query))
    await settle()

    first.cancel()
    await source.succeed("data")

    assert (first.cancelled(), await second, source.calls) == (True, "data", 1)


async def test_the_fetch_goes_on_for_the_cache_when_every_caller_is_cancelled(client: QueryClient) -> None:
    source = Source()
    only = asyncio.create_task(client.fetch_query(source.query))
    await settle()

    only.cancel()
    await settle()
    assert state_of(client).is_fetching
    await source.succeed("data")

    assert (state_of(client).data, state_of(client).is_fetching) == ("data", False)


async def test_a_fetch_nobody_waits_for_is_quiet_when_it_fails(client: QueryClient) -> None:
    source, reports = Source(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, report: reports.append(report))
    only = asyncio.create_task(client.fetch_query(source.query, retry=False))
    await settle()
    only.cancel()
    await source.fail()

    client.remove_queries()
    await settle()

    assert reports == []


async def test_the_entry_is_as_before_when_its_fetch_is_cancelled(client: QueryClient) -> None:
    source = Source(stale_time=0.0)
    client.set_query_data(KEY, "old")
    before = state_of(client)
    fetch = client.begin_fetch(source.query)
    await settle()

    fetch.cancel()
    await settle()

    assert state_of(client) == before
    with pytest.raises(ItxError, match="was cancelled"):
        await fetch.join()


async def test_the_entry_is_as_before_when_its_fetch_is_cancelled_before_the_first_step(
    client: QueryClient,
) -> None:
    source = Source()
    fetch = client.begin_fetch(source.query)

    fetch.cancel()
    await settle()

    assert (source.calls, state_of(client)) == (0, QueryState())
    with pytest.raises(ItxError, match="was cancelled"):
        await fetch.join()


async def test_callers_are_not_cancelled_when_the_query_function_was(client: QueryClient) -> None:
    """Awaiting something that somebody else cancelled raises ``CancelledError`` out of the query function."""
    source = Source()
    task = asyncio.create_task(client.fetch_query(source.query))
    await settle()

    source.waiting[0].cancel()

    with pytest.raises(ItxError, match="was cancelled") as caught:
        await task
    assert caught.value.code == "INTERNAL"
    assert (state_of(client).is_loading_error, state_of(client).is_fetching, source.calls) == (True, False, 1)


async def test_a_late_result_is_not_stored_when_the_entry_was_removed(client: QueryClient) -> None:
    source = Source()
    task = asyncio.create_task(client.fetch_query(source.query))
    await settle()

    client.remove_queries()
    await source.succeed("late")

    assert (await task, client.get_query_state(KEY)) == ("late", None)


async def test_a_late_result_does_not_overwrite_when_the_entry_was_replaced(client: QueryClient) -> None:
    old, new = Source(), Source()
    first = asyncio.create_task(client.fetch_query(old.query))
    await settle()
    client.remove_queries()
    second = asyncio.create_task(client.fetch_query(new.query))

    await new.succeed("new")
    await old.succeed("late")

    assert (await first, await second, client.get_query_data(KEY)) == ("late", "new", "new")


async def test_a_late_failure_does_not_touch_the_entry_when_it_was_replaced(client: QueryClient) -> None:
    old = Source()
    task = asyncio.create_task(client.fetch_query(old.query, retry=False))
    await settle()
    client.remove_queries()
    client.set_query_data(KEY, "new")
    before = state_of(client)

    await old.fail()

    with pytest.raises(ItxError):
        await task
    assert state_of(client) is before


async def test_a_fetch_ends_when_its_entry_was_removed_and_nobody_waits(client: QueryClient, clock: FakeClock) -> None:
    source = Source()
    client.begin_fetch(source.query)
    await settle()

    client.remove_queries()
    await settle()

    assert (source.waiting[0].cancelled(), clock.pending) == (True, 0)


async def test_a_fetch_ends_when_its_entry_was_removed_and_the_last_who_waits_goes(client: QueryClient) -> None:
    source = Source()
    tasks = [asyncio.create_task(client.fetch_query(source.query)) for _ in range(2)]
    await settle()
    client.remove_queries()

    tasks[0].cancel()
    await settle()
    assert not source.waiting[0].cancelled()
    tasks[1].cancel()
    await settle()

    assert source.waiting[0].cancelled()


async def test_a_fetch_ends_when_its_entry_was_removed_and_the_last_observer_closes(client: QueryClient) -> None:
    source = Source()
    observer = client.observe(source.query, ignore)
    await settle()
    client.remove_queries()
    await settle()
    assert not source.waiting[0].cancelled()

    observer.close()
    await settle()

    assert source.waiting[0].cancelled()


async def test_a_fetch_sees_nothing_of_the_cell_when_a_cell_begins_it(client: QueryClient) -> None:
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")
    seen = []

    async def look() -> str:
        seen.append(cell.get())
        return "data"

    cell.set("cell 7")
    query = Query(query_key=KEY, query_fn=look, stale_time=0.0)
    client.set_query_data(KEY, "old")
    client.observe(query, lambda _state: seen.append(cell.get()), refetch_on_mount=False)
    await client.fetch_query(query)

    # The start is told by whoever starts it; the function and the outcome belong to the cache.
    assert seen == ["cell 7", "none", "none"]


async def test_a_fetch_does_not_undo_data_when_newer_was_set_by_hand_meanwhile(
    client: QueryClient, clock: FakeClock
) -> None:
    source = Source()
    task = asyncio.create_task(client.fetch_query(source.query))
    await clock.advance(1)

    client.set_query_data(KEY, "live")
    set_at_ms = clock.now_ms()
    assert (state_of(client).status, state_of(client).fetch_status) == ("success", "fetching")
    await clock.advance(1)
    await source.succeed("asked before that")

    assert await task == "live"
    assert (state_of(client).data, state_of(client).data_updated_at_ms, state_of(client).fetch_status) == (
        "live",
        set_at_ms,
        "idle",
    )


async def test_a_fetch_overwrites_data_when_what_was_set_meanwhile_is_older_than_its_beginning(
    client: QueryClient, clock: FakeClock
) -> None:
    source = Source()
    task = asyncio.create_task(client.fetch_query(source.query))
    await settle()

    client.set_query_data(KEY, "from a file", updated_at_ms=clock.now_ms() - 1)
    await source.succeed("fetched")

    assert (await task, state_of(client).data) == ("fetched", "fetched")


async def test_an_invalidation_stands_when_it_came_after_data_that_outran_a_fetch(client: QueryClient) -> None:
    source = Source()
    client.begin_fetch(source.query)
    client.set_query_data(KEY, "live")

    client.invalidate_queries()
    await source.succeed("asked before that")

    assert (state_of(client).data, state_of(client).is_invalidated) == ("live", True)


async def test_data_is_valid_when_it_outran_a_fetch_and_came_after_the_invalidation(client: QueryClient) -> None:
    source = Source()
    client.begin_fetch(source.query)
    client.invalidate_queries()

    client.set_query_data(KEY, "live")
    await source.succeed("asked before that")

    assert (state_of(client).data, state_of(client).is_invalidated) == ("live", False)
