"""The form of one hostile sequence: what is sent, and everything that must come of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itx_notebook.capnweb import Limits

__all__ = ["Case", "nest", "survives"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One sequence.

    Attributes
    ----------
    name : str
        What is tried.
    frames : sequence
        What is sent: text as it stands, anything else as JSON.
    says : sequence
        Exactly what is answered, in order, an ``abort`` left out.
    ends : str or None
        A part of the error with which the session ends. ``None``: it lives.
    tables : tuple of int
        Imports and exports afterwards, of a session that lives.
    is_answered : bool
        Whether an ``abort`` is sent when the session ends.
    limits : Limits
        Of the session.
    """

    name: str
    frames: Sequence[Any]
    says: Sequence[Any] = ()
    ends: str | None = None
    tables: tuple[int, int] = (1, 1)
    is_answered: bool = True
    limits: Limits = Limits()  # noqa: RUF009  # frozen

    @property
    def messages(self) -> list[bytes]:
        """The frames as they are sent."""
        return [
            frame.encode() if isinstance(frame, str) else json.dumps(frame, separators=(",", ":")).encode()
            for frame in self.frames
        ]


def nest(expression: Any, depth: int) -> Any:
    """Return `expression` inside `depth` lists."""
    for _ in range(depth):
        expression = [[expression]]
    return expression


def survives(name: str, expression: Any, answer: Any) -> Case:
    """Return the case of a value that is pushed, pulled, and given back as `answer`."""
    return Case(
        name=name,
        frames=[["push", expression], ["pull", 1], ["release", 1, 1]],
        says=[["resolve", 1, answer]],
    )
