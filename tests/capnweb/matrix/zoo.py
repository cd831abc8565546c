"""One value of every kind, and everything a server raises; ``../node/zoo.mjs`` and ``errors.mjs`` hold the same.

Where Python has no such value, the nearest one stands in; what the peer then sees is in ``differences.json``.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from itx_notebook import capnweb as rpc

__all__ = ["THROWABLES", "ZOO"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _at(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _nest(depth: int) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value


def _mixture() -> dict[str, Any]:
    return {"when": _at(0), "big": 2**64, "raw": b"\xff", "none": [rpc.UNDEFINED, None, [float("nan")]]}


ZOO: Final[Mapping[str, Callable[[], Any]]] = {
    "null": lambda: None,
    "undefined": lambda: rpc.UNDEFINED,
    "true": lambda: True,
    "false": lambda: False,
    "zero": lambda: 0,
    "int": lambda: 42,
    "int-negative": lambda: -7,
    "int-max-safe": lambda: 2**53 - 1,
    "int-min-safe": lambda: -(2**53) + 1,
    "double-two-to-53": lambda: 2.0**53,
    "double-two-to-60": lambda: 2.0**60,
    "double-fraction": lambda: 1.5,
    "double-whole": lambda: 5.0,
    "double-smallest": lambda: 5e-324,
    "double-largest": lambda: sys.float_info.max,
    "double-negative-zero": lambda: -0.0,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "infinity-negative": lambda: float("-inf"),
    "bigint-small": lambda: 5,
    "bigint-large": lambda: 2**70,
    "bigint-negative": lambda: -(2**70),
    "bigint-5000-digits": lambda: 10**4999 + 7,
    "text-empty": lambda: "",
    "text": lambda: "grüße",
    "text-astral": lambda: "a😀b",
    "text-lone-surrogate": lambda: "a\ud800b",
    "text-reversed-surrogates": lambda: "\udc00\ud800",
    "text-controls": lambda: '\u0000\u0007\n\r\t"\\/\u2028\u2029\u007f',
    "text-long": lambda: "0123456789" * 200_000,
    "bytes-empty": lambda: b"",
    "bytes-every-value": lambda: bytes(range(256)),
    "bytes-one-left-over": lambda: bytearray([1, 2, 3, 61]),
    "bytes-of-a-view": lambda: memoryview(bytes([9, 1, 2, 9]))[1:3],
    "typed-array-buffer": lambda: bytes([1, 2, 3]),
    "typed-int16": lambda: array.array("h", [1, -2]),
    "typed-float64": lambda: array.array("d", [1.5]),
    "typed-big-uint64": lambda: array.array("Q", [2**63]),
    "date": lambda: _at(1_780_000_000_123),
    "date-before-1970": lambda: _at(-1),
    "date-year-0": lambda: rpc.JsDate(-62_167_219_200_000),
    "date-year-275760": lambda: rpc.JsDate(8_640_000_000_000_000),
    "date-invalid": lambda: rpc.JsDate(None),
    "list-empty": list,
    "list": lambda: (1, "two", None),
    "list-nested": lambda: [1, [2]],
    "list-of-empty-lists": lambda: [[], [[]]],
    "list-like-a-tag": lambda: ["bigint", "5"],
    "list-long": lambda: list(range(10_000)),
    "object-empty": dict,
    "object": lambda: {"a": 1, "b": {"c": [True]}},
    "object-odd-keys": lambda: {"": 1, "a b": 2, "length": 3, "prototype": 4, "then": 5, "ß": 6},
    "object-holding-undefined": lambda: {"gone": rpc.UNDEFINED, "here": 1},
    "object-filtered-keys": lambda: {"__proto__": 1, "constructor": 2, "toJSON": 3, "toString": 4, "kept": 5},
    "error-value": lambda: ValueError("not thrown"),
    "error-value-with-props": lambda: rpc.RpcError("kept", props={"code": "E1", "list": [1, [2]]}),
    "nested-60": lambda: _nest(60),
    "nested-100": lambda: _nest(100),
    "nested-250": lambda: _nest(250),
    "url": lambda: rpc.Url("https://example.org/a?b=c#d"),
    "mixture": _mixture,
}
"""Name of a kind → a function that makes the value."""


def _chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


THROWABLES: Final[Mapping[str, Callable[[], BaseException]]] = {
    "plain": lambda: Exception("plain"),
    "type": lambda: TypeError("wrong type"),
    "range": lambda: ValueError("out of range"),
    "syntax": lambda: SyntaxError("bad syntax"),
    "reference": lambda: NameError("no such name"),
    "eval": lambda: rpc.RpcError("bad eval", name="EvalError"),
    "uri": lambda: rpc.RpcError("bad uri", name="URIError"),
    "own-name": lambda: rpc.RpcError("own name", name="MeterError", props={"unit": "m"}),
    "no-message": RuntimeError,
    "props": lambda: rpc.RpcError(
        "props", props={"code": "E42", "detail": {"at": [1, [2]], "when": _at(0), "big": 2**64}}
    ),
    "filtered-props": lambda: rpc.RpcError("filtered", props={"toJSON": 1, "valueOf": 2, "code": "kept"}),
    "unsendable-prop": lambda: rpc.RpcError("unsendable", props={"code": "kept", "bad": object()}),
    "stub-prop": lambda: rpc.RpcError("stub", props={"code": "kept", "callback": lambda: 1}),
    "cause": lambda: _chained(RuntimeError("outer"), TypeError("inner")),
    "cause-value": lambda: rpc.RpcError("outer", props={"cause": "just text"}),
    "aggregate": lambda: ExceptionGroup("several", [RuntimeError("first"), TypeError("second")]),
    "text": lambda: rpc.RemoteThrown("just text"),
    "null": lambda: rpc.RemoteThrown(None),
    "undefined": lambda: rpc.RemoteThrown(rpc.UNDEFINED),
    "object": lambda: rpc.RemoteThrown({"code": 7}),
}
"""Name of a kind → a function that makes what the server raises. Python raises exceptions alone."""
