"""Stubs of objects that live here: the same interface, without a wire."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.sessions import Api, Counter, Joiner, quiet


@pytest.fixture(autouse=True)
async def _no_noise(noise: list[dict[str, Any]]) -> None:
    """No test here lets an error reach the loop."""


# What can be wrapped


async def test_a_target_can_be_wrapped() -> None:
    stub = rpc.stub(Counter(4))
    assert await stub.increment(2) == 6
    assert await stub.value == 6


async def test_functions_can_be_wrapped() -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    assert await rpc.stub(lambda n: n + 1)(3) == 4
    assert await rpc.stub(double)(3) == 6
    assert await rpc.stub(len)([1, 2]) == 2
    assert await rpc.stub(Counter(1).increment)(2) == 3


async def test_classes_and_callable_objects_can_be_wrapped() -> None:
    class Adder:
        def __init__(self, n: int) -> None:
            self._n = n

        def __call__(self, m: int) -> int:
            return self._n + m

    class Made(rpc.RpcTarget):
        def __init__(self, n: int) -> None:
            self._n = n

        def __call__(self) -> str:
            return "not this"

        @property
        def n(self) -> int:
            return self._n

    assert await rpc.stub(Adder(3))(4) == 7
    assert await rpc.stub(Made)(5).n == 5


async def test_values_can_be_wrapped_with_what_is_in_them() -> None:
    async def later(n: int) -> int:
        return n

    stub = rpc.stub(
        {
            "number": 5,
            "list": [1, {"a": 2}],
            "stub": rpc.stub(Counter(1)),
            "target": Counter(2),
            "function": lambda n: n + 1,
            "later": later,
        }
    )
    assert await stub.number == 5
    assert await stub["list"][1].a == 2
    assert await stub.stub.increment() == 2
    assert await stub.target.increment() == 3
    assert await stub.function(3) == 4
    assert await stub.later(4) == 4


async def test_targets_inside_targets_are_reached() -> None:
    class Outer(rpc.RpcTarget):
        def __init__(self) -> None:
            self._stub = rpc.stub(Counter(5))
            self._counter = Counter(6)

        @property
        def stub(self) -> Any:
            return self._stub

        @property
        def counter(self) -> Counter:
            return self._counter

    stub = rpc.stub(Outer())
    assert await stub.stub.increment() == 6
    assert await stub.counter.increment() == 7
    assert await stub.counter.value == 7


async def test_a_stub_of_a_stub_is_another_reference() -> None:
    counter = Counter()
    inner = rpc.stub(counter)
    outer = rpc.stub(inner)
    rpc.dispose(inner)
    assert await outer.increment() == 1
    rpc.dispose(outer)
    assert counter.disposals == 1


async def test_what_is_not_there_is_undefined() -> None:
    stub = rpc.stub(Counter())
    assert await stub.nope is rpc.UNDEFINED
    with pytest.raises(TypeError, match="Cannot read 'deeper' of undefined"):
        await stub.nope.deeper
    with pytest.raises(TypeError, match="'nope' is not a function"):
        await stub.nope()


async def test_instance_attributes_and_private_members_are_not_reached() -> None:
    stub = rpc.stub(Api())
    with pytest.raises(TypeError, match="instance property of the RpcTarget"):
        await stub.log
    for name in ("_rpc_dispose", "__init__", "_value"):
        with pytest.raises(TypeError, match="is not a function"):
            await stub[name]()


async def test_a_stub_says_what_it_is() -> None:
    assert str(rpc.stub(Counter())) == "<RpcStub local>"
    assert str(rpc.stub(Counter()).value) == "<RpcPromise local.value>"


# Results


async def test_a_result_is_a_copy_made_at_once() -> None:
    items = [1]

    class Main(rpc.RpcTarget):
        def give(self) -> list[int]:
            return items

    promise = rpc.stub(Main()).give()
    items.append(2)
    assert await promise == [1]


async def test_arguments_are_copies() -> None:
    api = Api()
    items = [1]
    call = rpc.stub(api).echo_later(items)
    items.append(2)
    assert await call == [1]


async def test_targets_in_results_are_stubs() -> None:
    api = Api()
    box = await rpc.stub(api).make_box(3)
    assert type(box["counters"][0]) is rpc.RpcStub
    assert await box["counters"][0].increment() == 4
    rpc.dispose(box)
    assert api.counters[0].disposals == 1


async def test_failures_arrive_as_they_were_raised() -> None:
    stub = rpc.stub(Api())
    for promise in (
        stub.fail("why"),
        stub.fail_later("why"),
        stub.fail("why").next.at[1].last(),
        stub.echo(stub.fail("why")),
    ):
        with pytest.raises(ValueError, match="why") as caught:
            await promise
        assert type(caught.value) is ValueError


async def test_a_value_too_deep_to_copy_fails_the_call() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    stub = rpc.stub(Api())
    with pytest.raises(ValueError, match="maximum allowed depth"):
        await stub.echo(cyclic)
    with pytest.raises(ValueError, match="maximum allowed depth"):
        await rpc.stub(lambda: cyclic)()


# Map


async def test_map_passes_nothing_through() -> None:
    api = Api()
    stub = rpc.stub(api)
    assert await stub.give_none().map(lambda item: stub.note(item)) is None  # noqa: PLW0108
    assert api.log == []


async def test_map_runs_on_each_element() -> None:
    stub = rpc.stub(Api())
    assert await stub.echo([1, 2, 3]).map(lambda n: stub.square(n)) == [1, 4, 9]  # noqa: PLW0108
    assert await stub.echo([{"n": 2}]).map(lambda item: {"n": item.n, "square": stub.square(item.n)}) == [
        {"n": 2, "square": 4}
    ]


async def test_maps_may_be_nested() -> None:
    stub = rpc.stub(Api())
    rows = stub.echo([[1, 2], [3]])
    assert await rows.map(lambda row: row.map(lambda n: stub.square(n))) == [[1, 4], [9]]  # noqa: PLW0108


# Disposal


async def test_disposing_a_value_disposes_what_is_in_it() -> None:
    inner, target = Counter(), Counter()
    with rpc.stub(inner) as own:
        stub = rpc.stub({"stub": own, "list": [target]})
        rpc.dispose(stub)
        assert (inner.disposals, target.disposals) == (0, 1)
    assert inner.disposals == 1


async def test_disposing_a_target_leaves_what_it_holds() -> None:
    inner = Counter()

    class Holder(rpc.RpcTarget):
        disposals = 0

        def __init__(self) -> None:
            self.stub = rpc.stub(inner)

        def _rpc_dispose(self) -> None:
            Holder.disposals += 1

    holder = Holder()
    rpc.dispose(rpc.stub(holder))
    assert (Holder.disposals, inner.disposals) == (1, 0)
    rpc.dispose(holder.stub)
    assert inner.disposals == 1


async def test_a_target_is_disposed_with_its_last_duplicate_and_once() -> None:
    counter = Counter()
    stub = rpc.stub(counter)
    twins = [stub.dup(), stub.dup()]
    for one in (stub, stub, stub, *twins[:1], twins[0]):
        rpc.dispose(one)
    assert counter.disposals == 0
    assert await twins[1].increment() == 1
    rpc.dispose(twins)
    assert counter.disposals == 1


async def test_a_disposed_stub_fails_whatever_is_done_with_it() -> None:
    stub = rpc.stub(Counter())
    rpc.dispose(stub)
    for promise in (stub.increment(), stub.value, stub.dup().increment(), stub.map(lambda item: item)):
        with pytest.raises(rpc.RpcDisposed, match="Attempted to use RPC stub after it has been disposed"):
            await promise


async def test_a_dropped_stub_disposes_its_target() -> None:
    counter = Counter()
    rpc.stub(counter)
    gc.collect()
    await quiet()
    assert counter.disposals == 1


async def test_arguments_are_disposed_when_the_call_is_over_and_stay_the_callers_when_there_was_none() -> None:
    api = Api()
    stub = rpc.stub(api)
    counters = [Counter() for _ in range(4)]
    assert await stub.increment(counters[0]) == 1
    assert await stub.echo_later([counters[1]]) is not None
    for failing in (stub.nope(counters[2]), stub.fail("x").next(counters[3])):
        with pytest.raises((TypeError, ValueError)):
            await failing
    gc.collect()
    await quiet()
    assert [counter.disposals for counter in counters] == [1, 1, 0, 0]


# A result that is not there yet


class Late:
    """A function whose result the test brings."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Any:
        return await self.result


def start(late: Late) -> Any:
    """The promise of its result."""
    return rpc.stub(late)()


async def test_calls_wait_for_the_result_and_keep_their_order() -> None:
    late = Late()
    promise = start(late)
    api = Api()
    calls = [promise.note(n) for n in range(3)]
    await quiet()
    assert api.log == []
    late.result.set_result(api)
    await calls[0]
    assert api.log == [0, 1, 2]
    await promise.note(3)
    assert api.log == [0, 1, 2, 3]


async def test_a_result_may_be_a_target_a_stub_of_anywhere_or_a_value(join: Joiner) -> None:
    link = join(Api())
    for result, call, expected in (
        (Counter(1), lambda promise: promise.increment(), 2),
        (link.api.dup(), lambda promise: promise.square(3), 9),
        (link.api.square(4), lambda promise: promise, 16),
        ({"a": [5]}, lambda promise: promise.a[0], 5),
    ):
        late = Late()
        promise = start(late)
        outcome = call(promise)  # type: ignore[no-untyped-call]  # a lambda's
        late.result.set_result(result)
        assert await outcome == expected


async def test_a_failure_reaches_who_waits_who_called_and_who_listens() -> None:
    late = Late()
    promise = start(late)
    told: list[Exception] = []
    rpc.on_broken(promise, told.append)
    called, read, mapped, twin = promise.method(), promise.a.b, promise.map(lambda item: item), promise.dup()
    late.result.set_exception(ValueError("why"))
    for outcome in (promise, called, read, mapped, twin):
        with pytest.raises(ValueError, match="why"):
            await outcome
    assert [str(error) for error in told] == ["why"]


async def test_a_failure_nobody_waits_for_makes_no_noise() -> None:
    late = Late()
    promise = start(late)
    promise.method()
    promise.map(lambda item: item.x())
    del promise
    late.result.set_exception(ValueError("why"))
    await quiet()
    gc.collect()
    await quiet()


async def test_a_promise_disposed_before_its_result_disposes_that() -> None:
    late = Late()
    counter = Counter()
    with start(late):
        pass
    late.result.set_result(counter)
    await quiet()
    assert counter.disposals == 1


async def test_a_call_made_before_the_disposal_is_delivered() -> None:
    late = Late()
    with start(late) as promise:
        outcome = promise.increment(3)
    with pytest.raises(rpc.RpcDisposed):
        await promise.increment()
    late.result.set_result(Counter(1))
    assert await outcome == 4


async def test_duplicates_of_a_pending_result_live_on() -> None:
    late = Late()
    promise = start(late)
    twin = promise.dup()
    rpc.dispose(promise)
    counter = Counter()
    late.result.set_result(counter)
    assert await twin.increment() == 1
    assert counter.disposals == 0
    rpc.dispose(twin)
    await quiet()
    assert counter.disposals == 1


async def test_disposing_a_pending_promise_fails_those_who_await_it() -> None:
    late = Late()
    promise = start(late)

    async def wait() -> Any:
        return await promise

    task = asyncio.ensure_future(wait())
    await quiet()
    rpc.dispose(promise)
    with pytest.raises(rpc.RpcDisposed, match="RPC was canceled because the RpcPromise was disposed"):
        await task
    late.result.set_result(1)


async def test_arguments_of_a_queued_call_are_given_back_when_the_result_fails() -> None:
    late = Late()
    promise = start(late)
    counters = [Counter(), Counter()]
    with rpc.stub(counters[1]) as own:
        promise.method(counters[0])
        promise.map(lambda item: item.call(own))
        late.result.set_exception(ValueError("why"))
        await quiet()
        assert [counter.disposals for counter in counters] == [1, 0]
    await quiet()
    assert counters[1].disposals == 1


async def test_a_promise_of_a_remote_property_sends_nothing_until_asked(join: Joiner) -> None:
    link = join(Api())
    late = Late()
    promise = start(late)
    nested = link.api.config.limits
    late.result.set_result([1])
    await promise
    assert link.client_wire.said == []
    assert await nested.depth == 3


async def test_a_property_promise_runs_no_getter_until_asked() -> None:
    runs: list[int] = []

    class Main(rpc.RpcTarget):
        @property
        def value(self) -> int:
            runs.append(1)
            return 5

    promise = rpc.stub(Main()).value
    await quiet()
    assert runs == []
    assert await promise == 5
    assert runs == [1]


async def test_async_getters_are_waited_for_on_the_way() -> None:
    class Main(rpc.RpcTarget):
        @property
        async def later(self) -> Any:
            await asyncio.sleep(0)
            return {"counter": Counter(1), "call": lambda n: n + 1}

        @property
        async def function(self) -> Callable[[int], int]:
            return lambda n: n + 2

        @property
        async def sour(self) -> Any:
            await asyncio.sleep(0)
            raise ValueError("sour")

    stub = rpc.stub(Main())
    assert await stub.later.counter.increment() == 2
    assert await stub.later.call(1) == 2
    assert await stub.function(1) == 3
    value = await stub.later
    assert await value["counter"].value == 1
    for promise in (stub.sour, stub.sour.deeper, stub.sour.method(1)):
        with pytest.raises(ValueError, match="sour"):
            await promise


async def test_a_target_that_a_path_only_leads_through_is_not_disposed(join: Joiner) -> None:
    disposed: list[str] = []

    class Log(rpc.RpcTarget):
        def write(self, text: str) -> int:
            return len(text)

        def _rpc_dispose(self) -> None:
            disposed.append("log")

    class Main(rpc.RpcTarget):
        def __init__(self) -> None:
            self._log = Log()

        @property
        def log(self) -> Log:
            return self._log

    for api in (rpc.stub(Main()), join(Main()).api):
        assert [await api.log.write("first"), await api.log.write("second")] == [5, 6]
        await quiet()
        assert disposed == []
        async with api.log as log:
            assert await log.write("third") == 5
        await quiet()
        assert disposed == ["log"]
        disposed.clear()
