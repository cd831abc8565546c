"""Sphinx settings: MyST pages, the API from docstrings. ``make docs`` treats warnings as errors."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path

project = "itx-notebook"
author = "itx-notebook contributors"
project_copyright = f"2026, {author}"
release = version = installed_version("itx-notebook")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nitpicky = True
# Docstrings name other people's types: links to those need their inventories, and the build needs no network.
nitpick_ignore_regex = [("py:.*", r"(?!itx_notebook).*")]

html_theme = "pydata_sphinx_theme"
html_title = "itx-notebook"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}
html_show_sourcelink = False
# The bar at the top has every page.
html_sidebars = {"**": []}

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
# A page's cells run when the page is built, and one that fails, fails the build.
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
# What a program in the terminal prints arrives in pieces; it is one text.
nb_merge_streams = True
# The notebooks' own check (make test-notebooks) runs them; here they show what they are stored with.
nb_execution_excludepatterns = ["notebooks/*"]
# A built page has no kernel: the tree's own static HTML says so, and needs no script from elsewhere.
nb_mime_priority_overrides = [("*", "application/vnd.jupyter.widget-view+json", None)]
nb_ipywidgets_js = {}

# Tracebacks are not Python source, and IPython's lexer stumbles over the arrow of ours.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

# The cells get a store of their own, new for each build: never the person's, and never one with older runs in it.
_home = tempfile.mkdtemp(prefix="itx-docs-")
os.environ["ITX_HOME"] = _home
atexit.register(shutil.rmtree, _home, ignore_errors=True)

# Sphinx reads below this folder alone; the notebooks are pages too, with the outputs they are stored with.
_here = Path(__file__).parent
(_here / "notebooks").mkdir(exist_ok=True)
for _notebook in (_here.parent / "notebooks").glob("*.ipynb"):
    _copy = _here / "notebooks" / _notebook.name
    if not _copy.exists() or _copy.read_bytes() != _notebook.read_bytes():
        shutil.copyfile(_notebook, _copy)
