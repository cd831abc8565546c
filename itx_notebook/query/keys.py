"""Query keys: what makes two questions the same question, and which questions a prefix means.

Apart from the cache so that every room that asks or forgets something agrees on identity. A key is a tuple of
JSON values; its hash is its JSON with sorted object keys, so ``{"a": 1, "b": 2}`` and ``{"b": 2, "a": 1}`` are one.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from itx_notebook.errors import ItxError

__all__ = ["QueryKey", "freeze_query_key", "hash_query_key", "is_key_prefix"]

QueryKey: TypeAlias = tuple[Any, ...]
"""A tuple of JSON values, general parts first: ``("itx", "project", "prj_1", "streams", "state", "/")``."""

_encode: Final = msgspec.json.Encoder(order="sorted").encode

# Only keys made of strings and None are kept: 1, 1.0 and True are one dict key in Python and three JSON texts.
_hashes: Final[dict[QueryKey, str]] = {}
_MAX_HASHES: Final = 10_000


def hash_query_key(key: QueryKey) -> str:
    """Return the identity of `key`: its JSON text with sorted object keys. Any thread.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: `key` is not a tuple, or has a part that JSON cannot say.
    """
    try:
        known = _hashes.get(key)
    except TypeError:  # a part is a list or a dict, which cannot be looked up
        known = None
    return known if known is not None else _hash_anew(key)


def _hash_anew(key: QueryKey) -> str:
    if not isinstance(key, tuple):
        raise _refusal(key, "it is not a tuple")
    query_hash = _to_json(key, key)
    if all(part is None or type(part) is str for part in key):
        if len(_hashes) >= _MAX_HASHES:
            _hashes.clear()
        _hashes[key] = query_hash
    return query_hash


def is_key_prefix(prefix: QueryKey, key: QueryKey) -> bool:
    """Whether `key` begins with `prefix`; the empty prefix means every key.

    Partial in depth: within a part, a shorter list matches a longer one that begins with it, and an object matches
    one that has at least its members.
    """
    return len(prefix) <= len(key) and all(
        _is_partial_match(wanted, part) for wanted, part in zip(prefix, key, strict=False)
    )


def _is_partial_match(wanted: Any, part: Any) -> bool:
    if isinstance(wanted, (tuple, list)):
        return isinstance(part, (tuple, list)) and is_key_prefix(tuple(wanted), tuple(part))
    if isinstance(wanted, dict):
        return isinstance(part, dict) and all(
            name in part and _is_partial_match(value, part[name]) for name, value in wanted.items()
        )
    if type(wanted) is str and type(part) is str:
        return wanted == part
    if isinstance(part, (tuple, list, dict)):
        return False
    # By JSON text, as the hash does: True must not match 1.
    return _to_json(wanted, wanted) == _to_json(part, part)


def freeze_query_key(value: Any) -> Any:
    """Turn the lists of a key that came out of JSON back into tuples, at every depth of lists."""
    return tuple(freeze_query_key(part) for part in value) if isinstance(value, (list, tuple)) else value


def _to_json(value: Any, key: Any) -> str:
    try:
        return _encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(key, str(error)) from error


def _refusal(key: Any, fault: str) -> ItxError:
    return ItxError(
        f"Query key {key!r} cannot be used: {fault}.",
        code="BAD_REQUEST",
        hint='A query key is a tuple of JSON values, such as ("itx", "project", "prj_1").',
    )
