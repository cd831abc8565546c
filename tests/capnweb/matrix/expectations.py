"""What every check must give, for each client and server: read from data that both languages share.

``checks.json`` holds the names of all checks and what is right; a ``value-…`` check sends one value three ways, and
stands there with the value alone. ``differences.json`` holds what a version does otherwise, and why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["CHECKS", "DIFFERENCES", "expect", "find_mismatches"]

_FOLDER: Final = Path(__file__).parent
_CLEAN: Final = [1, 1, 1, 1]
_FIRST_DOUBLE: Final = 2**53
_WAYS: Final = ("seen", "given", "echoed")


def _read(name: str) -> Any:
    return json.loads((_FOLDER / name).read_text(encoding="utf-8"))


CHECKS: Final[Mapping[str, Any]] = {
    name: right for group in _read("checks.json").values() for name, right in group.items()
}
"""Names of all checks, in order, and what is right."""

DIFFERENCES: Final[Sequence[Mapping[str, Any]]] = _read("differences.json")
"""What some peer does otherwise: ``why``, ``client``, ``server``, and ``cases``: parts of a result by check."""


def _is_meant(chosen: str | None, peer: str) -> bool:
    return chosen in (None, peer) or (chosen == "js" and peer != "ours")


def expect(name: str, client: str, server: str) -> dict[str, Any]:
    """What a check must give between these two; ``tables`` is None where both ends' tables must be empty again."""
    right = CHECKS[name]
    if name.startswith("value-"):
        right = dict.fromkeys(_WAYS, right)
    expected: dict[str, Any] = {"got": right, "tables": None, "noise": []}
    for difference in DIFFERENCES:
        patch = difference["cases"].get(name)
        if patch is None:
            continue
        if _is_meant(difference.get("client"), client) and _is_meant(difference.get("server"), server):
            expected |= {part: value for part, value in patch.items() if part != "parts"}
            if "parts" in patch:
                expected["got"] = {**expected["got"], **patch["parts"]}
    return expected


def find_mismatches(results: Sequence[Mapping[str, Any]], client: str, server: str) -> list[str]:
    """A line for each part of a result that is not as expected."""
    lines = []
    for result in results:
        name = result["name"]
        expected = expect(name, client, server)
        if expected["tables"] is None:
            expected["tables"] = [_CLEAN] * len(result["tables"])
        for part, wanted in expected.items():
            got, wanted = _as_text(result[part]), _as_text(wanted)
            if got != wanted:
                lines.append(f"{name}: {part} is {got}, not {wanted}")
    return lines


def _as_text(value: Any) -> str:
    """A result as text to compare: JavaScript cannot tell 5.0 from 5, and prints large doubles as digits."""
    return json.dumps(_as_javascript(value), sort_keys=True)


def _as_javascript(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_javascript(item) for item in value]
    if isinstance(value, dict):
        return {name: _as_javascript(item) for name, item in value.items()}
    if isinstance(value, float) and value.is_integer() and abs(value) < _FIRST_DOUBLE:
        return int(value)
    if type(value) is int and abs(value) >= _FIRST_DOUBLE:
        return float(value)
    return value
