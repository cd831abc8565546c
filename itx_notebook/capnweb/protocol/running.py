"""Running a recorded function over a value that lives here.

An id space of its own for each element: captures are negative, the element is 0, and each instruction's result takes
the next positive number; the last one is the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itx_notebook.capnweb.protocol.errors import RpcError, RpcProtocolError, forget_frames
from itx_notebook.capnweb.protocol.evaluate import Evaluator
from itx_notebook.capnweb.protocol.held import RESULT_BYTES, Charge
from itx_notebook.capnweb.protocol.hooks import ErrorHook, Hook, Location, MapFunction, Payload, Proxy, Reader, Runtime
from itx_notebook.capnweb.protocol.payload import deliver_payload, own_payload
from itx_notebook.capnweb.protocol.pending import PendingHook
from itx_notebook.capnweb.protocol.pipes import Readable, Writable
from itx_notebook.capnweb.protocol.values import UNDEFINED

__all__ = ["run_map"]

Hold = Callable[[Payload], Hook]
"""Makes the hook of a value."""


def run_map(hook: Hook, function: MapFunction, runtime: Runtime, hold: Hold) -> Hook:
    """Run `function` over the value of `hook`, both owned: over each element of a list, over nothing for ``None``."""
    result = PendingHook(runtime)
    hook.pull(_Mapping(hook, function, runtime, hold, result))
    return result.unwrap()


class _Mapping(Reader):
    """Waits for the value to be mapped."""

    __slots__ = ("function", "hold", "hook", "result", "runtime")

    def __init__(self, hook: Hook, function: MapFunction, runtime: Runtime, hold: Hold, result: PendingHook) -> None:
        self.hook = hook
        self.hold = hold
        self.function = function
        self.runtime = runtime
        self.result = result

    def resolve(self, payload: Payload) -> None:
        value = payload.value
        if isinstance(value, Proxy) and value._is_promise:
            # The value is known by way of another promise: what that brings is what is mapped.
            part = Payload(value, self.runtime)
            own_payload(part)
            deliver_payload(part, lambda error: self.resolve(part) if error is None else self.reject(error))
            return
        try:
            mapped = self._map(value)
        except Exception as error:  # whatever it is, it is the answer to this call alone
            self._finish(ErrorHook(forget_frames(error)))
        else:
            self._finish(self.hold(mapped))

    def _map(self, value: Any) -> Payload:
        if value is None or value is UNDEFINED:
            return Payload(value, self.runtime, owned=True)
        outputs = _Outputs(self.runtime, self.function.cost * RESULT_BYTES)
        try:
            if isinstance(value, (list, tuple)):
                items: list[Any] = [None] * len(value)
                for index in range(len(value)):
                    outputs.count()
                    outputs.put(self._run(self.hook.get((index,))), items, index)
                return outputs.payload(items)
            return self._run(self.hook.dup())
        except BaseException:
            outputs.payload(None).dispose()
            raise

    def _run(self, element: Hook) -> Payload:
        """Run the instructions on one element, which is owned; return what the last one gave."""
        function = self.function
        scope = _RunScope(function, element, self.runtime)
        try:
            function.budget.spend(function.cost)
            instructions = function.instructions
            if not instructions:
                raise RpcError("Invalid empty mapper function.")
            last = len(instructions) - 1
            for instruction in instructions[:last]:
                payload = Evaluator(scope).evaluate(instruction)
                value = payload.value
                is_reference = isinstance(value, Proxy) and not value._path
                scope.results.append(value._hook if is_reference else self.hold(payload))
            return Evaluator(scope).evaluate(instructions[last])
        except RpcProtocolError as error:
            # Inside a map a bad instruction is the fault of this call alone.
            raise RpcError(error.message) from None
        finally:
            element.dispose()
            for hook in scope.results:
                hook.dispose()

    def reject(self, error: Exception) -> None:
        self._finish(ErrorHook(error))

    def _finish(self, hook: Hook) -> None:
        self.function.dispose()
        self.hook.dispose()
        self.result.resolve(hook)


class _Outputs:
    """Joins the payloads of a list's elements into one, each of which counts `size_bytes`."""

    __slots__ = ("_charge", "_size_bytes", "promises", "runtime", "stubs")

    def __init__(self, runtime: Runtime, size_bytes: int) -> None:
        self._charge = Charge(runtime.held, 0)
        self._size_bytes = size_bytes
        self.runtime = runtime
        self.stubs: list[Proxy] = []
        self.promises: list[Location] = []

    def put(self, payload: Payload, items: list[Any], index: int) -> None:
        items[index] = payload.value
        self.stubs += payload.stubs or ()
        for container, key, promise in payload.promises or ():
            self.promises.append((items, index, promise) if container is None else (container, key, promise))

    def count(self) -> None:
        """Count the next one; raise ``ValueError`` if that is more than may be held."""
        self._charge.grow(self._size_bytes)

    def payload(self, value: Any) -> Payload:
        payload = Payload(value, self.runtime, stubs=self.stubs, promises=self.promises, owned=True)
        payload.charges = [self._charge]
        return payload


class _RunScope:
    """The id space of one run."""

    __slots__ = ("_element", "_function", "keeps_undefined", "limits", "results", "runtime")

    def __init__(self, function: MapFunction, element: Hook, runtime: Runtime) -> None:
        self._function = function
        self._element = element
        self.runtime = runtime
        self.limits = function.limits
        self.keeps_undefined = True
        self.results: list[Hook] = []

    def find(self, export_id: int) -> Hook:
        if export_id == 0:
            return self._element
        known = self.results if export_id > 0 else self._function.captures
        if abs(export_id) > len(known):
            raise RpcError(f"A map's instruction refers to {export_id}, which is not there yet.")
        return known[abs(export_id) - 1]

    def introduce(self, import_id: int, *, is_promise: bool) -> Hook:
        raise RpcError("A mapper function cannot refer to exports.")

    def take_readable(self, pipe_id: int) -> Readable:
        raise RpcError("A mapper function cannot refer to pipes.")

    def introduce_writable(self, import_id: int) -> Writable:
        raise RpcError("A mapper function cannot refer to exports.")

    def collect_blob(self, type_: str, readable: Readable) -> Hook:
        raise RpcError("A mapper function cannot refer to pipes.")

    def make_map(self, captures: list[Hook], instructions: list[Any]) -> MapFunction:
        return MapFunction(captures, instructions, self._function.budget, self.limits)
