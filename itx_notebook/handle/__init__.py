"""What a user holds: ``AsyncItx``, the truth, and ``Itx``, its blocking face.

Both are views of one context with the same methods; a parity test compares them. A handle is cheap, is never stored,
and has no authority beyond the context it points at.
"""

from itx_notebook.handle.aio import AsyncItx, AsyncProjects, AsyncStream, AsyncStreams, AsyncSubscription
from itx_notebook.handle.running import AsyncRunningProcessor, RunningProcessor
from itx_notebook.handle.sync import Itx, Projects, Stream, Streams, Subscription

__all__ = [
    "AsyncItx",
    "AsyncProjects",
    "AsyncRunningProcessor",
    "AsyncStream",
    "AsyncStreams",
    "AsyncSubscription",
    "Itx",
    "Projects",
    "RunningProcessor",
    "Stream",
    "Streams",
    "Subscription",
]
