"""Fakes for the seams of itx-notebook, for our tests and for yours."""

from itx_notebook.testing.clock import FakeClock

__all__ = ["FakeClock"]
