"""The way of one kernel to its data: what is open, shared by everything in the process that asks for it."""

from itx_notebook.client.loader import Loader, close_loaders, get_loader

__all__ = ["Loader", "close_loaders", "get_loader"]
