"""``%load_ext itx_notebook`` and ``%itx``: the product from the keyboard."""

from itx_notebook.magics.extension import load, unload

__all__ = ["load", "unload"]
