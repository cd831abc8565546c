"""What is committed together: drafts of the streams that change, and whom to tell of it.

Apart from the committer, which says when and on which thread: here stands what a group is, and how it is planned. It is
planned as if its idempotency keys were new, since nearly all are: the index refuses one that is taken, and only then is
the group planned again with each key looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from msgspec import UNSET

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError, as_itx_error
from itx_notebook.streams.core import CoreState
from itx_notebook.streams.plan import Plan, plan_append
from itx_notebook.streams.storage import Row, Snapshot, StreamWrite
from itx_notebook.types import Event, StreamEvent

__all__ = ["Actor", "Draft", "Group", "Request", "S"]


class Actor(Protocol):
    """What a commit asks of a stream."""

    @property
    def path(self) -> str:
        """The canonical path."""
        ...

    @property
    def is_awake(self) -> bool:
        """Whether this process's incarnation has been recorded."""
        ...

    def load(self) -> CoreState:
        """The state of this moment."""
        ...

    def get_boot_events(self, state: CoreState) -> list[Event]:
        """What waking commits."""
        ...

    def try_find(self, key: str) -> StreamEvent | None:
        """The stored event under an idempotency key."""
        ...

    def get_write(self, draft: Draft[Any]) -> StreamWrite:
        """The storage's part of a draft."""
        ...


S = TypeVar("S", bound=Actor)


class Draft(Generic[S]):
    """What the group under way adds to one stream; becomes the truth only after the commit."""

    def __init__(self, stream: S, *, looks_keys_up: bool) -> None:
        self.stream = stream
        self.state = stream.load()
        self._looks_keys_up = looks_keys_up
        self.committed: list[StreamEvent] = []
        self.rows: list[Row] = []
        self.wakes = False
        self._keys: dict[str, StreamEvent] = {}

    def add(self, events: Sequence[Event], *, wake: bool, clock: Clock) -> list[StreamEvent]:
        """Take one request in, or raise and stay as it was. Returns the request's answer."""
        path = self.stream.path
        state = self.state
        boot: Plan | None = None
        if not (self.wakes or self.stream.is_awake):
            boot = plan_append(
                state, self.stream.get_boot_events(state), stream_path=path, try_find=self._try_find, clock=clock
            )
            state = boot.state
        plan = plan_append(state, events, stream_path=path, try_find=self._try_find, clock=clock)
        # Repeats alone commit nothing, and so do not wake the stream either.
        if plan.committed or wake:
            if boot is not None:
                self.wakes = True
                self._take(boot)
            self._take(plan)
        return plan.results

    def _take(self, plan: Plan) -> None:
        self.state = plan.state
        self.committed += plan.committed
        self.rows += plan.rows
        self._keys.update(plan.keys)

    def _try_find(self, key: str) -> StreamEvent | None:
        known = self._keys.get(key)
        return self.stream.try_find(key) if known is None and self._looks_keys_up else known


class Request(Generic[S]):
    """One all-or-nothing append that waits."""

    __slots__ = ("events", "future", "stream", "wake")

    def __init__(
        self, stream: S, events: Sequence[Event], future: asyncio.Future[list[StreamEvent]], *, wake: bool
    ) -> None:
        self.stream = stream
        self.events = events
        self.wake = wake
        self.future = future

    def answer(self, results: list[StreamEvent]) -> None:
        """Tell it what was committed, unless it has gone."""
        if not self.future.done():
            self.future.set_result(results)

    def refuse(self, error: ItxError) -> None:
        """Tell it why nothing was, unless it has gone."""
        if not self.future.done():
            self.future.set_exception(error)


class Group(Generic[S]):
    """Who shares one transaction, what they are to be told, and how they were planned."""

    __slots__ = ("_answers", "_requests", "_snapshots", "drafts", "looks_keys_up")

    def __init__(
        self,
        requests: list[Request[S]],
        snapshots: list[tuple[Snapshot, asyncio.Future[None]]],
    ) -> None:
        self._requests = requests
        self._snapshots = snapshots
        self._answers: list[tuple[Request[S], list[StreamEvent]]] = []
        self.drafts: list[Draft[S]] = []
        self.looks_keys_up = False

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots to be stored."""
        return [snapshot for snapshot, _ in self._snapshots]

    def plan(self, clock: Clock) -> None:
        """Decide on every request; those that are refused are told."""
        if not self._try_plan(clock):
            self.plan_again(clock)

    def plan_again(self, clock: Clock) -> None:
        """Decide anew, and look every key up."""
        self.looks_keys_up = True
        self._try_plan(clock)

    def _try_plan(self, clock: Clock) -> bool:
        """``False`` if one would be refused that perhaps need not be, if some key so far is taken after all."""
        drafts: dict[S, Draft[S]] = {}
        self._answers = []
        for request in self._requests:
            if request.future.done():
                continue
            try:
                draft = drafts.get(request.stream)
                if draft is None:
                    draft = drafts[request.stream] = Draft(request.stream, looks_keys_up=self.looks_keys_up)
                self._answers.append((request, draft.add(request.events, wake=request.wake, clock=clock)))
            except Exception as error:
                if self._trusts_a_key(request):
                    return False
                request.refuse(as_itx_error(error))
        self.drafts = [draft for draft in drafts.values() if draft.rows]
        return True

    def _trusts_a_key(self, last: Request[S]) -> bool:
        """Whether `last`, or a request before it, has a key that was not looked up."""
        if self.looks_keys_up:
            return False
        until = self._requests.index(last) + 1
        return any(event.idempotency_key is not UNSET for each in self._requests[:until] for event in each.events)

    def settle(self) -> None:
        """Tell all that it is done."""
        for request, results in self._answers:
            request.answer(results)
        for _, future in self._snapshots:
            if not future.done():
                future.set_result(None)

    def refuse(self, error: ItxError) -> None:
        """Tell all that it is not."""
        for request, _ in self._answers:
            request.refuse(error)
        for _, future in self._snapshots:
            if not future.done():
                future.set_exception(error)
