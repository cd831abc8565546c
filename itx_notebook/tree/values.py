"""The values of the tree, with the names they have in the browser (``js/src/channel.ts`` is their twin)."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec

from itx_notebook.errors import ItxError, as_itx_error
from itx_notebook.tree.arrange import Sort

__all__ = ["SNAPSHOT_VERSION", "Connection", "Node", "NodeError", "Snapshot", "get_child_names", "make_node_error"]

SNAPSHOT_VERSION: Final = 1


class NodeError(msgspec.Struct, frozen=True):
    """What failed, with which value; what to do; the rest, to fold away."""

    code: str
    message: str
    hint: str | None = None
    details: str | None = None


class Node(msgspec.Struct, frozen=True):
    """One stream as the tree knows it.

    Attributes
    ----------
    count : int or None
        Events; ``None`` until it was read.
    child_paths : tuple of str
        Full paths of the immediate children, in order of arrival.
    error : NodeError or None
        With data beside it: the data is kept, a refresh failed.
    updated_at : int or None
        When the data was true, in milliseconds since the epoch.
    active_at : int or None
        When the newest event was written, in milliseconds since the epoch; ``None`` until somebody asked.
    """

    state: Literal["unloaded", "loading", "loaded", "error"] = "unloaded"
    count: int | None = None
    child_paths: tuple[str, ...] = ()
    error: NodeError | None = None
    updated_at: int | None = None
    active_at: int | None = None


class Connection(msgspec.Struct, frozen=True):
    """Whether the tree follows its streams. ``since`` in milliseconds since the epoch."""

    state: Literal["live", "reconnecting", "closed"]
    since: int
    detail: str | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole tree at one moment: what a saved notebook keeps and a browser paints from.

    Attributes
    ----------
    seq : int
        Number of the last patch folded in.
    session : str
        One life of the tree in a kernel.
    nodes : dict
        By full path, each ``{state, count, children, error, updated_at, active_at}`` with the children's last segments.
    filter : str
        What is searched for; empty where nothing is.
    sort : str
        Order of siblings.
    """

    version: int
    seq: int
    session: str
    taken_at: int
    project: dict[str, str]
    root: str
    nodes: dict[str, dict[str, Any]]
    expanded: list[str]
    selected: str | None
    filter: str = ""
    sort: Sort = "name"
    connection: Connection


def get_child_names(paths: tuple[str, ...]) -> list[str]:
    """Last segments of paths."""
    return [path.rsplit("/", 1)[-1] for path in paths]


def make_node_error(error: BaseException) -> NodeError:
    """An error as a row shows it."""
    itx_error: ItxError = as_itx_error(error)
    facts = dict(itx_error.details or {})
    if itx_error.__cause__ is not None:
        facts["cause"] = repr(itx_error.__cause__)
    details = json.dumps(facts, ensure_ascii=False, default=str) if facts else None
    return NodeError(code=itx_error.code, message=itx_error.message, hint=itx_error.remedy, details=details)
