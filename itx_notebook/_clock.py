"""Time, as a seam: everything that waits or stamps asks a :class:`Clock`, so that tests can move it.

Apart from the rest because four rooms need it (streams, query, tree, widgets) and none should own it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock", "TimerHandle", "iso_from_ms"]


class TimerHandle(Protocol):
    """A scheduled callback that can be called off; calling it off twice is harmless."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall clock, monotonic clock and timers. Timers fire on the loop they were made on."""

    def now_ms(self) -> int:
        """Wall-clock time in milliseconds since the epoch, UTC; may go backwards."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary origin."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> TimerHandle:
        """Call `callback` in `delay` seconds, on the running loop."""
        ...

    async def sleep(self, delay: float) -> None:
        """Wait `delay` seconds; cancelling is safe."""
        ...


class SystemClock:
    """The machine's clock and the running asyncio loop's timers."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object]) -> TimerHandle:
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)


_latest_second = (-1, "")


def iso_from_ms(ms: int) -> str:
    """ISO-8601 in UTC with milliseconds and ``Z``: ``2026-06-10T09:00:00.000Z``.

    The text of the whole second is kept between calls: formatting it is the dearest part of an append
    after the disk. Kept as one pair, so that no thread sees the text of one second beside another.
    """
    global _latest_second
    second, milli = divmod(ms, 1000)
    known, text = _latest_second
    if second != known:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _latest_second = (second, text)
    return f"{text}.{milli:03d}Z"
