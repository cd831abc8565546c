"""Which rows a tree has and in what order: a pure function of what is known, what is open, the search and the order.

Apart from the model because a saved snapshot is drawn by the same rules (``js/src/arrange.ts`` is the twin in the
browser). Every cost is that of one walk over what is known or open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Final, Literal, get_args

from itx_notebook.streams.path import ROOT, get_parent

__all__ = ["SORTS", "Sort", "arrange", "get_rails"]

Sort = Literal["name", "activity", "count"]
"""Order of siblings: by code point, by newest event, or by number of events; the last two from the largest down."""

SORTS: Final[tuple[str, ...]] = get_args(Sort)


def arrange(
    root: str,
    get_children: Callable[[str], Iterable[str]],
    expanded: Collection[str],
    *,
    known: Iterable[str] = (),
    text: str = "",
    get_rank: Callable[[str], int | None] | None = None,
) -> list[tuple[str, int]]:
    """The rows as ``(path, depth)`` from the root down.

    Parameters
    ----------
    get_children : callable
        Full paths of the known children of a path.
    expanded : collection of str
        What is open. A search opens everything and takes no notice of it.
    known : iterable of str
        The paths a search looks through.
    text : str
        Kept are the paths that hold it, whatever its case, and the way to them. Blank: no search.
    get_rank : callable, optional
        Larger ranks come first, ``None`` last, equals by name. Without it: by name.
    """
    wanted = text.strip().lower()
    kept: set[str] | None = None
    if wanted:
        kept = {root}
        for path in known:
            if wanted in path.lower():
                kept.add(path)
                while path != ROOT and (path := get_parent(path)) not in kept:
                    kept.add(path)

    def get_key(path: str) -> tuple[int, str]:
        rank = None if get_rank is None else get_rank(path)
        return (1 if rank is None else -rank, path)

    order = None if get_rank is None else get_key

    rows: list[tuple[str, int]] = []
    pending = [(root, 0)]
    while pending:
        path, depth = pending.pop()
        rows.append((path, depth))
        if kept is not None or path in expanded:
            children = [child for child in get_children(path) if kept is None or child in kept]
            pending += [(child, depth + 1) for child in sorted(children, key=order, reverse=True)]
    return rows


def get_rails(rows: list[tuple[str, int]], limit: int) -> list[str]:
    """What is drawn before each of the first `limit` rows so that one sees what hangs below what."""
    going_on: set[int] = set()
    least: float = inf
    # Of the rest counts only what goes on at its begin: what nothing less deep stands before.
    for _path, depth in rows[limit:]:
        if depth < least:
            going_on.add(depth)
            least = depth
    rails: list[str] = []
    for _path, depth in reversed(rows[:limit]):
        bars = "".join("│  " if level in going_on else "   " for level in range(1, depth))
        rails.append(bars + ("" if depth == 0 else "├─ " if depth in going_on else "└─ "))
        going_on = {level for level in going_on if level < depth} | {depth}
    return rails[::-1]
