from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.support import close_engines, open_shell, run_cell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell without the extension."""
    with open_shell(tmp_path / "ipython", monkeypatch) as shell:
        yield shell
    close_engines()


@pytest.fixture
def loaded(shell: InteractiveShell) -> InteractiveShell:
    """A shell with the extension."""
    assert run_cell(shell, "%load_ext itx_notebook").error is None
    return shell
