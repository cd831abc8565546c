from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itx_notebook.tree import SORTS, Connection, Node, NodeError, TreeModel
from tests.tree.applier import apply_patch


def _make_model(top: str = "/", /, **children: tuple[str, ...]) -> TreeModel:
    """A model that knows the children of ``/`` (``root``) and of others by the name of their first segment."""
    model = TreeModel(top, Connection("live", 0))
    for name, paths in children.items():
        model.set_node("/" if name == "root" else f"/{name}", Node("loaded", count=len(paths), child_paths=paths))
    model.take_patch()
    return model


def _snapshot(model: TreeModel, seq: int = 0) -> dict[str, Any]:
    return {
        "seq": seq,
        "nodes": copy.deepcopy(model.get_nodes()),
        "expanded": sorted(model.expanded),
        "selected": model.selected,
        "filter": model.filter,
        "sort": model.sort,
        "connection": msgspec.to_builtins(model.connection),
    }


def test_rows_at_first_are_the_root_and_its_children_by_name() -> None:
    model = _make_model(root=("/b", "/a", "/_c"))
    assert model.get_visible() == [("/", 0), ("/_c", 1), ("/a", 1), ("/b", 1)]
    assert model.get_wanted() == ["/"]


def test_rows_before_anything_is_known_are_the_root_alone() -> None:
    model = _make_model()
    assert (model.get_visible(), model.get_wanted()) == ([("/", 0)], ["/"])


def test_rows_after_expanding_show_what_is_known_below() -> None:
    model = _make_model(root=("/a", "/b"), a=("/a/y", "/a/x"))
    model.expand("/a")
    assert model.get_visible() == [("/", 0), ("/a", 1), ("/a/x", 2), ("/a/y", 2), ("/b", 1)]
    assert model.get_wanted() == ["/", "/a"]


def test_rows_after_collapsing_hide_what_is_below_and_reopening_shows_it_as_it_was() -> None:
    model = _make_model(root=("/a",), a=("/a/x",))
    model.expand("/a")
    model.expand("/a/x")
    model.collapse("/a")
    assert model.get_visible() == [("/", 0), ("/a", 1)]
    assert model.get_wanted() == ["/"]
    model.expand("/a")
    assert model.get_wanted() == ["/", "/a", "/a/x"]


def test_rows_after_collapsing_the_root_are_the_root_which_is_still_wanted() -> None:
    model = _make_model(root=("/a",))
    model.collapse("/")
    assert (model.get_visible(), model.get_wanted()) == ([("/", 0)], ["/"])


def test_wanted_does_not_ask_for_an_expanded_path_that_its_parent_does_not_name() -> None:
    model = _make_model(root=("/a",))
    model.expand("/nowhere")
    model.expand("/a/unknown")
    assert model.get_wanted() == ["/"]


def test_selecting_opens_the_way_and_asks_for_it_before_any_parent_is_known() -> None:
    model = _make_model()
    model.select("/a/b/c")
    assert model.expanded == {"/", "/a", "/a/b"}
    assert model.get_wanted() == ["/", "/a", "/a/b", "/a/b/c"]
    assert model.take_patch() == {"selected": "/a/b/c", "expand": ["/a", "/a/b"]}


def test_selecting_another_keeps_what_was_opened_by_hand() -> None:
    model = _make_model(root=("/a", "/b"))
    model.expand("/b")
    model.select("/a/x")
    model.select(None)
    assert model.expanded == {"/", "/a", "/b"}
    assert model.selected is None


def test_selecting_outside_the_root_asks_for_nothing_there() -> None:
    model = _make_model("/agents")
    model.select("/orders/1")
    assert (model.expanded, model.get_wanted()) == ({"/agents"}, ["/agents"])


def test_selecting_a_sibling_whose_name_begins_like_the_root_is_outside() -> None:
    model = _make_model("/agents")
    model.select("/agents-old/1")
    assert model.get_wanted() == ["/agents"]


def test_the_way_to_the_current_path_is_wanted_also_when_its_parent_is_collapsed() -> None:
    model = _make_model(root=("/a",), a=("/a/x",))
    model.select("/a/x")
    model.collapse("/a")
    assert model.get_wanted() == ["/", "/a", "/a/x"]
    assert model.get_visible() == [("/", 0), ("/a", 1)]


def test_patch_of_a_first_node_is_the_whole_node_with_last_segments() -> None:
    model = _make_model()
    model.set_node("/", Node("loaded", count=3, child_paths=("/b", "/a"), updated_at=5))
    assert model.take_patch() == {
        "nodes": {
            "/": {
                "state": "loaded",
                "count": 3,
                "children": ["b", "a"],
                "error": None,
                "updated_at": 5,
                "active_at": None,
            }
        }
    }
    assert model.take_patch() == {}
    assert not model.has_changes


def test_patch_of_an_update_holds_what_changed_alone() -> None:
    model = _make_model(root=("/a",))
    children = model.nodes["/"].child_paths
    model.set_node("/", Node("loaded", count=9, child_paths=children))
    assert model.take_patch() == {"nodes": {"/": {"count": 9}}}
    model.set_node("/", Node("loaded", count=9, child_paths=children))
    assert not model.has_changes


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("/a", "/b"), ("/a", "/b", "/c")], {"added": ["b", "c"]}),
        ([("/x",), ("/x", "/y")], {"children": ["x", "y"]}),
        ([("/a", "/b"), ("/x",)], {"children": ["x"]}),
        ([()], {"children": []}),
        ([("/a", "/b"), ("/a",)], {"children": ["a"]}),
    ],
    ids=["added-twice", "replaced-then-added", "added-then-replaced", "emptied", "added-then-taken-back"],
)
def test_patch_of_several_changes_of_children_is_one_that_leads_to_the_last(
    steps: list[tuple[str, ...]], expected: dict[str, Any]
) -> None:
    model = _make_model(root=("/a",))
    before = _snapshot(model)
    for paths in steps:
        model.set_node("/", Node("loaded", count=1, child_paths=paths))
    patch = model.take_patch()
    assert patch == {"nodes": {"/": expected}}
    assert apply_patch(before, 1, patch) == _snapshot(model, 1)


def test_patch_of_opening_and_closing_within_a_frame_tells_the_last_only() -> None:
    model = _make_model(root=("/a",))
    model.expand("/a")
    model.collapse("/a")
    model.expand("/a")
    assert model.take_patch() == {"expand": ["/a"]}


def test_patch_of_a_connection_comes_when_it_changes_only() -> None:
    model = _make_model()
    model.set_connection(Connection("live", 99))
    assert not model.has_changes
    model.set_connection(Connection("reconnecting", 100, "gone"))
    assert model.take_patch() == {"connection": {"state": "reconnecting", "since": 100, "detail": "gone"}}


def test_connection_that_stays_cut_off_for_another_reason_keeps_the_time_it_began() -> None:
    model = _make_model()
    model.set_connection(Connection("reconnecting", 100, "the watch ended"))
    model.set_connection(Connection("reconnecting", 200, "the engine is closed"))
    assert model.connection == Connection("reconnecting", 100, "the engine is closed")


def test_patch_once_taken_is_not_changed_by_what_comes_later() -> None:
    model = _make_model(root=("/a",))
    model.set_node("/", Node("loaded", count=1, child_paths=("/a", "/b")))
    first = model.take_patch()
    kept = copy.deepcopy(first)
    model.set_node("/", Node("loaded", count=2, child_paths=("/a", "/b", "/c")))
    model.expand("/a")
    assert first == kept


@pytest.mark.parametrize("size", [10, 1_000, 100_000])
def test_patch_of_one_update_does_not_grow_with_the_tree(size: int) -> None:
    children = tuple(f"/c{n:06}" for n in range(size))
    model = _make_model()
    model.set_node("/", Node("loaded", count=1, child_paths=children, updated_at=1))
    model.take_patch()
    model.set_node("/", Node("loaded", count=2, child_paths=children, updated_at=2))
    assert model.take_patch() == {"nodes": {"/": {"count": 2, "updated_at": 2}}}
    model.set_node("/", Node("loaded", count=3, child_paths=(*children, "/new"), updated_at=2))
    assert model.take_patch() == {"nodes": {"/": {"count": 3, "added": ["new"]}}}


# -- patches against snapshots ---------------------------------------------------------------------------------------

_PATHS = ["/", "/a", "/b", "/a/x", "/a/y", "/a/x/deep", "/c"]
_ERRORS = st.sampled_from([None, NodeError("INTERNAL", "broken"), NodeError("NOT_FOUND", "gone", "look", '{"a":1}')])
_NAMES = st.lists(st.sampled_from(["x", "y", "z", "deep"]), unique=True)


def _node(path: str, state: Any, count: int | None, names: list[str], error: NodeError | None) -> Node:
    prefix = "" if path == "/" else path
    return Node(state, count, tuple(f"{prefix}/{name}" for name in names), error, count)


_paths = st.sampled_from(_PATHS)
_changes: st.SearchStrategy[Callable[[TreeModel], None]] = st.one_of(
    st.builds(
        lambda path, state, count, names, error: (
            lambda model: model.set_node(path, _node(path, state, count, names, error))
        ),
        _paths,
        st.sampled_from(["unloaded", "loading", "loaded", "error"]),
        st.none() | st.integers(0, 3),
        _NAMES,
        _ERRORS,
    ),
    # What a stream really does: it only ever gets further children.
    st.builds(lambda path, name: lambda model: _grow(model, path, name), _paths, st.sampled_from("xyzw")),
    st.builds(lambda path: lambda model: model.expand(path), _paths),
    st.builds(lambda path: lambda model: model.collapse(path), _paths),
    st.builds(lambda path: lambda model: model.select(path), st.none() | _paths),
    st.builds(lambda text: lambda model: model.set_filter(text), st.sampled_from(["", "a", "/a/x", "none"])),
    st.builds(lambda path: lambda model: model.reveal(path), _paths),
    st.builds(lambda sort: lambda model: model.set_sort(sort), st.sampled_from(SORTS)),
    st.builds(
        lambda path, offset, at: lambda model: model.set_active(path, offset, at),
        _paths,
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.builds(lambda path: lambda model: model.look(path), _paths),
    st.builds(
        lambda state, since, detail: lambda model: model.set_connection(Connection(state, since, detail)),
        st.sampled_from(["live", "reconnecting", "closed"]),
        st.integers(0, 3),
        st.none() | st.just("why"),
    ),
)


def _grow(model: TreeModel, path: str, name: str) -> None:
    known = model.nodes.get(path, Node("loaded"))
    child = f"{path.rstrip('/')}/{name}"
    if child not in known.child_paths:
        model.set_node(path, msgspec.structs.replace(known, child_paths=(*known.child_paths, child)))


@settings(max_examples=250, deadline=None)
@given(
    start=st.lists(_changes, max_size=8),
    frames=st.lists(st.lists(_changes, max_size=6), max_size=6),
    root=st.sampled_from(["/", "/a"]),
)
def test_patches_applied_to_the_first_snapshot_give_the_last(
    start: list[Callable[[TreeModel], None]], frames: list[list[Callable[[TreeModel], None]]], root: str
) -> None:
    model = TreeModel(root, Connection("live", 0))
    for change in start:
        change(model)
    model.take_patch()
    view, seq = _snapshot(model), 0
    for frame in frames:
        for change in frame:
            change(model)
        patch = msgspec.json.decode(msgspec.json.encode(model.take_patch()))
        if patch:
            seq += 1
            view = apply_patch(view, seq, patch)
        assert view == _snapshot(model, seq)
    rows = [path for path, _ in model.get_visible()]
    assert len(rows) == len(set(rows))
    assert set(model.get_wanted()) >= {root}


def test_reveal_opens_the_way_and_ends_a_search_that_hides_it() -> None:
    model = _make_model(root=("/a",))
    model.set_filter("x")
    model.reveal("/a/b/c")
    assert model.take_patch() == {"filter": "", "expand": ["/a", "/a/b"], "reveal": "/a/b/c"}
    model.set_filter("B/C")
    model.reveal("/a/b/c")
    assert model.take_patch() == {"filter": "B/C", "reveal": "/a/b/c"}
    assert model.selected is None


def test_wanted_below_one_huge_parent_looks_at_each_child_once() -> None:
    compared = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    children = tuple(Counted(f"/s{n}") for n in range(1_000))
    model = _make_model(root=children)
    for child in children:
        model.expand(str(child))
    compared = 0
    assert len(model.get_wanted()) == 1_001
    assert compared < 5_000
    grown = (*children, "/new")
    model.set_node("/", Node("loaded", child_paths=grown))
    model.expand("/new")
    assert "/new" in model.get_wanted()


def test_turned_tells_what_has_become_wanted_and_what_no_longer_is() -> None:
    model = _make_model(root=("/a",), a=("/a/x",))
    assert model.take_turned() == ["/"]
    model.expand("/a")
    model.expand("/a/x")
    assert sorted(model.take_turned()) == ["/a", "/a/x"]
    model.collapse("/a")
    assert sorted(model.take_turned()) == ["/a", "/a/x"]
    assert [model.is_wanted(path) for path in ("/", "/a", "/a/x")] == [True, False, False]
    model.look("/b")
    model.select("/a/x")
    assert sorted(model.take_turned()) == ["/a", "/a/x", "/b"]
    assert all(model.is_wanted(path) for path in ("/", "/a", "/a/x", "/b"))
    assert model.take_turned() == []


def test_unread_goes_on_behind_what_was_read_and_takes_in_what_is_new() -> None:
    model = _make_model(root=("/a", "/b", "/c"))
    model.set_filter("x")
    assert model.get_unread((), 2) == ["/a", "/b"]
    for path in ("/a", "/c"):
        model.set_node(path, Node("loaded", count=0))
    assert model.get_unread((), 9) == ["/b"]
    model.set_node("/b", Node("loaded", count=0))
    assert model.get_unread((), 9) == []
    model.set_node("/", Node("loaded", child_paths=("/a", "/b", "/c", "/d")))
    assert model.get_unread((), 9) == ["/d"]
    model.set_node("/", Node("loaded", child_paths=("/e", "/a")))
    assert model.get_unread((), 9) == ["/e"]
