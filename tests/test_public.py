from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import msgspec

import itx_notebook


def test_public_names_are_sorted_and_are_the_namespace() -> None:
    names = itx_notebook.__all__
    # Constants, then classes, then functions: the order that the linter keeps.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert len(set(names)) == len(names)
    bound = {
        name
        for name, value in vars(itx_notebook).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert bound - {"Any"} == set(names)


def test_public_names_have_docstrings() -> None:
    for name in set(itx_notebook.__all__) - {"UNSET"}:
        assert getattr(itx_notebook, name).__doc__, name


_IMPORT = """
import json, sys, threading

opened = []
def watch(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc")):
        if args[1] is None or "r" not in str(args[1]) or not any(args[0].startswith(p) for p in sys.path if p):
            opened.append([event, args[0], str(args[1])])
    elif event.split(".")[0] in ("socket", "sqlite3", "subprocess") and event not in ("socket.gethostname",):
        opened.append([event, str(args)])
sys.addaudithook(watch)
threads = threading.active_count()
import itx_notebook
heavy = ["pandas", "numpy", "anywidget", "ipywidgets", "IPython", "traitlets", "jupyter_client", "zmq"]
print(json.dumps({
    "threads": threading.active_count() - threads,
    "opened": opened,
    "heavy": [name for name in heavy if name in sys.modules],
}))
"""


def test_importing_starts_nothing_opens_nothing_and_brings_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IMPORT],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    facts: dict[str, Any] = msgspec.json.decode(done.stdout)
    assert facts == {"threads": 0, "opened": [], "heavy": []}
    assert list(tmp_path.iterdir()) == []


def test_example_of_the_docstring_works_as_it_stands(tmp_path: Path) -> None:
    lines = [line[4:] for line in (itx_notebook.__doc__ or "").splitlines() if line.startswith(">>> ")]
    script = "\n".join(lines[:-1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert lines[-1] == "itx.tree()"
