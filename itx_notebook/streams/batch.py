"""What a subscriber is given at once, and what is worked out of it for everybody who is given the same.

One commit makes one batch for all subscribers that keep up, so whatever a door needs of it (the public projection, its
bytes on a wire) is made once however many they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from itx_notebook.streams.core import CoreState, get_public_state
from itx_notebook.types import StreamEvent, StreamEventBatch

__all__ = ["EventBatch"]

T = TypeVar("T")


class EventBatch:
    """One delivery, with the state of the moment it was made. Shared between subscribers: to be read only.

    Attributes
    ----------
    namespace, path : str
        The stream.
    events : tuple of StreamEvent
        In order; empty in the first batch of a live subscription, in state-only mode, and for a subscriber that asked
        to be told of events its filter skips.
    state : CoreState
        The whole reduced state. ``state.max_offset == stream_max_offset``; while catching up both are ahead of
        ``events[-1]``.
    scanned_through : int
        The offset up to which the subscriber has now been served, filtered events included.
    """

    __slots__ = ("_made", "_public", "events", "namespace", "path", "scanned_through", "state")

    def __init__(
        self, namespace: str, path: str, events: Sequence[StreamEvent], state: CoreState, *, scanned_through: int
    ) -> None:
        self.namespace = namespace
        self.path = path
        self.events = tuple(events)
        self.state = state
        self.scanned_through = scanned_through
        self._public: StreamEventBatch | None = None
        self._made: dict[Callable[[EventBatch], Any], Any] | None = None

    @property
    def stream_max_offset(self) -> int:
        """The highest offset when the batch was made."""
        return self.state.max_offset

    @property
    def public(self) -> StreamEventBatch:
        """The batch as handles see it: with the public state. Made once."""
        if self._public is None:
            state = get_public_state(self.state, namespace=self.namespace, path=self.path)
            self._public = StreamEventBatch(events=self.events, state=state, stream_max_offset=self.state.max_offset)
        return self._public

    def share(self, make: Callable[[EventBatch], T]) -> T:
        """``make(batch)``, called once for all subscribers that share this batch, whoever asks first."""
        made = self._made
        if made is None:
            made = self._made = {}
        if make not in made:
            made[make] = make(self)
        return cast("T", made[make])
