"""Queries, defined once: key, fetcher and staleness of a question travel together.

Apart from the cache, which knows nothing of itx. View, tree and prefetch use the same definition and so cannot
disagree. Keys hold the project **id**, never the slug, which would make a second family for the same data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from itx_notebook.errors import ItxError
from itx_notebook.query.keys import QueryKey, hash_query_key
from itx_notebook.query.state import StaleTime
from itx_notebook.types import StreamState

__all__ = [
    "GetItx",
    "Query",
    "QueryDefinition",
    "itx_key",
    "parse_itx_data",
    "parse_stream_state",
    "project_stream_state_query",
]

T = TypeVar("T")

GetItx: TypeAlias = Callable[[str], Awaitable[Any]]
"""Gives the handle of a project by its id; ``get_loader_itx`` is one."""

STREAM_STATE_STALE_TIME: Final = 10.0
"""Seconds; the original's stale time of a project's child routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Generic[T]):
    """A question the cache can ask by itself.

    Attributes
    ----------
    query_fn : callable
        Fetches the answer; runs on the cache's loop, in an empty context.
    stale_time : float or "static", optional
        Seconds the answer counts as fresh; ``None`` takes the client's default.
    query_hash : str
        Identity, derived from ``query_key``.
    """

    query_key: QueryKey
    query_fn: Callable[[], Awaitable[T]]
    stale_time: StaleTime | None = None
    query_hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_hash", hash_query_key(self.query_key))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryDefinition(Generic[T]):
    """A question about a project, for whoever has a way to its handle.

    Attributes
    ----------
    project : str
        Project id.
    query_fn : callable
        Fetches the answer through the project's handle.
    stale_time : float or "static"
        Seconds the answer counts as fresh.
    query_hash : str
        Identity, derived from ``query_key``.
    """

    project: str
    query_key: QueryKey
    query_fn: Callable[[Any], Awaitable[T]]
    stale_time: StaleTime
    query_hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_hash", hash_query_key(self.query_key))

    def bind(self, get_itx: GetItx) -> Query[T]:
        """Return the query that obtains its handle from `get_itx`, anew at every fetch.

        The handle is obtained inside the query function, so a project that cannot be resolved fails like a fetch.
        """

        async def fetch() -> T:
            return await self.query_fn(await get_itx(self.project))

        return Query(query_key=self.query_key, query_fn=fetch, stale_time=self.stale_time)


class _ItxKeys:
    """Builds the keys of itx, so that their shape stands in one place."""

    def project(self, project_id: str, *parts: Any) -> QueryKey:
        """Key of something in a project; without `parts`, the prefix of everything in it."""
        return ("itx", "project", project_id, *parts)


itx_key: Final = _ItxKeys()
"""Keys and prefixes: ``itx_key.project(project_id, "streams")`` means all that is known of a project's streams."""


def project_stream_state_query(project_id: str, path: str) -> QueryDefinition[StreamState]:
    """Define the state of one stream: how many events, which children.

    Looks in silence: asking leaves no presence fact in the stream, so looking does not change what is seen.

    Parameters
    ----------
    project_id : str
        The id, not the slug.
    path : str
        Canonical path; another spelling of it would be another key.
    """

    async def fetch(handle: Any) -> StreamState:
        return parse_stream_state(await handle.streams.get(path).get_state(presence=False))

    return QueryDefinition(
        project=project_id,
        query_key=itx_key.project(project_id, "streams", "state", path),
        query_fn=fetch,
        stale_time=STREAM_STATE_STALE_TIME,
    )


def parse_stream_state(reply: object) -> StreamState:
    """Narrow a reply to what navigation needs; more fields than that are ignored.

    The full state of a real stream may hold parts nobody here knows (subscribers of retired kinds): demanding that
    all of it validate would hide a stream that can be shown.

    Raises
    ------
    ItxError
        ``INTERNAL``: a field navigation needs is missing or of another type.
    """
    if isinstance(reply, StreamState):
        return reply
    try:
        return msgspec.convert(reply, StreamState)
    except msgspec.ValidationError as error:
        raise ItxError(
            f"The reply is not a stream state: {error}.",
            code="INTERNAL",
            hint="The other side may speak an older or newer dialect; compare versions.",
        ) from error


def parse_itx_data(query_key: QueryKey, data: Any) -> Any:
    """Give data that came out of JSON the type its query promises; unknown keys keep plain JSON values.

    Raises
    ------
    ItxError
        ``INTERNAL``: the data does not fit the key.
    """
    is_stream_state = (
        len(query_key) == 6 and query_key[:2] == ("itx", "project") and query_key[3:5] == ("streams", "state")
    )
    return parse_stream_state(data) if is_stream_state else data
