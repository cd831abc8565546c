"""The views as a peer reaches them: the June-2026 dialect of the wire, over the same objects the in-process door gives.

Thin by intent. What a peer may do was decided when the view was made; here its arguments are read and its answers
written, in the originals' camelCase, and nothing else happens. Optional members that a June client does not send
(``presence``, ``eventTypes``, ``limit``, ``subscriptionKey``, ``text``) are this product's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from itx_notebook import capnweb as rpc
from itx_notebook._clock import iso_from_ms
from itx_notebook.doors.inprocess import ServerItx, ServerProjects, ServerStream, ServerStreams
from itx_notebook.doors.people import People, Token, User
from itx_notebook.doors.sessions import AuthError
from itx_notebook.doors.texts import TAKES_TEXTS, format_committed, parse_events
from itx_notebook.errors import ItxError, get_itx_error_code
from itx_notebook.streams import CoreState, EventBatch, Subscription
from itx_notebook.streams.event import parse_event
from itx_notebook.types import Project, StreamEvent

__all__ = [
    "CallbackSink",
    "ItxTarget",
    "PeopleTarget",
    "StreamTarget",
    "StreamsTarget",
    "SubscriptionTarget",
    "WireSubscription",
    "parse_core_state",
    "parse_options",
    "tag_outbound_error",
    "to_wire",
]


def to_wire(value: Any) -> Any:
    """Return a value of ours (or a list of them) as the wire says it: camelCase, absent fields left out."""
    return msgspec.to_builtins(value)


def tag_outbound_error(error: BaseException) -> BaseException:
    """Give every error that leaves one of the five codes; text and code go out, stack and local hints do not."""
    if isinstance(error, AuthError):
        return rpc.RpcError(error.message)
    props: dict[str, Any] = {"code": get_itx_error_code(error) or "INTERNAL"}
    details = getattr(error, "details", None)
    if details is not None:
        props["details"] = details
    message = error.message if isinstance(error, (ItxError, rpc.RpcError)) else str(error) or type(error).__name__
    return rpc.RpcError(message, name="ItxError", props=props)


def parse_options(value: Any, allowed: Mapping[str, tuple[type, ...]], what: str) -> dict[str, Any]:
    """Return an options object with only known members of the right kinds; ``undefined`` and absent are one.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``, naming the member.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ItxError(f"{what} takes an object of options, not {value!r}.", code="BAD_REQUEST")
    options: dict[str, Any] = {}
    for name, item in value.items():
        kinds = allowed.get(name)
        if kinds is None:
            known = ", ".join(allowed)
            raise ItxError(f"{what} has no option {name!r}; there are {known}.", code="BAD_REQUEST")
        if item is None:
            continue
        if not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds):
            raise ItxError(f"{what}: {name} {item!r} is of the wrong kind.", code="BAD_REQUEST")
        options[name] = item
    return options


class ItxTarget(rpc.RpcTarget, naming="camel"):
    """A view of one context."""

    def __init__(self, view: ServerItx) -> None:
        self._view = view

    async def describe(self) -> Any:
        """Say what the handle points at."""
        return {**to_wire(await self._view.describe()), TAKES_TEXTS: True}

    @property
    def projects(self) -> ProjectsTarget:
        """The projects it may narrow to."""
        return ProjectsTarget(self._view.projects)

    @property
    def streams(self) -> StreamsTarget:
        """The streams of its namespace."""
        return StreamsTarget(self._view.streams)

    @property
    def people(self) -> PeopleTarget:
        """The users and tokens of the deployment: for whoever holds all of it."""
        return PeopleTarget(self._view.people, self._view.projects)


class ProjectsTarget(rpc.RpcTarget, naming="camel"):
    """The projects of a view."""

    def __init__(self, projects: ServerProjects) -> None:
        self._projects = projects

    async def get(self, id_or_slug: Any) -> ItxTarget:
        """Narrow to a project; the masked ``NOT_FOUND`` if it is not there or not yours."""
        return ItxTarget(await self._projects.get(str(id_or_slug)))

    async def list(self, options: Any = None) -> Any:
        """Return a page of the accessible projects."""
        given = parse_options(options, {"limit": (int,), "offset": (int,)}, "projects.list")
        page = await self._projects.list(limit=given.get("limit", 100), offset=given.get("offset", 0))
        return {
            "projects": [_project_to_wire(project) for project in page.projects],
            "total": page.total,
        }

    async def create(self, options: Any = None) -> Any:
        """Create a project."""
        allowed = {"slug": (str,), "id": (str,), "organizationSlug": (str,)}
        given = parse_options(options, allowed, "projects.create")
        if "slug" not in given:
            raise ItxError("projects.create needs a slug.", code="BAD_REQUEST")
        return _project_to_wire(await self._projects.create(given["slug"], project_id=given.get("id")))


def _project_to_wire(project: Project) -> dict[str, Any]:
    return {**to_wire(project), "customHostname": None}


class PeopleTarget(rpc.RpcTarget, naming="camel"):
    """Users, memberships and tokens: this product's own, for its command line."""

    def __init__(self, people: People, projects: ServerProjects) -> None:
        self._people = people
        self._projects = projects

    def list_users(self) -> Any:
        """Return every user."""
        return [self._user_to_wire(user) for user in self._people.get_users()]

    async def create_user(self, options: Any) -> Any:
        """Create a user."""
        given = parse_options(options, {"id": (str,), "name": (str,), "isAdmin": (bool,)}, "createUser")
        user = await self._people.create_user(
            given.get("id", ""), name=given.get("name", ""), is_admin=given.get("isAdmin", False)
        )
        return self._user_to_wire(user)

    async def remove_user(self, user_id: Any) -> Any:
        """Remove a user with its memberships and tokens."""
        await self._people.remove_user(str(user_id))
        return rpc.UNDEFINED

    async def grant(self, user_id: Any, project: Any) -> Any:
        """Make a user a member of a project."""
        return self._user_to_wire(await self._people.grant(str(user_id), await self._get_id(project)))

    async def revoke(self, user_id: Any, project: Any) -> Any:
        """Take that back."""
        return self._user_to_wire(await self._people.revoke(str(user_id), await self._get_id(project)))

    def list_tokens(self, user_id: Any = None) -> Any:
        """Return what is known of the tokens of a user, or of all."""
        return [self._token_to_wire(token) for token in self._people.get_tokens(user_id)]

    async def create_token(self, options: Any) -> Any:
        """Make a token. The answer is the one place where it can be read."""
        allowed = {"userId": (str,), "name": (str,), "projects": (list,), "expiresInSeconds": (int, float)}
        given = parse_options(options, allowed, "createToken")
        projects = given.get("projects")
        token, text = await self._people.create_token(
            given.get("userId", ""),
            name=given.get("name", ""),
            projects=None if projects is None else [await self._get_id(project) for project in projects],
            expires_in=given.get("expiresInSeconds"),
        )
        return {**self._token_to_wire(token), "token": text}

    async def revoke_token(self, token_id: Any) -> Any:
        """Stop a token for good."""
        return self._token_to_wire(await self._people.revoke_token(str(token_id)))

    async def _get_id(self, project: Any) -> str:
        found = (await self._projects.get(str(project))).project
        assert found is not None  # noqa: S101  # what was narrowed has one
        return found.id

    def _user_to_wire(self, user: User) -> dict[str, Any]:
        return {**to_wire(user), "projects": list(self._projects.get_slugs(user.projects))}

    def _token_to_wire(self, token: Token) -> dict[str, Any]:
        wire: dict[str, Any] = to_wire(token)
        wire["expiresAt"] = None if token.expires_at_ms is None else iso_from_ms(token.expires_at_ms)
        del wire["expiresAtMs"]
        if token.projects is not None:
            wire["projects"] = list(self._projects.get_slugs(token.projects))
        return wire


class StreamsTarget(rpc.RpcTarget, naming="camel"):
    """The streams of a namespace."""

    def __init__(self, streams: ServerStreams) -> None:
        self._streams = streams

    def get(self, ref: Any) -> StreamTarget:
        """Return a stream by reference; no I/O, no look whether it is there."""
        return StreamTarget(self._streams.get(ref))

    def namespace(self, namespace: Any) -> StreamsTarget:
        """Return the streams of another namespace of this view."""
        return StreamsTarget(self._streams.namespace(str(namespace)))

    async def create(self, options: Any = None) -> Any:
        """Let a stream exist, and return its state."""
        given = parse_options(options, {"streamPath": (str,)}, "streams.create")
        return to_wire(await self._streams.create(given.get("streamPath")))


_CURSOR: Final = (str, int, float)
_READ: Final = {
    "afterOffset": _CURSOR,
    "beforeOffset": _CURSOR,
    "eventTypes": (list,),
    "limit": (int,),
    "maxBytes": (int,),
    "presence": (bool,),
    "text": (bool,),
}
_PAGE_EVENTS: Final = 1_000
"""Events in a page at the most: it is put together in one go, while every other session waits."""

_LOOK: Final = {"presence": (bool,)}
_SUBSCRIBE: Final = {
    "afterOffset": _CURSOR,
    "eventTypes": (list,),
    "events": (bool,),
    "presence": (bool,),
    "subscriptionKey": (str,),
    "text": (bool,),
}


class StreamTarget(rpc.RpcTarget, naming="camel"):
    """One stream."""

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    def describe(self) -> Any:
        """Say which stream it is."""
        return {"namespace": self._stream.namespace, "path": self._stream.path}

    async def append(self, event: Any) -> Any:
        """Append one event."""
        return to_wire(await self._stream.append(parse_event(event)))

    async def append_batch(self, events: Any) -> Any:
        """Append all or none."""
        if not isinstance(events, list):
            raise ItxError(f"appendBatch takes a list of events, not {events!r}.", code="BAD_REQUEST")
        return to_wire(await self._stream.append_batch([parse_event(event) for event in events]))

    async def append_text(self, text: Any) -> str:
        """Append all or none of a JSON text of events; returns that of the committed ones. Ours."""
        return format_committed(await self._stream.append_batch(parse_events(text)))

    async def read(self, options: Any = None) -> Any:
        """Return the events between two cursors, both exclusive.

        With ``maxBytes`` (ours) a page of them, ``{events, rest}``: no more than about so many bytes of text, but one
        event at the least. ``rest`` holds the cursors to go on with, or is ``null``. With ``text`` (ours) the events
        come as one JSON text.
        """
        given = parse_options(options, _READ, "read")
        if "maxBytes" in given:
            return await self._read_page(given, given["maxBytes"])
        events = await self._stream.read(
            after_offset=_cursor(given.get("afterOffset", "start")),
            before_offset=_cursor(given.get("beforeOffset", "end")),
            event_types=given.get("eventTypes"),
            limit=given.get("limit"),
            presence=given.get("presence", True),
        )
        return _get_form(given)(events)

    async def _read_page(self, given: dict[str, Any], max_bytes: int) -> Any:
        # What is appended meanwhile is not of this reading, or it might never end.
        end = (await self._stream.get_state(presence=given.get("presence", True))).event_count + 1
        before = _cursor(given.get("beforeOffset", "end"))
        if isinstance(before, int):
            end = min(before, end)
        limit = min(given.get("limit", _PAGE_EVENTS), _PAGE_EVENTS)
        events = await self._stream.read(
            after_offset=_cursor(given.get("afterOffset", "start")),
            before_offset=end if before != "start" else before,
            event_types=given.get("eventTypes"),
            limit=limit,
            presence=False,
        )
        is_whole = len(events) < limit
        form = _get_form(given)
        page = rpc.prepare(form(events))
        while len(page.text) > max_bytes and len(events) > 1:
            is_whole = False
            events = events[: max(1, len(events) * max_bytes // len(page.text))]
            page = rpc.prepare(form(events))
        is_over = is_whole or not events or events[-1].offset >= end - 1
        return {"events": page, "rest": None if is_over else {"afterOffset": events[-1].offset, "beforeOffset": end}}

    async def get_state(self, options: Any = None) -> Any:
        """Return the public state."""
        return to_wire(
            await self._stream.get_state(presence=parse_options(options, _LOOK, "getState").get("presence", True))
        )

    async def list_children(self, options: Any = None) -> Any:
        """Return the immediate children."""
        presence = parse_options(options, _LOOK, "listChildren").get("presence", True)
        return to_wire(await self._stream.list_children(presence=presence))

    async def get_event(self, options: Any) -> Any:
        """Return one event by ``offset`` (``NOT_FOUND`` if there is none) or ``idempotencyKey`` (``undefined``)."""
        given = parse_options(options, {"offset": (int,), "idempotencyKey": (str,)}, "getEvent")
        event = await self._stream.get_event(given.get("offset"), idempotency_key=given.get("idempotencyKey"))
        return rpc.UNDEFINED if event is None else to_wire(event)

    async def runtime_state(self) -> Any:
        """Return the whole reduced state, and the open connections."""
        return to_wire(await self._stream.get_runtime_state())

    async def reduce(self, options: Any) -> Any:
        """Return what the state would be after an event; nothing is kept."""
        given = parse_options(options, {"event": (dict,), "coreProcessorState": (dict,)}, "reduce")
        if "event" not in given:
            raise ItxError("reduce needs an event.", code="BAD_REQUEST")
        state = given.get("coreProcessorState")
        parsed = None if state is None else parse_core_state(state)
        return to_wire(await self._stream.reduce(parse_event(given["event"]), parsed))

    async def kill(self) -> Any:
        """End the stream's incarnation; the storage stays."""
        await self._stream.kill()
        return rpc.UNDEFINED

    async def reset(self) -> Any:
        """Erase the stream: its next life begins at offset 1."""
        await self._stream.reset()
        return rpc.UNDEFINED

    async def enable_processor(self, name: Any) -> Any:
        """Configure the stream to be processed by whoever knows `name`."""
        await self._stream.enable_processor(str(name))
        return rpc.UNDEFINED

    async def disable_processor(self, name: Any) -> Any:
        """Take that back."""
        await self._stream.disable_processor(str(name))
        return rpc.UNDEFINED

    async def subscribe(self, on_event_batch: Any, options: Any = None) -> SubscriptionTarget:
        """Call back with batches after a cursor; with ``text`` (ours) each comes as one JSON text."""
        given = parse_options(options, _SUBSCRIBE, "subscribe")
        make = _public_batch_to_text if given.get("text") else _public_batch_to_wire
        return await self._subscribe(CallbackSink(on_event_batch, make), given)

    async def on_state_change(self, on_state: Any) -> SubscriptionTarget:
        """Call back with the public state, now and after each advance."""
        sink = CallbackSink(on_state, _public_state_to_wire)
        return await self._subscribe(sink, {"events": False, "afterOffset": "end"})

    async def _subscribe(self, sink: CallbackSink, given: dict[str, Any]) -> SubscriptionTarget:
        try:
            subscription = await self._stream.subscribe_sink(
                sink,
                after_offset=_cursor(given.get("afterOffset", "start")),
                event_types=given.get("eventTypes"),
                events=given.get("events", True),
                presence=given.get("presence", True),
                key=given.get("subscriptionKey"),
            )
        except BaseException:
            sink.close()
            raise
        return SubscriptionTarget(WireSubscription(subscription, sink))


class CallbackSink:
    """Delivers batches to a peer's callback. Its answer is not asked for; a peer that does not read is waited for.

    Parameters
    ----------
    callback : RpcStub
        The peer's function. A reference of its own is taken.
    make : callable
        What of a batch is sent. Made once for all subscribers that share the batch.
    """

    __slots__ = ("_callback", "_make", "_registration", "_session")

    def __init__(self, callback: Any, make: Callable[[EventBatch], rpc.Prepared]) -> None:
        if not isinstance(callback, rpc.RpcStub):
            raise ItxError(f"A subscription needs a function to call, not {callback!r}.", code="BAD_REQUEST")
        self._callback = callback.dup()
        self._session = rpc.session_of(callback)
        self._make = make
        self._registration: rpc.Registration | None = None

    def __call__(self, batch: EventBatch) -> Any:
        """Send a batch."""
        rpc.dispose(self._callback(batch.share(self._make)))
        session = self._session
        return None if session is None or session.is_writable else session.writable()

    def on_broken(self, callback: Callable[[Exception], object]) -> None:
        """Tell when the peer's function can no longer be reached."""

        def broken(error: Exception) -> None:
            callback(error)

        self._registration = rpc.on_broken(self._callback, broken)

    def on_ended(self) -> None:
        """Give the peer's function back. That tells the peer that the subscription is over."""
        self.close()

    def close(self) -> None:
        """Give the peer's function back. Repeating is harmless."""
        if self._registration is not None:
            self._registration.unregister()
        rpc.dispose(self._callback)


class WireSubscription:
    """An open subscription of a peer: the stream's side of it, and the peer's function."""

    __slots__ = ("_sink", "_subscription")

    def __init__(self, subscription: Subscription, sink: CallbackSink) -> None:
        self._subscription = subscription
        self._sink = sink

    @property
    def key(self) -> str:
        """The key it is under."""
        return self._subscription.key

    @property
    def stream_max_offset(self) -> int:
        """The highest offset when it was opened."""
        return self._subscription.stream_max_offset

    @property
    def is_open(self) -> bool:
        """Whether this very subscription is still served."""
        return not self._subscription.closed.is_set()

    @property
    def error(self) -> BaseException | None:
        """Why it ended, if neither side asked for that."""
        return self._subscription.error

    async def unsubscribe(self) -> Any:
        """End it, and give the peer's function back. Repeating is harmless. Answers ``undefined``."""
        await self._subscription.unsubscribe()
        self._sink.close()
        return rpc.UNDEFINED


class SubscriptionTarget(rpc.RpcTarget, naming="camel"):
    """An open subscription. Letting go of it does not end it: that is what ``unsubscribe`` is for."""

    def __init__(self, subscription: WireSubscription) -> None:
        self._subscription = subscription

    async def unsubscribe(self) -> Any:
        """End it."""
        return await self._subscription.unsubscribe()

    def ping(self) -> bool:
        """Tell whether this very subscription is still served."""
        return self._subscription.is_open

    @property
    def error(self) -> Any:
        """Say why it ended, as ``{message, code}``; ``null`` while it is served, or when somebody wanted its end."""
        error = self._subscription.error
        if error is None:
            return None
        return {"message": str(error) or type(error).__name__, "code": get_itx_error_code(error) or "INTERNAL"}


def _get_form(given: dict[str, Any]) -> Callable[[list[StreamEvent]], Any]:
    """How committed events are to be sent, as options say."""
    return format_committed if given.get("text") else to_wire


def _public_batch_to_wire(batch: EventBatch) -> rpc.Prepared:
    return rpc.prepare(to_wire(batch.public))


def _public_batch_to_text(batch: EventBatch) -> rpc.Prepared:
    return rpc.prepare(format_committed(batch.public))


def _public_state_to_wire(batch: EventBatch) -> rpc.Prepared:
    return rpc.prepare(to_wire(batch.public.state))


def parse_core_state(value: dict[str, Any]) -> CoreState:
    """Return a core state that a peer sent; ``BAD_REQUEST`` if it is none."""
    try:
        return msgspec.convert(value, CoreState)
    except msgspec.ValidationError as error:
        raise ItxError(f"coreProcessorState is not a state: {error}.", code="BAD_REQUEST") from None


def _cursor(value: Any) -> Any:
    """JavaScript's numbers are floats; a whole one is an offset."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
