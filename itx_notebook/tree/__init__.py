"""The stream tree as data: nodes, expansion, what to watch, and a picture of it as text or HTML. No widget in it."""

from itx_notebook.tree.about import About, AboutConnection, AboutProcessor
from itx_notebook.tree.appending import append_once
from itx_notebook.tree.arrange import SORTS, Sort
from itx_notebook.tree.create import create_child
from itx_notebook.tree.live import LiveTree
from itx_notebook.tree.model import TreeModel
from itx_notebook.tree.pages import read_page
from itx_notebook.tree.render import render_html, render_page, render_text
from itx_notebook.tree.values import Connection, Node, NodeError, Snapshot, make_node_error

__all__ = [
    "SORTS",
    "About",
    "AboutConnection",
    "AboutProcessor",
    "Connection",
    "LiveTree",
    "Node",
    "NodeError",
    "Snapshot",
    "Sort",
    "TreeModel",
    "append_once",
    "create_child",
    "make_node_error",
    "read_page",
    "render_html",
    "render_page",
    "render_text",
]
