"""What every test gets: a data directory of its own, and no settings of whoever runs it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of this test, also as ``ITX_HOME``. Not made yet."""
    home = tmp_path / "itx"
    monkeypatch.setenv("ITX_HOME", str(home))
    monkeypatch.delenv("ITX_PROJECT", raising=False)
    return home
