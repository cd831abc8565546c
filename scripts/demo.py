"""``make demo``: JupyterLab on the quickstart, beside this repository's history as streams.

The demo has a data directory and copies of the notebooks of its own in ``build/demo``, so that it changes neither the
person's data nor the checked-in notebooks. With ``--check`` nobody need be there: both notebooks are run cell by cell
in JupyterLab in a headless Chromium, and the tree is photographed into ``build/demo.png``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from tests.browser.lab import NotebookPage

ROOT: Final = Path(__file__).resolve().parent.parent
NOTEBOOKS: Final = ROOT / "notebooks"
DEMO: Final = ROOT / "build" / "demo"
SCREENSHOT: Final = ROOT / "build" / "demo.png"
QUICKSTART: Final = "quickstart.ipynb"
HISTORY: Final = "git_history.ipynb"
OPENED_ROWS: Final = 6


class DemoError(Exception):
    """The demo does not work; the message says what failed."""


def main() -> int:
    """Run the demo; 0 if it worked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run both notebooks in a headless browser and exit")
    is_check = parser.parse_args().check
    home = DEMO / ("check-home" if is_check else "home")
    if is_check:
        # A check that stands on an earlier run's data would not show that a first run works.
        shutil.rmtree(home, ignore_errors=True)
    os.environ["ITX_HOME"] = str(home)
    # The copies do not lie where the originals do; what the person chose is kept.
    os.environ.setdefault("ITX_GIT_REPOSITORY", str(ROOT))
    try:
        load_history()
        if is_check:
            check()
        else:
            open_lab()
    except DemoError as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def load_history() -> None:
    """Load the git history by executing its notebook, without a browser."""
    started = time.monotonic()
    print(f"Loading the git history of {os.environ['ITX_GIT_REPOSITORY']} ...", flush=True)
    notebook = nbformat.read(NOTEBOOKS / HISTORY, as_version=4)
    try:
        NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    except CellExecutionError as error:
        raise DemoError(f"{HISTORY} could not be run.\n{error}") from error
    print(f"Loaded in {time.monotonic() - started:.0f} s.", flush=True)


def copy_notebooks(folder: Path) -> None:
    """Fresh copies of the notebooks."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copyfile(path, folder / path.name)


def open_lab() -> None:
    """Open JupyterLab on the quickstart, until the person ends it."""
    folder = DEMO / "notebooks"
    copy_notebooks(folder)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", str(folder / QUICKSTART)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    print("Opening JupyterLab; Ctrl-C here ends it.", flush=True)
    server = subprocess.Popen(command)
    while server.poll() is None:
        # The terminal gives the server its own Ctrl-C: it asks whether to end, and we wait for what it decides.
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


def check() -> None:
    """Run both notebooks in JupyterLab in a headless Chromium, and take the screenshot."""
    # The driver of the browser tests; it stands in tests, which are not installed.
    sys.path.insert(0, str(ROOT))
    from playwright.sync_api import Error, sync_playwright

    from tests.browser.lab import CHROMIUM_FLAGS, open_page, start_lab

    found = subprocess.run([ROOT / "scripts" / "find_chromium.sh"], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise DemoError("there is no Chromium, see above.")
    scratch = DEMO / "check-lab"
    shutil.rmtree(scratch, ignore_errors=True)
    home = Path(os.environ["ITX_HOME"])
    try:
        with start_lab(scratch) as lab, sync_playwright() as playwright:
            copy_notebooks(lab.root)
            browser = playwright.chromium.launch(
                executable_path=found.stdout.strip(), headless=True, args=CHROMIUM_FLAGS
            )
            for name in (QUICKSTART, HISTORY):
                with open_page(lab, browser, lab.root / name, home) as page:
                    run_all_cells(page, name)
                    if name == QUICKSTART:
                        take_screenshot(page)
                    # The next kernel needs the data directory.
                    page.close_and_end_kernel()
            browser.close()
    except (Error, AssertionError, RuntimeError) as error:
        raise DemoError(str(error)) from error
    print(f"Screenshot: {SCREENSHOT.relative_to(ROOT)} ({SCREENSHOT.stat().st_size // 1000} KB)")


def run_all_cells(page: NotebookPage, name: str) -> None:
    """Run the code cells one after the other, as a person would; each must end as its tags say."""
    cells: list[Any] = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    for index, cell in enumerate(cells):
        if cell.cell_type != "code":
            continue
        page.start(index)
        page.wait_until_idle()
        errors = page.get_errors(index)
        if errors and "raises-exception" not in cell.metadata.get("tags", ()):
            raise DemoError(f"{name}, cell {cell.id}: {errors[0]['ename']}: {errors[0]['evalue']}")
        # What must not fail a cell is shown in place of the data; here nothing but the intended one may be.
        alerts = [output for output in page.get_outputs(index) if 'role="alert"' in str(output.get("data", ""))]
        if alerts and cell.id != "error-inline":
            raise DemoError(f"{name}, cell {cell.id}: {alerts[0]['data']['text/plain']}")
    print(f"{name}: every cell ran.", flush=True)


def take_screenshot(page: NotebookPage) -> None:
    """Open the git history in the live tree and photograph the cell it is in."""
    from playwright.sync_api import expect

    expect(page.status).to_have_text("live")
    page.tree.scroll_into_view_if_needed()
    page.expand("/git")
    rows = page.tree.locator('[role=treeitem][data-path^="/git/"]')
    expect(rows.first).to_be_visible()
    # From below, so that what opens pushes nothing away that is still to be clicked.
    for path in reversed([row.get_attribute("data-path") for row in rows.all()[:OPENED_ROWS]]):
        page.expand(str(path))
    cell = page.page.locator(".jp-CodeCell").filter(has=page.page.get_by_role("tree")).last
    # No toolbar of the current cell, and no row under the mouse.
    page.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
    page.page.mouse.move(0, 0)
    page.tree.evaluate("tree => { tree.scrollTop = 0; }")
    cell.scroll_into_view_if_needed()
    SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
    cell.screenshot(path=SCREENSHOT)


if __name__ == "__main__":
    sys.exit(main())
