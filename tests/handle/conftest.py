from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.notebook import NotebookItx, connect
from tests.support import close_engines


@pytest.fixture
def itx(home: Path) -> Iterator[NotebookItx]:
    """A handle on the embedded engine of this process."""
    yield connect(home=home)
    close_engines()


class NeverStream:
    """A stream whose answers never come; it tells when it was asked and when the asking was called off."""

    namespace = "prj_1"
    path = "/never"

    def __init__(self) -> None:
        self.was_asked = threading.Event()
        self.was_cancelled = threading.Event()

    async def _wait(self, *_args: Any, **_options: Any) -> Any:
        self.was_asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise

    append = append_batch = read = get_state = list_children = subscribe = _wait
    get_event = get_runtime_state = reduce = wait_for_event = kill = reset = _wait
    run_processor = enable_processor = disable_processor = _wait


@pytest.fixture
def never() -> NeverStream:
    return NeverStream()
