"""The durable event-stream engine: append-only logs addressed by path, on SQLite, in this process.

It knows nothing of projects, principals, handles or notebooks, and may be used without them.
"""

from itx_notebook.streams.batch import EventBatch
from itx_notebook.streams.core import CoreState, core_type
from itx_notebook.streams.engine import StreamEngine
from itx_notebook.streams.path import (
    parse_stream_path,
    parse_stream_ref,
    parse_sub_path,
    resolve_stream_path,
)
from itx_notebook.streams.processors import Processor, ProcessorContract, processor
from itx_notebook.streams.runtime import ConnectionRuntime, RuntimeState
from itx_notebook.streams.stream import Stream
from itx_notebook.streams.subscription import Sink, Subscription

__all__ = [
    "ConnectionRuntime",
    "CoreState",
    "EventBatch",
    "Processor",
    "ProcessorContract",
    "RuntimeState",
    "Sink",
    "Stream",
    "StreamEngine",
    "Subscription",
    "core_type",
    "parse_stream_path",
    "parse_stream_ref",
    "parse_sub_path",
    "processor",
    "resolve_stream_path",
]
