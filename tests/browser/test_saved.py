"""A notebook that is opened again, exported, or looked at by somebody else: the snapshot, and that it is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import LabServer, OpenNotebook, open_page

pytestmark = pytest.mark.browser

CELL = """
import itx_notebook
itx = itx_notebook.connect()
itx.streams.get("/agents/slack").append("demo.hello")
itx.tree(expand=["/agents"])
"""


@pytest.mark.parametrize("notebook", ["lab", "notebook"], indirect=True)
def test_notebook_when_reopened_with_saved_state_paints_the_snapshot_before_any_cell_runs(
    notebook: OpenNotebook, lab: LabServer, browser: Browser
) -> None:
    page = notebook(CELL, 'itx.streams.get("/agents/mail").append("demo.hello")')
    page.run(1)
    page.run(2)
    expect(page.row("/agents/mail")).to_be_visible()
    # The front end puts the newest state into what is saved once it has been quiet for a second.
    expect(page.status).to_have_text("live")
    page.wait_until_saveable("/agents", "mail")
    page.save()
    page.close_and_end_kernel()
    with open_page(lab, browser, page.path, page.home, front_end=page.front_end) as reopened:
        expect(reopened.row("/agents/slack")).to_be_visible(timeout=30_000)
        expect(reopened.row("/agents/mail")).to_be_visible()
        # A snapshot seconds old could be a fresh display's own: then six seconds of silence decide.
        expect(reopened.status).to_contain_text("snapshot of", timeout=15_000)
        reopened.close_and_end_kernel()


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """A notebook with the tree, executed by nbconvert without any browser."""
    source = tmp_path / "export.ipynb"
    cells = [f"import os\nos.environ['ITX_HOME'] = {str(tmp_path / 'itx')!r}", CELL]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    # Where there are two kernels for Python, JupyterLab asks which one, unless the notebook says it.
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, source)
    return source


def convert(*options: str) -> None:
    """Run nbconvert as the docs say."""
    subprocess.run([sys.executable, "-m", "nbconvert", *options], check=True, capture_output=True)


def expect_tree_without_a_network(browser: Browser, file: Path, *, has_scripts: bool = True) -> None:
    """Open a page that is cut off from everything else and see the tree."""
    context = browser.new_context(offline=True, java_script_enabled=has_scripts)
    page = context.new_page()
    page.goto(file.as_uri())
    expect(page.get_by_text("slack", exact=True)).to_be_visible()
    expect(page.get_by_text("snapshot of")).to_be_visible()
    context.close()


def test_static_export_when_opened_without_a_network_shows_the_tree(executed: Path, browser: Browser) -> None:
    convert("--execute", "--to", "html", "--ExecutePreprocessor.store_widget_state=False", str(executed))
    expect_tree_without_a_network(browser, executed.with_suffix(".html"))


def test_notebook_with_stored_state_when_exported_as_the_docs_say_shows_the_tree(
    executed: Path, browser: Browser
) -> None:
    convert("--execute", "--to", "notebook", "--inplace", str(executed))
    assert nbformat.read(executed, as_version=4).metadata["widgets"]
    keep_cells = "--ClearMetadataPreprocessor.clear_cell_metadata=False"
    convert("--to", "html", "--ClearMetadataPreprocessor.enabled=True", keep_cells, str(executed))
    expect_tree_without_a_network(browser, executed.with_suffix(".html"))


def test_page_when_written_by_to_html_needs_neither_network_nor_script(tmp_path: Path, browser: Browser) -> None:
    written = tmp_path / "tree.html"
    program = f"{CELL.rstrip()}.to_html({str(written)!r})"
    environment = {**os.environ, "ITX_HOME": str(tmp_path / "itx")}
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=environment)
    expect_tree_without_a_network(browser, written, has_scripts=False)


def test_untrusted_notebook_when_opened_shows_the_static_tree(
    executed: Path, lab: LabServer, browser: Browser, tmp_path: Path
) -> None:
    convert(
        *("--execute", "--to", "notebook", "--inplace"),
        *("--ExecutePreprocessor.store_widget_state=False", str(executed)),
    )
    copy = lab.root / f"untrusted-{tmp_path.name}.ipynb"
    copy.write_bytes(executed.read_bytes())
    with open_page(lab, browser, copy, tmp_path / "itx") as page:
        expect(page.page.get_by_text("slack", exact=True)).to_be_visible()
        page.close_and_end_kernel()
