"""A watch on one query: the current result, and a call at each change.

Apart from the entry because staleness, retries and the wish to fetch belong to the reader; the data does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import msgspec

from itx_notebook.query.definitions import Query
from itx_notebook.query.entry import Fetch, QueryEntry
from itx_notebook.query.retry import RetryPolicy
from itx_notebook.query.state import QueryState, QueryStatus, StaleTime

__all__ = ["ObserveOptions", "QueryObserver"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ObserveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one observer reads. See :meth:`QueryClient.observe`."""

    enabled: bool
    stale_time: StaleTime
    retry: RetryPolicy | Any
    refetch_on_mount: bool | Literal["always"]
    retry_on_mount: bool


class QueryObserver(Generic[T]):
    """Watches one query until closed. Made by :meth:`QueryClient.observe`; lives on the cache's loop.

    As a context manager it closes itself.
    """

    def __init__(
        self,
        query: Query[T],
        listener: Callable[[QueryState[T]], object],
        *,
        options: ObserveOptions,
        get_entry: Callable[[], QueryEntry],
    ) -> None:
        self._query = query
        self._listener = listener
        self._options = options
        self._get_entry = get_entry
        self._is_closed = False
        self._entry = get_entry()
        # Fetch first, watch second: the first result already says "fetching", and an old error is never flashed.
        if self._should_fetch_on_mount():
            self.begin_refetch()
        self._result: QueryState[T] = self._entry.state
        self._entry.add_observer(self)

    @property
    def result(self) -> QueryState[T]:
        """The latest state seen. After :meth:`close`, or once the key was removed, the last one there was."""
        return self._result

    @property
    def wants_refetch(self) -> bool:
        """Whether an invalidation fetches for this observer: enabled, and not told that its data never ages."""
        return self._options.enabled and self._options.stale_time != "static"

    async def refetch(self) -> QueryState[T]:
        """Fetch now, or join the fetch under way, and return the result, which carries the error if it failed.

        Works when disabled. If the key was removed from the cache meanwhile, its entry is built anew. Cancelling is
        safe; the fetch goes on.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: the client is closed.
        """
        fetch = self._rebuild_entry() if self._entry.is_removed and not self._is_closed else self.begin_refetch()
        await fetch.wait()
        return self._entry.state

    def begin_refetch(self) -> Fetch[T]:
        """Begin a fetch, or join the one under way, without waiting for it."""
        return self._entry.begin_fetch(self._query.query_fn, retry=self._options.retry)

    def close(self) -> None:
        """Stop watching; the listener is not called again. Repeating is harmless."""
        if not self._is_closed:
            self._is_closed = True
            self._entry.remove_observer(self)

    def on_state_change(self) -> None:
        """Take in the entry's state and tell the listener, whose failure is its own."""
        state = self._entry.state
        # A listener before this one may have changed the state again, and then this one has already seen the newest.
        if self._is_closed or state is self._result:
            return
        self._result = state
        try:
            self._listener(state)
        except Exception:
            _log.exception("A listener of %s failed", self._query.query_hash)

    def _rebuild_entry(self) -> Fetch[T]:
        removed, self._entry = self._entry, self._get_entry()
        removed.remove_observer(self)
        # As at mounting: told once, of a state that already says "fetching".
        fetch = self.begin_refetch()
        self._entry.add_observer(self)
        self.on_state_change()
        return fetch

    def _should_fetch_on_mount(self) -> bool:
        options, state = self._options, self._entry.state
        if not options.enabled:
            return False
        if not state.has_data:
            return options.retry_on_mount or state.status is not QueryStatus.ERROR
        if options.refetch_on_mount == "always":
            return True
        return options.refetch_on_mount and self._entry.is_stale(options.stale_time)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()
