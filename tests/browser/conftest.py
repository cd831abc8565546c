"""One JupyterLab and one Chromium for the browser tests; a notebook, a kernel and a data directory for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import CHROMIUM_FLAGS, FrontEnd, LabServer, NotebookPage, OpenNotebook, open_notebook, start_lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    with start_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM"), headless=True, args=CHROMIUM_FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture
def notebook(
    request: pytest.FixtureRequest, lab: LabServer, browser: Browser, tmp_path: Path
) -> Iterator[OpenNotebook]:
    """``notebook(cell, …)`` opens a notebook with these cells, numbered from 1; cell 0 sets its data directory.

    In JupyterLab, or in the front end that is this fixture's parameter.
    """
    front_end: FrontEnd = getattr(request, "param", "lab")
    with ExitStack() as stack:

        def open_(*cells: str) -> NotebookPage:
            opened: AbstractContextManager[NotebookPage] = open_notebook(
                lab, browser, tmp_path / "itx", list(cells), front_end=front_end
            )
            return stack.enter_context(opened)

        yield open_
