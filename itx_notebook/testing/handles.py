"""What every handle must do, whatever engine it leads to and however it gets there.

A suite to inherit from: give it a handle, and pytest (with pytest-asyncio in auto mode) runs it. It holds over wires
that fail and mend too, so it appends with keys, looks in silence, and compares its own events only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from itx_notebook.errors import ItxConnectionError, ItxError, ItxTimeoutError
from itx_notebook.handle import AsyncItx, AsyncStream
from itx_notebook.types import StreamEvent, StreamEventBatch, StreamState

__all__ = ["Collector", "HandleConformance"]

T = TypeVar("T")

_PATIENCE = 20.0
"""Seconds after which what should come is taken not to come."""


class Collector:
    """A consumer of batches that remembers them, for tests. To be subscribed with: ``stream.subscribe(collector)``.

    Attributes
    ----------
    batches : list of StreamEventBatch
        In order of arrival.
    """

    def __init__(self) -> None:
        self.batches: list[StreamEventBatch] = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def __call__(self, batch: StreamEventBatch) -> None:
        """Take a batch, on whatever thread."""
        self.batches.append(batch)
        self._loop.call_soon_threadsafe(self._changed.set)

    @property
    def events(self) -> list[StreamEvent]:
        """All events, in order of arrival."""
        return [event for batch in tuple(self.batches) for event in batch.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at after each batch."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_state(self, condition: Callable[[StreamState], bool]) -> None:
        """Wait until the state that came last fulfils `condition`."""
        await self.until(lambda: bool(self.batches) and condition(self.batches[-1].state))

    async def until_type(self, event_type: str, count: int = 1) -> None:
        """Wait until so many events of a type have come."""
        await self.until(lambda: sum(event.type == event_type for event in self.events) >= count)


async def _get_refusal(ask: Callable[[], Awaitable[object]]) -> ItxError:
    """The :class:`ItxError` that asking or the answer raises. That the wire was cut meanwhile is no refusal."""
    try:
        await _do(ask)
    except ItxError as error:
        return error
    raise AssertionError("nothing was refused")


async def _do(ask: Callable[[], Awaitable[T]]) -> T:
    """Do what may be done twice until it is known to be done."""
    while True:
        try:
            return await ask()
        except ItxConnectionError:
            continue


async def _append(stream: AsyncStream, *keys: str, **fields: Any) -> list[StreamEvent]:
    """Append an event ``demo.<key>`` for each key, which is its idempotency key as well."""
    return [await stream.append(f"demo.{key}", idempotency_key=key, **fields) for key in keys]


def _mine(events: Iterable[StreamEvent]) -> list[str]:
    """The keys of the events that the suite appended."""
    return [event.type.removeprefix("demo.") for event in events if event.type.startswith("demo.")]


@asynccontextmanager
async def _follow(stream: AsyncStream, **options: Any) -> AsyncIterator[Collector]:
    collector = Collector()
    async with await stream.subscribe(collector, **{"presence": False, **options}):
        yield collector


class HandleConformance:
    """The suite. A subclass defines a fixture ``itx``: an :class:`AsyncItx`, narrowed to a project without streams."""

    # -- appending and reading ---------------------------------------------------------------------------------------

    async def test_append_gives_the_event_as_committed(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        payload = {"text": "Größe ☂ 𝄞", "list": [1, [2.5, None], []], "none": None, "yes": True, "big": 2**53 - 1}
        event = await stream.append("demo.x", payload, metadata={"by": "suite"}, idempotency_key="x")
        assert (event.type, event.payload, event.metadata) == ("demo.x", payload, {"by": "suite"})
        assert (event.idempotency_key, event.stream_path) == ("x", "/a")
        assert event.created_at.endswith("Z")
        assert (await stream.read(presence=False))[-1] == event

    async def test_values_that_json_lacks_are_written_as_text(self, itx: AsyncItx) -> None:
        when = datetime(2026, 6, 10, 9, 30, tzinfo=UTC)
        event = await itx.streams.get("/a").append("demo.x", {"when": when}, idempotency_key="x")
        assert str(event.payload["when"]).startswith("2026-06-10T09:30:00")

    async def test_append_with_a_known_key_gives_the_first_event(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        first = await stream.append("demo.x", 1, idempotency_key="k")
        again = await stream.append("demo.y", 2, idempotency_key="k")
        assert again == first
        assert _mine(await stream.read(presence=False)) == ["x"]

    async def test_append_batch_is_all_in_order_or_nothing(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        events = [{"type": "demo.n", "payload": n, "idempotencyKey": f"n{n}"} for n in range(250)]
        committed = await stream.append_batch(events)
        assert [event.payload for event in committed] == list(range(250))
        assert committed[-1].offset == committed[0].offset + 249
        assert await stream.append_batch([]) == []
        bad = [{"type": "demo.n", "idempotencyKey": "good"}, {"type": "demo.n", "colour": "red"}]
        assert (await _get_refusal(lambda: stream.append_batch(bad))).code == "BAD_REQUEST"
        assert len(_mine(await stream.read(presence=False))) == 250

    async def test_append_at_another_offset_than_expected_is_refused(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        (event,) = await _append(stream, "x")
        error = await _get_refusal(lambda: stream.append("demo.y", idempotency_key="y", offset=event.offset))
        assert error.code in ("INTERNAL", "CONFLICT")
        assert _mine(await stream.read(presence=False)) == ["x"]

    async def test_read_takes_cursors_types_and_a_limit(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        a, b, c = await _append(stream, "a", "b", "c")

        async def read(**options: Any) -> list[str]:
            return _mine(await stream.read(presence=False, **options))

        assert await read() == ["a", "b", "c"]
        assert await read(after_offset=a.offset) == ["b", "c"]
        assert await read(after_offset=a.offset, before_offset=c.offset) == ["b"]
        assert await read(before_offset=b.offset) == ["a"]
        assert await read(event_types=["demo.a", "demo.c"]) == ["a", "c"]
        assert await read(after_offset=a.offset, limit=1) == ["b"]
        assert await read(after_offset="end") == []
        assert await read(before_offset="start") == []

    async def test_get_event_by_offset_and_by_key(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        (event,) = await _append(stream, "x")
        assert await stream.get_event(event.offset) == event
        assert await stream.get_event(idempotency_key="x") == event
        assert await stream.get_event(idempotency_key="y") is None
        assert (await _get_refusal(lambda: stream.get_event(event.offset + 1000))).code == "NOT_FOUND"
        assert (await _get_refusal(stream.get_event)).code == "BAD_REQUEST"

    async def test_a_large_event_and_a_long_stream_come_back_whole(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        text = "0123456789" * 100_000
        event = await stream.append("demo.large", text, idempotency_key="large")
        assert event.payload == text
        for start in range(0, 1000, 500):
            await stream.append_batch(
                [{"type": "demo.n", "payload": n, "idempotencyKey": f"{n}"} for n in range(start, start + 500)]
            )
        events = await stream.read(presence=False)
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        assert [event.payload for event in events if event.type == "demo.n"] == list(range(1000))

    # -- states ------------------------------------------------------------------------------------------------------

    async def test_looking_leaves_no_trace_and_touching_does(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        assert await stream.read(presence=False) == []
        assert (await stream.get_state(presence=False)).event_count == 0
        assert (await stream.get_state()).event_count >= 2
        types = [event.type.rpartition("/")[2] for event in await stream.read(presence=False)]
        assert types[:2] == ["created", "woken"]

    async def test_state_counts_and_names_the_children(self, itx: AsyncItx) -> None:
        (event,) = await _append(itx.streams.get("/a/b/c"), "x")
        state = await itx.streams.get("/a/b/c").get_state(presence=False)
        assert (state.path, state.child_paths) == ("/a/b/c", ())
        assert state.event_count >= event.offset
        for path, child in (("/", "/a"), ("/a", "/a/b"), ("/a/b", "/a/b/c")):
            parent = itx.streams.get(path)
            async with _follow(parent, events=False) as states:
                await states.until_state(lambda state: bool(state.child_paths))
            assert (await parent.get_state(presence=False)).child_paths == (child,)
            assert [each.path for each in await parent.list_children(presence=False)] == [child]

    async def test_reduce_says_what_would_be_and_stores_nothing(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        (event,) = await _append(stream, "x")
        first = await stream.reduce("demo.y", 1)
        assert first.event_count > event.offset
        assert (await stream.reduce("demo.z", 1, state=first)).event_count == first.event_count + 1
        assert _mine(await stream.read(presence=False)) == ["x"]

    async def test_runtime_state_names_who_is_connected(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        collector = Collector()
        async with await stream.subscribe(collector, key="suite"):
            assert list((await stream.get_runtime_state()).runtime.connections) == ["suite"]

    async def test_processors_are_enabled_and_disabled_by_name(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        await stream.enable_processor("circuit-breaker")
        await stream.enable_processor("circuit-breaker")
        await stream.disable_processor("circuit-breaker")
        assert await _append(stream, "x")

    # -- following ---------------------------------------------------------------------------------------------------

    async def test_subscription_replays_then_follows(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        await _append(stream, "a", "b")
        async with _follow(stream) as seen:
            await _append(stream, "c")
            await seen.until_type("demo.c")
        assert [event.offset for event in seen.events] == list(range(1, len(seen.events) + 1))
        assert _mine(seen.events) == ["a", "b", "c"]

    async def test_subscription_from_an_offset_is_exclusive(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        a, *_ = await _append(stream, "a", "b")
        async with _follow(stream, after_offset=a.offset) as seen:
            await seen.until_type("demo.b")
        assert seen.events[0].offset == a.offset + 1

    async def test_live_subscription_begins_with_a_state_and_no_events(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        (before,) = await _append(stream, "before")
        async with _follow(stream, after_offset="end") as seen:
            await seen.until(lambda: bool(seen.batches))
            assert seen.batches[0].events == ()
            assert seen.batches[0].stream_max_offset >= before.offset
            await _append(stream, "after")
            await seen.until_type("demo.after")
        assert _mine(seen.events) == ["after"]
        last = seen.batches[-1]
        assert last.state.event_count == last.stream_max_offset

    async def test_subscription_to_types_gets_no_others(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        await _append(stream, "a", "b")
        async with _follow(stream, event_types=["demo.b"]) as seen:
            await stream.append("demo.a", idempotency_key="a2")
            await stream.append("demo.b", idempotency_key="b2")
            await seen.until_type("demo.b", 2)
        assert {event.type for event in seen.events} == {"demo.b"}

    async def test_states_are_delivered_now_and_at_changes(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        await _append(stream, "a")
        states: list[StreamState] = []
        collector = Collector()

        def take(state: StreamState) -> None:
            states.append(state)
            collector._loop.call_soon_threadsafe(collector._changed.set)  # noqa: SLF001  # of this very module

        async with await stream.on_state_change(take, presence=False):
            (event,) = await _append(stream, "b")
            await collector.until(lambda: bool(states) and states[-1].event_count >= event.offset)
        counts = [state.event_count for state in states]
        assert counts == sorted(set(counts))

    async def test_a_slow_consumer_gets_everything_one_batch_at_a_time(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        collector = Collector()
        running = 0

        async def take(batch: StreamEventBatch) -> None:
            nonlocal running
            running += 1
            assert running == 1
            for _ in range(5):
                await asyncio.sleep(0)
            running -= 1
            collector(batch)

        async with await stream.subscribe(take, presence=False) as subscription:
            for n in range(30):
                await stream.append("demo.n", n, idempotency_key=f"{n}")
            await collector.until_type("demo.n", 30)
            assert subscription.error is None
        assert [event.payload for event in collector.events if event.type == "demo.n"] == list(range(30))

    async def test_what_a_consumer_raises_ends_its_subscription_alone(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")

        def fail(batch: StreamEventBatch) -> None:
            if batch.events:
                raise LookupError("mine")

        broken = await stream.subscribe(fail, presence=False)
        async with _follow(stream) as seen:
            await _append(stream, "a", "b")
            await seen.until_type("demo.b")
        assert broken.is_closed
        assert isinstance(broken.error, LookupError)

    async def test_after_unsubscribing_nothing_comes(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        silent = Collector()
        subscription = await stream.subscribe(silent, presence=False)
        await subscription.unsubscribe()
        await subscription.unsubscribe()
        count = len(silent.batches)
        async with _follow(stream) as seen:
            await _append(stream, "a")
            await seen.until_type("demo.a")
        assert len(silent.batches) == count
        assert (subscription.is_closed, subscription.error) == (True, None)

    async def test_a_subscription_under_the_same_key_takes_the_place_of_the_first(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        one, two = Collector(), Collector()
        first = await stream.subscribe(one, key="k", presence=False)
        async with await stream.subscribe(two, key="k", presence=False):
            await _append(stream, "a")
            await two.until_type("demo.a")
            await two.until(lambda: first.is_closed)
        assert first.error is None
        assert _mine(one.events) == []

    async def test_wait_for_event_finds_the_first_or_says_what_it_saw(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        a, *_ = await _append(stream, "a", "b")
        found = await stream.wait_for_event(event_types=["demo.a"], after_offset="start", presence=False)
        assert found == a
        waiting = asyncio.ensure_future(
            stream.wait_for_event(
                lambda event: event.payload == 7, after_offset=a.offset, presence=False, timeout=_PATIENCE
            )
        )
        await stream.append("demo.c", 7, idempotency_key="c")
        assert (await waiting).type == "demo.c"
        error = await _get_refusal(
            lambda: stream.wait_for_event(event_types=["demo.never"], presence=False, timeout=0.05)
        )
        assert isinstance(error, ItxTimeoutError)

    async def test_kill_ends_subscriptions_and_keeps_the_log(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        await _append(stream, "a")
        collector = Collector()
        subscription = await stream.subscribe(collector, presence=False)
        await _do(stream.kill)
        await self._until_closed(subscription)
        assert isinstance(subscription.error, ItxError)
        assert "kill" in subscription.error.message
        await _append(stream, "b")
        assert _mine(await stream.read(presence=False)) == ["a", "b"]

    async def test_reset_begins_a_new_life_and_tells_the_old_ones_followers(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        await _append(stream, "a")
        collector = Collector()
        subscription = await stream.subscribe(collector, presence=False)
        await _do(stream.reset)
        await self._until_closed(subscription)
        assert isinstance(subscription.error, ItxError)
        assert "reset" in subscription.error.message
        assert await stream.read(presence=False) == []
        await _append(stream, "a")
        assert (await stream.read(presence=False))[0].offset == 1

    async def _until_closed(self, subscription: Any) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not subscription.is_closed:  # noqa: ASYNC110  # a subscription is looked at, it does not call
                await asyncio.sleep(0.001)

    # -- who may what ------------------------------------------------------------------------------------------------

    async def test_handle_describes_itself(self, itx: AsyncItx) -> None:
        facts = await itx.describe()
        assert itx.project is not None
        assert (facts.context, facts.project) == (itx.project.id, itx.project)
        assert facts.access == (itx.project.id,)

    async def test_handle_narrows_to_its_own_project_and_to_no_other(self, itx: AsyncItx) -> None:
        assert itx.project is not None
        for name in (itx.project.id, itx.project.slug):
            again = await itx.projects.get(name)
            assert again.project == itx.project
        assert [each.id for each in (await itx.projects.list()).projects] == [itx.project.id]
        error = await _get_refusal(lambda: itx.projects.get("no-such-project"))
        assert (error.code, error.message) == ("NOT_FOUND", "Project no-such-project not found.")
        assert error.details == {"projectIdOrSlug": "no-such-project"}
        assert (await _get_refusal(lambda: itx.projects.create("another"))).code == "FORBIDDEN"

    async def test_handle_keeps_the_place_in_the_project_that_it_was_asked_for_by(self, itx: AsyncItx) -> None:
        assert itx.project is not None
        place = f"{itx.project.id}:/a/b"
        there = await itx.projects.get(place)
        facts = await there.describe()
        assert (facts.context, facts.project, there.project) == (place, itx.project, itx.project)
        assert facts.access == (itx.project.id,)
        # Paths of streams are the project's all the same.
        await _append(there.streams.get("/a"), "x")
        assert _mine(await itx.streams.get("/a").read(presence=False)) == ["x"]

    async def test_foreign_and_malformed_streams_are_refused(self, itx: AsyncItx) -> None:
        async def ask(ref: Any) -> object:
            return await itx.streams.get(ref).get_state(presence=False)

        for ref, code in (("global:/x", "NOT_FOUND"), ("prj_other:/x", "NOT_FOUND"), ("No Path", "BAD_REQUEST")):
            assert (await _get_refusal(partial(ask, ref))).code == code
        assert itx.project is not None
        assert await ask(f"{itx.project.id}:/x") == await ask("/x")

    async def test_events_that_are_none_are_refused_with_the_value(self, itx: AsyncItx) -> None:
        stream = itx.streams.get("/a")
        error = await _get_refusal(lambda: stream.append({"type": "demo.x", "colour": "red"}))
        assert error.code == "BAD_REQUEST"
        assert "colour" in error.message
