"""The snapshot as a front end is given it: plain while it is small, its nodes deflated once it is large.

Apart from the values because only the channel needs it. The text of 100,000 nodes is 14.6 MB, deflated 2.1 MB; a
notebook that was saved with it as plain text is 18.8 MB (measured 2026-11-23). ``js/src/packing.ts`` is the other end.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec

from itx_notebook.tree.values import Snapshot

__all__ = ["PACKED_FROM", "pack_snapshot"]

PACKED_FROM: Final = 256 * 1024
"""Bytes of JSON from which on nodes are deflated. A tree opened by hand stays below, and can be read in the file."""


def pack_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as JSON can hold it, but for ``packed``: the nodes' JSON, deflated without a header. Any thread."""
    fields = msgspec.structs.asdict(snapshot) | {"connection": msgspec.to_builtins(snapshot.connection)}
    nodes = msgspec.json.encode(snapshot.nodes)
    if len(nodes) < PACKED_FROM:
        return fields
    # The fastest level: 10:1 in 100 ms, where the best one takes twice as long for a seventh less.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return fields | {"nodes": {}, "packed": deflate.compress(nodes) + deflate.flush()}
