"""What is true of a stream in this process only: its open connections and how far each has been served.

Values, apart from the folded state because none of it is in the log or survives the process.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from itx_notebook.streams.core import CoreState

__all__ = ["ConnectionRuntime", "Direction", "RuntimeState", "StreamRuntime"]

Direction = Literal["inbound", "outbound"]
"""Who opened a connection: a subscriber that came, or the stream, because it is configured to."""


class ConnectionRuntime(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One open connection.

    Attributes
    ----------
    cursor : int
        The offset up to which it was served.
    started_at, last_delivered_at : str
        ISO-8601 UTC; the second is absent before the first batch.
    """

    direction: Direction
    started_at: str
    cursor: int
    batches_sent: int
    events_sent: int
    last_delivered_at: str | UnsetType = UNSET


class StreamRuntime(msgspec.Struct, frozen=True):
    """The connections by subscription key, in the order they were opened. Silent observers are not among them."""

    connections: dict[str, ConnectionRuntime]


class RuntimeState(msgspec.Struct, frozen=True, rename="camel"):
    """The reduced state and the runtime, of one and the same moment."""

    core_processor_state: CoreState
    runtime: StreamRuntime
