"""The way of one kernel to its data: what is open, shared by everything in the process that asks for it."""

from itx_notebook.client.destination import Destination, Token, find_destination
from itx_notebook.client.link import Link
from itx_notebook.client.loader import Loader, close_loaders, get_loader, get_remote_loader

__all__ = [
    "Destination",
    "Link",
    "Loader",
    "Token",
    "close_loaders",
    "find_destination",
    "get_loader",
    "get_remote_loader",
]
