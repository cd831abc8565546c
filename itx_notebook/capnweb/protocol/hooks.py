"""What a stub or an export designates: the one interface behind which local, remote, pending and broken things hide.

A **hook** is one reference. It is called, read from, awaited (``pull``), duplicated and disposed; who holds it disposes
it. Results come by callback, synchronously where the value is there, so that calls keep their order without a loop.
A **proxy** is the object in an application's value that wears a hook; the classes an application sees derive from it.
A **payload** is a value that passes between hooks, a **map function** a function that does. The **runtime** is what
hooks need from the outside world: it starts awaitables and counts them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, ClassVar, Final, Protocol

from itx_notebook.capnweb.protocol.held import Charge, Meter
from itx_notebook.capnweb.protocol.limits import Budget, Limits
from itx_notebook.capnweb.protocol.wire import decode, encode

__all__ = [
    "ErrorHook",
    "Future",
    "Hook",
    "Location",
    "MapFunction",
    "Path",
    "Payload",
    "Proxy",
    "QueuedCall",
    "Reader",
    "Registration",
    "Runtime",
    "Task",
    "Waiter",
]

Path = tuple[str | int, ...]
"""Steps from a value to something in it: member names, and indices of lists."""


class Waiter(Protocol):
    """Somebody who wants a hook's value; told once."""

    def resolve(self, payload: Payload) -> None:
        """Take the value. It still belongs to the hook, and may hold promises that are not settled."""

    def reject(self, error: Exception) -> None:
        """Take the failure."""


class Future(Protocol):
    """Something a coroutine of the protocol waits for."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait."""

    def done(self) -> bool:
        """Whether it was told, or nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """Let who waits go on."""


class Task(Protocol):
    """A coroutine that runs beside everything else."""

    def cancel(self) -> object:
        """Stop it where it waits."""


class Reader:
    """A waiter that copies or encodes the value, and leaves it as it is: nobody has to stop sharing it."""

    __slots__ = ()


class QueuedCall(Protocol):
    """A call that waits for room. One of the two happens, once."""

    def begin(self) -> None:
        """Make it."""

    def give_up(self, error: Exception) -> None:
        """Fail it."""


class Runtime(Protocol):
    """What the objects that live here need from the world outside: a way to run what takes time."""

    stub_type: type[Proxy]
    promise_type: type[Proxy]
    keeps_undefined: bool
    """Whether ``undefined`` reaches callees as it is, where they have no default for it."""
    pending: int
    """How many results are still to come, wanted or not."""
    resolving: list[Callable[[], None]]
    """The results that are being delivered, the innermost last."""
    held: Meter
    """What the peer makes this side hold."""
    charge: Charge | None
    """Of the message being handled, if that is a long one: whatever has to keep a part of it keeps this."""

    @property
    def local(self) -> Runtime:
        """The runtime of this side's own calls to objects that live here, which no peer's limit may hold up."""

    @property
    def is_backed_up(self) -> bool:
        """Whether earlier calls have not begun yet, so that the next one must queue behind them."""

    def enqueue(self, call: QueuedCall) -> None:
        """Begin `call` after all that were queued or started before it; give it up if the session ends before."""

    def end(self, error: Exception) -> None:
        """Begin no call any more that waits for room: the session has ended, with `error`. What runs goes on."""

    def refer(self, target: Any) -> Hook:
        """Return the first reference of a new count to a target or callable."""

    def start(self, awaitable: Awaitable[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Run `awaitable`, and tell its value or its error; synchronously if it never had to wait."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Task:
        """Run a coroutine that is nobody's call, and raises nothing. It does not begin before this returns."""

    def create_future(self) -> Future:
        """Return something to wait for."""

    async def pause(self) -> None:
        """Let everything else have its turn, and wait while the connection takes no more."""

    def get_time(self) -> float:
        """Return the seconds of a clock that only goes forward."""

    def post(self, action: Callable[[], None]) -> None:
        """Do `action` soon, on the thread that owns the objects. Callable from any thread, and from ``__del__``."""

    def call_failed(self, callee: Any, error: BaseException) -> None:
        """Hear of an exception that left `callee`; its caller is told as well."""


class Registration:
    """A callback that waits for a hook to break. It is called once at most."""

    __slots__ = ("_callback", "owner")

    def __init__(self, callback: Callable[[Exception], None]) -> None:
        self._callback: Callable[[Exception], None] | None = callback
        self.owner: dict[Registration, None] | None = None
        """The table to leave when nobody wants to know any more."""

    def fire(self, error: Exception) -> None:
        """Tell the callback, unless it was told or taken back."""
        callback, self._callback = self._callback, None
        self._leave()
        if callback is not None:
            callback(error)

    def unregister(self) -> None:
        """Take the callback back. Harmless when it was called already."""
        self._callback = None
        self._leave()

    def _leave(self) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.pop(self, None)


class Proxy:
    """Base of stubs and promises: a hook, and the path from it that the next operation starts with.

    Every public name belongs to the peer, so the fields are private by rule; only ``capnweb`` reads them.
    """

    __slots__ = ("__weakref__", "_hook", "_path")

    _hook: Hook
    _path: Path
    _is_promise: ClassVar[bool] = False

    def __init__(self, hook: Hook, path: Path = ()) -> None:
        _set_hook(self, hook)
        _set_path(self, path)


# Two proxies are made for each call, and stubs forbid setting attributes: this is the shortest way past that.
_set_hook: Final = Proxy.__dict__["_hook"].__set__
_set_path: Final = Proxy.__dict__["_path"].__set__


Location = tuple[Any, Any, Proxy]
"""Container, key or index, promise; the container is ``None`` where the promise is the value itself."""


class Payload:
    """A value on its way in or out, with the references in it, and who has to give them back.

    It is **borrowed** while it is just what an application handed over: nothing in it is touched, and it costs nothing.
    It is **owned** once it came off the wire, or was copied: then every stub in it is a reference of its own, listed,
    and :meth:`dispose` gives them back. Promises stand in a list with the place where their value goes.

    Parameters
    ----------
    value : Any
        The value.
    runtime : Runtime
        Wraps the targets and functions that are found when the payload is copied.
    stubs, promises : list, optional
        The references in an owned payload.
    owned : bool
        Whether the references are the payload's own.

    Attributes
    ----------
    charges : list of Charge or None
        What the value counts, for as long as the payload is kept.
    """

    __slots__ = ("charges", "delivery", "owned", "promises", "runtime", "stubs", "value")

    def __init__(
        self,
        value: Any,
        runtime: Runtime,
        *,
        stubs: list[Proxy] | None = None,
        promises: list[Location] | None = None,
        owned: bool = False,
    ) -> None:
        self.value = value
        self.runtime = runtime
        self.stubs = stubs
        self.promises = promises
        self.owned = owned
        self.charges: list[Charge] | None = None
        self.delivery: object = None
        # The delivery under way, if one is: whoever asks meanwhile is told by it.

    def dispose(self) -> None:
        """Give the references back. Repeating is harmless; a borrowed payload holds none."""
        self.charges = self.delivery = None
        stubs, self.stubs = self.stubs, None
        if stubs:
            for stub in stubs:
                stub._hook.dispose()
        promises, self.promises = self.promises, None
        if promises:
            for _, _, promise in promises:
                if not promise._path:
                    promise._hook.dispose()

    def lose(self, error: Exception) -> None:
        """Give the references back because the call they were for has failed, with `error`."""
        for stub in self.stubs or ():
            stub._hook.lose(error)
        self.dispose()


_BYTES_OF_AN_INSTRUCTION: Final = 64
"""Of a usual one. Longer ones cost more, since each run reads the text again."""


class MapFunction:
    """A recorded function: its captures, and its instructions as text, since running one consumes its tree.

    Parameters
    ----------
    captures : list of Hook
        What it refers to from outside; owned.
    instructions : list
        Its instructions, as expressions.
    budget : Budget
        Shared with every map that runs for the same message.
    limits : Limits
        Of the session the function came by, or of none.

    Attributes
    ----------
    cost : int
        As how many instructions one run counts.
    charge : Charge or None
        Of the message it came by.
    """

    __slots__ = ("budget", "captures", "charge", "cost", "limits", "text")

    def __init__(self, captures: list[Hook], instructions: list[Any], budget: Budget, limits: Limits) -> None:
        self.captures = captures
        self.text = encode(instructions)
        self.cost = max(len(instructions), len(self.text) // _BYTES_OF_AN_INSTRUCTION)
        self.budget = budget
        self.limits = limits
        self.charge: Charge | None = None

    @property
    def instructions(self) -> list[Any]:
        """A fresh copy of the instructions."""
        instructions: list[Any] = decode(self.text)
        return instructions

    def dispose(self) -> None:
        """Give the captures back."""
        captures, self.captures = self.captures, []
        for capture in captures:
            capture.dispose()


class Hook:
    """One reference to a thing that can be called and read, wherever it lives."""

    __slots__ = ()

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        """Call what `path` leads to with an application's own arguments, which stay its own."""
        raise NotImplementedError

    def call(self, path: Path, args: Payload) -> Hook:
        """Call what `path` leads to. `args` belongs to the callee from now on; the result belongs to the caller.

        Raises ``TypeError``, ``ValueError`` or :class:`RpcError` for an argument that cannot be sent; every other
        failure is a hook.
        """
        raise NotImplementedError

    def get(self, path: Path) -> Hook:
        """Return what `path` leads to."""
        raise NotImplementedError

    def map(self, path: Path, function: MapFunction) -> Hook:
        """Run a recorded `function`, which belongs to the callee, over what `path` leads to."""
        raise NotImplementedError

    def pull(self, waiter: Waiter) -> None:
        """Tell `waiter` the value when it is known."""
        raise NotImplementedError

    def stream(self, path: Path, args: Payload, waiter: Waiter) -> int:
        """Call what `path` leads to, and tell `waiter` the outcome, of which nothing else is wanted.

        Returns the length of the message, for the window of who sends many; 0 if none was sent. Raises as :meth:`call`.
        """
        result = self.call(path, args)
        result.pull(_LastWaiter(result, waiter))
        return 0

    def dup(self) -> Hook:
        """Return a further reference."""
        raise NotImplementedError

    def dispose(self) -> None:
        """Give the reference back. Repeating is harmless."""
        raise NotImplementedError

    def lose(self, error: Exception) -> None:
        """Give the reference back because what it was given for has failed, with `error`: a call, or the session."""
        self.dispose()

    def on_broken(self, registration: Registration) -> None:
        """Fire `registration` when what the hook designates can no longer be reached."""
        raise NotImplementedError

    def settle(self) -> None:
        """Stop depending on a value that its owner may still change."""

    def unwrap(self) -> Hook:
        """Return the hook that this one has turned into, or itself."""
        return self

    def follow(self) -> Hook:
        """Return the hook that calls to this one reach: also through a value that is a stub."""
        hook = self.unwrap()
        return hook if hook is self else hook.follow()


class _LastWaiter:
    """Passes the outcome of a hook on, and gives the hook back, which nobody else holds."""

    __slots__ = ("_hook", "_waiter")

    def __init__(self, hook: Hook, waiter: Waiter) -> None:
        self._hook = hook
        self._waiter = waiter

    def resolve(self, payload: Payload) -> None:
        self._waiter.resolve(payload)
        self._hook.dispose()

    def reject(self, error: Exception) -> None:
        self._waiter.reject(error)
        self._hook.dispose()


class ErrorHook(Hook):
    """A failure: whatever one does with it fails the same way."""

    __slots__ = ("_charges", "error")

    def __init__(self, error: Exception, charges: list[Charge] | None = None) -> None:
        self.error = error
        # Of what the error may keep: its text names arguments, its frames hold them.
        self._charges = charges

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        return self

    def call(self, path: Path, args: Payload) -> Hook:
        args.dispose()
        return self

    def get(self, path: Path) -> Hook:
        return self

    def map(self, path: Path, function: MapFunction) -> Hook:
        function.dispose()
        return self

    def pull(self, waiter: Waiter) -> None:
        waiter.reject(self.error)

    def dup(self) -> Hook:
        return self

    def dispose(self) -> None:
        """Nothing is held."""

    def on_broken(self, registration: Registration) -> None:
        registration.fire(self.error)
