"""What is known about one key, as a frozen value, and the few actions that lead from one value to the next.

Apart from the entry, which owns timers and tasks: this is pure, and every transition of the cache is in
:func:`reduce_state`. Two axes: :class:`QueryStatus` says what there is, :class:`FetchStatus` what is going on.
"""

from __future__ import annotations

import enum
from typing import Any, Generic, Literal, TypeAlias, TypeVar, assert_never

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "AttemptFailed",
    "DataSet",
    "FetchCancelled",
    "FetchFailed",
    "FetchStarted",
    "FetchStatus",
    "FetchSucceeded",
    "Hydrated",
    "Invalidated",
    "QueryAction",
    "QueryState",
    "QueryStatus",
    "StaleTime",
    "is_state_stale",
    "reduce_state",
]

T = TypeVar("T")

StaleTime: TypeAlias = float | Literal["static"]
"""Seconds for which data counts as fresh; ``"static"``: for ever, even when invalidated."""


class QueryStatus(enum.StrEnum):
    """What there is: nothing yet, data, or a failure (with or without older data)."""

    PENDING = "pending"
    SUCCESS = "success"
    ERROR = "error"


class FetchStatus(enum.StrEnum):
    """What is going on. ``PENDING`` and ``IDLE`` together: never fetched, or disabled."""

    IDLE = "idle"
    FETCHING = "fetching"


class QueryState(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Everything the cache knows about one key, at one moment. Compared by identity by those who watch it.

    A view branches on ``has_data`` first and on ``error`` second: old data beside a failed refresh is better than
    an error alone.

    Attributes
    ----------
    data : T or UNSET
        ``UNSET`` (falsy) means there is none; ``None`` is data. Read-only: parts are shared between results.
    data_updated_at_ms, error_updated_at_ms : int
        Wall clock, milliseconds since the epoch; 0 means never.
    error : BaseException, optional
        The last failure, until a success, or a new fetch without data, clears it.
    fetch_failure_count : int
        Failed attempts of the current or last fetch.
    fetch_failure_reason : BaseException, optional
        What the last of these attempts failed with.
    is_invalidated : bool
        Declared out of date, whatever its age; also after a failed fetch.
    """

    status: QueryStatus = QueryStatus.PENDING
    fetch_status: FetchStatus = FetchStatus.IDLE
    data: T | UnsetType = UNSET
    data_updated_at_ms: int = 0
    data_update_count: int = 0
    error: BaseException | None = None
    error_updated_at_ms: int = 0
    error_update_count: int = 0
    fetch_failure_count: int = 0
    fetch_failure_reason: BaseException | None = None
    is_invalidated: bool = False

    @property
    def has_data(self) -> bool:
        """Whether there is data, however old."""
        return self.data is not UNSET

    @property
    def is_fetching(self) -> bool:
        """Whether a fetch is under way."""
        return self.fetch_status is FetchStatus.FETCHING

    @property
    def is_loading(self) -> bool:
        """Whether the first data is being fetched: the only state in which a spinner may stand alone."""
        return self.status is QueryStatus.PENDING and self.is_fetching

    @property
    def is_loading_error(self) -> bool:
        """Failed, with nothing to show."""
        return self.status is QueryStatus.ERROR and not self.has_data

    @property
    def is_refetch_error(self) -> bool:
        """Failed to refresh; the older data is still there."""
        return self.status is QueryStatus.ERROR and self.has_data


class _Action(msgspec.Struct, frozen=True):
    """Base of the actions."""


class FetchStarted(_Action, frozen=True):
    """A fetch begins."""


class AttemptFailed(_Action, frozen=True):
    """One attempt failed and another will follow."""

    error: BaseException


class FetchSucceeded(_Action, frozen=True):
    """The fetch ended with data. ``is_invalidated``: the key was invalidated after the fetch had begun."""

    data: Any
    at_ms: int
    is_invalidated: bool


class FetchFailed(_Action, frozen=True):
    """The fetch ended with an error."""

    error: BaseException
    at_ms: int


class FetchCancelled(_Action, frozen=True):
    """The fetch ended without an answer. ``before`` is the state it had begun from."""

    before: QueryState[Any]


class Invalidated(_Action, frozen=True):
    """The data was declared out of date."""


class DataSet(_Action, frozen=True):
    """Data was put in by hand."""

    data: Any
    at_ms: int


class Hydrated(_Action, frozen=True):
    """Data came out of a saved cache, with its own age."""

    data: Any
    at_ms: int
    is_invalidated: bool


QueryAction: TypeAlias = (
    FetchStarted | AttemptFailed | FetchSucceeded | FetchFailed | FetchCancelled | Invalidated | DataSet | Hydrated
)


def reduce_state(state: QueryState[Any], action: QueryAction) -> QueryState[Any]:
    """Return the state after `action`; the same object if nothing changed."""
    match action:
        case FetchStarted():
            return _start(state)
        case AttemptFailed(error=error):
            return _replace(state, fetch_failure_count=state.fetch_failure_count + 1, fetch_failure_reason=error)
        case FetchSucceeded(data=data, at_ms=at_ms, is_invalidated=is_invalidated):
            return _replace(
                _take_data(state, data, at_ms),
                fetch_status=FetchStatus.IDLE,
                fetch_failure_count=0,
                fetch_failure_reason=None,
                is_invalidated=is_invalidated,
            )
        case FetchFailed(error=error, at_ms=at_ms):
            return _replace(
                state,
                status=QueryStatus.ERROR,
                fetch_status=FetchStatus.IDLE,
                error=error,
                error_updated_at_ms=at_ms,
                error_update_count=state.error_update_count + 1,
                fetch_failure_count=state.fetch_failure_count + 1,
                fetch_failure_reason=error,
                is_invalidated=True,
            )
        case FetchCancelled(before=before):
            return _revert(state, before)
        case Invalidated():
            return state if state.is_invalidated else _replace(state, is_invalidated=True)
        case DataSet(data=data, at_ms=at_ms):
            return _take_data(state, data, at_ms)
        case Hydrated(data=data, at_ms=at_ms, is_invalidated=is_invalidated):
            return QueryState(
                status=QueryStatus.SUCCESS,
                fetch_status=state.fetch_status,
                data=data,
                data_updated_at_ms=at_ms,
                data_update_count=state.data_update_count + 1,
                is_invalidated=is_invalidated,
            )
        case _:
            assert_never(action)


def is_state_stale(state: QueryState[Any], stale_time: StaleTime, now_ms: int) -> bool:
    """Whether a reader with this `stale_time` should fetch: staleness belongs to the reader, not to the data."""
    if state.data is UNSET:
        return True
    if stale_time == "static":
        return False
    return state.is_invalidated or now_ms >= state.data_updated_at_ms + stale_time * 1000


def _start(state: QueryState[Any]) -> QueryState[Any]:
    started = _replace(state, fetch_status=FetchStatus.FETCHING, fetch_failure_count=0, fetch_failure_reason=None)
    # Without data the next thing to show is a wait, not the old error; with data the error stands until the result.
    return started if state.has_data else _replace(started, status=QueryStatus.PENDING, error=None)


def _revert(state: QueryState[Any], before: QueryState[Any]) -> QueryState[Any]:
    reverted = _replace(
        state,
        fetch_status=FetchStatus.IDLE,
        fetch_failure_count=before.fetch_failure_count,
        fetch_failure_reason=before.fetch_failure_reason,
    )
    # Data that was put in meanwhile is not taken away again.
    return reverted if state.has_data else _replace(reverted, status=before.status, error=before.error)


def _take_data(state: QueryState[Any], data: Any, at_ms: int) -> QueryState[Any]:
    return _replace(
        state,
        status=QueryStatus.SUCCESS,
        data=data,
        data_updated_at_ms=at_ms,
        data_update_count=state.data_update_count + 1,
        error=None,
        is_invalidated=False,
    )


def _replace(state: QueryState[Any], **changes: Any) -> QueryState[Any]:
    return msgspec.structs.replace(state, **changes)
