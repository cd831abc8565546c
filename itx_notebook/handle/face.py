"""Waiting, for the blocking face: one place that hands a coroutine to the I/O loop with the right timeout."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from itx_notebook._loop import run_blocking

__all__ = ["Face"]

T = TypeVar("T")


class Face:
    """Waits for coroutines of one async object, with the handle's timeout unless the call has its own."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout

    def _get_limit(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout

    def _wait(self, coroutine: Coroutine[Any, Any, T], timeout: float | None, what: str) -> T:
        return run_blocking(coroutine, timeout=self._get_limit(timeout), what=what)

    def _wait_for_its_own_end(self, coroutine: Coroutine[Any, Any, T], what: str) -> T:
        """For work that was told its limit itself, and knows better what to say when it is over."""
        return run_blocking(coroutine, timeout=None, what=what)
