"""The actor of one stream: its state in memory, what may be asked of it, and its lives.

All of it runs on one loop, and nothing awaits between reading the head and committing, so no lock is needed. Loading
the state writes nothing; the stream *wakes* (``created``, ``woken``) with the first thing this process commits to it or
with the first look that is not silent.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from itx_notebook.errors import ItxError
from itx_notebook.streams.batch import EventBatch
from itx_notebook.streams.committer import engine_closed
from itx_notebook.streams.connections import Connections
from itx_notebook.streams.core import CoreState, core_type, fold, get_public_state
from itx_notebook.streams.event import DAMAGE, parse_event, read_event
from itx_notebook.streams.group import Draft
from itx_notebook.streams.host import Host
from itx_notebook.streams.log import StreamLog
from itx_notebook.streams.looking import as_committed, get_events, life_over
from itx_notebook.streams.path import resolve_stream_path
from itx_notebook.streams.processors import (
    Appendable,
    Attachment,
    Build,
    ProcessorRuntimeState,
    get_configured_processor,
)
from itx_notebook.streams.runtime import Direction, RuntimeState, StreamRuntime
from itx_notebook.streams.storage import Snapshot, StreamWrite
from itx_notebook.streams.subscription import Reason, Sink, Subscription
from itx_notebook.streams.waiting import Predicate, wait_for_event
from itx_notebook.types import Event, StreamChild, StreamEvent, StreamState

__all__ = ["Stream"]

_log = logging.getLogger("itx_notebook")

_CREATED: Final = core_type("created")


class Stream:
    """One stream, ``(namespace, path)``. Made by :meth:`StreamEngine.stream`; to be used on the engine's loop.

    Attributes
    ----------
    namespace, path : str
        Identity. The path is canonical (leading slash).
    life : int
        Another number after every :meth:`kill` and :meth:`reset`.
    """

    __slots__ = (
        "_connections",
        "_engine",
        "_is_awake",
        "_log",
        "_public",
        "_state",
        "life",
        "namespace",
        "path",
    )

    def __init__(self, engine: Host[Stream], namespace: str, path: str) -> None:
        self.namespace = namespace
        self.path = path
        self.life = 0
        self._engine = engine
        self._log = StreamLog(engine, namespace, path)
        self._state: CoreState | None = None
        self._public: StreamState | None = None
        self._is_awake = False
        self._connections: Connections | None = None

    # -- appending ---------------------------------------------------------------------------------------------------

    def at(self, path: str) -> Stream:
        """The stream at a path relative to this one, in the same namespace: ``child``, ``./child``, ``../x``, ``/x``.

        ``BAD_REQUEST`` if it escapes the root. No I/O.
        """
        resolved = resolve_stream_path(path, self.path)
        return self if resolved == self.path else self._engine.stream(self.namespace, resolved)

    async def append(self, event: Event | dict[str, Any]) -> StreamEvent:
        """Append one event; returns when it is durable. See :meth:`append_batch`."""
        return (await self._engine.commit(self, (parse_event(event),)))[0]

    async def append_batch(self, events: Iterable[Event | dict[str, Any]]) -> list[StreamEvent]:
        """Append all of `events` or none; returns the committed events, aligned with the input, when they are durable.

        A repeated idempotency key answers with the original event. An empty list touches nothing.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: an envelope or core payload is not right; ``INTERNAL``: paused, offset precondition, or
            the stream was killed meanwhile.
        StoreError
            The disk refused. Nothing was stored.
        """
        checked = [parse_event(event) for event in events]
        return await self._engine.commit(self, checked) if checked else []

    async def wake(self) -> None:
        """Let the stream exist and record this incarnation: ``created`` if it is new, ``woken`` once a process."""
        if not self._is_awake:
            await self._engine.commit(self, (), wake=True)

    # -- looking -----------------------------------------------------------------------------------------------------

    def get_state(self) -> StreamState:
        """The public state. Silent: neither wakes nor creates; a stream nobody wrote to has ``event_count`` 0."""
        state = self.load()
        if self._public is None:
            self._public = get_public_state(state, namespace=self.namespace, path=self.path)
        return self._public

    def get_runtime_state(self) -> RuntimeState:
        """The whole reduced state, and the connections of this process. Silent."""
        connections = {} if self._connections is None else self._connections.get_runtime()
        return RuntimeState(core_processor_state=self.load(), runtime=StreamRuntime(connections=connections))

    async def read(
        self, *, after_offset: int = 0, before_offset: int | None = None, limit: int | None = None
    ) -> list[StreamEvent]:
        """Events between two offsets, both exclusive, in order. Silent. Lets the loop breathe between pages."""
        return await self.get_events(after_offset=after_offset, before_offset=before_offset, limit=limit)

    async def get_events(
        self,
        *,
        after_offset: int = 0,
        before_offset: int | None = None,
        limit: int | None = None,
        event_types: Iterable[str] | None = None,
    ) -> list[StreamEvent]:
        """Events between two offsets, both exclusive, in order. Silent. Lets the loop breathe between pages.

        Parameters
        ----------
        limit : int, optional
            How many at the most, of those that are wanted.
        event_types : iterable of str, optional
            The wanted types; ``None`` or ``"*"`` among them is all, an empty one none.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: `limit` is not a positive integer; ``INTERNAL``: the stream was reset meanwhile.
        """
        return await get_events(
            self, after_offset=after_offset, before_offset=before_offset, limit=limit, event_types=event_types
        )

    def get_event(self, offset: int) -> StreamEvent:
        """The event at an offset; ``NOT_FOUND`` if there is none. Silent."""
        is_there = type(offset) is int and 1 <= offset <= self.load().max_offset
        page = self.read_page(after_offset=offset - 1, limit=1) if is_there else []
        if not page:
            raise ItxError(
                f"No stream event found at offset {offset}.",
                code="NOT_FOUND",
                details={"offset": offset},
                hint=f"Offsets of {self.path} run from 1 to {self.load().max_offset}.",
            )
        return page[0]

    async def try_get_event_by_key(self, idempotency_key: str) -> StreamEvent | None:
        """The event under an idempotency key, or ``None``. Silent."""
        self.load()
        await self._engine.between_commits()
        return self._log.try_find(idempotency_key.strip())

    def reduce(self, event: Event | StreamEvent | Mapping[str, Any], state: CoreState | None = None) -> CoreState:
        """What the state would be after `event`; changes and stores nothing, and checks no offset.

        Parameters
        ----------
        event : Event, StreamEvent or mapping
            One that is not committed is taken as if it were, next and now.
        state : CoreState, optional
            The state to begin from; the stream's own if absent.
        """
        before = self.load() if state is None else state
        return fold(before, as_committed(event, before, now_ms=self.now_ms(), stream_path=self.path))

    def get_children(self) -> list[StreamChild]:
        """Immediate children with their own time of creation, in order of arrival. Silent."""
        paths = self.load().child_paths
        created = self._engine.reader.read_first_bodies(self.namespace, paths)
        return [
            StreamChild(path=path, created_at=_try_read_created_at(created[path], path) if path in created else None)
            for path in paths
        ]

    # -- following ---------------------------------------------------------------------------------------------------

    async def subscribe(
        self,
        sink: Sink,
        *,
        key: str | None = None,
        replay_after_offset: int | None = None,
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
        subscriber: dict[str, Any] | None = None,
        direction: Direction = "inbound",
        tells_scans: bool = False,
    ) -> Subscription:
        """Deliver batches to `sink` until it is closed; the first one, with the state, at once.

        Parameters
        ----------
        sink : callable
            Called on the loop; should not block. An exception, or a rejected awaitable, drops the subscription. If it
            has a method ``on_broken(callback)``, that is given a callback for when its transport dies.
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
        subscriber : dict, optional
            Who it is, for the fact and the roster: ``{incarnationId?, description?, processor?}``.
        direction : {"inbound", "outbound"}
            ``"outbound"``: on the stream's own behalf, because it is configured to.
        tells_scans : bool
            Tell with an empty batch of events that the filter skipped.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: `subscriber` is not one, or the key is a configured subscriber's; ``INTERNAL``: the engine
            is closed.
        """
        if self._connections is None:
            self._connections = Connections(self)
        return await self._connections.open(
            sink,
            key=key,
            replay_after_offset=replay_after_offset,
            event_types=event_types,
            events=events,
            presence=presence,
            subscriber=subscriber,
            direction=direction,
            tells_scans=tells_scans,
        )

    async def wait_for_event(
        self,
        predicate: Predicate | None = None,
        *,
        event_types: Iterable[str] | None = None,
        after_offset: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # of the engine's clock, and the error tells what was seen
        presence: bool = True,
    ) -> StreamEvent:
        """The first event of `event_types` for which `predicate` is true.

        Parameters
        ----------
        predicate : callable, optional
            Asked in order, on the loop; may be a coroutine function. What it raises ends the wait.
        event_types : iterable of str, optional
            One of the two must be given.
        after_offset : int, optional
            Exclusive; ``None``: events from now on.
        timeout : float, optional
            Seconds; ``None`` waits without limit.
        presence : bool
            ``False``: a silent observer; otherwise the waiting is itself in the log.

        Raises
        ------
        ItxTimeoutError
            There was none in time; it tells what was seen.
        ItxError
            ``BAD_REQUEST``: an argument is not right; ``INTERNAL``: the subscription was closed before.
        """
        return await wait_for_event(
            self,
            predicate,
            event_types=event_types,
            after_offset=after_offset,
            timeout=timeout,
            presence=presence,
            clock=self._engine.clock,
        )

    # -- processors --------------------------------------------------------------------------------------------------

    async def run_processor(
        self, build: Build, *, key: str | None = None, view: Appendable | None = None
    ) -> Attachment:
        """Run a processor on this stream in this process, from its snapshot on; returns when it is connected.

        Parameters
        ----------
        build : callable
            Makes the processor: a class, or what ``@processor`` made.
        key : str, optional
            The subscription key, under which the snapshot is kept too; ``processor:<slug>`` if absent. One that runs
            under the same key is stopped first.
        view : object with ``append``, optional
            What the hooks are given as their stream; this one if absent.
        """
        return await self._engine.processors.run(self, build, key=key, view=view)

    async def enable_processor(self, name: str, *, key: str | None = None) -> None:
        """Configure the stream to be processed by every process that knows `name`, from now on. Repeating is harmless.

        A process knows the circuit breaker, and what was made known to ``engine.processors.add``.
        """
        own = key or f"processor:{name}"
        known = self.load().subscriptions_by_key.get(own)
        if known is None or get_configured_processor(known) != name:
            target = {"type": "in-process", "processorName": name}
            payload = {"subscriptionKey": own, "subscriber": {"type": "callable", "callable": target}}
            await self.append(Event(type=core_type("subscription-configured"), payload=payload))

    async def disable_processor(self, name: str, *, key: str | None = None) -> None:
        """Take that back. Repeating is harmless."""
        own = key or f"processor:{name}"
        if own in self.load().subscriptions_by_key:
            await self.append(Event(type=core_type("subscription-removed"), payload={"subscriptionKey": own}))

    def get_processor_runtime_state(self, subscription_key: str) -> ProcessorRuntimeState | None:
        """Snapshot and live state of what runs under a key in this process; ``None`` if nothing does."""
        running = self._engine.processors.try_get(self, subscription_key)
        return None if running is None else running.get_runtime_state()

    # -- lives -------------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """End this incarnation: calls under way are refused, subscribers let go without a fact; the log stays.

        The next touch wakes the stream anew.
        """
        await self._engine.end_life(self, life_over("kill requested"), erase=False)

    async def reset(self) -> None:
        """Erase the stream, and end this incarnation: its next life begins at offset 1 with another ``created``.

        Its subscribers are let go with an error; one that comes again must forget the offsets it knew, which the new
        ``created_at`` tells. Returns when the erasure is durable.
        """
        await self._engine.end_life(self, life_over("reset requested"), erase=True)

    def end_incarnation(self, error: ItxError) -> None:
        """Forget everything that is in memory, as if the process had died."""
        self.life += 1
        self._is_awake = False
        self.forget()
        if self._connections is not None:
            self._connections.abandon(error)

    # -- for the committer, the connections and the pumps ------------------------------------------------------------

    @property
    def is_awake(self) -> bool:
        """Whether this incarnation has been recorded."""
        return self._is_awake

    @property
    def stream_id(self) -> int | None:
        """Its number in the store; ``None`` if nothing was ever committed to it."""
        self.load()
        return self._log.stream_id

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected."""
        return self._connections is None or self._connections.is_empty

    def load(self) -> CoreState:
        """The folded state: in memory, else from the checkpoint and the log after it. Writes nothing."""
        if self._state is None:
            self._state = self._log.read_state()
            self._engine.note_loaded(self)
        return self._state

    def read_page(self, *, after_offset: int, limit: int, before_offset: int | None = None) -> list[StreamEvent]:
        """Up to `limit` stored events after an offset, in order; at least one if there is one."""
        return self._log.read_page(after_offset=after_offset, limit=limit, before_offset=before_offset)

    def try_find(self, key: str) -> StreamEvent | None:
        """The stored event under an idempotency key. To be called between commits, not while one is under way."""
        return self._log.try_find(key)

    @property
    def connections(self) -> tuple[Subscription, ...]:
        """The open connections of this process, silent ones too, in the order they were opened."""
        return () if self._connections is None else self._connections.get_all()

    def try_get_connection(self, key: str) -> Subscription | None:
        """The open connection under a key."""
        return None if self._connections is None else self._connections.try_get(key)

    def try_read_snapshot(self, processor: str) -> bytes | None:
        """How far a processor has come with this stream; ``None`` if it never stored that."""
        stream_id = self.stream_id
        return None if stream_id is None else self._engine.reader.try_read_snapshot(stream_id, processor)

    async def write_snapshot(self, processor: str, body: bytes, *, life: int) -> None:
        """Store that. Refused if the stream's life is not `life` any more: it is about events that may be gone."""
        stream_id = self.stream_id
        if stream_id is None or life != self.life:
            raise life_over("killed or reset")
        await self._engine.save_snapshot(self, Snapshot(stream_id, processor, body))

    async def end_connection(self, subscription: Subscription, reason: Reason) -> None:
        """Close a connection of the stream's own, with its fact."""
        if self._connections is not None:
            await self._connections.disconnect(subscription, reason)

    def check_open(self) -> None:
        """Raise if the engine is closed."""
        if self._engine.is_closed:
            raise engine_closed()

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds."""
        return self._engine.clock.now_ms()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run background work that the engine's end waits for."""
        self._engine.start(work)

    async def commit_fact(self, event: Event) -> None:
        """Append a fact of the stream's own."""
        await self._engine.commit(self, (event,))

    def get_boot_events(self, state: CoreState) -> list[Event]:
        """What waking commits to a stream in `state`."""
        identity = {"namespace": self.namespace, "path": self.path}
        woken = Event(type=core_type("woken"), payload={"incarnationId": str(uuid.uuid4())})
        return [woken] if state.event_count else [Event(type=_CREATED, payload=identity), woken]

    def get_write(self, draft: Draft[Any]) -> StreamWrite:
        """The storage's part of a draft."""
        return self._log.get_write(draft)

    def adopt(self, draft: Draft[Self], stream_id: int) -> None:
        """The commit succeeded: swap the state."""
        self._log.note_commit(draft, stream_id)
        is_loaded = self._state is not None
        self._state = draft.state
        self._public = None
        if not is_loaded:
            self._engine.note_loaded(self)
        self._is_awake = self._is_awake or draft.wakes

    def notify(self, committed: Sequence[StreamEvent]) -> None:
        """Tell every connection of what was just committed."""
        if self._connections is not None:
            self._connections.notify(committed)

    def get_batch(self, events: Sequence[StreamEvent], *, scanned_through: int) -> EventBatch:
        """A batch of `events` with the state of this very moment."""
        return EventBatch(self.namespace, self.path, events, self.load(), scanned_through=scanned_through)

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
        if self._connections is not None:
            self._connections.abandon(None)

    def evict(self) -> None:
        """Let go of the state alone, which is read again when it is asked for; nobody else notices."""
        self._state = None
        self._public = None

    def forget(self) -> None:
        """Let go of what is in memory: from now on only the store, if it is open, can answer."""
        self._state = None
        self._public = None
        self._log.forget()


def _try_read_created_at(body: bytes, path: str) -> str | None:
    """``None`` for a damaged child, which must not hide its siblings."""
    try:
        return read_event(body, path).created_at
    except DAMAGE:
        _log.warning("the first event of %s is damaged", path)
        return None
