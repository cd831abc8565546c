"""The tree as a value that changes: nodes, what is expanded, what is selected, and what must be asked for.

Pure: no I/O, no clock, no thread. Every change is noted as the smallest patch that tells a browser of it, so what an
update costs depends on the update and not on the tree.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from itx_notebook.streams.path import get_ancestors
from itx_notebook.tree.arrange import Sort, arrange
from itx_notebook.tree.opened import OpenNodes
from itx_notebook.tree.values import Connection, Node, get_child_names

__all__ = ["TreeModel"]


class TreeModel:
    """The tree below `root`. One thread at a time.

    Attributes
    ----------
    nodes : dict
        Nodes by path; a child that is only named by its parent has none.
    selected : str or None
        The current path.
    looked : str or None
        A path that somebody looks at apart from the rows: a list of its children is open.
    filter : str
        What is searched for.
    sort : {"name", "activity", "count"}
        Order of siblings.
    connection : Connection
        As the status line says it.
    """

    def __init__(self, root: str, connection: Connection) -> None:
        self.root = root
        self.nodes: dict[str, Node] = {}
        self.selected: str | None = None
        self.looked: str | None = None
        self.filter = ""
        self.sort: Sort = "name"
        self.connection = connection
        self._patch: dict[str, Any] = {}
        self._open = OpenNodes(root, self._get_children)
        # Wanted whatever is open, and what of it is news.
        self._pinned: set[str] = {root}
        self._turned: dict[str, None] = {}
        # Parents with children of which nothing is known yet; all before the number are.
        self._unread: dict[str, int] = {}
        self._undated: dict[str, None] = {}

    @property
    def expanded(self) -> set[str]:
        """Paths that are open, also below a closed one. To look at."""
        return self._open.paths

    # -- what changes it ---------------------------------------------------------------------------------------------

    def set_node(self, path: str, node: Node) -> None:
        """Put a node in place of what was known of `path`."""
        old = self.nodes.get(path)
        if old == node:
            return
        self.nodes[path] = node
        changes = _diff(old, node)
        if "children" in changes or "added" in changes:
            self._open.note_children(path)
            if node.child_paths:
                # Those that are added stand behind the others.
                self._unread[path] = self._unread.get(path, 0) if "added" in changes else 0
        if node.count and node.active_at is None:
            self._undated[path] = None
        else:
            self._undated.pop(path, None)
        noted: dict[str, Any] | None = self._patch.setdefault("nodes", {}).setdefault(path, {})
        if noted is None:
            noted = self._patch["nodes"][path] = {}
        _merge(noted, changes)

    def expand(self, path: str) -> None:
        """Open a node."""
        self._open.open(path)
        self._note("expand", path, instead_of="collapse")

    def collapse(self, path: str) -> None:
        """Close a node; what is open below it stays open for the next time."""
        self._open.close(path)
        self._note("collapse", path, instead_of="expand")

    def select(self, path: str | None) -> None:
        """Make `path` the current one and open the way to it."""
        self.selected = path
        self._patch["selected"] = path
        self._pin()
        for ancestor in self._get_way_to(path):
            if ancestor not in self.expanded:
                self.expand(ancestor)

    def reveal(self, path: str) -> None:
        """Open the way to `path` and bring it into view, once; a search that hides it ends."""
        if self.filter.strip().lower() not in path.lower():
            self.set_filter("")
        for ancestor in self._get_way_to(path):
            if ancestor not in self.expanded:
                self.expand(ancestor)
        self._patch["reveal"] = path

    def set_filter(self, text: str) -> None:
        """Search for `text`; an empty one ends the search, and what was open is open again."""
        if text != self.filter:
            self.filter = self._patch["filter"] = text

    def set_sort(self, sort: Sort) -> None:
        """Order siblings anew."""
        if sort != self.sort:
            self.sort = self._patch["sort"] = sort

    def look(self, path: str | None) -> None:
        """Want `path` known and followed beside what the rows want, and no longer what was looked at before.

        Nobody's view changes by it, so no patch tells of it.
        """
        self.looked = path
        self._pin()

    def set_active(self, path: str, offset: int, active_at: int) -> None:
        """Note when the event at `offset` was written, if it is still the newest one of a known node."""
        if (node := self.nodes.get(path)) is not None and node.count == offset:
            self.set_node(path, msgspec.structs.replace(node, active_at=active_at))

    def set_connection(self, connection: Connection) -> None:
        """Note whether the tree follows its streams."""
        if connection.state == self.connection.state:
            # Another reason for the same trouble does not make it a younger one.
            connection = msgspec.structs.replace(connection, since=self.connection.since)
        if connection != self.connection:
            self.connection = connection
            self._patch["connection"] = msgspec.to_builtins(connection)

    # -- what follows from it ----------------------------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Whether there is something to tell since the last :meth:`take_patch`."""
        return bool(self._patch)

    def take_patch(self) -> dict[str, Any]:
        """What changed since the last call, as the fields of a ``patch`` message (without ``kind`` and ``seq``)."""
        patch, self._patch = self._patch, {}
        for kind in patch.keys() & {"expand", "collapse"}:
            patch[kind] = list(patch[kind])
        return patch

    def get_wanted(self) -> list[str]:
        """The paths to ask for and to watch: the root, the way to the current path, and what is open and visible.

        Also the one that is looked at.
        """
        return list(dict.fromkeys([self.root, *sorted(self._pinned | self._open.in_sight)]))

    def is_wanted(self, path: str) -> bool:
        """Whether `path` is one of :meth:`get_wanted`, at no cost."""
        return path in self._pinned or path in self._open.in_sight

    def take_turned(self) -> list[str]:
        """What may have become wanted since the last call, or no longer be. At first, all that is wanted."""
        turned, self._turned = {**self._turned, **dict.fromkeys(self._open.take_turned())}, {}
        return list(turned)

    def get_visible(self) -> list[tuple[str, int]]:
        """The rows as a reader sees them: ``(path, depth)`` from the root down."""
        return arrange(
            self.root,
            self._get_children,
            self.expanded,
            known=self._get_known() if self.filter else (),
            text=self.filter,
            get_rank=None if self.sort == "name" else self._get_rank,
        )

    def get_unread(self, passed: Collection[str], limit: int) -> list[str]:
        """What a search or an order asks about and is not known, nearest to the root first; none of `passed`."""
        if limit <= 0 or not (self.filter or self.sort != "name"):
            return []
        # A search goes through all that is known, an order through what is in sight.
        parents: Iterable[str] = self._unread if self.filter else self._unread.keys() & self._open.in_sight
        ordered = sorted(parents, key=lambda path: (path.count("/"), path))
        unread = (path for parent in ordered for path in self._iter_unread(parent) if path not in passed)
        return list(itertools.islice(unread, limit))

    def get_undated(self, passed: Collection[tuple[str, int]], limit: int) -> list[tuple[str, int]]:
        """Nodes of which nobody knows when they were last written to, with their newest offset; none of `passed`.

        Those that are followed, whose rows say it; all that may have a row where the order needs it.
        """
        if limit <= 0:
            return []
        asks: Callable[[str], bool] = self.is_wanted
        if self.sort == "activity":
            asks = self._has_node if self.filter else self._open.is_row
        undated = (
            (path, count)
            for path in self._undated
            if asks(path) and (count := self.nodes[path].count) is not None and (path, count) not in passed
        )
        return list(itertools.islice(undated, limit))

    def get_nodes(self) -> dict[str, dict[str, Any]]:
        """Every node as the snapshot carries it."""
        return {path: _describe(node) for path, node in self.nodes.items()}

    def _has_node(self, path: str) -> bool:
        return path in self.nodes

    def _get_children(self, path: str) -> tuple[str, ...]:
        node = self.nodes.get(path)
        return () if node is None else node.child_paths

    def _get_known(self) -> set[str]:
        return {self.root}.union(*(node.child_paths for node in self.nodes.values()))

    def _get_rank(self, path: str) -> int | None:
        node = self.nodes.get(path)
        if node is None:
            return None
        return node.count if self.sort == "count" else node.active_at

    def _get_way_to(self, path: str | None) -> Iterable[str]:
        return () if path is None else [step for step in get_ancestors(path) if self._is_inside(step)]

    def _is_inside(self, path: str) -> bool:
        return path == self.root or self.root == "/" or path.startswith(f"{self.root}/")

    def _pin(self) -> None:
        """Want what is current, the way to it, and what is looked at."""
        pinned = {self.root, *self._get_way_to(self.selected)}
        pinned.update(path for path in (self.selected, self.looked) if path is not None and self._is_inside(path))
        self._turned.update(dict.fromkeys(sorted(self._pinned ^ pinned)))
        self._pinned = pinned

    def _iter_unread(self, parent: str) -> Iterator[str]:
        """The children of which nothing is known, in the order of their arrival; skips for good what is known."""
        children = self._get_children(parent)
        begin = self._unread[parent]
        while begin < len(children) and children[begin] in self.nodes:
            begin += 1
        self._unread[parent] = begin
        if begin == len(children):
            del self._unread[parent]
        return (path for path in itertools.islice(children, begin, None) if path not in self.nodes)

    def _note(self, kind: str, path: str, *, instead_of: str) -> None:
        opposite: dict[str, None] = self._patch.get(instead_of, {})
        if path in opposite:
            del opposite[path]
            if not opposite:
                del self._patch[instead_of]
        self._patch.setdefault(kind, {})[path] = None


def _describe(node: Node) -> dict[str, Any]:
    return {
        "state": node.state,
        "count": node.count,
        "children": get_child_names(node.child_paths),
        "error": msgspec.to_builtins(node.error),
        "updated_at": node.updated_at,
        "active_at": node.active_at,
    }


def _diff(old: Node | None, new: Node) -> dict[str, Any]:
    """The smallest ``NodePatch`` from `old` to `new`. Unchanged children are recognised by identity, at no cost."""
    if old is None:
        return _describe(new)
    changes: dict[str, Any] = {}
    if new.state != old.state:
        changes["state"] = new.state
    if new.count != old.count:
        changes["count"] = new.count
    if new.error != old.error:
        changes["error"] = msgspec.to_builtins(new.error)
    if new.updated_at != old.updated_at:
        changes["updated_at"] = new.updated_at
    if new.active_at != old.active_at:
        changes["active_at"] = new.active_at
    if new.child_paths is not old.child_paths and new.child_paths != old.child_paths:
        known = len(old.child_paths)
        if new.child_paths[:known] == old.child_paths:
            changes["added"] = get_child_names(new.child_paths[known:])
        else:
            changes["children"] = get_child_names(new.child_paths)
    return changes


def _merge(noted: dict[str, Any], changes: dict[str, Any]) -> None:
    """Fold a later ``NodePatch`` into an earlier one that was not sent yet."""
    added = changes.pop("added", None)
    if "children" in changes:
        noted.pop("added", None)
    noted.update(changes)
    if added is not None:
        place = "children" if "children" in noted else "added"
        noted[place] = [*noted.get(place, ()), *added]
