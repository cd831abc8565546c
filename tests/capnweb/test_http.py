"""HTTP batches, both ends: collecting calls, one POST, answers, and what goes wrong."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.sessions import Api, Counter, quiet, turn


@pytest.fixture
async def served(noise: list[dict[str, Any]]) -> AsyncIterator[tuple[str, list[Api]]]:
    """A server's address for POST, and the main objects it made, one for each request."""
    mains: list[Api] = []

    def make(_: rpc.HandshakeRequest) -> Api:
        mains.append(Api())
        return mains[-1]

    async with rpc.serve(make) as server:
        yield f"http://127.0.0.1:{server.port}/", mains


async def post(url: str, body: bytes, method: str = "POST") -> tuple[int, str]:
    """One request by another client; the status and body of its answer."""

    def exchange() -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        try:
            connection.request(method, "/", body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)


def lines(*messages: Any) -> bytes:
    return b"\n".join(json.dumps(message).encode() for message in messages)


# The client


async def test_calls_made_together_are_one_request(served: tuple[str, list[Api]]) -> None:
    url, mains = served
    async with rpc.batch(url) as api:
        results = await asyncio.gather(
            api.square(3),
            api.answer,
            api.square(api.square(2)),
            api.make_counter(4).increment(5),
            api.increment(api.make_counter(1), 2),
            api.echo([1, 2]).map(lambda n: api.square(n)),  # noqa: PLW0108
            api.slow_answer,
        )
    assert list(results) == [9, 42, 16, 9, 3, [1, 4], 42]
    assert len(mains) == 1
    await quiet()
    assert [counter.disposals for counter in mains[0].counters] == [1, 1]


async def test_failures_arrive_one_by_one(served: tuple[str, list[Api]]) -> None:
    async with rpc.batch(served[0]) as api:
        results = await asyncio.gather(api.fail("a"), api.square(2), api.fail_later("b"), return_exceptions=True)
    assert [str(result) for result in results] == ["a", "4", "b"]


async def test_a_batch_is_over_when_it_is_answered(served: tuple[str, list[Api]]) -> None:
    url, mains = served
    async with rpc.batch(url) as api:
        early = api.square(2)
        assert await early == 4
        assert await early == 4
        with pytest.raises(rpc.RpcDisconnected, match="Batch RPC request ended"):
            await api.square(3)
    assert len(mains) == 1


async def test_calls_nobody_awaits_are_made(served: tuple[str, list[Api]]) -> None:
    url, mains = served
    async with rpc.batch(url) as api:
        unheard = api.note("done")
    assert [main.log for main in mains] == [["done"]]
    assert repr(unheard).startswith("<RpcPromise broken: ")


async def test_a_batch_without_calls_asks_nothing(served: tuple[str, list[Api]]) -> None:
    url, mains = served
    async with rpc.batch(url):
        await turn()
    assert mains == []


async def test_leaving_by_an_error_fails_what_was_not_sent(served: tuple[str, list[Api]]) -> None:
    url, mains = served
    promises: list[rpc.RpcPromise] = []

    async def leave() -> None:
        async with rpc.batch(url) as api:
            promises.append(api.square(2))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await leave()
    with pytest.raises(rpc.RpcDisposed):
        await promises[0]
    assert mains == []


async def test_an_object_in_a_result_is_out_of_reach(served: tuple[str, list[Api]]) -> None:
    async with rpc.batch(served[0]) as api:
        counter = await api.make_counter(1)
        with pytest.raises(rpc.RpcDisconnected, match="Batch RPC request ended"):
            await counter.increment()


async def test_a_method_cannot_wait_for_a_callback(served: tuple[str, list[Api]]) -> None:
    counter = Counter()
    async with rpc.batch(served[0]) as api:
        with pytest.raises(rpc.RemoteError, match="A batch's server cannot call its client"):
            await api.call(counter.increment)


async def test_a_server_that_refuses_is_named(noise: list[dict[str, Any]]) -> None:
    def refuse(_: rpc.HandshakeRequest) -> None:
        raise rpc.Refusal(403, "not today")

    async with (
        rpc.serve(lambda _: Api(), authenticate=refuse) as server,
        rpc.batch(f"http://127.0.0.1:{server.port}/x") as api,
    ):
        with pytest.raises(rpc.RpcDisconnected, match="answered 403 Forbidden: not today"):
            await api.square(2)


async def test_a_server_that_is_not_there_is_an_error_of_the_calls(noise: list[dict[str, Any]]) -> None:
    async with rpc.serve(lambda _: None) as server:
        port = server.port
    async with rpc.batch(f"http://127.0.0.1:{port}/") as api:
        with pytest.raises(rpc.RpcDisconnected, match="ConnectionRefusedError"):
            await api.square(2)


async def test_only_http_is_http() -> None:
    with pytest.raises(ValueError, match=r"'ws://x/' is no http:// or https:// URL"):
        async with rpc.batch("ws://x/"):
            pass


async def test_headers_go_along(noise: list[dict[str, Any]]) -> None:
    seen: list[str | None] = []

    def make(request: rpc.HandshakeRequest) -> Api:
        seen.append(request.headers.get("x-token"))
        return Api()

    async with (
        rpc.serve(make) as server,
        rpc.batch(f"http://127.0.0.1:{server.port}/", headers={"X-Token": "t"}) as api,
    ):
        assert await api.square(2) == 4
    assert seen == ["t"]


async def test_a_callback_that_nobody_there_waits_for_is_called_when_the_answer_comes(
    served: tuple[str, list[Api]],
) -> None:
    counter = Counter(1)
    async with rpc.batch(served[0]) as api:
        assert await api.increment(counter, 5) == 6
    assert counter.disposals == 1


# The server


async def test_a_request_is_lines_and_so_is_its_answer(served: tuple[str, list[Api]]) -> None:
    body = lines(
        ["push", ["pipeline", 0, ["square"], [3]]],
        ["push", ["pipeline", 0, ["echo_later"], ["late"]]],
        ["pull", 2],
        ["pull", 1],
    )
    assert await post(served[0], body) == (200, '["resolve",1,9]\n["resolve",2,"late"]')
    assert await post(served[0], b"\n" + body + b"\r\n\n") == (200, '["resolve",1,9]\n["resolve",2,"late"]')
    assert await post(served[0], b"") == (200, "")


async def test_only_what_is_pulled_is_waited_for(served: tuple[str, list[Api]]) -> None:
    body = lines(["push", ["pipeline", 0, ["wait"], []]], ["push", ["pipeline", 0, ["square"], [3]]], ["pull", 2])
    assert await post(served[0], body) == (200, '["resolve",2,9]')


async def test_a_request_that_breaks_the_protocol_is_told_so(served: tuple[str, list[Api]]) -> None:
    status, text = await post(served[0], lines(["push", ["pipeline", 0, ["square"], [3]]], ["pull", 9]))
    assert status == 200
    assert json.loads(text) == ["abort", ["error", "Error", "no such export ID: 9"]]


async def test_anything_but_post_is_refused(served: tuple[str, list[Api]]) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert (await post(served[0], b"", method))[0] == 405


async def test_a_server_may_refuse_batches(noise: list[dict[str, Any]]) -> None:
    async with rpc.serve(lambda _: Api(), batch=False) as server:
        assert (await post(f"http://127.0.0.1:{server.port}/", b""))[0] in (404, 405)


async def test_a_batch_is_answered_without_a_server_too(noise: list[dict[str, Any]]) -> None:
    api = Api()
    body = lines(["push", ["pipeline", 0, ["make_counter"], [3]]], ["push", ["pipeline", 1, ["value"]]], ["pull", 2])
    assert await rpc.answer_batch(body, api) == b'["resolve",2,3]'
    await quiet()
    assert api.counters[0].disposals == 1


async def test_a_batch_that_is_cancelled_is_forgotten(noise: list[dict[str, Any]]) -> None:
    api = Api()
    answering = asyncio.ensure_future(
        rpc.answer_batch(lines(["push", ["pipeline", 0, ["wait"], []]], ["pull", 1]), api)
    )
    await turn()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    api.gate.set()
    await quiet()
