"""The cells of this kernel, as far as a tree needs them: which execution is going on, when one begins, when one ends.

Apart from the browser so that there is one pair of hooks in the shell however many trees there are, and none when there
is no tree left.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any, Final, Protocol

from IPython.core.getipython import get_ipython

__all__ = ["CellFollower", "Execution", "follow_cells", "leave_shell", "try_get_execution", "unfollow_cells"]


@dataclass(frozen=True)
class Execution:
    """One run of one cell, by the names that the front end gave them."""

    cell: str
    run: str


class CellFollower(Protocol):
    """Is told of cells, on the thread that runs them. Must not wait."""

    def on_cell_start(self) -> None:
        """A cell begins."""
        ...

    def on_cell_end(self, execution: Execution | None) -> None:
        """A cell has ended; ``None`` where the front end does not name its cells."""
        ...


_followers: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def try_get_execution() -> Execution | None:
    """The execution that is going on; ``None`` in a terminal, outside the main thread, or where cells have no names.

    In another thread ipykernel would name whichever cell ran last, which need not be the one that started the thread.
    """
    get_parent = getattr(get_ipython(), "get_parent", None)
    if get_parent is None or threading.current_thread() is not threading.main_thread():
        return None
    request = get_parent() or {}
    cell = request.get("metadata", {}).get("cellId")
    run = request.get("header", {}).get("msg_id")
    return Execution(cell, run) if isinstance(cell, str) and isinstance(run, str) else None


def follow_cells(follower: CellFollower) -> None:
    """Tell `follower` of every cell, for as long as it lives or until :func:`unfollow_cells`. Repeating is harmless."""
    _followers.add(follower)
    shell = get_ipython()
    if shell is not None:
        # Registering what is registered already changes nothing.
        shell.events.register("pre_run_cell", _on_start)
        shell.events.register("post_run_cell", _on_end)


def unfollow_cells(follower: CellFollower) -> None:
    """Tell `follower` no more. The hooks leave the shell at the next cell, if nobody else follows."""
    _followers.discard(follower)


def leave_shell() -> None:
    """Take the hooks out of the shell. Whoever follows is told nothing until somebody follows anew."""
    shell = get_ipython()
    if shell is None:
        return
    for event, hook in (("pre_run_cell", _on_start), ("post_run_cell", _on_end)):
        if hook in shell.events.callbacks[event]:
            shell.events.unregister(event, hook)


def _on_start(_info: Any) -> None:
    for follower in tuple(_followers):
        follower.on_cell_start()


def _on_end(_result: Any) -> None:
    execution = try_get_execution()
    for follower in tuple(_followers):
        follower.on_cell_end(execution)
    if not _followers:
        leave_shell()
