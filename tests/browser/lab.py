"""A real JupyterLab and a real Chromium, driven the way a person would, for the browser tests.

Own room because starting both is dear: one server and one browser serve the whole session, each test gets a notebook,
a kernel, a data directory and a page of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import nbformat
from playwright.sync_api import Browser, Locator, Page, expect

__all__ = ["CHROMIUM_FLAGS", "LabServer", "NotebookPage", "OpenNotebook", "open_notebook", "start_lab"]

CHROMIUM_FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_START_TIMEOUT: Final = 60.0

_SETTINGS: Final = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # What the docs tell people to switch on: without it a notebook keeps no widget state.
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
}


OpenNotebook = Callable[..., "NotebookPage"]
"""Opens a notebook of the given cells."""


class LabServer:
    """A running JupyterLab on loopback. Its kernels inherit the data directory of the test that is running."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, token: str, root: Path) -> None:
        self.process = process
        self.port = port
        self.token = token
        self.root = root

    def get_url(self, path: str) -> str:
        """The address of a notebook, in a workspace of its own."""
        workspace = uuid.uuid4().hex
        return f"http://127.0.0.1:{self.port}/lab/workspaces/{workspace}/tree/{path}?token={self.token}"

    def get_api_url(self, path: str) -> str:
        """The address of a REST call."""
        return f"http://127.0.0.1:{self.port}/api/{path}?token={self.token}"


@contextlib.contextmanager
def start_lab(folder: Path) -> Iterator[LabServer]:
    """Start JupyterLab with settings, configuration and run-time files in `folder`; end it at the end."""
    root = folder / "notebooks"
    root.mkdir(parents=True)
    settings = folder / "settings"
    for name, values in _SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port, token = _get_free_port(), secrets.token_hex(16)
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"),
        # Lets a test run a cell and know when it is done.
        "--LabApp.expose_app_in_browser=True",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=root)
        try:
            server = LabServer(process, port, token, root)
            _wait_until_up(server, folder / "lab.log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class NotebookPage:
    """A notebook open in JupyterLab, and what a person can do with it.

    Attributes
    ----------
    home : Path
        The data directory of its kernel.
    """

    def __init__(self, server: LabServer, page: Page, path: Path, home: Path) -> None:
        self.server = server
        self.page = page
        self.path = path
        self.home = home

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, index: int) -> None:
        """Run a cell and wait until it has ended; fails the test if the cell failed."""
        self.start(index)
        self.wait_until_idle()
        assert not self.get_errors(index), self.get_errors(index)

    def start(self, index: int) -> None:
        """Begin a cell and do not wait for it."""
        self.page.evaluate(
            """index => {
                const panel = window.jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = index;
                panel.content.deselectAll();
                window.__cell = {done: false};
                const mine = window.__cell;
                window.jupyterapp.commands.execute('notebook:run-cell').then(() => { mine.done = true; });
            }""",
            index,
        )

    def wait_until_idle(self, timeout: float = 60.0) -> None:
        """Wait until the cell that was begun last has ended."""
        self.page.wait_for_function("() => window.__cell.done", timeout=timeout * 1000)

    @property
    def is_busy(self) -> bool:
        """Whether the cell that was begun last still runs."""
        return not self.page.evaluate("() => window.__cell.done")

    def restart_kernel(self) -> None:
        """Restart the kernel, as the menu does after its question."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")

    def save(self) -> None:
        """Save the notebook with its outputs and widget state."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def wait_until_saveable(self, path: str, child: str) -> None:
        """Wait until the widget state that a save would keep names `child` below `path`."""
        self.page.evaluate(
            """async ([path, child]) => {
                const { content } = window.jupyterapp.shell.currentWidget;
                const mime = 'application/vnd.jupyter.widget-view+json';
                const id = [...content.model.cells].flatMap(cell => cell.outputs?.toJSON() ?? [])
                    .map(output => output.data?.[mime]?.model_id).filter(Boolean).at(-1);
                const manager = await content.rendermime.createRenderer(mime)._manager.promise;
                const model = await manager.get_model(id);
                const end = Date.now() + 15000;
                while (!model.get('snapshot').nodes[path]?.children.includes(child)) {
                    if (Date.now() > end) throw new Error(`nothing of ${path}/${child} in what a save would keep`);
                    await new Promise(resolve => setTimeout(resolve, 50));
                }
            }""",
            [path, child],
        )

    def reload(self) -> None:
        """Reload the page and wait for the notebook."""
        self.page.reload()
        self.wait_until_open()

    def close_and_end_kernel(self) -> None:
        """Shut the kernel down, so that the next opening finds a fresh one."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def wait_until_open(self) -> None:
        """Wait until the notebook is drawn and its kernel is ready."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp?.shell?.currentWidget;
                const kernel = panel?.sessionContext?.session?.kernel;
                return panel?.content?.widgets?.length > 0 && kernel?.status === 'idle';
            }""",
            timeout=60_000,
        )

    # -- looking -----------------------------------------------------------------------------------------------------

    def get_errors(self, index: int) -> list[dict[str, Any]]:
        """The error outputs of a cell."""
        return [output for output in self.get_outputs(index) if output["output_type"] == "error"]

    def get_outputs(self, index: int) -> list[dict[str, Any]]:
        """The outputs of a cell, as a notebook keeps them."""
        outputs: list[dict[str, Any]] = self.page.evaluate(
            "index => window.jupyterapp.shell.currentWidget.content.model.cells.get(index).outputs.toJSON()", index
        )
        return outputs

    def get_sources(self) -> list[str]:
        """The text of every cell."""
        sources: list[str] = self.page.evaluate(
            "() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells)"
            ".map(cell => cell.sharedModel.getSource())"
        )
        return sources

    @property
    def tree(self) -> Locator:
        """The stream tree; the newest if there are several."""
        return self.page.get_by_role("tree").last

    @property
    def status(self) -> Locator:
        """The status line of the stream tree."""
        return self.page.locator(".itx-header").last.get_by_role("status")

    def row(self, path: str) -> Locator:
        """The row of a stream."""
        return self.tree.locator(f'[role=treeitem][data-path="{path}"]')

    def get_count(self, path: str) -> int:
        """The number of events that the row of a stream shows."""
        text = self.row(path).locator(".itx-badge").inner_text()
        return int(text.replace(",", ""))

    def expect_count(self, path: str, count: int, timeout: float = 10.0) -> None:
        """Wait until the row of a stream shows `count` events."""
        digits = f"{count:,}"
        expect(self.row(path).locator(".itx-badge")).to_have_text(
            re.compile(f"^({digits}|{count})$"), timeout=timeout * 1000
        )

    def expand(self, path: str) -> None:
        """Press the disclosure of a row."""
        self.row(path).locator(f'button[aria-label="Expand {path}"], button[aria-label="Load {path}"]').click()


@contextlib.contextmanager
def open_notebook(
    server: LabServer, browser: Browser, home: Path, cells: list[str], *, theme: str | None = None
) -> Iterator[NotebookPage]:
    """Write a notebook of `cells`, open it in a new browser context, and end its kernel afterwards."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = server.root / f"{uuid.uuid4().hex}.ipynb"
    # The server's environment is fixed, so the notebook itself says where its data is.
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os\nos.environ['ITX_HOME'] = {str(home)!r}"))
    nbformat.write(notebook, path)
    with open_page(server, browser, path, home) as opened:
        opened.run(0)
        yield opened
        opened.close_and_end_kernel()


@contextlib.contextmanager
def open_page(server: LabServer, browser: Browser, path: Path, home: Path) -> Iterator[NotebookPage]:
    """Open an existing notebook of the server in a new browser context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(server.get_url(path.name))
        opened = NotebookPage(server, page, path, home)
        opened.wait_until_open()
        yield opened
    finally:
        context.close()


def _get_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(server: LabServer, log: Path) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.get_api_url("status"), timeout=5) as reply:  # noqa: S310  # our own http
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")
