"""Two sessions joined in memory, watched for what they say and for what they leave behind; and objects to serve."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Sequence
from typing import Any

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.memory import MemoryTransport, open_memory_transports
from itx_notebook.capnweb.transport import Receiver
from tests.capnweb.wires import turn

__all__ = ["Api", "Counter", "Joiner", "Link", "Tap", "quiet", "turn"]

_CLEAN = rpc.Stats(1, 1)


class Tap:
    """A transport that keeps what goes through it: one list for each write."""

    def __init__(self, inner: MemoryTransport) -> None:
        self.inner = inner
        self.writes: list[list[Any]] = []
        self.pauses = 0

    def start(self, receiver: Receiver) -> None:
        self.inner.start(receiver)

    def send(self, messages: Sequence[bytes]) -> None:
        self.writes.append([json.loads(message) for message in messages])
        self.inner.send(messages)

    def close(self, code: int, reason: str) -> None:
        self.inner.close(code, reason)

    def abort(self) -> None:
        self.inner.abort()

    def pause_reading(self) -> None:
        self.pauses += 1
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        self.inner.resume_reading()

    @property
    def buffered_bytes(self) -> int:
        return self.inner.buffered_bytes

    @property
    def peer(self) -> str:
        return self.inner.peer

    @property
    def said(self) -> list[Any]:
        """All messages, in order."""
        return [message for write in self.writes for message in write]


class Link:
    """A client, a server, and the wire between them."""

    def __init__(self, main: Any, client_main: Any, options: rpc.Options, server_options: rpc.Options) -> None:
        client_end, server_end = open_memory_transports()
        self.client_wire, self.server_wire = Tap(client_end), Tap(server_end)
        self.client = rpc.Session(self.client_wire, client_main, options=options)
        self.server = rpc.Session(self.server_wire, main, options=server_options)
        self.leaves = (_CLEAN, _CLEAN)

    @property
    def api(self) -> Any:
        """The server's main object, a stub. Of no type, so that tests may treat it badly."""
        return self.client.main

    def stats(self) -> tuple[rpc.Stats, rpc.Stats]:
        """What the client and the server hold."""
        return self.client.stats(), self.server.stats()

    @property
    def is_over(self) -> bool:
        return self.client.error is not None or self.server.error is not None


class Joiner:
    """Joins sessions, and at the end checks that they gave everything back."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def __call__(
        self,
        main: Any = None,
        client_main: Any = None,
        *,
        options: rpc.Options | None = None,
        server_options: rpc.Options | None = None,
    ) -> Link:
        options = options or rpc.Options()
        link = Link(main, client_main, options, server_options or options)
        self._links.append(link)
        return link

    async def finish(self) -> None:
        await quiet()
        living = [link for link in self._links if not link.is_over]
        if any(link.stats() != link.leaves for link in living):
            # References in a cycle, such as that of a caught exception and its frame, wait for the collector.
            gc.collect()
            await quiet()
        assert [link.stats() for link in living] == [link.leaves for link in living]
        for link in self._links:
            await link.client.close()
            await link.server.close()


async def quiet() -> None:
    """Let everything that is under way arrive."""
    await turn(30)


class Counter(rpc.RpcTarget):
    """Counts; notes its disposal."""

    def __init__(self, start: int = 0, on_dispose: Callable[[], object] = lambda: None) -> None:
        self._value = start
        self._on_dispose = on_dispose
        self.disposals = 0

    def increment(self, by: int = 1) -> int:
        self._value += by
        return self._value

    @property
    def value(self) -> int:
        return self._value

    def _rpc_dispose(self) -> None:
        self.disposals += 1
        self._on_dispose()


class Api(rpc.RpcTarget):
    """What most tests serve: values, errors, objects, callbacks, and a log."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.counters: list[Counter] = []
        self.kept: Any = None
        self.gate = asyncio.Event()

    @property
    def answer(self) -> int:
        return 42

    @property
    def config(self) -> dict[str, Any]:
        return {"names": ["a", "b"], "limits": {"depth": 3}}

    @property
    async def slow_answer(self) -> int:
        await asyncio.sleep(0)
        return 42

    def square(self, n: int) -> int:
        return n * n

    def echo(self, value: Any) -> Any:
        return value

    def give_none(self) -> None:
        return None

    async def echo_later(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def wait(self) -> str:
        """Answer once the test opens the gate."""
        await self.gate.wait()
        return "gone through"

    def fail(self, message: str = "no") -> None:
        raise ValueError(message)

    async def fail_later(self, message: str = "no") -> None:
        await asyncio.sleep(0)
        raise ValueError(message)

    def give_unsendable(self) -> object:
        return object()

    def make_counter(self, start: int = 0) -> Counter:
        counter = Counter(start)
        self.counters.append(counter)
        return counter

    async def make_counter_later(self, start: int = 0) -> Counter:
        await asyncio.sleep(0)
        return self.make_counter(start)

    def make_box(self, start: int = 0) -> dict[str, Any]:
        return {"label": "box", "counters": [self.make_counter(start)]}

    def increment(self, counter: Any, by: int = 1) -> Any:
        return counter.increment(by)

    async def call(self, function: Any, *args: Any) -> Any:
        return await function(*args)

    def keep(self, stub: Any) -> None:
        self.kept = stub.dup()

    def note(self, text: Any) -> None:
        self.log.append(text)

    async def note_later(self, text: Any) -> None:
        self.log.append(text)
        await asyncio.sleep(0)
