from __future__ import annotations

from typing import Any

import msgspec
import pytest

from itx_notebook.query.state import (
    AttemptFailed,
    DataSet,
    FetchCancelled,
    FetchFailed,
    FetchStarted,
    FetchStatus,
    FetchSucceeded,
    Hydrated,
    Invalidated,
    QueryAction,
    QueryState,
    QueryStatus,
    StaleTime,
    is_state_stale,
    reduce_state,
)
from tests.query.source import internal

NEW: QueryState[Any] = QueryState()
ERROR = internal()


def after(*actions: QueryAction, state: QueryState[Any] = NEW) -> QueryState[Any]:
    for action in actions:
        state = reduce_state(state, action)
    return state


def axes(state: QueryState[Any]) -> tuple[QueryStatus, FetchStatus]:
    return state.status, state.fetch_status


SUCCEEDED = after(FetchStarted(), FetchSucceeded("data", 5, is_invalidated=False))
FAILED_EMPTY = after(FetchStarted(), FetchFailed(ERROR, 5))
FAILED_WITH_DATA = after(FetchStarted(), FetchFailed(ERROR, 9), state=SUCCEEDED)


def test_state_is_pending_and_idle_when_never_fetched() -> None:
    assert (axes(NEW), NEW.has_data, NEW.is_loading) == (("pending", "idle"), False, False)


def test_start_shows_a_wait_when_there_is_no_data() -> None:
    state = after(FetchStarted(), state=FAILED_EMPTY)

    assert (axes(state), state.error, state.is_loading) == (("pending", "fetching"), None, True)


def test_start_keeps_status_and_error_when_there_is_data() -> None:
    state = after(FetchStarted(), state=FAILED_WITH_DATA)

    assert (axes(state), state.error, state.data) == (("error", "fetching"), ERROR, "data")


def test_success_clears_error_and_invalidation_when_it_comes() -> None:
    state = after(
        FetchStarted(), AttemptFailed(ERROR), FetchSucceeded(None, 7, is_invalidated=False), state=FAILED_EMPTY
    )

    assert state == QueryState(
        status=QueryStatus.SUCCESS,
        data=None,
        data_updated_at_ms=7,
        data_update_count=1,
        error_updated_at_ms=5,
        error_update_count=1,
    )
    assert state.has_data


def test_failure_keeps_data_and_invalidates_when_a_refetch_fails() -> None:
    assert FAILED_WITH_DATA == QueryState(
        status=QueryStatus.ERROR,
        data="data",
        data_updated_at_ms=5,
        data_update_count=1,
        error=ERROR,
        error_updated_at_ms=9,
        error_update_count=1,
        fetch_failure_count=1,
        fetch_failure_reason=ERROR,
        is_invalidated=True,
    )
    assert (FAILED_WITH_DATA.is_refetch_error, FAILED_WITH_DATA.is_loading_error) == (True, False)
    assert (FAILED_EMPTY.is_refetch_error, FAILED_EMPTY.is_loading_error) == (False, True)


def test_failed_attempts_are_counted_when_retries_follow() -> None:
    state = after(FetchStarted(), AttemptFailed(ERROR), AttemptFailed(ERROR))

    assert (state.fetch_failure_count, state.fetch_failure_reason, axes(state)) == (
        2,
        ERROR,
        ("pending", "fetching"),
    )
    assert after(FetchStarted(), state=state).fetch_failure_count == 0


@pytest.mark.parametrize("before", [NEW, SUCCEEDED, FAILED_EMPTY, FAILED_WITH_DATA])
def test_cancelling_restores_the_state_when_nothing_else_happened(before: QueryState[Any]) -> None:
    assert after(FetchStarted(), AttemptFailed(ERROR), FetchCancelled(before), state=before) == before


def test_cancelling_keeps_data_when_it_was_set_meanwhile() -> None:
    state = after(FetchStarted(), DataSet("by hand", 8), FetchCancelled(FAILED_EMPTY), state=FAILED_EMPTY)

    assert (axes(state), state.data, state.error) == (("success", "idle"), "by hand", None)


def test_invalidating_gives_the_same_object_when_already_invalid() -> None:
    state = after(Invalidated(), state=SUCCEEDED)

    assert state == msgspec.structs.replace(SUCCEEDED, is_invalidated=True)
    assert after(Invalidated(), state=state) is state


def test_setting_data_keeps_the_fetch_when_one_is_under_way() -> None:
    state = after(FetchStarted(), DataSet("by hand", 8), state=FAILED_EMPTY)

    assert (axes(state), state.data, state.data_updated_at_ms, state.is_invalidated) == (
        ("success", "fetching"),
        "by hand",
        8,
        False,
    )


def test_hydrating_replaces_all_but_the_fetch_when_one_is_under_way() -> None:
    state = after(FetchStarted(), Hydrated("saved", 3, is_invalidated=True), state=FAILED_EMPTY)

    assert state == QueryState(
        status=QueryStatus.SUCCESS,
        fetch_status=FetchStatus.FETCHING,
        data="saved",
        data_updated_at_ms=3,
        data_update_count=1,
        is_invalidated=True,
    )


@pytest.mark.parametrize(
    ("state", "stale_time", "now_ms", "expected"),
    [
        (NEW, "static", 0, True),
        (SUCCEEDED, 1.0, 1004, False),
        (SUCCEEDED, 1.0, 1005, True),
        (SUCCEEDED, 0.0, 5, True),
        (SUCCEEDED, float("inf"), 10**15, False),
        (SUCCEEDED, "static", 10**15, False),
        (after(Invalidated(), state=SUCCEEDED), float("inf"), 5, True),
        (after(Invalidated(), state=SUCCEEDED), "static", 5, False),
        (FAILED_WITH_DATA, 60.0, 10, True),
    ],
)
def test_staleness_follows_the_reader_when_data_ages(
    state: QueryState[Any], stale_time: StaleTime, now_ms: int, expected: bool
) -> None:
    assert is_state_stale(state, stale_time, now_ms) is expected
