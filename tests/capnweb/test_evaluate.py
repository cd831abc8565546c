"""Expressions to values: what each is read as, what ends the session, and that nothing remains of what failed."""

from __future__ import annotations

import array
import struct
from datetime import UTC, datetime
from math import isnan
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.evaluate import Evaluator
from itx_notebook.capnweb.protocol.hooks import Payload
from itx_notebook.capnweb.protocol.payload import deliver_payload
from itx_notebook.capnweb.protocol.serialize import Serializer
from itx_notebook.capnweb.protocol.wire import decode, encode
from tests.capnweb.machines import make_machine, says
from tests.capnweb.sessions import Counter


def read(expression: Any, **options: Any) -> Any:
    """The value of `expression` in a session with these options."""
    # Evaluating uses its tree up.
    tree = decode(encode(expression))
    return Evaluator(make_machine(options=rpc.Options(**options))).evaluate(tree).value


def bring(value: Any) -> Any:
    """The value after its way over the wire."""
    machine = make_machine()
    return Evaluator(machine).evaluate(decode(encode(Serializer(machine).encode_root(value)))).value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (1.5, 1.5),
        ("x", "x"),
        ([[]], []),
        ([[1, [[2, [[]]]]]], [1, [2, []]]),
        ({"a": [[1]], "b": {"c": ["undefined"]}}, {"a": [1], "b": {"c": None}}),
        (["undefined"], None),
        (["inf"], float("inf")),
        (["-inf"], float("-inf")),
        (["inf", 1], float("inf")),
        (["bigint", "-12"], -12),
        (["bigint", "0"], 0),
        (["date", 1000], datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (["date", 1000.7], datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (["date", None], rpc.JsDate(None)),
        (["date", 8.64e15 + 1], rpc.JsDate(None)),
        (["bytes", ""], b""),
        (["bytes", "aGVsbG8"], b"hello"),
        (["bytes", "aGVsbG8="], b"hello"),
        (["url", "https://example.com/"], rpc.Url("https://example.com/")),
        (["headers", [["A", "b"]]], rpc.Headers({"A": "b"})),
        (9007199254740991, 9007199254740991),
    ],
)
def test_an_expression_has_one_value(expression: Any, value: Any) -> None:
    assert read(expression) == value
    assert type(read([[expression]])[0]) is type(value)


def test_not_a_number_is_read() -> None:
    assert isnan(read(["nan"]))


def test_undefined_is_kept_where_it_was_asked_for() -> None:
    assert read({"a": ["undefined"]}, keep_undefined=True) == {"a": rpc.UNDEFINED}


@pytest.mark.parametrize("number", [2**53, 2**60, -(2**63), 10**25])
def test_an_integer_no_double_is_sure_of_is_a_double(number: int) -> None:
    found = [read(number), read([[number]])[0], read({"a": number})["a"]]
    assert found == [float(number)] * 3
    assert {type(value) for value in found} == {float}


@pytest.mark.parametrize(
    "value",
    [
        [],
        [[], [[]], {}],
        {"a": [1, {"b": [None, True]}], "then": [1], "length": 0},
        "\ud800",
        b"\x00\xff" * 1000,
        -(10**16_000),
        datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        rpc.JsDate(None),
        [rpc.JsDate(8_640_000_000_000_000)],
        rpc.Headers([("a", "1"), ("A", "2")]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_survive_the_way(value: Any) -> None:
    assert bring(value) == value


def test_requests_and_responses_survive_the_way() -> None:
    request = rpc.Request("https://a.b/", "POST", rpc.Headers({"A": "b"}), b"body", {"redirect": "manual"})
    assert bring(request) == request
    response = rpc.Response("text", 404, "Not Found", rpc.Headers({"A": "b"}), {"cf": {"x": [1]}})
    assert bring(response) == response


# Bytes that were numbers


@pytest.mark.parametrize(
    ("kind", "code", "values"),
    [
        ("Int8Array", "b", [-1, 2]),
        ("Int16Array", "h", [-1, 2]),
        ("Uint16Array", "H", [1, 65535]),
        ("Int32Array", "i", [-1, 2]),
        ("Uint32Array", "I", [1, 2**32 - 1]),
        ("BigInt64Array", "q", [-1, 2**62]),
        ("BigUint64Array", "Q", [1, 2**63]),
        ("Float32Array", "f", [1.5, -2.0]),
        ("Float64Array", "d", [1.1, float("inf")]),
    ],
)
def test_typed_bytes_are_arrays_in_little_endian_order(kind: str, code: str, values: list[Any]) -> None:
    tag, text = Serializer(make_machine()).encode_root(struct.pack(f"<2{code}", *values))
    assert read([tag, text, kind]) == array.array(code, values)


@pytest.mark.parametrize("kind", ["ArrayBuffer", "DataView", "Uint8Array", "Uint8ClampedArray"])
def test_plain_bytes_are_bytes_whatever_held_them(kind: str) -> None:
    assert read(["bytes", "aGVsbG8", kind]) == b"hello"


# What ends a session


@pytest.mark.parametrize(
    "expression",
    [
        [],
        [1, 2],
        [[1], 2],
        [None],
        [{}],
        ["nonsense"],
        ["nonsense", 1],
        ["undefined", 1],
        ["bigint"],
        ["bigint", 12],
        ["bigint", "1.5"],
        ["bigint", "0x10"],
        ["date"],
        ["date", "2026"],
        ["date", True],
        ["bytes"],
        ["bytes", 1],
        ["bytes", "*"],
        ["bytes", "a"],
        ["bytes", "aGVsbG8", "Float17Array"],
        ["bytes", "aGVsbG8", 3],
        ["bytes", "aGVsbG8", "Int16Array"],
        ["error"],
        ["error", "Error"],
        ["error", 1, "x"],
        ["error", "Error", None],
        ["error", "Error", "x", 3],
        ["error", "Error", "x", None, 3],
        ["error", "Error", "x", None, [[]]],
        ["error", "Error", "x", None, {}, 1],
        ["url", "not a url"],
        ["url", 3],
        ["headers", {}],
        ["headers", [["a"]]],
        ["headers", [["a", 1]]],
        ["request", "https://a.b/"],
        ["request", 1, {}],
        ["request", "https://a.b/", [[]]],
        ["request", "https://a.b/", {"method": 1}],
        ["request", "https://a.b/", {"body": 1}],
        ["response", None],
        ["response", {"a": 1}, {}],
        ["response", None, {"status": "x"}],
        ["response", None, {"statusText": 1}],
        ["blob", "text/plain"],
        ["blob", 1, ["readable", 1]],
        ["blob", "text/plain", ["writable", 1]],
        ["export"],
        ["export", 0],
        ["export", 5],
        ["export", -1.5],
        ["export", "1"],
        ["export", True],
        ["promise", 1],
        ["import"],
        ["import", 7],
        ["import", 0, "x"],
        ["import", 0, [None]],
        ["import", 0, [], {}],
        ["import", 0, [], [], 1],
        ["pipeline", 0, [1.5]],
        ["remap", 0, [], []],
        ["remap", 0, [], [["promise", -1]], [["pipeline", 0]]],
        ["remap", 0, [], {}, []],
    ],
    ids=repr,
)
def test_what_is_malformed_is_refused_wherever_it_stands(expression: Any) -> None:
    for place in (expression, [[expression]], {"a": {"b": expression}}):
        machine = make_machine()
        with pytest.raises(rpc.RpcProtocolError, match=r"bad RPC message|no such"):
            Evaluator(machine).evaluate(decode(encode(place)))
        assert machine.stats() == (1, 1)


def test_nothing_remains_of_an_expression_that_is_refused_half_way() -> None:
    machine = make_machine()
    expression = [[["export", -1], {"a": ["export", -1]}, ["promise", -2], ["export", 3]]]
    with pytest.raises(rpc.RpcProtocolError):
        Evaluator(machine).evaluate(expression)
    assert machine.stats() == (1, 1)
    assert [decode(message) for message in machine.outbox] == [["release", -1, 2], ["release", -2, 1]]


# Names that no value may carry


def test_keys_that_every_object_has_are_dropped_and_what_they_held_given_back() -> None:
    machine = make_machine()
    members = {"a": 1, "__proto__": ["export", -1], "toJSON": {"b": ["export", -2]}, "constructor": 3, "then": 4}
    payload = Evaluator(machine).evaluate({"x": [[members]]})
    assert payload.value == {"x": [{"a": 1, "then": 4}]}
    assert machine.stats() == (1, 1)
    assert sorted(decode(message) for message in machine.outbox) == [["release", -2, 1], ["release", -1, 1]]


# Errors


def test_an_error_of_any_age_is_read() -> None:
    plain = read(["error", "TypeError", "no"])
    assert (type(plain), plain.message, plain.stack, plain.props) == (rpc.RemoteTypeError, "no", None, {})
    old = read(["error", "TypeError", "no", "at x"])
    assert (old.stack, old.props) == ("at x", {})
    new = read(["error", "Mine", "no", None, {"code": 1, "list": [[["bigint", "9"]]]}])
    assert (type(new), new.name, new.stack, new.props) == (rpc.RemoteError, "Mine", None, {"code": 1, "list": [9]})


def test_an_older_receiver_reads_what_it_knows_of_an_error() -> None:
    error = rpc.RpcError("no", name="TypeError", props={"code": 1})
    expression = Serializer(make_machine()).encode_root(error)
    assert read(expression[:4]).message == "no"
    assert read(expression[:4]).props == {}


def test_properties_of_an_error_override_nothing() -> None:
    props = {
        "name": "x",
        "message": "x",
        "stack": "x",
        "args": [[]],
        "__class__": "x",
        "toString": "x",
        "constructor": "x",
        "with_traceback": 1,
        "good": 1,
    }
    error = read(["error", "constructor", "no", None, props])
    assert type(error) is rpc.RemoteError
    assert (error.name, error.message, error.stack, error.args) == ("constructor", "no", None, ("no",))
    assert error.props == {"with_traceback": 1, "good": 1}
    assert callable(error.with_traceback)


def test_causes_and_parts_keep_their_class() -> None:
    error = bring(rpc.RpcError("outer", props={"cause": ValueError("inner")}))
    assert isinstance(error.__cause__, rpc.RemoteRangeError)
    group = bring(ExceptionGroup("both", [TypeError("a"), ValueError("b")]))
    assert isinstance(group, rpc.RemoteAggregateError)
    assert [type(part) for part in group.errors] == [rpc.RemoteTypeError, rpc.RemoteRangeError]


def test_a_promise_in_a_property_of_an_error_is_delivered_there() -> None:
    machine = make_machine()
    payload = Evaluator(machine).evaluate([[["error", "Error", "no", None, {"later": ["promise", -1]}]]])
    done: list[Any] = []
    deliver_payload(payload, done.append)
    says(machine, ["resolve", -1, "now"])
    assert done == [None]
    assert payload.value[0].later == "now"


# Limits


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [[value]]
    return value


@pytest.mark.parametrize(("depth", "fits"), [(254, True), (255, True), (256, False), (400, False)])
def test_depth_is_limited(depth: int, fits: bool) -> None:
    for expression in (nested(depth), {"a": nested(depth - 1)}):
        if fits:
            read(expression)
        else:
            with pytest.raises(rpc.RpcProtocolError, match="exceeded maximum allowed depth"):
                read(expression)


def test_the_limit_of_depth_is_the_sessions() -> None:
    limits = rpc.Limits(max_depth=4)
    assert read(nested(3), limits=limits) == [[[1]]]
    with pytest.raises(rpc.RpcProtocolError, match="depth"):
        read(nested(4), limits=limits)


def test_what_this_side_may_send_the_other_may_read() -> None:
    value: Any = 1
    for _ in range(255):
        value = [value]
    assert bring(value) == value


def call_nested(depth: int) -> Any:
    expression: Any = 1
    for _ in range(depth):
        expression = ["pipeline", 0, ["echo"], [expression]]
    return expression


class Echo(rpc.RpcTarget):
    def echo(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize(("depth", "fits"), [(3, True), (4, False)])
def test_depth_goes_on_through_the_arguments_of_calls(depth: int, fits: bool) -> None:
    machine = make_machine(Echo(), rpc.Options(limits=rpc.Limits(max_depth=6)))
    answers = says(machine, ["push", call_nested(depth)], ["pull", 1])
    if fits:
        assert answers == [["resolve", 1, 1]]
    else:
        assert answers[0][0] == "abort"


def test_calls_may_be_nested_deep_within_the_default_limit() -> None:
    machine = make_machine(Echo())
    assert says(machine, ["push", call_nested(100)], ["pull", 1]) == [["resolve", 1, 1]]


@pytest.mark.parametrize(("digits", "fits"), [(16_384, True), (16_385, False)])
def test_digits_are_limited(digits: int, fits: bool) -> None:
    if fits:
        assert read(["bigint", "9" * digits]) == 10**digits - 1
        read(["bigint", "-" + "9" * (digits - 1)])
    else:
        with pytest.raises(rpc.RpcProtocolError, match=f"a bigint of {digits} characters; at most 16384"):
            read(["bigint", "9" * digits])


def test_the_limit_of_digits_is_the_sessions() -> None:
    limits = rpc.Limits(max_bigint_digits=3)
    assert read(["bigint", "-99"], limits=limits) == -99
    with pytest.raises(rpc.RpcProtocolError):
        read(["bigint", "-999"], limits=limits)


# Whose the references are


def test_a_payload_lists_its_references_and_gives_them_back() -> None:
    machine = make_machine(Counter())
    payload = Evaluator(machine).evaluate(
        [[["export", -1], ["promise", -2], ["import", 0], ["pipeline", 0, ["value"]]]]
    )
    assert isinstance(payload, Payload)
    assert payload.owned
    assert len(payload.stubs or ()) == 2
    assert [(key, promise._is_promise) for _, key, promise in payload.promises or ()] == [(1, True), (3, True)]
    assert machine.stats() == (3, 1)
    payload.dispose()
    payload.dispose()
    assert machine.stats() == (1, 1)


def test_one_object_introduced_twice_is_given_back_twice() -> None:
    machine = make_machine()
    payload = Evaluator(machine).evaluate([[["export", -1], ["export", -1]]])
    assert machine.stats() == (2, 1)
    assert payload.stubs is not None
    payload.stubs[0]._hook.dispose()
    assert machine.outbox == []
    payload.dispose()
    assert [decode(message) for message in machine.outbox] == [["release", -1, 2]]


def test_a_promise_is_introduced_once() -> None:
    machine = make_machine()
    payload = Evaluator(machine).evaluate([[["promise", -1], ["promise", -1]]])
    done: list[Any] = []
    deliver_payload(payload, done.append)
    says(machine, ["resolve", -1, 1])
    assert str(done[0]) == "Bug in RPC system: The peer sent a promise reusing an existing export ID."


def test_an_import_is_a_stub_and_a_pipeline_a_promise() -> None:
    machine = make_machine(Counter(5))
    values = Evaluator(machine).evaluate([[["import", 0], ["pipeline", 0]]]).value
    assert [type(value) for value in values] == [rpc.RpcStub, rpc.RpcPromise]
