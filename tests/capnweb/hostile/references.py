"""References: to what was not given, by paths that lead nowhere, in maps that multiply, more than a session holds."""

from __future__ import annotations

from typing import Any, Final

from itx_notebook.capnweb import Limits
from tests.capnweb.hostile.cases import Case

__all__ = ["CASES"]


def _bad(name: str, why: str, expression: Any) -> Case:
    return Case(name=name, frames=[["push", expression]], ends=why)


def _asks(name: str, expression: Any, answer: Any, *, limits: Limits | None = None) -> Case:
    """Return the case of one expression that is pushed and pulled, and whose answer needs no more."""
    return Case(
        name=name,
        frames=[["push", expression], ["pull", 1], ["release", 1, 1]],
        says=[answer],
        limits=limits or Limits(),
    )


def _fails(name: str, expression: Any, error: str, message: str, *, limits: Limits | None = None) -> Case:
    return _asks(name, expression, ["reject", 1, ["error", error, message]], limits=limits)


_STEPS: Final[tuple[Any, ...]] = (None, True, False, 0.5, -0.25, [], ["a"], {})
_IDS: Final[tuple[Any, ...]] = (None, True, "1", 1.0, 0.5, [], [0], {}, [[1]])

_MALFORMED: Final = [
    *(
        _bad(f"{tag} without an id", f"'{tag}' with 1 elements", [tag])
        for tag in ("import", "pipeline", "export", "promise", "remap", "readable", "writable")
    ),
    *(
        _bad(f"{tag} of {id_!r}", "is no id", [tag, id_])
        for tag in ("import", "pipeline", "export", "promise")
        for id_ in _IDS
    ),
    *(
        _bad(f"{tag} of {id_}, which is not the sender's to choose", "is not an id the sender may choose", [tag, id_])
        for tag in ("export", "promise", "writable")
        for id_ in (0, 1, 5, 2**70)
    ),
    *(
        _bad(f"{tag} of {id_}, which was never given", "no such entry on exports table", [tag, id_])
        for tag in ("import", "pipeline")
        for id_ in (1, 2, -1, -5, 10**12, -(2**70))
    ),
    _bad("a call's own result as its argument", "no such entry", ["pipeline", 0, ["echo"], [["pipeline", 1]]]),
    _bad("export with a path", "'export' with 3 elements", ["export", -1, ["x"]]),
    _bad("promise with a path", "'promise' with 3 elements", ["promise", -1, ["x"]]),
    _bad("import with something behind its arguments", "'import' with 5 elements", ["import", 0, ["square"], [3], 1]),
    _bad(
        "pipeline with something behind its arguments",
        "'pipeline' with 5 elements",
        ["pipeline", 0, ["square"], [3], 1],
    ),
    *(
        _bad(f"a path that is {path!r}", "a path is an array", ["pipeline", 0, path])
        for path in (None, "square", 0, True, {"0": "square"})
    ),
    *(_bad(f"a path with {step!r}", "is no step of a path", ["pipeline", 0, ["zoo", step]]) for step in _STEPS),
    *(
        _bad(f"arguments that are {arguments!r}", "arguments are an array", ["pipeline", 0, ["square"], arguments])
        for arguments in (None, 3, "3", {"0": 3}, True)
    ),
    _bad(
        "arguments that are an escaped list of what is no tag",
        "unknown special value",
        ["pipeline", 0, ["square"], [[1, 2]]],
    ),
]

_PATHS: Final = [
    _asks(
        "a whole number written as a double is an index", ["pipeline", 0, ["zoo", "list", 1.0]], ["resolve", 1, "two"]
    ),
    *(
        _asks(f"zoo.list[{step!r}]", ["pipeline", 0, ["zoo", "list", step]], ["resolve", 1, ["undefined"]])
        for step in (-1, 3, 10**30, -(10**30), "0", "1", "length", "append", "sort", "__class__", "__len__", "")
    ),
    *(
        _asks(f"zoo.dict[{step!r}]", ["pipeline", 0, ["zoo", "dict", step]], ["resolve", 1, ["undefined"]])
        for step in (
            0,
            1,
            "keys",
            "update",
            "clear",
            "__class__",
            "__getitem__",
            "constructor",
            "__proto__",
            "toString",
        )
    ),
    _asks(
        "an entry named like a method of dicts", ["pipeline", 0, ["zoo", "dict", "items"]], ["resolve", 1, "an entry"]
    ),
    *(
        _asks(f"zoo.{path}", ["pipeline", 0, ["zoo", *path.split(".")]], ["resolve", 1, ["undefined"]])
        for path in (
            "text.format",
            "text.upper",
            "text.__class__",
            "text.__len__",
            "bytes.decode",
            "whole.real",
            "whole.to_bytes",
            "large.bit_length",
            "float.hex",
            "true.real",
            "tuple.count",
            "tuple.__class__",
            "date.year",
            "date.replace",
            "date.isoformat",
            "error.args",
            "error.with_traceback",
            "error.__traceback__",
            "error.message",
            "function.__globals__",
            "function.__code__",
            "function.__call__",
            "function.note",
            "function.name",
            "lambda.__closure__",
            "lambda.__globals__",
            "method.__self__",
            "method.__func__",
            "partial.func",
            "partial.args",
            "builtin.__self__",
            "builtin.__module__",
            "counter._value",
            "counter._private",
            "counter.__class__",
            "counter.__init__",
            "counter.__dict__",
            "counter.__call__",
            "counter._rpc_dispose",
            "counter._rpc_members",
            "counter.helper",
            "counter.helping",
            "counter.concealed",
            "counter.limit",
            "counter.Inner",
            "counter.absent",
        )
    ),
    *(
        _fails(
            f"zoo.counter.{step}",
            ["pipeline", 0, ["zoo", "counter", step]],
            "TypeError",
            f"Attempted to access property {step!r}, which is an instance property of the RpcTarget. "
            "Peers see methods and properties of the class only: define one to offer this value.",
        )
        for step in ("inside", "method_inside", "watch", "slot", "disposals")
    ),
    *(
        _fails(
            f"a call of {'.'.join(path)}",
            ["pipeline", 0, path, []],
            "TypeError",
            f"{'.'.join(path)!r} is not a function.",
        )
        for path in (
            ["absent"],
            ["_private"],
            ["_rpc_dispose"],
            ["__init__"],
            ["__class__"],
            ["__getattr__"],
            ["concealed"],
            ["limit"],
            ["Inner"],
            ["constructor"],
            ["zoo"],
            ["zoo", "text"],
            ["zoo", "text", "format"],
            ["zoo", "list", "append"],
            ["zoo", "dict", "clear"],
            ["zoo", "date", "replace"],
            ["zoo", "function", "__call__"],
            ["zoo", "counter"],
            ["counter", "helper"],
            ["counter", "value"],
            ["watch_"],
        )
    ),
    _fails("a call of the main object itself", ["pipeline", 0, [], []], "TypeError", "'' is not a function."),
    _fails(
        "a step below nothing", ["pipeline", 0, ["absent", "more"]], "TypeError", "Cannot read 'more' of undefined."
    ),
    _fails("a step below None", ["pipeline", 0, ["zoo", "none", "more"]], "TypeError", "Cannot read 'more' of null."),
    _fails("a property that raises", ["pipeline", 0, ["counter", "sour"]], "RangeError", "sour"),
    _asks("a static method", ["pipeline", 0, ["counter", "double"], [4]], ["resolve", 1, 8]),
    _asks("a class method", ["pipeline", 0, ["counter", "kind"], []], ["resolve", 1, "counter"]),
    _asks("a cached property", ["pipeline", 0, ["counter", "once", 2]], ["resolve", 1, 3]),
    _asks(
        "a long path below nothing ends at its second step",
        ["pipeline", 0, ["zoo", *["x"] * 2]],
        ["reject", 1, ["error", "TypeError", "Cannot read 'x' of undefined."]],
    ),
    _fails(
        "a path of a hundred thousand steps",
        ["pipeline", 0, ["zoo", "text", *["a"] * 100_000]],
        "TypeError",
        "Cannot read 'a' of undefined.",
    ),
    Case(
        name="arguments that do not fit show no names of ours",
        frames=[["push", ["pipeline", 0, ["square"], [1, 2, 3]]], ["pull", 1], ["release", 1, 1]],
        says=[
            [
                "reject",
                1,
                ["error", "TypeError", "'square' cannot be called with 3 argument(s): too many positional arguments"],
            ]
        ],
    ),
]

_GIVEN: Final = [
    Case(
        name="an id given twice in one message is given back twice at once",
        frames=[["push", [[["export", -1], ["export", -1]]]], ["release", 1, 1]],
        says=[["release", -1, 2]],
    ),
    Case(
        name="an id given in two messages",
        frames=[["push", ["export", -1]], ["push", ["export", -1]], ["release", 1, 1], ["release", 2, 1]],
        says=[["release", -1, 2]],
    ),
    Case(
        name="an id given again after it was given back",
        frames=[["push", ["export", -1]], ["release", 1, 1], ["push", ["export", -1]], ["release", 2, 1]],
        says=[["release", -1, 1], ["release", -1, 1]],
    ),
    Case(
        name="an id far away",
        frames=[["push", ["export", -4_000_000_000]], ["release", 1, 1]],
        says=[["release", -4_000_000_000, 1]],
    ),
    Case(
        name="a promise's id given a second time breaks the second alone",
        frames=[
            ["push", ["promise", -1]],
            ["push", ["promise", -1]],
            ["pull", 2],
            ["resolve", -1, 5],
            ["pull", 1],
            ["release", 1, 1],
            ["release", 2, 1],
        ],
        says=[
            [
                "reject",
                2,
                ["error", "Error", "Bug in RPC system: The peer sent a promise reusing an existing export ID."],
            ],
            ["release", -1, 1],
            ["resolve", 1, 5],
        ],
    ),
    Case(
        name="a promise by the id of a stub",
        frames=[["push", ["export", -1]], ["push", ["promise", -1]], ["pull", 2], ["release", 1, 1], ["release", 2, 1]],
        says=[
            [
                "reject",
                2,
                ["error", "Error", "Bug in RPC system: The peer sent a promise reusing an existing export ID."],
            ],
            ["release", -1, 1],
        ],
    ),
    Case(
        name="a promise that resolves to itself",
        frames=[["push", ["promise", -1]], ["resolve", -1, ["pipeline", 1]], ["pull", 1], ["release", 1, 1]],
        says=[["release", -1, 1], ["reject", 1, ["error", "Error", "A promise cannot resolve to itself."]]],
    ),
    Case(
        name="a promise that resolves to a stub of itself",
        frames=[["push", ["promise", -1]], ["resolve", -1, ["import", 1]], ["pull", 1], ["release", 1, 1]],
        says=[["release", -1, 1], ["reject", 1, ["error", "Error", "A promise cannot resolve to itself."]]],
    ),
    Case(
        name="a result that is a stub of itself",
        frames=[
            ["push", ["pipeline", 0, ["echo"], [["promise", -1]]]],
            ["resolve", -1, ["import", 1]],
            ["pull", 1],
            ["release", 1, 1],
        ],
        says=[["release", -1, 1], ["reject", 1, ["error", "Error", "A promise cannot resolve to itself."]]],
    ),
    Case(
        name="a result that is a stub of what is called on it",
        frames=[
            ["push", ["pipeline", 0, ["echo"], [["promise", -1]]]],
            ["resolve", -1, ["import", 1, ["x"], []]],
            ["pull", 1],
            ["release", 1, 1],
        ],
        says=[["release", -1, 1], ["reject", 1, ["error", "Error", "A promise cannot resolve to itself."]]],
    ),
    Case(
        name="two promises that resolve to each other",
        frames=[
            ["push", ["promise", -1]],
            ["push", ["promise", -2]],
            ["resolve", -1, ["pipeline", 2]],
            ["resolve", -2, ["pipeline", 1]],
            ["pull", 1],
            ["release", 1, 1],
            ["release", 2, 1],
        ],
        says=[
            ["release", -1, 1],
            ["release", -2, 1],
            ["reject", 1, ["error", "Error", "A promise cannot resolve to itself."]],
        ],
    ),
    Case(
        name="a pulled promise of the peer's is sent back by its id",
        frames=[["push", ["promise", -1]], ["pull", 1], ["release", 1, 1]],
        says=[["resolve", 1, ["pipeline", -1]], ["release", -1, 1]],
    ),
    Case(
        name="references before a bad one are given back",
        frames=[["push", [[["export", -1], ["promise", -2], ["export", 3]]]]],
        says=[["release", -1, 1], ["release", -2, 1]],
        ends="is not an id the sender may choose",
    ),
    Case(
        name="references before a bad one, in arguments of arguments",
        frames=[
            [
                "push",
                ["pipeline", 0, ["echo"], [["export", -1], ["pipeline", 0, ["echo"], [["export", -2], ["nonsense"]]]]],
            ]
        ],
        says=[["release", -2, 1], ["release", -1, 1]],
        ends="unknown special value",
    ),
    Case(
        name="a call before a bad part has been made, and its result is given back",
        frames=[["push", [[["pipeline", 0, ["note"], [1]], ["pipeline", 0, ["make_counter"], []], ["nonsense"]]]]],
        ends="unknown special value",
    ),
    Case(
        name="a call whose argument fails is not made",
        frames=[["push", ["pipeline", 0, ["note"], [["pipeline", 0, ["fail"], []]]]], ["pull", 1], ["release", 1, 1]],
        says=[["reject", 1, ["error", "RangeError", "failed"]]],
    ),
    Case(
        name="a call of what failed",
        frames=[
            ["push", ["pipeline", 0, ["fail"], []]],
            ["push", ["pipeline", 1, ["x"], [["export", -1]]]],
            ["pull", 2],
        ],
        says=[["release", -1, 1], ["reject", 2, ["error", "RangeError", "failed"]]],
        tables=(1, 3),
    ),
    Case(
        name="a callback that was given to nothing",
        frames=[["push", ["pipeline", 0, ["absent"], [["export", -1]]]], ["pull", 1], ["release", 1, 1]],
        says=[["release", -1, 1], ["reject", 1, ["error", "TypeError", "'absent' is not a function."]]],
    ),
    Case(
        name="calls on a promise of the peer's go to the peer, and end with it",
        frames=[["push", ["promise", -1]], ["push", ["pipeline", 1, ["x"], [1]]], ["release", 2, 1], ["release", 1, 1]],
        says=[["push", ["pipeline", -1, ["x"], [1]]], ["release", 1, 1], ["release", -1, 1]],
    ),
    Case(
        name="a value that holds itself by way of a promise",
        frames=[["push", ["promise", -1]], ["resolve", -1, [[["pipeline", 1]]]], ["release", 1, 1]],
        says=[["release", -1, 1]],
    ),
    Case(
        name="a result that nobody can send",
        frames=[["push", ["pipeline", 0, ["unsendable"], []]], ["pull", 1], ["release", 1, 1]],
        says=[["reject", 1, ["error", "TypeError", "Cannot serialize value: {1, 2} (builtins.set)"]]],
    ),
    Case(
        name="a result without end",
        frames=[["push", ["pipeline", 0, ["endless"], []]], ["pull", 1], ["release", 1, 1]],
        says=[
            [
                "reject",
                1,
                [
                    "error",
                    "RangeError",
                    "Serialization exceeded maximum allowed depth. (Does the message contain cycles?)",
                ],
            ]
        ],
    ),
    Case(
        name="a result without end that is not pulled at once",
        frames=[
            ["push", ["pipeline", 0, ["endless"], []]],
            ["push", 1],
            ["pull", 1],
            ["release", 1, 1],
            ["release", 2, 1],
        ],
        says=[
            [
                "reject",
                1,
                [
                    "error",
                    "RangeError",
                    "Serialization exceeded maximum allowed depth. (Does the message contain cycles?)",
                ],
            ]
        ],
    ),
]

_FEW: Final = Limits(max_exports=5, max_imports=5, max_pending_calls=5, max_running_calls=2)

_MANY: Final = [
    Case(name="as many calls as may be held", frames=[["push", 1]] * 5, tables=(1, 6), limits=_FEW),
    Case(name="one call too many", frames=[["push", 1]] * 6, ends="more than 5", limits=_FEW),
    Case(name="one stream too many", frames=[["push", 1]] * 5 + [["stream", 1]], ends="more than 5", limits=_FEW),
    Case(
        name="many calls, each given back",
        frames=[frame for n in range(1, 50) for frame in (["push", n], ["release", n, 1])],
        limits=_FEW,
    ),
    Case(
        name="as many objects as may be given",
        frames=[["push", [[["export", -n] for n in range(1, 6)]]]],
        tables=(6, 2),
        limits=_FEW,
    ),
    Case(
        name="one object too many",
        frames=[["push", [[["export", -n] for n in range(1, 7)]]]],
        says=[["release", -n, 1] for n in range(1, 6)],
        ends="more than 5 objects",
        limits=_FEW,
    ),
    Case(
        name="one promise too many",
        frames=[["push", [[["promise", -n] for n in range(1, 7)]]]],
        says=[["release", -n, 1] for n in range(1, 6)],
        ends="more than 5 objects",
        limits=_FEW,
    ),
    Case(
        name="a result that would give out one object too many is refused, and nothing of it stays",
        frames=[["push", ["pipeline", 0, ["make_counters"], [6]]], ["pull", 1], ["release", 1, 1]],
        says=[
            [
                "reject",
                1,
                ["error", "Error", "The peer would hold more than 5 objects and calls of this side (max_exports)."],
            ]
        ],
        limits=_FEW,
    ),
    Case(
        name="calls that never end, each given back at once",
        frames=[frame for n in range(1, 8) for frame in (["push", ["pipeline", 0, ["later"], []]], ["release", n, 1])],
        ends="more than 5 calls whose outcome",
        limits=_FEW,
    ),
    Case(
        name="calls on a result that never comes, each given back at once",
        frames=[
            ["push", ["pipeline", 0, ["later"], []]],
            *(frame for n in range(2, 8) for frame in (["push", ["pipeline", 1, ["x"], ["text"]]], ["release", n, 1])),
        ],
        ends="more than 5 calls whose outcome",
        limits=_FEW,
    ),
    Case(
        name="calls that wait for a promise of the peer's, each given back at once",
        frames=[
            ["push", ["promise", -1]],
            *(
                frame
                for n in range(2, 9)
                for frame in (["push", ["pipeline", 0, ["note"], [["pipeline", 1]]]], ["release", n, 1])
            ),
        ],
        ends="more than 5 calls whose outcome",
        limits=_FEW,
    ),
]


def _map(instructions: list[Any], *, captures: Any = (), over: tuple[str, ...] = ("zoo", "list")) -> list[Any]:
    return ["remap", 0, list(over), list(captures), instructions]


def _bomb(levels: int) -> list[Any]:
    """Return maps within each other: each level goes over a hundred numbers again."""
    instructions: list[Any] = [0]
    for level in range(levels):
        instructions = [
            ["pipeline", -1, ["numbers"], [100]],
            ["remap", 1, [], [["import", -1]], instructions],
        ]
        if level == levels - 1:
            return ["remap", 0, ["zoo", "whole"], [["import", 0]], instructions]
    raise ValueError(levels)


def _spends(name: str, expression: Any, *, limits: Limits | None = None) -> Case:
    """Return the case of a map whose inner map runs out of budget."""
    return Case(
        name=name,
        frames=[["push", expression], ["pull", 1], ["release", 1, 1], ["release", -1, 1]],
        says=[["resolve", 1, ["promise", -1]], ["reject", -1, ["error", "Error", _SPENT]]],
        limits=limits or Limits(),
    )


_SPENT: Final = "The map runs more instructions than this session allows (max_map_calls)."

_MAPS: Final = [
    _bad("remap without instructions", "'remap' with 4 elements", ["remap", 0, [], []]),
    _bad("remap with something behind its instructions", "'remap' with 6 elements", ["remap", 0, [], [], [1], 1]),
    _bad("remap of text", "is no id", ["remap", "0", [], [], [1]]),
    _bad("remap of what was never given", "no such entry", ["remap", 7, [], [], [1]]),
    _bad("remap with a path that is none", "a path is an array", ["remap", 0, "zoo", [], [1]]),
    _bad("remap with captures that are none", "are arrays", ["remap", 0, [], None, [1]]),
    _bad("remap with instructions that are none", "are arrays", ["remap", 0, [], [], None]),
    *(
        Case(
            name=f"remap that captures {capture!r}",
            frames=[["push", ["remap", 0, [], [["export", -1], capture], [1]]]],
            says=[["release", -1, 1]],
            ends=why,
        )
        for capture, why in (
            (None, "unknown map capture"),
            (5, "unknown map capture"),
            ([], "unknown map capture"),
            (["import"], "unknown map capture"),
            (["import", 0, ["square"]], "unknown map capture"),
            (["pipeline", 0], "unknown map capture"),
            (["promise", -2], "unknown map capture"),
            (["import", 9], "no such entry"),
            (["import", True], "is no id"),
            (["export", 0], "unknown map capture"),
            (["export", 5], "unknown map capture"),
            (["export", "x"], "is no id"),
        )
    ),
    _fails("an empty function", _map([]), "Error", "Invalid empty mapper function."),
    _fails(
        "a reference forward",
        _map([["pipeline", 2], 1]),
        "Error",
        "A map's instruction refers to 2, which is not there yet.",
    ),
    _fails(
        "a reference to itself",
        _map([["pipeline", 1]]),
        "Error",
        "A map's instruction refers to 1, which is not there yet.",
    ),
    _fails(
        "a capture that is not there",
        _map([["pipeline", -1]]),
        "Error",
        "A map's instruction refers to -1, which is not there yet.",
    ),
    _fails("an export in a function", _map([["export", -1]]), "Error", "A mapper function cannot refer to exports."),
    _fails("a promise in a function", _map([["promise", -1]]), "Error", "A mapper function cannot refer to exports."),
    _fails(
        "an export in a nested function's captures",
        _map([["remap", 0, [], [["export", -1]], [1]]]),
        "Error",
        "A mapper function cannot refer to exports.",
    ),
    _fails("a writable in a function", _map([["writable", -1]]), "Error", "A mapper function cannot refer to exports."),
    _fails("a readable in a function", _map([["readable", 1]]), "Error", "A mapper function cannot refer to pipes."),
    _fails(
        "nonsense in a function", _map([["nonsense"]]), "Error", "bad RPC message: unknown special value: ['nonsense']"
    ),
    _fails(
        "an empty array in a function",
        _map([[]]),
        "Error",
        "bad RPC message: an empty array, which should have been [[]]",
    ),
    _asks("a function over nothing", _map([["nonsense"]], over=("zoo", "none")), ["resolve", 1, None]),
    _asks("a function over an empty list", ["remap", 0, ["absent"], [], [1]], ["resolve", 1, ["undefined"]]),
    _asks("a constant function", _map([7]), ["resolve", 1, [[7, 7, 7]]]),
    _asks("a function over a value that is no list", _map([1], over=("zoo", "whole")), ["resolve", 1, 1]),
    _asks(
        "a map of nothing within a map",
        _map([["remap", 0, ["absent"], [], [8]], 4], over=("zoo", "dict")),
        ["resolve", 1, 4],
    ),
    _spends("a bomb of two levels", _bomb(2), limits=Limits(max_map_calls=1000)),
    _spends("a bomb of three levels", _bomb(3)),
    _spends("a bomb of four levels", _bomb(4)),
    _spends(
        "one long instruction over many elements",
        [
            "remap",
            0,
            ["zoo", "text"],
            [["import", 0]],
            [["pipeline", -1, ["numbers"], [100]], ["remap", 1, [], [], ["x" * 100_000]]],
        ],
    ),
    Case(
        name="the budget is a message's own",
        frames=[["push", _map([1])], ["push", _map([1])], ["pull", 2]],
        says=[["resolve", 2, [[1, 1, 1]]]],
        tables=(1, 3),
        limits=Limits(max_map_calls=3),
    ),
    Case(
        name="two maps of one message share a budget",
        frames=[["push", [[_map([1]), _map([1])]]], ["pull", 1]],
        says=[
            ["resolve", 1, [[["promise", -1], ["promise", -2]]]],
            ["resolve", -1, [[1, 1, 1]]],
            ["reject", -2, ["error", "Error", _SPENT]],
        ],
        tables=(1, 4),
        limits=Limits(max_map_calls=5),
    ),
    _fails("a budget of one too few", _map([1]), "Error", _SPENT, limits=Limits(max_map_calls=2)),
]

CASES: Final = [*_MALFORMED, *_PATHS, *_GIVEN, *_MANY, *_MAPS]
