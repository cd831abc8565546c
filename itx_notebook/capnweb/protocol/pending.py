"""A result that is not there yet, and a call that nobody stands behind to hear it raise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcDisposed, RpcError
from itx_notebook.capnweb.protocol.hooks import (
    ErrorHook,
    Hook,
    MapFunction,
    Path,
    Payload,
    Registration,
    Runtime,
    Waiter,
)
from itx_notebook.capnweb.protocol.payload import own_payload

__all__ = ["CANCELLED", "PendingHook", "call_hook", "map_hook"]

CANCELLED: Final = "RPC was canceled because the RpcPromise was disposed."


class PendingHook(Hook):
    """A result that is not there yet: operations queue, and are delivered in order before anybody hears the value."""

    __slots__ = ("_charge", "_disposed", "_hook", "_outcome", "_queue", "_source", "_waiters", "runtime")

    def __init__(self, runtime: Runtime, source: PendingHook | None = None) -> None:
        self.runtime = runtime
        # The result out of which this one will come, if that is known.
        self._source = source
        self._hook: Hook | None = None
        # What it has turned out to be, while those who queue are served.
        self._outcome: Hook | None = None
        self._queue: deque[Callable[[Hook], None]] = deque()
        self._waiters: list[Waiter] = []
        self._disposed = False
        # What is queued somewhere in order to become this: a call, a path, a map.
        self._charge = runtime.charge
        runtime.pending += 1

    @property
    def is_pending(self) -> bool:
        """Whether the result is still to come."""
        return self._hook is None

    def resolve(self, hook: Hook) -> None:
        """Become `hook`. Only the first time counts."""
        if self._outcome is not None:
            hook.settle()
            hook.dispose()
            return
        self.runtime.pending -= 1
        if self._is_awaited_by(hook):
            hook.dispose()
            hook = ErrorHook(RpcError("A promise cannot resolve to itself."))
        self._outcome = hook
        self._source = None
        resolving = self.runtime.resolving
        resolving.append(self._serve_next)
        if len(resolving) > 1:
            # A result of a result: who resolves the first goes on with it. A chain of them is as long as a peer likes,
            # and Python's stack is not.
            return
        try:
            while resolving:
                resolving[-1]()
        finally:
            resolving.clear()

    def _is_awaited_by(self, hook: Hook) -> bool:
        """Whether `hook` is this result, or one that will come of it."""
        source: Hook | None = hook.follow()
        while isinstance(source, PendingHook):
            if source is self:
                return True
            source = source._source
        return False

    def _serve_next(self) -> None:
        """Deliver the call that is next, or, after the last, tell the outcome to those who wait."""
        hook = self._outcome
        assert hook is not None  # noqa: S101  # resolved
        if self._queue:
            # What a delivered call asks of this same hook queues behind what was asked before.
            self._queue.popleft()(hook)
            return
        self.runtime.resolving.pop()
        self._hook = hook
        self._charge = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            hook.pull(waiter)
        if self._disposed:
            # Nobody will take the targets in it, which want their disposers run all the same.
            hook.settle()
            hook.dispose()
        elif not waiters:
            hook.settle()

    def reject(self, error: Exception) -> None:
        """Become a failure."""
        self.resolve(ErrorHook(error))

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        return self.call(path, Payload(values, self.runtime)) if self._hook is None else self._hook.invoke(path, values)

    def call(self, path: Path, args: Payload) -> Hook:
        if self._hook is not None:
            return self._hook.call(path, args)
        if self._disposed:
            args.dispose()
            return ErrorHook(RpcDisposed())
        own_payload(args, for_call=True)
        result = PendingHook(self.runtime, self)
        self._queue.append(lambda hook: result.resolve(call_hook(hook, path, args)))
        return result

    def get(self, path: Path) -> Hook:
        if self._hook is not None:
            return self._hook.get(path)
        if self._disposed:
            return ErrorHook(RpcDisposed())
        result = PendingHook(self.runtime, self)
        self._queue.append(lambda hook: result.resolve(hook.get(path)))
        return result

    def map(self, path: Path, function: MapFunction) -> Hook:
        if self._hook is not None:
            return self._hook.map(path, function)
        if self._disposed:
            function.dispose()
            return ErrorHook(RpcDisposed())
        result = PendingHook(self.runtime, self)
        self._queue.append(lambda hook: result.resolve(map_hook(hook, path, function)))
        return result

    def pull(self, waiter: Waiter) -> None:
        if self._hook is not None:
            self._hook.pull(waiter)
        elif self._disposed:
            waiter.reject(RpcDisposed(CANCELLED))
        else:
            self._waiters.append(waiter)

    def dup(self) -> Hook:
        if self._hook is not None:
            return self._hook.dup()
        if self._disposed:
            return ErrorHook(RpcDisposed())
        copy = PendingHook(self.runtime, self)
        self._queue.append(lambda hook: copy.resolve(hook.dup()))
        return copy

    def dispose(self) -> None:
        if self._disposed:
            return
        self._disposed = True
        if self._hook is not None:
            self._hook.dispose()
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.reject(RpcDisposed(CANCELLED))

    def on_broken(self, registration: Registration) -> None:
        if self._hook is not None:
            self._hook.on_broken(registration)
        else:
            self._queue.append(lambda hook: hook.on_broken(registration))

    def settle(self) -> None:
        if self._hook is not None:
            self._hook.settle()

    def unwrap(self) -> Hook:
        return self if self._hook is None else self._hook.unwrap()


def call_hook(hook: Hook, path: Sequence[str | int], args: Payload) -> Hook:
    """Call `hook`, and return a value that cannot be sent as a failure too: there is no call site left to raise at."""
    try:
        return hook.call(tuple(path), args)
    except Exception as error:  # an encoder of the application's may raise anything
        args.dispose()
        return ErrorHook(error)


def map_hook(hook: Hook, path: Sequence[str | int], function: MapFunction) -> Hook:
    """Map over `hook`, and return it as a failure if the function cannot be sent on."""
    try:
        return hook.map(tuple(path), function)
    except Exception as error:  # as above
        function.dispose()
        return ErrorHook(error)
