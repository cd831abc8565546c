"""Event streams from a notebook: a project-narrowed handle, a live tree, and no server to install.

>>> import itx_notebook
>>> itx = itx_notebook.connect()
>>> itx.streams.get("/agents/a").append("demo.hello", {"n": 1})
>>> itx.tree()

In a notebook, ``%load_ext itx_notebook`` does the first two lines. Importing starts no thread, opens no file, and
imports neither pandas nor anywidget nor IPython.
"""

from typing import Any

from itx_notebook.errors import ItxError, ItxTimeoutError, StoreError, get_itx_error_code, is_itx_access_error
from itx_notebook.frames import to_frame
from itx_notebook.handle import AsyncItx, Itx
from itx_notebook.notebook import connect, create_project
from itx_notebook.types import UNSET, Event, Project, StreamEvent, StreamEventBatch, StreamState

__all__ = [
    "UNSET",
    "AsyncItx",
    "Event",
    "Itx",
    "ItxError",
    "ItxTimeoutError",
    "Project",
    "StoreError",
    "StreamEvent",
    "StreamEventBatch",
    "StreamState",
    "connect",
    "create_project",
    "get_itx_error_code",
    "is_itx_access_error",
    "load_ipython_extension",
    "to_frame",
    "unload_ipython_extension",
]


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext itx_notebook``: the handle ``itx``, and ``%itx``. Never fails the cell."""
    from itx_notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext itx_notebook``: takes back what loading brought."""
    from itx_notebook.magics import unload

    unload(shell)
