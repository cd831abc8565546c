"""Streams, blobs and Fetch values between two sessions, as an application sees them; all tables end empty."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.peers import VERSIONS, serve_node
from tests.capnweb.sessions import Counter, Joiner, quiet, turn

KIB = 1024


class Source:
    """An endless source that notes how it is stopped; a chunk comes only while its gate is open."""

    def __init__(self) -> None:
        self.taken = 0
        self.reasons: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> int:
        await self.gate.wait()
        self.taken += 1
        return self.taken

    def cancel(self, reason: Exception) -> None:
        self.reasons.append(reason)


class Sink:
    """Notes what happens to it; takes a chunk only while its gate is open."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, chunk: Any) -> None:
        await self.gate.wait()
        self.log.append(chunk)

    async def close(self) -> None:
        self.log.append("closed")

    async def abort(self, reason: Exception) -> None:
        self.log.append(("aborted", str(reason)))


class Api(rpc.RpcTarget):
    def __init__(self) -> None:
        self.source = Source()
        self.sink = Sink()
        self.counters = [Counter(10), Counter(20)]
        self.kept: Any = None
        self.tasks: list[asyncio.Task[None]] = []
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def read_all(self, readable: rpc.Readable) -> list[Any]:
        return [chunk async for chunk in readable]

    async def read_some(self, readable: rpc.Readable, count: int) -> list[Any]:
        return [await anext(readable) for _ in range(count)]

    async def read_inside(self, holder: dict[str, Any]) -> list[Any]:
        return [holder["label"], [chunk async for chunk in holder["stream"]]]

    async def count_bytes(self, readable: rpc.Readable) -> int:
        return sum([len(chunk) async for chunk in readable])

    def read_later(self, readable: rpc.Readable) -> None:
        """Begin to read when the call has long returned."""

        async def read() -> None:
            await turn(5)
            self.result.set_result([chunk async for chunk in readable])

        self.tasks.append(asyncio.create_task(read()))

    def fail(self, *values: Any) -> None:
        raise ValueError("as asked")

    async def fail_later(self, *values: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("as asked")

    def keep(self, value: Any) -> None:
        self.kept = value

    def ignore(self, value: Any) -> None:
        """Take, and drop."""

    def echo(self, value: Any) -> Any:
        return value

    def describe(self, value: Any) -> str:
        return repr(value)

    async def write_all(self, writable: rpc.Writable, chunks: list[Any]) -> None:
        for chunk in chunks:
            await writable.write(chunk)
        await writable.close()

    async def write_and_leave(self, writable: rpc.Writable, chunks: list[Any]) -> None:
        for chunk in chunks:
            await writable.write(chunk)

    async def write_and_abort(self, writable: rpc.Writable, reason: str) -> None:
        await writable.write("first")
        await writable.abort(ValueError(reason))

    async def write_into(self, holder: dict[str, Any]) -> str:
        async with holder["sink"] as writable:
            await writable.write(holder["label"])
        return "written"

    async def copy(self, source: rpc.Readable, sink: rpc.Writable) -> None:
        async with sink:
            async for chunk in source:
                await sink.write(chunk)

    def readable(self) -> rpc.Readable:
        return rpc.Readable(["one", 2, {"three": [3]}])

    def endless(self) -> rpc.Readable:
        return rpc.Readable(self.source)

    def holder(self) -> dict[str, Any]:
        return {"label": "inside", "streams": [rpc.Readable(self.source)], "sink": rpc.Writable(self.sink)}

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def breaking(self) -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ValueError("source broke")

    def targets(self) -> rpc.Readable:
        return rpc.Readable(self.counters)

    async def increment_all(self, readable: rpc.Readable) -> list[int]:
        values = []
        async for counter in readable:
            values.append(await counter.increment())
            rpc.dispose(counter)
        return values

    def writable(self) -> rpc.Writable:
        return rpc.Writable(self.sink)

    def failing(self) -> rpc.Writable:
        def refuse(chunk: Any) -> None:
            raise ValueError(f"no {chunk!r}")

        return rpc.Writable(refuse)

    def blob(self, text: str, kind: str) -> rpc.Blob:
        return rpc.Blob(text.encode(), kind)

    def blobs(self) -> dict[str, Any]:
        return {"list": [rpc.Blob(b"one"), rpc.Blob(b"two", "text/two")], "count": 2}

    async def describe_request(self, request: rpc.Request) -> list[Any]:
        body = None if request.body is None else b"".join([chunk async for chunk in request.body])
        return [request.method, request.url, list(map(list, request.headers)), body]

    def response(self) -> rpc.Response:
        return rpc.Response(rpc.Readable(b"hello"), 201, "Made", rpc.Headers({"x-one": "1"}))


@pytest.fixture
async def api() -> Api:
    return Api()


# Readables that are sent


@pytest.mark.parametrize("size", [0, 1, 3, 500])
async def test_every_chunk_arrives_in_order(join: Joiner, api: Api, size: int) -> None:
    link = join(api)

    assert await link.api.read_all(rpc.Readable(range(size))) == list(range(size))


async def test_chunks_are_any_values(join: Joiner, api: Api) -> None:
    link = join(api)
    chunks = [1, "two", None, b"\x03", {"four": [4, [5]]}, [[]], 2**70, float("inf")]

    assert await link.api.read_all(rpc.Readable(chunks)) == chunks


async def test_sources_are_async_and_plain_iterables_generators_and_bytes(join: Joiner, api: Api) -> None:
    link = join(api)

    async def later() -> AsyncIterator[int]:
        await turn(2)
        yield 1
        await turn(2)
        yield 2

    def now() -> Iterator[int]:
        yield 1
        yield 2

    assert await link.api.read_all(rpc.Readable(later())) == [1, 2]
    assert await link.api.read_all(rpc.Readable(now())) == [1, 2]
    assert await link.api.read_all(rpc.Readable((1, 2))) == [1, 2]
    assert await link.api.read_all(later()) == [1, 2]
    assert await link.api.read_all(rpc.Readable(bytearray(b"ab" * 40_000))) == [
        b"ab" * 32 * KIB,
        b"ab" * (40_000 - 32 * KIB),
    ]
    assert await link.api.read_all(rpc.Readable(memoryview(b"abc"))) == [b"abc"]
    assert await link.api.read_all(rpc.Readable(io.BytesIO(b"a\nb"))) == [b"a\n", b"b"]


@pytest.mark.parametrize("source", ["text", 7, None, object()])
async def test_what_is_no_source_is_refused_at_once(source: Any) -> None:
    with pytest.raises(TypeError, match="A Readable is made of"):
        rpc.Readable(source)


async def test_readable_inside_an_object(join: Joiner, api: Api) -> None:
    link = join(api)

    assert await link.api.read_inside({"label": "x", "stream": rpc.Readable(["ab"])}) == ["x", ["ab"]]


async def test_callee_that_reads_a_part_stops_the_source(join: Joiner, api: Api) -> None:
    link = join(api)
    source = Source()

    assert await link.api.read_some(rpc.Readable(source), 3) == [1, 2, 3]
    await quiet()
    taken = source.taken
    await quiet()

    assert source.taken == taken
    assert [str(reason) for reason in source.reasons] == ["The reader gave the stream up before its end."]


async def test_generator_that_is_not_read_to_its_end_is_closed(join: Joiner, api: Api) -> None:
    link = join(api)
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            ended.set()

    await link.api.ignore(rpc.Readable(chunks()))

    await asyncio.wait_for(ended.wait(), 5)


async def test_source_error_reaches_the_reader_after_the_chunks_before_it(join: Joiner, api: Api) -> None:
    link = join(api)
    readable = await link.api.breaking()

    chunks = [await anext(readable), await anext(readable)]

    assert chunks == [1, 2]
    with pytest.raises(rpc.RemoteRangeError, match="source broke"):
        await anext(readable)


async def test_what_sources_and_sinks_raise_is_told_to_who_listens_where_they_are(join: Joiner, api: Api) -> None:
    heard: list[str] = []
    heard_passing_on: list[BaseException] = []
    link = join(api, server_options=rpc.Options(on_call_error=lambda _, error: heard.append(str(error))))
    passing_on = rpc.Options(on_call_error=lambda _, error: heard_passing_on.append(error))
    other = join(Api(), options=passing_on, server_options=rpc.Options())

    with pytest.raises(rpc.RemoteRangeError, match="source broke"):
        await other.api.read_all(await link.api.breaking())
    with pytest.raises(rpc.RemoteRangeError, match="no 1"):
        await other.api.write_all(await link.api.failing(), [1])

    assert heard == ["source broke", "no 1"]
    assert heard_passing_on == []


async def test_chunk_that_cannot_be_sent_breaks_the_stream_there(join: Joiner, api: Api) -> None:
    link = join(api)

    with pytest.raises(rpc.RemoteTypeError, match="Cannot serialize value"):
        await link.api.read_all(rpc.Readable([1, object(), 3]))


async def test_more_than_a_window_is_held_back_until_it_is_read(join: Joiner, api: Api) -> None:
    link = join(api)
    sent = []

    async def chunks() -> AsyncIterator[bytes]:
        for index in range(64):
            sent.append(index)
            yield bytes([index]) * 16 * KIB

    await link.api.keep(rpc.Readable(chunks()))
    await quiet()
    held_back_at = len(sent)
    read = [chunk[0] async for chunk in api.kept]

    assert 256 * KIB // (22 * KIB) <= held_back_at <= 256 * KIB // (21 * KIB) + 2
    assert read == list(range(64))


async def test_many_bytes_pass_and_leave_nothing(join: Joiner, api: Api) -> None:
    link = join(api)

    assert await link.api.count_bytes(rpc.Readable(b"x" * 8_000_000)) == 8_000_000


async def test_a_long_stream_leaves_room_for_calls(join: Joiner, api: Api) -> None:
    link = join(api)

    reading = rpc.pull(link.api.count_bytes(rpc.Readable(b"x" for _ in range(20_000))))
    answers = [await link.api.echo(i) for i in range(10)]

    assert answers == list(range(10))
    assert not reading.done()
    assert await reading == 20_000


async def test_argument_is_read_after_its_call_returned(join: Joiner, api: Api) -> None:
    link = join(api)

    await link.api.read_later(rpc.Readable([1, 2]))

    assert await api.result == [1, 2]


@pytest.mark.parametrize("method", ["fail", "fail_later"])
async def test_failing_call_gives_its_streams_up(join: Joiner, api: Api, method: str) -> None:
    link = join(api)
    source, sink = Source(), Sink()

    failed = rpc.pull(link.api[method](rpc.Readable(source), [rpc.Writable(sink)]))
    await quiet()
    stats = link.stats()

    # The error is still held here, and with it the frames of the callee.
    assert isinstance(failed.exception(), rpc.RemoteRangeError)
    assert stats == link.leaves
    assert len(source.reasons) == 1
    assert [text for text, _ in sink.log] == ["aborted"]


async def test_readable_comes_back_from_an_echo(join: Joiner, api: Api) -> None:
    link = join(api)

    assert [chunk async for chunk in await link.api.echo(rpc.Readable([1, 2]))] == [1, 2]


async def test_readable_and_writable_in_one_call(join: Joiner, api: Api) -> None:
    link = join(api)
    sink = Sink()

    await link.api.copy(rpc.Readable([1, 2, 3]), rpc.Writable(sink))

    assert sink.log == [1, 2, 3, "closed"]


# Readables that are received


async def test_result_is_read(join: Joiner, api: Api) -> None:
    link = join(api)

    assert [chunk async for chunk in await link.api.readable()] == ["one", 2, {"three": [3]}]


async def test_async_generator_method_is_a_stream(join: Joiner, api: Api) -> None:
    link = join(api)

    assert [chunk async for chunk in await link.api.numbers(600)] == list(range(600))


async def test_cancel_tells_the_source_why(join: Joiner, api: Api) -> None:
    link = join(api)
    readable = await link.api.endless()

    chunks = [await anext(readable) for _ in range(3)]
    await readable.cancel(ValueError("enough"))
    await quiet()

    assert chunks == [1, 2, 3]
    assert [str(reason) for reason in api.source.reasons] == ["enough"]
    with pytest.raises(ValueError, match="enough"):
        await anext(readable)


async def test_with_block_cancels_at_its_end(join: Joiner, api: Api) -> None:
    link = join(api)

    async with await link.api.endless() as readable:
        assert await anext(readable) == 1
    await quiet()

    assert len(api.source.reasons) == 1


@pytest.mark.parametrize("way", ["with", "dispose", "drop"])
async def test_disposing_a_result_cancels_the_streams_in_it(join: Joiner, api: Api, way: str) -> None:
    link = join(api)

    if way == "with":
        async with link.api.holder() as holder:
            assert await anext(holder["streams"][0]) == 1
    else:
        holder = await link.api.holder()
        assert await anext(holder["streams"][0]) == 1
        if way == "dispose":
            rpc.dispose(holder)
    del holder
    await quiet()

    assert len(api.source.reasons) == 1
    assert api.sink.log == [("aborted", "The writer let go of the stream without closing it.")]


async def test_result_that_is_never_asked_for_leaves_nothing(join: Joiner, api: Api) -> None:
    link = join(api)

    with link.api.holder():
        pass
    link.api.readable()
    link.api.numbers(3)


async def test_waiting_for_a_chunk_can_be_cancelled_without_loss(join: Joiner, api: Api) -> None:
    link = join(api)
    api.source.gate.clear()
    readable = await link.api.endless()

    waiting = asyncio.ensure_future(anext(readable))
    await quiet()
    waiting.cancel()
    await quiet()
    api.source.gate.set()

    assert [await anext(readable), await anext(readable)] == [1, 2]
    await readable.cancel()


async def test_two_readers_at_once_are_one_too_many(join: Joiner, api: Api) -> None:
    link = join(api)
    api.source.gate.clear()
    readable = await link.api.endless()

    waiting = asyncio.ensure_future(anext(readable))
    await turn(1)
    with pytest.raises(RuntimeError, match="reading this stream already"):
        await anext(readable)
    waiting.cancel()
    await readable.cancel()
    # The source learns of it with its next chunk.
    api.source.gate.set()


async def test_received_readable_is_sent_on(join: Joiner, api: Api) -> None:
    link, other = join(api), join(Api())

    assert await other.api.read_all(await link.api.readable()) == ["one", 2, {"three": [3]}]


async def test_cancelling_a_readable_that_was_sent_on_stops_the_first_source(join: Joiner, api: Api) -> None:
    link, other = join(api), join(Api())

    assert await other.api.read_some(await link.api.endless(), 2) == [1, 2]
    await quiet()

    assert len(api.source.reasons) == 1


@pytest.mark.parametrize("side", ["client", "server"])
async def test_end_of_the_session_ends_both_ends(join: Joiner, api: Api, side: str) -> None:
    link = join(api)
    readable = await link.api.endless()
    await anext(readable)

    await getattr(link, side).close()
    await quiet()

    with pytest.raises(rpc.RpcError):
        [chunk async for chunk in readable]
    assert len(api.source.reasons) == 1


# Capabilities in chunks


async def test_targets_are_sent_as_chunks(join: Joiner, api: Api) -> None:
    link = join(api)
    counters = [Counter(1), Counter(2)]

    assert await link.api.increment_all(rpc.Readable(counters)) == [2, 3]
    await quiet()

    assert [counter.disposals for counter in counters] == [1, 1]


async def test_targets_are_received_as_chunks_and_live_until_they_are_disposed(join: Joiner, api: Api) -> None:
    link = join(api)

    stubs = [chunk async for chunk in await link.api.targets()]
    await quiet()
    values = [await stub.increment() for stub in stubs]
    before = [counter.disposals for counter in api.counters]
    rpc.dispose(stubs)
    await quiet()

    assert values == [11, 21]
    assert before == [0, 0]
    assert [counter.disposals for counter in api.counters] == [1, 1]


async def test_targets_in_chunks_that_are_not_read_are_given_back(join: Joiner, api: Api) -> None:
    link = join(api)

    readable = await link.api.targets()
    await quiet()
    rpc.dispose(readable)
    await quiet()

    assert [counter.disposals for counter in api.counters] == [1, 1]


async def test_stub_and_promise_as_chunks(join: Joiner, api: Api) -> None:
    link = join(api)
    counter = Counter(5)

    with rpc.stub(counter) as stub:
        assert await link.api.increment_all(rpc.Readable([stub])) == [6]
        assert await link.api.read_all(rpc.Readable([link.api.echo(7), {"x": link.api.echo(8)}])) == [7, {"x": 8}]


async def test_readable_as_a_chunk_of_a_readable(join: Joiner, api: Api) -> None:
    link = join(api)

    (inner,) = [chunk async for chunk in await link.api.echo(rpc.Readable([rpc.Readable([1, 2])]))]

    assert [chunk async for chunk in inner] == [1, 2]


# Writables that are sent


async def test_writes_and_the_end_reach_the_sink(join: Joiner, api: Api) -> None:
    link = join(api)
    sink = Sink()

    await link.api.write_all(rpc.Writable(sink), ["one", {"two": [2]}, b"3"])

    assert sink.log == ["one", {"two": [2]}, b"3", "closed"]


async def test_function_is_a_sink(join: Joiner, api: Api) -> None:
    link = join(api)
    chunks: list[Any] = []

    async def later(chunk: Any) -> None:
        await turn(1)
        chunks.append(chunk)

    await link.api.write_all(rpc.Writable(chunks.append), [1, 2])
    await link.api.write_all(rpc.Writable(later), [3, 4])

    assert chunks == [1, 2, 3, 4]


async def test_what_is_no_sink_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="A Writable is made of"):
        rpc.Writable(7)


async def test_writable_inside_an_object(join: Joiner, api: Api) -> None:
    link = join(api)
    sink = Sink()

    assert await link.api.write_into({"sink": rpc.Writable(sink), "label": "x"}) == "written"
    assert sink.log == ["x", "closed"]


async def test_sink_error_reaches_the_writer(join: Joiner, api: Api) -> None:
    link = join(api)

    def refuse(chunk: Any) -> None:
        raise ValueError(f"no {chunk}")

    with pytest.raises(rpc.RemoteRangeError, match="no 1"):
        await link.api.write_all(rpc.Writable(refuse), [1, 2])


async def test_abort_tells_the_sink_why(join: Joiner, api: Api) -> None:
    link = join(api)
    sink = Sink()

    await link.api.write_and_abort(rpc.Writable(sink), "enough")
    await quiet()

    assert sink.log == ["first", ("aborted", "enough")]


async def test_writable_that_is_left_is_aborted(join: Joiner, api: Api) -> None:
    link = join(api)
    sink = Sink()

    await link.api.write_and_leave(rpc.Writable(sink), [1, 2])
    await quiet()

    assert sink.log == [1, 2, ("aborted", "The writer let go of the stream without closing it.")]


async def test_lost_connection_aborts_the_sink(join: Joiner, api: Api) -> None:
    link = join(api)
    sink = Sink()
    await link.api.keep(rpc.Writable(sink))
    await api.kept.write(1)
    await quiet()

    link.client_wire.inner.cut()
    await quiet()

    assert sink.log == [1, ("aborted", "Peer closed the connection (code 1006).")]


async def test_exception_in_a_with_block_aborts(join: Joiner, api: Api) -> None:
    link = join(api)
    writable = await link.api.writable()

    async def fail() -> None:
        async with writable:
            await writable.write(1)
            raise KeyError("lost")

    with pytest.raises(KeyError):
        await fail()
    await quiet()

    assert api.sink.log == [1, ("aborted", "lost")]


# Writables that are received


async def test_received_writable_is_written_and_closed(join: Joiner, api: Api) -> None:
    link = join(api)

    async with await link.api.writable() as writable:
        await writable.write("one")
        await writable.write(2)

    assert api.sink.log == ["one", 2, "closed"]


async def test_writes_do_not_wait_for_each_other(join: Joiner, api: Api) -> None:
    link = join(api)
    api.sink.gate.clear()
    writable = await link.api.writable()

    for i in range(100):
        await writable.write(i)
    log = list(api.sink.log)
    api.sink.gate.set()
    await writable.close()

    assert log == []
    assert api.sink.log == [*range(100), "closed"]


async def test_write_waits_when_the_window_is_full(join: Joiner, api: Api) -> None:
    link = join(api)
    api.sink.gate.clear()
    writable = await link.api.writable()

    await writable.write("x" * 200 * KIB)
    waiting = asyncio.ensure_future(writable.write("x" * 100 * KIB))
    await quiet()
    was_waiting = not waiting.done()
    api.sink.gate.set()
    await waiting
    await writable.close()

    assert was_waiting
    assert [len(chunk) for chunk in api.sink.log] == [200 * KIB, 100 * KIB, len("closed")]


async def test_error_wakes_a_write_that_waits_for_the_window(join: Joiner, api: Api) -> None:
    link = join(api)
    gate = asyncio.Event()

    class Refusing(rpc.RpcTarget):
        def sink(self) -> rpc.Writable:
            async def refuse(chunk: Any) -> None:
                await gate.wait()
                raise ValueError("no")

            return rpc.Writable(refuse)

    writable = await join(Refusing()).api.sink()
    waiting = asyncio.ensure_future(writable.write("x" * 300 * KIB))
    await quiet()
    was_waiting = not waiting.done()
    gate.set()

    with pytest.raises(rpc.RemoteRangeError, match="no"):
        await waiting
    assert was_waiting
    assert link.stats() == link.leaves


async def test_concurrent_writers_keep_to_the_window(join: Joiner, api: Api) -> None:
    link = join(api)
    api.sink.gate.clear()
    writable = await link.api.writable()

    writers = [asyncio.ensure_future(writable.write("x" * 100 * KIB)) for _ in range(10)]
    await quiet()
    sent = sum(message[0] == "stream" for message in link.client_wire.said)
    api.sink.gate.set()
    await asyncio.gather(*writers)
    await writable.close()

    assert sent == 3
    assert len(api.sink.log) == 11


async def test_lost_connection_wakes_a_write_that_waits(join: Joiner, api: Api) -> None:
    link = join(api)
    api.sink.gate.clear()
    writable = await link.api.writable()
    waiting = asyncio.ensure_future(writable.write("x" * 300 * KIB))
    await quiet()

    link.client_wire.inner.cut()

    with pytest.raises(rpc.RpcDisconnected):
        await waiting
    with pytest.raises(rpc.RpcDisconnected):
        await writable.write("more")
    api.sink.gate.set()


async def test_refused_chunk_is_raised_by_a_later_write_and_by_the_close(join: Joiner, api: Api) -> None:
    link = join(api)
    writable = await link.api.failing()

    await writable.write(1)
    await quiet()

    with pytest.raises(rpc.RemoteRangeError, match="no 1"):
        await writable.write(2)
    with pytest.raises(rpc.RemoteRangeError, match="no 1"):
        await writable.close()


async def test_close_raises_what_a_write_was_refused_for(join: Joiner, api: Api) -> None:
    link = join(api)
    writable = await link.api.failing()

    await writable.write(1)

    with pytest.raises(rpc.RemoteRangeError, match="no 1"):
        await writable.close()


async def test_chunk_that_cannot_be_sent_leaves_the_writable_usable(join: Joiner, api: Api) -> None:
    link = join(api)
    writable = await link.api.writable()

    with pytest.raises(TypeError, match="Cannot serialize"):
        await writable.write(object())
    await writable.write(1)
    await writable.close()

    assert api.sink.log == [1, "closed"]


async def test_closed_writable_takes_no_more(join: Joiner, api: Api) -> None:
    link = join(api)
    writable = await link.api.writable()
    await writable.close()

    with pytest.raises(rpc.RpcError, match="closed"):
        await writable.write(1)
    with pytest.raises(rpc.RpcError, match="closed"):
        await writable.close()
    await writable.abort()


async def test_received_writable_is_sent_on(join: Joiner, api: Api) -> None:
    link, other = join(api), join(Api())

    await other.api.write_all(await link.api.writable(), [1, 2])

    assert api.sink.log == [1, 2, "closed"]


async def test_stream_messages_carry_writes_alone(join: Joiner, api: Api) -> None:
    link = join(api)
    writable = await link.api.writable()
    await quiet()
    before = len(link.client_wire.said)

    await writable.write(1)
    await writable.close()
    await quiet()

    said = link.client_wire.said[before:]
    assert [message[0] for message in said] == ["stream", "stream", "release"]


async def test_many_streams_at_once(join: Joiner, api: Api) -> None:
    link = join(api)

    sums = await asyncio.gather(*(link.api.count_bytes(rpc.Readable(b"x" * 100_000)) for _ in range(50)))

    assert sums == [100_000] * 50


async def test_writer_waits_while_the_connection_takes_no_more(join: Joiner, api: Api) -> None:
    link = join(api)
    limits = link.client.limits
    link.server_wire.inner.stall()

    # Their windows together are more than may be unsent.
    reading = [rpc.pull(link.api.count_bytes(rpc.Readable(b"x" * 256 * KIB))) for _ in range(80)]
    await turn(200)
    unsent = link.client_wire.buffered_bytes
    link.server_wire.inner.unstall()

    assert limits.outbound_high_bytes < unsent < limits.max_outbound_bytes
    assert await asyncio.gather(*reading) == [256 * KIB] * 80


# Streams that stay here


async def test_local_stub_passes_streams_as_they_are(join: Joiner, api: Api) -> None:
    join()
    sink = Sink()

    with rpc.stub(api) as stub:
        assert await stub.read_all(rpc.Readable([1, 2])) == [1, 2]
        await stub.write_all(rpc.Writable(sink), [1])
        assert await stub.echo(rpc.Blob(b"x", "t/x")) == rpc.Blob(b"x", "t/x")
        assert [chunk async for chunk in await stub.readable()] == ["one", 2, {"three": [3]}]

    assert sink.log == [1, "closed"]


async def test_cancel_of_what_was_never_sent_stops_the_source() -> None:
    source = Source()
    async with rpc.Readable(source) as readable:
        assert await anext(readable) == 1
    assert len(source.reasons) == 1

    async def chunks() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    async with aclosing(chunks()) as generator:
        readable = rpc.Readable(generator)
        assert await anext(readable) == 1
        await readable.cancel()
        with pytest.raises(StopAsyncIteration):
            await anext(generator)


# Blobs


@pytest.mark.parametrize(
    "blob",
    [
        rpc.Blob("grüße".encode(), "text/plain"),
        rpc.Blob(b""),
        rpc.Blob(b"", "text/x"),
        rpc.Blob(bytes(range(256))),
        rpc.Blob(b"\x07" * 1_000_000, "application/octet-stream"),
    ],
    ids=repr,
)
async def test_blob_there_and_back(join: Joiner, api: Api, blob: rpc.Blob) -> None:
    link = join(api)

    assert await link.api.echo(blob) == blob


async def test_blobs_in_one_call_and_in_one_result(join: Joiner, api: Api) -> None:
    link = join(api)
    blobs = [rpc.Blob(b"one"), {"two": rpc.Blob(b"two", "t/two")}]

    assert await link.api.echo(blobs) == blobs
    assert await link.api.blobs() == {"list": [rpc.Blob(b"one"), rpc.Blob(b"two", "text/two")], "count": 2}


async def test_disposing_a_result_with_a_blob(join: Joiner, api: Api) -> None:
    link = join(api)

    async with link.api.blobs() as result:
        assert result["count"] == 2
    link.api.blobs()
    with link.api.blob("x", ""):
        pass


async def test_blob_that_breaks_off_fails_the_call(join: Joiner, api: Api) -> None:
    link = join(api, options=rpc.Options(limits=rpc.Limits(max_blob_bytes=1000)))

    with pytest.raises(rpc.RpcError, match="max_blob_bytes"):
        await link.api.blob("x" * 1001, "")
    assert len(await link.api.blob("x" * 1000, "")) == 1000


async def test_blob_is_a_value() -> None:
    blob = rpc.Blob(bytearray(b"ab"), "t/x")

    assert (blob.data, blob.type, len(blob), bytes(blob)) == (b"ab", "t/x", 2, b"ab")
    assert blob == rpc.Blob(b"ab", "t/x")
    assert blob != rpc.Blob(b"ab")
    assert blob != b"ab"
    assert len({blob, rpc.Blob(b"ab", "t/x")}) == 1
    assert [chunk async for chunk in blob.stream()] == [b"ab"]
    assert repr(blob) == "Blob(2 bytes, 't/x')"


# Fetch values


async def test_headers_there_and_back(join: Joiner, api: Api) -> None:
    link = join(api)

    assert await link.api.echo(rpc.Headers([("X-One", "1"), ("x-two", "2")])) == rpc.Headers(
        {"x-one": "1", "x-two": "2"}
    )


async def test_request_with_and_without_a_body(join: Joiner, api: Api) -> None:
    link = join(api)
    url = "https://example.org/x?y"

    with_body = rpc.Request(url, "POST", rpc.Headers({"a": "b"}), rpc.Readable(b"hello"))
    assert await link.api.describe_request(with_body) == ["POST", url, [["a", "b"]], b"hello"]
    assert await link.api.describe_request(rpc.Request(url)) == ["GET", url, [], None]


async def test_response_with_and_without_a_body(join: Joiner, api: Api) -> None:
    link = join(api)

    response = await link.api.response()
    body = b"".join([chunk async for chunk in response.body])
    plain = await link.api.echo(rpc.Response(None, 204))

    assert (response.status, response.status_text, list(response.headers), body) == (
        201,
        "Made",
        [("x-one", "1")],
        b"hello",
    )
    assert plain == rpc.Response(None, 204)


async def test_disposing_a_response_cancels_its_body(join: Joiner, api: Api) -> None:
    link = join(api)

    rpc.dispose(await link.api.response())
    async with link.api.response():
        pass


# Batches


async def test_blob_and_readable_in_a_batch_request(api: Api) -> None:
    async with rpc.serve(lambda request: api) as server:
        url = server.url.replace("ws://", "http://")
        async with rpc.batch(url) as batch:
            blob = rpc.pull(batch.describe(rpc.Blob(b"abc", "t/x")))
            chunks = rpc.pull(batch.read_all(rpc.Readable([1, 2])))
            answers = await asyncio.gather(blob, chunks)

    assert list(answers) == ["Blob(3 bytes, 't/x')", [1, 2]]


async def test_stream_in_the_answer_of_a_batch_is_refused(api: Api) -> None:
    async with rpc.serve(lambda request: api) as server, rpc.batch(server.url.replace("ws://", "http://")) as batch:
        with pytest.raises(rpc.RemoteError, match="A stream cannot be sent"):
            await batch.readable()


# The original


@pytest.fixture(scope="module", params=VERSIONS)
def node_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with serve_node(request.param) as url:
        yield url


async def _tables(api: Any) -> list[int]:
    for _ in range(3):
        await api.square(0)
    theirs: list[int] = await api.tables()
    session = rpc.session_of(api)
    assert session is not None
    return [*session.stats(), *theirs]


async def test_megabytes_pass_to_the_original_and_back(node_url: str) -> None:
    data = bytes(range(256)) * 32 * KIB
    async with rpc.connect(node_url) as api:
        assert len(await api.echo(rpc.Blob(data))) == len(data)
        text = await api.readAll(rpc.Readable(bytes([i % 256]) * 16 * KIB for i in range(512)))
        tables = await _tables(api)

    assert '"count":512' in text
    assert tables == [1, 1, 1, 1]


async def test_many_streams_with_the_original_at_once(node_url: str) -> None:
    async with rpc.connect(node_url) as api:
        texts = await asyncio.gather(*(api.readAll(rpc.Readable(range(i))) for i in range(15)))
        received = await asyncio.gather(*(rpc.pull(api.readable("many")) for _ in range(5)))
        counts = [len([chunk async for chunk in readable]) for readable in received]
        del received
        tables = await _tables(api)

    assert [text.count(",") for text in texts] == [max(0, i - 1) for i in range(15)]
    assert counts == [500] * 5
    assert tables == [1, 1, 1, 1]


async def test_pump_into_the_original(node_url: str) -> None:
    async with rpc.connect(node_url) as api:
        async with rpc.Pump(api.note, max_batch=100) as pump:
            for i in range(1000):
                pump.send(i)
        log = await api.takeLog()
        tables = await _tables(api)

    assert [item for batch in log for item in batch] == list(range(1000))
    assert len(log) == 10
    assert tables == [1, 1, 1, 1]
