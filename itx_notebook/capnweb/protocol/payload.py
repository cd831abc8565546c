"""What is done to a payload: it is copied, so that it is its own; the values of its promises are put in their places.

Whatever an application passes or returns is duplicated, never taken: its own stubs stay its own.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import forget_frames
from itx_notebook.capnweb.protocol.held import LEAST_BYTES, REFERENCE_BYTES, Charge, Meter, weigh, weigh_container
from itx_notebook.capnweb.protocol.hooks import Hook, Location, Payload, Proxy, Reader, Runtime, Waiter
from itx_notebook.capnweb.protocol.targets import RpcTarget
from itx_notebook.capnweb.protocol.values import Prepared

__all__ = [
    "ATOMS",
    "CALLABLES",
    "Allowance",
    "deliver_payload",
    "hand_out",
    "is_light",
    "own_payload",
    "take_reference",
]

ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose values hold no references and never change."""

CALLABLES: Final = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    functools.partial,
)
"""What is passed by reference because it can be called. Classes and instances with ``__call__`` are not: wrap them."""

MAX_COPY_DEPTH: Final = 256
MAX_DELIVERED_ITEMS: Final = 1_000_000
MAX_DELIVERED_LEVELS: Final = 64
_ITEMS_OF_A_PROMISE: Final = 50
"""As many as are copied in about the time that the delivery of one promise takes."""
_TOO_DEEP: Final = "Serialization exceeded maximum allowed depth. (Does the message contain cycles?)"


def is_light(value: Any) -> bool:
    """Whether a value need be neither copied nor counted: it holds no references, never changes and is not long."""
    kind = type(value)
    return kind in ATOMS and ((kind is not str and kind is not bytes) or len(value) < LEAST_BYTES)


def own_payload(payload: Payload, *, for_call: bool = False, allowance: Allowance | None = None) -> None:
    """Copy containers and duplicate references, so that nothing outside can change or dispose them.

    Parameters
    ----------
    for_call : bool
        Whether this is a call's arguments: a target with a ``dup`` method is then duplicated by it.
    allowance : Allowance, optional
        What may still be copied.

    Raises
    ------
    TypeError
        The value holds something that cannot be passed on.
    ValueError
        It is nested too deep, or is more than may be copied, or held for the peer.
    """
    if payload.owned:
        return
    payload.owned = True
    if allowance is None and is_light(payload.value):
        return
    copier = _Copier(payload.runtime, for_call=for_call, allowance=allowance)
    try:
        copy = copier.copy(payload.value, None, None, 0)
        if allowance is not None:
            allowance.charge.grow(copier.size_bytes)
        elif copier.size_bytes >= LEAST_BYTES:
            charge = Charge(payload.runtime.held, 0)
            charge.grow(copier.size_bytes)
            payload.charges = [charge]
        payload.value = copy
    except RecursionError:
        copier.dispose()
        raise ValueError(_TOO_DEEP) from None
    except BaseException:
        copier.dispose()
        raise
    payload.stubs, payload.promises = copier.stubs, copier.promises


def deliver_payload(
    payload: Payload, done: Callable[[Exception | None], None], allowance: Allowance | None = None
) -> None:
    """Put the values of all promises in their places, nested ones too, then call `done` with the first error.

    Calls `done` synchronously if there are no promises, or all are settled. Several may ask: all are told the same.
    """
    promises = payload.promises
    if not promises:
        done(None)
        return
    if isinstance(payload.delivery, _Delivery):
        payload.delivery.tell(done)
        return
    if allowance is None:
        allowance = Allowance(payload.runtime.held)
    if payload.charges is None:
        payload.charges = []
    payload.charges.append(allowance.charge)
    delivery = payload.delivery = _Delivery(payload, len(promises), allowance)
    delivery.tell(done)
    for container, key, promise in promises:
        hook = promise._hook.get(promise._path) if promise._path else promise._hook
        hook.pull(_Place(delivery, container, key, hook))


class Allowance:
    """How much promises may bring into one value.

    Promises bring values with promises in them, any of them twice: ``n`` messages could make a value of ``2**n`` items.

    Attributes
    ----------
    charge : Charge
        What the value has come to so far, text that is in it twice counted twice: it may have to be written.
    """

    __slots__ = ("charge", "items", "levels")

    def __init__(self, meter: Meter) -> None:
        self.charge = Charge(meter, 0)
        self.items = MAX_DELIVERED_ITEMS
        self.levels = MAX_DELIVERED_LEVELS

    def spend(self, items: int) -> None:
        """Count items that are copied; raise ``ValueError`` when there are too many."""
        self.items -= items
        if self.items < 0:
            raise ValueError(f"Promises bring more than {MAX_DELIVERED_ITEMS} items into one value.")


class _Delivery:
    """Counts the promises of a payload down."""

    __slots__ = ("allowance", "error", "left", "payload", "waiting")

    def __init__(self, payload: Payload, left: int, allowance: Allowance) -> None:
        self.payload = payload
        self.allowance = allowance
        self.left = left
        self.error: Exception | None = None
        self.waiting: list[Callable[[Exception | None], None]] = []

    def tell(self, done: Callable[[Exception | None], None]) -> None:
        if self.left == 0:
            done(self.error)
        else:
            self.waiting.append(done)

    def count(self, error: Exception | None) -> None:
        self.left -= 1
        if error is not None and self.error is None:
            self.error = error
        if self.left == 0:
            if self.error is None:
                self.payload.promises = self.payload.delivery = None
            waiting, self.waiting = self.waiting, []
            for done in waiting:
                done(self.error)


class _Place(Reader):
    """Waits for one promise of a payload and puts its value where it belongs."""

    __slots__ = ("container", "delivery", "hook", "key")

    def __init__(self, delivery: _Delivery, container: Any, key: Any, hook: Hook) -> None:
        self.delivery = delivery
        self.container = container
        self.key = key
        self.hook = hook

    def resolve(self, payload: Payload) -> None:
        # A copy: the value itself stays the hook's, and there may be further hooks on it.
        part = Payload(payload.value, payload.runtime)
        allowance = self.delivery.allowance
        try:
            if allowance.levels == 0:
                raise ValueError(_TOO_DEEP)
            allowance.spend(_ITEMS_OF_A_PROMISE)
            own_payload(part, allowance=allowance)
        except (TypeError, ValueError) as error:
            self.reject(forget_frames(error))
            return
        allowance.levels -= 1
        deliver_payload(part, functools.partial(self._put, part), allowance)
        allowance.levels += 1

    def _put(self, part: Payload, error: Exception | None) -> None:
        if error is not None:
            part.dispose()
            self.reject(error)
            return
        whole = self.delivery.payload
        if part.stubs:
            # The references in the value live as long as the whole it became part of.
            if whole.stubs is None:
                whole.stubs = []
            whole.stubs += part.stubs
        if self.container is None:
            whole.value = part.value
        else:
            self.container[self.key] = part.value
        self._finish(None)

    def reject(self, error: Exception) -> None:
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        self.hook.dispose()
        self.delivery.count(error)


def hand_out(reference: Hook, runtime: Runtime, waiter: Waiter) -> None:
    """Tell `waiter` a stub that wears `reference`: the waiter's own from now on, unless it only reads."""
    stub = runtime.stub_type(reference)
    waiter.resolve(Payload(stub, runtime, stubs=[stub], owned=True))
    if isinstance(waiter, Reader):
        reference.dispose()


def take_reference(value: Any, runtime: Runtime, *, for_call: bool = False) -> Hook:
    """Return a new reference to a proxy, target or callable.

    With `for_call`, a target that has a ``dup`` method is asked for a copy, and that is referred to.
    """
    if isinstance(value, Proxy):
        hook = value._hook.unwrap()
        return hook.get(value._path) if value._path else hook.dup()
    if for_call and isinstance(value, RpcTarget):
        duplicate = getattr(type(value), "dup", None)
        if duplicate is not None:
            return runtime.refer(duplicate(value))
    return runtime.refer(value)


class _Copier:
    """Copies one value, collecting what it duplicates."""

    __slots__ = ("allowance", "for_call", "promises", "runtime", "size_bytes", "stubs")

    def __init__(self, runtime: Runtime, *, for_call: bool, allowance: Allowance | None) -> None:
        self.runtime = runtime
        self.allowance = allowance
        self.for_call = for_call
        self.stubs: list[Proxy] = []
        self.promises: list[Location] = []
        self.size_bytes = 0

    def dispose(self) -> None:
        for stub in self.stubs:
            stub._hook.dispose()
        for _, _, promise in self.promises:
            promise._hook.dispose()

    def copy(self, value: Any, container: Any, key: Any, depth: int) -> Any:
        kind = type(value)
        if kind in ATOMS:
            self.size_bytes += weigh(value)
            return value
        if depth >= MAX_COPY_DEPTH:
            raise ValueError(_TOO_DEEP)
        if self.allowance is not None and (kind is list or kind is tuple or kind is dict):
            self.allowance.spend(len(value))
        if kind is list or kind is tuple:
            self.size_bytes += weigh_container(value)
            items = [None] * len(value)
            for index, item in enumerate(value):
                items[index] = item if type(item) in ATOMS else self.copy(item, items, index, depth + 1)
            return items
        if kind is dict:
            self.size_bytes += weigh_container(value)
            members: dict[str, Any] = dict(value)
            for name, item in value.items():
                if type(item) not in ATOMS:
                    members[name] = self.copy(item, members, name, depth + 1)
            return members
        if isinstance(value, Proxy):
            if value._is_promise or value._path:
                promise = self.runtime.promise_type(take_reference(value, self.runtime))
                self.promises.append((container, key, promise))
                return promise
            return self._keep(take_reference(value, self.runtime))
        if isinstance(value, (RpcTarget, *CALLABLES)):
            return self._keep(take_reference(value, self.runtime, for_call=self.for_call))
        if kind is Prepared:
            return self.copy(value.value, container, key, depth)
        self.size_bytes += weigh(value)
        return value

    def _keep(self, hook: Hook) -> Proxy:
        stub = self.runtime.stub_type(hook)
        self.stubs.append(stub)
        self.size_bytes += REFERENCE_BYTES
        return stub
