"""Objects by reference: handed over, handed on, handed back, and given up, with the number of times disposers ran."""

from __future__ import annotations

import asyncio
from typing import Any

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import attempt, describe, outcome
from tests.capnweb.matrix.main import turn

CAPABILITIES: Checks = {}
check = collect_into(CAPABILITIES)


class LocalMain(rpc.RpcTarget):
    def double(self, n: int) -> int:
        return 2 * n


class Shared(rpc.RpcTarget):
    """Says in the log when it is duplicated and disposed."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def increment(self, by: int) -> int:
        return by

    def dup(self) -> Shared:
        self._log.append("duplicated")
        return Shared(self._log)

    def _rpc_dispose(self) -> None:
        self._log.append("disposed")


async def settle(t: Bench) -> None:
    """Let what has been given up arrive."""
    await t.main.square(0)
    await t.main.square(0)


@check
async def target_as_an_argument(t: Bench) -> Any:
    return [await t.main.incrementCounter(t.counter(10), 3), t.log]


@check
async def target_twice_in_one_call(t: Bench) -> Any:
    counter = t.counter()
    return [await t.main.incrementBoth(counter, counter), t.log]


@check
async def target_in_two_calls(t: Bench) -> Any:
    counter = t.counter()
    return [await t.main.incrementCounter(counter), await t.main.incrementCounter(counter), t.log]


@check
async def target_as_a_stub_argument(t: Bench) -> Any:
    stub = rpc.stub(t.counter())
    got = [await t.main.incrementCounter(stub), await t.main.incrementCounter(stub), [*t.log]]
    rpc.dispose(stub)
    return [*got, t.log]


@check
async def target_kept(t: Bench) -> Any:
    await t.main.keep(t.counter(1))
    got = [await t.main.incrementKept(4), [*t.log]]
    await t.main.dropKept()
    await settle(t)
    return [*got, t.log]


@check
async def target_with_dup(t: Bench) -> Any:
    return [await t.main.incrementCounter(Shared(t.log), 2), t.log]


@check
async def target_in_a_failing_call(t: Bench) -> Any:
    return [await outcome(t.main.nope(t.counter())), t.log]


@check
async def target_on_a_rejected_promise(t: Bench) -> Any:
    got = await outcome(t.hold(t.main.failLater("type")).use(t.counter()))
    await settle(t)
    return [got["$thrown"]["$error"]["name"], t.log]


@check
async def target_comes_back_in_an_object(t: Bench) -> Any:
    counter = t.counter()
    box = await t.main.wrap(counter)
    got = [await box["stub"].increment(2), counter.value]
    rpc.dispose(box)
    await settle(t)
    return [*got, t.log]


@check
async def target_comes_back_without_dup(t: Bench) -> Any:
    promise = t.main.wrapWithoutDup(t.counter(1))
    got = await outcome(promise.stub.increment(2))
    rpc.dispose(promise)
    await settle(t)
    return [got, t.log]


@check
async def target_comes_back_as_the_result(t: Bench) -> Any:
    promise = t.main.giveBack(t.counter(1))

    async def increment() -> Any:
        return await (await promise).increment(2)

    got = await outcome(increment())
    rpc.dispose(promise)
    await settle(t)
    return [got, t.log]


@check
async def result_disposed(t: Bench) -> Any:
    counter = await t.main.makeCounter(1)
    got = [await describe(counter), await counter.increment(), await t.main.takeLog()]
    rpc.dispose(counter)
    return [*got, await t.main.takeLog()]


@check
async def result_never_awaited_and_disposed(t: Bench) -> Any:
    rpc.dispose(t.main.makeCounter())
    return await t.main.takeLog()


@check
async def result_with_a_target_inside(t: Bench) -> Any:
    box = await t.main.makeBox(5)
    got = [box["label"], await box["counter"].increment()]
    rpc.dispose(box)
    return [*got, await t.main.takeLog()]


@check
async def result_pipelined_into_and_disposed(t: Bench) -> Any:
    box = t.main.makeBox(5)
    got = [await box.counter.increment(), await box.counter.value, await t.main.incrementCounter(box.counter, 2)]
    rpc.dispose(box)
    return [*got, await t.main.takeLog()]


@check
async def result_awaited_and_passed_on_at_once(t: Bench) -> Any:
    promise = t.main.makeCounter(1)

    async def wait() -> Any:
        return await promise

    waiting = asyncio.ensure_future(wait())
    await turn()
    got = [await t.main.incrementCounter(promise, 2)]
    counter = await waiting
    got.append(await counter.value)
    rpc.dispose(counter)
    return [*got, await t.main.takeLog()]


@check
async def result_with_one_target_three_times(t: Bench) -> Any:
    counters = await t.main.makeTriplet()
    got = [await counters[0].increment(), await counters[2].increment()]
    rpc.dispose(counters)
    return [*got, await t.main.takeLog()]


@check
async def result_with_one_stub_three_times(t: Bench) -> Any:
    counters = await t.main.makeSharedTriplet()
    got = [await counters[0].increment(), await counters[2].increment()]
    rpc.dispose(counters)
    return [*got, await t.main.takeLog()]


@check
async def stub_duplicated(t: Bench) -> Any:
    counter = await t.main.makeCounter()
    other = counter.dup()
    rpc.dispose(counter)
    got = [await other.increment(), await t.main.takeLog()]
    rpc.dispose(other)
    return [*got, await t.main.takeLog()]


@check
async def promise_duplicated(t: Bench) -> Any:
    promise = t.main.makeCounterLater(5)
    other = promise.dup()
    rpc.dispose(promise)
    got = [await other.increment(), await t.main.takeLog()]
    rpc.dispose(other)
    return [*got, await t.main.takeLog()]


@check
async def stub_disposed_twice(t: Bench) -> Any:
    counter = await t.main.makeCounter()
    other = counter.dup()
    rpc.dispose(counter)
    rpc.dispose(counter)
    got = await other.increment()
    rpc.dispose(other)
    return [got, await t.main.takeLog()]


@check
async def stub_used_after_its_disposal(t: Bench) -> Any:
    counter = await t.main.makeCounter()
    rpc.dispose(counter)
    return (await attempt(counter.increment))["$thrown"]["$error"]["message"]


@check
async def stub_disposed_as_an_argument(t: Bench) -> Any:
    counter = await t.main.makeCounter()
    rpc.dispose(counter)
    got = await attempt(lambda: t.main.incrementCounter(counter))
    return [got["$thrown"]["$error"]["message"], await t.main.square(3)]


@check
async def promise_disposed_while_awaited(t: Bench) -> Any:
    promise = t.main.never()
    waiting = asyncio.ensure_future(outcome(promise))
    await turn()
    rpc.dispose(promise)
    return (await waiting)["$thrown"]["$error"]["message"]


@check
async def promise_disposed_before_its_target_is_made(t: Bench) -> Any:
    rpc.dispose(t.main.makeCounterLater())
    await t.main.later()
    await settle(t)
    return await t.main.takeLog()


@check
async def promises_never_awaited_and_disposed(t: Bench) -> Any:
    promises = [t.main.square(i) for i in range(50)]
    for promise in promises:
        rpc.dispose(promise)
    return await t.main.square(2)


@check
async def promises_never_awaited_and_dropped(t: Bench) -> Any:
    for i in range(50):
        t.main.square(i)
    return await t.main.square(2)


@check
async def main_as_an_argument(t: Bench) -> Any:
    return await outcome(t.main.callSquare(t.main, 6))


@check
async def stub_comes_back_as_an_argument(t: Bench) -> Any:
    counter = await t.main.makeCounter(1)
    # It comes back as the server's own: nothing goes through this side.
    exports = t.link.session.stats().exports
    got = [await t.main.incrementCounter(counter, 2), await counter.value, exports]
    rpc.dispose(counter)
    return [*got, await t.main.takeLog()]


@check
async def stub_comes_back_in_an_object(t: Bench) -> Any:
    counter = await t.main.makeCounter(1)
    box = t.main.wrap(counter)
    got = [await outcome(box.stub.increment()), await counter.value]
    rpc.dispose(box)
    rpc.dispose(counter)
    return [*got, await t.main.takeLog()]


@check
async def stub_comes_back_as_the_result(t: Bench) -> Any:
    counter = await t.main.makeCounter(1)
    again = t.main.giveBack(counter)
    got = [await outcome(again.increment()), await counter.value]
    rpc.dispose(again)
    rpc.dispose(counter)
    return [*got, await t.main.takeLog()]


@check
async def promise_comes_back(t: Bench) -> Any:
    promise = t.main.makeCounterLater(1)
    box = await t.main.wrap(promise)
    got = [await box["stub"].increment(), await promise.value]
    rpc.dispose(box)
    rpc.dispose(promise)
    return [*got, await t.main.takeLog()]


@check
async def server_calls_the_main_of_the_client(t: Bench) -> Any:
    other = await t.open(LocalMain())
    return await outcome(other.main.callPeer(4))


@check
async def server_calls_a_client_without_main(t: Bench) -> Any:
    return await outcome(t.main.callPeer(4))


@check
async def three_parties_stub(t: Bench) -> Any:
    other = await t.open()
    counter = await t.main.makeCounter(1)
    got = [await other.main.incrementCounter(counter, 2), await counter.value]
    rpc.dispose(counter)
    await settle(t)
    return [*got, await t.main.takeLog()]


@check
async def three_parties_promise(t: Bench) -> Any:
    other = await t.open()
    promise = t.main.makeCounterLater(1)
    got = [await other.main.incrementCounter(promise, 2), await promise.value]
    rpc.dispose(promise)
    await settle(t)
    return [*got, await t.main.takeLog()]


@check
async def three_parties_promise_of_a_value(t: Bench) -> Any:
    other = await t.open()
    return await outcome(other.main.square(t.hold(t.main.later(5))))


@check
async def three_parties_member(t: Bench) -> Any:
    other = await t.open()
    return await outcome(other.main.call(t.main.square, 5))


@check
async def three_parties_main(t: Bench) -> Any:
    other = await t.open()
    return await outcome(other.main.callSquare(t.main, 5))


@check
async def three_parties_kept(t: Bench) -> Any:
    other = await t.open()
    counter = await t.main.makeCounter(1)
    await other.main.keep(counter)
    rpc.dispose(counter)
    got = [await other.main.incrementKept(1), await t.main.takeLog()]
    await other.main.dropKept()
    await other.main.square(0)
    return [*got, await t.main.takeLog()]


@check
async def three_parties_round_trip(t: Bench) -> Any:
    other = await t.open()
    counter = await t.main.makeCounter(1)
    box = await other.main.wrap(counter)
    got = [await attempt(lambda: t.main.incrementCounter(box["stub"], 2)), await counter.value]
    rpc.dispose(box)
    rpc.dispose(counter)
    await settle(t)
    return [*got, await t.main.takeLog()]
