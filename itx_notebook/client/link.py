"""How the way to an engine stands, as people are told: one value and its words, the same in reprs, magics and trees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from itx_notebook.client.connection import Connection, ConnectionStatus

__all__ = ["Link", "LinkState", "get_link"]

LinkState = Literal["live", "connecting", "reconnecting", "refused", "closed"]

_STATES: Final[dict[ConnectionStatus, LinkState]] = {
    "idle": "connecting",
    "connecting": "connecting",
    "connected": "live",
    "reconnecting": "reconnecting",
    "refused": "refused",
    "closed": "closed",
}


@dataclass(frozen=True, slots=True)
class Link:
    """The way to an engine, as it stands now.

    Attributes
    ----------
    state : str
        ``"live"``, or why not. ``"refused"`` and ``"closed"`` do not mend themselves.
    since_ms : int
        Since when: milliseconds since the epoch; 0 if nobody noted it.
    detail : str or None
        What went wrong.
    """

    state: LinkState
    since_ms: int = 0
    detail: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether a question asked now is answered now."""
        return self.state == "live"

    def __str__(self) -> str:
        """``live``, ``reconnecting since 09:30:05 (Connection refused)``, ``closed``."""
        since = f" since {datetime.fromtimestamp(self.since_ms / 1000):%H:%M:%S}" if self.since_ms else ""  # noqa: DTZ006  # the reader's own time
        detail = f" ({self.detail})" if self.detail else ""
        return self.state if self.is_live else f"{self.state}{since}{detail}"


def get_link(connection: Connection | None) -> Link:
    """How a connection stands; ``None``: it was closed."""
    if connection is None:
        return Link("closed")
    state = _STATES[connection.status]
    return Link(state, connection.since_ms, None if state == "live" else connection.last_failure)
