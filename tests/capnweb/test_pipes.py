"""Pipes message by message: what is said, what is acknowledged when, and what a peer that misbehaves gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.flow import INITIAL_BYTES
from itx_notebook.capnweb.protocol.machine import Machine
from itx_notebook.capnweb.stub import RpcStub
from tests.capnweb.machines import Gate, ask, check_tables, make_machine, read, receive, runtime_of, says

UNDEFINED = ["undefined"]


class Api(rpc.RpcTarget):
    """Takes streams and keeps them; reads when the test says so."""

    def __init__(self) -> None:
        self.kept: Any = None
        self.read: list[Any] = []
        self.sink = Sink()

    def keep(self, value: Any) -> None:
        self.kept = value

    def drop(self) -> None:
        self.kept = None

    async def read_one(self) -> Any:
        return await anext(self.kept)

    async def read_rest(self) -> list[Any]:
        return [chunk async for chunk in self.kept]

    async def cancel(self, reason: str) -> None:
        await self.kept.cancel(RuntimeError(reason))

    def readable(self) -> rpc.Readable:
        return rpc.Readable(["a", "b"])

    def writable(self) -> rpc.Writable:
        return rpc.Writable(self.sink)

    def ignore(self, *_: Any) -> str:
        return "ignored"

    def echo(self, value: Any) -> Any:
        return value


class Sink:
    """Keeps what happens to it; a gate holds its writes up."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.gate: Gate | None = None

    async def write(self, chunk: Any) -> None:
        self.log.append(chunk)
        if self.gate is not None:
            await self.gate

    def close(self) -> None:
        self.log.append("closed")

    def abort(self, reason: Exception) -> None:
        self.log.append(f"aborted: {reason}")


def call(method: str, *args: Any) -> list[Any]:
    return ["push", ["pipeline", 0, [method], list(args)]]


def write(pipe: int, chunk: Any) -> list[Any]:
    return ["stream", ["pipeline", pipe, ["write"], [chunk]]]


def close(pipe: int) -> list[Any]:
    return ["stream", ["pipeline", pipe, ["close"], []]]


def abort(pipe: int, *reason: Any) -> list[Any]:
    return ["stream", ["pipeline", pipe, ["abort"], list(reason)]]


def answer(id_: int, value: Any = UNDEFINED) -> list[Any]:
    return ["resolve", id_, value]


def main_of(machine: Machine) -> Any:
    """The peer's main object."""
    stub = machine.main
    assert isinstance(stub, RpcStub)
    return stub


def hold(promise: RpcStub) -> None:
    """Keep a call until the test ends: one that is dropped is given back in between."""
    _held.append(promise)


_held: list[RpcStub] = []


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    _held.clear()


def is_clean(machine: Machine) -> bool:
    check_tables(machine)
    return machine.stats() == (1, 1) and machine._unread.held_bytes == 0 and machine._unread_chunks == 0


# Sending a readable


def test_readable_goes_out_as_pipe_message_chunks_end_and_release() -> None:
    machine = make_machine()
    promise = main_of(machine).take(rpc.Readable([1, "two"]))
    result = ask(promise)

    said = says(machine)
    acknowledged = says(machine, answer(3), answer(4), answer(5), ["resolve", 2, "done"])

    assert said == [
        ["pipe"],
        ["push", ["pipeline", 0, ["take"], [["readable", 1]]]],
        ["pull", 2],
        ["stream", ["pipeline", 1, ["write"], [1]]],
        ["stream", ["pipeline", 1, ["write"], ["two"]]],
        ["stream", ["pipeline", 1, ["close"], []]],
    ]
    # An answer to a stream message is not given back; the pipe is, once its end was taken.
    assert acknowledged == [["release", 2, 1], ["release", 1, 1]]
    assert result.value == "done"
    assert is_clean(machine)


def test_readable_in_an_answer_goes_out_before_it() -> None:
    machine = make_machine(Api())

    said = says(machine, call("readable"), ["pull", 1])

    assert said[:3] == [["pipe"], ["resolve", 1, ["readable", 1]], ["stream", ["pipeline", 1, ["write"], ["a"]]]]


def test_async_iterator_is_sent_as_a_readable() -> None:
    async def chunks() -> Any:
        yield 1

    machine = make_machine()
    hold(main_of(machine).take(chunks()))

    assert [message[0] for message in says(machine)] == ["pipe", "push", "stream", "stream"]


def test_source_that_fails_aborts_the_pipe_with_its_error() -> None:
    async def chunks() -> Any:
        yield 1
        raise ValueError("source broke")

    machine = make_machine()
    hold(main_of(machine).take(rpc.Readable(chunks())))

    said = says(machine)
    released = says(machine, answer(3), answer(4))

    assert said[3:] == [["stream", ["pipeline", 1, ["abort"], [["error", "RangeError", "source broke"]]]]]
    assert released == [["release", 1, 1]]


def test_refused_chunk_stops_the_source_and_gives_the_pipe_back() -> None:
    class Source:
        def __init__(self) -> None:
            self.reasons: list[BaseException] = []
            self.gate = Gate()

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            if len(sent) == 1:
                await self.gate
            sent.append(1)
            return 1

        def cancel(self, reason: BaseException) -> None:
            self.reasons.append(reason)

    sent: list[int] = []
    source = Source()
    machine = make_machine()
    hold(main_of(machine).take(rpc.Readable(source)))

    said = says(machine, ["reject", 3, ["error", "Error", "enough"]])
    after = says(machine, ["reject", 3, ["error", "Error", "enough"]])

    assert said[2:] == [write(1, 1)]
    assert after == [["release", 1, 1]]
    assert [str(reason) for reason in source.reasons] == ["enough"]


def test_readable_of_a_message_that_cannot_be_sent_stays_the_applications() -> None:
    machine = make_machine()
    readable = rpc.Readable([1])

    with pytest.raises(TypeError, match="Cannot serialize"):
        main_of(machine).take(readable, object())
    refused = says(machine)
    hold(main_of(machine).take(readable))

    assert refused == [["pipe"], ["release", 1, 1]]
    assert says(machine)[:2] == [["pipe"], ["push", ["pipeline", 0, ["take"], [["readable", 2]]]]]


def test_readable_is_sent_once() -> None:
    machine = make_machine()
    readable = rpc.Readable([1])
    hold(main_of(machine).take(readable))

    with pytest.raises(TypeError, match="was sent"):
        main_of(machine).take(readable)
    with pytest.raises(TypeError, match="was sent"):
        _ = anext(readable)
    says(machine)


def test_writer_stops_at_its_window_and_goes_on_with_an_acknowledgement() -> None:
    machine = make_machine()
    hold(main_of(machine).take(rpc.Readable("x" * 65_536 for _ in range(100))))

    first = says(machine)
    runtime_of(machine).now = 0.1
    second = says(machine, answer(3))

    chunks = [message for message in first if message[0] == "stream"]
    assert len(chunks) == -(-INITIAL_BYTES // 65_536)
    assert [message[0] for message in second] == ["stream"]


def test_end_of_the_session_stops_a_source_that_is_waiting() -> None:
    closed = []

    async def chunks() -> Any:
        try:
            await Gate()
            yield 1
        finally:
            closed.append(True)

    machine = make_machine()
    hold(main_of(machine).take(rpc.Readable(chunks())))
    says(machine)

    machine.connection_lost(1006, "")
    runtime_of(machine).turn()

    assert closed == [True]


def test_answer_to_a_pipe_is_refused() -> None:
    machine = make_machine()
    hold(main_of(machine).take(rpc.Readable([])))

    says(machine, ["resolve", 1, "what?"])

    assert isinstance(machine.error, rpc.RpcProtocolError)


# Receiving one


def test_chunk_is_acknowledged_when_it_is_read() -> None:
    machine = make_machine(Api())

    arrived = says(machine, ["pipe"], call("keep", ["readable", 1]), write(1, "a"), write(1, "b"), close(1))
    one = says(machine, call("read_one"), ["pull", 6])
    rest = says(machine, call("read_rest"), ["pull", 7], ["release", 1, 1])

    assert arrived == []
    assert one == [answer(3), ["resolve", 6, "a"]]
    # The end needs no reading.
    assert rest == [answer(4), answer(5), ["resolve", 7, [["b"]]]]


def test_last_chunk_acknowledges_the_end() -> None:
    machine = make_machine(Api())

    said = says(
        machine, ["pipe"], call("keep", ["readable", 1]), write(1, "a"), close(1), call("read_one"), ["pull", 5]
    )

    assert said == [answer(3), answer(4), ["resolve", 5, "a"]]


def test_end_after_everything_was_read_is_acknowledged_at_once() -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], call("keep", ["readable", 1]), close(1))

    assert said == [answer(3)]


def test_abort_comes_after_the_chunks_before_it() -> None:
    machine = make_machine(Api())
    error = ["error", "TypeError", "source broke"]

    aborted = says(machine, ["pipe"], call("keep", ["readable", 1]), write(1, "a"), abort(1, error), ["release", 1, 1])
    one = says(machine, call("read_one"), ["pull", 5])
    rest = says(machine, call("read_rest"), ["pull", 6])

    assert aborted == [answer(4)]
    assert one == [answer(3), ["resolve", 5, "a"]]
    assert rest == [["reject", 6, error]]


def test_pipe_released_without_an_end_fails_the_reader() -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], call("keep", ["readable", 1]), ["release", 1, 1], call("read_rest"), ["pull", 3])

    assert said == [["reject", 3, ["error", "Error", "The writer let go of the stream without closing it."]]]


def test_cancelling_refuses_what_was_not_read_and_what_comes_later() -> None:
    machine = make_machine(Api())

    first = says(machine, ["pipe"], call("keep", ["readable", 1]), write(1, "a"), call("cancel", "enough"))
    second = says(machine, write(1, "b"), close(1), ["release", 1, 1])

    refusal = ["error", "Error", "enough"]
    assert first == [["reject", 3, refusal]]
    assert second == [["reject", 5, refusal], ["reject", 6, refusal]]


def test_readable_that_nobody_keeps_is_cancelled() -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], call("ignore", ["readable", 1]), write(1, "a"), ["pull", 2], ["release", 2, 1])
    later = says(machine, write(1, "b"), ["release", 1, 1])

    assert said == [answer(2, "ignored"), ["reject", 3, ["error", "Error", _GIVEN_UP]]]
    assert later == [["reject", 4, ["error", "Error", _GIVEN_UP]]]
    assert is_clean(machine)


_GIVEN_UP = "The reader gave the stream up before its end."


def test_pipe_whose_readable_end_never_comes_leaves_nothing() -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], write(1, [[["export", -1]]]), ["release", 1, 1])

    assert said == [["release", -1, 1], ["reject", 2, ["error", "Error", _GIVEN_UP]]]
    assert is_clean(machine)


@pytest.mark.parametrize("pipe", [0, 1, 2, 7, -1])
def test_readable_end_of_what_is_no_pipe_ends_the_session(pipe: int) -> None:
    machine = make_machine(Api())

    says(machine, call("echo", 1), ["push", 1], call("echo", ["readable", pipe]))

    assert isinstance(machine.error, rpc.RpcProtocolError)


def test_readable_end_comes_once() -> None:
    machine = make_machine(Api())

    says(machine, ["pipe"], call("keep", ["readable", 1]), call("ignore", ["readable", 1]))

    assert isinstance(machine.error, rpc.RpcProtocolError)


def test_readable_of_a_message_that_is_refused_is_cancelled() -> None:
    machine = make_machine(Api())
    says(machine, ["pipe"], write(1, "a"))
    says(machine, call("echo", ["readable", 1], ["nonsense"]))

    assert machine.error is not None
    assert machine._unread_chunks >= 0


@pytest.mark.parametrize(
    "expression",
    [
        ["pipeline", 1, ["shut"], []],
        ["pipeline", 1, [], ["a"]],
        ["pipeline", 1, ["write", "call"], []],
        ["pipeline", 1, ["write"]],
        ["pipeline", 1],
        ["remap", 1, [], [], [["pipeline", 0, ["write"]]]],
    ],
)
def test_writable_end_offers_three_calls_and_nothing_else(expression: list[Any]) -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], call("keep", ["readable", 1]), ["push", expression], ["pull", 3])

    assert [(message[:2], message[2][1]) for message in said] == [(["reject", 3], "TypeError")]
    assert machine.error is None


def test_bad_call_of_a_writable_end_gives_its_arguments_back() -> None:
    machine = make_machine(Api())

    said = says(
        machine, ["pipe"], call("keep", ["readable", 1]), ["stream", ["pipeline", 1, ["shut"], [["export", -1]]]]
    )

    assert said[0] == ["release", -1, 1]
    assert said[1][:2] == ["reject", 3]


def test_write_after_the_end_gives_its_arguments_back() -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], call("keep", ["readable", 1]), close(1), write(1, [[["export", -1]]]))

    assert said == [answer(3), ["release", -1, 1], ["reject", 4, said[2][2]]]
    assert said[2][2][:2] == ["error", "TypeError"]


def test_pushed_write_is_a_write_too() -> None:
    machine = make_machine(Api())

    said = says(
        machine,
        ["pipe"],
        call("keep", ["readable", 1]),
        ["push", ["pipeline", 1, ["write"], ["a"]]],
        ["pull", 3],
        call("read_one"),
        ["pull", 4],
    )

    assert said == [answer(3), ["resolve", 4, "a"]]


def test_chunk_with_a_promise_keeps_its_place() -> None:
    machine = make_machine(Api())

    first = says(
        machine,
        ["pipe"],
        call("keep", ["readable", 1]),
        write(1, {"value": ["promise", -1]}),
        write(1, "b"),
        call("read_rest"),
        ["pull", 5],
        close(1),
    )
    second = says(machine, ["resolve", -1, "a"])

    assert first == []
    assert second == [answer(3), answer(4), answer(6), ["resolve", 5, [[{"value": "a"}, "b"]]], ["release", -1, 1]]


def test_chunk_whose_promise_fails_breaks_the_stream_there() -> None:
    machine = make_machine(Api())
    error = ["error", "Error", "no"]

    says(machine, ["pipe"], call("keep", ["readable", 1]), write(1, "a"), write(1, ["promise", -1]), write(1, "c"))
    says(machine, ["reject", -1, error])
    said = says(machine, call("read_one"), ["pull", 6], call("read_one"), ["pull", 7])

    assert said == [answer(3), ["resolve", 6, "a"], ["reject", 4, error], ["reject", 5, error], ["reject", 7, error]]


# What a peer may send into streams


def test_unread_chunks_end_the_session_beyond_the_limit() -> None:
    machine = make_machine(Api(), rpc.Options(limits=rpc.Limits(max_unread_bytes=10_000)))
    receive(machine)

    says(machine, ["pipe"], call("keep", ["readable", 1]), *[write(1, "a") for _ in range(9)])
    was_alive = machine.error is None
    says(machine, write(1, "b"))

    assert was_alive
    assert isinstance(machine.error, rpc.RpcProtocolError)


def test_chunks_that_are_read_count_no_more() -> None:
    machine = make_machine(Api(), rpc.Options(limits=rpc.Limits(max_unread_bytes=10_000)))
    says(machine, ["pipe"], call("keep", ["readable", 1]), ["release", 2, 1])

    for i in range(50):
        says(machine, write(1, "a"), call("read_one"), ["release", 4 + 2 * i, 1])
    says(machine, call("drop"), ["release", 103, 1], ["release", 1, 1])

    assert is_clean(machine)


def test_unread_chunks_are_no_calls() -> None:
    limits = rpc.Limits(max_exports=5, max_pending_calls=5)
    machine = make_machine(Api(), rpc.Options(limits=limits))
    says(machine, ["pipe"], call("keep", ["readable", 1]), ["release", 2, 1])

    says(machine, *[write(1, i) for i in range(100)])
    said = says(machine, call("echo", 1), ["pull", 103])

    assert machine.error is None
    assert said == [["resolve", 103, 1]]


def test_pipes_count_as_exports() -> None:
    machine = make_machine(Api(), rpc.Options(limits=rpc.Limits(max_exports=5)))

    says(machine, *[["pipe"]] * 10)

    assert isinstance(machine.error, rpc.RpcProtocolError)


# Writables


def test_writable_goes_out_as_an_object_of_this_side() -> None:
    machine = make_machine()
    sink = Sink()
    hold(main_of(machine).take(rpc.Writable(sink)))

    sent = says(machine, ["resolve", 1, None])
    answers = says(machine, write(-1, "a"), write(-1, {"b": [[1]]}), close(-1), ["release", -1, 1])

    assert sent == [["push", ["pipeline", 0, ["take"], [["writable", -1]]]], ["release", 1, 1]]
    assert answers == [answer(1), answer(2), answer(3)]
    assert sink.log == ["a", {"b": [1]}, "closed"]
    assert is_clean(machine)


def test_sink_gets_one_chunk_at_a_time() -> None:
    machine = make_machine(api := Api())
    gate = api.sink.gate = Gate()

    says(machine, call("writable"), ["pull", 1], ["release", 1, 1])
    held = says(machine, write(-1, "a"), write(-1, "b"), close(-1))
    log = list(api.sink.log)
    gate.open()
    runtime_of(machine).turn()

    assert (held, log) == ([], ["a"])
    assert list(read(machine)) == [answer(2), answer(3), answer(4)]
    assert api.sink.log == ["a", "b", "closed"]


def test_abort_comes_after_the_chunks_before_it_to_a_sink_as_well() -> None:
    machine = make_machine(api := Api())
    gate = api.sink.gate = Gate()

    says(machine, call("writable"), ["pull", 1])
    said = says(machine, write(-1, "a"), write(-1, "b"), abort(-1, ["error", "Error", "enough"]))
    gate.open()
    runtime_of(machine).turn()

    assert said == [answer(4)]
    assert list(read(machine)) == [answer(2), answer(3)]
    assert api.sink.log == ["a", "b", "aborted: enough"]


def test_writable_released_without_an_end_is_aborted() -> None:
    machine = make_machine(api := Api())

    says(machine, call("writable"), ["pull", 1], write(-1, "a"), ["release", -1, 1], ["release", 1, 1])

    assert api.sink.log == ["a", "aborted: The writer let go of the stream without closing it."]
    assert is_clean(machine)


def test_sink_that_fails_refuses_the_rest_and_hears_no_more() -> None:
    log: list[Any] = []

    def take(chunk: Any) -> None:
        log.append(chunk)
        if chunk == "b":
            raise ValueError("sink broke")

    machine = make_machine()
    hold(main_of(machine).take(rpc.Writable(take)))
    says(machine)

    said = says(machine, write(-1, "a"), write(-1, "b"), write(-1, "c"), close(-1), ["release", -1, 1])

    error = ["error", "RangeError", "sink broke"]
    assert said == [answer(1), ["reject", 2, error], ["reject", 3, error], ["reject", 4, error]]
    assert log == ["a", "b"]


def test_writable_of_a_message_that_cannot_be_sent_stays_the_applications() -> None:
    machine = make_machine()
    sink = Sink()
    writable = rpc.Writable(sink)

    with pytest.raises(TypeError, match="Cannot serialize"):
        main_of(machine).take(writable, object())
    hold(main_of(machine).take(writable))

    assert says(machine) == [["push", ["pipeline", 0, ["take"], [["writable", -2]]]]]
    assert sink.log == []


def test_writable_id_of_the_wrong_sign_ends_the_session() -> None:
    machine = make_machine(Api())

    says(machine, call("echo", ["writable", 1]))

    assert isinstance(machine.error, rpc.RpcProtocolError)


def test_received_writable_that_nobody_keeps_is_given_back() -> None:
    machine = make_machine(Api())

    assert says(machine, call("ignore", ["writable", -1]), ["release", 1, 1]) == [["release", -1, 1]]


# Blobs


def test_blob_goes_out_through_a_pipe_even_when_it_is_empty() -> None:
    machine = make_machine()
    hold(main_of(machine).take(rpc.Blob(b"", "text/plain")))

    assert says(machine) == [
        ["pipe"],
        ["push", ["pipeline", 0, ["take"], [["blob", "text/plain", ["readable", 1]]]]],
        ["stream", ["pipeline", 1, ["close"], []]],
    ]


def test_blob_is_delivered_once_it_is_whole() -> None:
    machine = make_machine(api := Api())

    begun = says(machine, ["pipe"], call("keep", ["blob", "x/y", ["readable", 1]]), write(1, ["bytes", "YWI"]))
    was_kept = api.kept
    says(machine, write(1, ["bytes", "Yw"]), close(1))

    assert begun == [answer(3)]
    assert was_kept is None
    assert api.kept == rpc.Blob(b"abc", "x/y")


def test_blob_over_the_limit_fails_its_call_and_its_writer() -> None:
    machine = make_machine(api := Api(), rpc.Options(limits=rpc.Limits(max_blob_bytes=2)))

    said = says(
        machine, ["pipe"], call("keep", ["blob", "", ["readable", 1]]), ["pull", 2], write(1, ["bytes", "YWJj"])
    )
    more = says(machine, write(1, ["bytes", "YWJj"]))

    assert [message[:2] for message in said] == [["resolve", 3], ["reject", 2]]
    assert [message[:2] for message in more] == [["reject", 4]]
    assert api.kept is None
    assert machine._blobs.held_bytes == 0


def test_blob_of_what_is_no_bytes_fails_its_call() -> None:
    machine = make_machine(Api())

    said = says(machine, ["pipe"], call("keep", ["blob", "", ["readable", 1]]), ["pull", 2], write(1, "text"))

    assert [message[:2] for message in said] == [["resolve", 3], ["reject", 2]]


def test_blob_whose_pipe_breaks_fails_its_call() -> None:
    machine = make_machine(Api())

    said = says(
        machine,
        ["pipe"],
        call("keep", ["blob", "", ["readable", 1]]),
        ["pull", 2],
        write(1, ["bytes", "YWI"]),
        ["release", 1, 1],
    )

    assert [message[:2] for message in said] == [["resolve", 3], ["reject", 2]]


@pytest.mark.parametrize(
    "expression",
    [
        ["blob"],
        ["blob", "x/y"],
        ["blob", 1, ["readable", 1]],
        ["blob", "x/y", ["readable"]],
        ["blob", "x/y", ["writable", -1]],
        ["blob", "x/y", ["readable", 1], 0],
        ["blob", "x/y", ["bytes", ""]],
    ],
)
def test_malformed_blob_ends_the_session(expression: list[Any]) -> None:
    machine = make_machine(Api())

    says(machine, ["pipe"], call("echo", expression))

    assert isinstance(machine.error, rpc.RpcProtocolError)
