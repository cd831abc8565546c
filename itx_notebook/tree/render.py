"""The tree without a browser: text for terminals, logs and tests; HTML for saved notebooks and static exports.

Both are drawn from the same snapshot that the widget paints from. The text holds no times and no addresses, so that two
runs that did the same look the same. The HTML needs no script, no style sheet and no network.
"""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import msgspec

from itx_notebook.streams.path import get_label
from itx_notebook.tree.arrange import arrange, get_rails
from itx_notebook.tree.values import Snapshot

__all__ = ["render_html", "render_page", "render_text"]

_MAX_ROWS: Final = 500
"""Rows drawn statically at the most; a live view has no such limit."""


def render_text(snapshot: Snapshot) -> str:
    """The visible rows as a drawn tree, one a line."""
    lines = [f"Streams of {snapshot.project['slug']}"]
    rows, hidden = _get_rows(snapshot)
    for row in rows:
        fact = _get_fact(row.node)
        lines.append(f"{row.rails}{row.label}{'  ' + fact if fact else ''}")
    if hidden:
        lines.append(f"… and {hidden:,} more")
    return "\n".join(lines)


def render_html(snapshot: Snapshot, *, remark: str = "") -> str:
    """The visible rows as a table-free block of HTML with inline styles, and below them a `remark`."""
    rows, hidden = _get_rows(snapshot)
    body = "".join(
        f'<div style="white-space:pre;overflow:hidden;text-overflow:ellipsis" title="{escape(row.path)}">'
        f'<span style="opacity:.5">{escape(row.rails)}</span><span>{escape(row.label)}</span>'
        f'<span style="opacity:.7">{"  " + escape(fact) if (fact := _get_fact(row.node)) else ""}</span></div>'
        for row in rows
    )
    if hidden:
        body += f"<div>… and {hidden:,} more</div>"
    taken = datetime.fromtimestamp(snapshot.taken_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        '<div style="font:13px/1.6 ui-monospace,monospace;border:1px solid rgba(128,128,128,.35);'
        'border-radius:4px;padding:6px 10px;max-width:720px">'
        f'<div style="font-weight:600">Streams <span style="opacity:.7">{escape(snapshot.project["slug"])}</span></div>'
        f'{body}<div style="opacity:.7;margin-top:4px">snapshot of {taken}</div>'
        f"{f'<div>{escape(remark)}</div>' if remark else ''}</div>"
    )


def render_page(snapshot: Snapshot) -> str:
    """A whole page of HTML: the visible rows, and the snapshot as JSON for programs. It loads nothing."""
    data = msgspec.json.encode(snapshot).decode().replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Streams of {escape(snapshot.project['slug'])}</title></head>\n"
        f'<body>{render_html(snapshot)}\n<script type="application/json" id="snapshot">{data}</script></body></html>\n'
    )


class _Row:
    __slots__ = ("label", "node", "path", "rails")

    def __init__(self, path: str, label: str, rails: str, node: dict[str, Any] | None) -> None:
        self.path = path
        self.label = label
        self.rails = rails
        self.node = node


def _get_rows(snapshot: Snapshot) -> tuple[list[_Row], int]:
    """The rows to draw, and how many more there would be."""
    nodes = snapshot.nodes

    def get_children(path: str) -> list[str]:
        return [f"{path.rstrip('/')}/{name}" for name in nodes[path]["children"]] if path in nodes else []

    def get_rank(path: str) -> int | None:
        found: int | None = nodes.get(path, {}).get("count" if snapshot.sort == "count" else "active_at")
        return found

    rows = arrange(
        snapshot.root,
        get_children,
        set(snapshot.expanded),
        known=(child for path in nodes for child in get_children(path)),
        text=snapshot.filter,
        get_rank=None if snapshot.sort == "name" else get_rank,
    )
    drawn = rows[:_MAX_ROWS]
    return [
        _Row(path, path if depth == 0 else get_label(path), rails, nodes.get(path))
        for (path, depth), rails in zip(drawn, get_rails(rows, _MAX_ROWS), strict=True)
    ], len(rows) - len(drawn)


def _get_fact(node: dict[str, Any] | None) -> str:
    if node is None:
        return ""
    count = node["count"]
    fact = "" if count is None else f"{count:,} event{'' if count == 1 else 's'}"
    error = node["error"]
    if error is not None:
        fact += f"{'  ' if fact else ''}! {error['code']}: {error['message']}"
    return fact
