"""From a value to its expression: lists escaped, what JSON lacks tagged, references handed to the scope.

One pass, by exact type, scalars tested in line: for a batch of events this walk costs as much as writing the JSON. A
container in which nothing has to change is used as it is. Whatever the peer would choke on is refused here, at the call
site, because a bad expression ends the whole session over there.
"""

from __future__ import annotations

import array
import base64
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from enum import Enum
from math import isfinite, isnan
from typing import Any, Final, Protocol

import msgspec

from itx_notebook.capnweb.protocol import wire
from itx_notebook.capnweb.protocol.errors import RemoteThrown, RpcError, get_error_name, get_error_props
from itx_notebook.capnweb.protocol.hooks import Proxy
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.payload import CALLABLES
from itx_notebook.capnweb.protocol.pipes import Blob, Readable, Writable
from itx_notebook.capnweb.protocol.plain import LEAST_LENGTH, is_plain
from itx_notebook.capnweb.protocol.targets import RpcTarget
from itx_notebook.capnweb.protocol.values import (
    FILTERED_KEYS,
    Headers,
    JsDate,
    Prepared,
    Request,
    Response,
    UndefinedType,
    Url,
    ms_from_datetime,
)
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER, format_bigint

__all__ = ["Encoder", "ErrorFilter", "HoldsReferences", "Scope", "Serializer", "encode_error", "prepare"]

Encoder = Callable[[Any], Any]
"""Turns a value of a type the protocol does not know into one it knows."""

ErrorFilter = Callable[[BaseException], BaseException | None]
"""Sees an error before it is sent; may return the one to send instead, whose stack then goes out too."""

_log: Final = logging.getLogger("itx_notebook.capnweb")

_TOO_DEEP: Final = "Serialization exceeded maximum allowed depth. (Does the message contain cycles?)"
_MAX: Final = MAX_SAFE_INTEGER


class Scope(Protocol):
    """Where references in a value get their ids: a session, or the recorder of a map."""

    limits: Limits
    encoders: Mapping[type, Encoder]
    sends_urls: bool
    on_send_error: ErrorFilter | None

    def encode_proxy(self, proxy: Proxy, serializer: Serializer) -> Any:
        """Return the expression of a stub or promise."""

    def encode_target(self, target: Any, serializer: Serializer) -> Any:
        """Return the expression of a raw target or callable."""

    def encode_readable(self, readable: Readable, serializer: Serializer) -> Any:
        """Return the expression of a stream that is read at the other end."""

    def encode_writable(self, writable: Writable, serializer: Serializer) -> Any:
        """Return the expression of a stream that is written at the other end."""


class HoldsReferences(Exception):  # noqa: N818  # asked for, so no error
    """A value that was expected to be data alone is more."""


class Serializer:
    """Encodes the values of one message.

    Parameters
    ----------
    scope : Scope
        Gives references their ids.
    for_call : bool
        Whether these are a call's arguments: targets with a ``dup`` method are then duplicated by it.
    only_data : bool
        Whether to raise :class:`HoldsReferences` at the first stub, target or callable.

    Attributes
    ----------
    undo : list
        What the scope did for this message, to be taken back by :meth:`roll_back` if it is never sent.
    after : list
        What the scope does once the message is in the outbox.
    """

    __slots__ = ("_max_depth", "after", "for_call", "only_data", "scope", "undo")

    def __init__(self, scope: Scope, *, for_call: bool = False, only_data: bool = False) -> None:
        self.scope = scope
        self.for_call = for_call
        self.only_data = only_data
        self._max_depth = scope.limits.max_depth
        self.undo: list[Callable[[], None]] = []
        self.after: list[Callable[[], object]] = []

    def roll_back(self) -> None:
        """Take back, newest first, what was exported for a message that is not sent."""
        undo, self.undo, self.after = self.undo, [], []
        for action in reversed(undo):
            action()

    def finish(self) -> None:
        """Do what was to be done once the message is in the outbox."""
        for action in self.after:
            action()

    def encode_all(self, values: list[Any]) -> list[Any]:
        """Return the expressions of a call's arguments, which stand in a plain array; roll back on failure."""
        encoded: list[Any] = self._encode_or_roll_back(self._items, values)
        return encoded

    def encode_root(self, value: Any) -> Any:
        """Return the expression of a whole message; roll back on failure."""
        return self._encode_or_roll_back(self.encode, value)

    def _encode_or_roll_back(self, encode: Callable[[Any, int], Any], value: Any) -> Any:
        try:
            return encode(value, 0)
        except RecursionError:
            # Causes of errors take several frames for each level: Python's limit may come before ours.
            self.roll_back()
            raise ValueError(_TOO_DEEP) from None
        except BaseException:
            self.roll_back()
            raise

    def encode(self, value: Any, depth: int) -> Any:
        """Return the expression of `value`, which stands `depth` deep.

        Raises
        ------
        TypeError
            The value, or one inside it, has no place in the protocol.
        ValueError
            A key cannot be sent, or the value is nested too deep, or contains itself.
        """
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int:
            return value if -_MAX <= value <= _MAX else self._bigint(value)
        if kind is float:
            return value if isfinite(value) else _special_float(value)
        if kind is dict:
            return self._members(value, depth)
        if kind is list or kind is tuple:
            return [self._items(value, depth)]
        return self._other(value, kind, depth)

    def _members(self, members: dict[str, Any], depth: int) -> dict[str, Any]:
        if members and depth + 1 >= self._max_depth:
            raise ValueError(_TOO_DEEP)
        if not FILTERED_KEYS.isdisjoint(members):
            key = next(key for key in members if key in FILTERED_KEYS)
            raise ValueError(f"Cannot serialize the key {key!r}: every receiver drops it. Rename it.")
        changed: dict[str, Any] | None = None
        for key, item in members.items():
            if type(key) is not str:
                raise TypeError(f"Cannot serialize value: the key {key!r} is not a string.")
            kind = type(item)
            if kind is str or kind is bool or item is None:
                continue
            if kind is int:
                if -_MAX <= item <= _MAX:
                    continue
            elif kind is float and isfinite(item):
                continue
            encoded = self.encode(item, depth + 1)
            if encoded is not item:
                if changed is None:
                    changed = dict(members)
                changed[key] = encoded
        return members if changed is None else changed

    def _items(self, items: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        if items and depth + 1 >= self._max_depth:
            raise ValueError(_TOO_DEEP)
        if len(items) >= LEAST_LENGTH and depth + 2 < self._max_depth and is_plain(items):
            return items  # type: ignore[return-value]  # msgspec writes a tuple as an array
        changed: list[Any] | None = None
        for index, item in enumerate(items):
            kind = type(item)
            if kind is str or kind is bool or item is None:
                continue
            if kind is int:
                if -_MAX <= item <= _MAX:
                    continue
            elif kind is float and isfinite(item):
                continue
            encoded = self.encode(item, depth + 1)
            if encoded is not item:
                if changed is None:
                    changed = list(items)
                changed[index] = encoded
        return items if changed is None else changed  # type: ignore[return-value]  # msgspec writes a tuple as an array

    def _bigint(self, value: int) -> list[Any]:
        return ["bigint", format_bigint(value, self.scope.limits.max_bigint_digits)]

    def _other(self, value: Any, kind: type, depth: int) -> Any:
        encoder = self.scope.encoders.get(kind)
        if encoder is not None:
            converted = encoder(value)
            if type(converted) is kind:
                raise TypeError(f"Cannot serialize value: the encoder of {kind.__qualname__} returned one again.")
            return self.encode(converted, depth)
        if isinstance(value, (Proxy, RpcTarget, *CALLABLES)):
            self._check_may_refer()
            if isinstance(value, Proxy):
                return self.scope.encode_proxy(value, self)
            return self.scope.encode_target(value, self)
        for known, encode in _KNOWN:
            if isinstance(value, known):
                return encode(self, value, depth)
        raise TypeError(f"Cannot serialize value: {_describe(value)}")

    def _url(self, value: Url, _: int) -> Any:
        return ["url", str(value)] if self.scope.sends_urls else str(value)

    def _readable(self, value: Readable, _: int) -> Any:
        self._check_may_refer()
        return self.scope.encode_readable(value, self)

    def _writable(self, value: Writable, _: int) -> Any:
        self._check_may_refer()
        return self.scope.encode_writable(value, self)

    def _chunks(self, value: AsyncIterator[Any], depth: int) -> Any:
        return self._readable(Readable(value), depth)

    def _blob(self, value: Blob, depth: int) -> Any:
        return ["blob", value.type, self._readable(value.stream(), depth)]

    def _check_may_refer(self) -> None:
        if self.only_data:
            raise HoldsReferences

    def _error(self, value: BaseException, depth: int) -> Any:
        return encode_error(value, self, depth)

    def _request(self, value: Request, depth: int) -> Any:
        init: dict[str, Any] = {**value.init, "method": value.method}
        if len(value.headers):
            init["headers"] = [list(pair) for pair in value.headers]
        if value.body is not None:
            init["body"] = self._body(value.body, depth)
            if isinstance(value.body, Readable):
                # Without it JavaScript does not make a request of a stream.
                init.setdefault("duplex", "half")
        return ["request", str(value.url), init]

    def _response(self, value: Response, depth: int) -> Any:
        init: dict[str, Any] = {**value.init}
        if value.status != 200:
            init["status"] = value.status
        if value.status_text:
            init["statusText"] = value.status_text
        if len(value.headers):
            init["headers"] = [list(pair) for pair in value.headers]
        return ["response", self._body(value.body, depth), init]

    def _body(self, body: Any, depth: int) -> Any:
        if body is None or isinstance(body, (str, bytes, bytearray, memoryview, Readable)):
            return self.encode(body, depth + 1)
        raise TypeError(f"Cannot serialize value: a body is None, str, bytes or a Readable, not {_describe(body)}")


def encode_error(error: BaseException, serializer: Serializer, depth: int, *, may_refer: bool = True) -> Any:
    """Return the expression of `error`. It always arrives: properties that cannot be sent are left out.

    Of a :class:`RemoteThrown` it is that of the value that was thrown.

    Parameters
    ----------
    error : BaseException
        The error.
    serializer : Serializer
        Of the message it stands in.
    depth : int
        How deep it stands.
    may_refer : bool
        Whether properties may hold references; in an answer they may not, nobody could give them back.
    """
    scope = serializer.scope
    if isinstance(error, RemoteThrown):
        # What was no error where it was thrown is none at the next peer either.
        thrown = _try_encode(error.value, serializer, depth, may_refer=may_refer)
        if thrown is not _FAILED:
            return thrown
    stack: str | None = None
    if scope.on_send_error is not None:
        replaced = _filter_error(scope.on_send_error, error)
        if isinstance(replaced, BaseException):
            error = replaced
            stack = _stack_of(error)
    props: dict[str, Any] = {}
    for key, value in get_error_props(error).items():
        if key in FILTERED_KEYS:
            continue
        encoded = _try_encode(value, serializer, depth + 1, may_refer=may_refer)
        if encoded is not _FAILED:
            props[key] = encoded
    expression: list[Any] = ["error", get_error_name(error), _message_of(error)]
    if props:
        return [*expression, stack, props]
    return expression if stack is None else [*expression, stack]


def _filter_error(on_send_error: ErrorFilter, error: BaseException) -> BaseException | None:
    try:
        return on_send_error(error)
    except Exception:
        # It was asked what may be shown and did not say: nothing is.
        _log.exception("on_send_error failed")
        return RpcError("An error that could not be shown.").with_traceback(None)


_FAILED: Final = object()


def _try_encode(value: Any, serializer: Serializer, depth: int, *, may_refer: bool) -> Any:
    """Return the expression of a part that may be left out, or ``_FAILED``; nothing remains of what failed."""
    attempt = Serializer(serializer.scope)
    attempt._max_depth = serializer._max_depth
    try:
        encoded = attempt.encode(value, depth)
    except Exception:  # whatever it is, the rest of the error arrives
        attempt.roll_back()
        return _FAILED
    if attempt.undo and not may_refer:
        attempt.roll_back()
        return _FAILED
    serializer.undo += attempt.undo
    serializer.after += attempt.after
    return encoded


def _message_of(error: BaseException) -> str:
    message = getattr(error, "message", None)
    if isinstance(message, str):
        return message
    if isinstance(error, KeyError) and len(error.args) == 1:
        # Python shows the key's repr; the text is what was meant.
        return str(error.args[0])
    try:
        return str(error)
    except Exception:
        return f"A {type(error).__name__} that cannot be printed."


def _stack_of(error: BaseException) -> str | None:
    if error.__traceback__ is None:
        # Made to be sent, never raised.
        return None
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()


def _special_float(value: float) -> list[Any]:
    return ["nan"] if isnan(value) else ["inf"] if value > 0 else ["-inf"]


def _encode_bytes(_: Serializer, value: bytes | bytearray | memoryview, __: int) -> list[Any]:
    if isinstance(value, memoryview) and not value.c_contiguous:
        raise TypeError("Cannot serialize value: a memoryview that is not contiguous. Send bytes(view).")
    return ["bytes", base64.b64encode(value).rstrip(b"=").decode("ascii")]


def _encode_array(_: Serializer, value: array.array[Any], __: int) -> list[Any]:
    raise TypeError(f"Cannot serialize value: {_describe(value)} Send value.tobytes(), or list(value).")


def _encode_datetime(_: Serializer, value: datetime, __: int) -> list[Any]:
    if value.tzinfo is None or value.utcoffset() is None:
        raise TypeError(
            f"Cannot serialize value: {value!r} has no time zone, so it names no instant. Add one: .astimezone()."
        )
    return ["date", ms_from_datetime(value)]


def _encode_date(_: Serializer, value: JsDate, __: int) -> list[Any]:
    return ["date", value.ms]


def _encode_undefined(_: Serializer, __: UndefinedType, ___: int) -> list[Any]:
    return ["undefined"]


def _encode_headers(_: Serializer, value: Headers, __: int) -> list[Any]:
    return ["headers", [list(pair) for pair in value]]


def _encode_prepared(_: Serializer, value: Prepared, __: int) -> msgspec.Raw:
    return msgspec.Raw(value.text)


def _encode_subclass(serializer: Serializer, value: Any, depth: int) -> Any:
    """A subclass of a plain type is sent as the plain value, unless it means more: an enum, a scalar of numpy."""
    if isinstance(value, Enum) or type(value).__module__.partition(".")[0] == "numpy":
        raise TypeError(f"Cannot serialize value: {_describe(value)}")
    plain = next((kind for kind in (str, int, float, dict) if isinstance(value, kind)), list)
    return serializer.encode(plain(value), depth)


_KNOWN: Final[tuple[tuple[type | tuple[type, ...], Callable[[Serializer, Any, int], Any]], ...]] = (
    ((bytes, bytearray, memoryview), _encode_bytes),
    (datetime, _encode_datetime),
    (BaseException, Serializer._error),
    (UndefinedType, _encode_undefined),
    (Url, Serializer._url),
    (JsDate, _encode_date),
    (Headers, _encode_headers),
    (Request, Serializer._request),
    (Response, Serializer._response),
    (Blob, Serializer._blob),
    (Readable, Serializer._readable),
    (Writable, Serializer._writable),
    (AsyncIterator, Serializer._chunks),
    (array.array, _encode_array),
    (Prepared, _encode_prepared),
    ((str, int, float, dict, list, tuple), _encode_subclass),
)


class _OnlyData:
    """The scope of a value that is prepared for nobody in particular: nothing in it can be referred to."""

    limits = Limits()
    encoders: Mapping[type, Encoder] = {}
    sends_urls = False
    on_send_error: ErrorFilter | None = None

    def _refuse(self, value: Any, _: Serializer) -> Any:
        raise TypeError(f"Cannot prepare {_describe(value)}: a reference is of one session.")

    encode_proxy = encode_target = encode_readable = encode_writable = _refuse


_ONLY_DATA: Final = _OnlyData()


def prepare(value: Any) -> Prepared:
    """Write the expression of `value` once, so that it can be sent many times, also by different sessions.

    Raises
    ------
    TypeError, ValueError
        As sending it would; and for stubs, targets, callables and streams, which belong to one session.
    """
    return Prepared(value, wire.encode(Serializer(_ONLY_DATA).encode(value, 0)))


def _describe(value: Any) -> str:
    text = repr(value)
    kind = type(value)
    return f"{text if len(text) <= 80 else f'{text[:77]}…'} ({kind.__module__}.{kind.__qualname__})"
