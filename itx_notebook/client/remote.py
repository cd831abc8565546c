"""The surface of a handle over the wire: the same questions a view in this process answers, asked of another one.

Nothing here holds a stub for long. A view is a place (a project, a path) and the connection; each question goes to
whatever epoch is current when it is asked. What is harmless to ask twice is asked again after a lost connection; an
append is so only with an idempotency key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from itx_notebook._json import decode_json
from itx_notebook.client.connection import Connection, Epoch
from itx_notebook.client.following import Following, replace_following
from itx_notebook.doors.texts import format_events, parse_committed
from itx_notebook.errors import ItxError
from itx_notebook.streams import CoreState, RuntimeState, parse_stream_ref
from itx_notebook.streams.processors import Appendable, Build
from itx_notebook.streams.waiting import Predicate, wait_for_event
from itx_notebook.types import (
    Event,
    ItxDescription,
    Project,
    ProjectList,
    StreamChild,
    StreamEvent,
    StreamEventBatch,
    StreamState,
)

__all__ = ["RemoteItx", "RemoteProjects", "RemoteStream", "RemoteStreams"]

T = TypeVar("T")

_GAP_TIMEOUT: Final = 30.0
"""Seconds a call waits for the connection to come (back), unless its own time-out ends it sooner."""

_GLOBAL: Final = "global"

_PAGE_BYTES: Final = 1024 * 1024
_WINDOW: Final = 500
_WINDOWS_AHEAD: Final = 4
"""How a long stream is read: so many bytes in an answer, and so many events, and so many answers on their way. Of 200
to 1,000 events these were quickest (2026-11, events of 200 bytes): larger answers overflow a Unix socket's buffer."""


class RemoteItx:
    """A view of one context, over a connection.

    Parameters
    ----------
    connection : Connection
        The socket.
    project : Project, optional
        The project it is narrowed to; ``None`` for the whole deployment.
    context : str, optional
        The project's id with ``:/path`` behind it, if it was asked for by a place in the project.

    Attributes
    ----------
    context : str or None
        What its handle is asked for by: the project's id, mostly; ``None`` for the whole deployment.
    """

    def __init__(self, connection: Connection, project: Project | None = None, context: str | None = None) -> None:
        self.connection = connection
        self.context = context if context is not None or project is None else project.id
        self._project = project
        self.projects = RemoteProjects(connection, project)
        self.streams = RemoteStreams(connection, project)

    @property
    def project(self) -> Project | None:
        """The project it is narrowed to."""
        return self._project

    async def describe(self) -> ItxDescription:
        """What it points at, as the other end says; and where that is, as this one does."""
        answer = await _ask(
            self.connection,
            lambda epoch: (epoch.itx if self.context is None else epoch.get_project(self.context)).describe(),
        )
        location = self.connection.location
        # A guest and the owner of a store name the same directory. What another host calls its own is its business.
        engine = "embedded" if answer.get("location") == location else "served"
        facts = {"streamCount": None, "project": None, **answer, "engine": engine, "location": location}
        return _parse(facts, ItxDescription)


def _handle(epoch: Epoch, project: Project | None) -> Any:
    """The stub to ask, in one round trip with the question."""
    return epoch.itx if project is None else epoch.get_project(project.id)


async def _ask(connection: Connection, make: Callable[[Epoch], Awaitable[Any]], *, is_repeatable: bool = True) -> Any:
    return await connection.call(make, is_repeatable=is_repeatable, timeout=_GAP_TIMEOUT)


def _parse(answer: Any, kind: type[T]) -> T:
    """Return an answer as what it should be."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise _make_nonsense(str(error)) from None


def _parse_events(answer: Any) -> list[StreamEvent]:
    """The committed events of an answer: a list of them, or its text."""
    if not isinstance(answer, str):
        return _parse(answer, list[StreamEvent])
    try:
        return parse_committed(answer)
    except msgspec.DecodeError as error:
        raise _make_nonsense(str(error)) from None


def _make_nonsense(what: str) -> ItxError:
    return ItxError(
        f"The other end's answer makes no sense: {what}.",
        code="INTERNAL",
        hint="It may speak an older or newer dialect; compare versions.",
    )


def _parse_project(description: dict[str, Any]) -> Project:
    """The project of a narrowed handle, which not every deployment describes as fully."""
    project = description.get("project")
    project_id = str(description.get("context")).partition(":")[0]
    facts = project if isinstance(project, dict) else {"id": project_id, "slug": project_id}
    return _parse({"createdAt": "", "updatedAt": "", **facts}, Project)


class RemoteProjects:
    """The projects a view may narrow to."""

    def __init__(self, connection: Connection, project: Project | None) -> None:
        self._connection = connection
        self._project = project

    async def get(self, id_or_slug: str) -> RemoteItx:
        """A narrower view; the masked ``NOT_FOUND`` if it is not there or not yours."""
        description = await _ask(
            self._connection, lambda epoch: _handle(epoch, self._project).projects.get(id_or_slug).describe()
        )
        project, context = _parse_project(description), description.get("context")
        is_place = isinstance(context, str) and context.startswith(f"{project.id}:")
        return RemoteItx(self._connection, project, context if is_place else None)

    async def list(self, *, limit: int = 100, offset: int = 0) -> ProjectList:
        """A page of the accessible projects."""
        page = await _ask(
            self._connection,
            lambda epoch: _handle(epoch, self._project).projects.list({"limit": limit, "offset": offset}),
        )
        return _parse(page, ProjectList)

    async def create(self, slug: str, *, project_id: str | None = None) -> Project:
        """Create a project, as far as the other end lets this handle."""
        options = {"slug": slug} if project_id is None else {"slug": slug, "id": project_id}
        project = await _ask(
            self._connection,
            lambda epoch: _handle(epoch, self._project).projects.create(options),
            is_repeatable=False,
        )
        return _parse(project, Project)


class RemoteStreams:
    """The streams of a namespace."""

    def __init__(self, connection: Connection, project: Project | None) -> None:
        self._connection = connection
        self._project = project

    def get(self, ref: object) -> RemoteStream:
        """A stream by reference. No I/O; whether this view reaches it, the first question tells."""
        own = _GLOBAL if self._project is None else self._project.id
        namespace, path = parse_stream_ref(ref, namespace=own)
        return RemoteStream(self._connection, self._project, namespace, path)

    def register_processor(self, build: Build, *, name: str | None = None) -> str:
        """Refused: a processor runs where the engine is."""
        raise _runs_elsewhere(self._connection, name or repr(build))


class RemoteStream:
    """One stream of another process's engine."""

    def __init__(self, connection: Connection, project: Project | None, namespace: str, path: str) -> None:
        self._connection = connection
        self._project = project
        self._namespace = namespace
        self._path = path
        self._stub: tuple[Epoch, Any] | None = None

    @property
    def namespace(self) -> str:
        """The project's id, or ``"global"``."""
        return self._namespace

    @property
    def path(self) -> str:
        """The canonical path."""
        return self._path

    def get_stub(self, epoch: Epoch) -> Any:
        """The stream's stub in an epoch. Kept, so that many questions cost one entry in both ends' tables."""
        if self._stub is None or self._stub[0] is not epoch:
            ref = self._path
            if self._namespace != (_GLOBAL if self._project is None else self._project.id):
                ref = f"{self._namespace}:{self._path}"
            self._stub = (epoch, _handle(epoch, self._project).streams.get(ref))
        return self._stub[1]

    async def append(self, event: Event) -> StreamEvent:
        """Append one event."""
        return (await self._append([event], lambda stub, wire: stub.append(wire[0])))[0]

    async def append_batch(self, events: Sequence[Event]) -> list[StreamEvent]:
        """Append all or none."""
        return await self._append(events, lambda stub, wire: stub.appendBatch(wire))

    async def _append(self, events: Sequence[Event], append: Callable[[Any, Any], Awaitable[Any]]) -> list[StreamEvent]:
        """Append as a text where the other end takes one, else as `append` does."""
        # At once: what the caller does to its payloads later is not meant.
        text = format_events(events)

        def ask(epoch: Epoch) -> Awaitable[Any]:
            stub = self.get_stub(epoch)
            return stub.appendText(text) if epoch.takes_texts else append(stub, decode_json(text))

        is_repeatable = all(event.idempotency_key is not UNSET for event in events)
        answer = await _ask(self._connection, ask, is_repeatable=is_repeatable)
        committed = _parse_events([answer] if isinstance(answer, dict) else answer)
        if len(committed) != len(events):
            raise _make_nonsense(f"{len(committed)} events for {len(events)}")
        return committed

    async def read(
        self,
        *,
        after_offset: int | str = "start",
        before_offset: int | str = "end",
        event_types: Iterable[str] | None = None,
        limit: int | None = None,
        presence: bool = True,
    ) -> list[StreamEvent]:
        """Events between two cursors, both exclusive. Asked for in pages, of which some are always on their way."""
        types = None if event_types is None else list(event_types)
        options = _options(presence=presence, eventTypes=types, limit=limit)
        options |= {"afterOffset": after_offset, "beforeOffset": before_offset, "maxBytes": _PAGE_BYTES, "text": True}
        events, rest = await self._read_page(options)
        if rest is not None and types is None and limit is None:
            # Offsets are dense, so it is known what each of the other pages will hold.
            events += await self._read_ahead(rest["afterOffset"], rest["beforeOffset"], options)
            if events[-1].offset - events[0].offset + 1 != len(events):
                raise ItxError(
                    f"{self._path} was reset while it was read.", code="INTERNAL", hint="Read it again from the start."
                )
            return events
        while rest is not None and (limit is None or len(events) < limit):
            remaining = {} if limit is None else {"limit": limit - len(events)}
            page, rest = await self._read_page(options | rest | remaining)
            events += page
        return events

    async def _read_page(self, options: dict[str, Any]) -> tuple[list[StreamEvent], dict[str, int] | None]:
        """A page, and where to go on. A deployment that knows no pages answers with everything."""
        answer = await self._ask(lambda stub: stub.read(options))
        if isinstance(answer, dict):
            return _parse_events(answer.get("events")), answer.get("rest")
        return _parse_events(answer), None

    async def _read_ahead(self, after: int, before: int, options: dict[str, Any]) -> list[StreamEvent]:
        """Read a known range of offsets, with a few requests under way at any time."""

        async def read_window(start: int) -> list[StreamEvent]:
            window = {"afterOffset": start, "beforeOffset": min(start + _WINDOW + 1, before)}
            events, rest = await self._read_page(options | window)
            while rest is not None:
                page, rest = await self._read_page(options | rest)
                events += page
            return events

        events: list[StreamEvent] = []
        starts = iter(range(after, before - 1, _WINDOW))
        ahead = deque(asyncio.ensure_future(read_window(start)) for start in islice(starts, _WINDOWS_AHEAD))
        try:
            while ahead:
                events += await ahead[0]
                del ahead[0]
                ahead.extend(asyncio.ensure_future(read_window(start)) for start in islice(starts, 1))
        finally:
            # After one that failed, or was cancelled, nobody wants the others.
            for task in ahead:
                task.cancel()
                task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return events

    async def get_event(self, offset: int | None, *, idempotency_key: str | None) -> StreamEvent | None:
        """One event by offset or by key."""
        options = _options(offset=offset, idempotencyKey=idempotency_key)
        answer = await self._ask(lambda stub: stub.getEvent(options))
        return None if answer is None else _parse(answer, StreamEvent)

    async def get_state(self, *, presence: bool = True) -> StreamState:
        """The public state."""
        options = _options(presence=presence)
        answer = await self._ask(lambda stub: stub.getState(options) if options else stub.getState())
        return _parse(answer, StreamState)

    async def get_runtime_state(self) -> RuntimeState:
        """The whole reduced state, and the connections there."""
        return _parse(await self._ask(lambda stub: stub.runtimeState()), RuntimeState)

    async def reduce(self, event: Event, state: CoreState | None) -> CoreState:
        """What the state would be after `event`."""
        options: dict[str, Any] = {"event": _event_to_wire(event)}
        if state is not None:
            options["coreProcessorState"] = msgspec.to_builtins(state)
        return _parse(await self._ask(lambda stub: stub.reduce(options)), CoreState)

    async def list_children(self, *, presence: bool = True) -> list[StreamChild]:
        """Immediate children, in order of arrival."""
        options = _options(presence=presence)
        answer = await self._ask(lambda stub: stub.listChildren(options) if options else stub.listChildren())
        return _parse(answer, list[StreamChild])

    async def subscribe(
        self,
        on_batch: Callable[[StreamEventBatch], Awaitable[object] | None],
        *,
        after_offset: int | str = "start",
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
        key: str | None = None,
    ) -> Following:
        """Deliver batches after a cursor, across lost connections, each event once and in order."""
        options = _options(
            presence=presence,
            eventTypes=None if event_types is None else list(event_types),
            subscriptionKey=key,
            text=True,
        )
        if not events:
            options["events"] = False
        following = Following(self._connection, self.get_stub, on_batch, after_offset=after_offset, options=options)
        if key is not None:
            replace_following(self._connection, (self._namespace, self._path, key), following)
        await following.open()
        return following

    async def wait_for_event(
        self,
        predicate: Predicate | None,
        *,
        event_types: Iterable[str] | None,
        after_offset: int | str,
        timeout: float | None,  # noqa: ASYNC109  # of the clock, and the error tells what was seen
        presence: bool,
    ) -> StreamEvent:
        """The first event that matches, after a cursor. The predicate runs here."""
        replay = None if after_offset == "end" else 0 if after_offset == "start" else int(after_offset)
        return await wait_for_event(
            _Waitable(self),
            predicate,
            event_types=event_types,
            after_offset=replay,
            timeout=timeout,
            presence=presence,
            clock=self._connection.clock,
        )

    async def kill(self) -> None:
        """End the stream's incarnation."""
        await self._ask(lambda stub: stub.kill(), is_repeatable=False)

    async def reset(self) -> None:
        """Erase the stream."""
        await self._ask(lambda stub: stub.reset(), is_repeatable=False)

    async def run_processor(self, build: Build, *, key: str | None, view: Appendable) -> Any:
        """Refused: a processor runs where the engine is."""
        raise _runs_elsewhere(self._connection, repr(build))

    async def enable_processor(self, name: str) -> None:
        """Configure the stream to be processed by whoever knows `name`."""
        await self._ask(lambda stub: stub.enableProcessor(name))

    async def disable_processor(self, name: str) -> None:
        """Take that back."""
        await self._ask(lambda stub: stub.disableProcessor(name))

    async def _ask(self, make: Callable[[Any], Awaitable[Any]], *, is_repeatable: bool = True) -> Any:
        return await _ask(self._connection, lambda epoch: make(self.get_stub(epoch)), is_repeatable=is_repeatable)


class _Waitable:
    """A remote stream as :func:`wait_for_event` knows one. The subscriber's descriptor stays here."""

    def __init__(self, stream: RemoteStream) -> None:
        self._stream = stream

    async def subscribe(
        self,
        sink: Callable[[Any], Awaitable[object] | None],
        *,
        replay_after_offset: int | None = None,
        event_types: Iterable[str] | None = None,
        presence: bool = True,
        subscriber: dict[str, object] | None = None,
    ) -> Following:
        """Deliver batches."""
        after: int | str = "end" if replay_after_offset is None else replay_after_offset
        return await self._stream.subscribe(sink, after_offset=after, event_types=event_types, presence=presence)


def _event_to_wire(event: Event) -> Any:
    """Values of JSON's own kinds, with what JSON lacks (dates, numbers of numpy) written as the engine would."""
    return decode_json(format_events([event]))[0]


def _options(*, presence: bool = True, **members: Any) -> dict[str, Any]:
    """Only what differs from the default: a June deployment does not know our own members."""
    options = {name: value for name, value in members.items() if value is not None}
    if not presence:
        options["presence"] = False
    return options


def _runs_elsewhere(connection: Connection, what: str) -> ItxError:
    return ItxError(
        f"{what} cannot run here: the engine of {connection.location} is in another process.",
        code="BAD_REQUEST",
        hint="Run the processor where the engine is, and name it here: stream.enable_processor(name).",
    )
