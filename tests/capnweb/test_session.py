"""Two sessions joined in memory: calls, capabilities, order, lifetimes, failures and ends, as applications see them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.sessions import Api, Counter, Joiner, Link, quiet, turn

HELD_TWO = (rpc.Stats(2, 1), rpc.Stats(1, 2))


async def failure_of(awaitable: Awaitable[Any]) -> Exception:
    """What awaiting raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is, the test looks at it
        await awaitable
    assert isinstance(caught.value, Exception)
    return caught.value


# Calls


async def test_methods_properties_and_items_are_reached(join: Joiner) -> None:
    api = join(Api()).api
    assert await api.square(3) == 9
    assert await api.answer == 42
    assert await api.slow_answer == 42
    assert await api.config.names[1] == "b"
    assert await api.echo([1, {"a": None}]) == [1, {"a": None}]
    assert await api.echo_later("x") == "x"
    assert await api.give_none() is None
    assert await api.nothing is None


async def test_a_main_object_may_be_any_value(join: Joiner) -> None:
    assert await join({"double": lambda n: 2 * n}).api.double(4) == 8
    assert await join(lambda n: n + 1).api(4) == 5
    assert await join([10, 20]).api[1] == 20
    assert (await failure_of(join().api.anything())).args == ("This connection has no main object.",)


async def test_both_sides_may_call(join: Joiner) -> None:
    link = join(Api(), Api())
    assert await link.client.main.square(2) == 4
    assert await link.server.main.square(3) == 9


async def test_async_functions_may_be_passed(join: Joiner) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    assert await join(Api()).api.call(double, 4) == 8


async def test_arguments_may_be_left_out_as_defaults_allow(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def greet(self, name: str = "world", mark: Any = "!") -> str:
            return f"{name}{mark}"

        def need(self, value: Any) -> Any:
            return value is None

    api = join(Main()).api
    assert await api.greet() == "world!"
    assert await api.greet(rpc.UNDEFINED, "?") == "world?"
    assert await api.greet("you", rpc.UNDEFINED) == "you!"
    assert await api.greet("you", None) == "youNone"
    assert await api.need(rpc.UNDEFINED) is True


async def test_undefined_reaches_who_asked_for_it(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def is_undefined(self, value: Any, *more: Any) -> list[bool]:
            return [value is rpc.UNDEFINED, *(item is rpc.UNDEFINED for item in more)]

        def with_default(self, value: Any = 3) -> Any:
            return value

    link = join(Main(), server_options=rpc.Options(keep_undefined=True))
    assert await link.api.is_undefined(rpc.UNDEFINED, None, rpc.UNDEFINED) == [True, False, True]
    assert await link.api.with_default(rpc.UNDEFINED) == 3


async def test_a_method_keeps_its_arity_and_says_so_without_our_names(join: Joiner) -> None:
    api = join(Api()).api
    error = await failure_of(api.square(1, 2))
    assert isinstance(error, rpc.RemoteTypeError)
    assert str(error) == "'square' cannot be called with 2 argument(s): too many positional arguments"
    error = await failure_of(api.square())
    assert str(error) == "'square' cannot be called with 0 argument(s): missing a required argument: 'n'"


async def test_a_type_error_within_a_method_is_its_own(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def add(self, value: Any) -> Any:
            return 1 + value

    error = await failure_of(join(Main()).api.add("x"))
    assert str(error) == "unsupported operand type(s) for +: 'int' and 'str'"


async def test_callbacks_drop_surplus_arguments(join: Joiner) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def hear(self, one: Any) -> None:
            self.heard.append(one)

        async def hear_later(self, one: Any, two: Any = "two") -> None:
            self.heard.append((one, two))

    api = join(Api()).api
    listener = Listener()
    await api.call(listener.hear, 1, 2, 3)
    await api.call(listener.hear_later, 1)
    await api.call(listener.hear_later, 1, 2, 3)
    await api.call(lambda *all: listener.heard.append(all), 1, 2, 3)
    await api.call(lambda: listener.heard.append("none"), 1, 2, 3)
    await api.call(functools.partial(listener.hear), 4, 5)
    await api.call(functools.partial(listener.hear_later, "bound"), 6, 7)
    await api.call(functools.partial(listener.hear_later, two="bound"), 8, 9)
    await api.call(functools.partial(listener.heard.append, "all bound"), 1)
    await api.call(functools.partial(lambda *all: listener.heard.append(all), "open"), 1, 2)
    assert listener.heard[:5] == [1, (1, "two"), (1, 2), (1, 2, 3), "none"]
    assert listener.heard[5:] == [4, ("bound", 6), (8, "bound"), "all bound", ("open", 1, 2)]


async def test_objects_names_are_not_exposed(join: Joiner) -> None:
    api = join(Api()).api
    for name in ("__init__", "__class__", "_rpc_dispose", "constructor", "toString", "__proto__", "log", "dup"):
        if name == "log":
            assert "instance property of the RpcTarget" in str(await failure_of(api[name]))
        else:
            assert await api[name] is None
        error = await failure_of(api[name]())
        assert isinstance(error, rpc.RemoteTypeError)


async def test_what_cannot_be_sent_is_refused_at_the_call_site(join: Joiner) -> None:
    link = join(Api())
    with pytest.raises(TypeError, match="Cannot serialize value"):
        link.api.echo({"counter": Counter(), "bad": object()})
    assert link.client_wire.said == []
    assert await link.api.square(2) == 4


async def test_a_result_that_cannot_be_sent_fails_the_call_alone(join: Joiner) -> None:
    api = join(Api()).api
    error = await failure_of(api.give_unsendable())
    assert isinstance(error, rpc.RemoteTypeError)
    assert "Cannot serialize value" in str(error)
    assert await api.square(2) == 4


async def test_an_encoder_that_fails_fails_the_call_alone(join: Joiner) -> None:
    def fail(_: Any) -> Any:
        raise KeyError("mine")

    link = join(Api(), server_options=rpc.Options(encoders={object: fail}))
    assert str(await failure_of(link.api.give_unsendable())) == "mine"
    assert await link.api.square(2) == 4


async def test_messages_longer_than_the_peer_reads_are_refused_where_they_are_made(join: Joiner) -> None:
    small = rpc.Options(limits=rpc.Limits(max_message_bytes=1000))

    class Main(rpc.RpcTarget):
        def text(self, length: int) -> str:
            return "x" * length

        def texts(self, length: int) -> list[Any]:
            return [print, "x" * length]

        def length(self, *values: Any) -> int:
            return len(values)

    link = join(Main(), options=small)
    for arguments in (["x" * 1000], [Counter(), "x" * 1000]):
        with pytest.raises(ValueError, match="at most 1000 are allowed"):
            link.api.length(*arguments)
    for promise in (link.api.text(1000), link.api.texts(1000)):
        assert "at most 1000 are allowed" in str(await failure_of(promise))
    assert await link.api.length("x" * 900) == 1
    assert await link.api.text(900) == "x" * 900


# Errors


async def test_an_error_arrives_with_its_class_its_text_and_its_properties(join: Joiner) -> None:
    class NotFoundError(LookupError):
        def __init__(self, key: str) -> None:
            super().__init__(f"no {key}")
            self.key = key
            self.when = datetime(2026, 1, 1, tzinfo=UTC)
            self.data = b"x"
            self.big = 2**70
            self.counter = Counter()
            self.mixed = [Counter(), object()]

    class Main(rpc.RpcTarget):
        def fail(self) -> None:
            raise NotFoundError("k") from ValueError("why")

    error = await failure_of(join(Main()).api.fail())
    assert isinstance(error, rpc.RemoteError)
    assert (error.name, error.message, error.stack) == ("Error", "no k", None)
    cause = error.props.pop("cause")
    assert error.props == {"key": "k", "when": datetime(2026, 1, 1, tzinfo=UTC), "data": b"x", "big": 2**70}
    assert isinstance(cause, rpc.RemoteRangeError)
    assert cause is error.__cause__


async def test_the_hook_decides_what_of_an_error_leaves(join: Joiner) -> None:
    seen: list[BaseException] = []

    def show(error: BaseException) -> BaseException:
        seen.append(error)
        return error

    plain = join(Api())
    shown = join(Api(), server_options=rpc.Options(on_send_error=show))
    hidden = join(Api(), server_options=rpc.Options(on_send_error=lambda _: rpc.RpcError("hidden")))
    assert (await failure_of(plain.api.fail("a"))).stack is None  # type: ignore[attr-defined]
    error = await failure_of(shown.api.fail("a"))
    assert isinstance(error, rpc.RemoteRangeError)
    assert [str(one) for one in seen] == ["a"]
    assert "in fail" in (error.stack or "")
    assert str(await failure_of(hidden.api.fail_later("a"))) == "hidden"


async def test_a_thrown_value_that_is_no_error_arrives_as_it_is(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def fail(self) -> None:
            raise rpc.RemoteThrown({"a": [1]})

    error = await failure_of(join(Main()).api.fail())
    assert isinstance(error, rpc.RemoteThrown)
    assert error.value == {"a": [1]}


async def test_an_error_comes_back_through_a_callback_as_it_left(join: Joiner) -> None:
    def fail(_: Any) -> None:
        raise rpc.RpcError("mine", name="NotFound", props={"code": 7})

    error = await failure_of(join(Api()).api.call(fail, 1))
    assert isinstance(error, rpc.RemoteError)
    assert (error.name, error.message, error.code) == ("NotFound", "mine", 7)


# Capabilities


async def test_an_object_in_a_result_is_a_stub(join: Joiner) -> None:
    link = join(Api())
    counter = await link.api.make_counter(4)
    assert isinstance(counter, rpc.RpcStub)
    assert not isinstance(counter, rpc.RpcPromise)
    assert await counter.increment(2) == 6
    assert await counter.value == 6
    await turn()
    assert link.stats() == HELD_TWO
    rpc.dispose(counter)


async def test_a_stub_goes_back_as_the_object_it_stands_for(join: Joiner) -> None:
    link = join(Api())
    with await link.api.make_counter(4) as counter:
        assert await link.api.increment(counter, 2) == 6
        assert link.client_wire.said[-2:-1] == [["push", ["pipeline", 0, ["increment"], [["import", -1], 2]]]]


async def test_a_resolved_promise_goes_back_as_the_object_it_stands_for(join: Joiner) -> None:
    link = join(Api())
    promise = link.api.make_counter(4)
    counter = await promise
    assert await link.api.increment(promise, 2) == 6
    assert await link.api.increment({"counter": promise}["counter"], 2) == 8
    rpc.dispose(counter)


async def test_three_parties_pass_objects_and_promises_through(join: Joiner) -> None:
    far, near = Api(), Api()
    alice, bob = join(far), join(near)
    with await alice.api.make_counter(4) as counter:
        assert await bob.api.increment(counter, 3) == 7
    assert await bob.api.increment(alice.api.make_counter(10), 5) == 15
    assert await bob.api.increment(alice.api.make_counter_later(10), 6) == 16
    assert await bob.api.echo(alice.api.answer) == 42
    assert await bob.api.echo([alice.api.square(3)]) == [9]
    assert str(await failure_of(bob.api.echo(alice.api.fail("far")))) == "far"
    await bob.api.keep(alice.api)
    assert await near.kept.square(5) == 25
    rpc.dispose(near.kept)
    await quiet()
    assert [counter.disposals for counter in far.counters] == [1, 1, 1]


async def test_a_session_may_serve_what_another_one_brings(join: Joiner) -> None:
    behind = join(Api())
    front = join(behind.api.dup())
    assert await front.api.square(3) == 9
    with front.api.make_counter(1) as counter:
        assert await counter.increment() == 2
    assert await front.api.make_counter(5).increment() == 6
    assert await front.api.call(lambda n: n + 1, 3) == 4
    assert str(await failure_of(front.api.fail("behind"))) == "behind"
    assert await front.api.config.names.map(front.api.echo) == ["a", "b"]


async def test_the_main_object_may_be_given_back(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def is_mine(self, main: Any) -> Any:
            return main.name

        @property
        def name(self) -> str:
            return "main"

    api = join(Main()).api
    assert await api.is_mine(api) == "main"


async def test_a_member_may_be_passed_as_a_value(join: Joiner) -> None:
    link = join(Api())
    assert await link.api.call(link.api.square, 4) == 16
    with await link.api.square as square:
        assert await square(5) == 25
        assert await link.api.call(square, 6) == 36


# Promises in arguments and results


async def test_a_promise_in_the_arguments_is_its_value_when_the_method_begins(join: Joiner) -> None:
    api = join(Api()).api
    assert await api.square(api.square(3)) == 81
    assert await api.square(api.echo_later(3)) == 9
    assert await api.echo({"a": [api.answer, {"b": api.echo_later("x")}]}) == {"a": [42, {"b": "x"}]}
    assert await api.echo([api.echo({"inner": api.echo_later([api.answer])})]) == [{"inner": [42]}]
    assert await api.increment(api.make_counter_later(3), 4) == 7
    promise = api.square(2)
    assert await api.echo([promise, promise]) == [4, 4]


async def test_a_local_promise_in_the_arguments_is_sent_when_it_is_known(join: Joiner) -> None:
    local = Api()
    link = join(Api())
    promise = rpc.stub(local).wait()
    call = asyncio.ensure_future(link.api.echo([promise]))
    await quiet()
    assert not call.done()
    local.gate.set()
    assert await call == ["gone through"]
    assert await link.api.echo(rpc.stub(local).square(4)) == 16
    counter = rpc.stub(local).make_counter(3)
    assert await link.api.increment(counter, 2) == 5
    rpc.dispose(counter)
    await quiet()
    assert local.counters[0].disposals == 1


async def test_a_promise_that_fails_in_the_arguments_fails_the_call(join: Joiner) -> None:
    served = Api()
    api = join(served).api
    counter = Counter()
    for bad in (api.fail("why"), api.fail_later("why")):
        assert str(await failure_of(api.note([bad, counter]))) == "why"
    assert served.log == []
    await quiet()
    assert counter.disposals == 2


async def test_results_may_hold_promises_of_either_side(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def twice(self, main: Any, n: int) -> Any:
            return main.square(main.square(n))

        def inside(self, main: Any, n: int) -> dict[str, Any]:
            return {"result": main.square(n), "own": rpc.stub(Api()).echo_later(n)}

        async def later(self, main: Any, n: int) -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"result": [main.square(n)]}

    link = join(Main(), Api())
    client_api = rpc.stub(Api())
    assert await link.api.twice(client_api, 2) == 16
    assert await link.api.inside(client_api, 3) == {"result": 9, "own": 3}
    assert await link.api.later(client_api, 4) == {"result": [16]}
    other = join(Api())
    assert await link.api.inside(other.api, 5) == {"result": 25, "own": 5}


async def test_a_promise_of_the_callers_own_may_be_the_result(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def forward(self, main: Any) -> Any:
            return main.square(6)

        async def forward_later(self, main: Any) -> Any:
            await asyncio.sleep(0)
            return main.square(7)

    served = Api()
    link = join(Main(), served)
    with rpc.stub(served) as own:
        assert await link.api.forward(own) == 36
        assert await link.api.forward_later(own) == 49


# Pipelining


async def test_a_chain_is_sent_before_anything_is_known(join: Joiner) -> None:
    link = join(Api())
    with link.api.make_counter(1) as counter:
        results = [counter.increment(), counter.increment(10), counter.value]
        await turn(1)
        assert [message[0] for message in link.client_wire.said] == ["push"] * 3
        assert [await result for result in results] == [2, 12, 12]


async def test_a_result_may_be_called(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def adder(self, n: int) -> Callable[[int], int]:
            return lambda m: n + m

        async def adder_later(self, n: int) -> Callable[[int], int]:
            await asyncio.sleep(0)
            return self.adder(n)

    api = join(Main()).api
    assert await api.adder(3)(4) == 7
    assert await api.adder_later(3)(5) == 8


async def test_into_a_result_reaches_what_is_in_it(join: Joiner) -> None:
    api = join(Api()).api
    assert await api.make_box(1)["counters"][0].increment() == 2
    assert await api.config.limits.depth == 3
    assert await api.echo_later({"a": {"b": [5]}}).a.b[0] == 5


async def test_an_error_reaches_all_that_depends_on_it(join: Joiner) -> None:
    api = join(Api()).api
    for failing in (api.fail("why"), api.fail_later("why")):
        for promise in (failing.next(), failing.next.at[3].last(), failing.prop, failing.map(lambda item: item)):
            error = await failure_of(promise)
            assert isinstance(error, rpc.RemoteRangeError)
            assert str(error) == "why"
        assert str(await failure_of(api.echo(failing))) == "why"


async def test_a_missing_method_is_named_by_its_path(join: Joiner) -> None:
    api = join(Api()).api
    assert str(await failure_of(api.config.limits.nope())) == "'config.limits.nope' is not a function."
    assert str(await failure_of(api.answer())) == "'answer' is not a function."
    assert isinstance(await failure_of(api.nothing.below), rpc.RemoteTypeError)


# Order


async def test_concurrent_calls_begin_in_the_order_made(join: Joiner) -> None:
    served = Api()
    link = join(served)
    link.client_wire.inner.delay(3)
    await asyncio.gather(*(link.api.note_later(n) if n % 2 else link.api.note(n) for n in range(40)))
    assert served.log == list(range(40))


async def test_calls_on_a_promise_are_made_in_order_and_before_those_on_its_result(join: Joiner) -> None:
    class Log(rpc.RpcTarget):
        def __init__(self) -> None:
            self.entries: list[Any] = []

        def note(self, entry: Any) -> None:
            self.entries.append(entry)

    log = Log()

    class Main(rpc.RpcTarget):
        async def get(self) -> Log:
            await asyncio.sleep(0)
            return log

    link = join(Main())
    promise = link.api.get()
    early = [promise.note(n) for n in range(3)]
    with await promise as stub:
        late = [stub.note(n) for n in range(3, 6)]
        await asyncio.gather(*early, *late, promise.note(6))
    assert log.entries == list(range(7))


async def test_a_call_made_after_a_result_overtakes_one_that_is_on_its_way_to_the_callers_own(join: Joiner) -> None:
    # The protocol has no embargo: calls through the peer and direct ones are two ways of different length.
    class Main(rpc.RpcTarget):
        def give_back(self, value: Any) -> Any:
            return {"stub": value.dup()}

    link = join(Main())
    seen: list[int] = []
    promise = link.api.give_back(seen.append)
    first = promise.stub(1)
    own = (await promise)["stub"]
    second = own(2)
    await asyncio.gather(first, second)
    assert sorted(seen) == [1, 2]
    rpc.dispose(own)


# Lifetimes


async def test_arguments_live_as_long_as_the_call(join: Joiner) -> None:
    served = Api()
    link = join(served)
    disposed: list[int] = []
    counter = Counter(on_dispose=lambda: disposed.append(1))
    assert await link.api.increment(counter) == 1
    await quiet()
    assert disposed == [1]
    kept = Counter()
    await link.api.keep(kept)
    await quiet()
    assert kept.disposals == 0
    assert await served.kept.increment() == 1
    rpc.dispose(served.kept)
    await quiet()
    assert kept.disposals == 1


async def test_arguments_of_a_failing_call_are_given_back(join: Joiner) -> None:
    link = join(Api())
    counters = [Counter() for _ in range(5)]
    calls = [
        link.api.square(counters[0], 1),
        link.api.nope(counters[1]),
        link.api.answer.nope(counters[2]),
        link.api.fail_later("x").next(counters[3]),
        link.api.square(counters[4]),
    ]
    for call in calls:
        await failure_of(call)
    await quiet()
    assert [counter.disposals for counter in counters] == [1] * 5


async def test_a_target_with_dup_is_duplicated_where_it_is_passed(join: Joiner) -> None:
    log: list[str] = []

    class Shared(rpc.RpcTarget):
        def __init__(self, name: str) -> None:
            self._name = name

        def dup(self) -> Shared:
            log.append(f"dup {self._name}")
            return Shared(f"{self._name}'")

        @property
        def name(self) -> str:
            return self._name

        def _rpc_dispose(self) -> None:
            log.append(f"dispose {self._name}")

    class Main(rpc.RpcTarget):
        def name_of(self, shared: Any) -> Any:
            return shared.name

        def give(self) -> Shared:
            return Shared("given")

    link = join(Main())
    shared = Shared("mine")
    assert await link.api.name_of(shared) == "mine'"
    await quiet()
    assert log == ["dup mine", "dispose mine'"]
    with await link.api.give() as given:
        assert await given.name == "given"
    await quiet()
    assert log[2:] == ["dispose given"]


async def test_a_parameter_may_be_returned_without_a_duplicate(join: Joiner) -> None:
    link = join(Api())
    counter = Counter(3)
    back = await link.api.echo({"counter": counter})
    later = await link.api.echo_later([counter])
    assert await back["counter"].increment() == 4
    assert await later[0].increment() == 5
    alone = await link.api.echo(counter)
    assert await alone.increment() == 6
    rpc.dispose([back, later, alone])
    await quiet()
    assert counter.disposals == 3


async def test_an_object_is_disposed_once_for_each_time_it_was_returned(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def __init__(self) -> None:
            self.counter = Counter()

        def thrice(self) -> list[Counter]:
            return [self.counter] * 3

        def thrice_wrapped(self) -> list[rpc.RpcStub]:
            return [rpc.stub(self.counter)] * 3

    main = Main()
    link = join(main)
    counters = await link.api.thrice()
    assert link.server.stats().exports >= 4
    for disposed, counter in enumerate(counters):
        assert main.counter.disposals == disposed
        rpc.dispose(counter)
        await quiet()
    assert main.counter.disposals == 3
    rpc.dispose(await link.api.thrice_wrapped())
    await quiet()
    assert main.counter.disposals == 4


async def test_an_object_lives_until_its_last_duplicate_is_disposed(join: Joiner) -> None:
    served = Api()
    link = join(served)
    counter = await link.api.make_counter()
    twin = counter.dup()
    rpc.dispose(counter)
    rpc.dispose(counter)
    await quiet()
    assert served.counters[0].disposals == 0
    assert await twin.increment() == 1
    rpc.dispose(twin)
    rpc.dispose(twin)
    await quiet()
    assert served.counters[0].disposals == 1


async def test_a_promise_disposed_before_its_object_is_made_disposes_it(join: Joiner) -> None:
    served = Api()
    link = join(served)
    with link.api.make_counter_later():
        pass
    await quiet()
    assert [counter.disposals for counter in served.counters] == [1]


async def test_a_call_made_on_a_promise_before_its_disposal_is_delivered(join: Joiner) -> None:
    link = join(Api())
    with link.api.make_counter_later(5) as counter:
        result = counter.increment()
    assert await result == 6


async def test_everything_is_disposed_when_the_connection_is_lost(join: Joiner) -> None:
    served = Api()
    link = join(served)
    await link.api.make_counter()
    counter = await link.api.make_counter()
    box = await link.api.make_box()
    passed = Counter()
    await link.api.keep(passed)
    link.client_wire.inner.cut()
    await quiet()
    assert [one.disposals for one in served.counters] == [1, 1, 1]
    assert passed.disposals == 1
    assert isinstance(await failure_of(counter.increment()), rpc.RpcDisconnected)
    assert box["label"] == "box"


# Ends


async def test_disposing_the_main_stub_shuts_the_session_down(join: Joiner) -> None:
    served = Api()
    link = join(served)
    counter = await link.api.make_counter()
    pending = link.api.wait()
    rpc.dispose(link.api)
    error = await failure_of(pending)
    assert isinstance(error, rpc.RpcDisposed)
    assert str(error) == "RPC session was shut down by disposing the main stub"
    assert await link.server.wait_closed() == (3000, "RPC session was shut down by disposing the main stub")
    assert ["abort"] not in [message[:1] for message in link.client_wire.said]
    assert isinstance(await failure_of(counter.increment()), rpc.RpcDisposed)
    await quiet()
    assert served.counters[0].disposals == 1
    assert link.stats() == (rpc.Stats(0, 0), rpc.Stats(0, 0))


async def test_closing_ends_both_sides_with_a_normal_code(join: Joiner) -> None:
    link = join(Api(), Api())
    pending = asyncio.ensure_future(link.server.main.wait())
    await turn()
    await link.client.close()
    await link.client.close()
    assert await link.server.wait_closed() == (1000, "")
    error = await failure_of(pending)
    assert isinstance(error, rpc.RpcDisconnected)
    assert (error.code, error.reason) == (1000, "")
    assert str(await failure_of(link.api.square(2))) == "The session was closed."


async def test_calls_in_flight_fail_with_how_the_connection_ended(join: Joiner) -> None:
    link = join(Api())
    pending = [asyncio.ensure_future(link.api.wait()) for _ in range(3)]
    await turn()
    link.client_wire.inner.cut()
    for promise in pending:
        error = await failure_of(promise)
        assert isinstance(error, rpc.RpcDisconnected)
        assert error.code == 1006
    assert isinstance(link.client.error, rpc.RpcDisconnected)
    assert isinstance(await failure_of(link.api.square(1)), rpc.RpcDisconnected)


async def test_an_abort_tells_the_peer_why(join: Joiner) -> None:
    link = join(Api())
    pending = asyncio.ensure_future(link.api.wait())
    await turn()
    link.server.abort(rpc.RpcError("enough", props={"code": 7}))
    error = await failure_of(pending)
    assert isinstance(error, rpc.RpcAborted)
    assert isinstance(error.value, rpc.RemoteError)
    assert (error.value.message, error.value.code) == ("enough", 7)
    assert error.__cause__ is error.value
    assert (await link.server.wait_closed())[0] == 3000
    assert str(link.server.error) == "enough"


async def test_a_long_reason_is_cut_between_characters(join: Joiner) -> None:
    link = join(Api())
    link.server.abort(rpc.RpcError("ä" * 100))
    code, reason = await link.client.wait_closed()
    assert code == 3000
    assert len(reason.encode()) <= 123
    assert reason.startswith("ä" * 50)


async def test_a_message_that_breaks_the_protocol_ends_the_session(join: Joiner) -> None:
    link = join(Api())
    link.client_wire.send([b'["push"]'])
    await quiet()
    assert isinstance(link.client.error, rpc.RpcAborted)
    assert isinstance(link.server.error, rpc.RpcProtocolError)
    assert "bad RPC message" in str(link.client.error)


async def test_a_wire_that_takes_nothing_fails_the_calls(join: Joiner) -> None:
    link = join(Api())
    link.client_wire.inner.abort()
    assert isinstance(await failure_of(link.api.square(2)), rpc.RpcDisconnected)


async def test_what_arrived_before_the_end_is_handled(join: Joiner) -> None:
    # A clock so impatient that every slice ends after its first messages.
    options = rpc.Options(limits=rpc.Limits(read_slice_seconds=1e-9))
    served = Api()
    link = join(served, server_options=options)
    for n in range(500):
        link.api.note(n).dup()
    link.client_wire.inner.delay(0)
    await link.client.close()
    await quiet()
    assert served.log == list(range(500))


# Being told


async def test_callbacks_are_told_once_and_in_order_that_a_session_ended(join: Joiner) -> None:
    link = join(Api())
    told: list[tuple[str, type[Exception]]] = []

    def tell(name: str) -> Callable[[Exception], None]:
        return lambda error: told.append((name, type(error)))

    promise = link.api.make_counter()
    rpc.on_broken(promise, tell("promise"))
    counter = await promise
    rpc.on_broken(link.api, tell("main"))
    rpc.on_broken(counter, tell("counter"))
    taken_back = rpc.on_broken(counter, tell("nobody"))
    taken_back.unregister()
    taken_back.unregister()
    pending = link.api.wait()
    rpc.on_broken(pending, tell("pending"))
    link.client_wire.inner.cut()
    await quiet()
    assert told == [(name, rpc.RpcDisconnected) for name in ("promise", "main", "counter", "pending")]
    rpc.on_broken(counter, tell("late"))
    assert told[4:] == [("late", rpc.RpcDisconnected)]


async def test_a_callback_is_told_of_a_promise_that_fails(join: Joiner) -> None:
    link = join(Api())
    told: list[str] = []
    promise = link.api.fail("why")
    rpc.on_broken(promise, lambda error: told.append(str(error)))
    await failure_of(promise)
    assert told == ["why"]


async def test_callbacks_of_what_was_disposed_are_not_told(join: Joiner) -> None:
    link = join(Api())
    told: list[Exception] = []
    counter = await link.api.make_counter()
    pending = link.api.wait()
    rpc.on_broken(counter, told.append)
    rpc.on_broken(pending, told.append)
    rpc.dispose([counter, pending])
    await quiet()
    link.client_wire.inner.cut()
    await quiet()
    assert told == []


async def test_the_abort_reason_is_what_callbacks_get(join: Joiner) -> None:
    link = join(Api())
    told: list[Exception] = []
    rpc.on_broken(link.api, told.append)
    link.server.abort(rpc.RpcError("enough"))
    await quiet()
    assert [type(error) for error in told] == [rpc.RpcAborted]
    assert [str(error.__cause__) for error in told] == ["enough"]


async def test_a_callback_that_fails_is_shown_and_the_others_are_told(
    join: Joiner, noise: list[dict[str, Any]]
) -> None:
    link = join(Api())
    told: list[Exception] = []

    def fail(_: Exception) -> None:
        raise RuntimeError("deaf")

    rpc.on_broken(link.api, fail)
    rpc.on_broken(link.api, told.append)
    pending = asyncio.ensure_future(link.api.wait())
    await turn()
    link.client_wire.inner.cut()
    assert isinstance(await failure_of(pending), rpc.RpcDisconnected)
    assert len(told) == 1
    assert [str(noise.pop()["exception"])] == ["deaf"]


async def test_local_objects_never_break(join: Joiner) -> None:
    told: list[Exception] = []
    rpc.on_broken(rpc.stub(Counter()), told.append)
    assert told == []


# Draining and writing


async def test_drain_waits_for_what_was_asked_for_and_for_nothing_else(join: Joiner) -> None:
    served = Api()
    link = join(served)
    await link.server.drain()
    asked = asyncio.ensure_future(link.api.wait())
    link.api.wait().dup()
    held = link.api.wait()
    await turn()
    draining = asyncio.ensure_future(link.server.drain())
    await quiet()
    assert not draining.done()
    served.gate.set()
    await draining
    assert link.server_wire.said[-1] == ["resolve", 1, "gone through"]
    assert await asked == "gone through"
    rpc.dispose(held)


async def test_drain_ends_with_the_session(join: Joiner) -> None:
    link = join(Api())
    asked = asyncio.ensure_future(link.api.wait())
    await turn()
    draining = asyncio.ensure_future(link.server.drain())
    await turn()
    link.server_wire.inner.cut()
    await draining
    await failure_of(asked)


async def test_what_is_said_in_one_turn_is_one_write(join: Joiner) -> None:
    link = join(Api())
    with link.api.make_counter() as counter:
        await asyncio.gather(*(counter.increment() for _ in range(10)))
        assert [len(write) for write in link.client_wire.writes][:2] == [11, 10]
        assert sum(map(len, link.server_wire.writes)) == 10
        assert len(link.server_wire.writes) == 1


async def test_a_sequence_of_calls_costs_two_writes_each(join: Joiner) -> None:
    link = join(Api())
    for n in range(5):
        assert await link.api.square(n) == n * n
    await turn()
    assert [[message[0] for message in write] for write in link.server_wire.writes] == [["resolve"]] * 5
    assert [[message[0] for message in write] for write in link.client_wire.writes] == [
        ["push", "pull"],
        *[["release", "push", "pull"]] * 4,
        ["release"],
    ]


async def test_long_reads_let_others_have_their_turn(join: Joiner) -> None:
    turns = 0
    served = Api()
    link = join(served, server_options=rpc.Options(limits=rpc.Limits(read_slice_seconds=1e-9)))

    def count() -> None:
        nonlocal turns
        if len(served.log) < 1000:
            turns += 1
            asyncio.get_running_loop().call_soon(count)

    for n in range(1000):
        link.api.note(n).dup()
    count()
    await quiet()
    assert served.log == list(range(1000))
    # 32 messages are handled between two looks at the clock.
    assert turns >= 1000 // 32
    assert link.server_wire.pauses >= 1
    assert await link.api.square(2) == 4


async def test_writable_waits_while_the_peer_does_not_read(join: Joiner) -> None:
    limits = rpc.Limits(outbound_high_bytes=10_000, outbound_low_bytes=1_000)
    client, server = rpc.memory_pair(None, Api(), options=rpc.Options(limits=limits))
    await client.writable()
    note = client.main.note("x" * 20_000)
    waiting = asyncio.ensure_future(client.writable())
    await asyncio.sleep(0)
    seen = [client.is_writable]
    await waiting
    seen.append(client.is_writable)
    assert seen == [False, True]
    await note
    await client.close()
    await server.wait_closed()


async def test_writable_raises_what_ends_the_session(join: Joiner) -> None:
    limits = rpc.Limits(outbound_high_bytes=10_000, outbound_low_bytes=1_000)
    link = join(Api(), options=rpc.Options(limits=limits))
    link.server_wire.inner.stall()
    link.api.note("x" * 20_000).dup()
    waiting = [asyncio.ensure_future(link.client.writable()) for _ in range(2)]
    await turn()
    assert not any(task.done() for task in waiting)
    waiting.pop().cancel()
    link.client_wire.inner.cut()
    assert isinstance(await failure_of(waiting[0]), rpc.RpcDisconnected)
    assert isinstance(await failure_of(link.client.writable()), rpc.RpcDisconnected)


async def test_a_peer_that_does_not_read_is_given_up(join: Joiner) -> None:
    limits = rpc.Limits(outbound_high_bytes=10_000, outbound_low_bytes=1_000, max_outbound_bytes=50_000)
    link = join(Api(), options=rpc.Options(limits=limits))
    link.server_wire.inner.stall()
    for _ in range(3):
        link.api.note("x" * 20_000).dup()
        await turn(1)
    await quiet()
    assert isinstance(link.client.error, rpc.RpcError)
    assert "The peer does not read" in str(link.client.error)
    assert (await link.client.wait_closed())[0] == 1006


async def test_a_pair_in_memory_keeps_each_sides_limits() -> None:
    small = rpc.Options(limits=rpc.Limits(max_message_bytes=1000))
    client, server = rpc.memory_pair(None, Api(), right_options=small)
    assert isinstance(await failure_of(client.main.echo("x" * 2000)), rpc.RpcDisconnected)
    assert (await server.wait_closed())[0] == 1009


async def test_a_session_tells_about_itself(join: Joiner) -> None:
    link: Link = join(Api())
    assert link.client.peer == "memory"
    assert link.client.limits == rpc.Limits()
    assert link.client.error is None
    closed = asyncio.Event()
    link.client.call_when_closed(closed.set)
    await link.client.close()
    await closed.wait()
    assert isinstance(link.client.error, rpc.RpcDisposed)
