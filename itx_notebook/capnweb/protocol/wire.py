"""The text of a message: JSON to a tree and back, and the digits of big integers.

msgspec does nearly all of it. Two things it refuses are legal here, because JavaScript's strings are sequences of
16-bit units: half a surrogate pair on its own, sent and received. For those the standard library's codec steps in. Both
refuse what JSON does not know (``NaN``, ``Infinity``, numbers beyond a double).
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import msgspec

from itx_notebook.capnweb.protocol.errors import RpcProtocolError

__all__ = ["MAX_SAFE_INTEGER", "decode", "encode", "format_bigint", "parse_bigint"]

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The last integer of which JavaScript's numbers are sure."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
# Python converts at most 4300 digits at once (sys.set_int_max_str_digits), whatever the number.
_DIGITS_AT_ONCE: Final = 4_000


def encode(tree: Any) -> bytes:
    """Return the message's UTF-8 text. The tree holds JSON's own types only: the serializer has seen to that."""
    try:
        return _encode(tree)
    except UnicodeEncodeError:
        text = json.dumps(tree, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_expand)
        return text.encode("ascii")


def _expand(value: Any) -> Any:
    """Text that was written before, which only msgspec can take over as it stands."""
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    raise TypeError(f"{value!r} is no part of a message")


def decode(message: bytes) -> Any:
    """Return the tree of one message; raise :class:`RpcProtocolError` if it is not JSON."""
    try:
        return _decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"\\u" not in message or isinstance(error, RecursionError):
            raise RpcProtocolError(f"bad RPC message: {error}") from None
    try:
        return json.loads(message, parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise RpcProtocolError(f"bad RPC message: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"Number out of range: {digits[:40]}")
    return value


def _parse_int(digits: str) -> int | float:
    # A number that long is a double that JavaScript printed with all its digits.
    return int(digits) if len(digits) < 20 else _parse_float(digits)


def parse_bigint(text: str) -> int:
    """Return the integer of decimal `text`; raise :class:`RpcProtocolError` if it is none.

    Unlike JavaScript's ``BigInt`` it takes neither the empty string nor hexadecimal.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise RpcProtocolError(f"bad RPC message: not a bigint: {text[:40]!r}")
    value = 0
    for start in range(0, len(digits), _DIGITS_AT_ONCE):
        part = digits[start : start + _DIGITS_AT_ONCE]
        value = value * 10 ** len(part) + int(part)
    return -value if text.startswith("-") else value


def format_bigint(value: int, max_digits: int) -> str:
    """Return the decimal digits of `value`; raise ``TypeError`` if there are more than `max_digits` characters."""
    # 2^k has k * log10(2) digits; the exact count is looked at where the estimate lets it pass.
    if value.bit_length() * 0.30102 > max_digits + 1:
        raise TypeError(f"Cannot serialize value: an integer of more than {max_digits} digits.")
    parts: list[str] = []
    rest, unit = abs(value), 10**_DIGITS_AT_ONCE
    while rest >= unit:
        rest, part = divmod(rest, unit)
        parts.append(f"{part:0{_DIGITS_AT_ONCE}d}")
    parts.append(f"{'-' if value < 0 else ''}{rest}")
    text = "".join(reversed(parts))
    if len(text) > max_digits:
        raise TypeError(f"Cannot serialize value: an integer of more than {max_digits} digits.")
    return text
