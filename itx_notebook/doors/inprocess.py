"""The in-process door: a principal in, a narrowed view out, no socket and no serialisation.

The views (:class:`ServerItx` and what hangs from it) are the surface that handles talk to; the WebSocket door exports
the same ones. They run on the engine's loop.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, SupportsIndex

from msgspec import UNSET
from msgspec.structs import replace

from itx_notebook.doors.access import (
    Context,
    ProjectAccess,
    access_for_principal,
    may_access,
    resolve_accessible_context,
)
from itx_notebook.doors.directory import GLOBAL_NAMESPACE, Directory
from itx_notebook.doors.people import People
from itx_notebook.doors.policy import AppendPolicy, check_may_erase
from itx_notebook.errors import ItxError, project_not_found
from itx_notebook.streams import (
    CoreState,
    EventBatch,
    RuntimeState,
    Sink,
    Stream,
    StreamEngine,
    Subscription,
    parse_stream_ref,
    parse_sub_path,
)
from itx_notebook.streams.path import ROOT
from itx_notebook.streams.processors import Appendable, Attachment, Build
from itx_notebook.streams.waiting import Predicate
from itx_notebook.types import (
    Event,
    ItxDescription,
    Principal,
    Project,
    ProjectList,
    StreamChild,
    StreamEvent,
    StreamEventBatch,
    StreamState,
)

__all__ = [
    "Deployment",
    "ServerItx",
    "ServerProjects",
    "ServerStream",
    "ServerStreams",
    "get_global_itx",
    "get_server_itx",
]


Cursor = Literal["start", "end"] | int
"""An offset (exclusive), or one of the ends of a stream."""

OnBatch = Callable[[StreamEventBatch], Awaitable[object] | None]
"""Takes a batch; what it returns, if awaitable, is awaited before the next one."""

_OWN_STREAM: Final = AppendPolicy()


class Deployment:
    """An engine with its projects and people: what a door opens into.

    Attributes
    ----------
    location : str
        Where handles say it is: the data directory, or, once it is served, its address, since the directory is nobody
        else's business.
    """

    def __init__(self, engine: StreamEngine, directory: Directory, people: People) -> None:
        self.location = str(engine.directory)
        self.is_served = False
        self.engine = engine
        self.directory = directory
        self.people = people

    @classmethod
    async def open(cls, home: Path) -> Deployment:
        """Open the store in `home` and fold its directory. Raises ``StoreError``."""
        engine = StreamEngine.open(home)
        try:
            return cls(engine, await Directory.open(engine), await People.open(engine))
        except BaseException:
            await engine.close()
            raise

    def become_served(self, location: str) -> None:
        """From now on it is at an address."""
        self.location, self.is_served = location, True

    async def close(self) -> None:
        """Close the engine. Repeating is harmless."""
        await self.engine.close()


def get_server_itx(deployment: Deployment, project_id_or_slug: str, principal: Principal | None) -> ServerItx:
    """The view narrowed to one project, or the masked ``NOT_FOUND``: missing, foreign and nobody are one answer."""
    access = access_for_principal(principal)
    return _narrow(deployment, access, project_id_or_slug)


def get_global_itx(deployment: Deployment, principal: Principal) -> ServerItx:
    """The view of the whole deployment, as far as `principal` may see it."""
    return ServerItx(deployment, context=None, access=access_for_principal(principal))


def _narrow(deployment: Deployment, access: ProjectAccess, target: str) -> ServerItx:
    context = resolve_accessible_context(deployment.directory, access, target)
    if context is None:
        raise project_not_found(target)
    return ServerItx(deployment, context=context, access=(context.project.id,))


class ServerItx:
    """A view of one context: a project, or the whole deployment."""

    def __init__(self, deployment: Deployment, *, context: Context | None, access: ProjectAccess) -> None:
        self.projects = ServerProjects(deployment, access)
        self.streams = ServerStreams(
            deployment.engine,
            namespace=None if context is None else context.project.id,
            access=access,
            base=ROOT if context is None else context.path,
        )
        self._deployment = deployment
        self._context = context
        self._access = access

    @property
    def project(self) -> Project | None:
        """The project it is narrowed to; ``None`` for the whole deployment."""
        return None if self._context is None else self._context.project

    @property
    def people(self) -> People:
        """The users and tokens of the deployment; ``FORBIDDEN`` unless the view holds all of it."""
        if self._context is not None or self._access != "all":
            raise ItxError(
                "This itx handle may not look after users and tokens.",
                code="FORBIDDEN",
                hint="That takes a handle on the whole deployment, and an admin.",
            )
        return self._deployment.people

    async def describe(self) -> ItxDescription:
        """What this view points at."""
        engine, project = self._deployment.engine, self.project
        return ItxDescription(
            context=GLOBAL_NAMESPACE if self._context is None else self._context.name,
            access=self._access,
            project=project,
            engine="served" if self._deployment.is_served else "embedded",
            location=self._deployment.location,
            stream_count=None if project is None else engine.count_streams(project.id),
        )


class ServerProjects:
    """The projects a view may narrow to."""

    def __init__(self, deployment: Deployment, access: ProjectAccess) -> None:
        self._deployment = deployment
        self._access = access

    async def get(self, id_or_slug: str) -> ServerItx:
        """A new, narrower view; the masked ``NOT_FOUND`` if it is not there or not yours."""
        return _narrow(self._deployment, self._access, id_or_slug)

    async def list(self, *, limit: int = 100, offset: int = 0) -> ProjectList:
        """A page of the accessible projects, in order of creation."""
        visible = self.get_all()
        return ProjectList(projects=visible[offset : offset + limit], total=len(visible))

    @property
    def holds_all(self) -> bool:
        """Whether the view holds the whole deployment rather than named projects."""
        return self._access == "all"

    def get_all(self) -> tuple[Project, ...]:
        """The accessible projects, in order of creation."""
        projects = self._deployment.directory.get_all()
        return tuple(project for project in projects if may_access(self._access, project.id))

    def get_slugs(self, project_ids: Iterable[str]) -> tuple[str, ...]:
        """The slugs of accessible projects; of others their ids."""
        slugs = {project.id: project.slug for project in self.get_all()}
        return tuple(slugs.get(project_id, project_id) for project_id in project_ids)

    async def create(self, slug: str, *, project_id: str | None = None) -> Project:
        """Create a project; ``FORBIDDEN`` on a view that is limited to named projects."""
        if self._access != "all":
            raise ItxError(
                "This itx handle may not create projects.",
                code="FORBIDDEN",
                hint="A narrowed handle cannot widen. Whoever owns the store may: itx_notebook.create_project(slug).",
            )
        return await self._deployment.directory.create(slug, project_id=project_id)


class ServerStreams:
    """The streams of a view's namespace."""

    def __init__(self, engine: StreamEngine, *, namespace: str | None, access: ProjectAccess, base: str = ROOT) -> None:
        self._engine = engine
        self._access = access
        self._base = base
        self._own = GLOBAL_NAMESPACE if namespace is None else namespace
        self._is_pinned = namespace is not None

    def get(self, ref: object, *, policy: AppendPolicy = _OWN_STREAM) -> ServerStream:
        """A stream by ``"/path"``, ``"namespace:/path"`` or ``{namespace?, path}``. No I/O, no existence check."""
        if not self._is_pinned and self._access != "all":
            raise ItxError(
                "Global streams need admin access. Narrow to a project first: itx.projects.get(idOrSlug).",
                code="FORBIDDEN",
            )
        namespace, path = parse_stream_ref(ref, namespace=self._own)
        if namespace != self._own and self._is_pinned:
            raise _no_namespace(namespace)
        return ServerStream(self._engine.stream(namespace, path), policy)

    def namespace(self, namespace: str) -> ServerStreams:
        """The streams of one namespace; ``NOT_FOUND`` if this view does not reach it, whether it is there or not."""
        reaches = namespace == self._own if self._is_pinned else may_access(self._access, namespace)
        if not reaches:
            raise _no_namespace(namespace)
        return ServerStreams(self._engine, namespace=namespace, access=(namespace,))

    async def create(self, stream_path: str | None = None) -> StreamState:
        """Let a stream exist, and give its state; of an existing one the state alone.

        The path is taken from the view's own place; without one, it is that place: the root, mostly.
        """
        return await self.get(parse_sub_path(stream_path, self._base)).get_state()

    def register_processor(self, build: Build, *, name: str | None = None) -> str:
        """Make a processor known in this process; returns the name to configure streams with."""
        return self._engine.processors.register(build, name=name)


def _no_namespace(namespace: str) -> ItxError:
    return ItxError(
        f"No stream namespace {json.dumps(namespace)} for this handle.",
        code="NOT_FOUND",
        details={"namespace": namespace},
    )


class ServerStream:
    """One stream, as a view shows it: cursors, wake on touch, ``metadata`` always present on what it appends."""

    def __init__(self, stream: Stream, policy: AppendPolicy = _OWN_STREAM) -> None:
        self._stream = stream
        self._policy = policy

    @property
    def namespace(self) -> str:
        """The project's id, or ``"global"``."""
        return self._stream.namespace

    @property
    def path(self) -> str:
        """The canonical path."""
        return self._stream.path

    async def append(self, event: Event, *, stream_path: str | None = None) -> StreamEvent:
        """Append one event; to another stream if the view's policy lets it."""
        return await self._resolve(stream_path).append(_with_metadata(event))

    async def append_batch(self, events: Sequence[Event], *, stream_path: str | None = None) -> list[StreamEvent]:
        """Append all or none."""
        return await self._resolve(stream_path).append_batch([_with_metadata(event) for event in events])

    def _resolve(self, stream_path: str | None) -> Stream:
        path = parse_sub_path(stream_path, self.path)
        self._policy.check(path, base=self.path)
        return self._stream if path == self.path else self._stream.at(path)

    async def read(
        self,
        *,
        after_offset: Cursor = "start",
        before_offset: Cursor = "end",
        event_types: Iterable[str] | None = None,
        limit: int | None = None,
        presence: bool = True,
    ) -> list[StreamEvent]:
        """Events between two cursors, both exclusive; with ``presence=False`` a silent look."""
        after = _parse_cursor(after_offset, "after_offset")
        before = _parse_cursor(before_offset, "before_offset")
        types = _parse_types(event_types)
        if presence:
            await self._stream.wake()
        if after == "end" or before == "start":
            return []
        return await self._stream.get_events(
            after_offset=0 if after == "start" else after,
            before_offset=None if before == "end" else before,
            event_types=types,
            limit=limit,
        )

    async def get_event(self, offset: int | None, *, idempotency_key: str | None) -> StreamEvent | None:
        """One event by offset (``NOT_FOUND`` if there is none) or by key (``None``). Silent."""
        if (offset is None) == (idempotency_key is None):
            raise ItxError(
                "get_event() takes an offset or an idempotency_key.",
                code="BAD_REQUEST",
                hint='Write get_event(3) or get_event(idempotency_key="order-1").',
            )
        if idempotency_key is not None:
            return await self._stream.try_get_event_by_key(idempotency_key)
        # An index, not only an int: offsets out of a frame are numpy's.
        return self._stream.get_event(operator.index(offset) if isinstance(offset, SupportsIndex) else -1)

    async def get_state(self, *, presence: bool = True) -> StreamState:
        """The public state; with ``presence=False`` a silent look that neither creates nor wakes the stream."""
        if presence:
            await self._stream.wake()
        return self._stream.get_state()

    async def get_runtime_state(self) -> RuntimeState:
        """The whole reduced state, and the connections of this process. Silent."""
        return self._stream.get_runtime_state()

    async def reduce(self, event: Event, state: CoreState | None) -> CoreState:
        """What the state would be after `event`. Silent."""
        return self._stream.reduce(event, state)

    async def list_children(self, *, presence: bool = True) -> list[StreamChild]:
        """Immediate children, in order of arrival; with ``presence=False`` a silent look."""
        if presence:
            await self._stream.wake()
        return self._stream.get_children()

    async def subscribe(
        self,
        on_batch: OnBatch,
        *,
        after_offset: Cursor = "start",
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
        key: str | None = None,
    ) -> Subscription:
        """Deliver batches after a cursor; ``"end"`` is live only."""
        return await self.subscribe_sink(
            _PublicSink(on_batch),
            after_offset=after_offset,
            event_types=event_types,
            events=events,
            presence=presence,
            key=key,
        )

    async def subscribe_sink(
        self,
        sink: Sink,
        *,
        after_offset: Cursor = "start",
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
        key: str | None = None,
    ) -> Subscription:
        """The same for a door, which is given the engine's batches: what it makes of one is shared."""
        return await self._stream.subscribe(
            sink,
            key=key,
            replay_after_offset=_parse_replay(after_offset),
            event_types=_parse_types(event_types),
            events=events,
            presence=presence,
        )

    async def wait_for_event(
        self,
        predicate: Predicate | None,
        *,
        event_types: Iterable[str] | None,
        after_offset: Cursor,
        timeout: float | None,  # noqa: ASYNC109  # of the engine's clock, and the error tells what was seen
        presence: bool,
    ) -> StreamEvent:
        """The first event that matches, after a cursor."""
        return await self._stream.wait_for_event(
            predicate,
            event_types=_parse_types(event_types),
            after_offset=_parse_replay(after_offset),
            timeout=timeout,
            presence=presence,
        )

    async def kill(self) -> None:
        """End the stream's incarnation."""
        await self._stream.kill()

    async def reset(self) -> None:
        """Erase the stream; ``FORBIDDEN`` for those that the deployment itself is read from."""
        check_may_erase(self.namespace, self.path)
        await self._stream.reset()

    async def run_processor(self, build: Build, *, key: str | None, view: Appendable) -> Attachment:
        """Run a processor in this process, from its snapshot on, until it is stopped."""
        return await self._stream.run_processor(build, key=key, view=view)

    async def enable_processor(self, name: str) -> None:
        """Configure the stream to be processed by whoever knows `name`. Nothing is appended if it is so already."""
        await self._stream.enable_processor(name)

    async def disable_processor(self, name: str) -> None:
        """Take that back. Nothing is appended if it is not so."""
        await self._stream.disable_processor(name)


class _PublicSink:
    """Gives a batch on as handles see it, and the news of a broken transport back."""

    __slots__ = ("_on_batch",)

    def __init__(self, on_batch: OnBatch) -> None:
        self._on_batch = on_batch

    def __call__(self, batch: EventBatch) -> Awaitable[object] | None:
        return self._on_batch(batch.public)

    def on_broken(self, callback: Callable[..., object]) -> None:
        """Pass the callback on to whoever can tell."""
        watch = getattr(self._on_batch, "on_broken", None)
        if callable(watch):
            watch(callback)


def _with_metadata(event: Event) -> Event:
    return replace(event, metadata={}) if event.metadata is UNSET else event


def _parse_replay(value: Cursor) -> int | None:
    cursor = _parse_cursor(value, "after_offset")
    # "end" is the absence of a replay offset; any large number would filter live events for ever.
    return None if cursor == "end" else 0 if cursor == "start" else cursor


def _parse_types(value: Iterable[str] | None) -> list[str] | None:
    types = None if value is None else [value] if isinstance(value, str) else list(value)
    if types is not None and not all(isinstance(name, str) for name in types):
        raise ItxError(f"event_types {value!r} is not a list of types.", code="BAD_REQUEST")
    return types


def _parse_cursor(value: object, name: str) -> Cursor:
    if value == "start" or value == "end":
        return value
    # An index, not only an int: offsets out of a frame are numpy's.
    if isinstance(value, SupportsIndex) and not isinstance(value, bool) and (offset := operator.index(value)) >= 0:
        return offset
    raise ItxError(
        f'{name} {value!r} is not "start", "end" or an offset of 0 or more.',
        code="BAD_REQUEST",
        hint="Offsets count from 1, and cursors are exclusive: after_offset=10 begins with event 11.",
    )
