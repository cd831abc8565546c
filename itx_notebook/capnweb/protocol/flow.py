"""How much of one stream may be under way: a window that follows what the path to the reader carries.

Pure arithmetic, told the time, so that a test moves the clock. The window is bandwidth times round trip, as seen from
acknowledgements, with some room to find out whether the path carries more. The figures are those of npm ``capnweb``
0.12 (``streams.ts``), so that either end of a session behaves alike.
"""

from __future__ import annotations

from math import inf
from typing import Final

__all__ = ["INITIAL_BYTES", "MAX_BYTES", "MIN_BYTES", "Parcel", "Window"]

INITIAL_BYTES: Final = 256 * 1024
MIN_BYTES: Final = 64 * 1024
MAX_BYTES: Final = 1024 * 1024 * 1024

STARTUP_GROWTH: Final = 2.0
"""How far the window may grow in one round trip until the path seems full …"""

STEADY_GROWTH: Final = 1.25
"""… and from then on. A round without this much growth counts as one that found the path full."""

LEAST_SHRINK: Final = 0.9
"""How far the window may shrink in one round trip."""

STARTUP_ROUNDS: Final = 3
"""Rounds in a row that must find the path full before growth slows down."""


class Parcel:
    """One message under way, and what was known when it was sent.

    Attributes
    ----------
    size_bytes : int
        Its length.
    sent_at : float
        When it was sent, in seconds.
    window_bytes : float
        The window then.
    was_full : bool
        Whether the window was full with it: what comes of it says something about the path.
    delivered_bytes, delivered_at : float
        How much had been acknowledged by then, and when the last of it was; ``None``: nothing yet.
    """

    __slots__ = ("delivered_at", "delivered_bytes", "sent_at", "size_bytes", "was_full", "window_bytes")

    def __init__(self, size_bytes: int, sent_at: float, window: Window) -> None:
        self.size_bytes = size_bytes
        self.sent_at = sent_at
        self.window_bytes = window.size_bytes
        self.was_full = not window.has_room
        self.delivered_bytes = window.delivered_bytes
        self.delivered_at = window.delivered_at


class Window:
    """The window of one stream, at the side that writes.

    Attributes
    ----------
    size_bytes : float
        How much may be under way.
    in_flight_bytes : int
        How much is.
    delivered_bytes : int
        How much was acknowledged, ever.
    delivered_at : float or None
        When the last of it was.
    is_starting : bool
        Whether the window still doubles.
    """

    __slots__ = (
        "_best_trip",
        "_first",
        "_full_rounds",
        "_round_size",
        "_round_start",
        "delivered_at",
        "delivered_bytes",
        "in_flight_bytes",
        "is_starting",
        "size_bytes",
    )

    def __init__(self) -> None:
        self.size_bytes: float = INITIAL_BYTES
        self.in_flight_bytes = 0
        self.delivered_bytes = 0
        self.delivered_at: float | None = None
        self.is_starting = True
        # When the first acknowledgement came, and what had been delivered with it: nothing can be measured before.
        self._first: tuple[float, int] | None = None
        self._best_trip = inf
        self._round_start = -inf
        self._round_size = 0.0
        self._full_rounds = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be sent."""
        return self.in_flight_bytes < self.size_bytes

    def sent(self, size_bytes: int, now: float) -> Parcel:
        """Count a message that was sent at `now`."""
        self.in_flight_bytes += size_bytes
        return Parcel(size_bytes, now, self)

    def failed(self, parcel: Parcel) -> None:
        """Take a message back that was refused, or whose answer will never come. Says nothing about the path."""
        self.in_flight_bytes -= parcel.size_bytes

    def acknowledged(self, parcel: Parcel, now: float) -> None:
        """Learn from an acknowledgement."""
        self.in_flight_bytes -= parcel.size_bytes
        self.delivered_bytes += parcel.size_bytes
        self.delivered_at = now
        self._best_trip = min(self._best_trip, now - parcel.sent_at)
        if self._first is None:
            self._first = now, self.delivered_bytes
            return
        self.size_bytes = self._estimate(parcel, self._measure(parcel, now, self._first))
        if self.is_starting and parcel.sent_at >= self._round_start:
            self._end_round(now)

    def _measure(self, parcel: Parcel, now: float, first: tuple[float, int]) -> float:
        """Return bytes per second between the moment before `parcel` was sent and now."""
        since, before = first if parcel.delivered_at is None else (parcel.delivered_at, parcel.delivered_bytes)
        return (self.delivered_bytes - before) / (now - since) if now > since else inf

    def _estimate(self, parcel: Parcel, bytes_per_second: float) -> float:
        growth = STARTUP_GROWTH if self.is_starting else STEADY_GROWTH
        # With no time gone at all nothing was measured; the collar alone says how far it may go.
        carried = bytes_per_second * self._best_trip * growth if bytes_per_second < inf else inf
        size = min(carried, parcel.window_bytes * growth)
        # A writer that had less to send than it might have has learned nothing of what the path carries.
        size = max(size, parcel.window_bytes * LEAST_SHRINK if parcel.was_full else self.size_bytes)
        return min(max(size, MIN_BYTES), MAX_BYTES)

    def _end_round(self, now: float) -> None:
        if self.size_bytes > self._round_size * STEADY_GROWTH:
            self._full_rounds = 0
        else:
            self._full_rounds += 1
            self.is_starting = self._full_rounds < STARTUP_ROUNDS
        self._round_start = now
        self._round_size = self.size_bytes
