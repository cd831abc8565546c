"""Calls, properties, pipelining, what may be reached by a path, and the order in which calls start."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import describe, outcome

CALLS: Checks = {}
check = collect_into(CALLS)


def message_of(got: Any) -> str:
    return str(got["$thrown"]["$error"]["message"])


async def find_reachable(stub: Any, names: list[str]) -> list[str]:
    """Those of `names` that are there on `stub`, or can be called."""
    found = []
    for name in names:
        if await outcome(stub[name]) != {"$undefined": True}:
            found.append(name)
        called = await outcome(stub[name]("x"))
        if not message_of(called).endswith(f"{name}' is not a function."):
            found.append(f"{name}()")
    return found


@check
async def call_returns(t: Bench) -> Any:
    return await outcome(t.main.square(7))


@check
async def call_arguments_in_order(t: Bench) -> Any:
    return await outcome(t.main.collect("a", 2, None))


@check
async def call_without_arguments(t: Bench) -> Any:
    return await outcome(t.main.collect())


@check
async def call_default_argument(t: Bench) -> Any:
    return await outcome(t.main.greet())


@check
async def call_undefined_takes_the_default(t: Bench) -> Any:
    return await outcome(t.main.greet(rpc.UNDEFINED, "?"))


@check
async def call_surplus_arguments(t: Bench) -> Any:
    return await outcome(t.main.square(3, "more"))


@check
async def call_missing_argument(t: Bench) -> Any:
    return await outcome(t.main.square())


@check
async def call_async_method(t: Bench) -> Any:
    return await outcome(t.main.later("x"))


@check
async def call_returns_nothing(t: Bench) -> Any:
    return await outcome(t.main.nothing())


@check
async def call_two_hundred_in_flight(t: Bench) -> Any:
    return sum(await asyncio.gather(*[t.main.square(i) for i in range(200)]))


@check
async def call_two_thousand_slow_in_flight(t: Bench) -> Any:
    return sum(await asyncio.gather(*[t.main.later(i) for i in range(2000)]))


@check
async def call_a_property(t: Bench) -> Any:
    return await outcome(t.main.answer())


@check
async def call_a_function(t: Bench) -> Any:
    add = await t.main.makeAdder(5)
    got = await add(3)
    rpc.dispose(add)
    return got


@check
async def getter(t: Bench) -> Any:
    return await outcome(t.main.answer)


@check
async def getter_runs_every_time(t: Bench) -> Any:
    return [await t.main.ticks, await t.main.ticks]


@check
async def getter_that_throws(t: Bench) -> Any:
    return await outcome(t.main.sour)


@check
async def property_of_a_property(t: Bench) -> Any:
    return await outcome(t.main.config.limits.depth)


@check
async def property_of_a_result(t: Bench) -> Any:
    return await outcome(t.hold(t.main.give("object")).b.c)


@check
async def index_as_text(t: Bench) -> Any:
    return await outcome(t.main.config.names["1"])


@check
async def index_as_number(t: Bench) -> Any:
    return await outcome(t.main.config.names[1])


@check
async def instance_property_refused(t: Bench) -> Any:
    got = await outcome(t.main.inside)
    message = message_of(got)
    return [got["$thrown"]["$error"]["name"], "inside" in message and "instance property" in message]


@check
async def class_constant_hidden(t: Bench) -> Any:
    return await outcome(t.main.motto)


@check
async def missing_member(t: Bench) -> Any:
    return await outcome(t.main.nope)


@check
async def missing_method(t: Bench) -> Any:
    return await outcome(t.main.nope(1))


@check
async def missing_method_of_a_result(t: Bench) -> Any:
    return await outcome(t.hold(t.main.makeTree()).self.nope())


@check
async def missing_method_of_a_value(t: Bench) -> Any:
    return await outcome(t.main.config.limits.nope())


@check
async def below_undefined(t: Bench) -> Any:
    return (await outcome(t.main.nope.deeper))["$thrown"]["$error"]["name"]


@check
async def underscore_method(t: Bench) -> Any:
    return await outcome(t.main["_private"]())


@check
async def members_of_text(t: Bench) -> Any:
    names = ["length", "at", "toUpperCase", "upper", "format", "encode"]
    return await find_reachable(t.hold(t.main.greet()), names)


@check
async def members_of_a_list(t: Bench) -> Any:
    return await find_reachable(t.main.config.names, ["length", "push", "pop", "append", "sort", "at"])


@check
async def members_of_a_date(t: Bench) -> Any:
    return await find_reachable(t.main.config.started, ["getTime", "year", "replace", "isoformat"])


@check
async def members_of_a_function(t: Bench) -> Any:
    names = ["call", "apply", "bind", "__globals__", "__code__", "__self__"]
    return await find_reachable(t.hold(t.main.makeAdder(1)), names)


@check
async def members_of_an_object(t: Bench) -> Any:
    return await find_reachable(t.main.config, ["keys", "get", "update", "__class__", "__dict__"])


@check
async def members_of_a_target(t: Bench) -> Any:
    return await find_reachable(t.main, ["__class__", "__dict__", "__init__", "__init_subclass__"])


@check
async def pipelining_three_deep(t: Bench) -> Any:
    return await outcome(t.hold(t.hold(t.hold(t.main.makeTree()).child("a")).child("b")).path)


@check
async def pipelining_through_a_property(t: Bench) -> Any:
    return await outcome(t.hold(t.hold(t.main.makeTree()).self.child("a")).self.path)


@check
async def pipelining_into_an_object(t: Bench) -> Any:
    return await outcome(t.hold(t.main.makeBox(4)).counter.increment(2))


@check
async def pipelining_calls_a_result(t: Bench) -> Any:
    return await outcome(t.hold(t.main.makeAdder(5))(3))


@check
async def pipelining_on_a_slow_result(t: Bench) -> Any:
    return await outcome(t.hold(t.main.makeCounterLater(4)).increment())


@check
async def await_twice(t: Bench) -> Any:
    promise = t.main.ticks
    return [await promise, await promise]


@check
async def await_after_pipelining(t: Bench) -> Any:
    promise = t.main.makeCounter(3)
    got = [await promise.increment(), await promise.increment(10)]
    counter = await promise
    got.append(await counter.value)
    rpc.dispose(counter)
    return got


@check
async def pipelined_on_a_rejection(t: Bench) -> Any:
    return await outcome(t.hold(t.hold(t.main.fail("type")).child("a")).path)


@check
async def pipelined_on_a_late_rejection(t: Bench) -> Any:
    return await outcome(t.hold(t.hold(t.main.failLater("range")).child("a")).path)


@check
async def member_as_a_value(t: Bench) -> Any:
    square = await t.main.square
    got = [await describe(square), await square(6)]
    rpc.dispose(square)
    return got


@check
async def member_of_a_result_as_a_value(t: Bench) -> Any:
    counter = await t.main.makeCounter(1)
    increment = await counter.increment
    got = await outcome(increment(4))
    rpc.dispose(increment)
    rpc.dispose(counter)
    return got["$thrown"]["$error"]["name"] if isinstance(got, dict) else got


@check
async def member_as_an_argument(t: Bench) -> Any:
    return await outcome(t.main.call(t.main.square, 5))


@check
async def promise_as_an_argument(t: Bench) -> Any:
    return await outcome(t.main.square(t.hold(t.main.square(3))))


@check
async def promise_twice_as_an_argument(t: Bench) -> Any:
    nine = t.hold(t.main.square(3))
    return await outcome(t.main.collect(nine, nine))


@check
async def promise_inside_an_argument(t: Bench) -> Any:
    square, greeting = t.hold(t.main.square(3)), t.hold(t.main.greet())
    return json.loads(await t.main.describe({"a": [square, {"b": greeting}]}))


@check
async def promise_of_a_property_as_an_argument(t: Bench) -> Any:
    return await outcome(t.main.square(t.main.config.limits.depth))


@check
async def promise_of_a_slow_result_as_an_argument(t: Bench) -> Any:
    return await outcome(t.main.square(t.hold(t.main.later(4))))


@check
async def promise_of_a_target_as_an_argument(t: Bench) -> Any:
    return await outcome(t.main.incrementCounter(t.hold(t.main.makeCounter(4)), 3))


@check
async def rejected_promise_as_an_argument(t: Bench) -> Any:
    got = await outcome(t.main.note(t.hold(t.main.fail("type"))))
    return [got, await t.main.takeLog()]


@check
async def promise_inside_a_result(t: Bench) -> Any:
    return await outcome(t.main.callSquare(t.main, 6))


@check
async def promise_as_a_result(t: Bench) -> Any:
    return await outcome(t.main.forwardSquare(t.main, 6))


@check
async def order_of_concurrent_calls(t: Bench) -> Any:
    for i in range(50):
        rpc.dispose(t.main.note(i))
    return " ".join(map(str, await t.main.takeLog()))


@check
async def order_of_sync_and_async_methods(t: Bench) -> Any:
    for i in range(10):
        rpc.dispose(t.main.note(i) if i % 2 else t.main.noteLater(i))
    return " ".join(map(str, await t.main.takeLog()))


@check
async def order_on_a_slow_result(t: Bench) -> Any:
    tree = t.main.makeTreeLater()
    early = [tree.note("one"), tree.note("two")]
    stub = await tree
    await stub.note("three")
    await asyncio.gather(*early)
    rpc.dispose(stub)
    return await t.main.takeLog()


@check
async def order_of_answers(t: Bench) -> Any:
    answered = []
    quick = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await quick

    slow = asyncio.ensure_future(t.main.call(wait))
    slow.add_done_callback(lambda _: answered.append("first call"))
    await t.main.square(1)
    answered.append("second call")
    quick.set_result(None)
    await slow
    return answered
