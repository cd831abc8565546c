"""The token bucket, to the token, and the pause it leads to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itx_notebook._clock import iso_from_ms
from itx_notebook.errors import ItxError
from itx_notebook.streams import Stream, StreamEngine, core_type
from itx_notebook.streams.processors import BREAKER_CONFIGURED, CircuitBreaker, CircuitBreakerState
from itx_notebook.testing.clock import FakeClock
from itx_notebook.types import StreamEvent
from tests.streams.support import read_short

T = 1_780_000_000_000
ON = {
    "type": core_type("subscription-configured"),
    "payload": {
        "subscriptionKey": "breaker",
        "subscriber": {"type": "callable", "callable": {"type": "in-process", "processorName": "circuit-breaker"}},
    },
}


def configure(burst: int, rate: int) -> dict[str, Any]:
    return {"type": BREAKER_CONFIGURED, "payload": {"burstCapacity": burst, "refillRatePerMinute": rate}}


def bucket(*steps: tuple[str, int], burst: int = 5, rate: int = 60) -> CircuitBreakerState:
    """The state after events of these types, each at so many milliseconds after `T`."""
    breaker = CircuitBreaker()
    state = CircuitBreakerState(available_tokens=burst, burst_capacity=burst, refill_rate_per_minute=rate)
    for offset, (name, ms) in enumerate(steps, 1):
        taken = breaker.contract.try_consume(
            StreamEvent(
                type=name,
                payload=configure(burst, rate)["payload"],
                offset=offset,
                created_at=iso_from_ms(T + ms),
            )
        )
        assert taken is not None
        state = breaker.reduce(state, taken) or state
    return state


def tokens(*steps: tuple[str, int], burst: int = 5, rate: int = 60) -> float:
    return bucket(*steps, burst=burst, rate=rate).available_tokens


def test_contract_lets_a_hundred_thousand_events_a_second_pass() -> None:
    initial = CircuitBreaker.contract.make_initial_state()
    assert initial == CircuitBreakerState(100_000, None, 100_000, 6_000_000)
    assert CircuitBreaker.contract.encode_state(initial) == {
        "availableTokens": 100_000,
        "lastRefillAtMs": None,
        "burstCapacity": 100_000,
        "refillRatePerMinute": 6_000_000,
    }


def test_first_event_finds_the_bucket_full() -> None:
    assert bucket(("x", 0)) == CircuitBreakerState(4, T, 5, 60)


def test_time_fills_the_bucket_and_never_beyond_its_brim() -> None:
    assert tokens(("x", 0), ("x", 0), ("x", 0)) == 2
    assert tokens(("x", 0), ("x", 0), ("x", 500)) == pytest.approx(2.5)
    assert tokens(("x", 0), ("x", 600_000)) == 4


def test_time_when_it_goes_backwards_fills_nothing_and_costs_one_token() -> None:
    assert tokens(("x", 1_000), ("x", 0), burst=5, rate=6_000_000) == 3
    assert bucket(("x", 1_000), ("x", 0)).last_refill_at_ms == T
    configured_late = bucket((BREAKER_CONFIGURED, 1_000), ("x", 0))
    assert configured_late.available_tokens == 4


def test_woken_changes_nothing_and_pausing_resuming_and_configuring_fill_it() -> None:
    before = bucket(("x", 0), ("x", 0))
    assert bucket(("x", 0), ("x", 0), (core_type("woken"), 9_000)) == before
    for name in (core_type("paused"), core_type("resumed"), BREAKER_CONFIGURED):
        assert bucket(("x", 0), ("x", 0), (name, 7)) == CircuitBreakerState(5, T + 7, 5, 60)


def test_configuration_when_not_of_its_shape_cannot_be_taken() -> None:
    event = StreamEvent(type=BREAKER_CONFIGURED, payload={"burstCapacity": 0}, offset=1, created_at=iso_from_ms(T))
    with pytest.raises(ItxError, match="cannot take"):
        CircuitBreaker.contract.try_consume(event)


async def until_paused(stream: Stream) -> StreamEvent:
    return await stream.wait_for_event(event_types=[core_type("paused")], after_offset=0, timeout=10, presence=False)


async def test_stream_when_configured_and_flooded_is_paused_until_somebody_resumes_it(engine: StreamEngine) -> None:
    stream = engine.stream("p", "/flooded")
    await stream.append_batch([ON, configure(10, 1)])
    await engine.settle()
    await stream.append_batch([{"type": "x"}] * 30)
    paused = await until_paused(stream)
    assert paused.payload == {"reason": "circuit breaker tripped: burst rate limit exceeded"}
    (trigger,) = [paused.idempotency_key]
    assert str(trigger).startswith("stream-paused:")
    with pytest.raises(ItxError, match="stream paused: circuit breaker tripped"):
        await stream.append({"type": "x"})
    await stream.append_batch([{"type": core_type("resumed")}, {"type": "x"}])
    assert not stream.load().paused


async def test_trigger_is_the_event_that_took_the_token_below_zero(home: Path) -> None:
    engine = StreamEngine.open(home, clock=FakeClock())
    stream = engine.stream("p", "/a")
    await stream.append_batch([ON, configure(10, 1)])
    attachment = await running(engine, stream)
    used = stream.load().max_offset - 4
    await stream.append_batch([{"type": "x"}] * (10 - used))
    await attachment.runner.wait_until_event(stream.load().max_offset, timeout=5)
    assert not stream.load().paused
    last = await stream.append({"type": "x"})
    paused = await until_paused(stream)
    assert paused.idempotency_key == f"stream-paused:{last.offset}"
    await engine.close()


async def running(engine: StreamEngine, stream: Stream) -> Any:
    await engine.settle()
    attachment = engine.processors.try_get(stream, "breaker")
    assert attachment is not None
    await attachment.runner.wait_until_event(stream.load().max_offset)
    return attachment


async def test_breaker_when_it_catches_up_on_a_flood_trips_all_the_same(engine: StreamEngine) -> None:
    stream = engine.stream("p", "/a")
    await stream.append_batch([configure(10, 1), *([{"type": "x"}] * 150)])
    await stream.append(ON)
    await until_paused(stream)
    assert stream.load().paused


async def test_breaker_when_removed_lets_everything_pass(engine: StreamEngine) -> None:
    stream = engine.stream("p", "/a")
    await stream.append_batch([ON, configure(10, 1)])
    await engine.settle()
    await stream.append({"type": core_type("subscription-removed"), "payload": {"subscriptionKey": "breaker"}})
    await engine.settle()
    assert engine.processors.get_all(stream) == []
    assert (await read_short(stream))[-1][1] == "subscriber-disconnected"
    assert (await stream.read())[-1].payload == {"subscriptionKey": "breaker", "reason": "subscription-removed"}
    await stream.append_batch([{"type": "x"}] * 50)
    await engine.settle()
    assert not stream.load().paused
