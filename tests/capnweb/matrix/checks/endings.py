"""How sessions end: closed, cut, aborted, or by giving the main object back; and HTTP batches, which end at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import outcome
from tests.capnweb.matrix.main import turn

ENDINGS: Checks = {}
check = collect_into(ENDINGS)


def failure(got: Any, *words: str) -> Any:
    """Whether a call failed, and whether the words say why."""
    is_failed = isinstance(got, dict) and "$thrown" in got
    text = json.dumps(got["$thrown"]) if is_failed else ""
    return {"failed": is_failed, "says": [word for word in words if word in text]}


async def start(awaitable: Any) -> asyncio.Task[Any]:
    """What becomes of a call that is under way."""
    task = asyncio.ensure_future(outcome(awaitable))
    await turn()
    return task


def batch(t: Bench) -> Any:
    return rpc.batch(t.url.replace("ws:", "http:"), options=t.options)


@check
async def server_closes(t: Bench) -> Any:
    link = await t.open()
    pending = await start(link.main.never())
    rpc.dispose(link.main.closeSocket(4001, "good bye"))
    got = failure(await pending, "4001", "good bye")
    return [got, await link.closed(), failure(await outcome(link.main.square(3)), "4001")]


@check
async def server_cuts(t: Bench) -> Any:
    link = await t.open()
    pending = await start(link.main.never())
    rpc.dispose(link.main.cutSocket())
    return [failure(await pending, "1006"), (await link.closed())["code"]]


@check
async def client_closes(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    await link.main.makeCounter()
    link.session._transport.close(4002, "leaving")
    return await t.main.waitForEnd(connection_id)


@check
async def client_cuts(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    await link.main.makeCounter()
    link.session._transport.abort()
    end = await t.main.waitForEnd(connection_id)
    return [end["code"], end["log"]]


@check
async def client_cuts_while_the_server_holds_a_callback(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    await link.main.keep(lambda: 1)
    await link.main.watchKept()
    await link.main.watchPeer()
    link.session._transport.abort()
    return (await t.main.waitForEnd(connection_id))["log"]


@check
async def server_cuts_while_it_holds_a_target(t: Bench) -> Any:
    link = await t.open()
    await link.main.keep(t.counter())
    rpc.dispose(link.main.cutSocket())
    await link.closed()
    await turn()
    return t.log


@check
async def broken_callbacks_in_order(t: Bench) -> Any:
    link = await t.open()
    broken: list[str] = []
    counter = await link.main.makeCounter()
    rpc.on_broken(link.main, lambda error: broken.append(f"main {json.dumps(isinstance(error, Exception))}"))
    rpc.on_broken(counter, lambda error: broken.append(f"counter {json.dumps(isinstance(error, Exception))}"))
    rpc.on_broken(link.main, lambda _: broken.append("main again"))
    rpc.dispose(link.main.closeSocket(4001, "good bye"))
    await link.closed()
    await turn()
    return broken


@check
async def broken_callback_of_a_rejected_promise(t: Bench) -> Any:
    broken: list[str] = []
    promise = t.main.failLater("type")
    rpc.on_broken(promise, lambda error: broken.append(getattr(error, "name", "")))
    await outcome(promise)
    return broken


@check
async def client_gives_the_main_object_back(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    await link.main.makeCounter()
    pending = await start(link.main.never())
    rpc.dispose(link.main)
    end = await link.closed()
    return [failure(await pending), end["code"], end["reason"], await t.main.waitForEnd(connection_id)]


@check
async def server_gives_the_main_object_back(t: Bench) -> Any:
    link = await t.open()
    pending = await start(link.main.never())
    rpc.dispose(link.main.dropPeer())
    return [failure(await pending), await link.closed()]


@check
async def client_breaks_the_protocol(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    pending = await start(link.main.never())
    link.session._transport.send([b'["nonsense"]'])
    end = await link.closed()
    return [failure(await pending, "bad RPC message"), end["code"], (await t.main.waitForEnd(connection_id))["code"]]


@check
async def server_breaks_the_protocol(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    pending = await start(link.main.never())
    await link.main.watchPeer()
    rpc.dispose(link.main.sendRaw('["nonsense"]'))
    end = await link.closed()
    theirs = await t.main.waitForEnd(connection_id)
    return [failure(await pending, "bad RPC message"), end["code"], theirs["code"], theirs["log"]]


@check
async def stream_of_a_cut_session(t: Bench) -> Any:
    link = await t.open()
    connection_id = await link.main.connectionId
    stream = await link.main.writable("plain")
    await stream.write("one")
    await link.main.square(0)
    link.session._transport.abort()
    log = (await t.main.waitForEnd(connection_id))["log"]
    return [log[0], [line.split(" ")[0] for line in log[1:]], "$thrown" in await outcome(stream.write("two"))]


@check
async def batch_call(t: Bench) -> Any:
    async with batch(t) as api:
        return await outcome(api.square(7))


@check
async def batch_several_calls(t: Bench) -> Any:
    async with batch(t) as api:
        return await asyncio.gather(api.square(2), api.greet("batch"), api.answer)


@check
async def batch_pipelining(t: Bench) -> Any:
    async with batch(t) as api:
        return await outcome(api.incrementCounter(api.makeCounter(4), api.square(3)))


@check
async def batch_slow_call(t: Bench) -> Any:
    async with batch(t) as api:
        return await outcome(api.later("x"))


@check
async def batch_rejection(t: Bench) -> Any:
    async with batch(t) as api:
        return await asyncio.gather(outcome(api.fail("type")), outcome(api.square(2)))


@check
async def batch_value(t: Bench) -> Any:
    async with batch(t) as api:
        return await outcome(api.give("mixture"))


@check
async def batch_map(t: Bench) -> Any:
    async with batch(t) as api:
        return await outcome(api.numbers(3).map(api.square))


@check
async def batch_late_call(t: Bench) -> Any:
    async with batch(t) as api:
        await api.square(1)
        return failure(await outcome(api.square(2)), "Batch RPC request ended.")


@check
async def batch_get_refused(t: Bench) -> Any:
    host, port = t.url.removeprefix("ws://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(1):
            return int((await reader.readline()).split(b" ")[1])
    except TimeoutError:
        return "no answer"
    finally:
        writer.close()
        await writer.wait_closed()
