"""The query cache: a directory of entries, and the operations readers have on it.

Apart from handles and sockets: it is told how to fetch and knows no itx. It lives on **one** asyncio loop (in the
product the I/O thread's) and is not thread-safe. Exceptions are :meth:`QueryClient.get_query_data`,
:meth:`~QueryClient.get_query_state` and :meth:`~QueryClient.try_get_fresh`, which read one frozen value through one
dict look-up and may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError
from itx_notebook.query.definitions import Query, QueryDefinition, parse_itx_data
from itx_notebook.query.dehydrate import DehydratedCache, dehydrate_entries, is_success, parse_dehydrated
from itx_notebook.query.entry import Fetch, QueryEntry
from itx_notebook.query.keys import QueryKey, hash_query_key, is_key_prefix
from itx_notebook.query.observer import ObserveOptions, QueryObserver
from itx_notebook.query.retry import RetryPolicy, retry_itx_once
from itx_notebook.query.state import QueryState, StaleTime, is_state_stale

__all__ = ["QueryClient", "QueryDefaults"]

T = TypeVar("T")


class QueryDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What applies where neither the query nor the call says otherwise. The original's app-wide figures.

    Attributes
    ----------
    stale_time : float or "static"
        Seconds data counts as fresh.
    gc_time : float
        Seconds an entry lives with neither observers nor a fetch; ``math.inf`` is for ever.
    retry : bool, int or callable
        Retries of ``fetch_query``, ``ensure_query_data`` and ``prefetch_query``; observers have their own rule.
    """

    stale_time: StaleTime = 60.0
    gc_time: float = 300.0
    retry: RetryPolicy | Any = 1


_log = logging.getLogger(__name__)

_DEFAULTS: Final = QueryDefaults()


class QueryClient:
    """A cache of answers with one fetch in flight per question.

    Cached data is shared, in whole and in parts, between readers and with later results: treat it as read-only.

    Parameters
    ----------
    clock : Clock
        Time, for ages, retries and lifetimes.
    defaults : QueryDefaults, optional
        Stale time 60 s, time to live 300 s, one retry.
    """

    def __init__(self, clock: Clock, *, defaults: QueryDefaults = _DEFAULTS) -> None:
        self.clock = clock
        self.defaults = defaults
        self._entries: dict[str, QueryEntry] = {}
        # asyncio itself holds tasks weakly.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    # Local reads and writes

    def get_query_data(self, query_key: QueryKey) -> Any:
        """Return the data of `query_key`, however old; ``UNSET`` if there is none. Any thread."""
        entry = self._entries.get(hash_query_key(query_key))
        return UNSET if entry is None else entry.state.data

    def get_query_state(self, query_key: QueryKey) -> QueryState[Any] | None:
        """Return the state of `query_key`; ``None`` if the cache does not know the key. Any thread."""
        entry = self._entries.get(hash_query_key(query_key))
        return None if entry is None else entry.state

    def try_get_fresh(
        self, query: Query[T] | QueryDefinition[T], *, stale_time: StaleTime | None = None
    ) -> T | UnsetType:
        """Return the data of `query` if it is fresh, else ``UNSET``. Any thread; no task, no I/O.

        Parameters
        ----------
        stale_time : float or "static", optional
            Instead of the query's own.
        """
        entry = self._entries.get(query.query_hash)
        if entry is None:
            return UNSET
        state = entry.state
        wanted = self._get_stale_time(query, stale_time)
        return UNSET if is_state_stale(state, wanted, self.clock.now_ms()) else state.data

    def set_query_data(self, query_key: QueryKey, data: Any, *, updated_at_ms: int | None = None) -> None:
        """Put data in by hand; ``UNSET`` does nothing, ``None`` is data.

        A fetch that began before `updated_at_ms` goes on, but what it brings is dropped, since it may be older; who
        waits for it gets this data. That is how a live batch and a refresh of the same stream may overlap.

        Parameters
        ----------
        updated_at_ms : int, optional
            When the data was true, in milliseconds since the epoch; ``None`` means now.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: the client is closed, or the key is not one.
        """
        if data is UNSET:
            return
        at_ms = self.clock.now_ms() if updated_at_ms is None else updated_at_ms
        self._build_entry(query_key, hash_query_key(query_key), None).set_data(data, at_ms)

    # Fetching

    async def fetch_query(
        self,
        query: Query[T],
        *,
        stale_time: StaleTime | None = None,
        retry: RetryPolicy | None = None,
        gc_time: float | None = None,
    ) -> T:
        """Return fresh data: from the cache if it is fresh, else fetched.

        Joins a fetch under way and shares its outcome. Cancelling is safe; the fetch goes on for the others and for
        the cache. If a refresh fails, older data stays in the cache and the error is raised here.

        Raises
        ------
        Exception
            Whatever the query function raised last.
        ItxError
            ``INTERNAL``: the fetch was cancelled, or brought ``UNSET``. ``BAD_REQUEST``: the client is closed.
        """
        data = self.try_get_fresh(query, stale_time=stale_time)
        if data is not UNSET:
            self._raise_gc_time(query, gc_time)
            return data
        return await self.begin_fetch(query, retry=retry, gc_time=gc_time).join()

    async def ensure_query_data(
        self,
        query: Query[T],
        *,
        revalidate_if_stale: bool = False,
        stale_time: StaleTime | None = None,
        retry: RetryPolicy | None = None,
        gc_time: float | None = None,
    ) -> T:
        """Return what is cached, however old and even if invalidated; fetch only if there is nothing.

        Parameters
        ----------
        revalidate_if_stale : bool
            Also begin a fetch in the background if what is returned is stale.

        Raises
        ------
        Exception
            As :meth:`fetch_query`, if there was nothing.
        """
        entry = self._entries.get(query.query_hash)
        data: T | UnsetType = UNSET if entry is None else entry.state.data
        if data is UNSET:
            return await self.begin_fetch(query, retry=retry, gc_time=gc_time).join()
        self._raise_gc_time(query, gc_time)
        if revalidate_if_stale and self.try_get_fresh(query, stale_time=stale_time) is UNSET:
            self.begin_fetch(query, retry=retry, gc_time=gc_time)
        return data

    async def prefetch_query(
        self,
        query: Query[Any],
        *,
        stale_time: StaleTime | None = None,
        retry: RetryPolicy | None = None,
        gc_time: float | None = None,
    ) -> None:
        """Do as :meth:`fetch_query` and drop result and error.

        For queries of itx see :func:`prefetch_itx_query`, which also has a deadline and leaves no failed entry.
        """
        if self.try_get_fresh(query, stale_time=stale_time) is UNSET:
            await self.begin_fetch(query, retry=retry, gc_time=gc_time).wait()

    def begin_fetch(
        self,
        query: Query[T],
        *,
        retry: RetryPolicy | None = None,
        gc_time: float | None = None,
        forget_failure: bool = False,
    ) -> Fetch[T]:
        """Begin a fetch, or join the one under way, whatever the age of the data; do not wait for it.

        Parameters
        ----------
        retry : bool, int or callable, optional
            ``None`` takes the client's default. A fetch that is joined keeps its own.
        forget_failure : bool
            If it fails and there is neither data nor an observer, remove the entry, in the step in which it fails.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: the client is closed.
        """
        entry = self._build_entry(query.query_key, query.query_hash, gc_time)
        fetch = entry.begin_fetch(query.query_fn, retry=self.defaults.retry if retry is None else retry)
        fetch.forgets_failure |= forget_failure
        return fetch

    # Many entries

    def invalidate_queries(self, prefix: QueryKey = (), *, exact: bool = False, refetch_active: bool = True) -> None:
        """Declare everything under `prefix` out of date, and refetch what an enabled observer watches.

        The rest is fetched again by its next reader. What a fetch already under way brings is stored but stays
        invalidated: it may have been read before the reason for the invalidation.

        Parameters
        ----------
        exact : bool
            Only the key `prefix` itself.
        refetch_active : bool
            ``False``: only declare.
        """
        entries = self._find(prefix, exact=exact)
        for entry in entries:
            entry.invalidate()
        if refetch_active:
            for entry in entries:
                entry.refetch_if_active()

    def remove_queries(self, prefix: QueryKey = (), *, exact: bool = False) -> None:
        """Forget everything under `prefix`, in silence: observers keep their last result until they refetch.

        Who waits for a fetch of a removed entry still gets its outcome; the cache does not.
        """
        for entry in self._find(prefix, exact=exact):
            self.remove_entry(entry)

    def observe(
        self,
        query: Query[T],
        listener: Callable[[QueryState[T]], object],
        *,
        enabled: bool = True,
        stale_time: StaleTime | None = None,
        retry: RetryPolicy = retry_itx_once,
        gc_time: float | None = None,
        refetch_on_mount: bool | Literal["always"] = True,
        retry_on_mount: bool = True,
    ) -> QueryObserver[T]:
        """Watch `query`: fetch it if need be, and call `listener` at each later change.

        Parameters
        ----------
        listener : callable
            Called with the new state, on the loop, while the change is made: it must be quick. What it raises is
            logged. Not called for the state at the time of observing: read ``result``.
        enabled : bool
            ``False``: show what is cached, fetch only on ``refetch()``.
        retry : bool, int or callable
            By default one retry, of transport failures and ``INTERNAL`` alone.
        refetch_on_mount : bool or "always"
            Whether stale data is fetched again now; ``"always"``: fresh data too.
        retry_on_mount : bool
            ``False``: an entry that failed without data is left as it is.
        """
        options = ObserveOptions(
            enabled=enabled,
            stale_time=self._get_stale_time(query, stale_time),
            retry=retry,
            refetch_on_mount=refetch_on_mount,
            retry_on_mount=retry_on_mount,
        )
        return QueryObserver(
            query,
            listener,
            options=options,
            get_entry=lambda: self._build_entry(query.query_key, query.query_hash, gc_time),
        )

    # Carriage

    def dehydrate(self, predicate: Callable[[QueryKey, QueryState[Any]], bool] = is_success) -> DehydratedCache:
        """Return a snapshot as JSON values, for a display, a saved notebook or another cache.

        Parameters
        ----------
        predicate : callable, optional
            ``(query_key, state) -> bool``; by default what succeeded last. Entries without data are never taken,
            whatever it says: an error alone would be painted before anything could fetch again.
        """
        chosen = [
            (entry.query_key, entry.state)
            for entry in tuple(self._entries.values())
            if entry.state.has_data and predicate(entry.query_key, entry.state)
        ]
        return dehydrate_entries(chosen, self.clock.now_ms())

    def hydrate(
        self,
        payload: DehydratedCache | Mapping[str, Any],
        *,
        parse: Callable[[QueryKey, Any], Any] = parse_itx_data,
    ) -> None:
        """Take in a snapshot: what is not known yet, and what is strictly newer than what is known.

        The data keeps its age, so what is old is fetched again by its next reader; fetches under way go on.

        Parameters
        ----------
        payload : DehydratedCache or Mapping
            Also as it came out of JSON.
        parse : callable, optional
            ``(query_key, data) -> data``: gives plain JSON its type back. Data it refuses is left out.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: `payload` is not a snapshot.
        """
        for query_key, dehydrated in parse_dehydrated(payload):
            query_hash = hash_query_key(query_key)
            known = self._entries.get(query_hash)
            if known is not None and dehydrated.data_updated_at_ms <= known.state.data_updated_at_ms:
                continue
            try:
                data = parse(query_key, dehydrated.data)
            except ItxError as error:
                _log.warning("Left %s of a snapshot out: %s", query_hash, error)
                continue
            self._build_entry(query_key, query_hash, None).hydrate(
                data, dehydrated.data_updated_at_ms, is_invalidated=dehydrated.is_invalidated
            )

    # Life

    async def close(self) -> None:
        """Cancel every fetch and timer and forget everything. Repeating is harmless.

        Who waits for a fetch gets an error; from now on the client reads as empty and takes nothing in.
        """
        self._is_closed = True
        self.remove_queries()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def spawn(
        self,
        make: Callable[[], Coroutine[Any, Any, Any]],
        on_done: Callable[[asyncio.Task[Any]], object],
    ) -> asyncio.Task[Any]:
        """Run a fetch (for the entries). In an empty context: it outlives the cell that happened to begin it."""
        self._check_open()
        context = contextvars.Context()
        task = asyncio.get_running_loop().create_task(make(), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=context)
        task.add_done_callback(on_done, context=context)
        return task

    def remove_entry(self, entry: QueryEntry) -> None:
        """Forget `entry` (for the entries), unless another has taken its place."""
        if self._entries.get(entry.query_hash) is entry:
            del self._entries[entry.query_hash]
            entry.detach()

    def _build_entry(self, query_key: QueryKey, query_hash: str, gc_time: float | None) -> QueryEntry:
        wanted = self.defaults.gc_time if gc_time is None else gc_time
        entry = self._entries.get(query_hash)
        if entry is None:
            self._check_open()
            entry = QueryEntry(query_key, query_hash, host=self, gc_time=wanted)
            self._entries[query_hash] = entry
        else:
            entry.raise_gc_time(wanted)
        return entry

    def _check_open(self) -> None:
        if self._is_closed:
            raise ItxError("The query client is closed.", code="BAD_REQUEST", hint="Use the current session's client.")

    def _raise_gc_time(self, query: Query[Any], gc_time: float | None) -> None:
        if gc_time is not None and (entry := self._entries.get(query.query_hash)) is not None:
            entry.raise_gc_time(gc_time)

    def _get_stale_time(self, query: Query[Any] | QueryDefinition[Any], stale_time: StaleTime | None) -> StaleTime:
        if stale_time is not None:
            return stale_time
        return self.defaults.stale_time if query.stale_time is None else query.stale_time

    def _find(self, prefix: QueryKey, *, exact: bool) -> list[QueryEntry]:
        if exact:
            entry = self._entries.get(hash_query_key(prefix))
            return [] if entry is None else [entry]
        return [entry for entry in self._entries.values() if is_key_prefix(prefix, entry.query_key)]
