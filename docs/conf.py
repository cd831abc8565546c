"""Sphinx settings: MyST pages, the API from docstrings. ``make docs`` treats warnings as errors."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "itx-notebook"
author = "itx-notebook contributors"
project_copyright = f"2026, {author}"
release = version = installed_version("itx-notebook")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nitpicky = True
# Docstrings name other people's types: links to those need their inventories, and the build needs no network.
nitpick_ignore_regex = [("py:.*", r"(?!itx_notebook).*")]

html_theme = "pydata_sphinx_theme"
html_title = "itx-notebook"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
# A page's cells run when the page is built, on a store of its own, and one that fails, fails the build.
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
