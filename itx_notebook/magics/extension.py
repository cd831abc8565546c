"""The kernel extension: what loading puts into the kernel, and what unloading takes out again.

Whatever goes wrong is displayed where the result would be; neither loading nor a magic fails the cell.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from IPython.display import display

from itx_notebook._loop import run_blocking
from itx_notebook.client import close_loaders
from itx_notebook.display import InlineError
from itx_notebook.magics.itx import ItxMagics
from itx_notebook.magics.session import Session

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load", "unload"]


def load(shell: InteractiveShell) -> None:
    """Register ``%itx``, connect, and say in one line what there is."""
    session = Session(shell)
    shell.register_magics(ItxMagics(shell, session))
    shown: object
    try:
        shown = session.describe(session.connect(None))
    except Exception as error:
        shown = InlineError(error, doing="itx could not connect")
    _show(shown)


def unload(shell: InteractiveShell) -> None:
    """Remove the magic, the handle and the trees' hooks, and close the engine, so that nothing is left behind."""
    magics = shell.magics_manager.registry.pop(ItxMagics.__name__, None)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("itx", None)
    if isinstance(magics, ItxMagics):
        magics.session.forget()
    # A kernel that showed no tree has no hooks, and should not load the widgets for this.
    if (cells := sys.modules.get("itx_notebook.widgets.cells")) is not None:
        cells.leave_shell()
    try:
        run_blocking(close_loaders(), timeout=10.0, what="Closing the embedded engine")
    except Exception as error:
        _show(InlineError(error, doing="itx could not close its engine"))


def _show(shown: object) -> None:
    display(shown)  # type: ignore[no-untyped-call]  # IPython ships no types for it
