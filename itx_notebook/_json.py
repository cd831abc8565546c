"""The one JSON codec, and the check that a value survives it unchanged.

msgspec is fast but obliging: it writes NaN as ``null``, an integer key as a string and bytes as base64. A durable log
may not oblige in silence, so whatever a person hands in is looked at first, and refused with the place of the fault.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from itx_notebook.errors import ItxError

__all__ = ["check_json", "decode_json", "encode_json"]

_TEXTUAL: Final = (datetime, date, UUID, Decimal)
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_MAX_DEPTH: Final = 200
"""Lists and dicts within each other. Python's own limit would let one process write what another cannot read."""


def _as_plain(value: Any) -> Any:
    """msgspec's hook for types it does not know: numpy's and pandas' scalars become what they stand for."""
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz())
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    if isinstance(value, Decimal):
        return Decimal(value)
    if hasattr(value, "dtype") and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{_short(value)} is not a JSON value")


encode_json: Final = msgspec.json.Encoder(enc_hook=_as_plain).encode
"""Compact UTF-8 JSON of a checked value."""

decode_json: Final = msgspec.json.Decoder().decode
"""Any JSON value from UTF-8 bytes or text; raises :class:`msgspec.DecodeError`."""


def check_json(value: Any, where: str) -> None:
    """Raise ``BAD_REQUEST`` if `value` would not come back from the log as it went in.

    Dates, UUIDs and decimals are allowed and become strings; tuples become lists; numpy scalars become numbers.
    Lists and dicts may be nested 200 deep.

    Parameters
    ----------
    value : Any
        The value as the caller gave it.
    where : str
        Its name in the error, for example ``"payload"``.
    """
    if _is_plain(value):
        return
    try:
        _check(value, where, _MAX_DEPTH)
    except _TooDeepError:
        raise ItxError(
            f"{where} is nested more than {_MAX_DEPTH} deep, or contains itself.",
            code="BAD_REQUEST",
            details={"where": where},
            hint="Flatten it, or append its parts as events of their own.",
        ) from None


class _TooDeepError(Exception):
    """The path to the fault would be as long as the fault: :func:`check_json` names the whole instead."""


def _check(value: Any, where: str, depth: int) -> None:
    kind = type(value)
    if depth == 0 and (kind is dict or kind is list or kind is tuple):
        raise _TooDeepError
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise _refusal(where, f"has the key {key!r}, which is not a string", "Use string keys.")
            if not key.isascii():
                _check_text(key, f"a key of {where}")
            if not _is_plain(item):
                _check(item, f"{where}.{key}", depth - 1)
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            if not _is_plain(item):
                _check(item, f"{where}[{index}]", depth - 1)
    elif not _is_plain(value):
        _check_leaf(value, where)


def _check_leaf(value: Any, where: str) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value, where)
    elif kind is float:
        raise _refusal(where, f"is {value!r}, which JSON cannot say", "Use None for a missing number.")
    elif kind is int:
        raise _refusal(where, f"is {value!r}, outside 64 bits", "Write it as a string.")
    elif isinstance(value, _TEXTUAL):
        if isinstance(value, datetime):
            _check_time(value, where)
    elif hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        _check_scalar(value, where)
    else:
        raise _refusal(where, f"is {_short(value)}, not a JSON value", "Convert it first: str(), list(), int() …")


def _check_time(value: datetime, where: str) -> None:
    """pandas' timestamps are datetimes, and can say more than a datetime."""
    if value != value:
        raise _refusal(where, "is NaT, which JSON cannot say", "Use None for a missing time.")
    if getattr(value, "nanosecond", 0):
        raise _refusal(
            where, f"is {_short(value)}, with nanoseconds", "Write it as a string, or floor it: .floor('us')."
        )


def _check_scalar(value: Any, where: str) -> None:
    item = value.item()
    # A long double is its own item; a time too fine for Python's would become a bare count, and numpy's NaT null.
    if type(item) is type(value) or (
        getattr(value.dtype, "kind", None) in ("m", "M") and not isinstance(item, _TEXTUAL)
    ):
        raise _refusal(where, f"is {_short(value)}, not a JSON value", "Convert it first: float(), str() …")
    _check(item, where, _MAX_DEPTH)


def _is_plain(value: Any) -> bool:
    """Whether a leaf is beyond doubt: the quick way for nearly every value, and no name is built for it."""
    kind = type(value)
    if kind is str:
        text: str = value
        return text.isascii()
    if kind is int:
        number: int = value
        return _INT_MIN <= number <= _INT_MAX
    if kind is float:
        return math.isfinite(value)
    return kind is bool or value is None


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refusal(where, f"is {_short(text)}, with half a surrogate pair", "Repair the text first.") from None


def _short(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}…"
    kind = type(value)
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return text if kind is str else f"{text} ({where}{kind.__qualname__})"


def _refusal(where: str, fault: str, hint: str) -> ItxError:
    return ItxError(f"{where} {fault}.", code="BAD_REQUEST", details={"where": where}, hint=hint)
