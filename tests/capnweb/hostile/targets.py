"""What a hostile peer is let loose on: a main object that offers every kind of value, and things it must never reach.

Whatever must stay out of reach carries :data:`SECRET` in its text, and says so in :attr:`Watch.leaks` when it runs. So
a leak shows as a word on the wire, or as an entry in a list.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from itx_notebook.capnweb import UNDEFINED, Readable, RpcTarget, Writable, dispose, hidden
from itx_notebook.capnweb.stub import RpcStub
from tests.capnweb.machines import Gate, InlineRuntime

__all__ = ["SECRET", "Counter", "Main", "Watch", "find_miscounted", "is_given"]

SECRET = "SECRET"


@dataclass
class Watch:
    """What happened on the side under attack."""

    leaks: list[str] = field(default_factory=list)
    made: list[Watched] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    kept: list[RpcStub] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)

    def leak(self, what: str) -> str:
        self.leaks.append(what)
        return f"{SECRET} {what}"

    def open_gates(self) -> None:
        gates, self.gates = self.gates, []
        for gate in gates:
            gate.open()


class Mixin:
    """Helpers that are no part of what is offered."""

    watch: Watch

    def helper(self) -> str:
        return self.watch.leak("a mixin's method")

    @property
    def helping(self) -> str:
        return self.watch.leak("a mixin's property")


class Watched(RpcTarget):
    """A target that counts how often it was disposed."""

    limit: ClassVar = f"{SECRET} a constant"

    class Inner:
        """A class within a class, which nobody was given."""

        text = SECRET

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.inside = f"{SECRET} an attribute"
        self.method_inside = lambda: watch.leak("a function in an attribute")
        self.disposals = 0
        watch.made.append(self)

    def _rpc_dispose(self) -> None:
        self.disposals += 1

    def _private(self) -> str:
        return self.watch.leak("a private method")

    def __call__(self) -> str:
        return self.watch.leak("__call__")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.watch.leak(f"__getattr__({name!r})")

    @hidden
    def concealed(self) -> str:
        return self.watch.leak("a hidden method")


class Counter(Mixin, Watched):
    """A target with a member of every kind."""

    __slots__ = ("slot",)

    def __init__(self, watch: Watch, start: int = 0) -> None:
        super().__init__(watch)
        self.slot = f"{SECRET} a slot"
        self._value = start

    def increment(self, by: int = 1) -> int:
        self._value += by
        return self._value

    @property
    def value(self) -> int:
        return self._value

    @staticmethod
    def double(number: int) -> int:
        return number * 2

    @classmethod
    def kind(cls) -> str:
        return "counter"

    @functools.cached_property
    def once(self) -> list[int]:
        return [1, 2, 3]

    @property
    def sour(self) -> None:
        raise ValueError("sour")

    @property
    def child(self) -> Counter:
        return Counter(self.watch, self._value)


def greet(name: str = "world") -> str:
    return f"hello {name}"


greet.note = f"{SECRET} a function's attribute"  # type: ignore[attr-defined]  # which is the point


class Main(Watched):
    """The main object."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._counter: Counter | None = None

    def square(self, number: Any) -> Any:
        return number * number

    def echo(self, value: Any = UNDEFINED) -> Any:
        return value

    def collect(self, *values: Any) -> list[Any]:
        return list(values)

    def nothing(self) -> None:
        return None

    def nothing_of(self, value: Any) -> None:
        return None

    def repeat(self, count: int) -> str:
        return "y" * min(count, 100_000)

    def fail(self, text: str = "failed") -> None:
        raise ValueError(text)

    async def later(self, value: Any = None) -> Any:
        gate = Gate()
        self.watch.gates.append(gate)
        await gate
        return value

    async def at_once(self, value: Any = None) -> Any:
        return value

    def note(self, value: Any) -> None:
        self.watch.calls.append(value)

    def make_counter(self, start: int = 0) -> Counter:
        return Counter(self.watch, start)

    def make_counters(self, count: int = 3) -> list[Counter]:
        return [Counter(self.watch, index) for index in range(min(count, 100))]

    async def make_counter_later(self, start: int = 0) -> Counter:
        await self.later()
        return Counter(self.watch, start)

    def numbers(self, count: int) -> list[int]:
        return list(range(min(count, 100)))

    def keep(self, stub: Any) -> None:
        if isinstance(stub, RpcStub):
            self.watch.kept.append(stub.dup())

    def drop(self) -> None:
        while self.watch.kept:
            dispose(self.watch.kept.pop())

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def pass_on(self, value: Any) -> Any:
        return {"passed": value}

    def unsendable(self) -> Any:
        return {1, 2}

    def endless(self) -> list[Any]:
        endless: list[Any] = []
        endless.append(endless)
        return endless

    async def read_all(self, stream: Any) -> list[Any]:
        return [chunk async for chunk in stream]

    async def read_one(self, stream: Any) -> Any:
        return await anext(aiter(stream))

    async def write_into(self, stream: Any, *chunks: Any) -> None:
        if not isinstance(stream, Writable):
            raise TypeError("That is no stream.")
        for chunk in chunks:
            await stream.write(chunk)
        await stream.close()

    def measure(self, blob: Any) -> int:
        return len(blob.data)

    def readable(self, count: int = 3) -> Readable:
        return Readable(range(min(count, 10)))

    @property
    def counter(self) -> Counter:
        return Counter(self.watch, 7)

    @property
    def zoo(self) -> dict[str, Any]:
        return {
            "text": "text {0.__class__}",
            "bytes": b"bytes",
            "whole": 5,
            "large": 2**70,
            "float": 0.5,
            "true": True,
            "none": None,
            "undefined": UNDEFINED,
            "list": [1, "two", [3]],
            "tuple": (1, 2),
            "dict": {"a": {"b": {"c": "deep"}}, "items": "an entry", "1": "one"},
            "date": datetime(2026, 6, 1, tzinfo=UTC),
            "error": ValueError("an error"),
            "function": greet,
            "lambda": lambda *_: "lambda",
            "method": self.nothing,
            "partial": functools.partial(greet, "partial"),
            "builtin": len,
            "counter": Counter(self.watch, 1),
        }


def find_miscounted(watch: Watch, runtime: InlineRuntime) -> list[tuple[Watched, int, int]]:
    """Return the targets that were not disposed once for each reference made to them, with both numbers."""
    references = collections.Counter(map(id, runtime.referred))
    return [
        (target, references[id(target)], target.disposals)
        for target in watch.made
        if references[id(target)] != target.disposals
    ]


_FUNCTIONS = (greet, len)


def is_given(target: Any) -> bool:
    """Whether a reference to `target` is one the main object really hands out."""
    if isinstance(target, Watched) or target in _FUNCTIONS:
        return True
    if isinstance(target, functools.partial):
        return target.func is greet
    owner = getattr(target, "__self__", None)
    if isinstance(owner, Watched) or owner is Counter:
        return not target.__name__.startswith("_") and target.__name__ not in ("concealed", "helper")
    return getattr(target, "__qualname__", "") in ("Main.zoo.<locals>.<lambda>", "Counter.double")
