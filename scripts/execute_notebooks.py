"""Run the notebooks and store what they show, on a fresh data directory, with nothing of this machine in them.

``make notebooks`` after a change to a notebook or to what one shows. A notebook whose outputs are the same but for what
``tests/nbval.cfg`` takes out (moments, counts that grow) is left as it is, so that running this changes no file without
a reason.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

ROOT: Final = Path(__file__).resolve().parent.parent
NOTEBOOKS: Final = ROOT / "notebooks"
# What a person on Linux would see in place of our scratch directory.
SHOWN_HOME: Final = "~/.local/share/itx"
WIDGET_VIEW: Final = "application/vnd.jupyter.widget-view+json"


def main() -> None:
    """Execute every notebook on one fresh store."""
    sanitizers = read_sanitizers()
    with tempfile.TemporaryDirectory() as home:
        os.environ["ITX_HOME"] = home
        for path in sorted(NOTEBOOKS.glob("*.ipynb")):
            stored = nbformat.read(path, as_version=4)
            fresh = execute(stored, home)
            if describe(stored, sanitizers) == describe(fresh, sanitizers):
                print(f"{path.name}: unchanged")
            else:
                nbformat.write(fresh, path)
                print(f"{path.name}: written")


def execute(notebook: Any, home: str) -> Any:
    """A copy of `notebook` with its outputs as of now, cleaned."""
    fresh = nbformat.from_dict(notebook)
    client = NotebookClient(fresh, resources={"metadata": {"path": str(NOTEBOOKS)}}, store_widget_state=False)
    client.execute()
    fresh.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in fresh.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", ()):
            # The widget's state is not kept; what is left is the tree as HTML and text, which every viewer shows.
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return replace_text(fresh, home)


def replace_text(value: Any, home: str) -> Any:
    """`value` with the scratch directory replaced wherever it occurs."""
    if isinstance(value, str):
        return value.replace(home, SHOWN_HOME)
    if isinstance(value, list):
        return [replace_text(item, home) for item in value]
    if isinstance(value, dict):
        return nbformat.from_dict({key: replace_text(item, home) for key, item in value.items()})
    return value


def read_sanitizers() -> list[tuple[str, str]]:
    """The pairs of pattern and replacement that nbval compares with."""
    text = (ROOT / "tests" / "nbval.cfg").read_text(encoding="utf-8")
    return re.findall(r"^regex: (.*)$\n^replace: (.*)$", text, flags=re.MULTILINE)


def describe(notebook: Any, sanitizers: list[tuple[str, str]]) -> str:
    """The notebook as text, without what may differ between two runs."""
    compared = nbformat.from_dict(notebook)
    for cell in compared.cells:
        # Such outputs tell of the repository and the store as they were; a newer one says nothing new to a reader.
        if "nbval-ignore-output" in cell.metadata.get("tags", ()) and cell.outputs:
            cell.outputs = []
    text: str = nbformat.writes(compared)
    for pattern, replacement in sanitizers:
        text = re.sub(pattern, replacement, text)
    return text


if __name__ == "__main__":
    main()
