"""The query cache and the prefetch: questions defined once, asked once at a time, answered at once when known.

Apart from client and handle so that what is cached can be reasoned about without a network: a cache is told how to
fetch and knows nothing of sockets. Everything here lives on one asyncio loop and is not thread-safe, but for the
three local reads of :class:`QueryClient`.
"""

from msgspec import UNSET

from itx_notebook.query.client import QueryClient, QueryDefaults
from itx_notebook.query.definitions import (
    GetItx,
    Query,
    QueryDefinition,
    itx_key,
    parse_itx_data,
    parse_stream_state,
    project_stream_state_query,
)
from itx_notebook.query.dehydrate import DehydratedCache, DehydratedQuery
from itx_notebook.query.entry import Fetch
from itx_notebook.query.keys import QueryKey, hash_query_key, is_key_prefix
from itx_notebook.query.observer import QueryObserver
from itx_notebook.query.prefetch import prefetch_itx_query
from itx_notebook.query.retry import RetryPolicy, retry_itx_once
from itx_notebook.query.state import FetchStatus, QueryState, QueryStatus, StaleTime

__all__ = [
    "UNSET",
    "DehydratedCache",
    "DehydratedQuery",
    "Fetch",
    "FetchStatus",
    "GetItx",
    "Query",
    "QueryClient",
    "QueryDefaults",
    "QueryDefinition",
    "QueryKey",
    "QueryObserver",
    "QueryState",
    "QueryStatus",
    "RetryPolicy",
    "StaleTime",
    "hash_query_key",
    "is_key_prefix",
    "itx_key",
    "parse_itx_data",
    "parse_stream_state",
    "prefetch_itx_query",
    "project_stream_state_query",
    "retry_itx_once",
]
