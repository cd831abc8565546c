"""The whole engine against a dictionary: whatever is appended, paused, watched and restarted, both agree."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from itx_notebook.errors import ItxError
from itx_notebook.streams import StreamEngine, Subscription, core_type, processor
from itx_notebook.streams.core import fold, initial_state
from itx_notebook.streams.path import get_ancestors, get_child_path
from itx_notebook.streams.processors import Attachment
from itx_notebook.types import StreamEvent
from tests.streams.support import Consumer

PATHS = ("/", "/a", "/a/b", "/a/b/c", "/d")
paths = st.sampled_from(PATHS)
keys = st.sampled_from([None, None, "k1", "k2", "k3"])
batches = st.lists(st.tuples(st.integers(0, 9), keys), min_size=1, max_size=5)


@processor("count", consumes=["demo.x"], initial_state={"payloads": []})
def count(state: dict[str, Any], event: StreamEvent) -> dict[str, Any]:
    return {"payloads": [*state["payloads"], event.payload]}


class Model:
    """What a stream should hold of the tests' own events, and what the rest depends on."""

    def __init__(self) -> None:
        self.payloads: list[int] = []
        self.by_key: dict[str, int] = {}
        self.paused = False
        self.exists = False
        self.metadata: dict[str, Any] = {}


class Wants(Enum):
    """What a consumer subscribes to."""

    ALL = "every event"
    OWN = "the tests' own events"
    STATES = "states alone"


class Watch(NamedTuple):
    """An open subscription, and the offset after which it began."""

    path: str
    consumer: Consumer
    subscription: Subscription
    wants: Wants
    after: int

    async def catch_up(self) -> None:
        """Let the pump run until it rests."""
        while (pump := self.subscription._pump) is not None:
            await asyncio.wait([pump])

    def check_ended(self, events: list[StreamEvent]) -> None:
        """Whether it was told that the incarnation is over, and was given nothing but the beginning of `events`."""
        assert self.subscription.closed.is_set()
        assert isinstance(self.subscription.error, ItxError)
        mine = [event.offset for event in events if self.wants is Wants.ALL or event.type == "demo.x"]
        flat = self.consumer.flat
        assert flat == ([] if self.wants is Wants.STATES else mine[: len(flat)])

    def check(self, events: list[StreamEvent], head: int) -> None:
        """Whether it was given what `events`, all from its beginning on, hold for it, and nothing twice."""
        consumer = self.consumer
        assert self.subscription.error is None
        assert consumer.most_under_way <= 1
        assert all(len(offsets) <= 100 for offsets in consumer.offsets)
        for batch in consumer.batches:
            assert batch.state.event_count == batch.stream_max_offset <= head
        if self.wants is Wants.STATES:
            assert consumer.flat == []
            told = [batch.stream_max_offset for batch in consumer.batches]
            assert told == sorted(set(told))
            assert told[-1] == (events[-1].offset if events else told[-1])
        else:
            mine = [event for event in events if self.wants is Wants.ALL or event.type == "demo.x"]
            assert consumer.flat == [event.offset for event in mine]
            assert [event for batch in consumer.batches for event in batch.events] == mine


class EngineMachine(RuleBasedStateMachine):
    """Steps that a process could take, each checked against :class:`Model`."""

    always_threaded = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp())
        self.models = {path: Model() for path in PATHS}
        self.watches: list[Watch] = []
        self.processed: dict[str, Attachment] = {}
        self.engine = self.run(self.open())

    async def open(self) -> StreamEngine:
        return StreamEngine.open(self.home, always_threaded=self.always_threaded)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def settle(self) -> None:
        self.run(self.engine.settle())

    @rule(path=paths, batch=batches)
    def append(self, path: str, batch: list[tuple[int, str | None]]) -> None:
        model = self.models[path]
        events: list[dict[str, Any]] = [
            {"type": "demo.x", "payload": payload, **({"idempotencyKey": key} if key else {})} for payload, key in batch
        ]
        # A batch of repeats is answered even by a paused stream; one new event makes it refuse the whole.
        is_new = any(key is None or key not in model.by_key for _, key in batch)
        call = self.engine.stream("p", path).append_batch(events)
        if model.paused and is_new:
            with pytest.raises(ItxError, match="stream paused"):
                self.run(call)
            return
        got = self.run(call)
        expected = []
        for payload, key in batch:
            if key is not None and key in model.by_key:
                expected.append(model.by_key[key])
                continue
            if key is not None:
                model.by_key[key] = payload
            model.payloads.append(payload)
            expected.append(payload)
        assert [event.payload for event in got] == expected
        if is_new:
            self.note_existence(path)
        self.settle()

    @precondition(lambda self: not any(model.paused for model in self.models.values()))
    @rule(appends=st.lists(st.tuples(paths, st.integers(0, 9)), min_size=2, max_size=8))
    def append_at_once(self, appends: list[tuple[str, int]]) -> None:
        """Many appenders in one turn of the loop: one group, each stream's events in the order of the calls."""

        async def append_all() -> Any:
            return await asyncio.gather(
                *(
                    self.engine.stream("p", path).append({"type": "demo.x", "payload": payload})
                    for path, payload in appends
                )
            )

        assert [event.payload for event in self.run(append_all())] == [payload for _, payload in appends]
        for path, payload in appends:
            self.models[path].payloads.append(payload)
            self.note_existence(path)
        self.settle()

    @rule(path=paths, offset=st.integers(0, 3))
    def append_at_a_wrong_offset(self, path: str, offset: int) -> None:
        with pytest.raises(ItxError):
            self.run(self.engine.stream("p", path).append({"type": "demo.x", "payload": 0, "offset": 10_000 + offset}))

    @rule(path=paths)
    def append_a_malformed_batch(self, path: str) -> None:
        with pytest.raises(ItxError):
            self.run(self.engine.stream("p", path).append_batch([{"type": "demo.x"}, {"type": "x", "bogus": 1}]))

    @precondition(lambda self: not any(model.paused for model in self.models.values()))
    @rule(path=paths)
    def pause(self, path: str) -> None:
        self.run(self.engine.stream("p", path).append({"type": core_type("paused")}))
        self.note_existence(path)
        # Announcements of its descendants must not be lost to the model: it knows the children it had.
        self.models[path].paused = True
        self.settle()

    @rule(path=paths)
    def resume(self, path: str) -> None:
        self.run(self.engine.stream("p", path).append({"type": core_type("resumed")}))
        self.note_existence(path)
        self.models[path].paused = False
        self.settle()

    @rule(path=paths, value=st.integers())
    def describe(self, path: str, value: int) -> None:
        model = self.models[path]
        event = {"type": core_type("metadata-updated"), "payload": {"metadata": {"v": value % 1000}}}
        if model.paused:
            with pytest.raises(ItxError, match="stream paused"):
                self.run(self.engine.stream("p", path).append(event))
            return
        self.run(self.engine.stream("p", path).append(event))
        self.note_existence(path)
        model.metadata = {"v": value % 1000}
        self.settle()

    @rule(
        path=paths,
        slow=st.booleans(),
        wants=st.sampled_from(Wants),
        replay=st.one_of(st.none(), st.integers(0, 20)),
        presence=st.booleans(),
    )
    def watch(self, path: str, slow: bool, wants: Wants, replay: int | None, presence: bool) -> None:
        stream = self.engine.stream("p", path)
        consumer = Consumer(slow=slow)
        if presence and path in self.processed:
            # Otherwise the wake brings the processor back too, and its coming may be the first thing seen.
            self.run(stream.wake())
            self.settle()
        head = stream.load().max_offset
        subscription = self.run(
            stream.subscribe(
                consumer,
                replay_after_offset=replay,
                event_types=["demo.x"] if wants is Wants.OWN else None,
                events=wants is not Wants.STATES,
                presence=presence,
            )
        )
        after = head if replay is None else replay
        if presence:
            self.note_existence(path)
            if replay is None:
                # Its coming may wake the stream; it begins after that, with the fact of itself.
                after = subscription.stream_max_offset - 1
        assert consumer.batches, "the first batch comes before subscribe returns"
        self.watches.append(Watch(path, consumer, subscription, wants, after))
        self.settle()

    @precondition(lambda self: self.watches)
    @rule(data=st.data())
    def take_at_last(self, data: st.DataObject) -> None:
        """A slow consumer becomes a quick one."""
        watch = data.draw(st.sampled_from(self.watches))
        watch.consumer.let_go()
        self.run(watch.catch_up())

    @precondition(lambda self: self.watches)
    @rule()
    def leave(self) -> None:
        watch = self.watches.pop(0)
        watch.consumer.let_go()
        self.run(watch.catch_up())
        events = self.run(self.engine.stream("p", watch.path).read(after_offset=watch.after))
        self.run(watch.subscription.unsubscribe())
        self.settle()
        watch.check(events, self.engine.stream("p", watch.path).load().max_offset)

    @precondition(lambda self: self.watches)
    @rule(slow=st.booleans())
    def replace(self, slow: bool) -> None:
        """Another subscriber takes the key: the old one is let go with all it was owed up to then."""
        watch = self.watches.pop(0)
        watch.consumer.let_go()
        stream = self.engine.stream("p", watch.path)
        self.run(stream.wake())
        self.settle()
        self.run(watch.catch_up())
        events = self.run(stream.read(after_offset=watch.after))
        consumer = Consumer(slow=slow)
        subscription = self.run(stream.subscribe(consumer, key=watch.subscription.key))
        assert watch.subscription.closed.is_set()
        watch.check(events, stream.load().max_offset)
        self.watches.append(Watch(watch.path, consumer, subscription, Wants.ALL, subscription.stream_max_offset - 1))
        self.note_existence(watch.path)
        self.settle()

    @rule(path=paths)
    def process(self, path: str) -> None:
        """A processor comes, or comes again: it goes on where its snapshot ends."""
        stream = self.engine.stream("p", path)
        self.processed[path] = self.run(stream.run_processor(count))
        self.note_existence(path)
        self.settle()

    @precondition(lambda self: self.processed)
    @rule(data=st.data())
    def stop_processing(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.processed)))
        self.run(self.processed.pop(path).stop())
        self.settle()

    @rule(path=paths)
    def kill(self, path: str) -> None:
        stream = self.engine.stream("p", path)
        before = stream.load()
        self.run(stream.kill())
        assert stream.load() == before
        self.end_watches(path)

    @rule(path=paths)
    def reset(self, path: str) -> None:
        stream = self.engine.stream("p", path)
        log = self.run(stream.read())
        self.run(stream.reset())
        assert stream.load().event_count == 0
        self.end_watches(path, log)
        self.models[path] = Model()

    def end_watches(self, path: str, log: list[StreamEvent] | None = None) -> None:
        ended = [watch for watch in self.watches if watch.path == path]
        self.watches = [watch for watch in self.watches if watch.path != path]
        for watch in ended:
            events = self.run(self.engine.stream("p", path).read()) if log is None else log
            watch.consumer.let_go()
            watch.check_ended([event for event in events if event.offset > watch.after])

    @rule(path=paths, types=st.sampled_from([["demo.x"], ["*"], []]), limit=st.integers(1, 5))
    def choose(self, path: str, types: list[str], limit: int) -> None:
        stream = self.engine.stream("p", path)
        everything = self.run(stream.read())
        wanted = [event for event in everything if "*" in types or event.type in types]
        assert self.run(stream.get_events(event_types=types, limit=limit)) == wanted[:limit]
        for event in everything[:: max(1, len(everything) // 3)]:
            assert stream.get_event(event.offset) == event

    @rule(path=paths)
    def look_in_silence(self, path: str) -> None:
        stream = self.engine.stream("p", path)
        before = stream.load()
        stream.get_state()
        stream.get_children()
        self.run(stream.read())
        assert stream.load() is before

    @rule()
    def restart(self) -> None:
        for watch in self.watches:
            watch.consumer.let_go()
        self.watches.clear()
        self.processed.clear()
        states = {path: self.engine.stream("p", path).load() for path in PATHS}
        self.run(self.engine.close())
        self.engine = self.run(self.open())
        assert {path: self.engine.stream("p", path).load() for path in PATHS} == states

    def note_existence(self, path: str) -> None:
        for each in (*get_ancestors(path), path):
            self.models[each].exists = True

    @invariant()
    def logs_are_what_the_model_says(self) -> None:
        for path, model in self.models.items():
            stream = self.engine.stream("p", path)
            events = self.run(stream.read())
            assert [event.offset for event in events] == list(range(1, len(events) + 1))
            assert [event.payload for event in events if event.type == "demo.x"] == model.payloads
            state = initial_state()
            for event in events:
                state = fold(state, event)
            assert stream.load() == state
            assert (state.paused, state.metadata) == (model.paused, model.metadata)
            assert state.child_paths == tuple(dict.fromkeys(state.child_paths))
            assert set(state.child_paths) <= {get_child_path(path, other) for other in PATHS}

    @invariant()
    def processors_have_seen_what_the_model_says(self) -> None:
        for path, attachment in self.processed.items():
            assert attachment.error is None
            # One whose stream was killed or reset comes back with the next wake.
            if attachment.is_connected:
                self.run(attachment.runner.wait_until_event(self.engine.stream("p", path).load().max_offset))
                assert attachment.runner.state == {"payloads": self.models[path].payloads}

    @invariant()
    def rosters_are_the_connections_there_are(self) -> None:
        for path in PATHS:
            stream = self.engine.stream("p", path)
            runtime = stream.get_runtime_state()
            if stream.is_awake:
                assert set(runtime.runtime.connections) == set(runtime.core_processor_state.connections_by_key)

    def teardown(self) -> None:
        for watch in self.watches:
            watch.consumer.let_go()
        self.run(self.engine.close())
        self.run(asyncio.sleep(0))
        self.loop.close()
        shutil.rmtree(self.home)


class ThreadedEngineMachine(EngineMachine):
    """The same, with commits on a thread of their own."""

    always_threaded = True


@pytest.mark.parametrize("machine", [EngineMachine, ThreadedEngineMachine])
def test_engine_when_driven_at_random_agrees_with_the_model(machine: type[EngineMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
