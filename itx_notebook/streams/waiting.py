"""Waiting for one event of a stream: a subscription that ends with the first match.

Not durable: it ends with the caller, with the time allowed, or with the stream's incarnation.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxConnectionError, ItxError, ItxTimeoutError
from itx_notebook.streams.batch import EventBatch
from itx_notebook.streams.subscription import Sink
from itx_notebook.types import StreamEvent

__all__ = ["Predicate", "wait_for_event"]

Predicate = Callable[[StreamEvent], bool | Awaitable[bool]]

_TYPES_SHOWN: Final = 20


class Subscribed(Protocol):
    """An open subscription, as far as waiting needs it."""

    closed: asyncio.Event

    @property
    def error(self) -> BaseException | None:
        """Why it ended, if nobody asked it to."""
        ...

    async def unsubscribe(self) -> None:
        """Stop delivery."""
        ...


class Subscribable(Protocol):
    """A stream, as far as waiting needs it: of this process, or of another."""

    async def subscribe(
        self,
        sink: Sink,
        *,
        replay_after_offset: int | None = None,
        event_types: Iterable[str] | None = None,
        presence: bool = True,
        subscriber: dict[str, object] | None = None,
    ) -> Subscribed:
        """Deliver batches."""
        ...


async def wait_for_event(
    stream: Subscribable,
    predicate: Predicate | None,
    *,
    event_types: Iterable[str] | None,
    after_offset: int | None,
    timeout: float | None,  # noqa: ASYNC109  # of the engine's clock, and the error tells what was seen
    presence: bool,
    clock: Clock,
) -> StreamEvent:
    """See :meth:`Stream.wait_for_event`."""
    types = None if event_types is None else list(event_types)
    _check(predicate, types, after_offset, timeout)
    search = _Search(predicate)
    timer = None if timeout is None else clock.call_later(timeout, lambda: search.fail(search.get_timeout(timeout)))
    subscription = closing = None
    try:
        subscription = await stream.subscribe(
            search.look_through,
            replay_after_offset=after_offset,
            event_types=types,
            presence=presence,
            subscriber={"description": "waitForEvent"},
        )
        opened = subscription
        closing = asyncio.get_running_loop().create_task(opened.closed.wait(), context=contextvars.Context())
        closing.add_done_callback(lambda _: search.fail(_closed_early(opened.error)))
        return await search.found
    finally:
        if timer is not None:
            timer.cancel()
        if closing is not None:
            closing.cancel()
        if subscription is not None:
            await subscription.unsubscribe()


class _Search:
    def __init__(self, predicate: Predicate | None) -> None:
        self.found: asyncio.Future[StreamEvent] = asyncio.get_running_loop().create_future()
        self._predicate = predicate
        self._seen: list[str] = []
        self._count = 0

    async def look_through(self, batch: EventBatch) -> None:
        """Ask the predicate about each event in order; what it raises ends the wait, not the stream's delivery."""
        for event in batch.events:
            self._count += 1
            self._seen = [*self._seen[1 - _TYPES_SHOWN :], event.type]
            try:
                answer = True if self._predicate is None else self._predicate(event)
                is_match = (await answer) if inspect.isawaitable(answer) else answer
            except Exception as error:
                # A future takes no StopIteration, which a bare next() in a predicate raises.
                self.fail(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
                return
            if self.found.done():
                return
            if is_match:
                self.found.set_result(event)
                return

    def fail(self, error: Exception) -> None:
        if not self.found.done():
            self.found.set_exception(error)

    def get_timeout(self, timeout: float) -> ItxTimeoutError:
        recent = ", ".join(self._seen) or "none"
        return ItxTimeoutError(
            f"Timed out waiting for stream event after {timeout * 1000:g}ms"
            f" (saw {self._count} events; recent types: {recent}).",
            timeout=timeout,
        )


def _check(predicate: Predicate | None, types: list[str] | None, after_offset: object, timeout: float | None) -> None:
    if predicate is None and types is None:
        raise ItxError(
            "waitForEvent requires eventTypes or predicate.",
            code="BAD_REQUEST",
            hint='Say which one: event_types=["demo.done"], or a function that takes an event.',
        )
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise ItxError(
            "waitForEvent timeoutMs must be a positive number.", code="BAD_REQUEST", details={"timeout": str(timeout)}
        )
    if after_offset is not None and (type(after_offset) is not int or after_offset < 0):
        raise ItxError(
            "waitForEvent afterOffset must be a non-negative integer.",
            code="BAD_REQUEST",
            details={"afterOffset": repr(after_offset)},
        )


def _closed_early(why: BaseException | None) -> ItxError:
    if isinstance(why, ItxConnectionError):
        # The stream is as it was; it is the way to it that has ended.
        return why
    return ItxError(
        "Stream subscription closed before matching event.",
        code="INTERNAL",
        hint="The stream was killed or reset, or the engine was closed: look at it, and wait again.",
    )
