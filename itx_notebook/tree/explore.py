"""Reads ahead of what is open, where a search or an order needs it, and finds out when streams were last written to.

A little at a time, in silence, up to a limit. Apart from the watches because nothing here lasts: a node is read once,
and followed only when it comes into view.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Collection
from datetime import datetime
from typing import Any, Final, Protocol

from itx_notebook.errors import ItxError

__all__ = ["EXPLORE_LIMIT", "Explorer"]

EXPLORE_LIMIT: Final = 1_000
"""Streams read ahead by one tree at the most, and as many newest events: a search must not read a project of a million
streams to its end."""
_AT_ONCE: Final = 16


class Explored(Protocol):
    """A tree, as far as reading ahead needs it."""

    def get_unread(self, passed: Collection[str], limit: int) -> list[str]:
        """Paths to read next that are not among `passed`."""
        ...

    def get_undated(self, passed: Collection[tuple[str, int]], limit: int) -> list[tuple[str, int]]:
        """Paths, and their newest offsets, of which nobody knows when they were written."""
        ...

    async def read(self, paths: list[str]) -> None:
        """Bring the states of `paths` into the cache."""
        ...

    def get_itx(self) -> Awaitable[Any]:
        """The view to ask."""
        ...

    def note_active(self, path: str, offset: int, active_at: int) -> None:
        """Take notice of when the event at `offset`, the newest a moment ago, was written, in milliseconds."""
        ...


class Explorer:
    """Reads what a search or an order of `tree` asks about and nobody has opened. On the I/O loop."""

    def __init__(self, tree: Explored) -> None:
        self._tree = tree
        self._asked: set[str] = set()
        self._dated: set[tuple[str, int]] = set()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Go on if there is something to read and nothing is being read."""
        if self._task is None and (self._next() or self._next_undated()):
            self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()

    def _next(self) -> list[str]:
        left = min(_AT_ONCE, EXPLORE_LIMIT - len(self._asked))
        return self._tree.get_unread(self._asked, left)

    def _next_undated(self) -> list[tuple[str, int]]:
        left = min(_AT_ONCE, EXPLORE_LIMIT - len(self._dated))
        return self._tree.get_undated(self._dated, left)

    async def _run(self) -> None:
        try:
            while True:
                if paths := self._next():
                    self._asked.update(paths)
                    await self._tree.read(paths)
                elif undated := self._next_undated():
                    self._dated.update(undated)
                    await asyncio.gather(*(self._date(path, offset) for path, offset in undated))
                else:
                    return
        finally:
            self._task = None

    async def _date(self, path: str, offset: int) -> None:
        # Without it the row only stands last in the order; the stream's own trouble shows when it is opened.
        with contextlib.suppress(ItxError):
            stream = (await self._tree.get_itx()).streams.get(path)
            event = await stream.get_event(offset, idempotency_key=None)
            if event is not None:
                self._tree.note_active(path, offset, round(datetime.fromisoformat(event.created_at).timestamp() * 1000))
