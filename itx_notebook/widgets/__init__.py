"""What is seen: anywidget models. ``static/`` holds their front end, built from ``js/``."""

from itx_notebook.widgets.browser import StreamTreeBrowser

__all__ = ["StreamTreeBrowser"]
