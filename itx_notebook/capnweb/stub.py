"""Calling out: what an application holds of things that live elsewhere.

A stub's public names all belong to the peer, except `dup` and `map`; what else can be done to one is a function of
this module. Nothing here does I/O by being looked at: an attribute is a promise that has asked for nothing yet, and
only ``await`` asks.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Final, Self

from itx_notebook.capnweb.protocol import recording
from itx_notebook.capnweb.protocol.hooks import ErrorHook, Hook, Payload, Proxy, Registration
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.payload import CALLABLES
from itx_notebook.capnweb.protocol.pending import PendingHook
from itx_notebook.capnweb.protocol.pipes import Readable, Writable
from itx_notebook.capnweb.protocol.tables import ImportHook
from itx_notebook.capnweb.protocol.targets import RpcTarget
from itx_notebook.capnweb.protocol.values import Request, Response
from itx_notebook.capnweb.results import Result, check_loop
from itx_notebook.capnweb.runtime import AsyncioRuntime, get_runtime

__all__ = ["RpcPromise", "RpcStub", "dispose", "on_broken", "stub"]

_LIMITS: Final = Limits()


class RpcStub(Proxy):
    """A reference to an object at the peer, or to a local one behind the same interface.

    ``stub.method(1, 2)`` calls and returns an :class:`RpcPromise` at once; ``stub.property`` is a promise of the
    property; ``stub["any name"]`` and ``stub[0]`` reach what is no Python name, and elements of lists. Names that
    start with an underscore are never the peer's. ``with stub:`` disposes it at the end; so does the garbage
    collector, a little later. Must be used on the thread of its session's loop.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> RpcPromise:
        if name[:1] == "_":
            # IPython, pandas, copy and pickle all probe for names like this. No peer is asked for one.
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; use stub[{name!r}] to ask the peer")
        return RpcPromise(self._hook, (*self._path, name))

    def __getitem__(self, key: str | int) -> RpcPromise:
        if type(key) is not str and (type(key) is not int or key < 0):
            raise TypeError(f"{key!r} is neither a member's name nor an index from 0 on.")
        return RpcPromise(self._hook, (*self._path, key))

    def __call__(self, *args: Any, **kwargs: Any) -> RpcPromise:
        """Call the peer, and return the promise of the result at once; nothing is asked for yet."""
        if kwargs:
            raise TypeError(
                f"Cap'n Web has no keyword arguments: pass {', '.join(kwargs)} by position, or as one dict."
            )
        recorder = recording.active
        if recorder is not None and recorder.is_here:
            return RpcPromise(recorder.call(self._hook, self._path, list(args)))
        hook = self._hook.invoke(self._path, list(args))
        # A local result must not change with what it was made of.
        hook.settle()
        return RpcPromise(hook)

    def dup(self) -> Self:
        """Return a further reference, to be disposed on its own. Sends nothing, except for a property's promise."""
        hook = self._hook.unwrap()
        return type(self)(hook.get(self._path) if self._path else hook.dup())

    def map(self, function: Callable[[Any], Any]) -> RpcPromise:
        """Run `function` at the other end, on each element of the list this leads to; return a promise of the list.

        The function is called once, here, with a placeholder: calls on it are recorded and run there. It may use stubs
        and promises from outside, but cannot await or pass callbacks. ``None`` maps to ``None``; anything else than
        a list is mapped once.

        Raises
        ------
        TypeError
            `function` is a coroutine function, or passes something that cannot be recorded.
        """
        runtime = find_runtime(self._hook)
        limits = _limits_of(self._hook)
        recorded = recording.record_map(function, runtime, limits)
        recorder = recording.active
        if recorder is not None and recorder.is_here:
            return RpcPromise(recorder.map(self._hook, self._path, recorded))
        return RpcPromise(self._hook.map(self._path, recorded))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        dispose(self)

    # An object that takes any index would be iterated, and searched, for ever.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __bool__(self) -> bool:
        return True

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"The peer's {name!r} cannot be set: Cap'n Web has calls and reads only.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"The peer's {name!r} cannot be deleted: Cap'n Web has calls and reads only.")

    def __dir__(self) -> list[str]:
        return ["dup", "map"]

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied: it is a reference in a live session.")

    def __repr__(self) -> str:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self._path)
        return f"<{type(self).__name__} {_describe(self._hook)}{path}>"


class RpcPromise(RpcStub):
    """The result of a call, or a property, that was not asked for yet. ``await`` asks.

    Calls and reads on it are sent at once, ahead of the result: ``await api.a(1).b(2)`` is one round trip. It may be
    passed as an argument likewise. ``with promise:`` disposes it at the end and never awaits; ``async with promise as
    value:`` awaits it and at the end disposes all references in the value. One that is dropped is given back by itself.
    """

    __slots__ = ()

    _is_promise = True

    def __await__(self) -> Generator[Any, None, Any]:
        future = Result()
        hook = self._hook
        check_loop(hook, future)
        if self._path:
            hook = hook.get(self._path)
        hook.pull(future)
        # The frame holds `hook`: when the awaiting task is cancelled, the last reference may go, and the call with it.
        return (yield from future)

    async def __aenter__(self) -> Any:
        if self._path:
            object.__setattr__(self, "_hook", self._hook.get(self._path))
            object.__setattr__(self, "_path", ())
        return await self

    async def __aexit__(self, *_: object) -> None:
        self._hook.dispose()


def stub(target: Any) -> RpcStub:
    """Wrap a local object as a stub: an ``RpcTarget``, a callable, or any value of the protocol.

    A target is disposed once for each time it is wrapped or passed; wrapped once and passed often, it is disposed
    once. Classes and instances with ``__call__`` are passed only like this.

    Raises
    ------
    RuntimeError
        No event loop is running in this thread.
    """
    runtime = get_runtime(RpcStub, RpcPromise)
    if isinstance(target, (RpcTarget, *CALLABLES)):
        return RpcStub(runtime.refer(target))
    if callable(target) and not isinstance(target, Proxy):
        return RpcStub(runtime.refer(functools.partial(target)))
    from itx_notebook.capnweb.protocol.local import ValueHook

    hook = ValueHook(Payload(target, runtime))
    hook.settle()
    return RpcStub(hook)


def dispose(value: Any) -> None:
    """Give back every reference in `value`: a stub, a promise, a stream, or lists, dicts and bodies of them.

    A stream is cancelled by it, wherever it stands. Repeating is harmless.
    """
    if isinstance(value, Proxy):
        if not value._path:
            value._hook.dispose()
    elif isinstance(value, dict):
        for item in value.values():
            dispose(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            dispose(item)
    elif isinstance(value, (Readable, Writable)):
        value.discard()
    elif isinstance(value, (Request, Response)):
        dispose(value.body)


def on_broken(stub: RpcStub, callback: Callable[[Exception], None]) -> Registration:
    """Call `callback` with the reason when what `stub` refers to cannot be reached any more; at once if it cannot.

    Returns
    -------
    Registration
        Its ``unregister()`` takes the callback back.
    """

    def call(error: Exception) -> None:
        try:
            callback(error)
        except Exception as failure:  # neither the other callbacks nor the end of a session may suffer from it
            context = {"message": f"{callback!r} failed, which waited for a stub to break", "exception": failure}
            asyncio.get_running_loop().call_exception_handler(context)

    registration = Registration(call)
    stub._hook.on_broken(registration)
    return registration


def find_runtime(hook: Hook) -> AsyncioRuntime:
    machine = hook.machine if isinstance(hook, ImportHook) else None
    if machine is not None and isinstance(machine.runtime, AsyncioRuntime):
        return machine.runtime
    return get_runtime(RpcStub, RpcPromise)


def _limits_of(hook: Hook) -> Limits:
    machine = hook.machine if isinstance(hook, ImportHook) else None
    return _LIMITS if machine is None else machine.limits


def _describe(hook: Hook) -> str:
    """Say what a hook is, without asking anybody."""
    if isinstance(hook, ImportHook):
        return hook.describe()
    if isinstance(hook, ErrorHook):
        return f"broken: {hook.error}"
    if isinstance(hook, PendingHook) and hook.is_pending:
        return "pending"
    return "local"
