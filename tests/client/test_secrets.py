"""What a notebook keeps of a token after everything that shows something was shown: nothing."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli_access import run
from tests.test_cli_serve import serve

CELLS = (
    "import logging, os, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)",
    "import itx_notebook; itx = itx_notebook.connect()",
    "itx",
    "print(repr(itx), itx.aio, itx.describe(), vars(itx).keys(), itx._loader, itx._loader.destination)",
    "itx.streams.get('/a').append('demo.hello', {'n': 1})",
    "itx.tree()",
    "%load_ext itx_notebook",
    "%itx status",
    "itx_notebook.connect(token=os.environ['ANOTHER'])",
    "itx_notebook.connect('no-such-project')",
    "itx_notebook.connect(token='not a token ' + os.environ['ANOTHER'])",
    "itx_notebook.connect(url='https://ada:' + os.environ['ANOTHER'] + '@itx.example.com')",
    "itx_notebook.connect(token=lambda refused: 1 / 0)",
    "import pickle; pickle.dumps(itx)",
    "itx.close(); itx",
)
"""Those that fail go on: what an error shows is looked at too."""


RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=120, store_widget_state=True).execute()
print(json.dumps(notebook))
"""
"""In a process of its own: its client leaves sockets to the garbage collector."""


def execute(environment: dict[str, str]) -> str:
    """Run the cells in a kernel, and give the notebook as a front end would save it, with its widgets' state."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(CELLS),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, **environment},
    )
    return ran.stdout


@pytest.fixture
def token(home: Path) -> str:
    for command in (("projects", "create", "shop"), ("users", "create", "ada"), ("users", "grant", "ada", "shop")):
        run(home, *command)
    return run(home, "tokens", "create", "ada").stdout.strip()


def test_notebook_and_widgets_keep_no_token(home: Path, token: str, tmp_path: Path) -> None:
    another = secrets.token_urlsafe(32)
    with serve(home) as served:
        url = served.url.rstrip("/").replace("ws://", "http://")
        text = execute(
            {
                "ITX_URL": url,
                "ITX_TOKEN": token,
                "ITX_PROJECT": "shop",
                "ANOTHER": another,
                "ITX_HOME": str(tmp_path / "kernel"),
                "IPYTHONDIR": str(tmp_path / "ipython"),
            }
        )
        served.end()
        log = "".join(served.said)
    # Everything was shown: the handle, the tree as a widget with its state, and each error for its own reason.
    for shown in (
        url,
        "application/vnd.jupyter.widget-view+json",
        '"snapshot"',
        "refused the credentials (401)",
        "Project no-such-project not found.",
        "The token is not one",
        "holds a name or password",
        "division by zero",
        "DEBUG",
    ):
        assert shown in text, shown
    for secret in (token, token.rpartition("_")[2], another):
        assert secret not in text
        assert secret not in log
    for file in (file for file in tmp_path.rglob("*") if file.is_file() and home not in file.parents):
        assert token.encode() not in file.read_bytes(), file
