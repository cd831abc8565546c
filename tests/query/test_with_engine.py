"""The definition and the prefetch on a real engine, through its in-process door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.doors import Deployment, get_server_itx
from itx_notebook.errors import is_itx_access_error
from itx_notebook.query import QueryClient, prefetch_itx_query, project_stream_state_query
from itx_notebook.types import ADMIN, Event, StreamState
from tests.support import let_engine_work, open_deployment

PROJECT = "prj_query"


@pytest.fixture
async def deployment(home: Path) -> AsyncIterator[Deployment]:
    async with open_deployment(home) as deployment:
        await deployment.directory.create("query-tests", project_id=PROJECT)
        yield deployment


@pytest.fixture
def get_loader_itx(deployment: Deployment) -> Any:
    async def get_loader_itx(project: str) -> Any:
        return get_server_itx(deployment, project, ADMIN)

    return get_loader_itx


async def append(deployment: Deployment, path: str) -> None:
    await get_server_itx(deployment, PROJECT, ADMIN).streams.get(path).append(Event(type="demo.noted"))
    await let_engine_work(deployment)


async def test_prefetch_seeds_the_state_and_leaves_the_stream_as_it_was_when_repeated(
    client: QueryClient, deployment: Deployment, get_loader_itx: Any
) -> None:
    await append(deployment, "/agents/a")
    query = project_stream_state_query(PROJECT, "/")

    await prefetch_itx_query(query, client, get_loader_itx)
    first = client.get_query_data(query.query_key)
    client.invalidate_queries()
    await prefetch_itx_query(query, client, get_loader_itx)

    assert isinstance(first, StreamState)
    assert (first.namespace, first.child_paths) == (PROJECT, ("/agents",))
    # The very same object: looking twice added no event, and an equal answer keeps the old one.
    assert client.get_query_data(query.query_key) is first


async def test_prefetch_leaves_no_entry_when_the_project_is_masked(client: QueryClient, get_loader_itx: Any) -> None:
    query = project_stream_state_query("prj_nope", "/")

    await prefetch_itx_query(query, client, get_loader_itx)

    assert client.get_query_state(query.query_key) is None
    with pytest.raises(Exception, match="not found") as caught:
        await client.fetch_query(query.bind(get_loader_itx), retry=False)
    assert is_itx_access_error(caught.value)


async def test_an_observer_sees_new_events_when_the_key_is_invalidated(
    client: QueryClient, deployment: Deployment, get_loader_itx: Any
) -> None:
    query = project_stream_state_query(PROJECT, "/agents/a")
    await append(deployment, "/agents/a")
    observer = client.observe(query.bind(get_loader_itx), lambda _state: None)
    await observer.refetch()
    before = observer.result.data
    assert isinstance(before, StreamState)

    await append(deployment, "/agents/a")
    client.invalidate_queries(query.query_key[:4])
    assert observer.result.is_fetching
    await observer.refetch()

    after = observer.result.data
    assert isinstance(after, StreamState)
    assert after.event_count == before.event_count + 1
