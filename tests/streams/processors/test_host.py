"""Processors at work on real streams: catching up, failing, giving up, and coming back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams import Stream, StreamEngine, core_type
from itx_notebook.streams.processors import (
    Attachment,
    Processor,
    ProcessorBatch,
    ProcessorContract,
    ReducedEvent,
    processor,
)
from itx_notebook.types import StreamEvent
from tests.streams.support import Consumer, read_short

ECHO = "echo.said"


class Echo(Processor[dict[str, Any]]):
    """Counts the events ``x`` and says each again; `trouble` may raise first."""

    contract = processor("echo", consumes=["x", ECHO], emits=[ECHO], initial_state={"count": 0})(
        lambda state, event: None
    ).contract

    def __init__(self, trouble: Callable[[StreamEvent], None] = lambda _: None) -> None:
        self.attempts: list[int] = []
        self._trouble = trouble

    def reduce(self, state: dict[str, Any], event: StreamEvent) -> dict[str, Any] | None:
        return {"count": state["count"] + 1} if event.type == "x" else None

    async def process_event(self, step: ReducedEvent[dict[str, Any]], batch: ProcessorBatch[dict[str, Any]]) -> None:
        if step.event.type == "x":
            self.attempts.append(step.event.offset)
            self._trouble(step.event)
            await batch.append(ECHO, step.event.payload, key="echo", cause=step.event)


async def attach(engine: StreamEngine, stream: Stream, echo: Processor[Any], **options: Any) -> Attachment:
    engine.processors.add("echo", lambda: echo, replace=True)
    return await engine.processors.attach(stream, "echo", **options)


async def echoes(stream: Stream) -> list[Any]:
    return [event.payload for event in await stream.get_events(event_types=[ECHO])]


async def reach(attachment: Attachment, offset: int) -> None:
    await attachment.runner.wait_until_event(offset, timeout=10)


async def give_up(attachment: Attachment, stream: Stream) -> StreamEvent:
    fact = await stream.wait_for_event(
        event_types=[core_type("error-occurred")], after_offset=0, timeout=10, presence=False
    )
    assert attachment.error is not None
    return fact


class Fails:
    """Raises the first `times` it is asked about an event of `payload`."""

    def __init__(self, times: float, payload: int) -> None:
        self.left = times
        self._payload = payload

    def __call__(self, event: StreamEvent) -> None:
        if event.payload == self._payload and self.left > 0:
            self.left -= 1
            raise ValueError("poison")


async def test_history_when_a_processor_comes_has_its_side_effects(engine: StreamEngine, stream: Stream) -> None:
    await stream.append_batch([{"type": "x", "payload": n} for n in range(150)])
    attachment = await attach(engine, stream, Echo())
    await reach(attachment, 152)
    await stream.append({"type": "x", "payload": 150})
    await reach(attachment, stream.load().max_offset)
    assert await echoes(stream) == list(range(151))
    assert attachment.runner.state == {"count": 151}
    assert len(await stream.get_events()) == stream.load().max_offset


async def test_stream_knows_who_processes_it(engine: StreamEngine, stream: Stream) -> None:
    attachment = await attach(engine, stream, Echo())
    entry = stream.load().connections_by_key["processor:echo"]
    assert entry["direction"] == "outbound"
    assert entry["subscriber"]["processor"] == Echo.contract.announcement
    assert stream.load().processors_by_slug["echo"]["announcement"] == Echo.contract.announcement
    assert stream.get_runtime_state().runtime.connections["processor:echo"].direction == "outbound"
    await attachment.stop()
    assert stream.load().connections_by_key == {}
    assert (await stream.read())[-1].payload == {"subscriptionKey": "processor:echo", "reason": "unsubscribed"}


async def test_engine_when_opened_again_goes_on_where_the_snapshot_ends(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    attachment = await attach(engine, stream, Echo())
    await stream.append_batch([{"type": "x", "payload": n} for n in range(3)])
    await reach(attachment, stream.load().max_offset)
    await engine.close()
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append({"type": "x", "payload": 3})
    echo = Echo()
    attachment = await attach(engine, stream, echo)
    await reach(attachment, stream.load().max_offset)
    assert (await echoes(stream), len(echo.attempts)) == ([0, 1, 2, 3], 1)
    assert attachment.runner.state == {"count": 4}
    await engine.close()


async def test_failure_when_it_passes_loses_nothing_of_what_came_meanwhile(
    engine: StreamEngine, stream: Stream
) -> None:
    attachment = await attach(engine, stream, Echo(Fails(1, 5)))
    first = stream.load().max_offset
    await stream.append_batch([{"type": "x", "payload": n} for n in range(5)])
    await asyncio.gather(*(stream.append({"type": "x", "payload": n}) for n in range(5, 12)))
    await reach(attachment, first + 12)
    assert attachment.runner.state == {"count": 12}
    assert sorted(await echoes(stream)) == list(range(12))
    assert attachment.error is None


async def test_poison_when_it_stays_leaves_the_state_and_is_recorded_once(engine: StreamEngine, stream: Stream) -> None:
    echo = Echo(Fails(100, 2))
    attachment = await attach(engine, stream, echo)
    await stream.append_batch([{"type": "x", "payload": n} for n in range(2)])
    await reach(attachment, stream.load().max_offset)
    poison = await stream.append({"type": "x", "payload": 2})
    fact = await give_up(attachment, stream)
    checkpoint = attachment.runner.checkpoint_offset
    await stream.append({"type": "x", "payload": 3})
    await engine.settle()
    assert echo.attempts.count(poison.offset) == 4
    assert attachment.runner.state == {"count": 2}
    assert (fact.payload, fact.idempotency_key) == (
        {
            "message": f'stream processor "echo" gave up after 4 failed ingest attempts at offset {checkpoint}',
            "error": {"name": "ValueError", "message": "poison"},
        },
        f"processor-ingest-failed:echo:{checkpoint}",
    )
    assert len(await stream.get_events(event_types=[core_type("error-occurred")])) == 1
    assert stream.load().connections_by_key == {}
    assert not attachment.is_connected


async def test_processor_when_given_up_and_started_anew_goes_on_with_the_failed_event(
    engine: StreamEngine, stream: Stream
) -> None:
    attachment = await attach(engine, stream, Echo(Fails(4, 0)))
    event = await stream.append({"type": "x", "payload": 0})
    await give_up(attachment, stream)
    healed = Echo()
    attachment = await attach(engine, stream, healed)
    await reach(attachment, event.offset)
    assert (healed.attempts, await echoes(stream)) == ([event.offset], [0])


async def test_snapshot_when_it_cannot_be_stored_comes_again(
    engine: StreamEngine, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    attachment = await attach(engine, stream, Echo())
    save, refusals = engine.save_snapshot, [StoreError("full"), StoreError("full")]

    async def refuse(*args: Any) -> None:
        if refusals:
            raise refusals.pop()
        await save(*args)

    monkeypatch.setattr(engine, "save_snapshot", refuse)
    event = await stream.append({"type": "x", "payload": 7})
    await reach(attachment, event.offset)
    assert (attachment.runner.state, await echoes(stream)) == ({"count": 1}, [7])


async def test_recovery_when_it_fails_itself_is_made_up_for_by_the_next_commit(
    engine: StreamEngine, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    attachment = await attach(engine, stream, Echo(Fails(1, 0)))
    load, refused = attachment.runner.load, asyncio.Event()

    async def refuse() -> int:
        if not refused.is_set():
            refused.set()
            raise OSError("no")
        return await load()

    monkeypatch.setattr(attachment.runner, "load", refuse)
    first = await stream.append({"type": "x", "payload": 0})
    await refused.wait()
    await stream.append({"type": "x", "payload": 1})
    await reach(attachment, first.offset + 1)
    await reach(attachment, stream.load().max_offset)
    assert sorted(await echoes(stream)) == [0, 1]


async def test_kill_when_a_processor_runs_brings_it_back_with_the_next_wake(
    engine: StreamEngine, stream: Stream
) -> None:
    attachment = await attach(engine, stream, Echo())
    await stream.append({"type": "x", "payload": 0})
    await reach(attachment, stream.load().max_offset)
    await stream.kill()
    assert not attachment.is_connected
    event = await stream.append({"type": "x", "payload": 1})
    await reach(attachment, event.offset)
    assert (attachment.runner.state, await echoes(stream)) == ({"count": 2}, [0, 1])
    assert list(stream.load().connections_by_key) == ["processor:echo"]


async def test_reset_when_a_processor_runs_begins_its_state_anew(engine: StreamEngine, stream: Stream) -> None:
    attachment = await attach(engine, stream, Echo())
    await stream.append_batch([{"type": "x", "payload": n} for n in range(20)])
    await reach(attachment, stream.load().max_offset)
    await stream.reset()
    event = await stream.append({"type": "x", "payload": 99})
    assert event.offset == 3
    await engine.settle()
    await reach(attachment, stream.load().max_offset)
    assert (attachment.runner.state, await echoes(stream)) == ({"count": 1}, [99])


async def test_snapshot_of_an_old_life_when_it_comes_late_is_refused(engine: StreamEngine, stream: Stream) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    class Slow(Echo):
        async def process_event(
            self, step: ReducedEvent[dict[str, Any]], batch: ProcessorBatch[dict[str, Any]]
        ) -> None:
            begun.set()
            await gate.wait()

    attachment = await attach(engine, stream, Slow())
    await stream.append_batch([{"type": "x"}] * 50)
    await begun.wait()
    await stream.reset()
    await stream.append({"type": "x"})
    gate.set()
    await engine.settle()
    await reach(attachment, stream.load().max_offset)
    assert attachment.runner.state == {"count": 1}
    assert attachment.runner.checkpoint_offset <= stream.load().max_offset


def configure(key: str, target: dict[str, Any]) -> dict[str, Any]:
    subscriber = {"type": "callable", "callable": target}
    return {
        "type": core_type("subscription-configured"),
        "payload": {"subscriptionKey": key, "subscriber": subscriber},
    }


OWN = {"type": "in-process", "processorName": "echo"}
ORIGINAL = {
    "type": "workers-rpc",
    "via": {"type": "env-binding"},
    "rpcMethod": "requestStreamSubscription",
    "argsMode": "object",
    "transformInput": {"shallowMerge": {"processorName": "echo"}},
}


@pytest.mark.parametrize("target", [OWN, ORIGINAL], ids=["own", "original"])
async def test_stream_when_configured_runs_the_processor_in_every_process_that_knows_it(
    home: Path, target: dict[str, Any]
) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    await stream.append_batch([configure("mine", target), {"type": "x", "payload": 0}])
    await engine.close()
    engine = StreamEngine.open(home)
    engine.processors.add("echo", Echo)
    stream = engine.stream("p", "/a")
    event = await stream.append({"type": "x", "payload": 1})
    await engine.settle()
    attachment = engine.processors.try_get(stream, "mine")
    assert attachment is not None
    await reach(attachment, event.offset)
    await reach(attachment, stream.load().max_offset)
    assert sorted(await echoes(stream)) == [0, 1]
    assert list(stream.load().connections_by_key) == ["mine"]
    await engine.close()


async def test_configuration_when_removed_ends_the_processor_and_when_renewed_pardons_it(
    engine: StreamEngine, stream: Stream
) -> None:
    engine.processors.add("echo", lambda: Echo(Fails(4, 0)))
    await stream.append(configure("mine", OWN))
    await engine.settle()
    first = engine.processors.try_get(stream, "mine")
    assert first is not None
    event = await stream.append({"type": "x", "payload": 0})
    await give_up(first, stream)
    await stream.append(configure("mine", OWN))
    await engine.settle()
    assert engine.processors.try_get(stream, "mine") is first
    await reach(first, event.offset)
    await stream.append({"type": core_type("subscription-removed"), "payload": {"subscriptionKey": "mine"}})
    await engine.settle()
    assert engine.processors.get_all(stream) == []
    assert stream.load().connections_by_key == {}
    assert (await stream.read())[-1].payload == {"subscriptionKey": "mine", "reason": "subscription-removed"}


async def test_configured_processor_when_stopped_here_stays_so_until_configured_anew(
    engine: StreamEngine, stream: Stream
) -> None:
    engine.processors.add("echo", Echo)
    await stream.append(configure("mine", OWN))
    await engine.settle()
    stopped = engine.processors.try_get(stream, "mine")
    assert stopped is not None
    await stopped.stop()
    await stopped.stop()
    await stream.append({"type": "x", "payload": 0})
    await engine.settle()
    assert await echoes(stream) == []
    await stream.append(configure("mine", OWN))
    await engine.settle()
    again = engine.processors.try_get(stream, "mine")
    assert again is not None
    await reach(again, stream.load().max_offset)
    assert await echoes(stream) == [0]


async def test_subscription_of_a_kind_nobody_dials_is_kept_and_does_nothing(
    engine: StreamEngine, stream: Stream
) -> None:
    targets: list[dict[str, Any]] = [{}, {"type": "elsewhere"}, {"transformInput": 7}, {"transformInput": {}}]
    for n, target in enumerate(targets):
        await stream.append(configure(f"k{n}", target))
    await stream.append(configure("unknown", {"type": "in-process", "processorName": "unheard-of"}))
    await engine.settle()
    assert engine.processors.get_all(stream) == []
    assert len(stream.load().subscriptions_by_key) == 5
    assert [name for _, name in await read_short(stream, after_offset=2)] == ["subscription-configured"] * 5


async def test_processor_when_attached_again_replaces_the_one_that_ran(engine: StreamEngine, stream: Stream) -> None:
    first = await attach(engine, stream, Echo())
    second = await attach(engine, stream, Echo())
    assert first.is_stopped
    await stream.append({"type": "x", "payload": 0})
    await reach(second, stream.load().max_offset)
    assert await echoes(stream) == [0]
    assert engine.processors.get_all(stream) == [second]


async def test_slow_processor_takes_no_part_of_an_append(engine: StreamEngine, stream: Stream) -> None:
    never = asyncio.Event()

    class Stalled(Echo):
        async def process_event(
            self, step: ReducedEvent[dict[str, Any]], batch: ProcessorBatch[dict[str, Any]]
        ) -> None:
            await never.wait()

    await attach(engine, stream, Stalled())
    consumer = Consumer()
    await stream.subscribe(consumer, presence=False)
    for n in range(300):
        await stream.append({"type": "x", "payload": n})
    await consumer.wait_for_event(stream.load().max_offset)


async def test_engine_when_closed_does_not_wait_for_hooks_that_never_end(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    begun, never = asyncio.Event(), asyncio.Event()

    class Stalled(Echo):
        def process_batch(self, batch: ProcessorBatch[dict[str, Any]]) -> Awaitable[object] | None:
            batch.run_in_background(never.wait())
            batch.block_while(never.wait())
            begun.set()
            return never.wait()

    await attach(engine, stream, Stalled())
    before = await stream.append({"type": "x"})
    await begun.wait()
    await asyncio.wait_for(engine.close(), 10)
    engine = StreamEngine.open(home)
    assert (await engine.stream("p", "/a").read())[-1].offset == before.offset
    await engine.close()


async def test_names_when_wrong_are_refused_with_those_there_are(engine: StreamEngine, stream: Stream) -> None:
    host = engine.processors
    with pytest.raises(ItxError) as unknown:
        await host.attach(stream, "echo")
    assert unknown.value.message == 'Unknown stream processor "echo" on this host (registered: circuit-breaker)'
    host.add("echo", Echo)
    with pytest.raises(ItxError) as taken:
        host.add("echo", Echo)
    assert taken.value.message == 'Stream processor "echo" is already registered on this host'
    with pytest.raises(ItxError) as unnamed:
        await host.attach(stream)
    assert unnamed.value.message == (
        "processorName is required when a host has more than one processor (registered: circuit-breaker, echo)"
    )
    assert host.names == ["circuit-breaker", "echo"]
    assert stream.load().event_count == 0


async def test_contract_when_it_takes_everything_sees_its_own_coming(engine: StreamEngine, stream: Stream) -> None:
    class All(Processor[dict[str, Any]]):
        contract: ClassVar[ProcessorContract[Any]] = ProcessorContract(slug="all", initial_state={"types": []})

        def reduce(self, state: dict[str, Any], event: StreamEvent) -> dict[str, Any]:
            return {"types": [*state["types"], event.type.rpartition("/")[2]]}

    attachment = await attach(engine, stream, All())
    await stream.append({"type": "x"})
    await reach(attachment, 4)
    assert attachment.runner.state == {"types": ["created", "woken", "subscriber-connected", "x"]}


async def test_connection_when_ended_for_idleness_is_made_again_by_the_next_append(
    engine: StreamEngine, stream: Stream
) -> None:
    engine.processors.add("echo", Echo)
    await stream.append(configure("mine", OWN))
    await engine.settle()
    attachment = engine.processors.try_get(stream, "mine")
    assert attachment is not None
    for n in range(1, 6):
        subscription = stream.try_get_connection("mine")
        assert subscription is not None
        await stream.end_connection(subscription, "idle")
        await stream.end_connection(subscription, "idle")
        await engine.settle()
        assert stream.try_get_connection("mine") is None, "its own fact must not bring it back"
        await stream.append({"type": "x", "payload": n})
        await engine.settle()
        await reach(attachment, stream.load().max_offset)
    assert await echoes(stream) == [1, 2, 3, 4, 5]
    assert attachment.runner.state == {"count": 5}
    reasons = await stream.get_events(event_types=[core_type("subscriber-disconnected")])
    assert [event.payload["reason"] for event in reasons] == ["idle"] * 5


async def test_processor_when_the_stream_was_paused_comes_back_when_it_is_resumed(
    engine: StreamEngine, stream: Stream
) -> None:
    attachment = await attach(engine, stream, Echo())
    await stream.append_batch([{"type": "x", "payload": 0}, {"type": core_type("paused")}])
    fact = await give_up(attachment, stream)
    assert fact.payload["error"] == {"name": "ItxError", "message": "stream paused: unknown reason"}
    event = await stream.append({"type": core_type("resumed")})
    await reach(attachment, event.offset)
    assert (await echoes(stream), attachment.error) == ([0], None)


async def test_processor_when_it_cannot_be_made_is_refused_or_left_alone(
    engine: StreamEngine, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    class Bare(Processor[dict[str, Any]]):
        pass

    builds: list[Any] = [Bare, lambda: None, "echo", Processor]
    for build in builds:
        with pytest.raises(ItxError, match="makes no processor with a contract") as caught:
            await stream.run_processor(build)
        assert caught.value.code == "BAD_REQUEST"
        with pytest.raises(ItxError, match="makes no processor"):
            engine.processors.register(build)
    assert stream.load().event_count == 0
    engine.processors.add("echo", Bare)
    event = await stream.append(configure("mine", OWN))
    assert event.offset == 3
    assert [record.message for record in caplog.records] == ["could not make the processor echo for /a/b"]


@pytest.mark.parametrize(("end", "late"), [("kill", 3), ("reset", 0)])
async def test_hook_when_its_stream_begins_another_life_does_nothing_to_it(
    engine: StreamEngine, stream: Stream, end: str, late: int
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    class Late(Echo):
        async def process_event(
            self, step: ReducedEvent[dict[str, Any]], batch: ProcessorBatch[dict[str, Any]]
        ) -> None:
            if step.event.type != "x":
                return
            begun.set()
            batch.block_while(self.append_late(batch))
            batch.run_in_background(self.append_late(batch))
            await self.append_late(batch)

        async def append_late(self, batch: ProcessorBatch[dict[str, Any]]) -> None:
            await gate.wait()
            await batch.stream.append({"type": ECHO})

    attachment = await attach(engine, stream, Late())
    await stream.append({"type": "x"})
    await begun.wait()
    await getattr(stream, end)()
    gate.set()
    await stream.wake()
    await engine.settle()
    await reach(attachment, stream.load().max_offset)
    # After a kill the event comes again, to one hook; after a reset there is none to come.
    assert len(await echoes(stream)) == late
