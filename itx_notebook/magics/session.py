"""What a kernel with the extension loaded holds: one handle, under one name in the user's namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from itx_notebook._loop import submit
from itx_notebook.display import Line
from itx_notebook.notebook import NotebookItx, connect

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["HANDLE_NAME", "Session"]

HANDLE_NAME: Final = "itx"
_PATIENCE: Final = 5.0
"""Seconds for the other end to say how much there is."""


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
        """The one line that says what the handle holds, and how the way there stands. Does not wait for a lost one."""
        way = handle._describe_way()  # noqa: SLF001  # the handle's own words; no method of it for users
        line = f"itx: project {handle.slug}, {way}"
        link = handle.link
        if not link.is_live:
            # The rest mends by itself.
            return Line(f"{line}\n→ %itx connect [PROJECT]" if link.state in ("closed", "refused") else line)
        count = handle.describe(timeout=_PATIENCE).stream_count
        return Line(line if count is None else f"{line}, {count:,} stream{'' if count == 1 else 's'}")

    def forget(self) -> None:
        """Take the handle back out of the namespace, unless the user has put something else there."""
        if self._given is not None and self._shell.user_ns.get(HANDLE_NAME) is self._given:
            del self._shell.user_ns[HANDLE_NAME]
        self._given = None
