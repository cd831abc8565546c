"""Values as plain JSON that tells every kind apart; ``../node/describe.mjs`` says the same in JavaScript."""

from __future__ import annotations

import array
import hashlib
import math
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from itx_notebook import capnweb as rpc

__all__ = ["attempt", "describe", "outcome", "read_body"]

_LONG_TEXT: Final = 200
_LONG_BYTES: Final = 32
_LONG_LIST: Final = 100
_DEEP: Final = 20
_MAX_SAFE: Final = 2**53 - 1
_PIECE: Final = 10**1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ARRAY_TYPES: Final = {
    "b": "Int8Array",
    "h": "Int16Array",
    "H": "Uint16Array",
    "i": "Int32Array",
    "I": "Uint32Array",
    "q": "BigInt64Array",
    "Q": "BigUint64Array",
    "f": "Float32Array",
    "d": "Float64Array",
}


async def describe(value: Any) -> Any:
    """What `value` is, as JSON. Reads bodies; does not dispose anything."""
    if value is rpc.UNDEFINED:
        return {"$undefined": True}
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) <= _MAX_SAFE else {"$bigint": _shorten(_digits_of(value))}
        case float():
            return _describe_float(value)
        case rpc.Url():
            return {"$url": value.href}
        case str():
            return _shorten(value)
        case bytes() | bytearray():
            return {"$bytes": _describe_bytes(bytes(value))}
        case array.array() | memoryview():
            typecode = value.format if isinstance(value, memoryview) else value.typecode
            return {"$bytes": _describe_bytes(value.tobytes()), "type": _ARRAY_TYPES[typecode]}
        case list():
            return await _describe_list(value)
        case dict():
            return {name: await describe(item) for name, item in value.items()}
        case datetime():
            return {"$date": (value - _EPOCH) // timedelta(milliseconds=1)}
        case rpc.JsDate():
            return {"$date": value.ms}
        case BaseException():
            return await _describe_error(value)
        case _:
            return await _describe_object(value)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """What becomes of `awaitable`: what its value is, or what it raised. Disposes the value."""
    try:
        value = await awaitable
    except rpc.RemoteThrown as thrown:
        return {"$thrown": await describe(thrown.value)}
    except Exception as error:
        return {"$thrown": await describe(error)}
    text = await describe(value)
    rpc.dispose(value)
    return text


async def attempt(call: Callable[[], Awaitable[Any]]) -> Any:
    """As :func:`outcome`, of a call that may raise at once as well as later."""
    try:
        awaitable = call()
    except Exception as error:
        return {"$thrown": await describe(error)}
    return await outcome(awaitable)


async def read_body(body: Any) -> str:
    """The text of a request's or response's body."""
    if body is None:
        return ""
    if isinstance(body, rpc.Readable):
        return b"".join([bytes(chunk) async for chunk in body]).decode()
    return body if isinstance(body, str) else bytes(body).decode()


async def _describe_error(error: BaseException) -> Any:
    """An error as its own properties besides name and message; the stack stays out."""
    name, message = type(error).__name__, str(error)
    if isinstance(error, rpc.RpcError):
        name, message = error.name, error.message
    # How the value looks as text is each side's own.
    facts = {"name": name, "message": re.sub(r"(?s)^(Cannot serialize value): .*$", r"\1", message)}
    for prop, value in getattr(error, "props", {}).items():
        facts[prop] = await describe(value)
    return {"$error": facts}


def _describe_float(value: float) -> Any:
    if math.isnan(value):
        return {"$number": "NaN"}
    if math.isinf(value):
        return {"$number": "Infinity" if value > 0 else "-Infinity"}
    return {"$number": "-0"} if value == 0 and math.copysign(1, value) < 0 else value


async def _describe_object(value: Any) -> Any:
    match value:
        case rpc.RpcStub():
            return {"$stub": True}
        case rpc.RpcTarget():
            return {"$local": True}
        case rpc.Blob():
            return {"$blob": value.type, "holds": {"$bytes": _describe_bytes(value.data)}}
        case rpc.Headers():
            return {"$headers": _pairs_of(value)}
        case rpc.Request():
            return {
                "$request": [value.method, str(value.url), _pairs_of(value.headers)],
                "body": await read_body(value.body),
            }
        case rpc.Response():
            facts = [value.status, value.status_text, _pairs_of(value.headers)]
            return {"$response": facts, "body": await read_body(value.body)}
        case rpc.Readable():
            return {"$readable": True}
        case rpc.Writable():
            return {"$writable": True}
        case _:
            return {"$local": True}


def _pairs_of(headers: rpc.Headers) -> list[list[str]]:
    return [list(pair) for pair in headers]


async def _describe_list(items: list[Any]) -> Any:
    depth = 0
    inner: Any = items
    while isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
        depth += 1
    if depth > _DEEP:
        return {"$nested": depth, "around": await describe(inner)}
    if len(items) > _LONG_LIST:
        return {"$list": len(items), "first": await describe(items[0]), "last": await describe(items[-1])}
    return [await describe(item) for item in items]


def _describe_bytes(data: bytes) -> Any:
    return _digest(data) if len(data) > _LONG_BYTES else data.hex()


def _shorten(text: str) -> Any:
    return {"$text": _digest(text.encode("utf-8", "surrogatepass"))} if len(text) > _LONG_TEXT else text


def _digest(data: bytes) -> Any:
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()[:16]}


def _digits_of(value: int) -> str:
    """Decimal digits of any int: Python refuses more than 4300 unless asked piecemeal."""
    if value < 0:
        return f"-{_digits_of(-value)}"
    pieces = []
    while value >= _PIECE:
        value, rest = divmod(value, _PIECE)
        pieces.append(f"{rest:01000d}")
    return "".join([str(value), *reversed(pieces)])
