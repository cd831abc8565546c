"""Expressions that are malformed, or mean something that Python takes badly."""

from __future__ import annotations

from typing import Any, Final

from itx_notebook.capnweb import Limits
from tests.capnweb.hostile.cases import Case, nest, survives

__all__ = ["CASES"]


def _bad(name: str, why: str, expression: Any, limits: Limits | None = None) -> Case:
    return Case(name=name, frames=[["push", expression]], ends=why, limits=limits or Limits())


def _everywhere(name: str, why: str, expression: Any) -> list[Case]:
    """Return a malformed expression at every kind of place."""
    places = {
        "a list": [[1, expression]],
        "an object": {"a": expression},
        "an argument": ["pipeline", 0, ["echo"], [expression]],
        "an argument of an argument": ["pipeline", 0, ["echo"], [["pipeline", 0, ["echo"], [expression]]]],
        "a list in an object in a list": [[{"a": [[expression]]}]],
        "an error's property": ["error", "Error", "x", None, {"a": expression}],
        "a key that is dropped": {"toString": expression},
        "a request's body": ["request", "http://a/", {"body": expression}],
        "a response's body": ["response", expression, {}],
    }
    return [_bad(f"{name} in {place}", why, inside) for place, inside in places.items()]


_TAGS: Final = [
    _bad("an empty array", "an empty array", []),
    *_everywhere("an empty array", "an empty array", []),
    _bad("an unknown tag", "unknown special value", ["nonsense", 1]),
    *_everywhere("an unknown tag", "unknown special value", ["nonsense", 1]),
    _bad("a number as a tag", "unknown special value", [1]),
    _bad("true as a tag", "unknown special value", [True]),
    _bad("null as a tag", "unknown special value", [None]),
    _bad("an object as a tag", "unknown special value", [{}]),
    _bad("a list that is not escaped", "unknown special value", [1, 2, 3]),
    _bad("an escape with something behind it", "unknown special value", [[1], 2]),
    _bad("two escaped lists side by side", "unknown special value", [[1], [2]]),
    _bad("a list within an escaped list that is not escaped", "unknown special value", [[[1, 2]]]),
    _bad("the name of an evaluator's method as a tag", "unknown special value", ["_items", 1]),
    _bad("an attribute every object has as a tag", "unknown special value", ["__class__"]),
    survives("an empty list", [[]], [[]]),
    survives("a list of an empty list", [[[[]]]], [[[[]]]]),
    survives("an empty object", {}, {}),
    survives("an empty key", {"": 1}, {"": 1}),
]

_NUMBERS: Final = [
    _bad("undefined with something behind it", "'undefined' with 2 elements", ["undefined", 1]),
    _bad("a bigint without digits", "'bigint' with 1 elements", ["bigint"]),
    _bad("a bigint with something behind it", "'bigint' with 3 elements", ["bigint", "1", 2]),
    _bad("a bigint that is a number", "a bigint is text", ["bigint", 12]),
    _bad("a bigint that is null", "a bigint is text", ["bigint", None]),
    *(
        _bad(f"a bigint written {text!r}", "not a bigint", ["bigint", text])
        for text in (
            "",
            "-",
            "--1",
            "+1",
            "1.5",
            "1e5",
            "0x10",
            "0b1",
            "1_000",
            " 1",
            "1 ",
            "1\n",
            "١٢",
            "²",
            "nan",
            "\x00",
        )
    ),
    survives("a bigint at the limit", ["bigint", "9" * 16_384], ["bigint", "9" * 16_384]),
    survives("a negative bigint at the limit", ["bigint", "-" + "9" * 16_383], ["bigint", "-" + "9" * 16_383]),
    _bad("a bigint over the limit", "a bigint of 16385 characters", ["bigint", "9" * 16_385]),
    _bad("a bigint over the limit by its sign", "a bigint of 16385 characters", ["bigint", "-" + "9" * 16_384]),
    _bad("a bigint of a million digits", "a bigint of 1000000 characters", ["bigint", "9" * 1_000_000]),
    _bad("a bigint over a limit of ours", "a bigint of 4 characters", ["bigint", "1234"], Limits(max_bigint_digits=3)),
    survives("a bigint that is small", ["bigint", "-0"], 0),
    survives("infinity with something behind it", ["inf", 1], ["inf"]),
    survives("a whole number beyond 2^53", 2**60, float(2**60)),
    Case(
        name="a number of 5,000 digits",
        frames=['["push",' + "9" * 5_000 + "]"],
        ends="bad RPC message",
    ),
]

_DATES: Final = [
    _bad("a date without a number", "'date' with 1 elements", ["date"]),
    _bad("a date of text", "a date is a number", ["date", "2026-01-01"]),
    _bad("a date of true", "a date is a number", ["date", True]),
    _bad("a date of a list", "a date is a number", ["date", [1]]),
    _bad("a date of a date", "a date is a number", ["date", ["date", 1]]),
    survives("an invalid date", ["date", None], ["date", None]),
    survives("the last date of JavaScript", ["date", 8_640_000_000_000_000], ["date", 8_640_000_000_000_000]),
    survives("a date beyond the last", ["date", 8_640_000_000_000_001], ["date", None]),
    survives("a date at the edge of doubles", ["date", 1e308], ["date", None]),
    survives("a date beyond 64 bits", ["date", -(2**200)], ["date", None]),
    survives("the first instant of Python", ["date", -62_135_596_800_000], ["date", -62_135_596_800_000]),
    survives("an instant before the first of Python", ["date", -62_135_596_800_001], ["date", -62_135_596_800_001]),
    survives("an instant after the last of Python", ["date", 253_402_300_800_000], ["date", 253_402_300_800_000]),
    survives("a fraction of a millisecond", ["date", -1.9], ["date", -1]),
]

_BYTES: Final = [
    _bad("bytes without text", "'bytes' with 1 elements", ["bytes"]),
    _bad("bytes of a number", "bytes are base64 text", ["bytes", 1]),
    _bad("bytes of a list", "bytes are base64 text", ["bytes", [1, 2]]),
    _bad("bytes with a letter too many", "not base64", ["bytes", "abcde"]),
    _bad("bytes of one letter", "not base64", ["bytes", "a"]),
    _bad("bytes of the other alphabet", "not base64", ["bytes", "_-_-"]),
    _bad("bytes with white space", "not base64", ["bytes", "aGk= "]),
    _bad("bytes with padding in the middle", "not base64", ["bytes", "aG=k"]),
    _bad("bytes of padding alone", "not base64", ["bytes", "===="]),
    _bad("bytes that are not ASCII", "not base64", ["bytes", "äöü="]),
    Case(name="bytes with half a surrogate pair", frames=['["push",["bytes","\\ud800"]]'], ends="not base64"),
    _bad("bytes with a type and something behind it", "'bytes' with 4 elements", ["bytes", "", "DataView", 1]),
    _bad("bytes of an unknown type", "unknown bytes type", ["bytes", "", "Float16Array"]),
    _bad("bytes of a type that is a number", "unknown bytes type", ["bytes", "", 1]),
    _bad("bytes of a type that is null", "unknown bytes type", ["bytes", "", None]),
    _bad("bytes of a type that is a list", "unknown bytes type", ["bytes", "", []]),
    *(
        _bad(f"a {kind} of 3 bytes", "no whole number of elements", ["bytes", "YWJj", kind])
        for kind in (
            "Int16Array",
            "Uint16Array",
            "Int32Array",
            "Uint32Array",
            "Float32Array",
            "Float64Array",
            "BigInt64Array",
            "BigUint64Array",
        )
    ),
    survives("no bytes", ["bytes", ""], ["bytes", ""]),
    survives("bytes with padding", ["bytes", "aGk="], ["bytes", "aGk"]),
    survives("an array buffer", ["bytes", "aGk", "ArrayBuffer"], ["bytes", "aGk"]),
]

_ERRORS: Final = [
    _bad("an error without a message", "'error' with 2 elements", ["error", "Error"]),
    _bad("an error with too much", "'error' with 6 elements", ["error", "Error", "x", None, {}, 1]),
    _bad("an error whose name is a number", "an error's name", ["error", 1, "x"]),
    _bad("an error whose message is null", "an error's name", ["error", "Error", None]),
    _bad("an error whose stack is a list", "an error's name", ["error", "Error", "x", []]),
    _bad("an error whose properties are a list", "an error's properties", ["error", "Error", "x", None, [[]]]),
    _bad("an error whose properties are null", "an error's properties", ["error", "Error", "x", None, None]),
    survives(
        "an error with properties that Python's exceptions have",
        [
            "error",
            "TypeError",
            "x",
            None,
            {
                "__class__": "int",
                "__dict__": {},
                "__traceback__": 1,
                "__cause__": "x",
                "__reduce__": "x",
                "args": [[1, 2]],
                "name": "poisoned",
                "message": "poisoned",
                "stack": "poisoned",
                "with_traceback": 1,
                "add_note": 2,
                "props": {"a": 1},
                "code": 7,
            },
        ],
        ["error", "TypeError", "x", None, {"with_traceback": 1, "add_note": 2, "props": {"a": 1}, "code": 7}],
    ),
    survives("an error named like an attribute", ["error", "__class__", "x"], ["error", "__class__", "x"]),
    survives(
        "an error named like a method of every object", ["error", "constructor", "x"], ["error", "constructor", "x"]
    ),
    survives(
        "an error that ends the process if it is raised by name",
        ["error", "SystemExit", "x"],
        ["error", "SystemExit", "x"],
    ),
    survives(
        "an error with a cause that is none",
        ["error", "Error", "x", None, {"cause": 5}],
        ["error", "Error", "x", None, {"cause": 5}],
    ),
    survives(
        "an aggregate whose errors are no list",
        ["error", "AggregateError", "x", None, {"errors": "no"}],
        ["error", "AggregateError", "x", None, {"errors": "no"}],
    ),
]

_FETCH: Final = [
    _bad("a URL without text", "'url' with 1 elements", ["url"]),
    _bad("a URL of a number", "a URL is text", ["url", 1]),
    _bad("a URL that is not absolute", "is not an absolute URL", ["url", "/path"]),
    _bad("a URL without a host", "names no host", ["url", "http://"]),
    _bad("a URL with half an address", "", ["url", "http://[::1/"]),
    _bad("headers of an object", "headers are an array", ["headers", {}]),
    _bad("headers of text", "a header is a pair", ["headers", ["ab"]]),
    _bad("a header of three", "a header is a pair", ["headers", [["a", "b", "c"]]]),
    _bad("a header of numbers", "a header is a pair", ["headers", [[1, 2]]]),
    _bad("a request without options", "'request' with 2 elements", ["request", "http://a/"]),
    _bad("a request whose options are a list", "a request is", ["request", "http://a/", []]),
    _bad("a request whose method is a number", "a request's method", ["request", "http://a/", {"method": 1}]),
    _bad("a request whose body is a number", "a body is null", ["request", "http://a/", {"body": 1}]),
    _bad("a request whose body is an object", "a body is null", ["request", "http://a/", {"body": {}}]),
    _bad("a request whose body is a promise", "a body is null", ["request", "http://a/", {"body": ["pipeline", 0]}]),
    _bad("a response without options", "'response' with 2 elements", ["response", None]),
    _bad("a response whose status is text", "a response's status", ["response", None, {"status": "200"}]),
    _bad("a response whose status is true", "a response's status", ["response", None, {"status": True}]),
    _bad("a blob without a source", "'blob' with 2 elements", ["blob", "text/plain"]),
    _bad("a blob whose source is bytes", "a blob is", ["blob", "text/plain", ["bytes", ""]]),
    survives(
        "a request with options that are no expressions",
        ["request", "http://a/", {"method": "PUT", "redirect": ["nonsense"], "__proto__": {}, "toString": 1}],
        ["request", "http://a/", {"redirect": ["nonsense"], "method": "PUT"}],
    ),
]

_FILTERED: Final = (
    "constructor",
    "__proto__",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
    "toJSON",
)

_KEYS: Final = [
    *(survives(f"the key {key}", {key: 1, "a": {key: 2, "b": 3}}, {"a": {"b": 3}}) for key in _FILTERED),
    Case(
        name="references under keys that are dropped are given back",
        frames=[["push", {"toString": [[["export", -1], ["promise", -2]]], "a": 1}], ["pull", 1]],
        says=[["release", -1, 1], ["release", -2, 1], ["resolve", 1, {"a": 1}]],
        tables=(1, 2),
    ),
    Case(
        name="calls under keys that are dropped are made",
        frames=[["push", {"toString": ["pipeline", 0, ["note"], [5]]}], ["pull", 1]],
        says=[["resolve", 1, {}]],
        tables=(1, 2),
    ),
    survives(
        "keys that pass",
        {"then": 1, "length": 2, "prototype": 3, "__class__": 4},
        {"then": 1, "length": 2, "prototype": 3, "__class__": 4},
    ),
    Case(
        name="a key twice",
        frames=['["push",{"a":1,"a":2}]', ["pull", 1], ["release", 1, 1]],
        says=[["resolve", 1, {"a": 2}]],
    ),
]


def _calls(depth: int) -> Any:
    expression: Any = 1
    for _ in range(depth):
        expression = ["pipeline", 0, ["echo"], [expression]]
    return expression


def _members(depth: int) -> Any:
    expression: Any = 1
    for _ in range(depth):
        expression = {"a": expression}
    return expression


def _causes(depth: int) -> Any:
    expression: Any = ["error", "Error", "x"]
    for _ in range(depth):
        expression = ["error", "Error", "x", None, {"cause": expression}]
    return expression


_TOO_DEEP: Final = "exceeded maximum allowed depth"

_DEPTH: Final = [
    survives("lists as deep as allowed", nest(1, 255), nest(1, 255)),
    _bad("lists one too deep", _TOO_DEEP, nest(1, 256)),
    survives("empty lists as deep as allowed", nest([[]], 255), nest([[]], 255)),
    survives("objects as deep as allowed", _members(255), _members(255)),
    _bad("objects one too deep", _TOO_DEEP, _members(256)),
    _bad("objects far too deep", _TOO_DEEP, _members(400)),
    survives("calls as deep as allowed", _calls(128), 1),
    _bad("calls one too deep", _TOO_DEEP, _calls(129)),
    _bad("calls far too deep", _TOO_DEEP, _calls(256)),
    survives("an argument as deep as allowed", ["pipeline", 0, ["echo"], [nest(1, 254)]], nest(1, 254)),
    _bad("depth is not counted anew in arguments", _TOO_DEEP, ["pipeline", 0, ["echo"], [nest(1, 255)]]),
    survives("causes a hundred deep", _causes(100), _causes(100)),
    _bad("causes one too deep", _TOO_DEEP, _causes(256)),
    _bad("a list in a dropped key too deep", _TOO_DEEP, {"toString": nest(1, 255)}),
    _bad("over a limit of ours", _TOO_DEEP, nest(1, 8), Limits(max_depth=8)),
    Case(
        name="arguments deep inside a call, then given back",
        frames=[["push", ["pipeline", 0, ["echo"], [nest(1, 254)]]], ["pull", 1], ["release", 1, 1]],
        says=[["resolve", 1, nest(1, 254)]],
    ),
    Case(
        name="a result that would be one too deep is refused, and the session lives",
        frames=[
            ["push", ["pipeline", 0, ["pass_on"], [nest(1, 254)]]],
            ["push", ["pipeline", 0, ["collect"], [["pipeline", 1]]]],
            ["pull", 2],
        ],
        says=[
            [
                "reject",
                2,
                [
                    "error",
                    "RangeError",
                    "Serialization exceeded maximum allowed depth. (Does the message contain cycles?)",
                ],
            ]
        ],
        tables=(1, 3),
    ),
    Case(
        name="a message too large",
        frames=['["push","' + "x" * 1000 + '"]'],
        ends="1011 bytes",
        limits=Limits(max_message_bytes=1000),
    ),
    Case(
        name="a message as large as allowed",
        frames=['["push","' + "x" * 989 + '"]'],
        tables=(1, 2),
        limits=Limits(max_message_bytes=1000),
    ),
    Case(
        name="a message too large in bytes, though not in characters",
        frames=['["push","' + "ä" * 500 + '"]'],
        ends="1011 bytes",
        limits=Limits(max_message_bytes=1000),
    ),
]

CASES: Final = [*_TAGS, *_NUMBERS, *_DATES, *_BYTES, *_ERRORS, *_FETCH, *_KEYS, *_DEPTH]
