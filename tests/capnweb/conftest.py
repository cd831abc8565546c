"""The loops that Cap'n Web's transports are tested on, and sessions that are checked for what they leave behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from tests.capnweb.sessions import Joiner

_ON_EVERY_LOOP = {"test_transports.py", "test_websocket.py"}


@pytest.hookimpl
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what touches sockets on uvloop too, which orders callbacks, timers and closing differently."""
    if item.path.name not in _ON_EVERY_LOOP or sys.platform == "win32":
        return {"asyncio": asyncio.new_event_loop}
    import uvloop

    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def noise() -> AsyncIterator[list[dict[str, Any]]]:
    """What reached the loop's exception handler. A test that expects something there takes it out."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    yield contexts
    assert contexts == []


@pytest.fixture
async def join(noise: list[dict[str, Any]]) -> AsyncIterator[Joiner]:
    """Joins a client and a server in memory: ``join(Api())``. At the end both hold their main objects alone."""
    joiner = Joiner()
    yield joiner
    await joiner.finish()
