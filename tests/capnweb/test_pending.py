"""Results that are not there yet: order, failure, and arguments that are given back whatever happens."""

from __future__ import annotations

from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.hooks import ErrorHook, Hook, MapFunction, Path, Payload, Registration
from itx_notebook.capnweb.protocol.local import TargetHook, ValueHook
from itx_notebook.capnweb.protocol.payload import own_payload
from itx_notebook.capnweb.protocol.pending import PendingHook, call_hook, map_hook
from itx_notebook.capnweb.protocol.recording import record_map
from tests.capnweb.machines import InlineRuntime, Outcome, make_machine, runtime_of
from tests.capnweb.sessions import Counter


@pytest.fixture
def runtime() -> InlineRuntime:
    return InlineRuntime()


def owned_args(runtime: InlineRuntime, *values: Any) -> Payload:
    """Arguments as they come off the wire, or out of a queue: with references of their own."""
    payload = Payload(list(values), runtime)
    own_payload(payload, for_call=True)
    return payload


def make_function(runtime: InlineRuntime, captured: Counter) -> MapFunction:
    """A recorded function that captures a counter, and owns that capture."""
    with rpc.RpcStub(runtime.refer(captured)) as stub:
        return record_map(lambda item: stub.increment(item), runtime, rpc.Limits())  # noqa: PLW0108


def ask(hook: Hook) -> Outcome:
    outcome = Outcome()
    hook.pull(outcome)
    return outcome


class Log(rpc.RpcTarget):
    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._on_note: Any = None

    def note(self, entry: Any) -> Any:
        self.entries.append(entry)
        if self._on_note is not None:
            self._on_note(entry)
        return entry


# Order


def test_operations_are_delivered_in_order_and_before_who_waits_is_told(runtime: InlineRuntime) -> None:
    pending = PendingHook(runtime)
    log = Log()
    told: list[Any] = []

    class Waiter:
        def resolve(self, _: Payload) -> None:
            told.append(list(log.entries))

        def reject(self, error: Exception) -> None:
            raise error

    pending.pull(Waiter())
    results = [ask(pending.call(("note",), Payload([n], runtime))) for n in range(3)]
    states = [pending.is_pending]
    pending.resolve(TargetHook.wrap(log, runtime))
    states.append(pending.is_pending)
    assert states == [True, False]
    assert told == [[0, 1, 2]]
    assert [result.value for result in results] == [0, 1, 2]


def test_what_a_delivered_call_asks_for_queues_behind_what_was_asked_before(runtime: InlineRuntime) -> None:
    pending = PendingHook(runtime)
    log = Log()
    log._on_note = lambda entry: pending.call(("note",), Payload(["again"], runtime)) if entry == 0 else None
    for n in range(3):
        pending.call(("note",), Payload([n], runtime))
    pending.resolve(TargetHook.wrap(log, runtime))
    assert log.entries == [0, 1, 2, "again"]


def test_the_first_resolution_counts_and_a_second_is_disposed(runtime: InlineRuntime) -> None:
    counters = [Counter(1), Counter(2)]
    pending = PendingHook(runtime)
    for counter in counters:
        pending.resolve(TargetHook.wrap(counter, runtime))
    assert [counter.disposals for counter in counters] == [0, 1]
    assert ask(pending.get(("value",))).value == 1


def test_a_pending_result_turns_into_what_it_became(runtime: InlineRuntime) -> None:
    pending, outer = PendingHook(runtime), PendingHook(runtime)
    assert outer.unwrap() is outer
    outer.resolve(pending)
    target = TargetHook.wrap(Counter(), runtime)
    pending.resolve(target)
    assert outer.unwrap() is target


# Arguments on the paths where nobody is called


@pytest.mark.parametrize("how", ["rejected", "disposed first", "disposed stub", "broken", "no such method", "raises"])
def test_arguments_of_a_call_that_fails_are_given_back(runtime: InlineRuntime, how: str) -> None:
    counter = Counter()
    args = owned_args(runtime, counter)
    hook: Hook
    if how == "rejected":
        hook = pending = PendingHook(runtime)
        result = hook.call(("note",), args)
        pending.reject(RpcError("why"))
    elif how == "disposed first":
        hook = PendingHook(runtime)
        hook.dispose()
        result = hook.call(("note",), args)
    elif how == "disposed stub":
        hook = TargetHook.wrap(Log(), runtime)
        hook.dispose()
        result = hook.call(("note",), args)
    elif how == "broken":
        result = ErrorHook(RpcError("why")).call(("note",), args)
    elif how == "no such method":
        result = TargetHook.wrap(Log(), runtime).call(("nope",), args)
    else:
        result = call_hook(_Raising(), ("note",), args)
    outcome = ask(result)
    assert outcome.error is not None
    assert counter.disposals == 1


class _Raising(TargetHook):
    """A callee that fails to take the call."""

    __slots__ = ()

    def __init__(self) -> None:
        self._box = None

    def call(self, path: Path, args: Payload) -> Hook:
        raise KeyError("mine")

    def map(self, path: Path, function: MapFunction) -> Hook:
        raise KeyError("mine")


@pytest.mark.parametrize("how", ["rejected", "disposed first", "disposed stub", "broken", "raises", "no session"])
def test_captures_of_a_map_that_fails_are_given_back(runtime: InlineRuntime, how: str) -> None:
    counter = Counter()
    function = make_function(runtime, counter)
    hook: Hook
    if how == "rejected":
        hook = pending = PendingHook(runtime)
        result = hook.map((), function)
        pending.reject(RpcError("why"))
    elif how == "disposed first":
        hook = PendingHook(runtime)
        hook.dispose()
        result = hook.map((), function)
    elif how == "disposed stub":
        hook = TargetHook.wrap(Log(), runtime)
        hook.dispose()
        result = hook.map((), function)
    elif how == "broken":
        result = ErrorHook(RpcError("why")).map((), function)
    elif how == "raises":
        result = map_hook(_Raising(), (), function)
    else:
        machine = make_machine()
        main = machine.main
        machine.connection_lost(1006, "")
        result = main._hook.map((), function)
    assert ask(result).error is not None
    assert counter.disposals == 1


def test_arguments_that_cannot_be_sent_on_are_given_back() -> None:
    machine = make_machine()
    runtime = runtime_of(machine)
    counter = Counter()
    args = owned_args(runtime, counter, object())
    outcome = ask(call_hook(machine.main._hook, ("note",), args))
    assert isinstance(outcome.error, TypeError)
    assert counter.disposals == 1
    assert machine.stats() == (1, 1)


def test_arguments_on_a_lost_connection_are_given_back() -> None:
    machine = make_machine()
    main = machine.main
    machine.connection_lost(1006, "")
    counter = Counter()
    outcome = ask(call_hook(main._hook, ("note",), owned_args(runtime_of(machine), counter)))
    assert isinstance(outcome.error, rpc.RpcDisconnected)
    assert counter.disposals == 1


def test_a_callee_disposes_its_arguments_once(runtime: InlineRuntime) -> None:
    counter = Counter()
    TargetHook.wrap(Log(), runtime).call(("note",), owned_args(runtime, [counter]))
    pending = PendingHook(runtime)
    pending.call(("note",), owned_args(runtime, [counter]))
    pending.resolve(TargetHook.wrap(lambda: None, runtime))
    runtime.turn()
    assert counter.disposals == 2


# Disposal


def test_a_call_made_before_the_disposal_is_delivered(runtime: InlineRuntime) -> None:
    pending = PendingHook(runtime)
    log = Log()
    result = ask(pending.call(("note",), Payload([1], runtime)))
    pending.dispose()
    pending.dispose()
    pending.resolve(TargetHook.wrap(log, runtime))
    assert log.entries == [1]
    assert result.value == 1


def test_what_comes_after_the_disposal_is_disposed(runtime: InlineRuntime) -> None:
    counter, inside = Counter(), Counter()
    for hook in (TargetHook.wrap(counter, runtime), ValueHook(Payload({"a": [inside]}, runtime))):
        pending = PendingHook(runtime)
        pending.dispose()
        pending.resolve(hook)
    assert (counter.disposals, inside.disposals) == (1, 1)


def test_who_waits_is_told_of_the_disposal(runtime: InlineRuntime) -> None:
    pending = PendingHook(runtime)
    before = ask(pending)
    pending.dispose()
    after = ask(pending)
    for outcome in (before, after):
        assert str(outcome.error) == "RPC was canceled because the RpcPromise was disposed."


def test_a_duplicate_outlives_its_origin(runtime: InlineRuntime) -> None:
    pending = PendingHook(runtime)
    twin = pending.dup()
    pending.dispose()
    counter = Counter(3)
    pending.resolve(TargetHook.wrap(counter, runtime))
    assert ask(twin.get(("value",))).value == 3
    assert counter.disposals == 0
    twin.dispose()
    assert counter.disposals == 1


def test_a_disposed_pending_result_takes_nothing_more(runtime: InlineRuntime) -> None:
    pending = PendingHook(runtime)
    pending.dispose()
    for hook in (pending.call(("a",), Payload([], runtime)), pending.get(("a",)), pending.dup()):
        assert isinstance(ask(hook).error, rpc.RpcDisposed)


# Being told


def test_callbacks_hear_what_the_result_hears(runtime: InlineRuntime) -> None:
    told: list[str] = []
    pending = PendingHook(runtime)
    pending.on_broken(Registration(lambda error: told.append(f"first {error}")))
    taken_back = Registration(lambda error: told.append(f"nobody {error}"))
    pending.on_broken(taken_back)
    taken_back.unregister()
    pending.reject(RpcError("why"))
    pending.on_broken(Registration(lambda error: told.append(f"late {error}")))
    assert told == ["first why", "late why"]


def test_a_result_that_never_comes_keeps_count_of_itself(runtime: InlineRuntime) -> None:
    before = runtime.pending
    pending = PendingHook(runtime)
    assert runtime.pending == before + 1
    pending.reject(RpcError("why"))
    assert runtime.pending == before
