"""Whether a long list is plain JSON throughout: the one question asked of large values in both directions.

Batches of events and tables of records are what makes a message large, and nearly always nothing in them has to be
escaped, tagged or refused. Walking them in Python costs three times the JSON itself; looking at them column by column,
with the loops left to the interpreter's own functions, costs half of the walk. A no is never final: the walk decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import Any, Final

from itx_notebook.capnweb.protocol.values import FILTERED_KEYS
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER

__all__ = ["LEAST_LENGTH", "is_plain"]

LEAST_LENGTH: Final = 8
"""Shorter lists are walked sooner than they are looked at."""

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
