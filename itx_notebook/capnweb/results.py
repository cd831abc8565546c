"""Waiting for results: what an ``await`` waits for, and how to ask without one, or for many at once.

Apart from stubs, whose names all belong to the peer.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Sequence
from typing import Any

from itx_notebook.capnweb.protocol.held import Meter
from itx_notebook.capnweb.protocol.hooks import Hook, Payload, Proxy, Runtime
from itx_notebook.capnweb.protocol.payload import Allowance, deliver_payload, own_payload
from itx_notebook.capnweb.protocol.pending import PendingHook
from itx_notebook.capnweb.protocol.tables import ImportHook
from itx_notebook.capnweb.runtime import AsyncioRuntime

__all__ = ["Result", "check_loop", "gather", "pull"]


class _Taker:
    """Takes over a hook's value, after those of the promises in it, and passes it on as to a future."""

    __slots__ = ()

    def done(self) -> bool:
        """Whether nobody wants the value any more."""
        raise NotImplementedError

    def set_result(self, result: Any) -> None:
        """Take the value."""
        raise NotImplementedError

    def set_exception(self, exception: type[BaseException] | BaseException) -> None:
        """Take the failure."""
        raise NotImplementedError

    def resolve(self, payload: Payload) -> None:
        if self.done():
            return
        if not payload.owned:
            try:
                own_payload(payload)
            except (TypeError, ValueError) as error:
                self.set_exception(error)
                return
        if payload.promises:
            # What is asked for here does not count as what the peer makes this side hold.
            deliver_payload(payload, functools.partial(self._delivered, payload), Allowance(Meter(sys.maxsize)))
        else:
            self.set_result(payload.value)

    def _delivered(self, payload: Payload, error: Exception | None) -> None:
        if error is not None:
            self.reject(error)
        elif not self.done():
            self.set_result(payload.value)

    def reject(self, error: Exception) -> None:
        if not self.done():
            self.set_exception(error)


class Result(asyncio.Future[Any], _Taker):
    """What an await waits for."""

    __slots__ = ()


class _Pulled(Result):
    """A result that keeps its call from being given back, until nobody wants it any more."""

    __slots__ = ("_hook",)

    _hook: Hook | None

    def hold(self, hook: Hook) -> None:
        self._hook = hook

    def set_result(self, result: Any) -> None:
        self._hook = None
        super().set_result(result)

    def set_exception(self, exception: type[BaseException] | BaseException) -> None:
        self._hook = None
        super().set_exception(exception)

    def cancel(self, msg: Any | None = None) -> bool:
        self._hook = None
        return super().cancel(msg)


def pull(promise: Proxy) -> asyncio.Future[Any]:
    """Ask for a promise's value now, and return the future of it: the first half of ``await``.

    Cancelling the future gives the call back, unless somebody else holds the promise. For the values of many
    promises :func:`gather` is quicker, and far quicker than asyncio's own, which makes a task of each.

    Raises
    ------
    RuntimeError
        No event loop is running in this thread, or it is not the promise's own.
    """
    future = _Pulled()
    hook = _find_hook(promise, future)
    future.hold(hook)
    hook.pull(future)
    return future


class _Gathering(asyncio.Future[None]):
    """Many values, how many are still to come, and whom to ask for them."""

    __slots__ = ("hooks", "left", "values")

    def __init__(self, promises: Sequence[Proxy]) -> None:
        super().__init__()
        self.values: list[Any] = [None] * len(promises)
        self.hooks: list[Hook] = [_find_hook(promise, self) for promise in promises]
        self.left = len(promises)

    def ask(self) -> None:
        for index, hook in enumerate(self.hooks):
            hook.pull(_Part(self, index))


class _Part(_Taker):
    """The place of one value among many."""

    __slots__ = ("_gathering", "_index")

    def __init__(self, gathering: _Gathering, index: int) -> None:
        self._gathering = gathering
        self._index = index

    def done(self) -> bool:
        return self._gathering.done()

    def set_result(self, result: Any) -> None:
        gathering = self._gathering
        gathering.values[self._index] = result
        gathering.left -= 1
        if gathering.left == 0:
            gathering.set_result(None)

    def set_exception(self, exception: type[BaseException] | BaseException) -> None:
        self._gathering.set_exception(exception)


async def gather(*promises: Proxy) -> list[Any]:
    """Ask for the values of many promises together, and return them in order.

    The first failure is raised at once. Then, and when this is cancelled, the calls not answered yet are given back,
    unless somebody else holds their promises. ``asyncio.gather`` takes promises too, at the price of a task for each.

    Raises
    ------
    RuntimeError
        A promise belongs to another event loop.
    """
    gathering = _Gathering(promises)
    # An exception's traceback would keep what the frame holds.
    del promises
    gathering.ask()
    try:
        if gathering.left:
            await gathering
    finally:
        gathering.hooks.clear()
    return gathering.values


def _find_hook(promise: Proxy, future: asyncio.Future[Any]) -> Hook:
    """What `promise` stands for, to be waited for on the loop of `future`."""
    hook = promise._hook
    check_loop(hook, future)
    return hook.get(promise._path) if promise._path else hook


def check_loop(hook: Hook, future: asyncio.Future[Any]) -> None:
    """Refuse to wait where the answer does not arrive: it is told on the hook's own loop."""
    runtime: Runtime | None = None
    if isinstance(hook, ImportHook):
        machine = hook.machine
        runtime = None if machine is None else machine.runtime
    elif isinstance(hook, PendingHook):
        runtime = hook.runtime
    if isinstance(runtime, AsyncioRuntime) and runtime.loop is not future.get_loop():
        raise RuntimeError(
            "This promise belongs to another event loop: await it there, for example by run_coroutine_threadsafe."
        )
