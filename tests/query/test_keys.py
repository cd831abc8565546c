from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook.errors import ItxError
from itx_notebook.query.keys import QueryKey, freeze_query_key, hash_query_key, is_key_prefix

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.floats(allow_nan=False, width=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
keys = st.lists(json_values, max_size=4).map(tuple)


def test_hash_is_json_when_parts_are_text() -> None:
    assert hash_query_key(("itx", "project", "prj_1", None)) == '["itx","project","prj_1",null]'


def test_hash_is_the_same_when_object_keys_come_in_another_order() -> None:
    assert hash_query_key(("q", {"a": 1, "b": {"c": 2, "d": 3}})) == hash_query_key(
        ("q", {"b": {"d": 3, "c": 2}, "a": 1})
    )


def test_hash_differs_when_python_calls_the_keys_equal_and_json_does_not() -> None:
    assert [hash_query_key((part,)) for part in (1, True, 1.0, "1")] == ["[1]", "[true]", "[1.0]", '["1"]']


def test_hash_stays_right_when_more_keys_were_seen_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itx_notebook.query.keys._MAX_HASHES", 3)

    assert [hash_query_key((f"many-{n}",)) for n in range(8)] == [f'["many-{n}"]' for n in range(8)]


@pytest.mark.parametrize("key", ["itx", ["itx"], (object(),), ({1, object()},)])
def test_hash_refuses_when_key_is_not_a_tuple_of_json(key: Any) -> None:
    with pytest.raises(ItxError, match="cannot be used") as caught:
        hash_query_key(key)
    assert caught.value.code == "BAD_REQUEST"


def test_hash_refuses_when_key_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(ItxError, match="cannot be used"):
        hash_query_key((loop,))


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ((), ("a", "b"), True),
        (("a",), ("a", "b"), True),
        (("a", "b"), ("a", "b"), True),
        (("a", "b", "c"), ("a", "b"), False),
        (("b",), ("a", "b"), False),
        (("a", {"x": 1}), ("a", {"x": 1, "y": 2}), True),
        (("a", {"x": 1, "y": 2}), ("a", {"x": 1}), False),
        (("a", {"x": {"y": 1}}), ("a", {"x": {"y": 1, "z": 2}}), True),
        (("a", ("b",)), ("a", ["b", "c"]), True),
        (("a", ["b", "c"]), ("a", ["b"]), False),
        ((1,), (True,), False),
        ((1,), ([1],), False),
        (({},), ("a",), False),
    ],
)
def test_prefix_matches_when_it_is_partially_contained(prefix: QueryKey, key: QueryKey, expected: bool) -> None:
    assert is_key_prefix(prefix, key) is expected


@given(keys, st.integers(0, 4))
def test_prefix_matches_when_key_begins_with_it(key: QueryKey, length: int) -> None:
    assert is_key_prefix(key[:length], key)


@given(keys, keys)
def test_prefix_of_equal_length_matches_when_hashes_are_equal(one: QueryKey, other: QueryKey) -> None:
    if hash_query_key(one) == hash_query_key(other):
        assert is_key_prefix(one, other)


@given(keys)
def test_freezing_keeps_identity_when_key_came_out_of_json(key: QueryKey) -> None:
    thawed = list(key)

    assert hash_query_key(freeze_query_key(thawed)) == hash_query_key(key)
