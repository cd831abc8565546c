"""The cache on paper: a snapshot as JSON values, and the way back.

Apart from the client because snapshots outlive the process (widget state, a saved notebook): this is the one place
that fixes their shape. Only data is carried, never an error and never a fetch under way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from itx_notebook.errors import ItxError
from itx_notebook.query.keys import QueryKey, freeze_query_key
from itx_notebook.query.state import QueryState, QueryStatus

__all__ = ["DehydratedCache", "DehydratedQuery", "dehydrate_entries", "is_success", "parse_dehydrated"]

_log = logging.getLogger(__name__)

_Milliseconds = Annotated[int, msgspec.Meta(ge=0)]


class DehydratedQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One answer on paper. ``data`` is plain JSON values; ``data_updated_at_ms`` is when it was true."""

    query_key: QueryKey
    data: Any
    data_updated_at_ms: _Milliseconds
    is_invalidated: bool = False


class DehydratedCache(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A snapshot of a cache, ready for any JSON encoder (``msgspec.to_builtins`` gives dicts and lists)."""

    queries: tuple[DehydratedQuery, ...]
    dehydrated_at_ms: _Milliseconds


def is_success(_query_key: QueryKey, state: QueryState[Any]) -> bool:
    """Whether the last thing that happened to the entry is that it got data: the default choice of a snapshot."""
    return state.status is QueryStatus.SUCCESS


def dehydrate_entries(entries: Iterable[tuple[QueryKey, QueryState[Any]]], now_ms: int) -> DehydratedCache:
    """Put `entries` on paper. Data that JSON cannot say is left out, with a warning in the log."""
    queries = []
    for query_key, state in entries:
        try:
            data = msgspec.to_builtins(state.data, str_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            _log.warning("Left %s out of a snapshot: %s", query_key, error)
            continue
        queries.append(
            DehydratedQuery(
                query_key=query_key,
                data=data,
                data_updated_at_ms=state.data_updated_at_ms,
                is_invalidated=state.is_invalidated,
            )
        )
    return DehydratedCache(queries=tuple(queries), dehydrated_at_ms=now_ms)


def parse_dehydrated(payload: DehydratedCache | Mapping[str, Any]) -> list[tuple[QueryKey, DehydratedQuery]]:
    """Validate a snapshot and give its keys their tuples back. Fields nobody knows are ignored.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: `payload` is not a snapshot.
    """
    try:
        cache = payload if isinstance(payload, DehydratedCache) else msgspec.convert(payload, DehydratedCache)
    except msgspec.ValidationError as error:
        raise ItxError(
            f"The payload is not a snapshot of a query cache: {error}.",
            code="BAD_REQUEST",
            hint="Hand in what dehydrate() gave, or its JSON as decoded.",
        ) from error
    return [(freeze_query_key(query.query_key), query) for query in cache.queries]
