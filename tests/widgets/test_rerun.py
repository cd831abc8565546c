"""A cell that is run again and again leaves one tree behind, and nothing of the others."""

from __future__ import annotations

import builtins
import gc
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comm
import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances

from itx_notebook._loop import run_blocking
from itx_notebook.client import get_loader
from itx_notebook.notebook import NotebookItx
from itx_notebook.query.observer import QueryObserver
from itx_notebook.streams.subscription import Subscription
from itx_notebook.tree import LiveTree
from itx_notebook.widgets import StreamTreeBrowser, lifetime
from tests.support import on_io_loop, open_owned, open_shell, run_cell
from tests.widgets.conftest import FakeComm

RUNS = 100


class Cells:
    """A notebook of named cells, in a front end that tells of its views."""

    def __init__(self, shell: InteractiveShell, itx: NotebookItx, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shell = shell
        self._request: dict[str, Any] = {}
        self._runs = 0
        shell.user_ns["itx"] = itx
        monkeypatch.setattr(InteractiveShell, "get_parent", lambda _shell: self._request, raising=False)

    def run(self, cell: str | None, source: str) -> StreamTreeBrowser | None:
        """Run a cell and show the tree that it gives."""
        self._runs += 1
        metadata = {} if cell is None else {"cellId": cell}
        self._request = {"header": {"msg_id": f"run-{self._runs}"}, "metadata": metadata}
        ran = run_cell(self.shell, source)
        assert ran.error is None, ran.error
        if not isinstance(ran.value, StreamTreeBrowser):
            return None
        tell_views(ran.value, 1)
        return ran.value

    def forget_results(self) -> None:
        """Empty IPython's and Python's own memory of what cells gave."""
        vars(builtins).pop("_", None)
        self.shell.displayhook.flush()  # type: ignore[no-untyped-call]  # IPython ships no types for it
        for namespace in (self.shell.user_ns, self.shell.user_ns_hidden):
            names = [name for name in namespace if re.fullmatch(r"_+\d*", name)]
            namespace.update(dict.fromkeys(names, ""))


def tell_views(browser: StreamTreeBrowser, count: int, page: str = "page") -> None:
    wire = browser.comm
    assert isinstance(wire, FakeComm)
    wire.say({"kind": "hello"})
    wire.say({"kind": "views", "page": page, "count": count})


@pytest.fixture
def cells(itx: NotebookItx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cells]:
    # As long as it takes the loop to come round.
    monkeypatch.setattr(lifetime, "LINGER", 0.0)
    with open_shell(tmp_path / "ipython", monkeypatch) as shell:
        yield Cells(shell, itx, monkeypatch)
    for widget in list(_instances.values()):
        widget.close()
    on_io_loop(lambda: None)


def _is_closed(browser: StreamTreeBrowser) -> bool:
    on_io_loop(lambda: None)
    return browser.comm is None


def _count_living(kind: type) -> int:
    return sum(isinstance(each, kind) for each in gc.get_objects())


def _settle(itx: NotebookItx) -> None:
    """Until what was closed has left the engine, and what nobody holds is collected."""

    async def settle() -> None:
        assert itx.home is not None
        await (await open_owned(get_loader(itx.home))).engine.settle()

    run_blocking(settle())
    on_io_loop(gc.collect)


def test_cell_when_run_100_times_leaves_one_tree_and_nothing_of_the_others(cells: Cells, itx: NotebookItx) -> None:
    kinds = (StreamTreeBrowser, LiveTree, QueryObserver, Subscription)

    def measure() -> dict[str, Any]:
        cells.forget_results()
        _settle(itx)
        return {
            "widgets": sorted(type(widget).__name__ for widget in _instances.values()),
            "comms": len(comm.get_comm_manager().comms),
            **{kind.__name__: _count_living(kind) for kind in kinds},
        }

    source = 'browser = itx.tree(expand=["/agents"])\nbrowser'
    shown = cells.run("cell", source)
    assert shown is not None
    first = measure()
    old = weakref.ref(shown)
    for _ in range(RUNS - 1):
        # The front end takes the old view away when the cell begins.
        tell_views(shown, 0)
        shown = cells.run("cell", source)
        assert shown is not None
        FakeComm.all[:] = [each for each in FakeComm.all if not each._closed]
    assert measure() == first
    assert old() is None
    assert first["widgets"] == ["Layout", "StreamTreeBrowser"]
    assert _is_closed(shown) is False


def test_tree_that_a_run_replaced_stays_where_another_cell_shows_it(cells: Cells) -> None:
    kept = cells.run("one", "kept = itx.tree()\nkept")
    assert kept is not None
    assert cells.run("two", "kept") is kept
    tell_views(kept, 2)
    tell_views(kept, 1)
    cells.run("one", "other = itx.tree()\nother")
    assert not _is_closed(kept)
    tell_views(kept, 0)
    assert _is_closed(kept)


def test_trees_made_by_one_run_both_live_and_end_together(cells: Cells) -> None:
    source = "left, right = itx.tree(), itx.tree('/agents')"
    cells.run("cell", source)
    first = [cells.shell.user_ns[name] for name in ("left", "right")]
    assert [_is_closed(each) for each in first] == [False, False]
    cells.run("cell", source)
    second = [cells.shell.user_ns[name] for name in ("left", "right")]
    assert [_is_closed(each) for each in first + second] == [True, True, False, False]


@pytest.mark.parametrize(("made_in", "run_again"), [(None, None), ("one", "two"), (None, "one"), ("one", None)])
def test_tree_lives_where_nothing_says_that_its_cell_was_run_again(
    cells: Cells, made_in: str | None, run_again: str | None
) -> None:
    cells.run(made_in, "kept = itx.tree()")
    cells.run(run_again, "other = itx.tree()")
    assert not _is_closed(cells.shell.user_ns["kept"])


def test_closed_tree_when_displayed_again_is_plain_html_and_says_how_to_get_a_live_one(
    cells: Cells, itx: NotebookItx
) -> None:
    cells.run("cell", "kept = itx.tree('/agents')")
    kept = cells.shell.user_ns["kept"]
    cells.run("cell", "other = itx.tree('/agents')")
    assert _is_closed(kept)
    itx.streams.get("/agents/later").append("demo.hello")
    (shown,) = run_cell(cells.shell, "display(kept)").displayed
    assert set(shown) == {"text/plain", "text/html"}
    assert "snapshot of" in shown["text/html"]
    for text in shown.values():
        assert "agents" in text
        assert "later" not in text
        assert "This tree is closed. A live one: itx.tree(" in text
    assert run_cell(cells.shell, "display(kept)").displayed == [shown], "the time it is of does not go on"


@pytest.mark.parametrize("shut", ["by hand", "by a later run"])
def test_closed_tree_when_used_does_no_harm(cells: Cells, shut: str) -> None:
    cells.run("cell", "kept = itx.tree()")
    kept: StreamTreeBrowser = cells.shell.user_ns["kept"]
    if shut == "by hand":
        kept.close()
    else:
        cells.run("cell", "other = itx.tree()")
    assert _is_closed(kept)
    kept.reveal("/agents/a")
    kept.selected_path = "/orders"
    kept.filter = "x"
    kept.close()
    assert kept.selected is not None
    assert repr(kept).startswith("Streams of default")
    on_io_loop(lambda: None)
    assert kept._tree._watches == {}
