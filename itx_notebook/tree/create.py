"""Making a stream from the tree. In itx navigating is creating: to make a stream is to go to it and look, audibly.

Apart from the tree because nothing of it changes here: the new stream announces itself to its ancestors, and every
tree hears of it there, this one like any other.
"""

from __future__ import annotations

from typing import Any

from itx_notebook.errors import ItxError
from itx_notebook.streams.path import ROOT, parse_stream_path

__all__ = ["create_child", "parse_child_path"]


def parse_child_path(parent: str, name: str) -> str:
    """The path that `name` means below `parent`; ``a/b`` lies two levels deeper.

    The rule is that of paths, for the whole of it; ``js/src/naming.ts`` is its twin in the browser.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: together they are no path.
    """
    if not name.strip():
        raise ItxError("A stream needs a name.", code="BAD_REQUEST", hint='Name it, such as "orders".')
    return parse_stream_path(f"{'' if parent == ROOT else parent}/{name.strip()}")


async def create_child(itx: Any, parent: str, name: str) -> str:
    """Let the stream `name` below `parent` exist, and give its path. Repeating is harmless: nothing is written twice.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: that is not a path. Others: the engine cannot be reached, or did not take it.
    """
    path = parse_child_path(parent, name)
    stream = itx.streams.get(path)
    # A stream that exists is not woken for the sake of somebody who is on his way to it.
    if (await stream.get_state(presence=False)).event_count == 0:
        await stream.get_state(presence=True)
    return path
