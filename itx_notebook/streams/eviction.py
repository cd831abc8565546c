"""Which folded states stay in memory: those loaded last, and those somebody is connected to.

A store may hold more streams than a process should keep. An actor itself is small and stays (that this process woke the
stream must not be forgotten); its state is a fold, and is read again when it is asked for: from the checkpoint and at
most a few hundred events after it. Apart from the engine, because it is policy.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["LoadedStates"]

_MOST: Final = 4_096
"""States kept. At 1 to 2 KB each that is less than what an import of pandas takes."""
_LOOKED_AT: Final = 8
"""Streams looked at in search of one to evict, so that a load costs the same however many have connections."""


class Evictable(Protocol):
    """What is asked of a stream."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected to it."""
        ...

    def evict(self) -> None:
        """Let go of the state alone; the next to ask for it reads it again."""
        ...


class LoadedStates:
    """The streams whose state is in memory, in order of loading.

    Not in order of use, which each append would have to note: a busy stream is evicted once in some thousand loads of
    others, and comes back at its next append for less than a millisecond.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._streams: dict[Evictable, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def note(self, stream: Evictable) -> None:
        """Take notice that a state was loaded, and let go of older ones beyond the limit."""
        self._streams.pop(stream, None)
        self._streams[stream] = None
        for _ in range(_LOOKED_AT):
            if len(self._streams) <= self._most:
                break
            oldest = next(iter(self._streams))
            del self._streams[oldest]
            if oldest.is_idle and oldest is not stream:
                oldest.evict()
            else:
                self._streams[oldest] = None
