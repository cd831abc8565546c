"""Errors where the data would be: an object that a cell displays instead of failing.

What failed, with which value; what to do; the rest folded. As HTML in a notebook, as two lines in a terminal.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from itx_notebook.errors import ItxError, as_itx_error

__all__ = ["InlineError", "Line"]


class InlineError:
    """An error to look at. Displaying it, at the end of a cell or by ``display()``, shows it; nothing is raised.

    Attributes
    ----------
    error : ItxError
        The error, to raise or to ask for its code.
    doing : str
        What was being done.
    """

    def __init__(self, error: BaseException, *, doing: str) -> None:
        self.error: ItxError = as_itx_error(error)
        self.doing = doing

    def __repr__(self) -> str:
        return f"{self.doing}: {self.error.message} [{self.error.code}]\n→ {self.error.remedy}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        error = self.error
        facts = dict(error.details or {})
        if error.__cause__ is not None:
            facts["cause"] = repr(error.__cause__)
        details = escape(json.dumps(facts, ensure_ascii=False, default=str, indent=2)) if facts else ""
        folded = (
            '<details style="margin-top:4px"><summary>details</summary>'
            f'<pre style="margin:4px 0 0;white-space:pre-wrap">{details}</pre></details>'
            if details
            else ""
        )
        html = (
            '<div role="alert" style="border-left:3px solid #c5221f;padding:4px 10px;max-width:720px">'
            f"<div>{escape(self.doing)}: <b>{escape(error.message)}</b> <code>{error.code}</code></div>"
            f'<div style="opacity:.8">→ {escape(error.remedy)}</div>{folded}</div>'
        )
        return {"text/plain": repr(self), "text/html": html}


class Line:
    """One line of plain fact, the same in every front end."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
