"""In what order calls begin, how many run, and what becomes of those that fail or wait."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.runtime import AsyncioRuntime, get_runtime
from tests.capnweb.sessions import Api, Counter, Joiner, quiet, turn

ONE_CALL = rpc.Options(limits=rpc.Limits(max_running_calls=1))


async def test_methods_begin_in_the_order_called_whether_they_wait_or_not(join: Joiner) -> None:
    api = Api()
    link = join(api)
    calls = [link.api.note_later(n) if n % 3 else link.api.note(n) for n in range(30)]
    await asyncio.gather(*calls)
    assert api.log == list(range(30))


async def test_a_getter_runs_when_its_turn_comes(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def __init__(self) -> None:
            self._value = 0

        async def set_later(self, value: int) -> None:
            self._value = value
            await asyncio.sleep(0)

        @property
        def value(self) -> int:
            return self._value

    link = join(Main())
    seen = []
    for n in range(5):
        seen.append(link.api.value.dup())
        link.api.set_later(n + 1)
    assert await asyncio.gather(*seen) == [0, 1, 2, 3, 4]


async def test_local_calls_begin_in_the_order_called(noise: list[Any]) -> None:
    api = Api()
    stub = rpc.stub(api)
    await asyncio.gather(stub.note_later(0), stub.note(1), stub.note_later(2), stub.note(3))
    assert api.log == [0, 1, 2, 3]


async def test_a_method_that_never_waits_answers_with_those_that_cannot(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        async def at_once(self) -> int:
            return 1

    link = join(Main())
    assert await link.api.at_once() == 1


async def test_no_more_calls_run_than_the_limit_and_the_rest_keep_their_order(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def __init__(self) -> None:
            self.running = 0
            self.most = 0
            self.log: list[int] = []

        async def work(self, n: int) -> int:
            self.log.append(n)
            self.running += 1
            self.most = max(self.most, self.running)
            for _ in range(3):
                await asyncio.sleep(0)
            self.running -= 1
            return n

    main = Main()
    link = join(main, server_options=rpc.Options(limits=rpc.Limits(max_running_calls=3)))
    assert await asyncio.gather(*(link.api.work(n) for n in range(20))) == list(range(20))
    assert main.most == 3
    assert main.log == list(range(20))


async def test_calls_with_promises_in_them_keep_to_the_limit_too(join: Joiner) -> None:
    api = Api()
    link = join(api, server_options=rpc.Options(limits=rpc.Limits(max_running_calls=2)))
    numbers = [link.api.echo_later(n) for n in range(6)]
    results = asyncio.gather(*(link.api.echo_later(number) for number in numbers))
    assert await results == list(range(6))


async def test_a_call_that_waits_for_room_owns_its_arguments(join: Joiner) -> None:
    api = Api()
    link = join(api, server_options=ONE_CALL)
    waiting = asyncio.ensure_future(link.api.wait())
    await turn()
    counter = Counter()
    result = asyncio.ensure_future(link.api.increment(counter, 5))
    await turn()
    assert counter.disposals == 0
    api.gate.set()
    assert await result == 5
    await waiting
    await quiet()
    assert counter.disposals == 1


async def test_a_method_may_call_out_through_a_promise_while_no_more_calls_may_run(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        async def use(self, make: Any) -> list[int]:
            counter = make()
            await counter
            return [await counter.increment(), await counter.value]

    link = join(Main(), server_options=ONE_CALL)
    assert await link.api.use(lambda: Counter(3)) == [4, 4]


async def test_a_method_may_call_its_own_objects_while_no_more_calls_may_run(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        def make(self) -> Api:
            return Api()

        async def use(self, api: Any) -> Any:
            return await api.echo_later(7)

    link = join(Main(), server_options=ONE_CALL)
    with await link.api.make() as api:
        assert await link.api.use(api) == 7


async def test_a_method_that_is_cancelled_rejects(join: Joiner) -> None:
    class Main(rpc.RpcTarget):
        async def give_up_later(self) -> None:
            await asyncio.sleep(0)
            raise asyncio.CancelledError

        def give_up(self) -> None:
            raise asyncio.CancelledError

    link = join(Main())
    for promise in (link.api.give_up_later(), link.api.give_up()):
        with pytest.raises(rpc.RemoteError, match="The call was cancelled"):
            await promise


async def test_a_method_may_return_any_awaitable(join: Joiner) -> None:
    class Later:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 5

    class Main(rpc.RpcTarget):
        def future(self) -> asyncio.Future[int]:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, 3)
            return future

        def task(self) -> asyncio.Task[int]:
            return asyncio.get_running_loop().create_task(self._four())

        async def _four(self) -> int:
            return 4

        def later(self) -> Any:
            return Later()

    link = join(Main())
    assert [await link.api.future(), await link.api.task(), await link.api.later()] == [3, 4, 5]


async def test_a_coroutine_is_one_call_with_one_task(join: Joiner) -> None:
    tasks = []

    class Main(rpc.RpcTarget):
        async def who(self) -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    await join(Main()).api.who()
    assert len(set(tasks)) == 1
    assert None not in tasks


async def test_failures_are_told_to_who_listens(join: Joiner) -> None:
    heard: list[tuple[str, str]] = []

    def hear(callee: Any, error: BaseException) -> None:
        heard.append((callee.__name__, str(error)))

    link = join(Api(), server_options=rpc.Options(on_call_error=hear))
    for promise in (link.api.fail("a"), link.api.fail_later("b")):
        with contextlib.suppress(ValueError):
            await promise
    assert heard == [("fail", "a"), ("fail_later", "b")]


async def test_a_listener_that_fails_is_logged_and_changes_nothing(
    join: Joiner, caplog: pytest.LogCaptureFixture
) -> None:
    def hear(callee: Any, error: BaseException) -> None:
        raise RuntimeError("deaf")

    link = join(Api(), server_options=rpc.Options(on_call_error=hear))
    with caplog.at_level(logging.ERROR), pytest.raises(rpc.RemoteRangeError, match="no"):
        await link.api.fail()
    assert [record.getMessage() for record in caplog.records] == ["on_call_error failed"]


async def test_a_disposer_that_fails_is_told_to_who_listens(join: Joiner) -> None:
    heard: list[str] = []

    class Sour(rpc.RpcTarget):
        def _rpc_dispose(self) -> None:
            raise RuntimeError("sour")

    class Main(rpc.RpcTarget):
        def make(self) -> Sour:
            return Sour()

    link = join(Main(), server_options=rpc.Options(on_call_error=lambda _, error: heard.append(str(error))))
    rpc.dispose(await link.api.make())
    await quiet()
    assert heard == ["sour"]


async def test_what_is_posted_from_another_thread_is_done_on_the_loops(noise: list[Any]) -> None:
    runtime = get_runtime(rpc.RpcStub, rpc.RpcPromise)
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await asyncio.to_thread(runtime.post, lambda: done.set_result(threading.get_ident()))
    assert await done == threading.get_ident()


def test_what_is_posted_to_a_closed_loop_is_forgotten() -> None:
    loop = asyncio.new_event_loop()
    runtime = AsyncioRuntime(loop, rpc.RpcStub, rpc.RpcPromise)
    loop.close()
    runtime.post(lambda: None)


def test_a_stub_made_where_no_loop_runs_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        rpc.stub(lambda: None)


def test_each_loop_has_a_runtime_of_its_own() -> None:
    async def get() -> AsyncioRuntime:
        assert get_runtime(rpc.RpcStub, rpc.RpcPromise) is get_runtime(rpc.RpcStub, rpc.RpcPromise)
        return get_runtime(rpc.RpcStub, rpc.RpcPromise)

    assert asyncio.run(get()) is not asyncio.run(get())


# The end of the session


class Slow(Api):
    """its `wait_until_told` goes on when the test says so; what it was given says when it is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = asyncio.Event()
        self.done: list[Any] = []

    async def wait_until_told(self, value: Any = None) -> None:
        await self.may_go_on.wait()
        self.done.append(value)

    async def wait_for_nobody(self) -> None:
        await asyncio.get_running_loop().create_future()

    @property
    def value(self) -> int:
        self.done.append("read")
        return 1


async def test_calls_that_wait_for_room_never_begin_once_the_session_has_ended() -> None:
    class Given(rpc.RpcTarget):
        def _rpc_dispose(self) -> None:
            given_back.append(self)

    given_back: list[Given] = []
    api = Slow()
    client, server = rpc.memory_pair(None, api, right_options=ONE_CALL)
    main: Any = client.main
    calls = [
        main.wait_until_told("first"),
        main.note("second"),
        main.note(Given()),
        main.value,
        main.note(main.echo(1)),
    ]
    await turn()
    await client.close()
    await server.wait_closed()
    await turn()
    assert len(given_back) == 1
    api.may_go_on.set()
    await turn()
    assert api.done == ["first"]
    assert api.log == []
    assert server.stats() == (0, 0)
    assert len(calls) == 5


async def test_calls_that_have_room_begin_although_the_session_ends_in_the_same_turn() -> None:
    api = Slow()
    client, server = rpc.memory_pair(None, api)
    main: Any = client.main
    calls = [main.note_later(1), main.note(2), main.note_later(3), main.note(4)]
    await client.close()
    await server.wait_closed()
    await turn()
    assert api.log == [1, 2, 3, 4]
    assert len(calls) == 4


async def test_a_method_that_waits_for_what_only_it_knows_is_gone_quietly(noise: list[Any]) -> None:
    client, server = rpc.memory_pair(None, Slow())
    waiting = [client.main.wait_for_nobody(), client.main.read_all(rpc.Readable(endless()))]
    await turn()
    await client.close()
    await server.wait_closed()
    del client, server, waiting
    await turn()
    gc.collect()
    await turn()
    assert noise == []


async def endless() -> AsyncIterator[int]:
    await asyncio.get_running_loop().create_future()
    yield 1
