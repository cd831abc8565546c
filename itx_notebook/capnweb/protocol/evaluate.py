"""From an expression to its value: lists unescaped, tags read, references looked up in the scope.

One pass, in place: the tree came from the decoder and belongs to nobody else. Calls happen inside expressions, so
that evaluating one may run an application's code. Everything malformed raises :class:`RpcProtocolError`, which ends
the session; the references made until then are given back first.
"""

from __future__ import annotations

import array
import base64
import binascii
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from itx_notebook.capnweb.protocol.errors import RpcProtocolError, build_remote_error
from itx_notebook.capnweb.protocol.hooks import Hook, Location, MapFunction, Path, Payload, Proxy, Runtime
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.pending import call_hook, map_hook
from itx_notebook.capnweb.protocol.pipes import Readable, Writable
from itx_notebook.capnweb.protocol.plain import LEAST_LENGTH, Records, is_plain
from itx_notebook.capnweb.protocol.values import (
    FILTERED_KEYS,
    UNDEFINED,
    Headers,
    Request,
    Response,
    Url,
    datetime_from_ms,
)
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER, parse_bigint

__all__ = ["Evaluator", "Scope", "parse_id", "parse_path"]

_MAX: Final = MAX_SAFE_INTEGER
_HOLE: Final = ["undefined"]


class Scope(Protocol):
    """Where the ids in an expression mean something: a session, or one application of a map."""

    limits: Limits
    runtime: Runtime
    keeps_undefined: bool

    def find(self, export_id: int) -> Hook:
        """Return the object the sender refers to. It stays the scope's: the evaluator duplicates what it hands out."""

    def introduce(self, import_id: int, *, is_promise: bool) -> Hook:
        """Return a reference to an object of the sender's."""

    def take_readable(self, pipe_id: int) -> Readable:
        """Return the readable end of a pipe; once."""

    def introduce_writable(self, import_id: int) -> Writable:
        """Return a stream of the sender's that is written from here."""

    def collect_blob(self, type_: str, readable: Readable) -> Hook:
        """Return the blob that `readable` will have brought, as a promise."""

    def make_map(self, captures: list[Hook], instructions: list[Any]) -> MapFunction:
        """Return the recorded function that `instructions` describe. It owns the captures."""


def parse_id(value: Any) -> int:
    """Return `value` if it is an id: a whole number, and no ``bool``."""
    if type(value) is not int:
        raise _bad(f"{value!r} is no id")
    return value


def parse_path(value: Any) -> Path:
    """Return `value` as a path: member names and list indices."""
    if type(value) is not list:
        raise _bad("a path is an array")
    for index, step in enumerate(value):
        if type(step) is str or type(step) is int:
            continue
        if type(step) is float and step.is_integer():
            value[index] = int(step)
            continue
        raise _bad(f"{step!r} is no step of a path")
    return tuple(value)


def _bad(what: str) -> RpcProtocolError:
    return RpcProtocolError(f"bad RPC message: {what[:200]}")


class Evaluator:
    """Evaluates the expressions that make up one payload."""

    __slots__ = ("_max_depth", "_streams", "promises", "scope", "stubs")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._max_depth = scope.limits.max_depth
        self.stubs: list[Proxy] = []
        self.promises: list[Location] = []
        self._streams: list[Readable | Writable] = []

    def evaluate(self, expression: Any, depth: int = 0) -> Payload:
        """Return the owned payload of one expression."""
        try:
            value = self._value(expression, None, None, depth)
        except BaseException:
            self._dispose()
            raise
        if self._streams:
            self.stubs += [stream.reference for stream in self._streams]
        return self._payload(value)

    def evaluate_arguments(self, expressions: Any, depth: int) -> Payload:
        """Return the owned payload of a call's arguments, a plain array of expressions."""
        if type(expressions) is not list:
            raise _bad("arguments are an array")
        # An argument that is undefined was not given, which the callee must be able to tell from null.
        holes = [index for index, expression in enumerate(expressions) if expression == _HOLE]
        try:
            self._items(expressions, depth)
        except BaseException:
            self._dispose()
            raise
        for index in holes:
            expressions[index] = UNDEFINED
        if self._streams:
            self.stubs += [stream.loan for stream in self._streams]
        return self._payload(expressions)

    def _payload(self, value: Any) -> Payload:
        runtime = self.scope.runtime
        payload = Payload(value, runtime, stubs=self.stubs or None, promises=self.promises or None, owned=True)
        if runtime.charge is not None:
            payload.charges = [runtime.charge]
        return payload

    def _dispose(self) -> None:
        for stub in self.stubs:
            stub._hook.dispose()
        for stream in self._streams:
            stream.discard()
        for _, _, promise in self.promises:
            promise._hook.dispose()

    def _value(self, expression: Any, container: Any, key: Any, depth: int) -> Any:
        kind = type(expression)
        if kind is list:
            return self._array(expression, container, key, depth)
        if kind is dict:
            return self._members(expression, depth)
        if kind is int and not -_MAX <= expression <= _MAX:
            # A JavaScript number printed with all its digits: it was a double, and is one again.
            return float(expression)
        if kind is Records:
            return self._records(expression, depth)
        return expression

    def _members(self, members: dict[str, Any], depth: int) -> dict[str, Any]:
        if members and depth + 1 >= self._max_depth:
            raise _too_deep()
        if not FILTERED_KEYS.isdisjoint(members):
            self._drop_filtered(members, depth)
        for key, item in members.items():
            kind = type(item)
            if kind is list:
                members[key] = self._array(item, members, key, depth + 1)
            elif kind is dict:
                self._members(item, depth + 1)
            elif kind is int and not -_MAX <= item <= _MAX:
                members[key] = float(item)
        return members

    def _drop_filtered(self, members: dict[str, Any], depth: int) -> None:
        for key in FILTERED_KEYS.intersection(members):
            # What is in it is evaluated all the same, so that references in it are given back.
            Evaluator(self.scope).evaluate(members.pop(key), depth + 1).dispose()

    def _items(self, items: list[Any], depth: int) -> list[Any]:
        if items and depth + 1 >= self._max_depth:
            raise _too_deep()
        if len(items) >= LEAST_LENGTH and depth + 2 < self._max_depth and is_plain(items):
            return items
        for index, item in enumerate(items):
            kind = type(item)
            if kind is dict:
                self._members(item, depth + 1)
            elif kind is list:
                items[index] = self._array(item, items, index, depth + 1)
            elif kind is int and not -_MAX <= item <= _MAX:
                items[index] = float(item)
            elif kind is Records:
                items[index] = self._records(item, depth + 1)
        return items

    def _records(self, records: Records, depth: int) -> list[Any]:
        if depth + Records.DEPTH > self._max_depth:
            raise _too_deep()
        return records.items

    def _array(self, expression: list[Any], container: Any, key: Any, depth: int) -> Any:
        if not expression:
            raise _bad("an empty array, which should have been [[]]")
        tag = expression[0]
        if type(tag) is str:
            if tag in _REFERENCES:
                return self._reference(tag, expression, container, key, depth)
            read = _TAGS.get(tag)
            if read is not None:
                return read(self, expression, depth)
            if tag == "blob":
                return self._blob(expression, container, key)
        elif type(tag) is list and len(expression) == 1:
            return self._items(tag, depth)
        raise _bad(f"unknown special value: {expression!r}")

    # References

    def _reference(self, tag: str, expression: list[Any], container: Any, key: Any, depth: int) -> Any:
        if tag == "import":
            return self._keep_stub(self.evaluate_reference(expression, depth))
        if tag == "pipeline":
            return self._keep_promise(self.evaluate_reference(expression, depth), container, key)
        if tag == "remap":
            return self._keep_promise(self._remap(expression), container, key)
        _expect(expression, 2, 2)
        import_id = parse_id(expression[1])
        if import_id >= 0:
            raise _bad(f"{import_id} is not an id the sender may choose")
        if tag == "promise":
            return self._keep_promise(self.scope.introduce(import_id, is_promise=True), container, key)
        return self._keep_stub(self.scope.introduce(import_id, is_promise=False))

    def _keep_stub(self, hook: Hook) -> Proxy:
        stub = self.scope.runtime.stub_type(hook)
        self.stubs.append(stub)
        return stub

    def _keep_promise(self, hook: Hook, container: Any, key: Any) -> Proxy:
        # Nobody asks for this result by itself: what is in it must be disposed with the rest, also if nobody takes it.
        hook.settle()
        promise = self.scope.runtime.promise_type(hook)
        self.promises.append((container, key, promise))
        return promise

    def evaluate_reference(self, expression: list[Any], depth: int) -> Hook:
        """Return what an ``import`` or ``pipeline`` refers to: an object, something in it, or a call's result."""
        length = len(expression)
        if not 2 <= length <= 4:
            raise _bad(f"{expression[0]!r} with {length} elements")
        hook = self.scope.find(parse_id(expression[1]))
        if length == 2:
            return hook.dup()
        path = parse_path(expression[2])
        if length == 3:
            return hook.get(path) if path else hook.dup()
        # A call within a call counts twice: it takes so many frames that Python's own limit would come before ours.
        inside = depth + 1 if depth else depth
        return call_hook(hook, path, Evaluator(self.scope).evaluate_arguments(expression[3], inside))

    def _remap(self, expression: list[Any]) -> Hook:
        _expect(expression, 5, 5)
        target = self.scope.find(parse_id(expression[1]))
        path = parse_path(expression[2])
        if type(expression[3]) is not list or type(expression[4]) is not list:
            raise _bad("captures and instructions of a remap are arrays")
        captures: list[Hook] = []
        try:
            # One by one: what was captured before a bad one is given back.
            for capture in expression[3]:
                captures.append(self._capture(capture))  # noqa: PERF401
        except BaseException:
            for hook in captures:
                hook.dispose()
            raise
        return map_hook(target, path, self.scope.make_map(captures, expression[4]))

    def _capture(self, capture: Any) -> Hook:
        if type(capture) is list and len(capture) == 2:
            if capture[0] == "import":
                return self.scope.find(parse_id(capture[1])).dup()
            if capture[0] == "export" and parse_id(capture[1]) < 0:
                return self.scope.introduce(capture[1], is_promise=False)
        raise _bad(f"unknown map capture: {capture!r}")

    # Values that JSON lacks

    def _undefined(self, expression: list[Any], _: int) -> Any:
        _expect(expression, 1, 1)
        return UNDEFINED if self.scope.keeps_undefined else None

    def _bigint(self, expression: list[Any], _: int) -> int:
        _expect(expression, 2, 2)
        text = expression[1]
        if type(text) is not str:
            raise _bad("a bigint is text")
        if len(text) > self.scope.limits.max_bigint_digits:
            raise _bad(f"a bigint of {len(text)} characters; at most {self.scope.limits.max_bigint_digits} are allowed")
        return parse_bigint(text)

    def _date(self, expression: list[Any], _: int) -> Any:
        _expect(expression, 2, 2)
        ms = expression[1]
        if ms is not None and type(ms) is not int and type(ms) is not float:
            raise _bad("a date is a number of milliseconds, or null")
        return datetime_from_ms(ms)

    def _bytes(self, expression: list[Any], _: int) -> Any:
        _expect(expression, 2, 3)
        text = expression[1]
        if type(text) is not str:
            raise _bad("bytes are base64 text")
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise _bad(f"bytes that are not base64: {error}") from None
        return data if len(expression) == 2 else _typed_bytes(data, expression[2])

    def _error(self, expression: list[Any], depth: int) -> Any:
        _expect(expression, 3, 5)
        name, message = expression[1], expression[2]
        stack = expression[3] if len(expression) > 3 else None
        if type(name) is not str or type(message) is not str or not (stack is None or type(stack) is str):
            raise _bad("an error's name, message and stack are text")
        props: dict[str, Any] = {}
        if len(expression) == 5:
            if type(expression[4]) is not dict:
                raise _bad("an error's properties are an object")
            props = self._members(expression[4], depth)
            for key in [key for key in props if key in ("name", "message", "stack", "args") or key.startswith("__")]:
                del props[key]
        return build_remote_error(name, message, stack, props)

    def _url(self, expression: list[Any], _: int) -> Url:
        _expect(expression, 2, 2)
        if type(expression[1]) is not str:
            raise _bad("a URL is text")
        try:
            return Url(expression[1])
        except ValueError as error:
            raise _bad(str(error)) from None

    # Fetch objects and streams

    def _headers(self, expression: list[Any], _: int) -> Headers:
        _expect(expression, 2, 2)
        return _parse_headers(expression[1])

    def _request(self, expression: list[Any], depth: int) -> Request:
        _expect(expression, 3, 3)
        url, init = expression[1], expression[2]
        if type(url) is not str or type(init) is not dict:
            raise _bad("a request is a URL and an object")
        method = init.pop("method", "GET")
        if type(method) is not str:
            raise _bad("a request's method is text")
        headers = _parse_headers(init.pop("headers", []))
        body = self._body(init.pop("body", None), depth)
        return Request(url, method, headers, body, _plain(init))

    def _response(self, expression: list[Any], depth: int) -> Response:
        _expect(expression, 3, 3)
        init = expression[2]
        if type(init) is not dict:
            raise _bad("a response's second part is an object")
        status, text = init.pop("status", 200), init.pop("statusText", "")
        if type(status) is not int or type(text) is not str:
            raise _bad("a response's status is a number, its text a text")
        headers = _parse_headers(init.pop("headers", []))
        return Response(self._body(expression[1], depth), status, text, headers, _plain(init))

    def _body(self, expression: Any, depth: int) -> Any:
        if depth + 1 >= self._max_depth:
            raise _too_deep()
        body = self._value(expression, None, None, depth + 1)
        if body is None or isinstance(body, (str, bytes, Readable)):
            return body
        raise _bad("a body is null, text, bytes or a readable")

    def _readable(self, expression: list[Any], _: int) -> Readable:
        _expect(expression, 2, 2)
        readable = self.scope.take_readable(parse_id(expression[1]))
        self._streams.append(readable)
        return readable

    def _writable(self, expression: list[Any], _: int) -> Writable:
        _expect(expression, 2, 2)
        import_id = parse_id(expression[1])
        if import_id >= 0:
            raise _bad(f"{import_id} is not an id the sender may choose")
        writable = self.scope.introduce_writable(import_id)
        self._streams.append(writable)
        return writable

    def _blob(self, expression: list[Any], container: Any, key: Any) -> Any:
        _expect(expression, 3, 3)
        type_, source = expression[1], expression[2]
        if type(type_) is not str or type(source) is not list or len(source) != 2 or source[0] != "readable":
            raise _bad("a blob is a type and a readable")
        readable = self.scope.take_readable(parse_id(source[1]))
        return self._keep_promise(self.scope.collect_blob(type_, readable), container, key)


def _expect(expression: list[Any], least: int, most: int) -> None:
    if not least <= len(expression) <= most:
        raise _bad(f"{expression[0]!r} with {len(expression)} elements")


def _too_deep() -> RpcProtocolError:
    return RpcProtocolError("bad RPC message: Deserialization exceeded maximum allowed depth.")


def _parse_headers(pairs: Any) -> Headers:
    if type(pairs) is not list:
        raise _bad("headers are an array of pairs")
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not str:
            raise _bad("a header is a pair of texts")
    return Headers([(name, value) for name, value in pairs])


def _plain(init: dict[str, Any]) -> dict[str, Any]:
    """The rest of an init is JSON as it stands, without the names no value may carry."""
    for key in FILTERED_KEYS.intersection(init):
        del init[key]
    return init


_FORMATS: Final = {
    "ArrayBuffer": "",
    "DataView": "",
    "Uint8Array": "",
    "Uint8ClampedArray": "",
    "Int8Array": "b",
    "Int16Array": "h",
    "Uint16Array": "H",
    "Int32Array": "i",
    "Uint32Array": "I",
    "BigInt64Array": "q",
    "BigUint64Array": "Q",
    "Float32Array": "f",
    "Float64Array": "d",
}
"""JavaScript's containers of bytes, and the code of their elements in :mod:`array`."""


def _typed_bytes(data: bytes, type_: Any) -> bytes | array.array[Any]:
    code = _FORMATS.get(type_) if type(type_) is str else None
    if code is None:
        raise _bad(f"unknown bytes type: {type_!r}")
    if not code:
        return data
    values: array.array[Any] = array.array(code)
    if len(data) % values.itemsize:
        raise _bad(f"{len(data)} bytes are no whole number of elements of a {type_}")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


_REFERENCES: Final = frozenset({"import", "pipeline", "export", "promise", "remap"})

_TAGS: Final[dict[str, Callable[[Evaluator, list[Any], int], Any]]] = {
    "undefined": Evaluator._undefined,
    "inf": lambda _, __, ___: float("inf"),
    "-inf": lambda _, __, ___: float("-inf"),
    "nan": lambda _, __, ___: float("nan"),
    "bigint": Evaluator._bigint,
    "date": Evaluator._date,
    "bytes": Evaluator._bytes,
    "error": Evaluator._error,
    "url": Evaluator._url,
    "headers": Evaluator._headers,
    "request": Evaluator._request,
    "response": Evaluator._response,
    "readable": Evaluator._readable,
    "writable": Evaluator._writable,
}
