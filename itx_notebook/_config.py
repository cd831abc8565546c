"""Settings as users have them: arguments first, then the environment, then a default.

``ITX_HOME`` is the data directory, ``ITX_PROJECT`` the project a kernel narrows to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["DEFAULT_PROJECT", "get_home", "get_project"]

DEFAULT_PROJECT: Final = "default"


def get_home(home: str | os.PathLike[str] | None = None) -> Path:
    """The data directory: `home`, else ``ITX_HOME``, else the platform's place for user data. Not created here."""
    chosen = home or os.environ.get("ITX_HOME") or _get_default_home()
    return Path(chosen).expanduser().absolute()


def _get_default_home() -> Path:
    import platformdirs  # with what it brings, a tenth of the time of `import itx_notebook`

    return platformdirs.user_data_path("itx", appauthor=False)


def get_project(project: str | None = None) -> str:
    """The project's id or slug: `project`, else ``ITX_PROJECT``, else ``"default"``."""
    return project or os.environ.get("ITX_PROJECT") or DEFAULT_PROJECT
