"""A real JupyterLab and a real Chromium, driven the way a person would, for the browser tests.

Own room because starting both is dear: one server and one browser serve the whole session, each test gets a notebook,
a kernel, a data directory and a page of its own. The server serves Notebook 7 too, which is driven the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from typing import Any, Final, Literal

import nbformat
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PageTimeoutError

from tests.browser.tree_page import TreePage

__all__ = ["CHROMIUM_FLAGS", "FrontEnd", "LabServer", "NotebookPage", "OpenNotebook", "open_notebook", "start_lab"]

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


FrontEnd = Literal["lab", "notebook"]
"""JupyterLab or Notebook 7."""

OpenNotebook = Callable[..., "NotebookPage"]
"""Opens a notebook of the given cells."""


class LabServer:
    """A running JupyterLab on loopback.

    Attributes
    ----------
    root : Path
        Where the notebooks lie.
    data : Path
        Jupyter's data directory, in which kernels can be installed.
    static : Path
        What lies here is served below ``/static/``.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, token: str, folder: Path) -> None:
        self.process = process
        self.port = port
        self.token = token
        self.root = folder / "notebooks"
        self.data = folder / "data"
        self.static = folder / "static"

    def get_url(self, path: str, front_end: FrontEnd = "lab") -> str:
        """The address of a notebook, in a workspace of its own."""
        if front_end == "notebook":
            return f"http://127.0.0.1:{self.port}/notebooks/{path}?token={self.token}"
        workspace = uuid.uuid4().hex
        return f"http://127.0.0.1:{self.port}/lab/workspaces/{workspace}/tree/{path}?token={self.token}"

    def get_api_url(self, path: str) -> str:
        """The address of a REST call."""
        return f"http://127.0.0.1:{self.port}/api/{path}?token={self.token}"


@contextlib.contextmanager
def start_lab(folder: Path) -> Iterator[LabServer]:
    """Start JupyterLab with settings, configuration and run-time files in `folder`; end it at the end."""
    settings = folder / "settings"
    for name, values in _SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    port, token = get_free_port(), secrets.token_hex(16)
    root, data, static = (folder / name for name in ("notebooks", "data", "static"))
    for each in (root, static):
        each.mkdir(parents=True)
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_DATA_DIR": str(data),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"),
        f"--ServerApp.extra_static_paths={static}",
        # Lets a test run a cell and know when it is done.
        *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=root)
        try:
            server = LabServer(process, port, token, folder)
            _wait_until_up(server, folder / "lab.log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class NotebookPage(TreePage):
    """A notebook open in JupyterLab or Notebook 7, and what a person can do with it.

    Attributes
    ----------
    home : Path
        The data directory of its kernel.
    front_end : "lab" or "notebook"
        What it is open in.
    """

    def __init__(self, server: LabServer, page: Page, path: Path, home: Path, front_end: FrontEnd = "lab") -> None:
        super().__init__(page)
        self.server = server
        self.path = path
        self.home = home
        self.front_end = front_end

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, index: int) -> None:
        """Run a cell and wait until it has ended; fails the test if the cell failed."""
        super().run(index)
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

    def choose_theme(self, theme: str) -> None:
        """Choose a theme by its name, as the menu does, and wait until it is there."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)

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
        """Wait until the notebook is drawn and its kernel is ready; fails the test with what there is instead."""
        try:
            self.page.wait_for_function(
                """() => {
                    const panel = window.jupyterapp?.shell?.currentWidget;
                    const kernel = panel?.sessionContext?.session?.kernel;
                    return panel?.content?.widgets?.length > 0 && kernel?.status === 'idle';
                }""",
                timeout=60_000,
            )
        except PageTimeoutError as error:
            found = self.page.evaluate(
                """() => {
                    const panel = window.jupyterapp?.shell?.currentWidget;
                    const kernel = panel?.sessionContext?.session?.kernel;
                    const { status, connectionStatus } = kernel ?? {};
                    return { title: panel?.title?.label, cells: panel?.content?.widgets?.length, status,
                        connectionStatus, text: document.body.innerText.slice(0, 300) };
                }"""
            )
            raise AssertionError(f"the notebook did not open: {found}") from error

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


@contextlib.contextmanager
def open_notebook(
    server: LabServer,
    browser: Browser,
    home: Path,
    cells: list[str],
    *,
    front_end: FrontEnd = "lab",
    kernel: str = "python3",
) -> Iterator[NotebookPage]:
    """Write a notebook of `cells`, open it in a new browser context, and end its kernel afterwards."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
    path = server.root / f"{uuid.uuid4().hex}.ipynb"
    # The server's environment is fixed, so the notebook itself says where its data is.
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os\nos.environ['ITX_HOME'] = {str(home)!r}"))
    nbformat.write(notebook, path)
    with open_page(server, browser, path, home, front_end=front_end) as opened:
        opened.run(0)
        yield opened
        opened.close_and_end_kernel()


@contextlib.contextmanager
def open_page(
    server: LabServer, browser: Browser, path: Path, home: Path, *, front_end: FrontEnd = "lab"
) -> Iterator[NotebookPage]:
    """Open an existing notebook of the server in a new browser context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(server.get_url(path.name, front_end))
        opened = NotebookPage(server, page, path, home, front_end)
        opened.wait_until_open()
        yield opened
    finally:
        context.close()


def get_free_port() -> int:
    """A port on loopback that nobody listens on."""
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
