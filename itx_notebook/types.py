"""Values only: what goes into a stream, what comes out, and who asks.

Frozen structs with the field names of the wire (camelCase there, snake_case here; the mapping is these
``rename`` arguments and stands nowhere else). An absent field is :data:`msgspec.UNSET` (falsy) and is omitted on the
wire; ``None`` is JSON ``null``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "ADMIN",
    "UNSET",
    "Event",
    "ItxDescription",
    "Principal",
    "Project",
    "ProjectList",
    "StreamChild",
    "StreamEvent",
    "StreamEventBatch",
    "StreamState",
    "absent_to_none",
]


class _Value(msgspec.Struct, frozen=True, rename="camel"):
    """Base of the values: immutable, compared by content, camelCase on the wire. Absent fields are not shown."""

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown if value is not UNSET)})"


class Event(_Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller hands to ``append``: the strict envelope.

    Attributes
    ----------
    type : str
        What happened; a domain's own name, or one of ``events.iterate.com/stream/…``.
    payload : JSON value, optional
        Anything JSON can say, ``None`` included.
    metadata : dict, optional
        Facts about the event rather than of it.
    source : dict, optional
        ``{"processor": {"slug": …, "version": …}}``: the processor that wrote it.
    idempotency_key : str, optional
        One stream keeps one event per key for ever: a repeat answers with the first one.
    offset : int, optional
        Precondition: the offset the event must get (or, on a repeat, has).
    """

    type: str
    payload: Any = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    source: dict[str, Any] | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET


class StreamEvent(_Value, frozen=True, kw_only=True, omit_defaults=True):
    """A committed event, as a stream keeps it.

    Attributes
    ----------
    offset : int
        Place in the stream: dense, from 1.
    created_at : str
        ISO-8601 UTC, milliseconds, ``Z``. From the wall clock: it may go backwards between events.
    stream_path : str, optional
        Where it was read; added on the way out, never stored.
    """

    type: str
    payload: Any = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    source: dict[str, Any] | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET
    offset: int
    created_at: str
    stream_path: str | UnsetType = UNSET


class StreamState(_Value, frozen=True, kw_only=True):
    """What navigation needs of a stream, folded from its log.

    Attributes
    ----------
    event_count : int
        Number of events; offsets are dense, so also the highest offset. 0: nothing was ever written.
    child_paths : tuple of str
        Full paths of the immediate children, in order of arrival.
    """

    namespace: str
    path: str
    event_count: int
    child_paths: tuple[str, ...]
    metadata: dict[str, Any]


class StreamEventBatch(_Value, frozen=True, kw_only=True):
    """One delivery to a subscriber.

    ``state`` and ``stream_max_offset`` are of the moment of delivery and agree with each other; while catching up they
    are ahead of ``events[-1]``. ``events`` is empty in the first batch of a live subscription and in state-only mode.
    """

    events: tuple[StreamEvent, ...]
    state: StreamState
    stream_max_offset: int


class StreamChild(_Value, frozen=True, kw_only=True):
    """A child as ``list_children`` gives it.

    ``created_at`` is the child's own, ``None`` while it has no events or if its first one is damaged.
    """

    path: str
    created_at: str | None


class Project(_Value, frozen=True, kw_only=True):
    """A project: the unit of access, and the namespace of its streams. ``id`` is canonical, ``slug`` for people."""

    id: str
    slug: str
    created_at: str
    updated_at: str


class ProjectList(_Value, frozen=True, kw_only=True):
    """A page of projects the handle may see, and how many there are in all."""

    projects: tuple[Project, ...]
    total: int


class ItxDescription(_Value, frozen=True, kw_only=True):
    """What a handle points at.

    Attributes
    ----------
    context : str
        ``"global"`` or the id of the project: the handle's authority. With ``:/path`` behind it if the handle was
        asked for by a place in the project.
    access : "all" or tuple of str
        Ids of the projects it may narrow to.
    engine : str
        ``"embedded"``: the streams engine in this process; ``"served"``: in one that serves a team.
    location : str
        Where the data is: the data directory, or the address of the server.
    stream_count : int or None
        Streams in the project; ``None`` on the global handle.
    """

    context: str
    access: Literal["all"] | tuple[str, ...]
    project: Project | None
    engine: str
    location: str
    stream_count: int | None


class Principal(_Value, frozen=True, kw_only=True):
    """Who is calling, after authentication. Nobody is ``None``, not a principal.

    Attributes
    ----------
    type : {"admin", "user"}
        Admins hold everything; users hold what ``projects`` names.
    user_id : str, optional
        Of a user; ``None`` for the admin.
    is_admin : bool
        A user whose record says admin counts as one.
    projects : tuple of str
        Ids of the projects a user is a member of: a snapshot taken at authentication.
    """

    type: Literal["admin", "user"]
    user_id: str | None = None
    is_admin: bool = False
    projects: tuple[str, ...] = ()

    @classmethod
    def user(cls, user_id: str, *, projects: tuple[str, ...] = (), is_admin: bool = False) -> Principal:
        """A user with the ids of the projects it is a member of."""
        return cls(type="user", user_id=user_id, projects=projects, is_admin=is_admin)


ADMIN: Final = Principal(type="admin")
"""The principal of whoever owns the process that holds an embedded store."""


def absent_to_none(value: Any) -> Any:
    """``None`` for an absent field, the value otherwise (tables and reprs know no third kind of empty)."""
    return None if value is UNSET else value
