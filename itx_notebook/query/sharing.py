"""Structural sharing: a new result keeps the old result's objects wherever the two are equal.

Apart from the entry because it is a pure function on values. Views compare by identity; with sharing, "nothing
changed" is one ``is``, for the whole result and for each part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

__all__ = ["share_equal_parts"]

T = TypeVar("T")

_LEAVES: Final = frozenset({str, int, float, bool, type(None), bytes, datetime, date, Decimal, UUID})

# Deeper parts are taken over unshared: far below the interpreter's limit of recursion, far above real documents.
_MAX_DEPTH: Final = 100


def share_equal_parts(old: Any, new: T) -> T:
    """Return `old` if it equals `new`, else `new` with every equal part replaced by the old one.

    Equal means same types all the way down: ``1``, ``1.0`` and ``True`` differ. Lists, tuples, dicts and msgspec
    Structs are walked; any other object is kept or replaced whole. Neither argument is changed. The result may share
    mutable parts with both: treat cached data as read-only.
    """
    return _share(old, new, _MAX_DEPTH)  # type: ignore[no-any-return]  # it is old only where both have one type


def _share(old: Any, new: Any, depth: int) -> Any:
    if old is new:
        return old
    kind = type(new)
    if type(old) is not kind or depth == 0:
        return new
    if kind is dict:
        return _share_dict(old, new, depth - 1)
    if kind is list or kind is tuple:
        return _share_sequence(old, new, kind, depth - 1)
    if isinstance(new, msgspec.Struct):
        return _share_struct(old, new, depth - 1)
    return old if _is_equal(old, new) else new


def _share_dict(old: dict[Any, Any], new: dict[Any, Any], depth: int) -> dict[Any, Any]:
    parts = {name: _share(old[name], value, depth) if name in old else value for name, value in new.items()}
    if len(old) == len(parts) and all(name in old and parts[name] is old[name] for name in parts):
        return old
    return parts


def _share_sequence(old: Any, new: Any, kind: Callable[[Sequence[Any]], Any], depth: int) -> Any:
    types = list(map(type, new))
    if _LEAVES.issuperset(types):
        # The child paths of a wide stream are 100,000 strings: compared by the interpreter, not one by one here.
        return old if types == list(map(type, old)) and old == new else new
    parts = [_share(old[i], value, depth) if i < len(old) else value for i, value in enumerate(new)]
    if len(old) == len(parts) and all(part is old[i] for i, part in enumerate(parts)):
        return old
    return kind(parts)


def _share_struct(old: msgspec.Struct, new: msgspec.Struct, depth: int) -> msgspec.Struct:
    before = {name: getattr(old, name) for name in new.__struct_fields__}
    parts = {name: _share(before[name], getattr(new, name), depth) for name in before}
    if all(parts[name] is before[name] for name in parts):
        return old
    return msgspec.structs.replace(new, **parts)


def _is_equal(old: Any, new: Any) -> bool:
    """Whole-object equality that holds only if it is plainly true: arrays and frames answer with arrays."""
    try:
        return (old == new) is True
    except Exception:  # a foreign __eq__ may raise anything, and then the values count as different
        return False
