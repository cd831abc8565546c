"""Recording a function for ``map``: it is called once, with a placeholder, and what it does with it is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.hooks import (
    ErrorHook,
    Hook,
    MapFunction,
    Path,
    Payload,
    Proxy,
    Registration,
    Runtime,
    Waiter,
)
from itx_notebook.capnweb.protocol.limits import Budget, Limits
from itx_notebook.capnweb.protocol.pipes import Readable, Writable
from itx_notebook.capnweb.protocol.serialize import Encoder, ErrorFilter, Serializer

__all__ = ["Recorder", "record_map"]

_NO_CALLBACK: Final = "A mapper function cannot create callbacks or pass objects: it runs at the other end."


class Recorder:
    """The id space in which a function is recorded. While active, calls on this thread are written down, not made."""

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._thread_id = threading.get_ident()
        self._capture_ids: dict[int, int] = {}
        self._sources: list[Hook] = []
        self.runtime = runtime
        self.limits = limits
        self.encoders: Mapping[type, Encoder] = {}
        self.sends_urls = False
        self.on_send_error: ErrorFilter | None = None
        self.captures: list[Hook] = []
        self.instructions: list[Any] = []
        self.is_open = True

    def add(self, instruction: Any) -> Hook:
        """Write an instruction down, and return what stands for its result."""
        if not self.is_open:
            return ErrorHook(RpcError("A placeholder was used after its mapper function returned."))
        self.instructions.append(instruction)
        return _Placeholder(self, len(self.instructions))

    @property
    def is_here(self) -> bool:
        """Whether the function being recorded is the one that asks."""
        return threading.get_ident() == self._thread_id

    def call(self, hook: Hook, path: Path, values: list[Any]) -> Hook:
        """Write a call down. What it is made on is captured, unless it came out of the function itself."""
        encoded = Serializer(self, for_call=True).encode_all(values)
        return self.add(["pipeline", self.refer(hook), list(path), list(encoded)])

    def map(self, hook: Hook, path: Path, function: MapFunction) -> Hook:
        """Write a nested map down."""
        captures = [["import", self.refer(capture)] for capture in function.captures]
        instructions = function.instructions
        function.dispose()
        return self.add(["remap", self.refer(hook), list(path), captures, instructions])

    def refer(self, hook: Hook) -> int:
        """Return the id of `hook`: an earlier result of this function, or a capture."""
        source = hook.unwrap()
        if isinstance(source, _Placeholder) and source.recorder is self:
            return source.id
        known = self._capture_ids.get(id(source))
        if known is None:
            # The captured reference keeps nothing else at this address while the recording lasts: it is held here too.
            self._sources.append(source)
            self.captures.append(source.dup())
            known = self._capture_ids[id(source)] = -len(self.captures)
        return known

    def encode_proxy(self, proxy: Proxy, serializer: Serializer) -> Any:
        """Return the expression of a stub, a promise or an earlier result."""
        id_ = self.refer(proxy._hook)
        if proxy._path:
            return ["pipeline", id_, list(proxy._path)]
        return ["pipeline" if proxy._is_promise else "import", id_]

    def encode_target(self, target: Any, serializer: Serializer) -> Any:
        """Refuse: it would be called here, and the function runs elsewhere."""
        raise TypeError(_NO_CALLBACK)

    def encode_readable(self, readable: Readable, serializer: Serializer) -> Any:
        """Refuse: it would be called here, and the function runs elsewhere."""
        raise TypeError(_NO_CALLBACK)

    def encode_writable(self, writable: Writable, serializer: Serializer) -> Any:
        """Refuse: it would be called here, and the function runs elsewhere."""
        raise TypeError(_NO_CALLBACK)


class _Placeholder(Hook):
    """What the recorded function sees in place of a value."""

    __slots__ = ("id", "recorder")

    def __init__(self, recorder: Recorder, id_: int) -> None:
        self.recorder = recorder
        self.id = id_

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        return self.recorder.call(self, path, values)

    def call(self, path: Path, args: Payload) -> Hook:
        hook = self.recorder.call(self, path, args.value)
        args.dispose()
        return hook

    def get(self, path: Path) -> Hook:
        return self.recorder.add(["pipeline", self.id, list(path)]) if path else self

    def map(self, path: Path, function: MapFunction) -> Hook:
        return self.recorder.map(self, path, function)

    def pull(self, waiter: Waiter) -> None:
        waiter.reject(RpcError("A placeholder cannot be awaited: the mapper function runs at the other end."))

    def dup(self) -> Hook:
        return self

    def dispose(self) -> None:
        """Nothing is held here."""

    def on_broken(self, registration: Registration) -> None:
        registration.unregister()


active: Recorder | None = None
"""The recorder of the mapper function that is being called, if one is."""


def record_map(function: Callable[[Any], Any], runtime: Runtime, limits: Limits) -> MapFunction:
    """Record `function` by calling it once with a placeholder.

    Raises
    ------
    TypeError
        It returned an awaitable, or tried to pass a callback or an object.
    """
    global active
    recorder = Recorder(runtime, limits)
    outer, active = active, recorder
    placeholder = runtime.promise_type(_Placeholder(recorder, 0))
    try:
        result = function(placeholder)
        if hasattr(result, "__await__") and not isinstance(result, Proxy):
            if hasattr(result, "close"):
                result.close()
            raise TypeError("A mapper function cannot be a coroutine function: it is recorded, and runs elsewhere.")
        recorder.instructions.append(Serializer(recorder).encode_root(result))
    except BaseException:
        for hook in recorder.captures:
            hook.dispose()
        raise
    finally:
        recorder.is_open = False
        active = outer
    return MapFunction(recorder.captures, recorder.instructions, Budget(limits.max_map_calls), limits)
