"""What is said to be plain must come out of the walk, in both directions, as it went in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook.capnweb.protocol.plain import LEAST_LENGTH, is_plain
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER

EVENTS = [{"seq": seq, "kind": "tick", "v": seq + 0.5, "ok": True, "of": None} for seq in range(LEAST_LENGTH)]

scalars = (
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.integers(-(2**54), 2**54)
    | st.floats(allow_nan=True, allow_infinity=True)
)
keys = st.sampled_from(["a", "b", "c", "toString", "__proto__"]) | st.integers(0, 1)
values = scalars | st.lists(scalars, max_size=1) | st.binary(max_size=1)
columns = st.one_of(
    st.lists(scalars),
    st.lists(st.integers(-(2**54), 2**54)),
    st.lists(st.floats()),
    st.lists(st.text(max_size=2)),
    st.lists(values),
    st.lists(st.dictionaries(keys, values, max_size=3)),
)


def needs_no_change(value: Any) -> bool:
    """The slow and plain definition."""
    match value:
        case None | bool() | str():
            return True
        case int():
            return -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER
        case float():
            return value - value == 0
        case _:
            return False


@given(columns)
def test_what_is_plain_needs_no_change(items: list[Any]) -> None:
    before = copy.deepcopy(items)
    if not is_plain(items):
        return
    assert repr(items) == repr(before)
    for item in items:
        if isinstance(item, dict):
            assert all(type(key) is str and key not in {"toString", "__proto__"} for key in item)
            assert all(needs_no_change(value) for value in item.values())
        else:
            assert needs_no_change(item)


@pytest.mark.parametrize(
    "items",
    [
        EVENTS,
        tuple(EVENTS),
        [MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER],
        [0.5, -1e308],
        ["a", None, True],
        [],
        [{}, {}],
    ],
)
def test_what_is_usual_is_plain(items: list[Any]) -> None:
    assert is_plain(items)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seq": MAX_SAFE_INTEGER + 1}, "an integer JavaScript is not sure of"),
        ({"seq": -MAX_SAFE_INTEGER - 1}, "the same below zero"),
        ({"seq": True}, "a bool among integers"),
        ({"v": float("nan")}, "no number"),
        ({"v": float("-inf")}, "an infinite number"),
        ({"v": 1}, "an integer among floats"),
        ({"kind": b"tick"}, "bytes"),
        ({"kind": ["tick"]}, "a list"),
        ({"of": {}}, "a dict"),
        ({"more": 1}, "one more member"),
        ({"toString": "x"}, "a member that receivers drop"),
        ({1: "x"}, "a key that is no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("index", [0, 3, -1])
def test_one_item_that_is_not_plain_is_seen(change: dict[Any, Any], why: str, index: int) -> None:
    items: list[dict[Any, Any]] = [dict(event) for event in EVENTS]
    items[index].update(change)
    assert not is_plain(items), why


def test_a_scalar_among_dicts_is_not_plain() -> None:
    assert not is_plain([*EVENTS, 1])


def test_members_in_another_order_are_no_harm() -> None:
    items = [{"a": 1, "b": "x"}, {"b": 2**60, "a": "y"}]
    assert not is_plain(items)


def test_an_infinite_sum_of_finite_numbers_is_left_to_the_walk() -> None:
    assert not is_plain([1e308, 1e308])
