from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.query import UNSET, QueryClient, QueryObserver, QueryState
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from tests.query.source import Source, internal, not_found

KEY = ("things", "one")


class Listener:
    """Keeps what it is told, shortened to what a view looks at."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Any]] = []

    def __call__(self, state: QueryState[Any]) -> None:
        self.heard.append((state.status, state.fetch_status, state.data))


@pytest.fixture
def listener() -> Listener:
    return Listener()


def shown(observer: QueryObserver[Any]) -> tuple[str, str, Any]:
    state = observer.result
    return state.status, state.fetch_status, state.data


# Mounting


async def test_mounting_fetches_when_there_is_no_data(client: QueryClient, listener: Listener) -> None:
    source = Source()

    observer = client.observe(source.query, listener)
    assert shown(observer) == ("pending", "fetching", UNSET)
    assert observer.result.is_loading
    await source.succeed("data")

    assert shown(observer) == ("success", "idle", "data")
    assert listener.heard == [("success", "idle", "data")]


async def test_mounting_does_not_fetch_when_data_is_fresh(client: QueryClient, listener: Listener) -> None:
    source = Source()
    client.set_query_data(KEY, "fresh")

    observer = client.observe(source.query, listener)
    await settle()

    assert (shown(observer), source.calls, listener.heard) == (("success", "idle", "fresh"), 0, [])


async def test_mounting_shows_old_data_and_fetches_when_it_is_stale(
    client: QueryClient, clock: FakeClock, listener: Listener
) -> None:
    source = Source(stale_time=10.0)
    client.set_query_data(KEY, "old")
    await clock.advance(10)

    observer = client.observe(source.query, listener)
    assert shown(observer) == ("success", "fetching", "old")
    await source.succeed("new")

    assert shown(observer) == ("success", "idle", "new")


@pytest.mark.parametrize(
    ("refetch_on_mount", "is_stale", "calls"),
    [
        (True, True, 1),
        (True, False, 0),
        (False, True, 0),
        (False, False, 0),
        ("always", True, 1),
        ("always", False, 1),
    ],
)
async def test_mounting_onto_data_follows_the_option_when_set(
    client: QueryClient,
    listener: Listener,
    refetch_on_mount: bool | Literal["always"],
    is_stale: bool,
    calls: int,
) -> None:
    source = Source(stale_time=0.0 if is_stale else 60.0)
    client.set_query_data(KEY, "data")

    client.observe(source.query, listener, refetch_on_mount=refetch_on_mount)
    await settle()

    assert source.calls == calls


async def test_mounting_shows_a_wait_and_no_error_when_the_entry_failed_without_data(
    client: QueryClient, listener: Listener
) -> None:
    source = Source()
    failing = client.begin_fetch(source.query, retry=False)
    await source.fail()
    await failing.wait()

    observer = client.observe(source.query, listener)

    assert (shown(observer), observer.result.error) == (("pending", "fetching", UNSET), None)


async def test_mounting_leaves_the_error_when_told_not_to_retry(client: QueryClient, listener: Listener) -> None:
    source = Source()
    client.begin_fetch(source.query, retry=False)
    await source.fail()

    observer = client.observe(source.query, listener, retry_on_mount=False)
    await settle()

    assert (observer.result.is_loading_error, source.calls) == (True, 1)


async def test_mounting_joins_when_a_fetch_is_under_way(client: QueryClient) -> None:
    source, one, other = Source(), Listener(), Listener()

    client.observe(source.query, one)
    client.observe(source.query, other)
    await source.succeed("data")

    assert (source.calls, one.heard, other.heard) == (
        1,
        [("success", "idle", "data")],
        [("success", "idle", "data")],
    )


async def test_a_disabled_observer_shows_what_is_cached_and_never_fetches_when_stale(
    client: QueryClient, listener: Listener
) -> None:
    source = Source(stale_time=0.0)

    observer = client.observe(source.query, listener, enabled=False)
    assert shown(observer) == ("pending", "idle", UNSET)
    client.set_query_data(KEY, "from elsewhere")
    client.invalidate_queries()
    await settle()

    assert (shown(observer), source.calls) == (("success", "idle", "from elsewhere"), 0)


# Failing


async def test_an_observer_retries_once_when_the_failure_may_heal(
    client: QueryClient, clock: FakeClock, listener: Listener
) -> None:
    source, error = Source(), internal()
    observer = client.observe(source.query, listener)

    await source.fail()
    assert (observer.result.fetch_failure_count, observer.result.is_loading) == (1, True)
    await clock.advance(1)
    await source.fail(error)
    await clock.advance(60)

    assert (source.calls, observer.result.error, observer.result.is_loading_error) == (2, error, True)


async def test_an_observer_does_not_retry_when_access_is_refused(client: QueryClient, clock: FakeClock) -> None:
    source, listener = Source(), Listener()
    client.observe(source.query, listener)

    await source.fail(not_found())
    await clock.advance(60)

    assert (source.calls, listener.heard) == (1, [("error", "idle", UNSET)])


async def test_an_observer_keeps_data_beside_the_error_when_a_refetch_fails(client: QueryClient) -> None:
    source, listener = Source(stale_time=0.0), Listener()
    client.set_query_data(KEY, "old")
    observer = client.observe(source.query, listener, retry=False)

    await source.fail()

    assert (observer.result.data, observer.result.is_refetch_error) == ("old", True)


# Being told


async def test_listeners_are_not_called_when_nothing_changed(client: QueryClient, listener: Listener) -> None:
    client.set_query_data(KEY, "data")
    client.invalidate_queries()
    client.observe(Source().query, listener, enabled=False)

    client.invalidate_queries()
    client.set_query_data(KEY, UNSET)
    client.set_query_data(("other",), 1)

    assert listener.heard == []


async def test_the_other_listeners_are_called_when_one_throws(
    client: QueryClient, caplog: pytest.LogCaptureFixture
) -> None:
    def throw(_state: QueryState[Any]) -> None:
        raise ValueError("a bug in a view")

    first, last = Listener(), Listener()
    for listener in (first, throw, last):
        client.observe(Source().query, listener, enabled=False)

    with caplog.at_level(logging.ERROR):
        client.set_query_data(KEY, 1)

    assert (first.heard, last.heard) == ([("success", "idle", 1)], [("success", "idle", 1)])
    assert [record.message for record in caplog.records] == ['A listener of ["things","one"] failed']


async def test_each_listener_hears_states_in_order_when_one_changes_the_data_again(client: QueryClient) -> None:
    first, last = Listener(), Listener()

    def answer_one_with_two(state: QueryState[Any]) -> None:
        if state.data == 1:
            client.set_query_data(KEY, 2)

    for listener in (first, answer_one_with_two, last):
        client.observe(Source().query, listener, enabled=False)

    client.set_query_data(KEY, 1)

    assert [data for _, _, data in first.heard] == [1, 2]
    assert [data for _, _, data in last.heard] == [2]


async def test_a_listener_is_not_called_when_another_closed_it_before_its_turn(client: QueryClient) -> None:
    listener = Listener()
    observers: list[QueryObserver[Any]] = []
    client.observe(Source().query, lambda _state: observers[0].close(), enabled=False)
    observers.append(client.observe(Source().query, listener, enabled=False))

    client.set_query_data(KEY, 1)

    assert listener.heard == []


async def test_the_next_listener_is_called_when_one_closes_itself(client: QueryClient) -> None:
    observers: list[QueryObserver[Any]] = []
    listener = Listener()
    observers.append(client.observe(Source().query, lambda _state: observers[0].close(), enabled=False))
    client.observe(Source().query, listener, enabled=False)

    client.set_query_data(KEY, 1)

    assert listener.heard == [("success", "idle", 1)]


async def test_a_listener_may_fetch_again_when_it_is_told_of_a_failure(client: QueryClient) -> None:
    source = Source()

    def try_again(state: QueryState[Any]) -> None:
        if state.is_loading_error:
            client.begin_fetch(source.query, retry=False)

    observer = client.observe(source.query, try_again, retry=False)
    await source.fail()
    assert shown(observer) == ("pending", "fetching", UNSET)
    await source.succeed("healed")

    assert (shown(observer), source.calls) == (("success", "idle", "healed"), 2)


# Closing, removing, refetching


async def test_closing_ends_the_calls_when_repeated_too(client: QueryClient, listener: Listener) -> None:
    with client.observe(Source().query, listener, enabled=False) as observer:
        client.set_query_data(KEY, 1)
    observer.close()

    client.set_query_data(KEY, 2)

    assert (listener.heard, shown(observer)) == ([("success", "idle", 1)], ("success", "idle", 1))


async def test_a_fetch_ends_and_stores_when_its_only_observer_closes(client: QueryClient) -> None:
    source = Source()
    client.observe(source.query, Listener()).close()

    await source.succeed("data")

    assert client.get_query_data(KEY) == "data"


async def test_observers_keep_their_result_in_silence_when_the_key_is_removed(
    client: QueryClient, listener: Listener
) -> None:
    client.set_query_data(KEY, "data")
    observer = client.observe(Source().query, listener)

    client.remove_queries()
    client.set_query_data(KEY, "of the next entry")

    assert (shown(observer), listener.heard) == (("success", "idle", "data"), [])


async def test_refetching_builds_the_entry_anew_when_the_key_was_removed(
    client: QueryClient, listener: Listener
) -> None:
    source = Source()
    client.set_query_data(KEY, "data")
    observer = client.observe(source.query, listener)
    client.remove_queries()

    refetching = asyncio.create_task(observer.refetch())
    await source.succeed("new")

    assert (await refetching).data == "new"
    assert listener.heard == [("pending", "fetching", UNSET), ("success", "idle", "new")]
    client.set_query_data(KEY, "newer")
    assert shown(observer) == ("success", "idle", "newer")


async def test_a_wait_ends_when_the_key_was_removed_during_the_first_fetch(
    client: QueryClient, listener: Listener
) -> None:
    source = Source()
    observer = client.observe(source.query, listener)
    await settle()

    client.remove_queries()
    await source.succeed("data")

    assert (shown(observer), client.get_query_state(KEY)) == (("success", "idle", "data"), None)


async def test_a_removed_key_is_not_fetched_again_when_it_was_invalidated_before(client: QueryClient) -> None:
    source = Source()
    client.observe(source.query, Listener())
    await settle()

    client.invalidate_queries()
    client.remove_queries()
    await source.succeed("data")

    assert (source.calls, client.get_query_state(KEY)) == (1, None)


async def test_the_fetch_of_a_removed_key_ends_when_its_observer_refetches(client: QueryClient) -> None:
    source = Source()
    observer = client.observe(source.query, Listener())
    await settle()
    client.remove_queries()

    refetching = asyncio.create_task(observer.refetch())
    await settle()
    assert [answer.cancelled() for answer in source.waiting] == [True, False]
    del source.waiting[0]
    await source.succeed("new")

    assert (await refetching).data == "new"


async def test_refetching_returns_the_error_in_the_result_when_it_fails(client: QueryClient) -> None:
    source, error = Source(), ItxError("no", code="FORBIDDEN")
    client.set_query_data(KEY, "old")
    observer = client.observe(source.query, Listener())

    refetching = asyncio.create_task(observer.refetch())
    await source.fail(error)
    result = await refetching

    assert (result.data, result.error, result.is_refetch_error) == ("old", error, True)


async def test_refetching_works_when_the_observer_is_disabled(client: QueryClient) -> None:
    source = Source()
    observer = client.observe(source.query, Listener(), enabled=False)

    refetching = asyncio.create_task(observer.refetch())
    await source.succeed("data")

    assert (await refetching).data == "data"
