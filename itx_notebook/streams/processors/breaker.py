"""The circuit breaker: pauses a stream that takes more events than it should.

A bucket of tokens: each event takes one, time fills it up. Time is that of the events, so a replay comes to the same
state. Nothing resumes by itself; somebody appends ``resumed``, and the bucket is full again.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec.structs import replace

from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams.core import core_type
from itx_notebook.streams.processors.contract import ANY, EventType, ProcessorContract
from itx_notebook.streams.processors.processor import Processor, ProcessorBatch
from itx_notebook.types import Event, StreamEvent

__all__ = ["BREAKER_CONFIGURED", "CircuitBreaker", "CircuitBreakerState"]

_log = logging.getLogger("itx_notebook")

BREAKER_CONFIGURED: Final = "events.iterate.com/circuit-breaker/configured"
_PAUSED: Final = core_type("paused")
_RESUMED: Final = core_type("resumed")
_WOKEN: Final = core_type("woken")
_MS_PER_MINUTE: Final = 60_000

_Positive = Annotated[int, msgspec.Meta(gt=0)]


class _Configured(msgspec.Struct, rename="camel"):
    burst_capacity: _Positive
    refill_rate_per_minute: _Positive


class CircuitBreakerState(msgspec.Struct, frozen=True, rename="camel"):
    """The bucket. Its defaults let a hundred thousand events a second pass: they are there to stop runaway loops.

    Attributes
    ----------
    available_tokens : float
        Below 0: tripped. Exactly 0 is fine.
    last_refill_at_ms : int or None
        Time of the last event, in milliseconds since the epoch; ``None`` before the first.
    """

    available_tokens: float = 100_000
    last_refill_at_ms: int | None = None
    burst_capacity: int = 100_000
    refill_rate_per_minute: int = 6_000_000


class CircuitBreaker(Processor[CircuitBreakerState]):
    """Appends ``paused`` when the tokens run out."""

    contract: ClassVar[ProcessorContract[CircuitBreakerState]] = ProcessorContract(
        slug="circuit-breaker",
        version="0.1.0",
        description="Pauses the stream when it takes more events than its token bucket allows.",
        state=CircuitBreakerState,
        events={
            BREAKER_CONFIGURED: EventType(
                "How many events may come at once, and how many a minute in the long run.", _Configured
            )
        },
        consumes=(BREAKER_CONFIGURED, ANY),
        emits=(_PAUSED,),
    )

    def reduce(self, state: CircuitBreakerState, event: StreamEvent) -> CircuitBreakerState | None:
        """Take a token, and put in what time has filled up."""
        if event.type == _WOKEN:
            return None
        now = _get_ms(event)
        if event.type == BREAKER_CONFIGURED:
            config: _Configured = event.payload
            return CircuitBreakerState(
                available_tokens=config.burst_capacity,
                last_refill_at_ms=now,
                burst_capacity=config.burst_capacity,
                refill_rate_per_minute=config.refill_rate_per_minute,
            )
        full = state.burst_capacity
        if event.type in (_PAUSED, _RESUMED) or state.last_refill_at_ms is None:
            tokens: float = full
        else:
            elapsed = max(0, now - state.last_refill_at_ms)
            tokens = min(full, state.available_tokens + elapsed * state.refill_rate_per_minute / _MS_PER_MINUTE)
        if event.type not in (_PAUSED, _RESUMED):
            tokens -= 1
        return replace(state, available_tokens=tokens, last_refill_at_ms=now)

    def process_batch(self, batch: ProcessorBatch[CircuitBreakerState]) -> None:
        """Pause at the end of any batch that leaves the bucket in deficit, not only of the one that emptied it."""
        if batch.state.available_tokens >= 0:
            return
        trigger = batch.steps[-1]
        for step in reversed(batch.steps):
            if step.state.available_tokens >= 0:
                break
            trigger = step
        batch.block_while(self._pause(batch, trigger.event))

    async def _pause(self, batch: ProcessorBatch[CircuitBreakerState], trigger: StreamEvent) -> None:
        paused = Event(
            type=_PAUSED,
            payload={"reason": "circuit breaker tripped: burst rate limit exceeded"},
            idempotency_key=f"stream-paused:{trigger.offset}",
        )
        try:
            await batch.stream.append(paused)
        except StoreError:
            raise
        except ItxError as error:
            # Most likely it is paused already, which the next batch will tell.
            _log.info("the circuit breaker could not pause: %s", error)


def _get_ms(event: StreamEvent) -> int:
    return round(datetime.fromisoformat(event.created_at).timestamp() * 1000)
