"""``map``: a function recorded on one side that runs on the other, beside the data; here what travels between them.

Three nested maps of a hundred elements are a million calls out of 283 bytes, so every instruction run for one message
is
counted against one budget, however deep it stands.
"""

from __future__ import annotations

from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.hooks import Hook
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.wire import decode, encode

__all__ = ["Budget", "MapFunction"]


_BYTES_OF_AN_INSTRUCTION: Final = 64
"""Of a usual one. Longer ones cost more, since each run reads the text again."""


class Budget:
    """How many more instructions may run for one message."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, instructions: int) -> None:
        """Count `instructions` as run; raise :class:`RpcError` when there are not so many left."""
        self.left -= instructions
        if self.left < 0:
            raise RpcError("The map runs more instructions than this session allows (max_map_calls).")


class MapFunction:
    """A recorded function: its captures, and its instructions as text, since running one consumes its tree.

    Parameters
    ----------
    captures : list of Hook
        What it refers to from outside; owned.
    instructions : list
        Its instructions, as expressions.
    budget : Budget
        Shared with every map that runs for the same message.
    limits : Limits
        Of the session the function came by, or of none.

    Attributes
    ----------
    cost : int
        As how many instructions one run counts.
    """

    __slots__ = ("budget", "captures", "cost", "limits", "text")

    def __init__(self, captures: list[Hook], instructions: list[Any], budget: Budget, limits: Limits) -> None:
        self.captures = captures
        self.text = encode(instructions)
        self.cost = max(len(instructions), len(self.text) // _BYTES_OF_AN_INSTRUCTION)
        self.budget = budget
        self.limits = limits

    @property
    def instructions(self) -> list[Any]:
        """A fresh copy of the instructions."""
        instructions: list[Any] = decode(self.text)
        return instructions

    def dispose(self) -> None:
        """Give the captures back."""
        captures, self.captures = self.captures, []
        for capture in captures:
            capture.dispose()
