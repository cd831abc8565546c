"""Engines over real stores, with commits on the loop and with commits on a thread of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itx_notebook.streams import Stream, StreamEngine


@pytest.fixture(params=["inline", "threaded"])
async def engine(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[StreamEngine]:
    engine = StreamEngine.open(home, always_threaded=request.param == "threaded")
    yield engine
    await engine.close()


@pytest.fixture
def stream(engine: StreamEngine) -> Stream:
    return engine.stream("prj_1", "/a/b")
