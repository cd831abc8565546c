"""When a tree closes by itself: the cell that made it was run again, and nobody looks at the old one any more.

Apart from the browser because it is a rule of notebooks, not of trees. ipywidgets keeps every widget for ever, so
each run of a cell would leave a model in the page and a comm, a tree and its watches in the kernel.

In doubt a tree lives: closing one that somebody looks at would take it off their page; keeping one costs some memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from itx_notebook._clock import Clock, TimerHandle
from itx_notebook.widgets.cells import Execution

__all__ = ["LINGER", "Lifetime", "Views"]

LINGER: Final = 5.0
"""Seconds without a view after which a tree of an earlier execution closes. Longer than two heartbeats, so that a page
whose word was lost has been asked and has answered."""


class Views:
    """How many views of one model there are, as its pages tell. Telling the same twice changes nothing."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        # A page that was reloaded comes back, but draws a view only when it is scrolled to.
        self._may_come_back = False

    @property
    def count(self) -> int:
        """Views that are known."""
        return sum(self._counts.values())

    @property
    def are_gone(self) -> bool:
        """Whether nobody looks, as far as one can know."""
        return self.count == 0 and not self._may_come_back

    def take(self, page: str, count: int | None) -> None:
        """A page has that many views; ``None``: it was left with what it had."""
        if count is None:
            self._may_come_back = self._counts.pop(page, 0) > 0 or self._may_come_back
        elif count > 0:
            self._counts[page] = count
            self._may_come_back = False
        else:
            self._counts.pop(page, None)


class Lifetime:
    """Calls `close` when the tree made by `made_by` is no longer of use; never if that is ``None``. On the I/O loop."""

    def __init__(self, close: Callable[[], object], *, made_by: Execution | None, clock: Clock) -> None:
        self.views = Views()
        self._close = close
        self._made_by = made_by
        self._clock = clock
        self._is_superseded = False
        self._timer: TimerHandle | None = None

    def take_views(self, page: str, count: int | None) -> None:
        """A page tells how many views it has."""
        self.views.take(page, count)
        self._wait_anew()

    def note_display(self) -> None:
        """The tree was displayed again: its view is on the way."""
        self._wait_anew()

    def note_cell_start(self) -> None:
        """A cell begins. It may display the tree at its end, however long it takes."""
        self._stop()

    def note_cell_end(self, execution: Execution | None) -> None:
        """A cell has ended."""
        made_by = self._made_by
        if made_by is not None and execution is not None and execution.cell == made_by.cell:
            self._is_superseded = self._is_superseded or execution.run != made_by.run
        self._wait_anew()

    def end(self) -> None:
        """The tree is closed."""
        self._made_by = None
        self._is_superseded = False
        self._stop()

    def _wait_anew(self) -> None:
        self._stop()
        if self._is_superseded and self.views.are_gone:
            self._timer = self._clock.call_later(LINGER, self._close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
