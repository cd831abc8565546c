"""Two machines joined by hand: the very messages, their order, and what both tables hold after each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.machine import Machine
from tests.capnweb.machines import Gate, InlineRuntime, Outcome, Pair, make_machine, read, receive, says
from tests.capnweb.sessions import Counter


class Main(rpc.RpcTarget):
    """What both sides serve."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.kept: Any = None
        self.gate = Gate()

    @property
    def answer(self) -> int:
        return 42

    def square(self, n: int) -> int:
        return n * n

    def make(self, start: int = 0) -> Counter:
        return Counter(start)

    def give(self, value: Any) -> Any:
        return value

    def use(self, callback: Any) -> Any:
        return callback(5)

    def call_and_forget(self, callback: Any) -> None:
        callback(5)

    def keep(self, stub: Any) -> None:
        self.kept = stub.dup()

    async def wait(self, value: Any = None) -> Any:
        await self.gate
        return value

    def fail(self) -> None:
        raise ValueError("no")


class Asked(Outcome):
    """An outcome that holds its promise, which otherwise would be given back."""

    def __init__(self, promise: Any) -> None:
        super().__init__()
        self._promise = promise
        hook = promise._hook.get(promise._path) if promise._path else promise._hook
        self._hook = hook
        hook.pull(self)


def ask(promise: Any) -> Any:
    return Asked(promise)


class Talk:
    """A client and a server whose messages are written down as they are let through."""

    def __init__(self, main: Any = None, client_main: Any = None, **options: Any) -> None:
        self.main = main or Main()
        self.pair = Pair(client_main, self.main, rpc.Options(**options))
        self.client, self.server = self.pair.left, self.pair.right
        self.api: Any = self.client.main

    def run(self) -> list[str]:
        """Let everything through; return what was said, each line with who said it."""
        lines: list[str] = []
        quiet = 0
        while quiet < 2:
            quiet += 1
            for name, speaker, listener in (("C", self.client, self.server), ("S", self.server, self.client)):
                said = [json.dumps(message, separators=(",", ":")) for message in read(speaker)]
                lines += [f"{name} {message}" for message in said]
                receive(listener, *(message.encode() for message in said))
                speaker.settle()
                runtime = speaker.runtime
                assert isinstance(runtime, InlineRuntime)
                runtime.turn()
                quiet = 0 if said else quiet
        return lines

    @property
    def tables(self) -> tuple[int, int, int, int]:
        """The client's imports and exports, the server's imports and exports."""
        return (*self.client.stats(), *self.server.stats())


CLEAN = (1, 1, 1, 1)


def test_the_life_of_a_call_is_four_messages() -> None:
    talk = Talk()
    result = ask(talk.api.square(3))
    assert talk.run() == [
        'C ["push",["pipeline",0,["square"],[3]]]',
        'C ["pull",1]',
        'S ["resolve",1,9]',
        'C ["release",1,1]',
    ]
    assert result.value == 9
    assert talk.tables == CLEAN


def test_ids_are_counted_for_the_session_and_never_used_again() -> None:
    talk = Talk()
    for n in range(1, 4):
        ask(talk.api.square(n))
        assert talk.run()[1] == f'C ["pull",{n}]'
    ask(talk.api.fail())
    assert talk.run() == [
        'C ["push",["pipeline",0,["fail"],[]]]',
        'C ["pull",4]',
        'S ["reject",4,["error","RangeError","no"]]',
        'C ["release",4,1]',
    ]
    ask(talk.api.use(lambda n: n))
    assert talk.run()[:2] == ['C ["push",["pipeline",0,["use"],[["export",-1]]]]', 'C ["pull",5]']
    ask(talk.api.use(lambda n: n))
    assert talk.run()[:2] == ['C ["push",["pipeline",0,["use"],[["export",-2]]]]', 'C ["pull",6]']
    assert talk.tables == CLEAN


def test_a_chain_is_pushes_and_one_pull() -> None:
    talk = Talk()
    counter = talk.api.make(4)
    result = ask(counter.increment(2))
    assert talk.run() == [
        'C ["push",["pipeline",0,["make"],[4]]]',
        'C ["push",["pipeline",1,["increment"],[2]]]',
        'C ["pull",2]',
        'S ["resolve",2,6]',
        'C ["release",2,1]',
    ]
    assert result.value == 6
    rpc.dispose(counter)
    assert talk.run() == ['C ["release",1,1]']
    assert talk.tables == CLEAN


def test_a_property_is_a_call_without_arguments() -> None:
    talk = Talk()
    result = ask(talk.api.answer)
    assert talk.run()[0] == 'C ["push",["pipeline",0,["answer"]]]'
    assert result.value == 42


def test_a_call_nobody_asks_for_is_one_message_and_its_release() -> None:
    talk = Talk()
    rpc.dispose(talk.api.square(3))
    assert talk.run() == ['C ["push",["pipeline",0,["square"],[3]]]', 'C ["release",1,1]']
    assert talk.tables == CLEAN


def test_a_function_of_the_peers_is_called_with_an_empty_path_and_released_before_the_answer() -> None:
    talk = Talk()
    result = ask(talk.api.use(lambda n: n + 1))
    assert talk.run() == [
        'C ["push",["pipeline",0,["use"],[["export",-1]]]]',
        'C ["pull",1]',
        'S ["push",["pipeline",-1,[],[5]]]',
        'S ["release",-1,1]',
        'S ["resolve",1,["pipeline",1]]',
        'C ["release",1,1]',
        'S ["release",1,1]',
    ]
    assert result.value == 6
    assert talk.tables == CLEAN


def test_parameters_are_released_before_the_answer() -> None:
    talk = Talk()
    ask(talk.api.call_and_forget(lambda n: n))
    assert talk.run() == [
        'C ["push",["pipeline",0,["call_and_forget"],[["export",-1]]]]',
        'C ["pull",1]',
        'S ["push",["pipeline",-1,[],[5]]]',
        'S ["release",-1,1]',
        'S ["resolve",1,null]',
        'S ["release",1,1]',
        'C ["release",1,1]',
    ]
    assert talk.tables == CLEAN


def test_parameters_of_an_async_method_live_until_it_ends() -> None:
    talk = Talk()
    ask(talk.api.wait([print]))
    assert talk.run() == ['C ["push",["pipeline",0,["wait"],[[[["export",-1]]]]]]', 'C ["pull",1]']
    assert talk.tables == (2, 2, 2, 2)
    talk.main.gate.open()
    assert talk.run() == [
        # The parameter was returned, so a duplicate of it lives on.
        'S ["resolve",1,[[["import",-1]]]]',
        'C ["release",1,1]',
        'S ["release",-1,1]',
    ]
    assert talk.tables == CLEAN


def test_a_kept_parameter_is_released_when_it_is_let_go() -> None:
    talk = Talk()
    ask(talk.api.keep(print))
    talk.run()
    assert talk.tables == (1, 2, 2, 1)
    rpc.dispose(talk.main.kept)
    assert talk.run() == ['S ["release",-1,1]']
    assert talk.tables == CLEAN


def test_an_object_in_a_result_lives_on_under_its_own_id() -> None:
    talk = Talk()
    outcome = ask(talk.api.make())
    assert talk.run() == [
        'C ["push",["pipeline",0,["make"],[]]]',
        'C ["pull",1]',
        'S ["resolve",1,["export",-1]]',
        'C ["release",1,1]',
    ]
    assert talk.tables == (2, 1, 1, 2)
    twin = outcome.value.dup()
    rpc.dispose(outcome.value)
    assert talk.run() == []
    rpc.dispose(twin)
    assert talk.run() == ['C ["release",-1,1]']
    assert talk.tables == CLEAN


def test_a_stub_goes_back_by_its_id() -> None:
    talk = Talk()
    outcome = ask(talk.api.make())
    talk.run()
    ask(talk.api.give({"a": [outcome.value], "b": talk.api, "c": talk.api.square}))
    assert talk.run()[0] == (
        'C ["push",["pipeline",0,["give"],[{"a":[[["import",-1]]],"b":["import",0],"c":["pipeline",0,["square"]]}]]]'
    )


def test_a_promise_of_this_session_goes_by_its_id() -> None:
    talk = Talk()
    outcome = ask(talk.api.square(talk.api.square(3)))
    assert talk.run()[:3] == [
        'C ["push",["pipeline",0,["square"],[3]]]',
        'C ["push",["pipeline",0,["square"],[["pipeline",1]]]]',
        'C ["pull",2]',
    ]
    assert outcome.value == 81
    assert talk.tables == CLEAN


def test_any_other_promise_goes_under_a_fresh_id_and_resolves_unasked() -> None:
    talk, other = Talk(), Talk()
    later = other.api.wait("brought")
    outcome = ask(talk.api.give([later]))
    assert talk.run() == ['C ["push",["pipeline",0,["give"],[[[["promise",-1]]]]]]', 'C ["pull",1]']
    other.main.gate.open()
    other.run()
    assert talk.run() == [
        'C ["resolve",-1,"brought"]',
        'S ["resolve",1,[["brought"]]]',
        'S ["release",-1,1]',
        'C ["release",1,1]',
    ]
    assert outcome.value == ["brought"]
    rpc.dispose(later)
    other.run()
    assert (talk.tables, other.tables) == (CLEAN, CLEAN)


def test_a_promise_that_is_known_resolves_right_behind_its_message() -> None:
    talk = Talk()
    runtime = talk.client.runtime
    promise = rpc.RpcPromise(runtime.refer(Main()).get(("answer",)))
    ask(talk.api.give([promise]))
    assert talk.run()[:3] == [
        'C ["push",["pipeline",0,["give"],[[[["promise",-1]]]]]]',
        'C ["resolve",-1,42]',
        'C ["pull",1]',
    ]


def test_a_promise_of_the_peers_own_is_an_answer_by_its_id() -> None:
    talk = Talk(client_main=Main())
    answer = ask(talk.api.use(lambda n: {"n": n}))
    assert 'S ["resolve",1,["pipeline",1]]' in talk.run()
    assert answer.value == {"n": 5}
    assert talk.tables == CLEAN


def test_the_peers_own_object_may_be_the_whole_answer() -> None:
    talk = Talk()
    counter = Counter(3)
    outcome = ask(talk.api.give(counter))
    talk.run()
    assert isinstance(outcome.value, rpc.RpcStub)
    assert ask(outcome.value.increment()).value == 4
    rpc.dispose(outcome.value)
    talk.run()
    assert counter.disposals == 1
    assert talk.tables == CLEAN


def test_an_answer_nobody_wants_any_more_is_swallowed() -> None:
    talk = Talk()
    promise = talk.api.wait([Counter()])
    outcome = ask(promise)
    talk.run()
    rpc.dispose(promise)
    assert str(outcome.error) == "RPC was canceled because the RpcPromise was disposed."
    assert talk.run() == ['C ["release",1,1]']
    talk.main.gate.open()
    assert talk.run() == ['S ["release",-1,1]']
    assert talk.tables == CLEAN


def test_a_late_answer_is_given_back_with_what_is_in_it() -> None:
    machine = make_machine()
    assert says(machine, ["resolve", 7, [[["export", -1], ["promise", -2]]]]) == [
        ["release", -1, 1],
        ["release", -2, 1],
    ]
    assert says(machine, ["reject", 7, ["error", "Error", "x"]]) == []
    assert says(machine, ["reject", 7, "anything"]) == []
    assert machine.stats() == (1, 1)


def test_awaiting_again_asks_for_nothing_and_a_second_pull_is_not_answered() -> None:
    talk = Talk()
    promise = talk.api.wait(1)
    outcomes = [ask(promise), ask(promise)]
    assert talk.run() == ['C ["push",["pipeline",0,["wait"],[1]]]', 'C ["pull",1]']
    receive(talk.server, b'["pull",1]')
    talk.main.gate.open()
    assert talk.run() == ['S ["resolve",1,1]', 'C ["release",1,1]']
    assert [outcome.value for outcome in outcomes] == [1, 1]


def test_a_read_of_what_is_passed_on_is_a_copy_with_references_of_its_own() -> None:
    talk = Talk()
    box = talk.api.give({"a": {"counter": Counter(4)}})
    inner = ask(box.a)
    talk.run()
    rpc.dispose(box)
    talk.run()
    assert ask(inner.value["counter"].value).value == 4
    rpc.dispose(inner.value)
    talk.run()
    assert talk.tables == CLEAN


def test_an_object_without_a_main_fails_calls() -> None:
    machine = make_machine()
    assert says(machine, ["push", ["pipeline", 0, ["a"], []]], ["pull", 1]) == [
        ["reject", 1, ["error", "Error", "This connection has no main object."]]
    ]


def test_a_push_is_any_expression() -> None:
    machine = make_machine(Main())
    values = {"a": [[["pipeline", 0, ["square"], [2]], ["pipeline", 0, ["square"], [3]]]], "b": 5}
    assert says(machine, ["push", values, "ignored"], ["pull", 1]) == [
        ["resolve", 1, {"a": [[["promise", -1], ["promise", -2]]], "b": 5}],
        ["resolve", -1, 4],
        ["resolve", -2, 9],
    ]
    assert says(machine, ["push", 7], ["pull", 2]) == [["resolve", 2, 7]]
    assert says(machine, ["release", 1, 1], ["release", 2, 1], ["release", -1, 1], ["release", -2, 1]) == []
    assert machine.stats() == (1, 1)


def test_an_error_of_a_call_carries_no_references() -> None:
    class Sour(rpc.RpcTarget):
        def fail(self) -> None:
            raise rpc.RpcError("no", props={"counter": Counter(), "code": 3})

    talk = Talk(Sour())
    outcome = ask(talk.api.fail())
    assert talk.run()[2] == 'S ["reject",1,["error","Error","no",null,{"code":3}]]'
    assert isinstance(outcome.error, rpc.RemoteError)
    assert talk.tables == CLEAN


# What breaks the protocol


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"[]",
        b"3",
        b'["nonsense"]',
        b"[3]",
        b'["push"]',
        b'["push",["nonsense"]]',
        b'["push",["pipeline",7]]',
        b'["pull"]',
        b'["pull",7]',
        b'["pull","1"]',
        b'["pull",true]',
        b'["resolve",0,1]',
        b'["resolve",1]',
        b'["release",0,1]',
        b'["release",7,1]',
        b'["release",1.5,1]',
        b'["stream"]',
    ],
)
def test_a_bad_message_ends_the_session_and_says_why(message: bytes) -> None:
    counter = Counter()
    machine = make_machine(counter)
    receive(machine, message)
    (said,) = read(machine)
    assert said[:2] == ["abort", said[1]]
    assert said[1][:2] == ["error", "Error"]
    assert isinstance(machine.error, rpc.RpcProtocolError)
    assert machine.close_request == (3000, str(machine.error))
    assert machine.stats() == (0, 0)
    assert counter.disposals == 1
    assert says(machine, ["push", ["pipeline", 0, ["value"]]], ["pull", 1]) == []


@pytest.mark.parametrize("count", [0, -1, 2, 1.5, True, None])
def test_a_release_is_of_no_more_than_was_given(count: Any) -> None:
    machine = make_machine(Main())
    says(machine, ["push", 1])
    assert says(machine, ["release", 1, count])[0][0] == "abort"


def test_a_peer_may_give_back_all_at_once_or_one_by_one() -> None:
    machine = make_machine(Main())
    assert says(machine, ["push", 1], ["push", 2], ["release", 1, 1], ["release", 2, 1]) == []
    assert machine.stats() == (1, 1)


# Ends


def test_an_abort_is_not_answered() -> None:
    machine = make_machine(Main())
    outcome = ask(machine.main.anything())  # type: ignore[attr-defined]  # a stub's
    list(read(machine))
    assert says(machine, ["abort", ["error", "TypeError", "why", None, {"code": 3}]]) == []
    assert isinstance(machine.error, rpc.RpcAborted)
    assert isinstance(machine.error.value, rpc.RemoteTypeError)
    assert machine.error.value.code == 3
    assert outcome.error is machine.error
    assert machine.close_request == (3000, "why")


@pytest.mark.parametrize(
    ("message", "value"), [(["abort"], None), (["abort", "text"], "text"), (["abort", None], None)]
)
def test_an_abort_may_say_anything_or_nothing(message: list[Any], value: Any) -> None:
    machine = make_machine()
    assert says(machine, message) == []
    assert isinstance(machine.error, rpc.RpcAborted)
    assert machine.error.value == value


def test_shutting_down_says_nothing_and_asks_for_a_close() -> None:
    machine = make_machine(Counter())
    main = machine.main
    rpc.dispose(main)
    assert list(read(machine)) == []
    assert machine.close_request == (3000, "RPC session was shut down by disposing the main stub")
    assert isinstance(ask(machine.main.x()).error, rpc.RpcDisposed)  # type: ignore[attr-defined]


def test_another_stub_of_the_main_object_keeps_the_session() -> None:
    machine = make_machine()
    first, second = machine.main, machine.main
    rpc.dispose(first)
    assert machine.error is None
    rpc.dispose(second)
    assert machine.error is not None


def test_a_failure_of_the_hook_that_shows_errors_ends_nothing() -> None:
    def fail(_: BaseException) -> None:
        raise RuntimeError("hook")

    machine = make_machine(Main(), rpc.Options(on_send_error=fail))
    answers = says(machine, ["push", ["pipeline", 0, ["fail"], []]], ["pull", 1])
    assert answers == [["reject", 1, ["error", "Error", "An error that could not be shown."]]]
    assert machine.error is None


def test_a_call_made_while_another_is_written_keeps_the_ids_in_order() -> None:
    machine = make_machine()
    api: Any = machine.main

    class Point:
        pass

    def encode(_: Point) -> Any:
        rpc.dispose(api.first())
        return 1

    machine.encoders = {Point: encode}
    second = ask(api.second(Point()))
    assert list(read(machine)) == [
        ["push", ["pipeline", 0, ["first"], []]],
        ["release", 1, 1],
        ["push", ["pipeline", 0, ["second"], [1]]],
        ["pull", 2],
    ]
    says(machine, ["resolve", 2, "second"])
    assert second.value == "second"


def test_a_disposer_that_calls_out_keeps_the_ids_in_order() -> None:
    talk = Talk()
    outcomes: list[Outcome] = []
    counter = Counter(on_dispose=lambda: outcomes.append(ask(talk.api.square(7))))
    outcomes.append(ask(talk.api.call_and_forget([counter])))
    outcomes.append(ask(talk.api.square(3)))
    talk.run()
    assert [outcome.value for outcome in outcomes if outcome.error is None] == [9, 49]
    assert talk.tables == CLEAN


def test_the_driver_is_woken_once_until_it_took_what_there_is() -> None:
    wakes: list[int] = []
    machine = Machine(None, runtime=InlineRuntime(), options=rpc.Options(), wake=lambda: wakes.append(1))
    api: Any = machine.main
    held = [api.a(), api.b()]
    assert len(wakes) == 1
    machine.outbox = []
    held.append(api.c())
    assert len(wakes) == 2


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="peer_version is"):
        rpc.Options(peer_version="0.9")  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ValueError, match="max_depth is 0"):
        rpc.Limits(max_depth=0)
    with pytest.raises(ValueError, match="outbound marks must rise"):
        rpc.Limits(outbound_low_bytes=2, outbound_high_bytes=1)


def test_defaults_are_those_of_the_original_where_it_has_any() -> None:
    limits = rpc.Limits()
    assert (limits.max_message_bytes, limits.max_depth, limits.max_bigint_digits) == (32 * 1024 * 1024, 256, 16_384)


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
def test_a_message_may_be_as_long_as_the_limit(size: int, fits: bool) -> None:
    machine = make_machine(Main(), rpc.Options(limits=rpc.Limits(max_message_bytes=1000)))
    message = json.dumps(["push", "x" * 500]).encode()
    receive(machine, message + b" " * (size - len(message)))
    assert (machine.error is None) is fits
