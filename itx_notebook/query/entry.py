"""One entry of the cache: the state of a key, the one fetch under way for it, its observers, its time to live.

Apart from the client, which is a directory of entries. Everything here runs on the loop the cache lives on. An entry
that was removed from the cache lives on for those who still hold it, and writes to nobody else: a late result cannot
reach the entry that took its place, because it is another object.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from msgspec import UNSET

from itx_notebook._clock import Clock, TimerHandle
from itx_notebook.errors import ItxError
from itx_notebook.query.keys import QueryKey
from itx_notebook.query.retry import RetryPolicy, run_with_retry
from itx_notebook.query.sharing import share_equal_parts
from itx_notebook.query.state import (
    AttemptFailed,
    DataSet,
    FetchCancelled,
    FetchFailed,
    FetchStarted,
    FetchSucceeded,
    Hydrated,
    Invalidated,
    QueryAction,
    QueryState,
    StaleTime,
    is_state_stale,
    reduce_state,
)

__all__ = ["EntryHost", "EntryObserver", "Fetch", "QueryEntry"]

T = TypeVar("T")

_QueryFn: TypeAlias = Callable[[], Awaitable[Any]]

_log = logging.getLogger(__name__)


class EntryObserver(Protocol):
    """What an entry asks of those who watch it."""

    @property
    def wants_refetch(self) -> bool:
        """Whether an invalidation should make the entry fetch on this observer's behalf."""
        ...

    def begin_refetch(self) -> object:
        """Begin a fetch of the watched entry, or join the one under way."""
        ...

    def on_state_change(self) -> None:
        """The entry has a new state. Must not raise."""
        ...


class EntryHost(Protocol):
    """What an entry asks of the cache that holds it."""

    @property
    def clock(self) -> Clock:
        """Time, for stamps, retries and the time to live."""
        ...

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, Any]],
        on_done: Callable[[asyncio.Task[Any]], object],
    ) -> asyncio.Task[Any]:
        """Run ``make()`` as a task of the cache's own; raises if the cache is closed."""
        ...

    def remove_entry(self, entry: QueryEntry) -> None:
        """Forget `entry`, if it is still the one its key leads to."""
        ...


class Fetch(Generic[T]):
    """One fetch under way. It belongs to the entry, not to whoever began it; all who join get its one outcome.

    Attributes
    ----------
    outcome : asyncio.Future
        Set once the entry has taken the result in. Never cancelled: an abandoned fetch ends in an error.
    waiters : int
        How many coroutines wait for the outcome.
    forgets_failure : bool
        If it fails and leaves an entry without data or observers, the entry is removed in the same step.
    is_outrun : bool
        Newer data was put in by hand since the fetch began: what it brings may be older, and is dropped.
    is_outdated : bool
        The key was invalidated since the fetch began: what it brings may be older than that.
    repeats_when_done : bool
        The invalidation asked for a refetch, which this fetch is too old to be.
    """

    def __init__(self, entry: QueryEntry, task: asyncio.Task[Any], *, began_at_ms: int) -> None:
        self._entry = entry
        self._task = task
        self.outcome: asyncio.Future[T] = task.get_loop().create_future()
        self.began_at_ms = began_at_ms
        self.waiters = 0
        self.forgets_failure = False
        self.is_outrun = False
        self.is_outdated = False
        self.repeats_when_done = False

    def cancel(self) -> None:
        """Ask the query function to stop; the entry settles when it has."""
        self._task.cancel()

    async def join(self) -> T:
        """Wait for the outcome: return the data or raise the error.

        Cancelling leaves the fetch to the others, and to the cache.
        """
        self.waiters += 1
        try:
            return await asyncio.shield(self.outcome)
        finally:
            self.waiters -= 1
            self._entry.cancel_pointless_fetch()

    async def wait(self) -> None:
        """Wait until there is an outcome, whatever it is. Cancelling is safe."""
        self.waiters += 1
        try:
            await asyncio.wait([self.outcome])
        finally:
            self.waiters -= 1
            self._entry.cancel_pointless_fetch()


class QueryEntry:
    """State, fetch, observers and time to live of one key. Made by the client alone."""

    def __init__(self, query_key: QueryKey, query_hash: str, *, host: EntryHost, gc_time: float) -> None:
        self.query_key = query_key
        self.query_hash = query_hash
        self.state: QueryState[Any] = QueryState()
        self.fetch: Fetch[Any] | None = None
        self._host = host
        self._before_fetch = self.state
        self._observers: list[EntryObserver] = []
        self._is_removed = False
        self._gc_time = gc_time
        self._gc_timer: TimerHandle | None = None
        self._schedule_gc()

    @property
    def is_observed(self) -> bool:
        """Whether anybody watches, enabled or not."""
        return bool(self._observers)

    def is_stale(self, stale_time: StaleTime) -> bool:
        """Whether a reader with `stale_time` seconds should fetch."""
        return is_state_stale(self.state, stale_time, self._host.clock.now_ms())

    def set_data(self, data: Any, at_ms: int) -> None:
        """Put data in by hand. If it is dated after the fetch under way began, it outruns what that brings."""
        if self.fetch is not None and at_ms >= self.fetch.began_at_ms:
            self.fetch.is_outrun = True
        self._dispatch(DataSet(share_equal_parts(self.state.data, data), at_ms))
        self._schedule_gc()

    def hydrate(self, data: Any, at_ms: int, *, is_invalidated: bool) -> None:
        """Replace the state by a saved one, but for what is going on now."""
        self._dispatch(Hydrated(share_equal_parts(self.state.data, data), at_ms, is_invalidated))
        self._schedule_gc()

    # Fetching

    def begin_fetch(self, query_fn: _QueryFn, *, retry: RetryPolicy) -> Fetch[Any]:
        """Begin a fetch, or join the one under way, which keeps its own function and retry rule."""
        if self.fetch is not None:
            return self.fetch

        def settle(task: asyncio.Task[Any]) -> None:
            self._settle(fetch, task)

        task = self._host.spawn(lambda: self._run(query_fn, retry), settle)
        fetch = self.fetch = Fetch(self, task, began_at_ms=self._host.clock.now_ms())
        self._cancel_gc()
        self._before_fetch = self.state
        self._dispatch(FetchStarted())
        return fetch

    def invalidate(self) -> None:
        """Declare the data out of date, and what a fetch under way will bring as well."""
        if self.fetch is not None:
            self.fetch.is_outdated = True
        self._dispatch(Invalidated())

    def refetch_if_active(self) -> None:
        """Fetch for the first observer that wants it: now, or right after the fetch under way."""
        if self.fetch is not None:
            self.fetch.repeats_when_done = True
            return
        for observer in self._observers:
            if observer.wants_refetch:
                observer.begin_refetch()
                return

    def cancel_pointless_fetch(self) -> None:
        """End the fetch of a removed entry once nobody can see what it brings."""
        fetch = self.fetch
        if self._is_removed and fetch is not None and not fetch.waiters and not self._observers:
            fetch.cancel()

    async def _run(self, query_fn: _QueryFn, retry: RetryPolicy) -> Any:
        data = await run_with_retry(
            query_fn,
            policy=retry,
            clock=self._host.clock,
            on_attempt_failed=lambda error: self._dispatch(AttemptFailed(error)),
        )
        if data is UNSET:
            raise ItxError(
                f"The query function of {self.query_hash} returned no data (UNSET).",
                code="INTERNAL",
                hint="Return None, or any other value, from the query function.",
            )
        return data

    def _settle(self, fetch: Fetch[Any], task: asyncio.Task[Any]) -> None:
        """Take the outcome in; in one step, so that nobody sees a state between.

        The task's own callback rather than the end of its coroutine: a task that is cancelled before its first step
        never runs its coroutine, and would leave the entry fetching for ever.
        """
        # First, so that a listener told of the outcome may begin the next fetch.
        self.fetch = None
        error = self._get_error(task)
        if error is None:
            success = self._make_success(fetch, task.result())
            self._dispatch(success)
            fetch.outcome.set_result(success.data)
        else:
            _log.debug("Fetch of %s failed", self.query_hash, exc_info=error)
            was_told_to_stop = task.cancelled() and task.cancelling() > 0
            self._dispatch(
                FetchCancelled(self._before_fetch)
                if was_told_to_stop
                else FetchFailed(error, self._host.clock.now_ms())
            )
            self._fail(fetch, error)
        if fetch.repeats_when_done and not self._is_removed and not task.cancelled():
            self.refetch_if_active()
        self._schedule_gc()

    def _make_success(self, fetch: Fetch[Any], data: Any) -> FetchSucceeded:
        """What the fetch changes: a live batch that came in while it was asking must not be undone by its answer."""
        state = self.state
        if fetch.is_outrun:
            return FetchSucceeded(state.data, state.data_updated_at_ms, state.is_invalidated)
        shared = share_equal_parts(state.data, data)
        return FetchSucceeded(shared, self._host.clock.now_ms(), fetch.is_outdated)

    def _get_error(self, task: asyncio.Task[Any]) -> BaseException | None:
        """What a fetch failed with, as an error that those who wait cannot take for their own cancellation."""
        if task.cancelled():
            return ItxError(f"The fetch of {self.query_hash} was cancelled.", code="INTERNAL")
        return task.exception()

    def _fail(self, fetch: Fetch[Any], error: BaseException) -> None:
        # In the step in which it failed: a moment later somebody may already be fetching this entry again.
        if fetch.forgets_failure and not self.state.has_data and self.fetch is None and not self._observers:
            self._host.remove_entry(self)
        fetch.outcome.set_exception(error)
        # Nobody may be waiting, and an error nobody waits for is no news to the loop.
        fetch.outcome.exception()

    # Observers and lifetime

    def add_observer(self, observer: EntryObserver) -> None:
        """Tell `observer` of every new state, and live at least as long as it watches."""
        self._observers.append(observer)
        self._cancel_gc()

    def remove_observer(self, observer: EntryObserver) -> None:
        """Stop telling `observer`; the last one to go starts the time to live."""
        self._observers.remove(observer)
        self.cancel_pointless_fetch()
        self._schedule_gc()

    def raise_gc_time(self, gc_time: float) -> None:
        """Live at least `gc_time` seconds without observers: the longest wish ever heard counts."""
        if gc_time > self._gc_time:
            self._gc_time = gc_time
            if self._gc_timer is not None:
                self._schedule_gc()

    def detach(self) -> None:
        """The cache has let go: no more time to live, and no fetch that only the cache waited for."""
        self._is_removed = True
        self._cancel_gc()
        self.cancel_pointless_fetch()

    @property
    def is_removed(self) -> bool:
        """Whether the cache has let go of this entry."""
        return self._is_removed

    def _schedule_gc(self) -> None:
        self._cancel_gc()
        if self._is_removed or self._observers or self.fetch is not None or math.isinf(self._gc_time):
            return
        self._gc_timer = self._host.clock.call_later(self._gc_time, lambda: self._host.remove_entry(self))

    def _cancel_gc(self) -> None:
        if self._gc_timer is not None:
            self._gc_timer.cancel()
            self._gc_timer = None

    def _dispatch(self, action: QueryAction) -> None:
        state = reduce_state(self.state, action)
        if state is self.state:
            return
        self.state = state
        # A copy: a listener may close observers or make new ones.
        for observer in tuple(self._observers):
            observer.on_state_change()
