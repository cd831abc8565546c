"""Values to expressions: what each becomes, what is refused and how, and that nothing remains of what failed."""

from __future__ import annotations

import array
import base64
import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.errors import build_remote_error
from itx_notebook.capnweb.protocol.machine import Machine
from itx_notebook.capnweb.protocol.serialize import Serializer, encode_error
from tests.capnweb.machines import make_machine
from tests.capnweb.sessions import Counter


def encode(value: Any, **options: Any) -> Any:
    """The expression of `value` in a session with these options."""
    return Serializer(make_machine(options=rpc.Options(**options))).encode_root(value)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Label(str):
    __slots__ = ()


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "expression"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (2**53 - 1, 9007199254740991),
        (2**53, ["bigint", "9007199254740992"]),
        (-(2**53), ["bigint", "-9007199254740992"]),
        (1.5, 1.5),
        (float("inf"), ["inf"]),
        (float("-inf"), ["-inf"]),
        ("text", "text"),
        ([], [[]]),
        ((1, 2), [(1, 2)]),
        ([1, [2, []]], [[1, [[2, [[]]]]]]),
        ({"a": [1], "b": {"c": None}}, {"a": [[1]], "b": {"c": None}}),
        ({"then": 1, "length": 2, "prototype": 3}, {"then": 1, "length": 2, "prototype": 3}),
        (rpc.UNDEFINED, ["undefined"]),
        (b"", ["bytes", ""]),
        (b"hello", ["bytes", "aGVsbG8"]),
        (b"12=", ["bytes", "MTI9"]),
        (b"1=", ["bytes", "MT0"]),
        (bytearray(b"ab"), ["bytes", "YWI"]),
        (memoryview(b"abc"), ["bytes", "YWJj"]),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), ["date", 1000]),
        (rpc.JsDate(None), ["date", None]),
        (rpc.JsDate(8 * 10**15), ["date", 8 * 10**15]),
        (rpc.Url("https://example.com/"), "https://example.com/"),
        (rpc.Headers({"A": "b"}), ["headers", [["A", "b"]]]),
        (ValueError("no"), ["error", "RangeError", "no"]),
        (Label("x"), "x"),
    ],
)
def test_a_value_has_one_expression(value: Any, expression: Any) -> None:
    encoded = encode(value)
    assert encoded == expression
    assert type(encoded) is type(expression)


def test_not_a_number_has_an_expression() -> None:
    assert encode([float("nan")]) == [[["nan"]]]


def test_a_newer_peer_is_sent_urls_as_such() -> None:
    assert encode(rpc.Url("https://example.com/"), peer_version="0.12") == ["url", "https://example.com/"]


def test_many_bytes_are_no_deeper_than_few() -> None:
    data = bytes(range(256)) * 4096
    tag, text = encode(data)
    assert tag == "bytes"
    assert base64.b64decode(text + "==") == data


def test_what_needs_no_change_is_used_as_it_is() -> None:
    value = {"a": 1, "b": "x", "c": {"d": 1.5, "e": None}}
    assert encode(value) is value
    assert value == {"a": 1, "b": "x", "c": {"d": 1.5, "e": None}}


def test_what_is_sent_is_left_unchanged() -> None:
    value = {"a": [1, [2]], "b": {"c": b"x"}, "d": (2**60,)}
    encode(value)
    assert value == {"a": [1, [2]], "b": {"c": b"x"}, "d": (2**60,)}


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Point(1),
        Colour.RED,
        Level.HIGH,
        {1, 2},
        frozenset(),
        1j,
        date(2026, 1, 1),
        Decimal("1.5"),
        UUID(int=1),
        iter([]),
        int,
        Point,
        array.array("i", [1]),
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_protocol_has_no_place_for_is_refused(value: Any) -> None:
    for wrapped in (value, [value], {"a": {"b": [value]}}):
        with pytest.raises(TypeError, match="Cannot serialize value: "):
            encode(wrapped)


def test_a_refusal_shows_the_value_and_its_type() -> None:
    with pytest.raises(TypeError) as caught:
        encode({1, 2})
    assert str(caught.value) == "Cannot serialize value: {1, 2} (builtins.set)"


def test_numpys_numbers_are_refused_rather_than_rounded() -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.float64(1.5), numpy.int64(3), numpy.array([1, 2])):
        with pytest.raises(TypeError, match="Cannot serialize value"):
            encode(value)


def test_an_instant_without_a_zone_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="names no instant"):
        encode(datetime(2026, 1, 1))  # noqa: DTZ001  # what is refused


def test_a_view_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(TypeError, match="not contiguous"):
        encode(memoryview(b"abcd")[::2])


@pytest.mark.parametrize("key", [1, None, True, ("a",), b"a"])
def test_keys_are_text(key: Any) -> None:
    with pytest.raises(TypeError, match="is not a string"):
        encode({"a": {key: 1}})


@pytest.mark.parametrize("key", ["__proto__", "constructor", "toString", "toJSON"])
def test_keys_that_every_receiver_drops_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key!r}: every receiver drops it"):
        encode([{"a": 1, key: 2}])


def test_a_value_that_contains_itself_is_refused() -> None:
    cyclic: list[Any] = []
    cyclic.append({"again": cyclic})
    with pytest.raises(ValueError, match=r"maximum allowed depth\. \(Does the message contain cycles\?\)"):
        encode(cyclic)


@pytest.mark.parametrize(("depth", "fits"), [(254, True), (255, True), (256, False), (300, False)])
def test_the_limit_of_depth_is_the_receivers(depth: int, fits: bool) -> None:
    listed: Any = 1
    named: Any = 1
    for _ in range(depth):
        listed, named = [listed], {"a": named}
    for value in (listed, named):
        if fits:
            encode(value)
        else:
            with pytest.raises(ValueError, match="maximum allowed depth"):
                encode(value)


def test_integers_of_more_digits_than_the_receiver_reads_are_refused() -> None:
    encode(10**16_383)
    with pytest.raises(TypeError, match="more than 16384 digits"):
        encode([10**16_384])


# Types of the application's own


def test_encoders_add_types() -> None:
    encoders: Mapping[type, Any] = {Point: lambda point: {"x": point.x}, Decimal: str}
    assert encode([Point(1), {"d": Decimal("1.5")}], encoders=encoders) == [[{"x": 1}, {"d": "1.5"}]]


def test_an_encoder_that_gives_its_own_type_is_refused() -> None:
    with pytest.raises(TypeError, match="encoder of Point returned one again"):
        encode(Point(1), encoders={Point: lambda point: point})


def test_what_an_encoder_raises_is_raised_and_leaves_nothing_behind() -> None:
    def fail(_: Point) -> Any:
        raise KeyError("mine")

    machine = make_machine(options=rpc.Options(encoders={Point: fail}))
    with pytest.raises(KeyError, match="mine"):
        Serializer(machine).encode_root([print, Point(1)])
    assert machine.stats() == (1, 1)


# References


def test_targets_and_functions_get_a_fresh_id_each_time() -> None:
    machine = make_machine()

    def function() -> None: ...

    counter = Counter()
    values = [counter, counter, function, counter.increment, functools.partial(function), len]
    assert Serializer(machine).encode_root(values) == [[["export", -n] for n in range(1, 7)]]
    assert machine.stats() == (1, 7)


def test_nothing_remains_of_a_value_that_is_refused_half_way() -> None:
    machine = make_machine()
    counters = [Counter(), Counter()]
    with pytest.raises(TypeError):
        Serializer(machine).encode_root([*counters, object()])
    assert machine.stats() == (1, 1)
    assert [counter.disposals for counter in counters] == [1, 1]


# Errors


def encode_thrown(error: BaseException, machine: Machine | None = None) -> Any:
    machine = machine or make_machine()
    return encode_error(error, Serializer(machine), 0, may_refer=False)


class AppError(Exception):
    retry = "a class's attribute is none of the error's own"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        vars(self).update(facts)


def test_an_error_without_properties_has_three_elements() -> None:
    assert encode_thrown(AppError("no")) == ["error", "Error", "no"]


def test_own_properties_follow_an_absent_stack() -> None:
    error = AppError("no", code=404, detail={"at": [1]})
    assert encode_thrown(error) == ["error", "Error", "no", None, {"code": 404, "detail": {"at": [[1]]}}]


def test_properties_hold_every_kind_of_value() -> None:
    error = AppError("no", when=rpc.JsDate(5), data=b"x", big=2**60, gone=rpc.UNDEFINED)
    assert encode_thrown(error)[4] == {
        "when": ["date", 5],
        "data": ["bytes", "eA"],
        "big": ["bigint", str(2**60)],
        "gone": ["undefined"],
    }


def test_the_cause_is_a_property() -> None:
    try:
        try:
            raise TypeError("inner")
        except TypeError as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        expression = encode_thrown(outer)
    assert expression == ["error", "RangeError", "outer", None, {"cause": ["error", "TypeError", "inner"]}]


def test_a_primitive_cause_is_a_property() -> None:
    error = rpc.RpcError("no", name="TypeError", props={"cause": "why"})
    assert encode_thrown(error) == ["error", "TypeError", "no", None, {"cause": "why"}]


def test_the_parts_of_a_group_are_a_property() -> None:
    group = ExceptionGroup("both", [TypeError("a"), ValueError("b")])
    assert encode_thrown(group) == [
        "error",
        "AggregateError",
        "both",
        None,
        {"errors": [[["error", "TypeError", "a"], ["error", "RangeError", "b"]]]},
    ]


def test_properties_that_cannot_be_sent_are_left_out() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    error = AppError("no", good=1, bad=object(), worse={"a": [object()]}, cyclic=cyclic, toString="x", __proto__="y")
    assert encode_thrown(error) == ["error", "Error", "no", None, {"good": 1}]
    error = AppError("no", bad=object(), cyclic=cyclic)
    assert encode_thrown(error) == ["error", "Error", "no"]


def test_references_in_what_is_thrown_are_left_out() -> None:
    machine = make_machine()
    counter = Counter()
    error = AppError("no", code=1, counter=counter, nested={"call": print}, mixed=[Counter(), object()])
    assert encode_thrown(error, machine) == ["error", "Error", "no", None, {"code": 1}]
    assert machine.stats() == (1, 1)


def test_references_in_an_error_that_is_a_value_are_kept() -> None:
    machine = make_machine()
    expression = Serializer(machine).encode_root([AppError("no", counter=Counter(), mixed=[Counter(), object()])])
    assert expression == [[["error", "Error", "no", None, {"counter": ["export", -1]}]]]
    assert machine.stats() == (1, 2)


def test_a_chain_of_causes_without_end_still_arrives() -> None:
    error = AppError("0")
    last = error
    for n in range(1, 2000):
        last.__cause__ = last = AppError(str(n))
    assert encode_thrown(error)[:3] == ["error", "Error", "0"]
    error.__cause__ = error
    assert encode_thrown(error)[:3] == ["error", "Error", "0"]


def test_an_error_that_cannot_be_printed_still_arrives() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert encode_thrown(MuteError()) == ["error", "Error", "A MuteError that cannot be printed."]


def test_a_missing_key_is_named_plainly() -> None:
    assert encode_thrown(KeyError("k")) == ["error", "Error", "k"]


def test_an_error_of_another_peer_goes_on_as_it_came() -> None:
    error = build_remote_error("NotFound", "no", "their stack", {"code": 7})
    assert encode_thrown(error) == ["error", "NotFound", "no", None, {"code": 7}]


def test_what_was_thrown_and_is_no_error_goes_on_as_it_came() -> None:
    assert encode_thrown(rpc.RemoteThrown({"a": [1]})) == {"a": [[1]]}
    assert encode_thrown(rpc.RemoteThrown(None)) is None


# What leaves by leave of on_send_error


def raise_it(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_the_stack_stays_here() -> None:
    assert encode_thrown(raise_it(AppError("no"))) == ["error", "Error", "no"]


def test_the_stack_leaves_with_an_error_that_the_hook_returns() -> None:
    machine = make_machine(options=rpc.Options(on_send_error=lambda error: error))
    expression = encode_thrown(raise_it(AppError("no")), machine)
    assert expression[:3] == ["error", "Error", "no"]
    assert "in raise_it" in expression[3]
    assert expression[3].endswith("AppError: no")


def test_the_hook_may_send_another_error_with_its_own_properties() -> None:
    machine = make_machine(options=rpc.Options(on_send_error=lambda _: rpc.RpcError("hidden", props={"id": 7})))
    error = AppError("secret", password="x")
    assert encode_thrown(error, machine) == ["error", "Error", "hidden", None, {"id": 7}]


def test_the_hook_may_change_the_error_in_place() -> None:
    def scrub(error: BaseException) -> None:
        vars(error).pop("password", None)

    machine = make_machine(options=rpc.Options(on_send_error=scrub))
    assert encode_thrown(AppError("no", password="x", code=1), machine) == ["error", "Error", "no", None, {"code": 1}]


def test_the_hook_sees_errors_inside_errors() -> None:
    seen: list[str] = []
    machine = make_machine(options=rpc.Options(on_send_error=lambda error: seen.append(str(error))))
    encode_thrown(AppError("outer", inner=AppError("inner")), machine)
    assert seen == ["outer", "inner"]


def test_a_hook_that_fails_shows_nothing() -> None:
    def fail(_: BaseException) -> None:
        raise RuntimeError("secret")

    machine = make_machine(options=rpc.Options(on_send_error=fail))
    expression = encode_thrown(raise_it(AppError("secret", password="x")), machine)
    assert expression == ["error", "Error", "An error that could not be shown."]


# What Fetch has


def test_requests_and_responses_carry_what_differs_from_the_default() -> None:
    request = rpc.Request("https://a.b/", "POST", rpc.Headers({"A": "b"}), "body", {"redirect": "manual"})
    assert encode(request) == [
        "request",
        "https://a.b/",
        {"redirect": "manual", "method": "POST", "headers": [["A", "b"]], "body": "body"},
    ]
    assert encode(rpc.Request("https://a.b/")) == ["request", "https://a.b/", {"method": "GET"}]
    assert encode(rpc.Response(b"x", 404, "Not Found")) == [
        "response",
        ["bytes", "eA"],
        {"status": 404, "statusText": "Not Found"},
    ]
    assert encode(rpc.Response()) == ["response", None, {}]
    with pytest.raises(TypeError, match="a body is None, str, bytes or a Readable"):
        encode(rpc.Response(3))
