"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

__all__ = ["FakeClock"]


class _Timer:
    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        # It stays in the heap until its time; what it would have called need not.
        self.callback = _do_nothing


def _do_nothing() -> None: ...


class FakeClock:
    """A :class:`~itx_notebook._clock.Clock` whose time moves only by :meth:`advance`.

    Parameters
    ----------
    now_ms : int
        Wall-clock time to begin at, in milliseconds since the epoch.
    """

    def __init__(self, now_ms: int = 1_780_000_000_000) -> None:
        self._start_ms = now_ms
        self._elapsed = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._start_ms + round(self._elapsed * 1000)

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._elapsed

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Timer:
        """Call `callback` when :meth:`advance` has moved time by `delay` seconds."""
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self._elapsed + max(0.0, delay), next(self._order), timer))
        return timer

    async def sleep(self, delay: float) -> None:
        """Wait until time has moved by `delay` seconds."""
        done = asyncio.Event()
        timer = self.call_later(delay, done.set)
        try:
            await done.wait()
        finally:
            timer.cancel()

    @property
    def pending(self) -> int:
        """How many timers wait that nobody called off."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Move time on, firing due timers in order and letting tasks run after each."""
        await settle()
        end = self._elapsed + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, due)
            if not timer.cancelled:
                timer.callback()
                await settle()
        self._elapsed = end
        await settle()


async def settle(rounds: int = 20) -> None:
    """Let every task that is ready run: give the loop `rounds` turns."""
    for _ in range(rounds):
        await asyncio.sleep(0)
