"""Whose references are: borrowed and owned values, and promises brought to their places."""

from __future__ import annotations

from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.hooks import ErrorHook, Payload
from itx_notebook.capnweb.protocol.local import ValueHook
from itx_notebook.capnweb.protocol.payload import deliver_payload, own_payload, take_reference
from itx_notebook.capnweb.protocol.pending import PendingHook
from tests.capnweb.machines import InlineRuntime
from tests.capnweb.sessions import Counter


@pytest.fixture
def runtime() -> InlineRuntime:
    return InlineRuntime()


class Later:
    """A promise and the hook that brings its value."""

    def __init__(self, runtime: InlineRuntime) -> None:
        self._runtime = runtime
        self.hook = PendingHook(runtime)
        self.promise = rpc.RpcPromise(self.hook)

    def bring(self, value: Any) -> None:
        self.hook.resolve(ValueHook(Payload(value, self._runtime)))


def delivered(payload: Payload) -> list[Exception | None]:
    """Deliver, and return what is told, now or later."""
    told: list[Exception | None] = []
    deliver_payload(payload, told.append)
    return told


# Owning


def test_a_borrowed_value_is_left_alone(runtime: InlineRuntime) -> None:
    counter = Counter()
    value = {"a": [counter]}
    payload = Payload(value, runtime)
    payload.dispose()
    assert payload.value is value
    assert runtime.referred == []
    assert counter.disposals == 0


def test_owning_copies_containers_and_wraps_what_is_passed_by_reference(runtime: InlineRuntime) -> None:
    counter = Counter()
    value = {"list": [1, counter], "tuple": (counter.increment, len), "data": b"x"}
    payload = Payload(value, runtime)
    own_payload(payload)
    own_payload(payload)
    value["list"].append(2)  # type: ignore[attr-defined]  # the list above
    assert payload.value["data"] == b"x"
    assert [type(item) for item in payload.value["list"]] == [int, rpc.RpcStub]
    assert [type(item) for item in payload.value["tuple"]] == [rpc.RpcStub, rpc.RpcStub]
    assert len(payload.stubs or ()) == 3
    payload.dispose()
    payload.dispose()
    assert counter.disposals == 1


def test_owning_duplicates_stubs_and_leaves_the_givers(runtime: InlineRuntime) -> None:
    counter = Counter()
    stub = rpc.RpcStub(runtime.refer(counter))
    payload = Payload([stub, stub], runtime)
    own_payload(payload)
    assert payload.value[0] is not stub
    payload.dispose()
    assert counter.disposals == 0
    rpc.dispose(stub)
    assert counter.disposals == 1


def test_only_for_a_call_is_a_target_asked_for_a_duplicate(runtime: InlineRuntime) -> None:
    class Shared(rpc.RpcTarget):
        dups = 0

        def dup(self) -> Shared:
            Shared.dups += 1
            return self

    for for_call, expected in ((False, 0), (True, 1)):
        payload = Payload([Shared()], runtime)
        own_payload(payload, for_call=for_call)
        assert Shared.dups == expected
        payload.dispose()


def test_nothing_remains_of_a_value_that_cannot_be_copied(runtime: InlineRuntime) -> None:
    counter = Counter()
    cyclic: list[Any] = [counter]
    cyclic.append(cyclic)
    payload = Payload(cyclic, runtime)
    with pytest.raises(ValueError, match="maximum allowed depth"):
        own_payload(payload)
    assert counter.disposals >= 1
    payload.dispose()


def test_what_a_dup_raises_is_raised_and_nothing_remains(runtime: InlineRuntime) -> None:
    class Sour(rpc.RpcTarget):
        def dup(self) -> Sour:
            raise RuntimeError("sour")

    counter = Counter()
    with pytest.raises(RuntimeError, match="sour"):
        own_payload(Payload([counter, Sour()], runtime), for_call=True)
    assert counter.disposals == 1


def test_a_reference_to_a_property_is_a_read(runtime: InlineRuntime) -> None:
    stub = rpc.RpcStub(runtime.refer(Counter(5)))
    hook = take_reference(stub.value, runtime)
    assert isinstance(hook, ValueHook)
    assert hook.payload.value == 5


# Delivering


def test_a_value_without_promises_is_delivered_at_once(runtime: InlineRuntime) -> None:
    assert delivered(Payload([1], runtime, owned=True)) == [None]


def test_promises_are_replaced_by_their_values_wherever_they_stand(runtime: InlineRuntime) -> None:
    one, two, three = (Later(runtime) for _ in range(3))
    payload = Payload({"a": [one.promise, {"b": two.promise}], "c": three.promise}, runtime)
    own_payload(payload)
    told = delivered(payload)
    two.bring("two")
    three.bring(None)
    assert told == []
    one.bring([1])
    assert told == [None]
    assert payload.value == {"a": [[1], {"b": "two"}], "c": None}


def test_promises_in_what_a_promise_brings_are_delivered_too(runtime: InlineRuntime) -> None:
    outer, inner = Later(runtime), Later(runtime)
    payload = Payload(outer.promise, runtime)
    own_payload(payload)
    told = delivered(payload)
    outer.bring({"inner": [inner.promise]})
    assert told == []
    inner.bring("in")
    assert told == [None]
    assert payload.value == {"inner": ["in"]}


def test_what_a_promise_brings_is_disposed_with_the_whole_and_apart_from_the_promise(runtime: InlineRuntime) -> None:
    counter = Counter()
    later = Later(runtime)
    payload = Payload([later.promise], runtime)
    own_payload(payload)
    told = delivered(payload)
    later.bring({"counter": counter})
    assert told == [None]
    assert isinstance(payload.value[0]["counter"], rpc.RpcStub)
    payload.dispose()
    assert counter.disposals == 0
    later.hook.dispose()
    assert counter.disposals == 1


def test_all_who_ask_are_told_and_not_before_the_whole_is_there(runtime: InlineRuntime) -> None:
    later = Later(runtime)
    payload = Payload([later.promise], runtime)
    own_payload(payload)
    first, second = delivered(payload), delivered(payload)
    assert (first, second) == ([], [])
    later.bring(1)
    assert (first, second, delivered(payload)) == ([None], [None], [None])
    assert payload.value == [1]


def test_a_promise_that_fails_fails_the_whole_once_all_are_known(runtime: InlineRuntime) -> None:
    good, bad, worse = (Later(runtime) for _ in range(3))
    counter = Counter()
    payload = Payload([good.promise, bad.promise, worse.promise, counter], runtime)
    own_payload(payload)
    told = delivered(payload)
    error = RpcError("why")
    bad.hook.reject(error)
    worse.hook.reject(RpcError("too late"))
    assert told == []
    good.bring(Counter())
    assert told == [error]
    assert delivered(payload) == [error]
    payload.dispose()
    assert counter.disposals == 1


def test_a_promise_that_failed_already_fails_the_whole_at_once(runtime: InlineRuntime) -> None:
    error = RpcError("why")
    payload = Payload([rpc.RpcPromise(ErrorHook(error))], runtime)
    own_payload(payload)
    assert delivered(payload) == [error]


def test_disposing_a_whole_that_is_not_there_yet_gives_its_promises_up(runtime: InlineRuntime) -> None:
    counter = Counter()
    later = Later(runtime)
    payload = Payload([later.promise], runtime)
    own_payload(payload)
    told = delivered(payload)
    payload.dispose()
    assert [type(error) for error in told] == [rpc.RpcDisposed]
    later.hook.dispose()
    later.bring(counter)
    assert counter.disposals == 1
