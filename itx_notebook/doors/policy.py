"""To which streams a view may append, and what nobody may erase: decisions on paths, before anything is touched.

A stream handle may append to its own stream alone; whoever builds a view for somebody else (an agent, a tool) may give
it more, or nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

from itx_notebook.doors.directory import GLOBAL_NAMESPACE, PROJECTS_PATH
from itx_notebook.doors.people import ACCESS_PATH
from itx_notebook.errors import ItxError

__all__ = ["AppendPolicy", "PolicyMode", "check_may_erase"]

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


def check_may_erase(namespace: str, path: str) -> None:
    """Raise ``FORBIDDEN`` if a stream is what the deployment's projects or people are read from.

    Without the one every project's streams are out of reach; without the other every token counts for nothing. And what
    was folded from them would stay in memory until the next start.
    """
    if namespace == GLOBAL_NAMESPACE and path in (PROJECTS_PATH, ACCESS_PATH):
        raise ItxError(
            f"{GLOBAL_NAMESPACE}:{path} may not be reset: the deployment is read from it.",
            code="FORBIDDEN",
            details={"path": path},
            hint="Users and tokens are taken back one by one: itx-notebook users remove, tokens revoke.",
        )


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts))
