from __future__ import annotations

from itx_notebook.tree import Connection, Node, TreeModel, render_text
from itx_notebook.tree.arrange import arrange, get_rails
from itx_notebook.tree.values import Snapshot


def _make_model(**counts: int) -> TreeModel:
    """``/agents`` with ``cows`` and ``pigs`` known to the model, ``/orders`` only named."""
    model = TreeModel("/", Connection("live", 0))
    model.set_node("/", Node("loaded", count=9, child_paths=("/agents", "/orders")))
    model.set_node("/agents", Node("loaded", count=2, child_paths=("/agents/cows", "/agents/pigs")))
    for name, count in counts.items():
        model.set_node(f"/agents/{name}", Node("loaded", count=count))
    model.take_patch()
    return model


def test_search_keeps_ancestors_opens_them_and_gives_the_expansion_back() -> None:
    model = _make_model()
    model.set_filter(" COWS ")
    assert model.get_visible() == [("/", 0), ("/agents", 1), ("/agents/cows", 2)]
    assert model.get_wanted() == ["/"], "a search watches nothing"
    model.set_filter("")
    assert model.get_visible() == [("/", 0), ("/agents", 1), ("/orders", 1)]
    assert model.take_patch() == {"filter": ""}


def test_search_looks_at_the_whole_path() -> None:
    model = _make_model()
    model.set_filter("nts/p")
    assert [path for path, _ in model.get_visible()] == ["/", "/agents", "/agents/pigs"]
    model.set_filter("agents")
    assert [path for path, _ in model.get_visible()] == ["/", "/agents", "/agents/cows", "/agents/pigs"]


def test_search_that_finds_nothing_keeps_the_root() -> None:
    model = _make_model()
    model.set_filter("horses")
    assert model.get_visible() == [("/", 0)]


def test_search_asks_about_what_is_named_and_unread_from_the_root_down() -> None:
    model = _make_model(cows=1)
    assert model.get_unread((), 9) == []
    model.set_filter("horses")
    assert model.get_unread((), 9) == ["/orders", "/agents/pigs"]
    assert model.get_unread({"/orders"}, 9) == ["/agents/pigs"]
    assert model.get_unread((), 1) == ["/orders"]


def test_order_by_count_puts_the_largest_first_and_the_unknown_last() -> None:
    model = _make_model(pigs=5, cows=3)
    model.expand("/agents")
    model.set_sort("count")
    assert [path for path, _ in model.get_visible()] == ["/", "/agents", "/agents/pigs", "/agents/cows", "/orders"]
    assert model.get_unread((), 9) == ["/orders"], "what is visible, and nothing below it"


def test_order_by_activity_asks_when_and_puts_the_newest_first() -> None:
    model = _make_model(pigs=5, cows=3)
    model.expand("/agents")
    model.set_sort("activity")
    assert dict(model.get_undated((), 9)) == {"/": 9, "/agents": 2, "/agents/pigs": 5, "/agents/cows": 3}
    model.set_active("/agents/pigs", 5, 100)
    model.set_active("/agents/cows", 3, 200)
    model.set_active("/unknown", 1, 300)
    model.set_active("/", 8, 300)
    assert [path for path, _ in model.get_visible()][2:4] == ["/agents/cows", "/agents/pigs"]
    assert model.get_undated({("/", 9), ("/agents", 1)}, 9) == [("/agents", 2)]


def test_rows_of_equal_rank_stand_by_name() -> None:
    rows = arrange("/", lambda path: ["/c", "/a", "/b"] if path == "/" else [], {"/"}, get_rank=lambda _: 1)
    assert [path for path, _ in rows] == ["/", "/a", "/b", "/c"]


def test_rails_join_what_hangs_together() -> None:
    rows = [("/", 0), ("/a", 1), ("/a/x", 2), ("/a/x/y", 3), ("/b", 1), ("/b/z", 2)]
    rails = ["", "├─ ", "│  └─ ", "│     └─ ", "└─ ", "   └─ "]
    assert get_rails(rows, 9) == rails
    for limit in range(len(rows)):
        assert get_rails(rows, limit) == rails[:limit], "what is not drawn still hangs below what is"


def test_text_of_a_searched_and_ordered_tree_shows_what_the_browser_shows() -> None:
    model = _make_model(pigs=5, cows=30)
    snapshot = Snapshot(
        version=1,
        seq=0,
        session="s",
        taken_at=0,
        project={"id": "prj_1", "slug": "demo"},
        root="/",
        nodes=model.get_nodes(),
        expanded=["/"],
        selected=None,
        filter="agents/",
        sort="count",
        connection=model.connection,
    )
    assert render_text(snapshot).splitlines()[1:] == [
        "/  9 events",
        "└─ agents  2 events",
        "   ├─ cows  30 events",
        "   └─ pigs  5 events",
    ]
