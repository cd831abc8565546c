from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from itx_notebook.tree import Connection, Snapshot, render_html, render_page, render_text


def _node(*children: str, count: int | None = 0, error: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"state": "loaded", "count": count, "children": list(children), "error": error, "updated_at": 1}


def _snapshot(nodes: dict[str, dict[str, Any]], *, expanded: tuple[str, ...] = ("/",), **other: Any) -> Snapshot:
    facts: dict[str, Any] = {
        "version": 1,
        "seq": 0,
        "session": "s",
        "taken_at": 1_780_000_000_000,
        "project": {"id": "prj_1", "slug": "demo"},
        "root": "/",
        "selected": None,
        "connection": Connection("live", 0),
    }
    return Snapshot(nodes=nodes, expanded=list(expanded), **{**facts, **other})


_TREE = {
    "/": _node("orders", "agents", "b", count=1),
    "/agents": _node("z", "a", count=827),
    "/agents/a": _node("deep", count=1_234_567),
    "/orders": _node("hidden", count=None),
}


def test_text_is_the_visible_rows_sorted_with_rails_and_counts() -> None:
    assert render_text(_snapshot(_TREE, expanded=("/", "/agents", "/agents/a"))).splitlines() == [
        "Streams of demo",
        "/  1 event",
        "├─ agents  827 events",
        "│  ├─ a  1,234,567 events",
        "│  │  └─ deep",
        "│  └─ z",
        "├─ b",
        "└─ orders",
    ]


def test_text_of_two_moments_is_the_same() -> None:
    one, other = _snapshot(_TREE), _snapshot(_TREE, taken_at=1, session="t", seq=9)
    assert render_text(one) == render_text(other)


def test_text_with_the_root_collapsed_is_one_row() -> None:
    assert render_text(_snapshot(_TREE, expanded=("/agents",))) == "Streams of demo\n/  1 event"


def test_text_of_a_subtree_begins_with_its_full_path() -> None:
    text = render_text(_snapshot(_TREE, root="/agents", expanded=("/agents",)))
    assert text.splitlines() == ["Streams of demo", "/agents  827 events", "├─ a  1,234,567 events", "└─ z"]


def test_text_before_anything_is_known_is_the_root() -> None:
    assert render_text(_snapshot({})) == "Streams of demo\n/"


def test_text_of_an_error_stands_on_its_row_beside_the_data() -> None:
    error = {"code": "INTERNAL", "message": "broken", "hint": None, "details": None}
    nodes = {"/": _node("a", "b", count=3, error=error), "/a": _node(count=None, error=error), "/b": _node(count=2)}
    assert render_text(_snapshot(nodes)).splitlines() == [
        "Streams of demo",
        "/  3 events  ! INTERNAL: broken",
        "├─ a  ! INTERNAL: broken",
        "└─ b  2 events",
    ]


def test_text_and_html_of_very_many_rows_say_how_many_are_left_out() -> None:
    nodes = {"/": _node(*(f"c{n:04}" for n in range(1_700)))}
    lines = render_text(_snapshot(nodes)).splitlines()
    assert (len(lines), lines[1], lines[-1]) == (1 + 500 + 1, "/  0 events", "… and 1,201 more")
    html = render_html(_snapshot(nodes))
    assert html.count("title=") == 500
    assert "… and 1,201 more" in html


class _Page(HTMLParser):
    """Text and tags of a piece of HTML, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.depth = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        self.depth += 1

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("evil", ["<script>alert(1)", '"><img src=x onerror=alert(1)>', "a&lt;b", "'"])
def test_html_of_hostile_names_shows_them_as_text(evil: str) -> None:
    error = {"code": "INTERNAL", "message": evil, "hint": None, "details": None}
    nodes = {"/": _node(evil, count=1, error=error)}
    page = _Page(render_html(_snapshot(nodes, project={"id": "p", "slug": evil})))
    assert page.tags == {"div", "span"}
    assert page.depth == 0
    assert page.text.count(evil) == 3


def test_html_shows_the_rows_of_the_text_and_says_of_when_it_is() -> None:
    snapshot = _snapshot(_TREE, expanded=("/", "/agents"))
    page = _Page(render_html(snapshot))
    for line in render_text(snapshot).splitlines()[1:]:
        assert line in page.text
    assert page.text.endswith("snapshot of 2026-05-28 20:26:40 UTC")


def test_page_holds_rows_and_data_and_loads_nothing() -> None:
    snapshot = _snapshot({"/": _node("</script><b>", count=1)})
    page = render_page(snapshot)
    assert render_html(snapshot) in page
    found = re.search(r'<script type="application/json" id="snapshot">(.*?)</script>', page)
    assert found
    assert msgspec.json.decode(found[1]) == msgspec.to_builtins(snapshot)
    assert not re.search(r"https?:|src=|href=", page)
