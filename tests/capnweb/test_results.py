"""Asking without waiting, and for many at once; and what becomes of a call nobody wants."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from itx_notebook import capnweb as rpc


class Api(rpc.RpcTarget):
    def __init__(self) -> None:
        self._gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def square(self, i: int) -> int:
        return i * i

    async def wait(self) -> int:
        return await self._gate

    def fail(self) -> None:
        raise ValueError("as asked")

    def nested(self) -> list[object]:
        return [1, self.inner]

    @property
    def inner(self) -> dict[str, int]:
        return {"a": 1}


@pytest.fixture
async def sessions() -> AsyncIterator[tuple[rpc.Session, rpc.Session]]:
    client, server = rpc.memory_pair(None, Api())
    yield client, server
    await client.close()


async def settle() -> None:
    """Let both sides say what they have to say."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_results_come_in_order(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, server = sessions
    results = await asyncio.gather(*[rpc.pull(client.main.square(i)) for i in range(100)])
    assert results == [i * i for i in range(100)]
    await settle()
    assert (client.stats(), server.stats()) == ((1, 1), (1, 1))


async def test_a_property_and_a_part_of_a_result_are_pulled_alike(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, _ = sessions
    main = client.main
    assert await rpc.pull(main.inner.a) == 1
    assert await rpc.pull(main.nested()[1]) == {"a": 1}


async def test_an_error_is_the_futures(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, _ = sessions
    future = rpc.pull(client.main.fail())
    with pytest.raises(rpc.RemoteError, match="as asked"):
        await future


async def test_the_value_comes_though_the_promise_was_dropped(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, _ = sessions
    future = rpc.pull(client.main.square(3))
    gc.collect()
    assert await future == 9


async def test_cancelling_gives_the_call_back(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, server = sessions
    future = rpc.pull(client.main.wait())
    await settle()
    assert (client.stats(), server.stats()) == ((2, 1), (1, 2))
    future.cancel()
    await settle()
    assert (client.stats(), server.stats()) == ((1, 1), (1, 1))
    with pytest.raises(asyncio.CancelledError):
        await future


async def test_cancelling_leaves_a_promise_that_somebody_holds(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, _ = sessions
    promise = client.main.square(4)
    rpc.pull(promise).cancel()
    await settle()
    assert await promise == 16


async def test_a_cancelled_gather_gives_all_back(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, server = sessions
    waiting = asyncio.gather(*[rpc.pull(client.main.wait()) for _ in range(5)])
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del waiting
    await settle()
    assert (client.stats(), server.stats()) == ((1, 1), (1, 1))


async def test_a_local_value_is_there_at_once() -> None:
    stub = rpc.stub({"a": [1, 2]})
    future = rpc.pull(stub.a)
    assert future.done()
    assert await future == [1, 2]


async def test_the_end_of_the_session_is_heard() -> None:
    client, _ = rpc.memory_pair(None, Api())
    future = rpc.pull(client.main.wait())
    await client.close()
    with pytest.raises(rpc.RpcError):
        await future


async def test_gathered_values_come_in_order(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, server = sessions
    main = client.main
    assert await rpc.gather(main.inner.a, *[main.square(i) for i in range(100)], main.nested()) == [
        1,
        *[i * i for i in range(100)],
        [1, {"a": 1}],
    ]
    await settle()
    assert (client.stats(), server.stats()) == ((1, 1), (1, 1))


async def test_gathering_nothing_gives_nothing() -> None:
    assert await rpc.gather() == []


async def test_one_promise_may_be_gathered_twice(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, _ = sessions
    promise = client.main.square(3)
    assert await rpc.gather(promise, promise) == [9, 9]


async def test_local_values_are_gathered_too() -> None:
    stub = rpc.stub({"a": [1, 2], "b": 3})
    assert await rpc.gather(stub.a, stub.b) == [[1, 2], 3]


async def test_the_first_failure_ends_a_gather_and_gives_the_rest_back(
    sessions: tuple[rpc.Session, rpc.Session],
) -> None:
    client, server = sessions
    main = client.main
    kept = main.wait()
    with pytest.raises(rpc.RemoteError, match="as asked"):
        await rpc.gather(main.wait(), main.fail(), kept, main.fail())
    await settle()
    assert (client.stats(), server.stats()) == ((2, 1), (1, 2))
    rpc.dispose(kept)
    await settle()
    assert (client.stats(), server.stats()) == ((1, 1), (1, 1))


async def test_cancelling_a_gather_gives_its_calls_back(sessions: tuple[rpc.Session, rpc.Session]) -> None:
    client, server = sessions
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await rpc.gather(*[client.main.wait() for _ in range(5)])
    await settle()
    assert (client.stats(), server.stats()) == ((1, 1), (1, 1))


async def test_the_end_of_the_session_ends_a_gather() -> None:
    client, _ = rpc.memory_pair(None, Api())
    waiting = asyncio.ensure_future(rpc.gather(client.main.wait(), client.main.wait()))
    await settle()
    await client.close()
    with pytest.raises(rpc.RpcError):
        await waiting
