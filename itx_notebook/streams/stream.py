"""The actor of one stream: its state in memory, its connections, and what may be asked of it.

All of it runs on one loop, and nothing awaits between reading the head and committing, so no lock is needed. Loading
the state writes nothing; the stream *wakes* (``created``, ``woken``) with the first thing this process commits to it or
with the first look that is not silent.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from itx_notebook._json import encode_json
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams.committer import Draft, engine_closed
from itx_notebook.streams.core import (
    CORE_STATE_VERSION,
    CoreState,
    core_type,
    fold,
    get_public_state,
    initial_state,
)
from itx_notebook.streams.event import DAMAGE, parse_event, read_event, read_events
from itx_notebook.streams.storage import Reader, StreamWrite
from itx_notebook.streams.subscription import Sink, Subscription
from itx_notebook.types import Event, StreamChild, StreamEvent, StreamEventBatch, StreamState

__all__ = ["Stream"]

_log = logging.getLogger("itx_notebook")

_CREATED: Final = core_type("created")
_READ_PAGE: Final = 1_000
"""Events decoded between two turns of the loop: about 2 ms."""
_CHECKPOINT_EVERY: Final = 256
"""Events after which the checkpoint is renewed; what a boot folds at the most."""

_decode_state: Final = msgspec.json.Decoder(CoreState).decode


class Host(Protocol):
    """What a stream asks of its engine."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        ...

    @property
    def reader(self) -> Reader:
        """The read-only side of the store; raises once that is closed."""
        ...

    def try_read_by_key(self, stream_id: int, key: str) -> bytes | None:
        """The stored body under an idempotency key, between commits; raises once the store is closed."""
        ...

    def commit(
        self, stream: Stream, events: Sequence[Event], *, wake: bool = False
    ) -> asyncio.Future[list[StreamEvent]]:
        """Append checked events, all or none."""
        ...

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run background work that the engine's end waits for."""
        ...

    def note_loaded(self, stream: Stream) -> None:
        """Take notice that the state of a stream is in memory now; others may be told to forget theirs."""
        ...


class Stream:
    """One stream, ``(namespace, path)``. Made by :meth:`StreamEngine.stream`; to be used on the engine's loop.

    Attributes
    ----------
    namespace, path : str
        Identity. The path is canonical (leading slash).
    """

    __slots__ = (
        "_checkpoint_offset",
        "_connections",
        "_engine",
        "_is_awake",
        "_public",
        "_state",
        "_stream_id",
        "namespace",
        "path",
    )

    def __init__(self, engine: Host, namespace: str, path: str) -> None:
        self.namespace = namespace
        self.path = path
        self._engine = engine
        self._state: CoreState | None = None
        self._public: StreamState | None = None
        self._stream_id: int | None = None
        self._checkpoint_offset = 0
        self._is_awake = False
        self._connections: dict[str, Subscription] = {}

    # -- what a caller asks ------------------------------------------------------------------------------------------

    async def append(self, event: Event | dict[str, Any]) -> StreamEvent:
        """Append one event; returns when it is durable. See :meth:`append_batch`."""
        return (await self._engine.commit(self, (parse_event(event),)))[0]

    async def append_batch(self, events: Iterable[Event | dict[str, Any]]) -> list[StreamEvent]:
        """Append all of `events` or none; returns the committed events, aligned with the input, when they are durable.

        A repeated idempotency key answers with the original event. An empty list touches nothing.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: an envelope or core payload is not right; ``INTERNAL``: paused, offset precondition.
        StoreError
            The disk refused. Nothing was stored.
        """
        checked = [parse_event(event) for event in events]
        return await self._engine.commit(self, checked) if checked else []

    async def wake(self) -> None:
        """Let the stream exist and record this incarnation: ``created`` if it is new, ``woken`` once a process."""
        if not self._is_awake:
            await self._engine.commit(self, (), wake=True)

    def get_state(self) -> StreamState:
        """The public state. Silent: neither wakes nor creates; a stream nobody wrote to has ``event_count`` 0."""
        state = self.load()
        if self._public is None:
            self._public = get_public_state(state, namespace=self.namespace, path=self.path)
        return self._public

    async def read(
        self, *, after_offset: int = 0, before_offset: int | None = None, limit: int | None = None
    ) -> list[StreamEvent]:
        """Events between two offsets, both exclusive, in order. Silent. Lets the loop breathe between pages."""
        head = self.load().max_offset + 1
        before = head if before_offset is None else min(before_offset, head)
        events: list[StreamEvent] = []
        cursor = max(0, after_offset)
        while cursor < before - 1 and (limit is None or len(events) < limit):
            size = _READ_PAGE if limit is None else min(_READ_PAGE, limit - len(events))
            page = self.read_page(after_offset=cursor, before_offset=before, limit=size)
            if not page:
                break
            events += page
            cursor = page[-1].offset
            await asyncio.sleep(0)
        return events

    def get_children(self) -> list[StreamChild]:
        """Immediate children with their own time of creation, in order of arrival. Silent."""
        paths = self.load().child_paths
        created = self._engine.reader.read_first_bodies(self.namespace, paths)
        return [
            StreamChild(path=path, created_at=_try_read_created_at(created[path], path) if path in created else None)
            for path in paths
        ]

    async def subscribe(
        self,
        sink: Sink,
        *,
        key: str | None = None,
        replay_after_offset: int | None = None,
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
    ) -> Subscription:
        """Deliver batches to `sink` until it is closed; the first one, with the state, at once.

        Parameters
        ----------
        sink : callable
            Called on the loop; should not block. An exception, or a rejected awaitable, drops the subscription.
        key : str, optional
            Replaces an open subscription under the same key; a random UUID if absent or blank.
        replay_after_offset : int, optional
            Exclusive; 0 replays everything, ``None`` is live only.
        event_types : iterable of str, optional
            Others are skipped, not deferred; ``None`` or ``"*"`` among them is all.
        events : bool
            ``False``: states only; batches carry no events and coalesce.
        presence : bool
            ``False``: a silent observer, who leaves no ``subscriber-connected`` and does not wake the stream.

        Raises
        ------
        ItxError
            ``INTERNAL``: the engine is closed.
        """
        name = (key or "").strip() or str(uuid.uuid4())
        types = None if event_types is None else frozenset(event_types)
        if presence and not self._is_awake:
            # First of all, so that a live subscriber begins after the wake that its own coming causes.
            await self._record_wake()
        while (replaced := self._connections.get(name)) is not None:
            await self.disconnect(replaced, "replaced")
        if self._engine.is_closed:
            raise engine_closed()
        head = self.load().max_offset
        cursor = head if replay_after_offset is None or not events else max(0, replay_after_offset)
        subscription = Subscription(
            self,
            name,
            sink,
            cursor=cursor,
            events=events,
            types=None if types is None or "*" in types else types,
            is_silent=not presence,
        )
        self._connections[name] = subscription
        if presence:
            fact = {"subscriptionKey": name, "direction": "inbound"}
            try:
                await self._record("subscriber-connected", fact)
            except asyncio.CancelledError:
                # Nobody got the handle that could end this connection.
                self._detach(subscription)
                self._record_disconnected(subscription)
                raise
        subscription.stream_max_offset = self.load().max_offset
        subscription.open()
        return subscription

    async def disconnect(self, subscription: Subscription, reason: str) -> None:
        """Close one connection, and record it unless it was silent. An old handle never closes its successor."""
        if subscription.closed.is_set():
            return
        self._detach(subscription)
        if not subscription.is_silent:
            await self._record("subscriber-disconnected", {"subscriptionKey": subscription.key, "reason": reason})

    def drop(self, subscription: Subscription) -> None:
        """Close a connection whose consumer broke; the fact follows in the background."""
        _log.warning("a subscriber of %s was dropped", self.path, exc_info=subscription.error)
        self._detach(subscription)
        if not subscription.is_silent:
            self._record_disconnected(subscription)

    def _record_disconnected(self, subscription: Subscription) -> None:
        """Append the fact in the background."""
        fact = {"subscriptionKey": subscription.key, "reason": "unsubscribed"}
        self._engine.start(self._record("subscriber-disconnected", fact))

    def _detach(self, subscription: Subscription) -> None:
        subscription.close()
        if self._connections.get(subscription.key) is subscription:
            del self._connections[subscription.key]

    async def _record(self, suffix: str, payload: dict[str, Any]) -> None:
        """Append a presence fact; failing to must not fail what it is about."""
        try:
            await self._engine.commit(self, (Event(type=core_type(suffix), payload=payload),))
        except ItxError as error:
            _log.warning("could not record %s of %s: %s", suffix, self.path, error)

    async def _record_wake(self) -> None:
        try:
            await self.wake()
        except ItxError as error:
            _log.warning("could not wake %s: %s", self.path, error)

    # -- for the committer and the pumps -----------------------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether this incarnation has been recorded."""
        return self._is_awake

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected."""
        return not self._connections

    def load(self) -> CoreState:
        """The folded state: in memory, else from the checkpoint and the log after it. Writes nothing."""
        if self._state is None:
            self._state = self._read_state()
            self._engine.note_loaded(self)
        return self._state

    def _read_state(self) -> CoreState:
        state = initial_state()
        stored = self._engine.reader.try_read_stream(self.namespace, self.path)
        if stored is None:
            return state
        self._stream_id = stored.stream_id
        if stored.checkpoint is not None and stored.checkpoint_version == CORE_STATE_VERSION:
            try:
                state = _decode_state(stored.checkpoint)
            except DAMAGE:
                _log.warning("the checkpoint of %s is damaged; folding its log from the start", self.path)
        self._checkpoint_offset = state.max_offset
        while page := self.read_page(after_offset=state.max_offset, limit=_READ_PAGE):
            for event in page:
                try:
                    state = fold(state, event)
                except ItxError as error:
                    raise self._damaged(f"at offset {event.offset}", str(error)) from error
        return state

    def read_page(self, *, after_offset: int, limit: int, before_offset: int | None = None) -> list[StreamEvent]:
        """Up to `limit` stored events after an offset, in order."""
        if self._stream_id is None:
            return []
        bodies = self._engine.reader.read_bodies(
            self._stream_id, after_offset=after_offset, before_offset=before_offset, limit=limit
        )
        try:
            events = read_events(bodies, self.path)
        except DAMAGE as error:
            raise self._damaged(f"after offset {after_offset}", str(error)) from error
        # Offsets are dense, so one look tells that every event is the one of its place.
        if events and events[-1].offset != after_offset + len(events):
            raise self._damaged(f"after offset {after_offset}", "an offset is not that of its place")
        return events

    def _damaged(self, where: str, fault: str) -> StoreError:
        return StoreError(
            f"Stream {self.path} cannot be read {where}: an event is damaged ({fault}).",
            details={"namespace": self.namespace, "path": self.path},
            hint="Other streams are not affected; restore this store from a backup to get the event back.",
        )

    def try_find(self, key: str) -> StreamEvent | None:
        """The stored event under an idempotency key. To be called between commits, not while one is under way."""
        if self._stream_id is None:
            return None
        body = self._engine.try_read_by_key(self._stream_id, key)
        try:
            return None if body is None else read_event(body, self.path)
        except DAMAGE as error:
            raise self._damaged(f"at the idempotency key {key!r}", str(error)) from error

    def get_boot_events(self, state: CoreState) -> list[Event]:
        """What waking commits to a stream in `state`."""
        identity = {"namespace": self.namespace, "path": self.path}
        woken = Event(type=core_type("woken"), payload={"incarnationId": str(uuid.uuid4())})
        return [woken] if state.event_count else [Event(type=_CREATED, payload=identity), woken]

    def get_write(self, draft: Draft[Any]) -> StreamWrite:
        """The storage's part of a draft, with a new checkpoint when the old one has fallen behind."""
        checkpoint = None
        if draft.state.max_offset - self._checkpoint_offset >= _CHECKPOINT_EVERY:
            checkpoint = (CORE_STATE_VERSION, encode_json(draft.state))
        return StreamWrite(self.namespace, self.path, self._stream_id, draft.rows, checkpoint)

    def adopt(self, draft: Draft[Any], stream_id: int) -> None:
        """The commit succeeded: swap the state."""
        self._stream_id = stream_id
        if draft.state.max_offset - self._checkpoint_offset >= _CHECKPOINT_EVERY:
            self._checkpoint_offset = draft.state.max_offset
        is_loaded = self._state is not None
        self._state = draft.state
        self._public = None
        if not is_loaded:
            self._engine.note_loaded(self)
        self._is_awake = self._is_awake or draft.wakes

    def notify(self, committed: Sequence[StreamEvent]) -> None:
        """Tell every connection of what was just committed."""
        if self._connections:
            batch = _Once(lambda: self.get_batch(committed))
            # Those that are busy are many when consumers stall, and must not slow the appends.
            for subscription in [each for each in self._connections.values() if not each.is_busy]:
                subscription.push(committed, batch)

    def get_batch(self, events: Sequence[StreamEvent]) -> StreamEventBatch:
        """A batch of `events` with the state of this very moment."""
        state = self.get_state()
        return StreamEventBatch(events=tuple(events), state=state, stream_max_offset=state.event_count)

    def get_announcement(self, ancestor: Stream) -> Event:
        """The fact that tells `ancestor` of this stream. Its key makes telling it again harmless."""
        return Event(
            type=core_type("child-stream-created"),
            payload={"childPath": self.path},
            idempotency_key=self._get_announcement_key(ancestor),
        )

    def is_known_to(self, ancestor: Stream) -> bool:
        """Whether `ancestor` has the fact; it may have been lost to a crash, or to a pause."""
        ancestor.load()
        return ancestor.try_find(self._get_announcement_key(ancestor)) is not None

    def _get_announcement_key(self, ancestor: Stream) -> str:
        return f"child-stream-created:{ancestor.path}:{self.path}"

    def close(self) -> None:
        """Let the consumers go without a word: the process is going, and the next ``woken`` clears the roster."""
        for subscription in tuple(self._connections.values()):
            self._detach(subscription)

    def evict(self) -> None:
        """Let go of the state alone, which is read again when it is asked for; nobody else notices."""
        self._state = None
        self._public = None

    def forget(self) -> None:
        """Let go of what is in memory: from now on only the store, if it is open, can answer."""
        self._state = None
        self._public = None


def _try_read_created_at(body: bytes, path: str) -> str | None:
    """``None`` for a damaged child, which must not hide its siblings."""
    try:
        return read_event(body, path).created_at
    except DAMAGE:
        _log.warning("the first event of %s is damaged", path)
        return None


class _Once:
    """A value made at the first call and shared by all later ones."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], StreamEventBatch]) -> None:
        self._make = make
        self._value: StreamEventBatch | None = None

    def __call__(self) -> StreamEventBatch:
        if self._value is None:
            self._value = self._make()
        return self._value
