"""What every test gets: a data directory of its own, and no settings of whoever runs it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell starts its background jobs with the interrupt ignored, and so would be every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of this test, also as ``ITX_HOME``. Not made yet."""
    home = tmp_path / "itx"
    monkeypatch.setenv("ITX_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ITX_PROJECT", "ITX_URL", "ITX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return home
