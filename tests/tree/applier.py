"""A browser's part of the channel, as short as it can be: what a patch does to a snapshot."""

from __future__ import annotations

import copy
from typing import Any

UNLOADED: dict[str, Any] = {
    "state": "unloaded",
    "count": None,
    "children": [],
    "error": None,
    "updated_at": None,
    "active_at": None,
}


def apply_patch(snapshot: dict[str, Any], seq: int, patch: dict[str, Any]) -> dict[str, Any]:
    """The snapshot after a patch, which must be the next one; checks what the channel's rules say of a patch."""
    assert seq == snapshot["seq"] + 1, "patches are numbered densely"
    assert patch, "an empty patch is not worth a number"
    assert set(patch) <= {"nodes", "expand", "collapse", "selected", "filter", "sort", "reveal", "connection"}
    after = copy.deepcopy(snapshot)
    after["seq"] = seq
    for path, node_patch in patch.get("nodes", {}).items():
        if node_patch is None:
            after["nodes"].pop(path, None)
            continue
        assert set(node_patch) <= {*UNLOADED, "added"}
        node = after["nodes"].setdefault(path, copy.deepcopy(UNLOADED))
        node.update({name: value for name, value in node_patch.items() if name != "added"})
        node["children"] = [*node["children"], *node_patch.get("added", [])]
        assert len(set(node["children"])) == len(node["children"]), "a child is named once"
    opened, closed = set(patch.get("expand", [])), set(patch.get("collapse", []))
    assert not opened & closed
    after["expanded"] = sorted((set(snapshot["expanded"]) | opened) - closed)
    if "selected" in patch:
        after["selected"] = patch["selected"]
    after.update({name: patch[name] for name in ("filter", "sort", "connection") if name in patch})
    return after
