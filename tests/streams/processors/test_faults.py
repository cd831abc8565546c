"""An echoing processor and faults at random: whatever fails, each event is folded and echoed once, in order."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from itx_notebook.errors import StoreError
from itx_notebook.streams import Processor, Stream, StreamEngine, core_type, processor
from itx_notebook.streams.processors import Attachment, ProcessorBatch, ReducedEvent
from itx_notebook.types import StreamEvent

ECHO = "demo.echo"
PLACES = ["reduce", "hook", "after the append", "blocking work", "snapshot", "load"]


class Faults:
    """Which calls fail: the next so many at each place."""

    def __init__(self) -> None:
        self.left = dict.fromkeys(PLACES, 0)

    def meet(self, place: str) -> None:
        if self.left[place] > 0:
            self.left[place] -= 1
            raise StoreError(f"fault: {place}")

    def clear(self) -> None:
        self.left = dict.fromkeys(PLACES, 0)


class FaultyEngine(StreamEngine):
    """An engine whose snapshots cannot always be stored or read."""

    faults: Faults

    async def save_snapshot(self, *arguments: Any) -> None:
        self.faults.meet("snapshot")
        await super().save_snapshot(*arguments)


class Echo(Processor[dict[str, Any]]):
    contract = processor("echo", consumes=["demo.x"], emits=[ECHO], initial_state={"payloads": []})(
        lambda state, event: None
    ).contract

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def prepare(self) -> None:
        self._faults.meet("load")

    def reduce(self, state: dict[str, Any], event: StreamEvent) -> dict[str, Any]:
        self._faults.meet("reduce")
        return {"payloads": [*state["payloads"], event.payload]}

    async def process_event(self, step: ReducedEvent[dict[str, Any]], batch: ProcessorBatch[dict[str, Any]]) -> None:
        self._faults.meet("hook")
        batch.block_while(self._work())
        await batch.append(ECHO, step.event.payload, key="echo", cause=step.event)
        self._faults.meet("after the append")

    async def _work(self) -> None:
        await asyncio.sleep(0)
        self._faults.meet("blocking work")


class FaultMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp())
        self.faults = Faults()
        self.payloads: list[int] = []
        self.run(self.open())

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    async def open(self) -> None:
        self.engine = FaultyEngine.open(self.home)
        self.engine.faults = self.faults
        self.stream: Stream = self.engine.stream("p", "/a")
        self.attachment: Attachment | None = None

    async def attach(self) -> Attachment:
        self.attachment = await self.stream.run_processor(lambda: Echo(self.faults))
        return self.attachment

    @rule(payloads=st.lists(st.integers(0, 99), min_size=1, max_size=6), settles=st.booleans())
    def append(self, payloads: list[int], settles: bool) -> None:
        self.run(self.stream.append_batch([{"type": "demo.x", "payload": payload} for payload in payloads]))
        self.payloads += payloads
        if settles:
            self.run(self.engine.settle())

    @rule(payload=st.integers(0, 99))
    def append_beside_others(self, payload: int) -> None:
        async def append_all() -> None:
            await asyncio.gather(*(self.stream.append({"type": "demo.x", "payload": payload + n}) for n in range(3)))

        self.run(append_all())
        self.payloads += [payload, payload + 1, payload + 2]

    @rule(place=st.sampled_from(PLACES), times=st.integers(1, 5))
    def break_something(self, place: str, times: int) -> None:
        self.faults.left[place] = times

    @rule()
    def start(self) -> None:
        self.faults.left["load"] = 0
        self.run(self.attach())

    @rule()
    def stop(self) -> None:
        if self.attachment is not None:
            self.run(self.attachment.stop())

    @rule(turns=st.integers(1, 30))
    def let_work(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(turn())

    @rule()
    def kill(self) -> None:
        self.run(self.stream.kill())

    @rule()
    def reset(self) -> None:
        self.run(self.stream.reset())
        self.payloads.clear()

    @rule()
    def pause_and_resume(self) -> None:
        for suffix in ("paused", "resumed"):
            self.run(self.stream.append({"type": core_type(suffix)}))

    @rule()
    def restart(self) -> None:
        self.run(self.engine.close())
        self.run(self.open())

    @rule()
    def check(self) -> None:
        """Nothing fails any more: everything is made up for."""
        self.run(self.catch_up())
        assert self.attachment is not None
        assert self.attachment.runner.state == {"payloads": self.payloads}
        echoes = self.run(self.stream.get_events(event_types=[ECHO]))
        assert [event.payload for event in echoes] == self.payloads
        failures = self.run(self.stream.get_events(event_types=[core_type("error-occurred")]))
        assert len({event.idempotency_key for event in failures}) == len(failures)

    async def catch_up(self) -> None:
        self.faults.clear()
        attachment = await self.attach()
        while True:
            head = self.stream.load().max_offset
            await attachment.runner.wait_until_event(head, timeout=20)
            await self.engine.settle()
            if self.stream.load().max_offset == head:
                return

    def teardown(self) -> None:
        self.check()
        self.run(self.engine.close())
        self.run(asyncio.sleep(0))
        self.loop.close()
        shutil.rmtree(self.home)


def test_events_when_faults_come_at_random_are_folded_and_echoed_once_in_order() -> None:
    run_state_machine_as_test(
        FaultMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
