from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from itx_notebook.query import QueryClient
from itx_notebook.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def client(clock: FakeClock) -> AsyncIterator[QueryClient]:
    """A client with the product's defaults; at the end nothing of it may be left running."""
    client = QueryClient(clock)
    yield client
    await client.close()
    assert clock.pending == 0
