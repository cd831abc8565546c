"""What a person does with processors, waits and looks, through the blocking face and through the async one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from itx_notebook._loop import is_on_io_loop
from itx_notebook.errors import ItxError, ItxTimeoutError
from itx_notebook.handle import RunningProcessor, Stream
from itx_notebook.notebook import NotebookItx
from itx_notebook.streams import core_type, processor
from itx_notebook.streams.processors import ProcessorBatch, ReducedEvent
from itx_notebook.types import StreamEvent
from tests.support import get_async_refusal, get_refusal, on_io_loop

WAIT = 10.0


@processor("order-count", consumes=["order.placed"], initial_state={"count": 0})
def order_count(state: dict[str, Any], event: StreamEvent) -> dict[str, Any]:
    """Counts orders."""
    return {"count": state["count"] + 1}


@processor("thanks", consumes=["order.placed"], emits=["order.thanked"])
def thanks(state: dict[str, Any], event: StreamEvent) -> None:
    """Thanks for each order."""


@thanks.on_event
async def say_thanks(step: ReducedEvent[dict[str, Any]], batch: ProcessorBatch[dict[str, Any]]) -> None:
    await batch.append("order.thanked", step.event.payload, key="thanks", cause=step.event)


@pytest.fixture
def orders(itx: NotebookItx) -> Stream:
    return itx.streams.get("/orders")


def test_processor_when_run_folds_what_is_there_and_what_comes(orders: Stream) -> None:
    orders.append_batch([{"type": "order.placed"}] * 3)
    with orders.run(order_count) as running:
        last = orders.append("order.placed")
        running.wait_until_event(last, timeout=WAIT)
        assert (running.state, running.offset, running.error) == ({"count": 4}, last.offset, None)
        assert repr(running) == f"<RunningProcessor processor:order-count on /orders, at offset {last.offset}>"
        snapshot = running.get_runtime_state().snapshot
        assert (snapshot.offset, snapshot.state) == (last.offset, {"count": 4})
    assert not running.is_running
    assert repr(running) == "<RunningProcessor processor:order-count on /orders, stopped>"
    with orders.run(order_count) as again:
        assert (again.state, again.offset) == ({"count": 4}, last.offset)


def test_processor_when_it_appends_thanks_once_for_each(orders: Stream) -> None:
    for _ in range(2):
        with orders.run(thanks) as running:
            placed = orders.append("order.placed", {"n": 1})
            running.wait_until_event(placed.offset, timeout=WAIT)
    thanked = orders.read(event_types=["order.thanked"])
    assert [event.payload for event in thanked] == [{"n": 1}] * 2
    assert [event.source for event in thanked] == [{"processor": {"slug": "thanks", "version": "0.1.0"}}] * 2
    assert {event.metadata is not None for event in thanked} == {True}


def test_processor_when_it_fails_four_times_says_why(orders: Stream) -> None:
    @processor("fails", consumes=["order.placed"])
    def fails(state: dict[str, Any], event: StreamEvent) -> None:
        raise ValueError("never")

    running: RunningProcessor = orders.run(fails)
    orders.append("order.placed")
    orders.wait_for_event(event_types=[core_type("error-occurred")], after_offset="start", timeout=WAIT)
    assert isinstance(running.error, ValueError)
    assert repr(running) == "<RunningProcessor processor:fails on /orders, gave up: ValueError('never')>"
    assert get_refusal(lambda: running.wait_until_event("soon")).code == "BAD_REQUEST"  # type: ignore[arg-type]  # what is tested
    running.stop()


def test_wait_until_event_when_it_takes_too_long_says_so(orders: Stream) -> None:
    with orders.run(order_count) as running, pytest.raises(ItxTimeoutError, match="waitUntilEvent timed out"):
        running.wait_until_event(10_000, timeout=0.02)
    with orders.run(order_count) as running, pytest.raises(ItxTimeoutError):
        running.wait_until_event(lambda event: False, timeout=0.02)


def test_circuit_breaker_when_enabled_pauses_a_flood(orders: Stream) -> None:
    orders.append("events.iterate.com/circuit-breaker/configured", {"burstCapacity": 20, "refillRatePerMinute": 1})
    orders.enable_processor("circuit-breaker")
    orders.enable_processor("circuit-breaker")
    assert list(orders.get_runtime_state().core_processor_state.subscriptions_by_key) == ["processor:circuit-breaker"]
    assert len(orders.read(event_types=[core_type("subscription-configured")])) == 1
    orders.append_batch([{"type": "order.placed"}] * 40)
    orders.wait_for_event(event_types=[core_type("paused")], after_offset="start", timeout=WAIT, presence=False)
    assert get_refusal(lambda: orders.append("order.placed")).message.startswith("stream paused: circuit breaker")
    orders.append(core_type("resumed"))
    orders.disable_processor("circuit-breaker")
    orders.disable_processor("circuit-breaker")
    orders.append_batch([{"type": "order.placed"}] * 40)
    assert orders.get_runtime_state().core_processor_state.subscriptions_by_key == {}


def test_processor_when_registered_runs_on_streams_configured_with_its_name(itx: NotebookItx, orders: Stream) -> None:
    assert itx.streams.register_processor(order_count) == "order-count"
    assert itx.streams.register_processor(thanks, name="polite") == "polite"
    orders.enable_processor("polite")
    orders.append("order.placed", {"n": 7})
    thanked = orders.wait_for_event(event_types=["order.thanked"], after_offset="start", timeout=WAIT)
    assert thanked.payload == {"n": 7}


def test_wait_for_event_when_it_comes_from_another_thread_gives_it(orders: Stream) -> None:
    seen: list[bool] = []

    def is_second(event: StreamEvent) -> bool:
        seen.append(is_on_io_loop())
        return bool(event.payload == 2)

    orders.append("order.placed", 0)
    writer = threading.Thread(target=lambda: [orders.append("order.placed", n) for n in (1, 2, 3)])
    after = orders.get_state().event_count
    writer.start()
    found = orders.wait_for_event(is_second, event_types=["order.placed"], after_offset=after, timeout=WAIT)
    writer.join()
    assert (found.payload, set(seen)) == (2, {True})


def test_wait_for_event_when_there_is_none_says_what_it_saw(orders: Stream) -> None:
    with pytest.raises(ItxTimeoutError, match=r"after 20ms \(saw 0 events; recent types: none\)"):
        orders.wait_for_event(event_types=["never"], timeout=0.02)
    assert Stream(orders.aio, timeout=0.01).path == "/orders"
    with pytest.raises(ItxTimeoutError, match="after 10ms"):
        Stream(orders.aio, timeout=0.01).wait_for_event(event_types=["never"])


def test_event_when_asked_for_alone_is_the_one_that_was_appended(orders: Stream) -> None:
    placed = orders.append("order.placed", {"n": 1}, idempotency_key="order-1")
    assert orders.get_event(3) == placed
    assert orders.get_event(idempotency_key="order-1") == placed
    assert orders.get_event(idempotency_key="order-2") is None
    assert get_refusal(lambda: orders.get_event(4)).message == "No stream event found at offset 4."
    for wrong in ({}, {"offset": 3, "idempotency_key": "order-1"}):
        assert get_refusal(lambda wrong=wrong: orders.get_event(**wrong)).code == "BAD_REQUEST"  # type: ignore[misc]  # bound for the loop


def test_read_when_types_are_chosen_gives_them_alone(orders: Stream) -> None:
    orders.append_batch([{"type": "a"}, {"type": "b"}, {"type": "a"}, {"type": "b"}])
    assert [event.offset for event in orders.read(event_types=["a"])] == [3, 5]
    assert [event.offset for event in orders.read(event_types="b", limit=1)] == [4]
    assert get_refusal(lambda: orders.read(limit=0)).message == "getEvents limit must be a positive integer."
    assert get_refusal(lambda: orders.read(event_types=[1])).code == "BAD_REQUEST"  # type: ignore[list-item]  # what is tested


def test_reduce_when_asked_what_if_stores_nothing(orders: Stream) -> None:
    orders.append("order.placed")
    paused = orders.reduce(core_type("paused"), {"reason": "what if"})
    assert (paused.paused, paused.event_count) == (True, 4)
    assert not orders.reduce({"type": core_type("resumed")}, state=paused).paused
    assert orders.get_state().event_count == 3


def test_subscription_when_its_stream_is_reset_says_why_it_ended(orders: Stream) -> None:
    orders.append("order.placed")
    subscription = orders.subscribe(lambda _: None, event_types=["order.placed"], key="mine", presence=False)
    orders.reset()
    assert isinstance(subscription.error, ItxError)
    assert "reset requested" in repr(subscription)
    assert orders.append("order.placed").offset == 3
    orders.kill()
    assert orders.append("order.placed").offset == 5


async def test_async_handle_can_all_of_it_too(itx: NotebookItx) -> None:
    orders = itx.aio.streams.get("/orders")
    await orders.append("order.placed")
    assert await itx.aio.streams.register_processor(order_count) == "order-count"
    async with await orders.run(order_count, key="mine") as running:
        await running.wait_until_event(3, timeout=WAIT)
        assert running.state == {"count": 1}
        assert repr(running).startswith("<AsyncRunningProcessor mine on /orders, at offset")
    await orders.enable_processor("circuit-breaker")
    await orders.disable_processor("circuit-breaker")
    assert (await orders.reduce(core_type("paused"))).paused
    assert (await orders.get_event(3)) is not None
    error = await get_async_refusal(orders.wait_for_event())
    assert error.message == "waitForEvent requires eventTypes or predicate."
    await orders.kill()
    await orders.reset()
    assert (await orders.get_state(presence=False)).event_count == 0


def test_hook_when_it_uses_the_blocking_face_is_told_what_to_do(itx: NotebookItx, orders: Stream) -> None:
    errors: list[ItxError] = []

    @processor("blocks", consumes=["order.placed"])
    def blocks(state: dict[str, Any], event: StreamEvent) -> None:
        errors.append(get_refusal(lambda: orders.append("from-inside")))

    with orders.run(blocks) as running:
        running.wait_until_event(orders.append("order.placed"), timeout=WAIT)
    assert on_io_loop(lambda: errors[0].code) == "BAD_REQUEST"
    assert "would block the I/O thread" in errors[0].message
