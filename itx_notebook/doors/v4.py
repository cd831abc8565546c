"""The v4 dialect: the socket opens for anybody, and ``authenticate`` gives the session.

What the published command-line tool and later web clients speak. The names and shapes are theirs; the masking of what
is not there or not yours is June's, which v4 gave up and this product keeps. Claims are looked up again at each
``projects.get``, so that a project granted meanwhile is found without a new connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from itx_notebook import capnweb as rpc
from itx_notebook.doors.credentials import Credentials, Grant
from itx_notebook.doors.directory import GLOBAL_NAMESPACE
from itx_notebook.doors.engine_rpc import (
    SUBSCRIBE,
    event_to_wire,
    events_to_wire,
    get_wire_event,
    open_subscription,
    parse_offset,
    wait_for_wire_event,
)
from itx_notebook.doors.inprocess import Deployment, get_global_itx, get_server_itx
from itx_notebook.doors.sessions import Admission, AuthError
from itx_notebook.doors.targets import WireSubscription, parse_options, to_wire
from itx_notebook.errors import ItxError
from itx_notebook.streams import CoreState, EventBatch, Stream, parse_stream_path
from itx_notebook.streams.event import read_event
from itx_notebook.types import Principal, Project, StreamEvent

__all__ = ["RootTarget", "SessionTarget"]

_PAGE_MAX: Final = 500
_MAX_FAILURES: Final = 5
"""Wrong credentials after which a session ends."""

_ORGANIZATION: Final = {"organizationId": "org_local", "organizationName": "Local", "organizationSlug": "local"}
"""There are none here, and v4 clients expect every project to be in one."""


class RootTarget(rpc.RpcTarget, naming="camel"):
    """What everybody gets who connects."""

    def __init__(
        self,
        deployment: Deployment,
        credentials: Credentials | None,
        request: rpc.HandshakeRequest,
        admission: Admission,
    ) -> None:
        self._deployment = deployment
        self._credentials = credentials
        self._request = request
        self._admission = admission
        self._failures = 0

    async def authenticate(self, credentials: Any = None) -> SessionTarget:
        """Return the session of whoever has these credentials; rejects with ``missing or invalid auth``."""
        grant = None
        if self._credentials is not None:
            grant = await self._credentials.authenticate(credentials, self._request)
        if grant is None or not grant.still_holds(self._deployment.people, self._deployment.engine.clock.now_ms()):
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                self._admission.end()
            raise AuthError
        self._admission.set_grant(grant)
        return SessionTarget(self._deployment, grant, self._admission)

    def _rpc_dispose(self) -> None:
        # The main object goes with its session, or its batch.
        self._admission.cancel_waits()


class SessionTarget(rpc.RpcTarget, naming="camel"):
    """What an authenticated caller may reach."""

    def __init__(self, deployment: Deployment, grant: Grant, admission: Admission) -> None:
        self._deployment = deployment
        self._grant = grant
        self._admission = admission

    @rpc.name("__describe")
    def describe(self) -> Any:
        """Say who is calling; also the probe by which a client finds out whether the session lives."""
        return {
            "instructions": "Narrow to a project: projects.get(idOrSlug).",
            "children": ["projects", *(["streams"] if self._get_view().projects.holds_all else [])],
            "principal": to_wire(self._get_principal()),
        }

    @property
    def projects(self) -> SessionProjectsTarget:
        """The projects the caller may narrow to."""
        return SessionProjectsTarget(self._deployment, self._get_principal, self._admission)

    @property
    def streams(self) -> NamespaceTarget:
        """The deployment's own streams: admins only."""
        if not self._get_view().projects.holds_all:
            raise ItxError(
                "Global streams need admin access. Narrow to a project first: itx.projects.get(idOrSlug).",
                code="FORBIDDEN",
            )
        return NamespaceTarget(self._deployment, GLOBAL_NAMESPACE, self._admission)

    def _get_view(self) -> Any:
        return get_global_itx(self._deployment, self._get_principal())

    def _get_principal(self) -> Principal:
        """What the caller may at this moment, which may be more than at the beginning."""
        people, grant = self._deployment.people, self._grant
        if grant.token_id is not None:
            current = people.try_get_token_principal(grant.token_id)
        elif grant.user_id is not None:
            current = people.try_get_principal(grant.user_id)
        else:
            return grant.principal
        if current is None:
            # The session is being ended; until it is, it is nobody's.
            raise AuthError
        return current


class SessionProjectsTarget(rpc.RpcTarget, naming="camel"):
    """The projects of a session."""

    def __init__(self, deployment: Deployment, get_principal: Callable[[], Principal], admission: Admission) -> None:
        self._deployment = deployment
        self._get_principal = get_principal
        self._admission = admission

    def get(self, id_or_slug: Any) -> ProjectTarget:
        """Narrow to a project; the masked ``NOT_FOUND`` if it is not there or not yours."""
        view = get_server_itx(self._deployment, str(id_or_slug), self._get_principal())
        assert view.project is not None  # noqa: S101  # what was narrowed has one
        return ProjectTarget(self._deployment, view.project, self._admission)

    async def create(self, options: Any) -> ProjectTarget:
        """Create a project, and narrow to it."""
        allowed = {
            "slug": (str,),
            "organizationSlug": (str,),
            "projectId": (str,),
            "waitUntilCreated": (bool,),
        }
        given = parse_options(options, allowed, "projects.create")
        if "slug" not in given:
            raise ItxError("projects.create needs a slug.", code="BAD_REQUEST")
        projects = get_global_itx(self._deployment, self._get_principal()).projects
        made = await projects.create(given["slug"], project_id=given.get("projectId"))
        return ProjectTarget(self._deployment, made, self._admission)

    async def list(self, options: Any = None) -> Any:
        """Return the projects: the caller's own, or with ``{scope: "deployment"}``, for admins, all there are."""
        scope = parse_options(options, {"scope": (str,)}, "projects.list").get("scope", "mine")
        projects = get_global_itx(self._deployment, self._get_principal()).projects
        if scope not in ("mine", "deployment"):
            raise ItxError(f'projects.list: scope {scope!r} is neither "mine" nor "deployment".', code="BAD_REQUEST")
        if scope == "deployment" and not projects.holds_all:
            raise ItxError("Only admins list the projects of the whole deployment.", code="FORBIDDEN")
        return [
            {"id": project.id, "slug": project.slug, "deploymentStatus": "ready", **_ORGANIZATION}
            for project in projects.get_all()
        ]


class ProjectTarget(rpc.RpcTarget, naming="camel"):
    """One project."""

    def __init__(self, deployment: Deployment, project: Project, admission: Admission) -> None:
        self._deployment = deployment
        self._project = project
        self._admission = admission

    @rpc.name("__describe")
    def describe(self) -> Any:
        """Say which project it is."""
        return {
            "instructions": "Read and append events: streams.get(path).",
            "types": "",
            "children": ["streams"],
            "parent": None,
            "capabilities": [],
            "name": self._project.slug,
            "projectId": self._project.id,
        }

    @property
    def streams(self) -> NamespaceTarget:
        """Its streams."""
        return NamespaceTarget(self._deployment, self._project.id, self._admission)

    @property
    def agents(self) -> Any:
        """Refused: nothing here runs agents. Their streams are streams like others."""
        raise _not_offered("agents")

    @property
    def capability_host(self) -> Any:
        """Refused: nobody's code is run for who calls."""
        raise _not_offered("capabilityHost")

    @property
    def processor(self) -> Any:
        """Refused: a project has no processor of its own here."""
        raise _not_offered("processor")

    @property
    def live_state(self) -> Any:
        """Refused: states come with the batches of a subscription."""
        raise _not_offered("liveState")


class NamespaceTarget(rpc.RpcTarget, naming="camel"):
    """The streams of a project, or the deployment's own."""

    def __init__(self, deployment: Deployment, namespace: str, admission: Admission) -> None:
        self._deployment = deployment
        self._namespace = namespace
        self._admission = admission

    def get(self, path: Any) -> V4StreamTarget:
        """Return a stream by path; no I/O."""
        return V4StreamTarget(self._deployment.engine.stream(self._namespace, parse_stream_path(path)), self._admission)

    async def list(self) -> Any:
        """Return every stream there is, with when it began."""
        reader = self._deployment.engine.reader
        paths = [name.path for name in reader.read_names(self._namespace)]
        bodies = reader.read_first_bodies(self._namespace, paths)
        return [
            {"createdAt": read_event(bodies[path], path).created_at, "path": path} for path in paths if path in bodies
        ]


class V4StreamTarget(rpc.RpcTarget, naming="camel"):
    """One stream."""

    def __init__(self, stream: Stream, admission: Admission) -> None:
        self._stream = stream
        self._admission = admission

    @rpc.name("__describe")
    def describe(self) -> Any:
        """Say which stream it is."""
        return {
            "instructions": "append(...events), getEvents(options), subscribe({ processEventBatch }).",
            "types": "",
            "children": [],
            "projectId": _to_project_id(self._stream.namespace),
            "path": self._stream.path,
        }

    def at(self, path: Any) -> V4StreamTarget:
        """Return the stream at a path from this one: ``child``, ``../x``, ``/x``."""
        resolved = self._stream.at(str(path)).path
        engine_stream = self._stream.at(parse_stream_path(resolved))
        return V4StreamTarget(engine_stream, self._admission)

    async def append(self, *events: Any) -> Any:
        """Append all or none; returns them as committed, in the same order."""
        for event in events:
            payload = event.get("payload") if isinstance(event, dict) else None
            if payload is not None and not isinstance(payload, dict):
                raise ItxError(f"Event payload {payload!r} is no object.", code="BAD_REQUEST")
        return self._events(await self._stream.append_batch(events))

    async def get_event(self, options: Any) -> Any:
        """Return one event by ``offset`` or ``idempotencyKey``; ``undefined`` if there is none."""
        await self._stream.wake()
        try:
            found = await get_wire_event(self._stream, options)
        except ItxError as error:
            if error.code != "NOT_FOUND":
                raise
            return rpc.UNDEFINED
        return found if found is rpc.UNDEFINED else {**found, "path": self._stream.path}

    async def get_events(self, options: Any = None) -> Any:
        """Return a page of events after an offset."""
        query = _Query(options)
        await self._stream.wake()
        return self._events(await query.read(self._stream))

    def read_events(self, options: Any = None) -> PagerTarget:
        """Return a pager over the events after an offset."""
        return PagerTarget(self._stream, _Query(options), self._events)

    async def wait_for_event(self, options: Any) -> Any:
        """Return the first event that matches, from now on or after an offset."""
        return await wait_for_wire_event(self._stream, options, self._admission, self._say)

    async def runtime_state(self) -> Any:
        """Return the reduced state, and the open connections."""
        await self._stream.wake()
        state = self._stream.get_runtime_state()
        connections = {
            key: _rename_direction(to_wire(connection)) for key, connection in state.runtime.connections.items()
        }
        return {
            "coreProcessorState": state_to_v4(state.core_processor_state, self._stream.namespace),
            "runtime": {"connections": connections},
        }

    async def subscribe(self, options: Any) -> V4SubscriptionTarget:
        """Deliver batches with the reduced state."""
        given = parse_options(options, {**SUBSCRIBE, "configured": (bool,)}, "subscribe")
        if given.pop("configured", False):
            raise ItxError("configured subscriptions require trusted internal auth", code="FORBIDDEN")
        return V4SubscriptionTarget(await open_subscription(self._stream, given, _batch_to_wire), self._stream)

    def _say(self, event: StreamEvent) -> dict[str, Any]:
        return {**event_to_wire(event), "path": self._stream.path}

    def _events(self, events: Iterable[StreamEvent]) -> list[dict[str, Any]]:
        return [self._say(event) for event in events]


class _Query:
    """What ``getEvents`` and ``readEvents`` were asked for."""

    def __init__(self, options: Any) -> None:
        allowed = {
            "afterOffset": (int, float),
            "beforeOffset": (int, float),
            "eventTypes": (list,),
            "limit": (int, float),
        }
        given = parse_options(options, allowed, "getEvents")
        self.after_offset: Any = parse_offset(given, "afterOffset", 0)
        self.before_offset: Any = parse_offset(given, "beforeOffset", None)
        self.event_types = given.get("eventTypes")
        self.limit: Any = parse_offset(given, "limit", _PAGE_MAX)
        if isinstance(self.limit, (int, float)) and self.limit > _PAGE_MAX:
            raise ItxError(f"getEvents limit must be at most {_PAGE_MAX}.", code="BAD_REQUEST")

    async def read(self, stream: Stream) -> list[StreamEvent]:
        return await stream.get_events(
            after_offset=self.after_offset,
            before_offset=self.before_offset,
            event_types=self.event_types,
            limit=self.limit,
        )


class PagerTarget(rpc.RpcTarget, naming="camel"):
    """Reads on where the last page ended."""

    def __init__(self, stream: Stream, query: _Query, to_page: Callable[[Any], Any]) -> None:
        self._stream = stream
        self._query = query
        self._to_page = to_page

    async def next(self) -> Any:
        """Return the next events; none once it has caught up, until there are more."""
        await self._stream.wake()
        page = await self._query.read(self._stream)
        if page:
            self._query.after_offset = page[-1].offset
        return self._to_page(page)


class V4SubscriptionTarget(rpc.RpcTarget, naming="camel"):
    """An open subscription; letting go of it ends it."""

    def __init__(self, subscription: WireSubscription, stream: Stream) -> None:
        self._subscription = subscription
        self._stream = stream

    @property
    def subscription_key(self) -> str:
        """The key it is under."""
        return self._subscription.key

    @property
    def stream_max_offset(self) -> int:
        """The highest offset when it was opened."""
        return self._subscription.stream_max_offset

    def ping(self) -> bool:
        """Tell whether this very subscription is still served; rejects if the stream's incarnation is gone."""
        if self._subscription.error is not None:
            raise self._subscription.error
        return self._subscription.is_open

    async def unsubscribe(self) -> Any:
        """End it. Repeating is harmless."""
        return await self._subscription.unsubscribe()

    def _rpc_dispose(self) -> None:
        if self._subscription.is_open:
            self._stream.start(self._subscription.unsubscribe())


def state_to_v4(state: CoreState, namespace: str) -> dict[str, Any]:
    """The reduced state under v4's names: a project instead of a namespace, and its words for who subscribes."""
    wire: dict[str, Any] = msgspec.to_builtins(state)
    for gone in ("namespace", "config"):
        wire.pop(gone)
    configured = wire.pop("subscriptionsByKey")
    connections = wire.pop("connectionsByKey")
    if not state.event_count:
        for unknown in ("path", "createdAt", "incarnationId"):
            wire.pop(unknown)
    return {
        "projectId": _to_project_id(namespace),
        **wire,
        "configuredSubscribersByKey": configured,
        "rulesById": {},
        "connectionsByKey": {key: _rename_direction(entry) for key, entry in connections.items()},
    }


def _rename_direction(entry: dict[str, Any]) -> dict[str, Any]:
    direction = entry.pop("direction", "inbound")
    return {"subscriptionType": "configured" if direction == "outbound" else "ephemeral", **entry}


def _not_offered(name: str) -> ItxError:
    return ItxError(
        f'No capability named "{name}": this deployment keeps streams, and runs neither agents nor scripts.',
        code="NOT_FOUND",
        details={"capability": name},
    )


def _to_project_id(namespace: str) -> str | None:
    return None if namespace == GLOBAL_NAMESPACE else namespace


def _batch_to_wire(batch: EventBatch) -> rpc.Prepared:
    return rpc.prepare(
        {
            "projectId": _to_project_id(batch.namespace),
            "path": batch.path,
            "events": [{**event, "path": batch.path} for event in events_to_wire(batch.events)],
            "streamMaxOffset": batch.stream_max_offset,
            "state": state_to_v4(batch.state, batch.namespace),
        }
    )
