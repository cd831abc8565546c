from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from itx_notebook.query import (
    UNSET,
    QueryClient,
    QueryDefaults,
    QueryDefinition,
    QueryState,
    prefetch_itx_query,
)
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from tests.query.source import Source, internal, not_found

KEY = ("things", "one")


class Project:
    """A loader and a query function, both under the test's control."""

    def __init__(self, *, stale_time: float = 10.0) -> None:
        self.source = Source()
        self.handles: list[Any] = []
        self.asked: list[str] = []
        self.refusal: BaseException | None = None
        self.definition: QueryDefinition[Any] = QueryDefinition(
            project="prj_1", query_key=KEY, query_fn=self._fetch, stale_time=stale_time
        )

    async def get_loader_itx(self, project: str) -> Any:
        self.asked.append(project)
        if self.refusal is not None:
            raise self.refusal
        return "the handle"

    async def _fetch(self, handle: Any) -> Any:
        self.handles.append(handle)
        return await self.source.fetch()

    def begin_prefetch(self, client: QueryClient, *, deadline: float = 2.0) -> asyncio.Task[None]:
        return asyncio.create_task(prefetch_itx_query(self.definition, client, self.get_loader_itx, deadline=deadline))


@pytest.fixture
def project() -> Project:
    return Project()


def ignore(_state: QueryState[Any]) -> None:
    """Watch without looking."""


def state_of(client: QueryClient) -> QueryState[Any]:
    state = client.get_query_state(KEY)
    assert state is not None
    return state


# Success


async def test_prefetch_seeds_the_key_when_the_fetch_succeeds(client: QueryClient, project: Project) -> None:
    task = project.begin_prefetch(client)
    await project.source.succeed("data")
    await task

    assert (state_of(client).status, state_of(client).data) == ("success", "data")
    assert (project.asked, project.handles) == (["prj_1"], ["the handle"])


async def test_prefetch_asks_nobody_when_data_is_fresh(client: QueryClient, clock: FakeClock, project: Project) -> None:
    client.set_query_data(KEY, "data")
    await clock.advance(9.999)

    await prefetch_itx_query(project.definition, client, project.get_loader_itx)

    assert project.asked == []


async def test_prefetch_revalidates_when_data_is_stale(client: QueryClient, clock: FakeClock, project: Project) -> None:
    client.set_query_data(KEY, "old")
    await clock.advance(10)

    task = project.begin_prefetch(client)
    await project.source.succeed("new")
    await task

    assert (client.get_query_data(KEY), project.source.calls) == ("new", 1)


async def test_prefetch_is_fast_when_data_is_fresh(client: QueryClient, project: Project) -> None:
    client.set_query_data(KEY, "data")
    best = math.inf
    for _ in range(10):
        begin = time.perf_counter()
        for _ in range(200):
            await prefetch_itx_query(project.definition, client, project.get_loader_itx)
        best = min(best, (time.perf_counter() - begin) / 200)

    # The budget; the best of several runs, so that a busy machine does not decide.
    assert best <= 20e-6


# Failure


@pytest.mark.parametrize("refusal", [not_found(), PermissionError("no principal"), asyncio.CancelledError()])
async def test_prefetch_leaves_no_entry_when_the_handle_fails(
    client: QueryClient, project: Project, refusal: BaseException
) -> None:
    project.refusal = refusal

    await project.begin_prefetch(client)

    assert (client.get_query_state(KEY), project.source.calls) == (None, 0)


async def test_prefetch_leaves_no_entry_when_the_function_fails(client: QueryClient, project: Project) -> None:
    task = project.begin_prefetch(client)
    await project.source.fail()
    await task

    assert (client.get_query_state(KEY), project.source.calls) == (None, 1)


async def test_prefetch_leaves_no_entry_when_the_loader_fails_at_once(client: QueryClient, project: Project) -> None:
    def get_loader_itx(_project: str) -> Any:
        raise RuntimeError("no loader")

    await prefetch_itx_query(project.definition, client, get_loader_itx)

    assert client.get_query_state(KEY) is None


async def test_prefetch_leaves_no_entry_when_the_function_was_cancelled_by_others(
    client: QueryClient, project: Project
) -> None:
    task = project.begin_prefetch(client)
    await settle()

    project.source.waiting[0].cancel()
    await task

    assert client.get_query_state(KEY) is None


async def test_prefetch_calls_once_when_the_default_is_to_retry(clock: FakeClock, project: Project) -> None:
    client = QueryClient(clock, defaults=QueryDefaults(retry=5))
    task = project.begin_prefetch(client, deadline=math.inf)

    await project.source.fail()
    assert task.done()
    await clock.advance(3600)
    await client.close()

    assert project.source.calls == 1


async def test_prefetch_keeps_data_when_a_refetch_really_fails(
    client: QueryClient, clock: FakeClock, project: Project
) -> None:
    client.set_query_data(KEY, "old")
    await clock.advance(10)
    error = internal()

    task = project.begin_prefetch(client)
    await project.source.fail(error)
    await task

    assert (project.source.calls, state_of(client).data, state_of(client).error) == (1, "old", error)


async def test_prefetch_removes_an_entry_when_an_earlier_failure_had_left_it(
    client: QueryClient, project: Project
) -> None:
    client.begin_fetch(project.source.query, retry=False)
    await project.source.fail()
    assert state_of(client).is_loading_error

    task = project.begin_prefetch(client)
    await project.source.fail()
    await task

    assert client.get_query_state(KEY) is None


@pytest.mark.parametrize("enabled", [True, False])
async def test_prefetch_does_not_remove_the_entry_when_it_is_observed(
    client: QueryClient, project: Project, enabled: bool
) -> None:
    observer = client.observe(project.source.query, ignore, enabled=enabled, retry=False)

    task = project.begin_prefetch(client)
    await project.source.fail()
    await task

    assert state_of(client) is observer.result
    assert observer.result.is_loading_error


async def test_prefetch_says_nothing_when_it_fails(
    client: QueryClient, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    task = project.begin_prefetch(client)
    await project.source.fail()
    await task

    assert caplog.records == []


async def test_prefetch_returns_when_the_client_is_closed(clock: FakeClock, project: Project) -> None:
    client = QueryClient(clock)
    await client.close()

    await prefetch_itx_query(project.definition, client, project.get_loader_itx)

    assert project.asked == []


async def test_prefetch_returns_when_the_client_closes_while_it_waits(clock: FakeClock, project: Project) -> None:
    client = QueryClient(clock)
    task = project.begin_prefetch(client)
    await settle()

    await client.close()
    await task

    assert clock.pending == 0


# Races


async def test_prefetch_does_not_remove_the_entry_when_another_caller_fetches_again(
    client: QueryClient, project: Project
) -> None:
    async def fetch_until_it_works() -> Any:
        while True:
            try:
                return await client.fetch_query(project.source.query, retry=False)
            except Exception:
                assert client.get_query_state(KEY) is None

    caller = asyncio.create_task(fetch_until_it_works())
    task = project.begin_prefetch(client)

    await project.source.fail()
    await task
    assert (state_of(client).status, state_of(client).fetch_status) == ("pending", "fetching")
    await project.source.succeed("data")

    assert (await caller, client.get_query_data(KEY), project.source.calls) == ("data", "data", 2)


async def test_prefetch_does_not_remove_the_entry_when_a_listener_fetches_again_and_leaves(
    client: QueryClient, project: Project
) -> None:
    """The only way in between failure and removal: a listener, told in the very step of the failure."""

    def fetch_again_and_leave(state: QueryState[Any]) -> None:
        if state.is_loading_error:
            observer.close()
            client.begin_fetch(project.source.query, retry=False)

    observer = client.observe(project.source.query, fetch_again_and_leave, retry=False)
    task = project.begin_prefetch(client)

    await project.source.fail()
    await task
    assert (state_of(client).status, state_of(client).fetch_status) == ("pending", "fetching")
    await project.source.succeed("data")

    assert client.get_query_data(KEY) == "data"


async def test_prefetch_does_not_touch_the_next_entry_when_its_own_was_replaced(
    client: QueryClient, project: Project
) -> None:
    task = project.begin_prefetch(client)
    await settle()
    late = project.source.waiting.pop()
    waiting = asyncio.create_task(client.begin_fetch(project.source.query).wait())
    await settle()
    client.remove_queries()
    client.begin_fetch(project.source.query, retry=False)
    await project.source.fail()

    late.set_exception(internal())
    await asyncio.gather(task, waiting)

    assert state_of(client).is_loading_error


async def test_prefetches_share_one_fetch_when_they_overlap(client: QueryClient, project: Project) -> None:
    tasks = [project.begin_prefetch(client) for _ in range(3)]
    await project.source.succeed("data")
    await asyncio.gather(*tasks)

    assert (project.source.calls, project.asked) == (1, ["prj_1"])


async def test_prefetch_joins_when_a_view_is_already_fetching(client: QueryClient, project: Project) -> None:
    observer = client.observe(project.source.query, ignore)
    task = project.begin_prefetch(client)
    await project.source.succeed("data")
    await task

    assert (observer.result.data, project.source.calls, project.asked) == ("data", 1, [])


# Deadline


async def test_prefetch_returns_at_the_deadline_when_nothing_answers(
    client: QueryClient, clock: FakeClock, project: Project
) -> None:
    task = project.begin_prefetch(client)

    await clock.advance(1.999)
    assert not task.done()
    await clock.advance(0.001)
    assert task.done()
    await task
    assert state_of(client).is_fetching
    await project.source.succeed("late, and welcome")

    assert (client.get_query_data(KEY), project.source.calls) == ("late, and welcome", 1)


async def test_prefetch_leaves_no_entry_when_the_failure_comes_after_the_deadline(
    client: QueryClient, clock: FakeClock, project: Project
) -> None:
    task = project.begin_prefetch(client)
    await clock.advance(2)
    await task

    await project.source.fail()

    assert client.get_query_state(KEY) is None


async def test_prefetch_only_begins_when_the_deadline_is_zero(client: QueryClient, project: Project) -> None:
    await prefetch_itx_query(project.definition, client, project.get_loader_itx, deadline=0)

    assert state_of(client).is_fetching
    await project.source.succeed("data")
    assert client.get_query_data(KEY) == "data"


async def test_prefetch_leaves_no_timer_when_it_returns_early(
    client: QueryClient, clock: FakeClock, project: Project
) -> None:
    task = project.begin_prefetch(client)
    await project.source.fail()
    await task

    assert clock.pending == 0


async def test_prefetch_passes_on_its_callers_cancellation_when_it_waits(
    client: QueryClient, clock: FakeClock, project: Project
) -> None:
    task = project.begin_prefetch(client)
    await settle()

    task.cancel()
    await settle()
    assert (task.cancelled(), clock.pending) == (True, 0)
    await project.source.succeed("data")

    assert client.get_query_data(KEY) == "data"


async def test_prefetch_leaves_no_entry_when_it_was_cancelled_and_then_fails(
    client: QueryClient, project: Project
) -> None:
    task = project.begin_prefetch(client)
    await settle()
    task.cancel()

    await project.source.fail()

    assert client.get_query_data(KEY) is UNSET
    assert client.get_query_state(KEY) is None
