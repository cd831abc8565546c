"""The one JSON codec, and the check that a value survives it unchanged.

msgspec is fast but obliging: it writes NaN as ``null``, an integer key as a string and bytes as base64. A durable log
may not oblige in silence, so whatever a person hands in is looked at first, and refused with the place of the fault.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from itx_notebook.errors import ItxError

__all__ = ["check_json", "decode_json", "encode_json"]

_TEXTUAL: Final = (datetime, date, UUID, Decimal)
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


def _scalar_of_array_library(value: Any) -> Any:
    """msgspec's hook for foreign types: a numpy or pandas scalar becomes the Python number it holds."""
    if hasattr(value, "dtype") and hasattr(value, "item"):
        return value.item()
    raise NotImplementedError


encode_json: Final = msgspec.json.Encoder(enc_hook=_scalar_of_array_library).encode
"""Compact UTF-8 JSON of a checked value."""

decode_json: Final = msgspec.json.Decoder().decode
"""Any JSON value from UTF-8 bytes or text; raises :class:`msgspec.DecodeError`."""


def check_json(value: Any, where: str) -> None:
    """Raise ``BAD_REQUEST`` if `value` would not come back from the log as it went in.

    Dates, UUIDs and decimals are allowed and become strings; tuples become lists; numpy scalars become numbers.

    Parameters
    ----------
    value : Any
        The value as the caller gave it.
    where : str
        Its name in the error, for example ``"payload"``.
    """
    try:
        _check(value, where)
    except RecursionError:
        raise ItxError(
            f"{where} is nested too deeply or contains itself.",
            code="BAD_REQUEST",
            hint="Flatten it, or append its parts as events of their own.",
        ) from None


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise _refusal(where, f"has the key {key!r}, which is not a string", "Use string keys.")
            if not key.isascii():
                _check_text(key, f"a key of {where}")
            if not _is_plain(item):
                _check(item, f"{where}.{key}")
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            if not _is_plain(item):
                _check(item, f"{where}[{index}]")
    elif not _is_plain(value):
        _check_leaf(value, where)


def _check_leaf(value: Any, where: str) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value, where)
    elif kind is float:
        if not math.isfinite(value):
            raise _refusal(where, f"is {value!r}, which JSON cannot say", "Use None for a missing number.")
    elif kind is int:
        raise _refusal(where, f"is {value!r}, outside 64 bits", "Write it as a string.")
    elif isinstance(value, _TEXTUAL):
        return
    elif hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        _check(value.item(), where)
    else:
        raise _refusal(where, f"is {_short(value)}, not a JSON value", "Convert it first: str(), list(), int() …")


def _is_plain(value: Any) -> bool:
    """Whether a leaf is beyond doubt: the quick way for nearly every value, and no name is built for it."""
    kind = type(value)
    if kind is str:
        return cast("str", value).isascii()
    if kind is int:
        return bool(_INT_MIN <= value <= _INT_MAX)
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
