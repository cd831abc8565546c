from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from itx_notebook.tree.opened import OpenNodes

_SEGMENTS = ("a", "b", "c")
_PATHS = [
    "/",
    *(f"/{a}" for a in _SEGMENTS),
    *(f"/{a}/{b}" for a in _SEGMENTS for b in _SEGMENTS),
    "/a/b/c",
    "/a/b/c/a",
]


def _get_in_sight(root: str, open_: set[str], children: dict[str, tuple[str, ...]]) -> set[str]:
    """By walking down from the root."""
    seen, pending = set(), [root] if root in open_ else []
    while pending:
        seen.add(path := pending.pop())
        pending += [child for child in children.get(path, ()) if child in open_]
    return seen


@given(
    root=st.sampled_from(["/", "/a"]),
    changes=st.lists(
        st.tuples(
            st.sampled_from(["open", "close", "replace", "grow", "look"]),
            st.sampled_from(_PATHS),
            st.lists(st.sampled_from(_SEGMENTS), unique=True),
        ),
        max_size=40,
    ),
)
def test_what_is_in_sight_is_what_a_walk_from_the_root_would_find(
    root: str, changes: list[tuple[str, str, list[str]]]
) -> None:
    children: dict[str, tuple[str, ...]] = {}
    nodes = OpenNodes(root, lambda path: children.get(path, ()))
    known = set(nodes.take_turned())
    assert known == {root}
    for kind, path, segments in changes:
        match kind:
            case "open":
                nodes.open(path)
            case "close":
                nodes.close(path)
            case "replace" | "grow":
                told = tuple(f"{path.rstrip('/')}/{segment}" for segment in segments)
                had = children.get(path, ()) if kind == "grow" else ()
                children[path] = (*had, *(child for child in told if child not in had))
                nodes.note_children(path)
            case _:
                known ^= {turned for turned in nodes.take_turned() if (turned in known) != (turned in nodes.in_sight)}
                assert known == nodes.in_sight
        assert nodes.in_sight == _get_in_sight(root, nodes.paths, children)
        in_rows = {root} | {child for open_ in nodes.in_sight for child in children.get(open_, ())}
        assert {row for row in _PATHS if nodes.is_row(row)} == in_rows & set(_PATHS)


def test_opening_one_of_many_looks_at_no_other() -> None:
    compared = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    children = {"/": tuple(Counted(f"/s{n}") for n in range(1_000))}
    nodes = OpenNodes("/", lambda path: children.get(path, ()))
    for child in children["/"]:
        nodes.open(str(child))
    compared = 0
    nodes.close("/s500")
    nodes.open("/s500")
    assert compared < 10
    assert len(nodes.in_sight) == 1_001
