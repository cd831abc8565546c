"""The connections of one stream: who is connected, in which order facts and batches come, and how they end.

Presence is part of the log: a connection that is not silent is an event when it opens and another when it ends. Those
facts describe what happened; failing to write one never fails what it is about.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

from itx_notebook.errors import ItxError
from itx_notebook.streams.batch import EventBatch
from itx_notebook.streams.core import core_type, parse_subscriber
from itx_notebook.streams.runtime import ConnectionRuntime, Direction
from itx_notebook.streams.subscription import Reason, Sink, Source, Subscription
from itx_notebook.types import Event, StreamEvent

__all__ = ["Connections"]

_log = logging.getLogger("itx_notebook")


class ConnectedStream(Source, Protocol):
    """What the connections ask of their stream."""

    @property
    def path(self) -> str:
        """The canonical path."""
        ...

    def check_open(self) -> None:
        """Raise if the engine is closed."""
        ...

    async def wake(self) -> None:
        """Record this incarnation."""
        ...

    async def commit_fact(self, event: Event) -> None:
        """Append a fact of the stream's own."""
        ...

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run background work that the engine's end waits for."""
        ...


class Connections:
    """The open connections of a stream, by key. Made by it with the first subscriber; on the engine's loop."""

    __slots__ = ("_by_key", "_stream")

    def __init__(self, stream: ConnectedStream) -> None:
        self._stream = stream
        self._by_key: dict[str, Subscription] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is connected, not even in silence."""
        return not self._by_key

    def get_all(self) -> tuple[Subscription, ...]:
        """The open connections, silent ones too."""
        return tuple(self._by_key.values())

    def try_get(self, key: str) -> Subscription | None:
        """The open connection under a key."""
        return self._by_key.get(key)

    def get_runtime(self) -> dict[str, ConnectionRuntime]:
        """What is true of each connection now; silent observers are not among them."""
        return {key: each.get_runtime() for key, each in self._by_key.items() if not each.is_silent}

    async def open(
        self,
        sink: Sink,
        *,
        key: str | None,
        replay_after_offset: int | None,
        event_types: Iterable[str] | None,
        events: bool,
        presence: bool,
        subscriber: dict[str, Any] | None,
        direction: Direction,
        tells_scans: bool,
    ) -> Subscription:
        """Open a connection; see :meth:`Stream.subscribe`."""
        stream = self._stream
        name = (key or "").strip() or str(uuid.uuid4())
        types = None if event_types is None else frozenset(event_types)
        who = None if subscriber is None else parse_subscriber(subscriber)
        if presence:
            # First of all, so that a live subscriber begins after the wake that its own coming causes.
            await self._attempt(stream.wake(), "wake")
        if direction == "inbound" and name in stream.load().subscriptions_by_key:
            raise ItxError(
                f'subscriptionKey "{name}" is reserved for a configured subscriber',
                code="BAD_REQUEST",
                details={"subscriptionKey": name},
                hint="Take another key, or none: a random one is made up.",
            )
        while (replaced := self._by_key.get(name)) is not None:
            await self.disconnect(replaced, "replaced")
        stream.check_open()
        head = stream.load().max_offset
        subscription = Subscription(
            stream,
            self,
            name,
            sink,
            cursor=head if replay_after_offset is None or not events else max(0, replay_after_offset),
            events=events,
            types=None if types is None or "*" in types else types,
            is_silent=not presence,
            direction=direction,
            tells_scans=tells_scans,
        )
        self._by_key[name] = subscription
        if presence:
            fact: dict[str, Any] = {"subscriptionKey": name, "direction": direction}
            if who is not None:
                fact["subscriber"] = who
            try:
                await self._record("subscriber-connected", fact)
            except asyncio.CancelledError:
                # Nobody got the handle that could end this connection.
                self._end(subscription, "unsubscribed")
                raise
        subscription.stream_max_offset = stream.load().max_offset
        self._watch_transport(subscription, sink)
        subscription.open()
        return subscription

    async def disconnect(self, subscription: Subscription, reason: Reason) -> None:
        """Close one connection, and record it unless it was silent. An old handle never closes its successor."""
        if subscription.closed.is_set():
            return
        self._detach(subscription)
        if not subscription.is_silent:
            await self._record("subscriber-disconnected", {"subscriptionKey": subscription.key, "reason": reason})

    def drop(self, subscription: Subscription, reason: Reason) -> None:
        """Close a connection whose consumer broke; the fact follows in the background."""
        if not subscription.closed.is_set():
            # A peer that went away is no fault of anybody's, and happens all day long.
            level = logging.INFO if reason == "rpc-broken" else logging.WARNING
            _log.log(
                level, "a subscriber of %s was dropped: %s", self._stream.path, reason, exc_info=subscription.error
            )
            self._end(subscription, reason)

    def notify(self, committed: Sequence[StreamEvent]) -> None:
        """Tell every connection of what was just committed."""
        if self._by_key:
            batch = _Once(lambda: self._stream.get_batch(committed, scanned_through=committed[-1].offset))
            # Those that are busy are many when consumers stall, and must not slow the appends.
            for subscription in [each for each in self._by_key.values() if not each.is_busy]:
                subscription.push(committed, batch)

    def abandon(self, error: ItxError | None) -> None:
        """Let the consumers go without a fact: the incarnation is over, and the next ``woken`` clears the roster."""
        for subscription in self.get_all():
            subscription.error = error
            self._detach(subscription)

    def _watch_transport(self, subscription: Subscription, sink: Sink) -> None:
        """Drop the connection when its transport dies, if the sink can tell.

        A sink is a plain callable or an object of a door; one that only looks as if it could tell must do no harm.
        """
        on_broken = getattr(sink, "on_broken", None)
        if callable(on_broken):
            try:
                on_broken(lambda *_reason: self.drop(subscription, "rpc-broken"))
            except Exception:
                _log.warning("a subscriber of %s cannot tell when it breaks", self._stream.path, exc_info=True)

    def _end(self, subscription: Subscription, reason: Reason) -> None:
        self._detach(subscription)
        if not subscription.is_silent:
            fact = {"subscriptionKey": subscription.key, "reason": reason}
            self._stream.start(self._record("subscriber-disconnected", fact))

    def _detach(self, subscription: Subscription) -> None:
        subscription.close()
        if self._by_key.get(subscription.key) is subscription:
            del self._by_key[subscription.key]

    async def _record(self, suffix: str, payload: dict[str, Any]) -> None:
        """Append a presence fact."""
        fact = Event(type=core_type(suffix), payload=payload)
        await self._attempt(self._stream.commit_fact(fact), f"record {suffix} of")

    async def _attempt(self, work: Coroutine[Any, Any, None], what: str) -> None:
        try:
            await work
        except ItxError as error:
            _log.warning("could not %s %s: %s", what, self._stream.path, error)


class _Once:
    """A value made at the first call and shared by all later ones."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], EventBatch]) -> None:
        self._make = make
        self._value: EventBatch | None = None

    def __call__(self) -> EventBatch:
        if self._value is None:
            self._value = self._make()
        return self._value
