"""What shows the tree beside JupyterLab: Notebook 7, an older kernel, VS Code's widget manager, marimo.

Each runs the same cells and shows the same tree, so that one test can ask the same of all of them.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, Page

from tests.browser.lab import LabServer, get_free_port, open_notebook
from tests.browser.tree_page import TreePage

__all__ = ["IPYKERNEL_6", "MARIMO", "NOTEBOOK", "OLD_KERNEL", "VSCODE", "Host", "MarimoPage", "open_host"]

HostName = Literal["notebook", "ipykernel 6", "vscode", "marimo"]


@dataclass(frozen=True)
class Host:
    """What is true of a host.

    Attributes
    ----------
    name : str
        What :func:`open_host` knows it by.
    answers_while_busy : bool
        Whether Python sees a click while a cell runs; otherwise it does when the cell has ended.
    text, ground : str
        The host's own variables for the colours of text and of what lies below it.
    """

    name: HostName
    answers_while_busy: bool
    text: str = "--jp-ui-font-color1"
    ground: str = "--jp-layout-color1"

    def __str__(self) -> str:
        return self.name


NOTEBOOK: Final = Host("notebook", answers_while_busy=True)
IPYKERNEL_6: Final = Host("ipykernel 6", answers_while_busy=False)
# What VS Code's own connection to a kernel does while a cell runs, the page cannot show: it has Jupyter's.
VSCODE: Final = Host("vscode", True, "--vscode-foreground", "--vscode-editor-background")
MARIMO: Final = Host("marimo", False, "--foreground", "--background")

OLD_KERNEL: Final = "6.31.0"
"""The last release of ipykernel without subshells."""

_OLD_KERNEL_PACKAGES: Final = Path(sys.prefix) / "ipykernel6"
_VSCODE: Final = Path(__file__).parent / "vscode"
_ESBUILD: Final = Path(__file__).parents[2] / "js" / "node_modules" / ".bin" / "esbuild"
_ANYWIDGET: Final = Path(sys.prefix) / "share" / "jupyter" / "nbextensions" / "anywidget" / "index.js"
_START_TIMEOUT: Final = 60.0

# What VS Code's "Dark+" and "Light+" tell a notebook's outputs, as far as the tree asks for it.
_VSCODE_COLOURS: Final = {
    "dark": {
        "editor-background": "#1e1e1e",
        "foreground": "#cccccc",
        "descriptionForeground": "rgba(204, 204, 204, 0.7)",
        "focusBorder": "#007fd4",
        "errorForeground": "#f48771",
        "editorWarning-foreground": "#cca700",
        "testing-iconPassed": "#73c991",
        "list-hoverBackground": "#2a2d2e",
        "list-inactiveSelectionBackground": "#37373d",
    },
    "light": {
        "editor-background": "#ffffff",
        "foreground": "#616161",
        "descriptionForeground": "#717171",
        "focusBorder": "#0090f1",
        "errorForeground": "#a1260d",
        "editorWarning-foreground": "#bf8803",
        "testing-iconPassed": "#388a34",
        "list-hoverBackground": "#e8e8e8",
        "list-inactiveSelectionBackground": "#e4e6f1",
    },
}
_VSCODE_PAGE: Final = """<!doctype html>
<html style="{colours}">
<head>
  <meta charset="utf-8">
  <script src="require.js"></script>
  <script>requirejs.config({{ paths: {{ anywidget: "/static/vscode/anywidget" }} }});</script>
  <script src="host.js"></script>
</head>
<body class="vscode-{theme}"></body>
</html>
"""


@contextlib.contextmanager
def open_host(
    name: HostName, lab: LabServer, browser: Browser, folder: Path, cells: list[str], *, is_dark: bool = False
) -> Iterator[TreePage]:
    """Open `cells` in a host, none of them run yet; the data directory is ``folder / "itx"``."""
    home = folder / "itx"
    match name:
        case "notebook" | "ipykernel 6":
            kernel = "python3" if name == "notebook" else _install_old_kernel(lab)
            front_end: Literal["lab", "notebook"] = "notebook" if name == "notebook" else "lab"
            with open_notebook(lab, browser, home, cells, front_end=front_end, kernel=kernel) as notebook:
                if is_dark:
                    notebook.choose_theme("JupyterLab Dark")
                yield notebook
        case "vscode":
            with _open_vscode(lab, browser, home, cells, is_dark=is_dark) as page:
                yield page
        case "marimo":
            with _open_marimo(browser, folder, home, cells, is_dark=is_dark) as page:
                yield page


# -- ipykernel 6 -----------------------------------------------------------------------------------------------------


def _install_old_kernel(lab: LabServer) -> str:
    """Tell the server of a kernel that finds the older ipykernel before the environment's own."""
    name = "ipykernel6"
    assert _OLD_KERNEL_PACKAGES.is_dir(), "make test-browser installs it"
    folder = lab.data / "kernels" / name
    folder.mkdir(parents=True, exist_ok=True)
    search = [str(_OLD_KERNEL_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"ipykernel {OLD_KERNEL}",
        "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join(search)},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    return name


# -- VS Code ---------------------------------------------------------------------------------------------------------


class VsCodePage(TreePage):
    """A page with VS Code's widget manager and a kernel of the Jupyter server."""

    def __init__(self, page: Page, cells: list[str]) -> None:
        super().__init__(page)
        self._cells = cells

    def start(self, index: int) -> None:
        """Begin a cell and do not wait for it."""
        self.page.evaluate(
            """code => {
                const mine = window.__cell = { done: false };
                window.__host.run(code)
                    .catch(error => { mine.error = String(error); })
                    .then(() => { mine.done = true; });
            }""",
            self._cells[index],
        )

    def wait_until_idle(self, timeout: float = 60.0) -> None:
        """Wait until the cell that was begun last has ended; fails the test if the cell failed."""
        self.page.wait_for_function("() => window.__cell.done", timeout=timeout * 1000)
        error = self.page.evaluate("() => window.__cell.error ?? null")
        assert error is None, error

    @property
    def is_busy(self) -> bool:
        """Whether the cell that was begun last still runs."""
        return not self.page.evaluate("() => window.__cell.done")


@contextlib.contextmanager
def _open_vscode(
    lab: LabServer, browser: Browser, home: Path, cells: list[str], *, is_dark: bool
) -> Iterator[VsCodePage]:
    """Open a page that the Jupyter server itself serves, so that it may talk to it."""
    theme = "dark" if is_dark else "light"
    page_name = f"{uuid.uuid4().hex}.html"
    colours = " ".join(f"--vscode-{name}: {value};" for name, value in _VSCODE_COLOURS[theme].items())
    (_build_vscode(lab) / page_name).write_text(_VSCODE_PAGE.format(theme=theme, colours=colours))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{lab.port}/static/vscode/{page_name}")
        page.evaluate("async token => { window.__host = await window.openHost(token); }", lab.token)
        opened = VsCodePage(page, [f"import os\nos.environ['ITX_HOME'] = {str(home)!r}", *cells])
        opened.run(0)
        yield opened
        page.evaluate("() => window.__host.close()")
    finally:
        context.close()


def _build_vscode(lab: LabServer) -> Path:
    """Put the page's scripts where the server finds them, once; anywidget's is the one of the kernel's environment."""
    folder = lab.static / "vscode"
    if not folder.exists():
        command = [str(_ESBUILD), str(_VSCODE / "host.mjs"), "--bundle", "--format=iife", "--log-level=warning"]
        subprocess.run([*command, f"--outfile={folder / 'host.js'}"], check=True)
        shutil.copy(_VSCODE / "node_modules" / "requirejs" / "require.js", folder)
        shutil.copy(_ANYWIDGET, folder / "anywidget.js")
    return folder


# -- marimo ----------------------------------------------------------------------------------------------------------


class MarimoPage(TreePage):
    """An app of marimo, in which each cell has a button that runs it."""

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._begun: dict[int, int] = {}
        self._last = 0

    def start(self, index: int) -> None:
        """Begin a cell and do not wait for it."""
        self._last = index
        self._begun[index] = self._begun.get(index, 0) + 1
        self.page.get_by_role("button", name=f"Run {index}", exact=True).click()

    def wait_until_idle(self, timeout: float = 60.0) -> None:
        """Wait until the cell that was begun last has ended."""
        self.page.get_by_text(self._end).wait_for(timeout=timeout * 1000)

    @property
    def is_busy(self) -> bool:
        """Whether the cell that was begun last still runs."""
        return self.page.get_by_text(self._end).count() == 0

    def reload(self) -> None:
        """Reload the page, in which then no cell has run."""
        self._begun.clear()
        self.page.reload()

    @property
    def _end(self) -> str:
        return f"Cell {self._last} ended: {self._begun[self._last]}."


@contextlib.contextmanager
def _open_marimo(
    browser: Browser, folder: Path, home: Path, cells: list[str], *, is_dark: bool
) -> Iterator[MarimoPage]:
    """Run an app of `cells` on loopback, with settings of its own."""
    app = folder / "app.py"
    app.write_text(_write_app(cells))
    settings = folder / "marimo"
    (settings / "marimo").mkdir(parents=True)
    (settings / "marimo" / "marimo.toml").write_text(f'[display]\ntheme = "{"dark" if is_dark else "light"}"\n')
    port = get_free_port()
    environment = {
        **os.environ,
        "ITX_HOME": str(home),
        **{f"XDG_{kind}_HOME": str(settings) for kind in ("CONFIG", "STATE", "CACHE", "DATA")},
    }
    command = [sys.executable, "-m", "marimo", "run", "--headless", "--no-token", f"--port={port}", str(app)]
    log = folder / "marimo.log"
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
        try:
            _wait_until_healthy(process, port, log)
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}")
            page.get_by_role("button", name="Run 1", exact=True).wait_for(timeout=30_000)
            yield MarimoPage(page)
        finally:
            context.close()
            process.terminate()
            process.wait(30)


def _write_app(cells: list[str]) -> str:
    """A program for marimo in which cell `n` runs when "Run n" is pressed and says when it has ended.

    marimo runs a cell when something that it reads changes: the cell reads its button, and the saying reads what the
    cell sets.
    """
    parts = ["import marimo as mo"]
    for number, source in enumerate(cells, start=1):
        button = f"run_{number}"
        lines = source.strip().split("\n")
        last = ast.parse(source.strip()).body[-1]
        # What a cell shows is the value of its last expression.
        at = last.lineno - 1 if isinstance(last, ast.Expr) else len(lines)
        lines.insert(at, f"ended_{number} = {button}.value")
        parts += [
            f'{button} = mo.ui.button(value=0, on_click=lambda n: n + 1, label="Run {number}")\n{button}',
            "\n".join([f"mo.stop({button}.value == 0)", *lines]),
            f'mo.md(f"Cell {number} ended: {{ended_{number}}}.")',
        ]
    bodies = [f"@app.cell\ndef _():\n{textwrap.indent(part, '    ')}\n    return\n" for part in parts]
    return "\n\n".join(["import marimo\napp = marimo.App()", *bodies, 'if __name__ == "__main__":\n    app.run()\n'])


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"marimo did not start:\n{log.read_text(errors='replace')[-3000:]}")
