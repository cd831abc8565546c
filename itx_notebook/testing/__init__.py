"""Fakes for the seams of itx-notebook, and suites for what stands behind them; for our tests and for yours."""

from itx_notebook.testing.clock import FakeClock
from itx_notebook.testing.handles import Collector, HandleConformance

__all__ = ["Collector", "FakeClock", "HandleConformance"]
