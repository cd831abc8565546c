"""Which open nodes can be seen: those whose every ancestor is open and names the next one on the way.

Apart from the model because it is kept up change by change. What a click, a new child or an answer costs must not
depend on how much else is open: in a tree of 100,000 nodes that would hold up everything on the I/O loop.
"""

from __future__ import annotations

from collections.abc import Callable

from itx_notebook.streams.path import ROOT, get_parent

__all__ = ["OpenNodes"]


class OpenNodes:
    """What is open below `root`, and what of it is in sight.

    Parameters
    ----------
    get_children : callable
        Full paths of the known children of a path; the same tuple as long as they are the same.

    Attributes
    ----------
    paths : set of str
        What is open, also below a closed node.
    in_sight : set of str
        What of it can be seen.
    """

    def __init__(self, root: str, get_children: Callable[[str], tuple[str, ...]]) -> None:
        self.paths: set[str] = set()
        self.in_sight: set[str] = set()
        self._root = root
        self._get_children = get_children
        self._turned: dict[str, None] = {}
        self._below: dict[str, set[str]] = {}
        self._names: dict[str, tuple[tuple[str, ...], set[str]]] = {}
        self.open(root)

    def open(self, path: str) -> None:
        """Open a node, wherever it is."""
        self.paths.add(path)
        if path != ROOT:
            self._below.setdefault(get_parent(path), set()).add(path)
        if self.is_row(path):
            self._show(path)

    def close(self, path: str) -> None:
        """Close a node; what is open below it stays open for the next time."""
        self.paths.discard(path)
        if path != ROOT and (siblings := self._below.get(get_parent(path))) is not None:
            siblings.discard(path)
        self._hide(path)

    def note_children(self, parent: str) -> None:
        """The children that are known of `parent` are others than before."""
        for path in self._below.get(parent, ()):
            if self.is_row(path):
                self._show(path)
            else:
                self._hide(path)

    def is_row(self, path: str) -> bool:
        """Whether the node has a row, open or not."""
        return path == self._root or (
            path != ROOT and (parent := get_parent(path)) in self.in_sight and path in self._get_names(parent)
        )

    def take_turned(self) -> list[str]:
        """What has come into sight or gone out of it since the last call, or did both."""
        turned, self._turned = list(self._turned), {}
        return turned

    def _get_names(self, parent: str) -> set[str]:
        """The children as a set, at a cost that does not grow with them while they stay the same or grow by a few."""
        children = self._get_children(parent)
        kept, names = self._names.get(parent, ((), set()))
        if kept is not children:
            # One that is longer mostly begins as before. Children are told each once, so counting them shows whether.
            names.update(children[len(kept) :])
            if len(names) != len(children) or children[: len(kept)] != kept:
                names = set(children)
            self._names[parent] = (children, names)
        return names

    def _show(self, path: str) -> None:
        pending = [path]
        while pending:
            if (shown := pending.pop()) not in self.in_sight:
                self.in_sight.add(shown)
                self._turned[shown] = None
                pending += [child for child in self._below.get(shown, ()) if child in self._get_names(shown)]

    def _hide(self, path: str) -> None:
        pending = [path]
        while pending:
            if (hidden := pending.pop()) in self.in_sight:
                self.in_sight.remove(hidden)
                self._turned[hidden] = None
                pending += self._below.get(hidden, ())
