"""Functions of the client that the server calls, at once or later, and functions recorded by map."""

from __future__ import annotations

import json
from typing import Any

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import outcome
from tests.capnweb.matrix.main import turn

CALLBACKS: Checks = {}
check = collect_into(CALLBACKS)


async def increment_later(n: int) -> int:
    await turn()
    return n + 1


def refuse() -> None:
    raise ValueError("in the callback")


async def refuse_later() -> None:
    await turn()
    raise ValueError("in the callback")


@check
async def callback_sync(t: Bench) -> Any:
    return await outcome(t.main.call(lambda n: n + 1, 4))


@check
async def callback_async(t: Bench) -> Any:
    return await outcome(t.main.call(increment_later, 4))


@check
async def callback_after_a_turn(t: Bench) -> Any:
    return await outcome(t.main.callLater(lambda n: n + 1, 4))


@check
async def callback_several_arguments(t: Bench) -> Any:
    return await outcome(t.main.call(lambda a, b: f"{a}{b}", "x", 2))


@check
async def callback_surplus_arguments(t: Bench) -> Any:
    return await outcome(t.main.call(lambda n: n + 1, 4, "more", "still more"))


@check
async def callback_missing_argument(t: Bench) -> Any:
    return json.loads(await t.main.describeCall(lambda _n, other=rpc.UNDEFINED: other, 4))


@check
async def callback_returns_nothing(t: Bench) -> Any:
    def nothing() -> None:
        pass

    return json.loads(await t.main.describeCall(nothing))


@check
async def callback_throws(t: Bench) -> Any:
    return json.loads(await t.main.describeCall(refuse))


@check
async def callback_async_throws(t: Bench) -> Any:
    return json.loads(await t.main.describeCall(refuse_later))


@check
async def callback_throws_through(t: Bench) -> Any:
    return await outcome(t.main.call(refuse))


@check
async def callback_inside_an_object(t: Bench) -> Any:
    return await outcome(t.main.callMember({"on": {"event": lambda n: n * 3}}, 5))


@check
async def callback_returns_a_target(t: Bench) -> Any:
    got = await t.main.useReturned(lambda: t.counter(1))
    await t.main.square(0)
    return [got, t.log]


@check
async def callback_calls_the_server(t: Bench) -> Any:
    def square(n: int) -> Any:
        return t.main.square(n)

    return await outcome(t.main.call(square, 5))


@check
async def callback_gets_a_stub(t: Bench) -> Any:
    return await outcome(t.main.call(lambda counter: counter.increment(2), t.hold(t.main.makeCounter(1))))


@check
async def callback_released_after_the_call(t: Bench) -> Any:
    await t.main.call(lambda: 1)
    return t.link.session.stats().exports


@check
async def callback_used_after_the_call(t: Bench) -> Any:
    await t.main.call(lambda: 1)
    return await outcome(t.main.call(lambda: 2))


@check
async def callback_kept_in_order(t: Bench) -> Any:
    seen: list[int] = []
    await t.main.keep(seen.append)
    got = await t.main.callKept(100)
    await t.main.dropKept()
    return [got, len(seen), seen == list(range(100))]


@check
async def callback_kept_async_in_order(t: Bench) -> Any:
    started = []

    async def note(i: int) -> None:
        started.append(i)
        await turn()

    await t.main.keep(note)
    await t.main.callKept(20)
    await t.main.dropKept()
    return " ".join(map(str, started))


@check
async def map_list(t: Bench) -> Any:
    return await outcome(t.hold(t.main.numbers(4)).map(t.main.square))


@check
async def map_empty_list(t: Bench) -> Any:
    return await outcome(t.hold(t.main.numbers(0)).map(t.main.square))


@check
async def map_null(t: Bench) -> Any:
    return await outcome(t.hold(t.main.give("null")).map(t.main.square))


@check
async def map_undefined(t: Bench) -> Any:
    return await outcome(t.hold(t.main.give("undefined")).map(t.main.square))


@check
async def map_single_value(t: Bench) -> Any:
    return await outcome(t.hold(t.main.square(3)).map(t.main.square))


@check
async def map_property(t: Bench) -> Any:
    return await outcome(t.main.config.map(lambda config: config.limits.depth))


@check
async def map_builds_objects(t: Bench) -> Any:
    numbers = t.hold(t.main.numbers(2))
    return await outcome(numbers.map(lambda n: {"n": n, "square": t.main.square(n), "list": [n, [n]], "text": "t"}))


@check
async def map_nested(t: Bench) -> Any:
    numbers = t.hold(t.main.numbers(3))
    return await outcome(numbers.map(lambda n: t.main.numbers(n).map(lambda m: t.main.collect(n, m))))


@check
async def map_over_targets(t: Bench) -> Any:
    counters = t.main.makeTriplet()
    got = await outcome(counters.map(lambda counter: counter.increment(2)))
    rpc.dispose(counters)
    return [got, await t.main.takeLog()]


@check
async def map_over_slow_results(t: Bench) -> Any:
    return await outcome(t.hold(t.main.numbers(3)).map(t.main.later))


@check
async def map_that_fails(t: Bench) -> Any:
    return "$thrown" in await outcome(t.hold(t.main.numbers(2)).map(t.main.fail))


@check
async def map_of_a_rejection(t: Bench) -> Any:
    got = await outcome(t.hold(t.main.fail("type")).map(t.main.square))
    return got["$thrown"]["$error"]["name"]


@check
async def map_captures_a_stub(t: Bench) -> Any:
    counter = await t.main.makeCounter()
    got = await outcome(t.hold(t.main.numbers(3)).map(lambda _: counter.increment(1)))
    rpc.dispose(counter)
    return [got, await t.main.takeLog()]
