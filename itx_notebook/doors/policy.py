"""To which streams a view may append: a decision on paths, taken before anything is touched.

A stream handle may append to its own stream alone; whoever builds a view for somebody else (an agent, a tool) may give
it more, or nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

from itx_notebook.errors import ItxError

__all__ = ["AppendPolicy", "PolicyMode"]

PolicyMode = Literal["none", "stream", "children", "any", "pattern"]


class AppendPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a view bound to a stream may append to.

    Attributes
    ----------
    mode : str
        ``"none"``; ``"stream"``: that stream alone; ``"children"``: it and everything below; ``"any"``: all of the
        namespace; ``"pattern"``: the paths that `pattern` matches.
    pattern : str
        ``*`` is one segment or a part of one, ``**`` anything: ``/agents/*/log``, ``/inbox/**``.
    """

    mode: PolicyMode = "stream"
    pattern: str = ""

    def allows(self, path: str, *, base: str) -> bool:
        """Whether a view bound to `base` may append to `path`; both canonical."""
        match self.mode:
            case "none":
                return False
            case "stream":
                return path == base
            case "children":
                return path == base or path.startswith("/" if base == "/" else f"{base}/")
            case "any":
                return True
            case "pattern":
                return _compile(self.pattern).fullmatch(path) is not None

    def check(self, path: str, *, base: str) -> None:
        """Raise ``FORBIDDEN`` unless :meth:`allows`."""
        if not self.allows(path, base=base):
            raise ItxError(
                f"Stream append policy rejected append to {path}.",
                code="FORBIDDEN",
                details={"path": path, "policyMode": self.mode},
                hint="Take a handle on that stream: itx.streams.get(path).",
            )


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts))
