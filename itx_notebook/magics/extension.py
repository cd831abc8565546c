"""The kernel extension: what loading puts into the kernel, and what unloading takes out again.

Whatever goes wrong is displayed where the result would be; neither loading nor a magic fails the cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from IPython.display import display

from itx_notebook._loop import run_blocking, submit
from itx_notebook.client import close_loaders
from itx_notebook.display import InlineError, Line
from itx_notebook.magics.itx import ItxMagics
from itx_notebook.notebook import NotebookItx, connect

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["HANDLE_NAME", "Session", "load", "unload"]

HANDLE_NAME: Final = "itx"


class Session:
    """The handle this kernel holds, and its name in the user's namespace."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._given: NotebookItx | None = None

    @property
    def handle(self) -> NotebookItx:
        """The handle; connects to the default project if there is none yet. May raise."""
        return self._given or self.connect(None)

    @property
    def try_handle(self) -> NotebookItx | None:
        """The handle, if there is one."""
        return self._given

    def connect(self, project: str | None) -> NotebookItx:
        """Make a new handle, put it into the namespace, and prefetch in the background."""
        handle = connect(project)
        self._given = handle
        self._shell.user_ns[HANDLE_NAME] = handle
        submit(handle.prefetch())
        return handle

    def describe(self, handle: NotebookItx) -> Line:
        """The one line that says what the handle holds."""
        facts = handle.describe()
        count = facts.stream_count or 0
        return Line(
            f"itx: project {handle.slug}, {facts.engine} engine in {facts.location}, "
            f"{count:,} stream{'' if count == 1 else 's'}"
        )

    def forget(self) -> None:
        """Take the handle back out of the namespace, unless the user has put something else there."""
        if self._given is not None and self._shell.user_ns.get(HANDLE_NAME) is self._given:
            del self._shell.user_ns[HANDLE_NAME]
        self._given = None


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
    """Remove the magic and the handle, and close the engine, so that nothing is left behind."""
    magics = shell.magics_manager.registry.pop(ItxMagics.__name__, None)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("itx", None)
    if isinstance(magics, ItxMagics):
        magics.session.forget()
    try:
        run_blocking(close_loaders(), timeout=10.0, what="Closing the embedded engine")
    except Exception as error:
        _show(InlineError(error, doing="itx could not close its engine"))


def _show(shown: object) -> None:
    display(shown)  # type: ignore[no-untyped-call]  # IPython ships no types for it
