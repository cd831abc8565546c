"""Processors: code that folds a stream into a state of its own, and acts on what happens in it.

::

    @processor("order-count", consumes=["order.placed"], initial_state={"count": 0})
    def order_count(state, event):
        return {"count": state["count"] + 1}

Delivery is at least once, in order, from a stored snapshot: see :class:`Processor`.
"""

from itx_notebook.streams.processors.attachment import Attachment
from itx_notebook.streams.processors.breaker import BREAKER_CONFIGURED, CircuitBreaker, CircuitBreakerState
from itx_notebook.streams.processors.contract import EventCatalog, EventType, ProcessorContract
from itx_notebook.streams.processors.host import Build, ProcessorHost, get_configured_processor
from itx_notebook.streams.processors.processor import (
    Appendable,
    Processor,
    ProcessorBatch,
    ProcessorDefinition,
    ReducedEvent,
    processor,
)
from itx_notebook.streams.processors.runner import ProcessorRunner, ProcessorRuntimeState, ProcessorSnapshot

__all__ = [
    "BREAKER_CONFIGURED",
    "Appendable",
    "Attachment",
    "Build",
    "CircuitBreaker",
    "CircuitBreakerState",
    "EventCatalog",
    "EventType",
    "Processor",
    "ProcessorBatch",
    "ProcessorContract",
    "ProcessorDefinition",
    "ProcessorHost",
    "ProcessorRunner",
    "ProcessorRuntimeState",
    "ProcessorSnapshot",
    "ReducedEvent",
    "get_configured_processor",
    "processor",
]
