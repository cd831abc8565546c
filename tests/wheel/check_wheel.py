"""Check an installed wheel from outside the checkout: what it holds, and what importing it does.

Run by ``make test-wheel`` with the clean environment's own Python, which has no pytest: hence plain asserts.

Usage: ``check_wheel.py CHECKOUT DIST``
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# Looked at in a process of its own, so that nothing this script imports is taken for the package's doing.
IMPORT_PROBE = """
import os, sys, threading

def open_files():
    fds = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")] if has_proc else []
    return {os.readlink(fd) for fd in fds if os.path.lexists(fd)}

has_proc = os.path.isdir("/proc/self/fd")
before = open_files()
import itx_notebook
after = open_files()

heavy = {"pandas", "anywidget", "ipywidgets", "IPython", "traitlets"} & set(sys.modules)
assert not heavy, f"import itx_notebook imports {sorted(heavy)}"
threads = threading.enumerate()
assert threads == [threading.main_thread()], f"import itx_notebook starts {threads}"
assert after <= before, f"import itx_notebook leaves open {sorted(after - before)}"
for name in itx_notebook.__all__:
    getattr(itx_notebook, name)
print(itx_notebook.__file__)
"""


def check_contents(wheel: Path, sdist: Path) -> None:
    """The wheel holds the package and nothing beside it; the sdist holds what the bundle is built from."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"itx_notebook"}, roots
    for wanted in ("py.typed", "widgets/static/tree.js"):
        assert f"itx_notebook/{wanted}" in names, f"{wanted} is not in {wheel.name}"
    with tarfile.open(sdist) as archive_:
        members = {name.partition("/")[2] for name in archive_.getnames()}
    for wanted in ("js/package-lock.json", "js/src/tree.tsx", "LICENSE", "README.md"):
        assert wanted in members, f"{wanted} is not in {sdist.name}"
    stray = {name for name in members if "node_modules" in name or name.startswith("itx_notebook/widgets/static/")}
    assert not stray, f"{sdist.name} holds {sorted(stray)[:5]}"


def check_import(checkout: Path) -> Path:
    """Importing is free of side effects, and it is the installed package that was imported."""
    # -W error: a warning at import would reach every user's first cell.
    run = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", IMPORT_PROBE], capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        sys.exit(run.stderr)
    package = Path(run.stdout.strip()).resolve().parent
    assert package.is_relative_to(Path(sys.prefix).resolve()), f"imported from {package}"
    assert not package.is_relative_to(checkout), f"imported from the checkout: {package}"
    return package


def main() -> None:
    checkout, dist = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    check_contents(wheel, sdist)
    package = check_import(checkout)
    bundle = (package / "widgets" / "static" / "tree.js").read_text("utf-8")
    assert "sourceMappingURL" not in bundle, "the bundle points at a source map that is not shipped"
    print(f"{wheel.name}: {importlib.metadata.version('itx-notebook')}, bundle {len(bundle)} characters: good")


if __name__ == "__main__":
    main()
