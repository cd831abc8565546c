"""The cache against a model that a person can check by reading: every order of what may happen to a key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)
from msgspec import UNSET

from itx_notebook.query import (
    DehydratedCache,
    DehydratedQuery,
    Query,
    QueryClient,
    QueryDefaults,
    QueryKey,
    QueryObserver,
    QueryState,
)
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from tests.query.source import internal

KEYS: tuple[QueryKey, ...] = (("a",), ("a", "x"), ("b",))
STALE_TIME = 10
GC_TIME = 30
START_MS = 1_780_000_000_000

keys = st.sampled_from(KEYS)
values = st.none() | st.integers(0, 2)


@dataclass(eq=False)
class ModelFetch:
    """A fetch under way: whom it serves, and the answer it waits for."""

    entry: ModelEntry
    answer: asyncio.Future[Any] | None = None
    forgets_failure: bool = False
    is_outdated: bool = False
    is_outrun: bool = False
    repeats: bool = False


@dataclass(eq=False)
class ModelEntry:
    """What should be known of one key."""

    key: QueryKey
    gc_at_ms: int
    data: Any = UNSET
    updated_at_ms: int = 0
    status: str = "pending"
    has_error: bool = False
    is_invalidated: bool = False
    fetch: ModelFetch | None = None
    is_removed: bool = False
    observers: list[ModelObserver] = field(default_factory=list)

    def take(self, data: Any, at_ms: int) -> None:
        self.data, self.updated_at_ms, self.status = data, at_ms, "success"
        self.has_error = self.is_invalidated = False

    def visible(self) -> tuple[Any, ...]:
        fetching = "idle" if self.fetch is None else "fetching"
        return self.status, fetching, self.data, self.updated_at_ms, self.is_invalidated, self.has_error


@dataclass(eq=False)
class ModelObserver:
    """A watch, and the real one beside it."""

    entry: ModelEntry
    real: QueryObserver[Any]
    is_enabled: bool
    heard: list[QueryState[Any]]


def visible(state: QueryState[Any]) -> tuple[Any, ...]:
    return (
        state.status,
        state.fetch_status,
        state.data,
        state.data_updated_at_ms,
        state.is_invalidated,
        state.error is not None,
    )


class CacheMachine(RuleBasedStateMachine):
    """Runs each step on the cache and on the model, and compares all that can be seen."""

    observers: Bundle[ModelObserver] = Bundle("observers")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock(START_MS)
        self.client = QueryClient(
            self.clock, defaults=QueryDefaults(stale_time=float(STALE_TIME), gc_time=float(GC_TIME))
        )
        self.now_ms = START_MS
        self.model: dict[QueryKey, ModelEntry] = {}
        self.fetches: list[ModelFetch] = []
        self.watching: list[ModelObserver] = []
        self.asked: dict[QueryKey, list[asyncio.Future[Any]]] = {key: [] for key in KEYS}
        self.queries = {key: Query(query_key=key, query_fn=self._ask(key)) for key in KEYS}

    def teardown(self) -> None:
        self.runner.run(self.client.close())
        assert self.clock.pending == 0
        self.runner.close()

    # The steps

    @rule(key=keys, data=values, is_old=st.booleans())
    def set_data(self, key: QueryKey, data: Any, is_old: bool) -> None:
        at_ms = self.now_ms - 3_600_000 if is_old else self.now_ms
        self._do(lambda: self.client.set_query_data(key, data, updated_at_ms=at_ms))
        entry = self._entry(key)
        entry.take(data, at_ms)
        if entry.fetch is not None and not is_old:
            entry.fetch.is_outrun = True
        self._touch(entry)

    @rule(key=keys, forgets_failure=st.booleans())
    def begin_fetch(self, key: QueryKey, forgets_failure: bool) -> None:
        self._do(lambda: self.client.begin_fetch(self.queries[key], retry=False, forget_failure=forgets_failure))
        fetch = self._begin(self._entry(key))
        fetch.forgets_failure |= forgets_failure
        self._link()

    @precondition(lambda self: self.fetches)
    @rule(choice=st.randoms(use_true_random=False), data=values)
    def succeed(self, choice: Any, data: Any) -> None:
        fetch = self._end(choice)
        self._do(lambda: _answer(fetch).set_result(data))
        if not fetch.is_outrun:
            fetch.entry.take(data, self.now_ms)
            fetch.entry.is_invalidated = fetch.is_outdated
        self._after(fetch)

    @precondition(lambda self: self.fetches)
    @rule(choice=st.randoms(use_true_random=False))
    def fail(self, choice: Any) -> None:
        fetch = self._end(choice)
        self._do(lambda: _answer(fetch).set_exception(internal()))
        entry = fetch.entry
        entry.status, entry.has_error, entry.is_invalidated = "error", True, True
        if fetch.forgets_failure and entry.data is UNSET and not entry.observers:
            self._remove(entry)
        self._after(fetch)

    @rule(prefix=st.sampled_from([(), *KEYS]), exact=st.booleans(), refetch=st.booleans())
    def invalidate(self, prefix: QueryKey, exact: bool, refetch: bool) -> None:
        self._do(lambda: self.client.invalidate_queries(prefix, exact=exact, refetch_active=refetch))
        for entry in self._matching(prefix, exact):
            entry.is_invalidated = True
            if entry.fetch is not None:
                entry.fetch.is_outdated = True
                entry.fetch.repeats |= refetch
            elif refetch:
                self._refetch(entry)
        self._link()

    @rule(prefix=st.sampled_from([(), *KEYS]), exact=st.booleans())
    def remove(self, prefix: QueryKey, exact: bool) -> None:
        self._do(lambda: self.client.remove_queries(prefix, exact=exact))
        for entry in self._matching(prefix, exact):
            self._remove(entry)

    @rule(key=keys, data=values, age_s=st.sampled_from([-5, 0, 5, 10]), is_invalidated=st.booleans())
    def hydrate(self, key: QueryKey, data: Any, age_s: int, is_invalidated: bool) -> None:
        at_ms = self.now_ms - age_s * 1000
        saved = DehydratedQuery(query_key=key, data=data, data_updated_at_ms=at_ms, is_invalidated=is_invalidated)
        self._do(lambda: self.client.hydrate(DehydratedCache(queries=(saved,), dehydrated_at_ms=at_ms)))
        if key not in self.model or at_ms > self.model[key].updated_at_ms:
            entry = self._entry(key)
            entry.take(data, at_ms)
            entry.is_invalidated = is_invalidated
            self._touch(entry)

    @rule(seconds=st.sampled_from([1, 9, STALE_TIME, GC_TIME]))
    def advance(self, seconds: int) -> None:
        self.runner.run(self.clock.advance(seconds))
        self.now_ms += seconds * 1000
        for entry in list(self.model.values()):
            if self._is_mortal(entry) and entry.gc_at_ms <= self.now_ms:
                self._remove(entry)

    @rule(target=observers, key=keys, is_enabled=st.booleans())
    def observe(self, key: QueryKey, is_enabled: bool) -> ModelObserver:
        heard: list[QueryState[Any]] = []
        real: list[QueryObserver[Any]] = []

        def observe() -> None:
            real.append(self.client.observe(self.queries[key], heard.append, enabled=is_enabled, retry=False))

        self._do(observe)
        entry = self._entry(key)
        if is_enabled and self._is_stale(entry):
            self._begin(entry)
        observer = ModelObserver(entry, real[0], is_enabled, heard)
        entry.observers.append(observer)
        self.watching.append(observer)
        self._link()
        return observer

    @rule(observer=consumes(observers))
    def close_observer(self, observer: ModelObserver) -> None:
        self._do(observer.real.close)
        observer.entry.observers.remove(observer)
        self.watching.remove(observer)
        if observer.entry.is_removed:
            self._drop_pointless(observer.entry)
        elif not observer.entry.observers:
            self._touch(observer.entry)

    # What must hold

    @invariant()
    def states_agree(self) -> None:
        for key in KEYS:
            state = self.client.get_query_state(key)
            entry = self.model.get(key)
            assert (None if state is None else visible(state)) == (None if entry is None else entry.visible())

    @invariant()
    def freshness_agrees(self) -> None:
        for key in KEYS:
            entry = self.model.get(key)
            expected = UNSET if entry is None or self._is_stale(entry) else entry.data
            assert self.client.try_get_fresh(self.queries[key]) == expected

    @invariant()
    def observers_show_their_entry(self) -> None:
        for observer in self.watching:
            assert visible(observer.real.result) == observer.entry.visible()
            assert not observer.heard or observer.heard[-1] is observer.real.result
            repeated = [one for one, next_ in zip(observer.heard, observer.heard[1:], strict=False) if one is next_]
            assert repeated == []

    @invariant()
    def snapshots_hold_successes_alone(self) -> None:
        expected = [(key, entry.data) for key, entry in self.model.items() if entry.status == "success"]
        assert [(query.query_key, query.data) for query in self.client.dehydrate().queries] == expected

    @invariant()
    def one_timer_runs_for_each_entry_nobody_needs(self) -> None:
        assert self.clock.pending == sum(self._is_mortal(entry) for entry in self.model.values())

    @invariant()
    def every_fetch_was_asked_for(self) -> None:
        assert all(not asked for asked in self.asked.values())

    # The model's own moves

    def _entry(self, key: QueryKey) -> ModelEntry:
        return self.model.setdefault(key, ModelEntry(key, self.now_ms + GC_TIME * 1000))

    def _touch(self, entry: ModelEntry) -> None:
        entry.gc_at_ms = self.now_ms + GC_TIME * 1000

    def _is_mortal(self, entry: ModelEntry) -> bool:
        return not entry.observers and entry.fetch is None

    def _is_stale(self, entry: ModelEntry) -> bool:
        is_old = self.now_ms >= entry.updated_at_ms + STALE_TIME * 1000
        return entry.data is UNSET or entry.is_invalidated or is_old

    def _matching(self, prefix: QueryKey, exact: bool) -> list[ModelEntry]:
        return [
            entry for key, entry in self.model.items() if (key == prefix if exact else key[: len(prefix)] == prefix)
        ]

    def _begin(self, entry: ModelEntry) -> ModelFetch:
        if entry.fetch is None:
            entry.fetch = ModelFetch(entry)
            self.fetches.append(entry.fetch)
            if entry.data is UNSET:
                entry.status, entry.has_error = "pending", False
        return entry.fetch

    def _end(self, choice: Any) -> ModelFetch:
        fetch: ModelFetch = choice.choice(self.fetches)
        self.fetches.remove(fetch)
        fetch.entry.fetch = None
        return fetch

    def _after(self, fetch: ModelFetch) -> None:
        if fetch.repeats and not fetch.entry.is_removed:
            self._refetch(fetch.entry)
        self._touch(fetch.entry)
        self._link()

    def _refetch(self, entry: ModelEntry) -> None:
        if any(observer.is_enabled for observer in entry.observers):
            self._begin(entry)

    def _remove(self, entry: ModelEntry) -> None:
        del self.model[entry.key]
        entry.is_removed = True
        self._drop_pointless(entry)

    def _drop_pointless(self, entry: ModelEntry) -> None:
        if entry.fetch is not None and not entry.observers:
            assert _answer(entry.fetch).cancelled()
            self.fetches.remove(entry.fetch)
            entry.fetch = None

    # The real side

    def _ask(self, key: QueryKey) -> Callable[[], Awaitable[Any]]:
        async def ask() -> Any:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.asked[key].append(answer)
            return await answer

        return ask

    def _link(self) -> None:
        """Give each new fetch of the model the question the cache really asked; a missing one is an error."""
        for fetch in self.fetches:
            if fetch.answer is None:
                fetch.answer = self.asked[fetch.entry.key].pop(0)

    def _do(self, step: Callable[[], object]) -> None:
        async def run() -> None:
            step()
            await settle()

        self.runner.run(run())


def _answer(fetch: ModelFetch) -> asyncio.Future[Any]:
    assert fetch.answer is not None
    return fetch.answer


CacheMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=timedelta(seconds=2),
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestCacheMachine = CacheMachine.TestCase
