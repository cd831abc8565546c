"""Stubs and promises as Python objects: what they show, what they refuse, when they ask and when they let go."""

from __future__ import annotations

import asyncio
import copy
import gc
import operator
import pickle
import threading
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.sessions import Api, Counter, Joiner, Link, quiet, turn


def says(link: Link) -> list[Any]:
    """What the client has said so far."""
    return link.client_wire.said


# Looking at one


async def test_looking_at_a_stub_asks_nothing(join: Joiner) -> None:
    link = join(Api())
    api = link.api
    for look in (repr, str, dir, bool, hash, id):
        look(api)
        look(api.make_counter.nested[3])
    for probe in (
        "_repr_html_",
        "_repr_mimebundle_",
        "_ipython_display_",
        "_ipython_canary_method_should_not_exist_",
        "_ipython_key_completions_",
        "__array__",
        "__array_interface__",
        "__dataframe__",
        "__fspath__",
        "__wrapped__",
        "__len__",
        "__anext__",
    ):
        assert not hasattr(api, probe)
        assert not hasattr(api.member, probe)
    await turn()
    assert says(link) == []


async def test_a_stub_in_a_notebook_shows_its_repr(join: Joiner) -> None:
    from IPython.core.formatters import DisplayFormatter

    link = join(Api())
    formatter = DisplayFormatter()
    data, _ = formatter.format(link.api)  # type: ignore[no-untyped-call]  # IPython has few types
    assert data == {"text/plain": "<RpcStub main>"}
    assert says(link) == []


async def test_the_repr_says_what_and_how(join: Joiner) -> None:
    link = join(Api())
    api = link.api
    assert repr(api) == "<RpcStub main>"
    assert repr(api.a["b c"][0]) == "<RpcPromise main.a.b c[0]>"
    promise = api.make_counter()
    assert repr(promise) == "<RpcPromise promise 1>"
    counter = await promise
    assert repr(promise) == "<RpcPromise promise 1, resolved>"
    assert repr(counter) == "<RpcStub object -1>"
    failed = api.fail("why")
    with pytest.raises(ValueError, match="why"):
        await failed
    assert repr(failed) == "<RpcPromise broken: why>"
    rpc.dispose(counter)
    assert repr(counter) == "<RpcStub disposed>"
    assert repr(rpc.stub(Counter())) == "<RpcStub local>"
    gate = asyncio.Event()
    waiting = rpc.stub(gate.wait)()
    assert repr(waiting) == "<RpcPromise pending>"
    gate.set()
    await waiting


async def test_local_names_are_dup_and_map_alone(join: Joiner) -> None:
    api = join(Api()).api
    assert dir(api) == ["dup", "map"]
    public = {name for name in vars(rpc.RpcStub) | vars(rpc.RpcPromise) if not name.startswith("_")}
    assert public == {"dup", "map"}


# Not being what it is not


async def test_a_stub_is_no_container_no_number_and_no_file(join: Joiner) -> None:
    api = join(Api()).api
    assert bool(api) is True
    for use in (iter, list, len, int, float, reversed, operator.index):
        with pytest.raises(TypeError):
            use(api)
    with pytest.raises(TypeError):
        "x" in api  # noqa: B015
    with pytest.raises(TypeError):
        copy.copy(api)
    with pytest.raises(TypeError):
        copy.deepcopy(api.member)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(api)


async def test_members_of_the_peer_cannot_be_set_or_deleted(join: Joiner) -> None:
    api = join(Api()).api
    with pytest.raises(AttributeError, match="cannot be set"):
        api.answer = 3
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del api.answer


async def test_a_stub_is_equal_to_itself_alone(join: Joiner) -> None:
    api = join(Api()).api
    with api.dup() as twin:
        assert api == api
        assert twin != api
        assert len({api, twin, api}) == 2


async def test_names_with_an_underscore_are_never_the_peers(join: Joiner) -> None:
    api = join(Api()).api
    with pytest.raises(AttributeError, match=r"use stub\['_secret'\]"):
        api._secret  # noqa: B018


async def test_any_name_and_any_index_can_be_asked_for(join: Joiner) -> None:
    link = join({"weird name!": [10, 20], "_x": 3})
    assert await link.api["weird name!"][1] == 20
    assert await link.api["_x"] == 3
    assert says(link)[0] == ["push", ["pipeline", 0, ["weird name!", 1]]]
    for key in (-1, 1.0, True, None, ("a",)):
        with pytest.raises(TypeError, match="neither a member's name nor an index"):
            link.api[key]


async def test_keyword_arguments_are_refused_with_advice(join: Joiner) -> None:
    link = join(Api())
    with pytest.raises(TypeError, match="no keyword arguments: pass n, m by position"):
        link.api.square(n=3, m=4)
    assert says(link) == []


async def test_a_stub_cannot_be_awaited(join: Joiner) -> None:
    link = join(Api())
    with pytest.raises(TypeError, match="can't be used in 'await'"):
        await link.api


# Asking


async def test_a_call_is_sent_at_once_and_asked_for_only_by_await(join: Joiner) -> None:
    link = join(Api())
    promise = link.api.square(3)
    await turn()
    assert says(link) == [["push", ["pipeline", 0, ["square"], [3]]]]
    assert await promise == 9
    await turn()
    assert says(link)[1:] == [["pull", 1], ["release", 1, 1]]


async def test_awaiting_twice_asks_once(join: Joiner) -> None:
    link = join(Api())
    promise = link.api.echo([1, {"a": 2}])
    first, second = await asyncio.gather(promise, promise)
    assert first == second == await promise == [1, {"a": 2}]
    assert first is second
    assert [message[0] for message in says(link)] == ["push", "pull", "release"]


async def test_awaiting_a_property_asks_each_time(join: Joiner) -> None:
    link = join(Api())
    answer = link.api.answer
    assert await answer == 42
    assert await answer == 42
    await turn()
    assert [message[0] for message in says(link)] == ["push", "pull", "release"] * 2


async def test_awaiting_a_failure_twice_raises_twice(join: Joiner) -> None:
    promise = join(Api()).api.fail("why")
    for _ in range(2):
        with pytest.raises(rpc.RemoteRangeError, match="why"):
            await promise


async def test_a_promise_works_where_awaitables_do(join: Joiner) -> None:
    api = join(Api()).api
    assert list(await asyncio.gather(api.square(2), api.square(3))) == [4, 9]
    assert await asyncio.wait_for(api.square(4), 10) == 16
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_wait_for(api.square(5)))
    assert task.result() == 25


async def _wait_for(promise: rpc.RpcPromise) -> Any:
    return await promise


async def test_two_who_await_a_value_with_promises_in_it_both_get_the_whole_value(join: Joiner) -> None:
    api = Api()

    class Main(rpc.RpcTarget):
        def later(self) -> dict[str, Any]:
            return {"later": rpc.stub(api.wait)()}

    link = join(Main())
    promise = link.api.later()
    tasks = [asyncio.create_task(_wait_for(promise)) for _ in range(2)]
    await quiet()
    assert not any(task.done() for task in tasks)
    api.gate.set()
    assert await asyncio.gather(*tasks) == [{"later": "gone through"}] * 2


async def test_awaiting_on_another_loop_is_refused(join: Joiner) -> None:
    link = join(Api())
    promise = link.api.square(3)
    caught: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_wait_for(promise))
        except RuntimeError as error:
            caught.append(error)

    await asyncio.to_thread(run)
    assert [str(error) for error in caught] == [
        "This promise belongs to another event loop: await it there, for example by run_coroutine_threadsafe."
    ]
    assert await promise == 9


# Letting go


async def test_with_gives_the_handle_itself_and_disposes_it(join: Joiner) -> None:
    api = Api()
    link = join(api)
    with link.api.make_counter(4) as counter:
        assert type(counter) is rpc.RpcPromise
        assert await counter.increment(2) == 6
        assert [message[0] for message in says(link)] == ["push", "push", "pull"]
    await quiet()
    assert api.counters[0].disposals == 1
    with pytest.raises(rpc.RpcDisposed):
        await counter.increment()


async def test_async_with_gives_the_value_and_disposes_all_of_it(join: Joiner) -> None:
    api = Api()
    link = join(api)
    async with link.api.make_box(1) as box:
        assert box["label"] == "box"
        assert await box["counters"][0].increment() == 2
        await turn()
        assert link.stats() == (rpc.Stats(2, 1), rpc.Stats(1, 2))
    await quiet()
    assert api.counters[0].disposals == 1


async def test_async_with_reads_a_property_once(join: Joiner) -> None:
    link = join(Api())
    async with link.api.config as config:
        assert config["limits"] == {"depth": 3}
    await turn()
    assert [message[0] for message in says(link)] == ["push", "pull", "release"]


async def test_leaving_a_property_leaves_what_it_is_a_property_of(join: Joiner) -> None:
    link = join(Api())
    with link.api.make_counter as make, link.api.config.limits as limits:
        assert await limits.depth == 3
        rpc.dispose(make)
    assert link.client.error is None
    with link.api.make_counter() as counter:
        with counter.increment as increment:
            assert await increment() == 1
        assert await counter.increment() == 2


async def test_dispose_walks_a_value(join: Joiner) -> None:
    api = Api()
    link = join(api)
    box = await link.api.make_box()
    rpc.dispose(({"box": box}, 3, None, "x"))
    await quiet()
    assert api.counters[0].disposals == 1
    rpc.dispose(box)


async def test_dropped_promises_are_given_back(join: Joiner) -> None:
    api = Api()
    link = join(api)
    for number in range(50):
        link.api.make_counter(number)
    await quiet()
    assert link.stats() == (rpc.Stats(1, 1), rpc.Stats(1, 1))
    assert [counter.disposals for counter in api.counters] == [1] * 50


async def test_dropped_results_are_given_back(join: Joiner) -> None:
    api = Api()
    link = join(api)
    box = await link.api.make_box()
    await quiet()
    assert api.counters[0].disposals == 0
    del box
    await quiet()
    assert api.counters[0].disposals == 1


async def test_a_stub_dropped_in_another_thread_is_given_back(join: Joiner) -> None:
    api = Api()
    link = join(api)
    held = [await link.api.make_counter()]

    def drop() -> None:
        held.clear()
        gc.collect()

    thread = threading.Thread(target=drop)
    thread.start()
    await asyncio.to_thread(thread.join)
    await quiet()
    assert api.counters[0].disposals == 1


async def test_a_cancelled_await_gives_the_call_back(join: Joiner) -> None:
    api = Api()
    link = join(api)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await link.api.wait()
    await quiet()
    assert says(link)[-1] == ["release", 1, 1]
    api.gate.set()


async def test_a_cancelled_await_leaves_the_promise_to_others(join: Joiner) -> None:
    api = Api()
    link = join(api)
    promise = link.api.wait()
    first, second = (asyncio.create_task(_wait_for(promise)) for _ in range(2))
    await turn()
    first.cancel()
    await quiet()
    api.gate.set()
    assert await second == "gone through"
    assert await promise == "gone through"


async def test_disposing_a_promise_fails_those_who_await_it(join: Joiner) -> None:
    api = Api()
    link = join(api)
    promise = link.api.wait()
    task = asyncio.create_task(_wait_for(promise))
    await turn()
    rpc.dispose(promise)
    with pytest.raises(rpc.RpcDisposed, match="RPC was canceled because the RpcPromise was disposed"):
        await task
    with pytest.raises(rpc.RpcDisposed, match="RPC was canceled"):
        await promise
    with pytest.raises(rpc.RpcDisposed, match="Attempted to use RPC stub after it has been disposed"):
        await promise.anything()
    api.gate.set()


async def test_a_failure_nobody_awaits_makes_no_noise(join: Joiner) -> None:
    link = join(Api())
    promise = link.api.fail()
    pipelined = promise.anything.at[3].all()
    mapped = promise.map(lambda item: item.increment())
    await quiet()
    del promise, pipelined, mapped
    gc.collect()


async def test_duplicates_are_told_apart_and_cost_no_message(join: Joiner) -> None:
    api = Api()
    link = join(api)
    promise = link.api.make_counter()
    twin = promise.dup()
    rpc.dispose(promise)
    assert await twin.increment() == 1
    counter = await twin
    again = counter.dup()
    rpc.dispose(counter)
    rpc.dispose(counter)
    assert await again.increment() == 2
    assert [message[0] for message in says(link)].count("push") == 3
    rpc.dispose(again)
    await quiet()
    assert api.counters[0].disposals == 1


async def test_a_duplicate_of_a_property_is_a_read_of_its_own(join: Joiner) -> None:
    link = join(Api())
    with link.api.answer.dup() as answer:
        assert await answer == 42
        assert await answer == 42
    await turn()
    assert [message[0] for message in says(link)] == ["push", "pull", "release"]


async def test_a_disposed_stub_fails_whatever_is_done_with_it(join: Joiner) -> None:
    link = join(Api())
    counter = await link.api.make_counter()
    rpc.dispose(counter)
    for promise in (counter.increment(), counter.value, counter.map(lambda item: item), counter.dup().increment()):
        with pytest.raises(rpc.RpcDisposed, match="Attempted to use RPC stub after it has been disposed"):
            await promise
    with pytest.raises(rpc.RpcDisposed):
        link.api.echo(counter)
    assert await link.api.square(2) == 4


# Where it belongs


async def test_session_of_tells_the_session(join: Joiner) -> None:
    link = join(Api())
    promise = link.api.make_counter()
    assert rpc.session_of(link.api) is link.client
    assert rpc.session_of(link.api.member) is link.client
    assert rpc.session_of(promise) is link.client
    counter = await promise
    assert rpc.session_of(promise) is link.client
    assert rpc.session_of(counter) is link.client
    rpc.dispose(counter)
    assert rpc.session_of(counter) is None
    assert rpc.session_of(rpc.stub(Counter())) is None


async def test_session_of_tells_an_ended_session_too(join: Joiner) -> None:
    link = join(Api())
    counter = await link.api.make_counter()
    await link.client.close()
    assert rpc.session_of(link.api) is link.client
    assert rpc.session_of(counter) is link.client
