"""Random graphs of calls: objects made, handed over, handed on, kept, awaited or not, given up at any point.

Whatever the order, at the end every table is empty again and every object was disposed exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Link
from tests.capnweb.matrix.streams import make_readable, make_writable

__all__ = ["CLEAN", "OPERATIONS", "Balance", "Step", "run_graph"]


class Step(NamedTuple):
    """One operation: over which of two connections, on which of the objects at hand, and a choice it has."""

    operation: str
    link: int
    place: int
    choice: bool


class Balance(NamedTuple):
    """What is left at the end: the tables of both connections, and made minus disposed objects of either side."""

    tables: list[list[int]]
    server_objects: int
    client_objects: int


_STREAM_ROUNDS: Final = 10

CLEAN: Final = Balance([[1, 1, 1, 1], [1, 1, 1, 1]], 0, 0)


class _Graph:
    """Objects at hand: a promise or stub of a counter, or a promise with the name of the member that is one."""

    def __init__(self, bench: Bench, links: Sequence[Link]) -> None:
        self._bench = bench
        self._links = links
        self._held: list[tuple[Any, str | None]] = []
        self._pending: list[asyncio.Future[None]] = []
        self._made = 0
        self._local = 0

    async def run(self, steps: Sequence[Step]) -> Balance:
        for step in steps:
            main = self._links[step.link].main
            if step.operation in _MAKERS:
                _MAKERS[step.operation](self, main)
            elif self._held:
                await _USERS[step.operation](self, main, step.place % len(self._held), choice=step.choice)
        return await self._settle()

    async def _settle(self) -> Balance:
        async with asyncio.timeout(10):
            await asyncio.gather(*self._pending)
        # A call that waits for a promise among its arguments may be overtaken by those after it.
        for _ in range(3):
            for link in self._links:
                await link.main.later(0)
        for link in self._links:
            await link.main.dropKept()
        for owner, _ in self._held:
            rpc.dispose(owner)
        self._pending.clear()
        self._held.clear()
        tables = await self._bench.tables()
        for _ in range(_STREAM_ROUNDS):
            if tables == CLEAN.tables:
                break
            # A stream takes a few messages in both directions to end.
            tables = await self._bench.tables()
        logs = [line for link in self._links for line in await link.main.takeLog()]
        return Balance(tables, self._made - logs.count("counter disposed"), self._local - len(self._bench.log))

    # Operations that make an object

    def make(self, main: Any) -> None:
        self._made += 1
        self._held.append((main.makeCounter(), None))

    def make_later(self, main: Any) -> None:
        self._made += 1
        self._held.append((main.makeCounterLater(), None))

    def make_box(self, main: Any) -> None:
        self._made += 1
        self._held.append((main.makeBox(), "counter"))

    def keep_local(self, main: Any) -> None:
        self._await(main.keep(self._make_local()))

    def pass_local(self, main: Any) -> None:
        main.incrementCounter(self._make_local())

    def return_local(self, main: Any) -> None:
        self._await(main.useReturned(self._make_local))

    def wrap_local(self, main: Any) -> None:
        self._held.append((main.wrap(self._make_local()), "stub"))

    def use_kept(self, main: Any) -> None:
        self._await(main.incrementKept(1))

    def drop_kept(self, main: Any) -> None:
        main.dropKept()

    def send_stream(self, main: Any) -> None:
        self._await(main.readAll(make_readable("texts", [])))

    def send_endless_stream(self, main: Any) -> None:
        self._await(main.readSome(make_readable("endless", []), 2))

    def send_streams_to_no_method(self, main: Any) -> None:
        self._await(main.nope(make_readable("endless", []), make_writable("plain", []), self._make_local()))

    def send_writable(self, main: Any) -> None:
        self._await(main.writeInto(make_writable("plain", []), "leave"))

    def ask_for_stream_only(self, main: Any) -> None:
        main.readable("endless")

    def read_stream(self, main: Any) -> None:
        self._await(_read_some(main))

    def write_stream(self, main: Any) -> None:
        self._await(_write_some(main))

    def send_blobs(self, main: Any) -> None:
        self._await(main.echo([rpc.Blob(b"one"), rpc.Blob(b"")]))

    # Operations on an object at hand

    async def settle_one(self, main: Any, index: int, *, choice: bool) -> None:
        """Await the object itself."""
        owner, member = self._held[index]
        if isinstance(owner, rpc.RpcPromise):
            value = await owner
            self._held[index] = (value if member is None else value[member], None)

    async def duplicate(self, main: Any, index: int, *, choice: bool) -> None:
        self._held.append((self._at(index).dup(), None))

    async def give_up(self, main: Any, index: int, *, choice: bool) -> None:
        owner, _ = self._held.pop(index)
        if choice:
            rpc.dispose(owner)

    async def increment(self, main: Any, index: int, *, choice: bool) -> None:
        promise = self._at(index).increment(1)
        if choice:
            self._await(promise)

    async def read(self, main: Any, index: int, *, choice: bool) -> None:
        self._await(self._at(index).value)

    async def hand_over(self, main: Any, index: int, *, choice: bool) -> None:
        self._await(main.incrementCounter(self._at(index)))

    async def hand_over_twice(self, main: Any, index: int, *, choice: bool) -> None:
        counter = self._at(index)
        self._await(main.collect(counter, self._links[1].main.square(2), counter))

    async def keep(self, main: Any, index: int, *, choice: bool) -> None:
        self._await(main.keep(self._at(index)))

    async def call_back(self, main: Any, index: int, *, choice: bool) -> None:
        self._await(main.call(lambda counter: counter.increment(2) if choice else main.square(1), self._at(index)))

    async def map_over(self, main: Any, index: int, *, choice: bool) -> None:
        counter = self._at(index)
        self._await(main.numbers(2).map(lambda n: counter.increment(n)))  # noqa: PLW0108  # the function is what is recorded

    async def wait(self, main: Any, index: int, *, choice: bool) -> None:
        await (main.square(1) if choice else asyncio.sleep(0))

    # Inside

    def _at(self, index: int) -> Any:
        owner, member = self._held[index]
        # Once a promise of an object with members is given back, they are out of reach.
        return owner if member is None else owner[member]

    def _make_local(self) -> rpc.RpcTarget:
        self._local += 1
        return self._bench.counter()

    def _await(self, promise: Awaitable[Any]) -> None:
        self._pending.append(asyncio.ensure_future(_finish(promise)))


async def _finish(promise: Awaitable[Any]) -> None:
    """Whether a call succeeds depends on the order; that it ends, and leaves nothing, does not."""
    try:
        rpc.dispose(await promise)
    except rpc.RpcError:
        return


async def _read_some(main: Any) -> None:
    """Read two chunks and drop the stream."""
    stream = await main.readable("endless")
    for _ in range(2):
        await anext(stream)


async def _write_some(main: Any) -> None:
    """Write two chunks and drop the stream."""
    stream = await main.writable("plain")
    for text in ("one", "two"):
        await stream.write(text)


_Maker = Callable[[_Graph, Any], None]
_User = Callable[..., Awaitable[None]]

_MAKERS: Final[dict[str, _Maker]] = {
    "make": _Graph.make,
    "make_later": _Graph.make_later,
    "make_box": _Graph.make_box,
    "keep_local": _Graph.keep_local,
    "pass_local": _Graph.pass_local,
    "return_local": _Graph.return_local,
    "wrap_local": _Graph.wrap_local,
    "use_kept": _Graph.use_kept,
    "drop_kept": _Graph.drop_kept,
    "send_stream": _Graph.send_stream,
    "send_endless_stream": _Graph.send_endless_stream,
    "send_streams_to_no_method": _Graph.send_streams_to_no_method,
    "send_writable": _Graph.send_writable,
    "ask_for_stream_only": _Graph.ask_for_stream_only,
    "read_stream": _Graph.read_stream,
    "write_stream": _Graph.write_stream,
    "send_blobs": _Graph.send_blobs,
}
_USERS: Final[dict[str, _User]] = {
    "settle_one": _Graph.settle_one,
    "duplicate": _Graph.duplicate,
    "give_up": _Graph.give_up,
    "increment": _Graph.increment,
    "read": _Graph.read,
    "hand_over": _Graph.hand_over,
    "hand_over_twice": _Graph.hand_over_twice,
    "keep": _Graph.keep,
    "call_back": _Graph.call_back,
    "map_over": _Graph.map_over,
    "wait": _Graph.wait,
}

OPERATIONS: Final = (*_MAKERS, *_USERS)
"""Names of all operations."""


async def run_graph(url: str, options: rpc.Options, steps: Sequence[Step]) -> Balance:
    """Run `steps` against the server at `url`, over two connections, and give everything back."""
    async with Bench(url, options) as bench:
        return await _Graph(bench, [bench.link, await bench.open()]).run(steps)
