"""One stream as the original engine's own RPC shows it: object arguments, whole core state, events as the log has them.

For programs written against the engine rather than against a handle. The surface is an allow-list on purpose: state
can be read and folded by it, never written past the log. Admins only; every touch wakes the stream, as in the original.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from itx_notebook import capnweb as rpc
from itx_notebook.doors.policy import check_may_erase
from itx_notebook.doors.sessions import Admission
from itx_notebook.doors.targets import CallbackSink, WireSubscription, parse_core_state, parse_options, to_wire
from itx_notebook.errors import ItxError
from itx_notebook.streams import EventBatch, Stream
from itx_notebook.streams.event import parse_event
from itx_notebook.streams.waiting import Predicate
from itx_notebook.types import StreamEvent

__all__ = [
    "SUBSCRIBE",
    "EngineStreamTarget",
    "event_to_wire",
    "events_to_wire",
    "get_wire_event",
    "open_subscription",
    "parse_offset",
    "wait_for_wire_event",
]

_OFFSET: Final = (int, float)
SUBSCRIBE: Final = {
    "subscriptionKey": (str,),
    "processEventBatch": (rpc.RpcStub,),
    "replayAfterOffset": _OFFSET,
    "eventTypes": (list,),
    "events": (bool,),
    "subscriber": (dict,),
}
_WAIT: Final = {
    "afterOffset": _OFFSET,
    "eventTypes": (list,),
    "predicate": (rpc.RpcStub,),
    "timeoutMs": (int, float),
}


def event_to_wire(event: StreamEvent) -> dict[str, Any]:
    """An event as the log has it: where it was read is no part of it."""
    wire: dict[str, Any] = to_wire(event)
    wire.pop("streamPath", None)
    return wire


def events_to_wire(events: list[StreamEvent] | tuple[StreamEvent, ...]) -> list[dict[str, Any]]:
    """Each of them."""
    return [event_to_wire(event) for event in events]


class EngineStreamTarget(rpc.RpcTarget, naming="camel"):
    """One stream of the engine."""

    def __init__(self, stream: Stream, admission: Admission) -> None:
        self._stream = stream
        self._admission = admission

    async def append(self, options: Any) -> Any:
        """Append one event."""
        given = parse_options(options, {"event": (dict,), "streamPath": (str,)}, "append")
        if "event" not in given:
            raise ItxError("append needs an event.", code="BAD_REQUEST")
        return event_to_wire(await self._at(given).append(given["event"]))

    async def append_batch(self, options: Any) -> Any:
        """Append all or none."""
        given = parse_options(options, {"events": (list,), "streamPath": (str,)}, "appendBatch")
        if "events" not in given:
            raise ItxError("appendBatch needs events.", code="BAD_REQUEST")
        return events_to_wire(await self._at(given).append_batch(given["events"]))

    def _at(self, given: dict[str, Any]) -> Stream:
        path = given.get("streamPath")
        return self._stream if path is None else self._stream.at(path)

    async def get_event(self, options: Any) -> Any:
        """Return one event by ``offset``, or by ``idempotencyKey`` (``undefined`` if there is none)."""
        await self._stream.wake()
        return await get_wire_event(self._stream, options)

    async def get_events(self, options: Any = None) -> Any:
        """Return the events between two offsets, both exclusive."""
        allowed = {"afterOffset": _OFFSET, "beforeOffset": _OFFSET, "limit": _OFFSET}
        given = parse_options(options, allowed, "getEvents")
        await self._stream.wake()
        events = await self._stream.get_events(
            after_offset=parse_offset(given, "afterOffset", 0) or 0,
            before_offset=parse_offset(given, "beforeOffset", None),
            limit=parse_offset(given, "limit", None),
        )
        return events_to_wire(events)

    async def subscribe(self, options: Any) -> Any:
        """Deliver batches with the whole core state."""
        given = parse_options(options, SUBSCRIBE, "subscribe")
        subscription = await open_subscription(self._stream, given, _batch_to_wire)
        # In the original this is a plain object with one function in it.
        return {
            "subscriptionKey": subscription.key,
            "streamMaxOffset": subscription.stream_max_offset,
            "unsubscribe": subscription.unsubscribe,
        }

    async def wait_for_event(self, options: Any) -> Any:
        """Return the first event that matches, from now on or after an offset."""
        return await wait_for_wire_event(self._stream, options, self._admission)

    async def runtime_state(self) -> Any:
        """Return the whole reduced state, and the open connections."""
        await self._stream.wake()
        return to_wire(self._stream.get_runtime_state())

    async def get_processor_runtime_state(self, options: Any) -> Any:
        """Return the snapshot and live state of a processor of this process; ``null`` if there is none."""
        given = parse_options(options, {"subscriptionKey": (str,)}, "getProcessorRuntimeState")
        running = self._stream.get_processor_runtime_state(given.get("subscriptionKey", ""))
        return None if running is None else to_wire(running)

    async def reduce(self, options: Any) -> Any:
        """Return what the state would be after an event; nothing is kept."""
        given = parse_options(options, {"event": (dict,), "coreProcessorState": (dict,)}, "reduce")
        if "event" not in given:
            raise ItxError("reduce needs an event.", code="BAD_REQUEST")
        state = given.get("coreProcessorState")
        known = None if state is None else parse_core_state(state)
        return to_wire(self._stream.reduce(parse_event(given["event"]), known))

    async def kill(self) -> Any:
        """End the stream's incarnation; the storage stays."""
        await self._stream.kill()
        return rpc.UNDEFINED

    async def reset(self) -> Any:
        """Erase the stream: its next life begins at offset 1. ``FORBIDDEN`` for the deployment's own facts."""
        check_may_erase(self._stream.namespace, self._stream.path)
        await self._stream.reset()
        return rpc.UNDEFINED

    def _rpc_dispose(self) -> None:
        # The main object goes with its session, or its batch.
        self._admission.cancel_waits()


async def open_subscription(stream: Stream, given: dict[str, Any], make: Any) -> WireSubscription:
    """Subscribe a peer's function, as checked options say; `make` says what of a batch it is sent."""
    sink = CallbackSink(given.get("processEventBatch"), make)
    try:
        subscription = await stream.subscribe(
            sink,
            key=given.get("subscriptionKey"),
            replay_after_offset=parse_offset(given, "replayAfterOffset", None),
            event_types=given.get("eventTypes"),
            events=given.get("events", True),
            subscriber=given.get("subscriber"),
        )
    except BaseException:
        sink.close()
        raise
    return WireSubscription(subscription, sink)


async def get_wire_event(stream: Stream, options: Any) -> Any:
    """One event by offset or by key, as options say."""
    given = parse_options(options, {"offset": _OFFSET, "idempotencyKey": (str,)}, "getEvent")
    if len(given) != 1:
        raise ItxError("getEvent takes an offset or an idempotencyKey.", code="BAD_REQUEST")
    if "offset" in given:
        return event_to_wire(stream.get_event(parse_offset(given, "offset", 0) or 0))
    event = await stream.try_get_event_by_key(given["idempotencyKey"])
    return rpc.UNDEFINED if event is None else event_to_wire(event)


async def wait_for_wire_event(
    stream: Stream, options: Any, admission: Admission, say: Callable[[StreamEvent], Any] = event_to_wire
) -> Any:
    """Wait as options say, no longer than the session lives; `say` is how the dialect says an event."""
    given = parse_options(options, _WAIT, "waitForEvent")
    if "timeoutMs" not in given:
        raise ItxError("waitForEvent timeoutMs must be a positive number.", code="BAD_REQUEST")
    ask: Any = given.get("predicate")

    async def is_wanted(event: StreamEvent) -> bool:
        return bool(await ask(say(event)))

    predicate: Predicate | None = None if ask is None else is_wanted
    waiting = asyncio.ensure_future(
        stream.wait_for_event(
            predicate,
            event_types=given.get("eventTypes"),
            after_offset=parse_offset(given, "afterOffset", None),
            timeout=given["timeoutMs"] / 1000,
        )
    )
    # Otherwise the wait of a client that is gone would stay in the stream until its time is up.
    admission.waits.add(waiting)
    try:
        return say(await waiting)
    finally:
        admission.waits.discard(waiting)
        waiting.cancel()


def parse_offset(given: dict[str, Any], name: str, default: int | None) -> Any:
    """A whole number; JavaScript's are floats. What is none is left for the engine to refuse."""
    value = given.get(name, default)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _batch_to_wire(batch: EventBatch) -> rpc.Prepared:
    return rpc.prepare(
        {
            "namespace": batch.namespace,
            "path": batch.path,
            "events": events_to_wire(batch.events),
            "streamMaxOffset": batch.stream_max_offset,
            "state": to_wire(batch.state),
        }
    )
