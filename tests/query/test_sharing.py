from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook.query.sharing import share_equal_parts
from itx_notebook.types import StreamState

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "b"]) | st.sampled_from([0.0, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=10,
)


class Unruly:
    """Compares with an answer that is no truth value, as arrays and frames do."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __hash__(self) -> int:
        return 0


def state(event_count: int = 1, child_paths: tuple[str, ...] = ("/a",)) -> StreamState:
    return StreamState(
        namespace="prj_1",
        path="/",
        event_count=event_count,
        child_paths=child_paths,
        metadata={"owner": {"name": "kit"}},
    )


def typed(value: Any) -> Any:
    """A picture of `value` in which 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {name: typed(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(typed, value)]
    return (type(value).__name__, value)


@given(values, values)
def test_sharing_gives_the_new_value_when_asked_with_any_old_one(old: Any, new: Any) -> None:
    before = copy.deepcopy((old, new))

    shared = share_equal_parts(old, new)

    assert typed(shared) == typed(new)
    assert (shared is old) == (typed(old) == typed(new) or old is new)
    assert (typed(old), typed(new)) == tuple(map(typed, before))


@given(values)
def test_sharing_keeps_the_old_object_when_values_are_equal(value: Any) -> None:
    assert share_equal_parts(value, copy.deepcopy(value)) is value


def test_sharing_keeps_equal_parts_when_another_part_differs() -> None:
    old = {"same": [1, {"deep": (1, [2])}], "list": [{"id": 1}, {"id": 2}], "gone": 1}
    new = {"same": [1, {"deep": (1, [2])}], "list": [{"id": 1}, {"id": 3}, {"id": 4}]}

    shared = share_equal_parts(old, new)

    assert shared == new
    assert shared["same"] is old["same"]
    assert shared["list"][0] is old["list"][0]  # type: ignore[index]  # the literal's value type is object


def test_sharing_keeps_the_struct_when_states_are_equal() -> None:
    old = state()

    assert share_equal_parts(old, state()) is old


def test_sharing_keeps_a_structs_parts_when_only_its_count_moved() -> None:
    old = state(1)

    shared = share_equal_parts(old, state(2))

    assert shared == state(2)
    assert shared.child_paths is old.child_paths
    assert shared.metadata is old.metadata


def test_sharing_takes_the_new_value_when_types_differ() -> None:
    assert share_equal_parts({"x": 1}, {"x": True})["x"] is True
    assert type(share_equal_parts((1, 2), (1.0, 2))[0]) is float


def test_sharing_keeps_a_foreign_object_when_it_says_plainly_that_it_is_equal() -> None:
    old, new = Unruly(answer=True), Unruly(answer=True)

    assert share_equal_parts(old, new) is old


@pytest.mark.parametrize("answer", [False, [True, True], ValueError("ambiguous")])
def test_sharing_takes_the_new_object_when_equality_is_not_plain(answer: Any) -> None:
    old, new = Unruly(answer), Unruly(answer)

    assert share_equal_parts([old], [new])[0] is new


def test_sharing_ends_when_values_are_nested_far_deeper_than_documents_are() -> None:
    old: Any = 0
    new: Any = 0
    for _ in range(5000):
        old, new = [old], [new]

    assert share_equal_parts(old, new) is not old


def test_sharing_takes_the_new_struct_when_its_class_differs() -> None:
    class Other(msgspec.Struct):
        event_count: int

    new = Other(event_count=1)

    assert share_equal_parts(state(), new) is new
