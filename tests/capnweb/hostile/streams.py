"""Streams misused: taken twice, written past their end, by the wrong names, by nobody."""

from __future__ import annotations

from typing import Any, Final

from itx_notebook.capnweb import Limits
from tests.capnweb.hostile.cases import Case

__all__ = ["CASES"]


def _write(id_: int, *chunks: Any, verb: str = "write") -> list[Any]:
    return ["stream", ["pipeline", id_, [verb], list(chunks)]]


def _failed(id_: int, message: str, name: str = "Error") -> list[Any]:
    return ["reject", id_, ["error", name, message]]


_DONE: Final = ["undefined"]
_READ: Final = ["push", ["pipeline", 0, ["read_all"], [["readable", 1]]]]
_OPAQUE: Final = "A stream has no members, and no value to be awaited."
_GIVEN_UP: Final = "The reader gave the stream up before its end."

_PIPES: Final = [
    Case(name="a pipe that is given back unused", frames=[["pipe"], ["release", 1, 1]]),
    Case(
        name="a pipe takes an id", frames=[["pipe"], ["push", 5], ["pull", 2]], says=[["resolve", 2, 5]], tables=(1, 3)
    ),
    Case(name="a pipe with something behind it", frames=[["pipe", 1, 2], ["release", 1, 1]]),
    Case(
        name="a pipe is read to its end",
        frames=[["pipe"], _READ, _write(1, 7), _write(1, verb="close"), ["pull", 2], ["release", 1, 1]],
        says=[["resolve", 3, _DONE], ["resolve", 4, _DONE], ["resolve", 2, [[7]]]],
        tables=(1, 2),
    ),
    Case(name="pull of a pipe", frames=[["pipe"], ["pull", 1]], says=[_failed(1, _OPAQUE, "TypeError")], tables=(1, 2)),
    Case(
        name="members of a pipe",
        frames=[["pipe"], ["push", ["pipeline", 1, ["_channel"]]], ["pull", 2]],
        says=[_failed(2, _OPAQUE, "TypeError")],
        tables=(1, 3),
    ),
    *(
        Case(
            name=f"a call of {'.'.join(path)} on a pipe",
            frames=[["pipe"], ["push", ["pipeline", 1, path, [1]]], ["pull", 2]],
            says=[_failed(2, f"{'.'.join(path)!r} is not a function.", "TypeError")],
            tables=(1, 3),
        )
        for path in (["fail"], ["hold"], ["let_go"], ["receive"], ["__class__"], ["write", "write"], ["take"])
    ),
    Case(
        name="a map over a pipe",
        frames=[["pipe"], ["push", ["remap", 1, [], [], [1]]], ["pull", 2]],
        says=[_failed(2, _OPAQUE, "TypeError")],
        tables=(1, 3),
    ),
    Case(
        name="the readable end taken twice",
        frames=[["pipe"], _READ, _READ],
        ends="no such pipe, or its readable end was sent already: 1",
    ),
    Case(name="the readable end of no pipe", frames=[["push", 1], ["push", ["readable", 1]]], ends="no such pipe"),
    Case(name="the readable end of the main object", frames=[["push", ["readable", 0]]], ends="no such pipe"),
    Case(name="the readable end of nothing", frames=[["push", ["readable", 9]]], ends="no such pipe"),
    Case(name="a readable of true", frames=[["pipe"], ["push", ["readable", True]]], ends="is no id"),
    Case(
        name="a readable with something behind it", frames=[["pipe"], ["push", ["readable", 1, 2]]], ends="3 elements"
    ),
    Case(name="a blob of no pipe", frames=[["push", ["blob", "text/plain", ["readable", 9]]]], ends="no such pipe"),
    Case(
        name="a write after the end",
        frames=[["pipe"], _READ, _write(1, verb="close"), _write(1, 7)],
        says=[
            ["resolve", 3, _DONE],
            _failed(4, "The stream is closed: nothing can be written to it any more.", "TypeError"),
        ],
        tables=(1, 3),
    ),
    Case(
        name="a write after an abort",
        frames=[["pipe"], _READ, _write(1, "enough", verb="abort"), _write(1, 7), ["pull", 2]],
        says=[["resolve", 3, _DONE], _failed(4, _GIVEN_UP), ["reject", 2, "enough"]],
        tables=(1, 3),
    ),
    Case(
        name="a writer that lets go before the end",
        frames=[["pipe"], _READ, _write(1, 7), ["release", 1, 1], ["pull", 2]],
        says=[["resolve", 3, _DONE], _failed(2, "The writer let go of the stream without closing it.")],
        tables=(1, 2),
    ),
    Case(
        name="a chunk with a reference",
        frames=[["pipe"], _READ, _write(1, ["export", -1]), _write(1, verb="close"), ["release", 2, 1]],
        says=[["resolve", 3, _DONE], ["resolve", 4, _DONE], ["release", -1, 1]],
        tables=(1, 2),
    ),
    Case(
        name="a chunk that is nonsense",
        frames=[["pipe"], _READ, _write(1, ["nonsense"])],
        ends="unknown special value",
    ),
    Case(
        name="chunks of a blob that are no bytes",
        frames=[
            ["pipe"],
            ["push", ["pipeline", 0, ["measure"], [["blob", "text/plain", ["readable", 1]]]]],
            ["pull", 2],
            _write(1, {"a": 1}),
            ["release", 2, 1],
        ],
        says=[
            ["resolve", 3, _DONE],
            ["reject", 2, ["error", "TypeError", "A blob's chunks are bytes, not dict."]],
        ],
        tables=(1, 2),
    ),
    Case(
        name="a call that waits for a blob which only itself could write",
        frames=[
            ["pipe"],
            [
                "push",
                ["pipeline", 0, ["collect"], [["blob", "text/plain", ["readable", 1]], ["import", 1], ["import", 0]]],
            ],
            ["release", 1, 1],
        ],
        tables=(1, 2),
    ),
    Case(
        name="pipes without end",
        frames=[["pipe"]] * 8,
        ends="more than 5",
        limits=Limits(max_exports=5),
    ),
    Case(
        name="chunks that nobody reads",
        frames=[["pipe"], *[_write(1, "x" * 1000)] * 6],
        ends="none of it was read",
        limits=Limits(max_unread_bytes=10_000),
    ),
]

_WRITABLES: Final = [
    Case(
        name="a writable that is given back unused",
        frames=[["push", ["writable", -1]], ["release", 1, 1]],
        says=[["release", -1, 1]],
    ),
    Case(
        name="a writable that is written",
        frames=[
            ["push", ["pipeline", 0, ["write_into"], [["writable", -1], 5]]],
            ["resolve", 1, None],
            ["resolve", 2, None],
        ],
        says=[
            ["stream", ["pipeline", -1, ["write"], [5]]],
            ["stream", ["pipeline", -1, ["close"], []]],
            ["release", -1, 1],
        ],
        tables=(1, 2),
    ),
    Case(
        name="a writable that refuses",
        frames=[
            ["push", ["pipeline", 0, ["write_into"], [["writable", -1], 5]]],
            ["reject", 1, ["error", "Error", "full"]],
            ["pull", 1],
        ],
        says=[
            ["stream", ["pipeline", -1, ["write"], [5]]],
            ["stream", ["pipeline", -1, ["close"], []]],
            ["release", -1, 1],
            _failed(1, "full"),
        ],
        tables=(2, 2),
    ),
    Case(
        name="a writable under the id of a promise",
        frames=[["push", [[["promise", -1], ["writable", -1]]]], ["release", 1, 1]],
        says=[["release", -1, 1]],
    ),
    Case(
        name="a stream of writes to what is no stream",
        frames=[["push", {"a": 1}], _write(1, 7), _write(0, 7)],
        says=[
            _failed(2, "'write' is not a function.", "TypeError"),
            _failed(3, "'write' is not a function.", "TypeError"),
        ],
        tables=(1, 2),
    ),
    Case(
        name="pipelining on a stream's result, which is gone",
        frames=[["stream", ["pipeline", 0, ["make_counter"], []]], ["push", ["pipeline", 1, ["increment"], []]]],
        says=[["resolve", 1, ["export", -1]]],
        ends="no such entry on exports table: 1",
    ),
]

CASES: Final = [*_PIPES, *_WRITABLES]
