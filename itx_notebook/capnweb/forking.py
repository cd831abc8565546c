"""Sockets and forks: a socket belongs to the process that opened it, and its end must be heard.

A forked child has copies of its parent's sockets. While one copy is open the system tells the other end nothing of the
parent's death, and a listening socket goes on taking connections that nobody answers. So a child lets go of them first
thing. Each number is pointed at the null device rather than closed, because objects that the child inherited will close
it once more, and it might be somebody else's by then.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["disown_socket", "own_socket"]

_own: set[int] = set()


def own_socket(socket: Any) -> int:
    """Note that `socket` is this process's alone; returns its number, for :func:`disown_socket`.

    An asyncio transport need not stand on a socket: ``None`` is noted nowhere.
    """
    if socket is None:
        return -1
    number: int = socket.fileno()
    _own.add(number)
    return number


def disown_socket(number: int) -> None:
    """Forget a socket that is about to be closed, or was. Repeating is harmless."""
    _own.discard(number)


def _let_go() -> None:
    if not _own:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in _own:
        os.dup2(nothing, number, inheritable=False)
    os.close(nothing)
    _own.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_let_go)
