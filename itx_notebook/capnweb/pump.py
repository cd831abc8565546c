"""Pushing many items to one callback: few calls under way, and lists of what came meanwhile.

A call for each item costs some thirty times as much as an item in a list of a hundred. So items wait for the end of the
loop's turn, and for an acknowledgement when enough calls are out; a slow reader gets longer lists, not more calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.hooks import Payload
from itx_notebook.capnweb.stub import RpcStub, find_runtime

__all__ = ["Pump"]

_WINDOW: Final = 64
"""Calls without an answer: what events were measured with, in lists of one, a hundred and a thousand."""

_MAX_BATCH: Final = 1000
"""Items in one call. Longer lists gain little and make the peer's loop wait."""

_MAX_WAITING: Final = 100_000


class Pump:
    """Sends items to a callback of the peer's, each call with a list of them, in order.

    ``send`` returns at once. What is sent in one turn of the loop goes out together; what is sent while `window` calls
    are unanswered goes out with the next answer. The first call that fails ends the pump. On the loop's thread.

    Parameters
    ----------
    stub : RpcStub
        The callback; it is called with one list. A reference of its own is kept until the pump is closed.
    window : int
        How many calls may be unanswered.
    max_batch : int
        How many items one call may carry.
    max_waiting : int
        How many items may wait to be sent; beyond it the pump fails, since the peer does not keep up.

    Attributes
    ----------
    error : Exception or None
        What ended the pump.
    waiting : int
        How many items have not been sent.
    in_flight : int
        How many calls are unanswered.
    """

    def __init__(
        self,
        stub: RpcStub,
        window: int = _WINDOW,
        *,
        max_batch: int = _MAX_BATCH,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        for name, value in (("window", window), ("max_batch", max_batch), ("max_waiting", max_waiting)):
            if value < 1:
                raise ValueError(f"{name} is {value!r}; it is a positive number.")
        self.error: Exception | None = None
        self.in_flight = 0
        # Not `stub.dup()`: a method taken off its object would be called without it.
        self._hook = stub._hook.dup()
        self._path = stub._path
        self._runtime = find_runtime(stub._hook)
        self._window = window
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._items: deque[Any] = deque()
        self._is_flush_planned = False
        self._is_closed = False
        self._changed: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many items have not been sent."""
        return len(self._items)

    def send(self, item: Any) -> None:
        """Send an item soon.

        Raises
        ------
        RpcError
            The pump is closed, or too many items wait; else what ended it.
        """
        self._check_open()
        if len(self._items) >= self._max_waiting:
            self._fail(RpcError(f"The peer does not keep up: {len(self._items)} items wait to be sent to it."))
            self._check_open()
        self._items.append(item)
        if not self._is_flush_planned and self.in_flight < self._window:
            self._is_flush_planned = True
            self._runtime.loop.call_soon(self._flush_planned)

    async def drain(self) -> None:
        """Wait until every item was sent and every call answered. Raises what ended the pump. Cancelling is safe."""
        while self.error is None and (self._items or self.in_flight):
            if self._changed is None:
                self._changed = self._runtime.loop.create_future()
            await asyncio.shield(self._changed)
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        """Send what waits, hear all answers, and let go of the callback. Raises what ended the pump."""
        self._is_closed = True
        try:
            await self.drain()
        finally:
            self._let_go()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            self._is_closed = True
            self._let_go()

    def resolve(self, payload: Payload) -> None:
        """Hear an answer."""
        self.in_flight -= 1
        self._flush()
        self._tell()

    def reject(self, error: Exception) -> None:
        """Hear that a call failed."""
        self.in_flight -= 1
        self._fail(error)

    def _flush_planned(self) -> None:
        self._is_flush_planned = False
        self._flush()

    def _flush(self) -> None:
        items = self._items
        while items and self.in_flight < self._window and self.error is None:
            batch = list(islice(items, self._max_batch))
            for _ in batch:
                items.popleft()
            self.in_flight += 1
            try:
                self._hook.stream(self._path, Payload([batch], self._runtime), self)
            except (TypeError, ValueError, RpcError) as error:
                self.reject(error)

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._let_go()
        self._tell()

    def _let_go(self) -> None:
        self._items.clear()
        self._hook.dispose()

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)

    def _check_open(self) -> None:
        if self.error is not None:
            raise self.error
        if self._is_closed:
            raise RpcError("The pump is closed.")
