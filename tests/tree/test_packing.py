from __future__ import annotations

import json
import zlib

import msgspec

from itx_notebook.tree import Connection, Node, NodeError, Snapshot, TreeModel
from itx_notebook.tree.packing import PACKED_FROM, pack_snapshot


def _make_snapshot(size: int) -> Snapshot:
    model = TreeModel("/", Connection("live", 1))
    paths = tuple(f"/stream-{n}" for n in range(size))
    model.set_node("/", Node("loaded", 1, paths, NodeError("INTERNAL", "broken"), 2))
    for path in paths:
        model.set_node(path, Node("loaded", 7, updated_at=1_795_452_881_361))
    return Snapshot(
        version=1,
        seq=3,
        session="life",
        taken_at=4,
        project={"id": "prj_1", "slug": "acme"},
        root="/",
        nodes=model.get_nodes(),
        expanded=["/"],
        selected=None,
        connection=model.connection,
    )


def test_small_snapshot_is_plain_and_as_json_has_it() -> None:
    snapshot = _make_snapshot(10)
    assert pack_snapshot(snapshot) == msgspec.to_builtins(snapshot)


def test_large_snapshot_has_its_nodes_deflated_and_the_rest_plain() -> None:
    snapshot = _make_snapshot(4_000)
    plain = msgspec.to_builtins(snapshot)
    packed = pack_snapshot(snapshot)
    data = packed.pop("packed")
    assert packed == plain | {"nodes": {}}
    assert len(data) < PACKED_FROM / 4
    assert json.loads(zlib.decompress(data, -zlib.MAX_WBITS)) == plain["nodes"]
    json.dumps(packed)
