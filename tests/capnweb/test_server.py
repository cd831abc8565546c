"""serve and connect over real sockets: one main object each, who may come in, and how both ends close."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.sessions import Api, Counter, quiet


@pytest.fixture(autouse=True)
async def _no_noise(noise: list[dict[str, Any]]) -> None:
    """No test here lets an error reach the loop, unless it takes it out."""


async def until_none_are_left(server: rpc.Server) -> None:
    """Wait until the server has noticed that its clients have gone."""
    async with asyncio.timeout(10):
        for session in server.sessions:
            await session.wait_closed()
    await quiet()


async def test_the_example_of_the_package_works() -> None:
    class Greeter(rpc.RpcTarget):
        def greet(self, name: str) -> str:
            return f"Hello, {name}!"

    async with rpc.serve(lambda request: Greeter()) as server, rpc.connect(server.url) as api:
        assert await api.greet("Ada") == "Hello, Ada!"


async def test_each_connection_has_a_session_and_a_main_object_of_its_own() -> None:
    mains: list[Api] = []

    def make(_: rpc.HandshakeRequest) -> Api:
        mains.append(Api())
        return mains[-1]

    async with rpc.serve(make) as server:
        assert server.sessions == set()
        async with rpc.connect(server.url) as one, rpc.connect(server.url) as two:
            await one.note("one")
            await two.note("two")
            assert [main.log for main in mains] == [["one"], ["two"]]
            assert len(server.sessions) == 2
        await until_none_are_left(server)
        assert server.sessions == set()


async def test_everything_is_given_back_over_a_socket_too() -> None:
    api_object = Api()
    async with rpc.serve(lambda _: api_object) as server, rpc.connect(server.url, Counter(7)) as api:
        with await api.make_counter(1) as counter:
            assert await api.increment(counter, 2) == 3
        assert await api.call(lambda n: n + 1, 4) == 5
        assert await asyncio.gather(*(api.square(n) for n in range(200))) == [n * n for n in range(200)]
        (session,) = server.sessions
        assert await session.main.value == 7
        await quiet()
        client = rpc.session_of(api)
        assert client is not None
        assert (client.stats(), session.stats()) == (rpc.Stats(1, 1), rpc.Stats(1, 1))
        assert api_object.counters[0].disposals == 1


async def test_what_is_known_of_the_caller_reaches_the_main_object() -> None:
    async def authenticate(request: rpc.HandshakeRequest) -> str:
        await asyncio.sleep(0)
        token = request.headers.get("authorization")
        if token != "Bearer t":
            raise rpc.Refusal(401, "who are you?")
        return "ada"

    seen: list[tuple[str, Any]] = []

    def make(request: rpc.HandshakeRequest) -> Api:
        seen.append((request.target, request.principal))
        return Api()

    async with rpc.serve(make, authenticate=authenticate) as server:
        async with rpc.connect(f"{server.url}room?x=1", headers={"Authorization": "Bearer t"}) as api:
            assert await api.square(2) == 4
        with pytest.raises(rpc.HandshakeError, match="401"):
            await rpc.open_session(server.url)
    assert seen == [("/room?x=1", "ada")]


async def test_foreign_pages_are_refused() -> None:
    async with rpc.serve(lambda _: Api()) as server:
        with pytest.raises(rpc.HandshakeError, match="403"):
            await rpc.open_session(server.url, origin="https://evil.example")
    async with rpc.serve(lambda _: Api(), origins=["https://good.example"]) as server:
        session = await rpc.open_session(server.url, origin="https://good.example")
        assert await session.main.square(2) == 4
        await session.close()


async def test_a_unix_socket_serves_too(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with rpc.serve(lambda _: Api(), unix=path) as server, rpc.connect(server.url) as api:
        assert (server.port, server.http_url) == (None, None)
        assert await api.square(3) == 9


async def test_a_factory_that_fails_cuts_its_connection_alone(noise: list[dict[str, Any]]) -> None:
    mains = [Api()]

    async with rpc.serve(lambda _: mains.pop()) as server, rpc.connect(server.url) as api:
        session = await rpc.open_session(server.url)
        with pytest.raises(rpc.RpcDisconnected):
            await session.main.square(2)
        await session.close()
        assert await api.square(2) == 4
    assert [type(context["exception"]) for context in noise] == [IndexError]
    noise.clear()


async def test_server_says_where_batches_go_and_when_it_has_closed() -> None:
    async with rpc.serve(lambda _: Api()) as server:
        assert server.http_url == f"http://127.0.0.1:{server.port}/"
        async with rpc.batch(server.http_url) as api:
            assert await api.square(3) == 9
        session = await rpc.open_session(server.url)
        waiting = asyncio.ensure_future(server.wait_closed())
        await quiet()
        assert not waiting.done()
        await server.close()
        await asyncio.wait_for(waiting, 10)
        assert server.sessions == set()
        assert (await session.wait_closed())[0] == 1001
    await server.wait_closed()


async def test_leaving_connect_ends_the_session_on_both_sides() -> None:
    api_object = Api()
    async with rpc.serve(lambda _: api_object) as server:
        async with rpc.connect(server.url) as api:
            kept = await api.make_counter()
            (session,) = server.sessions
        assert await session.wait_closed() == (1000, "")
        await quiet()
        assert api_object.counters[0].disposals == 1
        for stub in (api, kept):
            with pytest.raises(rpc.RpcDisposed, match="The session was closed"):
                await stub.anything()


async def test_disposing_the_main_stub_closes_with_the_code_of_the_original() -> None:
    async with rpc.serve(lambda _: Api()) as server:
        session = await rpc.open_session(server.url)
        assert await session.main.square(2) == 4
        (other,) = server.sessions
        rpc.dispose(session.main)
        assert await other.wait_closed() == (3000, "RPC session was shut down by disposing the main stub")
        await session.wait_closed()


async def test_a_server_that_ends_answers_first() -> None:
    api_object = Api()
    async with rpc.serve(lambda _: api_object) as server:
        session = await rpc.open_session(server.url)
        asked = asyncio.ensure_future(session.main.wait())
        assert await session.main.square(2) == 4
        closing = asyncio.ensure_future(server.close())
        await quiet()
        assert not asked.done()
        with pytest.raises(OSError):  # noqa: PT011  # it listens no more
            await rpc.open_session(server.url)
        api_object.gate.set()
        assert await asked == "gone through"
        await closing
    code, _ = await session.wait_closed()
    assert code == 1001


async def test_a_server_that_ends_waits_no_longer_than_it_was_told() -> None:
    api_object = Api()
    async with rpc.serve(lambda _: api_object, drain_timeout=0.01) as server:
        session = await rpc.open_session(server.url)
        asked = asyncio.ensure_future(session.main.wait())
        assert await session.main.square(2) == 4
    with pytest.raises(rpc.RpcDisconnected):
        await asked
    await session.wait_closed()
    api_object.gate.set()


async def test_options_hold_for_the_connection_too() -> None:
    small = rpc.Options(limits=rpc.Limits(max_message_bytes=1000))
    async with rpc.serve(lambda _: Api(), options=small) as server:
        session = await rpc.open_session(server.url)
        with pytest.raises(rpc.RpcDisconnected):
            await session.main.echo("x" * 2000)
        assert (await session.wait_closed())[0] == 1009


async def test_a_session_in_the_open_says_who_is_there() -> None:
    heard: list[rpc.Session] = []
    async with rpc.serve(lambda _: Api(), on_session=lambda session, _: heard.append(session)) as server:
        session = await rpc.open_session(server.url)
        assert session.peer.startswith("127.0.0.1:")
        assert await session.main.square(1) == 1
        assert heard == list(server.sessions)
        await session.close()
