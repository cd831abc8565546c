"""Messages that are none, or have the wrong parts, or the wrong ids."""

from __future__ import annotations

from typing import Any, Final

from tests.capnweb.hostile.cases import Case

__all__ = ["CASES"]


def _ends(name: str, why: str, *frames: Any, says: tuple[Any, ...] = ()) -> Case:
    return Case(name=name, frames=frames, says=says, ends=why)


_SQUARE: Final = ["push", ["pipeline", 0, ["square"], [3]]]
_GIVE: Final = ["push", ["pipeline", 0, ["call"], [["export", -1]]]]
_CALLED: Final = [["push", ["pipeline", -1, [], []]], ["release", -1, 1]]
"""What is said when the main object is told to call a function of the peer's: id 1 here, given back at once."""

_TEXT: Final = [
    _ends("nothing at all", "bad RPC message", ""),
    _ends("blank", "bad RPC message", "  \n"),
    _ends("no JSON", "bad RPC message", "hello"),
    _ends("half a message", "bad RPC message", '["push"'),
    _ends("two messages in one frame", "bad RPC message", '["pull",0]["pull",0]'),
    _ends("two messages on two lines", "bad RPC message", '["push",1]\n["push",2]'),
    _ends("a comma too many", "bad RPC message", '["push",1,]'),
    _ends("NaN, which is not JSON", "bad RPC message", '["push",NaN]'),
    _ends("NaN beside half a surrogate pair", "bad RPC message", '["push","\\ud800",NaN]'),
    _ends("a number beyond a double", "bad RPC message", '["push",1e999]'),
    _ends("a number beyond a double beside half a surrogate pair", "bad RPC message", '["push","\\ud800",1e999]'),
    _ends("single quotes", "bad RPC message", "['push',1]"),
    _ends("a control character in text", "bad RPC message", '["push","\x01"]'),
    _ends("a wrong escape", "bad RPC message", '["push","\\x41"]'),
    _ends("a hundred thousand brackets", "bad RPC message", "[" * 100_000),
    _ends("a hundred thousand objects", "bad RPC message", '{"a":' * 100_000),
    _ends("a hundred thousand brackets and half a surrogate pair", "bad RPC message", '["\\ud800",' + "[" * 100_000),
    _ends("a byte order mark", "bad RPC message", "\ufeff" + '["push",1]'),
]

_KINDS: Final = [
    _ends("null", "bad RPC message", "null"),
    _ends("a number", "bad RPC message", "1"),
    _ends("text", "bad RPC message", '"push"'),
    _ends("an object", "bad RPC message", {"push": 1}),
    _ends("a message that is an empty array", "bad RPC message", []),
    _ends("an unknown message", "bad RPC message", ["shove", 1]),
    _ends("a message's name in capitals", "bad RPC message", ["PUSH", 1]),
    _ends("a method of the machine as a message", "bad RPC message", ["_on_push", 1]),
    _ends("a number as a name", "bad RPC message", [1, 2]),
    _ends("null as a name", "bad RPC message", [None]),
    _ends("a list as a name", "bad RPC message", [["push"], 1]),
    _ends("an object as a name", "bad RPC message", [{}, 1]),
    _ends("a message within an escaped list", "bad RPC message", [["push", 1]]),
]

_PUSHES: Final = [
    _ends("push without an expression", "without an expression", ["push"]),
    _ends("stream without an expression", "without an expression", ["stream"]),
    Case(
        name="push with more than an expression",
        frames=[["push", 1, 2, 3], ["pull", 1], ["release", 1, 1]],
        says=[["resolve", 1, 1]],
    ),
    Case(name="stream takes an id and answers unasked", frames=[["stream", 5]], says=[["resolve", 1, 5]]),
    Case(
        name="stream of a call that fails",
        frames=[["stream", ["pipeline", 0, ["fail"], []]]],
        says=[["reject", 1, ["error", "RangeError", "failed"]]],
    ),
    _ends(
        "release of a stream, which is released by itself",
        "no such export ID: 1",
        ["stream", 5],
        ["release", 1, 1],
        says=(["resolve", 1, 5],),
    ),
    _ends(
        "pull of a stream that has answered",
        "no such export ID: 1",
        ["stream", 5],
        ["pull", 1],
        says=(["resolve", 1, 5],),
    ),
    Case(
        name="ids go on counting through streams and failures",
        frames=[["stream", 1], ["push", ["pipeline", 0, ["fail"], []]], ["push", 3], ["pull", 3]],
        says=[["resolve", 1, 1], ["resolve", 3, 3]],
        tables=(1, 3),
    ),
]

_PULLS: Final = [
    _ends("pull without an id", "with 1 elements", ["pull"]),
    _ends("pull of an unknown id", "no such export ID: 5", ["pull", 5]),
    _ends("pull of an unknown negative id", "no such export ID: -1", ["pull", -1]),
    _ends("pull of text", "is no id", ["pull", "1"]),
    _ends("pull of true", "is no id", _SQUARE, ["pull", True]),
    _ends("pull of null", "is no id", ["pull", None]),
    _ends("pull of a list", "is no id", ["pull", [1]]),
    _ends("pull of 1.0", "is no id", _SQUARE, '["pull",1.0]'),
    _ends("pull of 1.5", "is no id", _SQUARE, ["pull", 1.5]),
    _ends("pull of an id far away", "no such export ID", ["pull", -4_000_000_000]),
    _ends("pull of an id beyond 64 bits", "no such export ID", ["pull", 2**80]),
    _ends("pull of an id of 5,000 digits", "", '["pull",' + "9" * 5_000 + "]"),
    Case(
        name="pull twice answers once",
        frames=[_SQUARE, ["pull", 1], ["pull", 1], ["release", 1, 1]],
        says=[["resolve", 1, 9]],
    ),
    Case(
        name="pull of the main object gives out a reference to it",
        frames=[["pull", 0], ["release", -1, 1]],
        says=[["resolve", 0, ["export", -1]]],
    ),
    Case(
        name="pull, released before the answer",
        frames=[["push", ["pipeline", 0, ["later"], []]], ["pull", 1], ["release", 1, 1]],
    ),
    _ends("pull after release", "no such export ID: 1", _SQUARE, ["release", 1, 1], ["pull", 1]),
]

_RELEASES: Final = [
    _ends("release without anything", "with 1 elements", ["release"]),
    _ends("release without a count", "with 2 elements", _SQUARE, ["release", 1]),
    _ends("release of an unknown id", "no such export ID: 3", ["release", 3, 1]),
    _ends("release of main", "release of 1 references to 0", ["release", 0, 1]),
    _ends("release of main by nothing", "release of 0 references to 0", ["release", 0, 0]),
    _ends("release below zero", "release of 2 references to 1", _SQUARE, ["release", 1, 2]),
    _ends("release twice", "no such export ID: 1", _SQUARE, ["release", 1, 1], ["release", 1, 1]),
    _ends("release by 0", "release of 0 references to 1", _SQUARE, ["release", 1, 0]),
    _ends("release by -1, which would add a reference", "release of -1", _SQUARE, ["release", 1, -1]),
    _ends("release by 0.5", "is no id", _SQUARE, ["release", 1, 0.5]),
    _ends("release by true", "is no id", _SQUARE, ["release", 1, True]),
    _ends("release by text", "is no id", _SQUARE, ["release", 1, "1"]),
    _ends("release by null", "is no id", _SQUARE, ["release", 1, None]),
    _ends("release by 2^80", "release of 1208925819614629174706176", _SQUARE, ["release", 1, 2**80]),
    _ends("release of true", "is no id", _SQUARE, ["release", True, 1]),
    _ends("release of text", "is no id", _SQUARE, ["release", "1", 1]),
    Case(name="release of what was never pulled", frames=[_SQUARE, ["release", 1, 1]]),
    Case(
        name="release with more than a count",
        frames=[_SQUARE, ["release", 1, 1, "more"]],
    ),
]

_ANSWERS: Final = [
    _ends("resolve without anything", "without a value", ["resolve"]),
    _ends("resolve without a value", "without a value", ["resolve", 1]),
    _ends("reject without a value", "without a value", ["reject", 1]),
    _ends("resolve of text", "is no id", ["resolve", "1", 1]),
    _ends("resolve of true", "is no id", ["resolve", True, 1]),
    _ends("resolve of 0.5", "is no id", ["resolve", 0.5, 1]),
    _ends("resolve of main", "which is no promise", ["resolve", 0, 1]),
    _ends("reject of main", "which is no promise", ["reject", 0, "no"]),
    _ends(
        "resolve of a stub",
        "which is no promise",
        ["push", ["pipeline", 0, ["keep"], [["export", -1]]]],
        ["resolve", -1, 1],
    ),
    Case(name="resolve of a stranger", frames=[["resolve", 99, 1]]),
    Case(name="reject of a stranger", frames=[["reject", 99, ["error", "Error", "no"]]]),
    Case(name="resolve of a stranger far away", frames=[["resolve", 2**70, 1]]),
    Case(
        name="resolve of a stranger gives back what is in it",
        frames=[["resolve", 99, {"a": ["export", -1], "b": [[["export", -2], ["export", -1]]]}]],
        says=[["release", -2, 1], ["release", -1, 2]],
    ),
    _ends("resolve of a stranger with nonsense", "unknown special value", ["resolve", 99, ["nonsense"]]),
    Case(
        name="resolve",
        frames=[_GIVE, ["resolve", 1, 5], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["resolve", 1, 5]],
    ),
    Case(
        name="resolve twice: the second is a stranger",
        frames=[_GIVE, ["resolve", 1, 5], ["resolve", 1, 6], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["resolve", 1, 5]],
    ),
    Case(
        name="resolve, then reject",
        frames=[_GIVE, ["resolve", 1, 5], ["reject", 1, "no"], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["resolve", 1, 5]],
    ),
    Case(
        name="reject with text",
        frames=[_GIVE, ["reject", 1, "no"], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["reject", 1, "no"]],
    ),
    Case(
        name="reject with undefined",
        frames=[_GIVE, ["reject", 1, ["undefined"]], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["reject", 1, None]],
    ),
    Case(
        name="reject with a bigint that Python will not print",
        frames=[_GIVE, ["reject", 1, ["bigint", "9" * 5_000]], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["reject", 1, ["bigint", "9" * 5_000]]],
    ),
    _ends(
        "reject with a reference",
        "an error cannot carry references",
        _GIVE,
        ["reject", 1, ["export", -9]],
        says=(*_CALLED, ["release", -9, 1]),
    ),
    _ends(
        "reject with a reference in a property",
        "an error cannot carry references",
        _GIVE,
        ["reject", 1, ["error", "Error", "no", None, {"stub": ["export", -9]}]],
        says=(*_CALLED, ["release", -9, 1]),
    ),
    _ends("reject with nonsense", "unknown special value", _GIVE, ["reject", 1, ["nonsense"]], says=(*_CALLED,)),
    Case(
        name="resolve with the function that was called, before it has answered",
        frames=[_GIVE, ["resolve", 1, ["pipeline", 1]], ["pull", 1], ["release", 1, 1]],
        says=[*_CALLED, ["release", 1, 1], ["reject", 1, ["error", "Error", "A promise cannot resolve to itself."]]],
    ),
]

_ABORTS: Final = [
    Case(name="abort", frames=[["abort", ["error", "Error", "enough"]]], ends="enough", is_answered=False),
    Case(name="abort without a reason", frames=[["abort"]], ends="None", is_answered=False),
    Case(name="abort with text", frames=[["abort", "enough"]], ends="'enough'", is_answered=False),
    Case(name="abort with null", frames=[["abort", None]], ends="None", is_answered=False),
    Case(name="abort with an object", frames=[["abort", {"a": 1}]], ends="{'a': 1}", is_answered=False),
    Case(name="abort with nonsense", frames=[["abort", ["nonsense"]]], ends="", is_answered=False),
    Case(name="abort with an empty array", frames=[["abort", []]], ends="", is_answered=False),
    Case(name="abort with an unknown id", frames=[["abort", ["import", 99]]], ends="", is_answered=False),
    Case(
        name="abort with a bigint that Python will not print",
        frames=[["abort", ["bigint", "9" * 5_000]]],
        ends="",
        is_answered=False,
    ),
    Case(name="abort with half a surrogate pair", frames=['["abort","\\ud800"]'], ends="", is_answered=False),
    Case(
        name="abort with a reference",
        frames=[["abort", {"stub": ["export", -1]}]],
        says=[["release", -1, 1]],
        ends="",
        is_answered=False,
    ),
    Case(name="abort with a reason of a megabyte", frames=[["abort", "x" * 1_000_000]], ends="", is_answered=False),
    Case(
        name="messages after abort",
        frames=[["abort", "enough"], _SQUARE, ["pull", 1], "nonsense", ["abort", "again"]],
        ends="'enough'",
        is_answered=False,
    ),
    _ends("messages after nonsense", "bad RPC message", "nonsense", _SQUARE, ["pull", 1], ["abort", "enough"]),
]

CASES: Final = [*_TEXT, *_KINDS, *_PUSHES, *_PULLS, *_RELEASES, *_ANSWERS, *_ABORTS]
