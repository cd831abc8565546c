"""The loops that Cap'n Web's transports are tested on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping

import pytest

_ON_EVERY_LOOP = {"test_transports.py", "test_websocket.py"}


@pytest.hookimpl
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what touches sockets on uvloop too, which orders callbacks, timers and closing differently."""
    if item.path.name not in _ON_EVERY_LOOP or sys.platform == "win32":
        return {"asyncio": asyncio.new_event_loop}
    import uvloop

    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
