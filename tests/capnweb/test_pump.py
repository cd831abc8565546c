"""Pushing items to a callback: in order, in lists, with few calls under way, and with nothing lost in silence."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.sessions import Joiner, quiet


class Api(rpc.RpcTarget):
    """Takes lists; answers while its gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, items: list[Any]) -> None:
        self.batches.append(items)
        await self.gate.wait()

    def refuse(self, items: list[Any]) -> None:
        raise ValueError(f"no {items}")

    def taker(self) -> Any:
        return self.take


@pytest.fixture
async def api() -> Api:
    return Api()


async def test_items_of_one_turn_go_out_in_one_call(join: Joiner, api: Api) -> None:
    link = join(api)

    async with rpc.Pump(link.api.take) as pump:
        for i in range(5):
            pump.send(i)
        waiting = pump.waiting

    assert waiting == 5
    assert api.batches == [[0, 1, 2, 3, 4]]


async def test_call_is_one_stream_message(join: Joiner, api: Api) -> None:
    link = join(api)

    async with rpc.Pump(link.api.take) as pump:
        pump.send("a")
    await quiet()

    assert link.client_wire.said == [["stream", ["pipeline", 0, ["take"], [[["a"]]]]]]


async def test_items_wait_while_the_window_is_full(join: Joiner, api: Api) -> None:
    link = join(api)
    api.gate.clear()

    async with rpc.Pump(link.api.take, window=2) as pump:
        for i in range(6):
            pump.send(i)
            await quiet()
        in_flight, waiting, batches = pump.in_flight, pump.waiting, list(api.batches)
        api.gate.set()

    assert (in_flight, waiting) == (2, 4)
    assert batches == [[0], [1]]
    assert api.batches == [[0], [1], [2, 3, 4, 5]]


async def test_long_lists_are_cut(join: Joiner, api: Api) -> None:
    link = join(api)

    async with rpc.Pump(link.api.take, max_batch=2) as pump:
        for i in range(5):
            pump.send(i)

    assert api.batches == [[0, 1], [2, 3], [4]]


async def test_callback_that_came_as_a_stub(join: Joiner, api: Api) -> None:
    link = join(api)

    with await link.api.taker() as taker:
        pump = rpc.Pump(taker)
    async with pump:
        pump.send(1)

    assert api.batches == [[1]]


async def test_callback_that_is_not_known_yet(join: Joiner, api: Api) -> None:
    link = join(api)

    async with rpc.Pump(link.api.taker()) as pump:
        pump.send(1)

    assert api.batches == [[1]]


async def test_local_callback(join: Joiner, api: Api) -> None:
    join()
    taken: list[Any] = []

    with rpc.stub(taken.extend) as stub:
        async with rpc.Pump(stub) as pump:
            pump.send(1)
            pump.send(2)

    assert taken == [1, 2]


async def test_drain_waits_for_every_answer(join: Joiner, api: Api) -> None:
    link = join(api)
    api.gate.clear()
    pump = rpc.Pump(link.api.take)

    pump.send(1)
    draining = asyncio.ensure_future(pump.drain())
    await quiet()
    was_waiting = not draining.done()
    api.gate.set()
    await draining
    await pump.close()

    assert was_waiting
    assert pump.in_flight == 0


async def test_failing_call_ends_the_pump(join: Joiner, api: Api) -> None:
    link = join(api)
    pump = rpc.Pump(link.api.refuse)

    pump.send(1)
    with pytest.raises(rpc.RemoteRangeError, match=r"no \[1\]"):
        await pump.drain()
    with pytest.raises(rpc.RemoteRangeError, match=r"no \[1\]"):
        pump.send(2)
    with pytest.raises(rpc.RemoteRangeError, match=r"no \[1\]"):
        await pump.close()


async def test_item_that_cannot_be_sent_ends_the_pump(join: Joiner, api: Api) -> None:
    link = join(api)
    pump = rpc.Pump(link.api.take)

    pump.send(object())

    with pytest.raises(TypeError, match="Cannot serialize"):
        await pump.close()


async def test_peer_that_does_not_keep_up_ends_the_pump(join: Joiner, api: Api) -> None:
    link = join(api)
    pump = rpc.Pump(link.api.take, max_waiting=3)
    for i in range(3):
        pump.send(i)

    with pytest.raises(rpc.RpcError, match="does not keep up"):
        pump.send(3)
    with pytest.raises(rpc.RpcError, match="does not keep up"):
        await pump.drain()


async def test_lost_connection_ends_the_pump(join: Joiner, api: Api) -> None:
    link = join(api)
    api.gate.clear()
    pump = rpc.Pump(link.api.take)
    pump.send(1)
    await quiet()

    link.client_wire.inner.cut()

    with pytest.raises(rpc.RpcDisconnected):
        await pump.drain()
    api.gate.set()


async def test_exception_in_a_with_block_drops_what_waits(join: Joiner, api: Api) -> None:
    link = join(api)

    pump = rpc.Pump(link.api.take)

    async def fail() -> None:
        async with pump:
            pump.send(1)
            raise KeyError("lost")

    with pytest.raises(KeyError):
        await fail()
    await quiet()

    assert api.batches == []
    with pytest.raises(rpc.RpcError, match="closed"):
        pump.send(2)


async def test_pump_that_is_dropped_gives_its_callback_back(join: Joiner, api: Api) -> None:
    link = join(api)
    pump = rpc.Pump(await link.api.taker())
    pump.send(1)
    await quiet()

    del pump
    gc.collect()
    await quiet()

    assert api.batches == [[1]]


@pytest.mark.parametrize("name", ["window", "max_batch", "max_waiting"])
async def test_options_are_positive(join: Joiner, api: Api, name: str) -> None:
    link = join(api)

    with pytest.raises(ValueError, match=name):
        rpc.Pump(link.api.take, **{name: 0})
