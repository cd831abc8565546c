"""What the server offers, in Python: the main object of a connection and what hangs on it.

``../README.md`` describes every member; ``../node/main.mjs`` offers the same in JavaScript.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.describe import describe, outcome
from tests.capnweb.matrix.streams import make_readable, make_writable, read_all, read_counters, read_some, write_into
from tests.capnweb.matrix.zoo import THROWABLES, ZOO

__all__ = ["Connection", "Main", "make_request", "make_response", "turn"]


async def turn() -> None:
    """Let the loop handle what is ready."""
    await asyncio.sleep(0)


class Connection:
    """What is known of one connection: its log, its session, how it ended."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.session: rpc.Session | None = None
        self.ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()


class Counter(rpc.RpcTarget):
    def __init__(self, log: list[Any], start: int) -> None:
        self._log = log
        self._value = start

    def increment(self, by: int = 1) -> int:
        self._value += by
        return self._value

    @property
    def value(self) -> int:
        return self._value

    def _rpc_dispose(self) -> None:
        self._log.append("counter disposed")


class Tree(rpc.RpcTarget):
    def __init__(self, log: list[Any], path: str) -> None:
        self._log = log
        self._path = path

    @property
    def path(self) -> str:
        return self._path

    @property
    @rpc.name("self")
    def itself(self) -> Tree:
        return Tree(self._log, self._path)

    def child(self, name: str) -> Tree:
        return Tree(self._log, f"{self._path}/{name}")

    def note(self, text: str) -> None:
        self._log.append(text)


class Main(rpc.RpcTarget, naming="camel"):
    motto = "never seen"

    def __init__(self, connection: Connection, connections: list[Connection], noise: list[str]) -> None:
        self._connection = connection
        self._connections = connections
        self._noise = noise
        self._kept: Any = None
        self._ticks = 0
        self.inside = "an instance attribute"

    @property
    def answer(self) -> int:
        return 42

    @property
    def ticks(self) -> int:
        self._ticks += 1
        return self._ticks

    @property
    def sour(self) -> int:
        raise RuntimeError("sour")

    @property
    def config(self) -> dict[str, Any]:
        return {"limits": {"depth": 3}, "names": ["a", "b"], "started": datetime.fromtimestamp(0, UTC)}

    def square(self, n: Any) -> Any:
        return n * n

    def collect(self, *items: Any) -> list[Any]:
        return list(items)

    def greet(self, name: str = "world", mark: str = "!") -> str:
        return f"hello {name}{mark}"

    async def later(self, value: Any = rpc.UNDEFINED) -> Any:
        await turn()
        return value

    def nothing(self) -> None:
        pass

    async def never(self) -> None:
        await asyncio.get_running_loop().create_future()

    def _private(self) -> str:
        return "private"

    def unsendable(self) -> object:
        return object()

    def endless_list(self) -> list[Any]:
        endless: list[Any] = []
        endless.append(endless)
        return endless

    def fail(self, kind: str) -> None:
        error = THROWABLES[kind]()
        raise error

    async def fail_later(self, kind: str) -> None:
        await turn()
        error = THROWABLES[kind]()
        raise error

    def numbers(self, count: int) -> list[int]:
        return list(range(count))

    def echo(self, value: Any) -> Any:
        return value

    async def describe(self, value: Any) -> str:
        return json.dumps(await describe(value))

    def give(self, kind: str) -> Any:
        return ZOO[kind]()

    def make_counter(self, start: int = 0) -> Counter:
        return Counter(self._connection.log, start)

    async def make_counter_later(self, start: int = 0) -> Counter:
        await turn()
        return self.make_counter(start)

    def make_triplet(self) -> list[Counter]:
        return [self.make_counter()] * 3

    def make_shared_triplet(self) -> list[Any]:
        # A stub returned is duplicated, never taken; the first goes with this frame.
        return [rpc.stub(self.make_counter())] * 3

    def make_box(self, start: int = 0) -> dict[str, Any]:
        return {"counter": self.make_counter(start), "label": "box"}

    def make_tree(self) -> Tree:
        return Tree(self._connection.log, "root")

    async def make_tree_later(self) -> Tree:
        await turn()
        return self.make_tree()

    def make_adder(self, n: int) -> Callable[[int], int]:
        return lambda m: n + m

    def increment_counter(self, counter: Any, by: int = 1) -> Any:
        return counter.increment(by)

    async def increment_both(self, one: Any, other: Any) -> Any:
        return await asyncio.gather(one.increment(1), other.increment(10))

    def call_square(self, main: Any, n: int) -> dict[str, Any]:
        return {"result": main.square(n)}

    def forward_square(self, main: Any, n: int) -> Any:
        return main.square(n)

    def wrap(self, stub: Any) -> dict[str, Any]:
        return {"stub": stub.dup()}

    def wrap_without_dup(self, stub: Any) -> dict[str, Any]:
        return {"stub": stub}

    def give_back(self, stub: Any) -> Any:
        return stub.dup()

    async def call(self, callback: Any, *args: Any) -> Any:
        return await callback(*args)

    async def call_later(self, callback: Any, *args: Any) -> Any:
        await turn()
        return await callback(*args)

    async def describe_call(self, callback: Any, *args: Any) -> str:
        return json.dumps(await outcome(callback(*args)))

    async def call_member(self, holder: Any, value: Any) -> Any:
        return await holder["on"]["event"](value)

    async def use_returned(self, callback: Any) -> Any:
        with callback() as counter:
            return await counter.increment(5)

    def keep(self, stub: Any) -> None:
        rpc.dispose(self._kept)
        self._kept = stub.dup()

    def watch_kept(self) -> None:
        rpc.on_broken(self._kept, self._note_broken)

    async def call_kept(self, count: int) -> int:
        await asyncio.gather(*[self._kept(i) for i in range(count)])
        return count

    async def increment_kept(self, by: int) -> Any:
        return await self._kept.increment(by)

    def drop_kept(self) -> None:
        rpc.dispose(self._kept)
        self._kept = None

    def note(self, text: Any) -> None:
        self._connection.log.append(text)

    async def note_later(self, text: Any) -> None:
        self._connection.log.append(text)
        await turn()

    def readable(self, kind: str) -> rpc.Readable:
        return make_readable(kind, self._connection.log)

    def readable_inside(self, kind: str) -> dict[str, Any]:
        return {"label": "inside", "stream": make_readable(kind, self._connection.log)}

    async def read_all(self, stream: rpc.Readable) -> str:
        return await read_all(stream)

    async def read_all_inside(self, holder: dict[str, Any]) -> str:
        return await read_all(holder["stream"])

    async def read_some(self, stream: rpc.Readable, count: int) -> str:
        return await read_some(stream, count)

    async def read_counters(self, stream: rpc.Readable) -> list[Any]:
        return await read_counters(stream)

    def counters(self) -> rpc.Readable:
        return rpc.Readable([self.make_counter(1), self.make_counter(2)])

    def writable(self, kind: str) -> rpc.Writable:
        return make_writable(kind, self._connection.log)

    async def write_into(self, stream: rpc.Writable, ending: str) -> str:
        return await write_into(stream, ending)

    async def copy(self, source: rpc.Readable, sink: rpc.Writable) -> None:
        async for chunk in source:
            await sink.write(chunk)
        await sink.close()

    def blob(self, text: str, kind: str) -> rpc.Blob:
        return rpc.Blob(text.encode(), kind)

    def blobs(self) -> list[rpc.Blob]:
        return [rpc.Blob(b"one"), rpc.Blob(b"two", "text/two")]

    def headers(self) -> rpc.Headers:
        return rpc.Headers([("x-one", "1"), ("x-two", "2")])

    def request(self, kind: str) -> rpc.Request:
        return make_request(kind)

    def response(self, kind: str) -> rpc.Response:
        return make_response(kind)

    def take_log(self) -> list[Any]:
        taken = self._connection.log[:]
        self._connection.log.clear()
        return taken

    def take_noise(self) -> list[str]:
        taken = self._noise[:]
        self._noise.clear()
        return taken

    @property
    def connection_id(self) -> int:
        return self._connections.index(self._connection)

    async def tables(self) -> list[int]:
        # The entry of this very call is among the exports.
        await turn()
        stats = self._session.stats()
        return [stats.imports, stats.exports - 1]

    async def wait_for_end(self, connection_id: int) -> dict[str, Any]:
        connection = self._connections[connection_id]
        code, reason = await connection.ended
        await turn()
        return {"code": code, "reason": reason, "log": connection.log}

    def call_peer(self, n: int) -> Any:
        return self._session.main.double(n)

    def watch_peer(self) -> None:
        rpc.on_broken(self._session.main, self._note_broken)

    def close_socket(self, code: int, reason: str) -> None:
        self._session._transport.close(code, reason)

    def cut_socket(self) -> None:
        self._session._transport.abort()

    def send_raw(self, text: str) -> None:
        self._session._transport.send([text.encode()])

    def drop_peer(self) -> None:
        rpc.dispose(self._session.main)

    @property
    def _session(self) -> rpc.Session:
        session = self._connection.session
        assert session is not None
        return session

    def _note_broken(self, error: Exception) -> None:
        self._connection.log.append(f"broken {json.dumps(isinstance(error, Exception))}")


def make_request(kind: str) -> rpc.Request:
    """A request, "plain" or with a body."""
    url = "https://example.org/path?q=1"
    if kind == "plain":
        return rpc.Request(url, headers=rpc.Headers({"x-one": "1"}))
    return rpc.Request(url, method="POST", headers=rpc.Headers({"content-type": "text/odd"}), body="sent body")


def make_response(kind: str) -> rpc.Response:
    """A response, "plain" or with a body."""
    if kind == "plain":
        return rpc.Response(None, status=204, headers=rpc.Headers({"x-one": "1"}))
    return rpc.Response("got body", status=201, status_text="Made", headers=rpc.Headers({"content-type": "text/odd"}))
