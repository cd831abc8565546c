"""Whether a long list is plain JSON throughout: the one question asked of large values in both directions.

Batches of events and tables of records are what makes a message large, and nearly always nothing in them has to be
escaped, tagged or refused. Walking them in Python costs three times the JSON itself. Looking at them column by column,
with the loops left to the interpreter's own functions, costs half of the walk; a decoder that is told what to expect,
and gives up at anything else, costs nothing. A no is never final: the walk decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import Annotated, Any, Final, Literal

import msgspec

from itx_notebook.capnweb.protocol.values import FILTERED_KEYS
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER, decode

__all__ = ["LEAST_LENGTH", "LONG_BYTES", "Records", "decode_long", "is_plain"]

LEAST_LENGTH: Final = 8
"""Shorter lists are walked sooner than they are looked at."""

LONG_BYTES: Final = 512
"""From what length on a message may hold a list that is worth :func:`decode_long`."""

_SAFE: Final = frozenset({str, bool, type(None)})
_SCALARS: Final = frozenset({*_SAFE, int, float})
_INTS: Final = {int}
_FLOATS: Final = {float}
_DICTS: Final = {dict}
_STRINGS: Final = {str}


def is_plain(items: list[Any] | tuple[Any, ...]) -> bool:
    """Whether `items` are scalars, or dicts of scalars, that mean the same as JSON and as expressions.

    Dicts must have equally many members. Values of one member (or the items) must be of one type, unless all are text,
    bool and ``None``; whole numbers must be safe in JavaScript, others finite.
    """
    kinds = set(map(type, items))
    if kinds != _DICTS:
        return _is_plain_column(items, kinds)
    if not _SCALARS.issuperset(map(type, items[0].values())) or len(set(map(len, items))) != 1:
        return False
    keys = set(chain.from_iterable(items))
    if not FILTERED_KEYS.isdisjoint(keys) or not _STRINGS.issuperset(map(type, keys)):
        return False
    # By position: members that stand in another order elsewhere make mixed columns, never wrong ones.
    columns: Iterable[tuple[Any, ...]] = zip(*map(dict.values, items), strict=True)
    return all(_is_plain_column(column, set(map(type, column))) for column in columns)


def _is_plain_column(values: list[Any] | tuple[Any, ...], kinds: set[type]) -> bool:
    if kinds == _INTS:
        return bool(min(values) >= -MAX_SAFE_INTEGER and max(values) <= MAX_SAFE_INTEGER)
    if kinds == _FLOATS:
        # Finite numbers may have an infinite sum. Then the walk looks at each.
        return isfinite(sum(values))
    return kinds <= _SAFE


class Records:
    """Stands in a decoded message for an escaped list of plain records, whose elements it holds. None comes by wire."""

    __slots__ = ("items",)

    DEPTH: Final = 3
    """How much deeper than what it stands in its innermost values are: list, record, member."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items


_Number = Annotated[int, msgspec.Meta(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)]
_Scalar = _Number | float | str | bool | None
_Escaped = Annotated[list[list[dict[str, _Scalar]]], msgspec.Meta(min_length=1, max_length=1)]
_Call = tuple[Literal["push", "stream"], tuple[Literal["pipeline"], int, list[str | int], list[_Escaped | _Scalar]]]
_decode_call: Final = msgspec.json.Decoder(_Call).decode
_decode_result: Final = msgspec.json.Decoder(tuple[Literal["resolve"], int, _Escaped]).decode


def decode_long(message: bytes) -> Any:
    """Decode a message, with :class:`Records` in place of lists of plain records that are an argument or the result.

    Raises
    ------
    RpcProtocolError
        The message is not JSON.
    """
    is_result = message.startswith(b'["resolve"')
    try:
        parts: Any = _decode_result(message) if is_result else _decode_call(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return decode(message)
    kind, call = parts[:2]
    if is_result:
        return [kind, call, _replace(parts[2])]
    reference, target, path, arguments = call
    arguments = [_replace(argument) if type(argument) is list else argument for argument in arguments]
    return [kind, [reference, target, path, arguments]]


def _replace(escaped: list[list[dict[str, Any]]]) -> Any:
    records = escaped[0]
    return Records(records) if FILTERED_KEYS.isdisjoint(chain.from_iterable(records)) else escaped
