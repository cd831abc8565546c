from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from itx_notebook.widgets.cells import Execution, follow_cells, leave_shell, try_get_execution, unfollow_cells
from tests.support import open_shell, run_cell


class Follower:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_cell_start(self) -> None:
        self.seen.append("start")

    def on_cell_end(self, execution: Execution | None) -> None:
        self.seen.append(execution)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    with open_shell(tmp_path / "ipython", monkeypatch) as shell:
        yield shell


def _name_cells(monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """As ipykernel has it: the request that is being answered."""
    monkeypatch.setattr(InteractiveShell, "get_parent", lambda _shell: request, raising=False)


def _count_hooks(shell: InteractiveShell) -> int:
    return sum(
        hook.__module__ == "itx_notebook.widgets.cells"
        for event in ("pre_run_cell", "post_run_cell")
        for hook in shell.events.callbacks[event]
    )


def test_follower_when_a_cell_runs_is_told_of_it_and_of_its_name(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower()
    follow_cells(follower)
    run_cell(shell, "1")
    _name_cells(monkeypatch, {"header": {"msg_id": "run-1"}, "metadata": {"cellId": "cell"}})
    run_cell(shell, "1")
    assert follower.seen == ["start", None, "start", Execution("cell", "run-1")]
    unfollow_cells(follower)


def test_hooks_when_nobody_follows_any_more_leave_the_shell(shell: InteractiveShell) -> None:
    first, second = Follower(), Follower()
    for follower in (first, second, second):
        follow_cells(follower)
    assert _count_hooks(shell) == 2
    unfollow_cells(first)
    run_cell(shell, "1")
    assert (_count_hooks(shell), first.seen) == (2, [])
    del second, follower
    run_cell(shell, "1")
    assert _count_hooks(shell) == 0


def test_leaving_when_repeated_is_harmless_and_following_anew_returns(shell: InteractiveShell) -> None:
    follower = Follower()
    follow_cells(follower)
    leave_shell()
    leave_shell()
    run_cell(shell, "1")
    assert (_count_hooks(shell), follower.seen) == (0, [])
    follow_cells(follower)
    run_cell(shell, "1")
    assert follower.seen == ["start", None]
    leave_shell()


@pytest.mark.parametrize(
    "request_",
    [None, {}, {"header": {"msg_id": "1"}, "metadata": {}}, {"header": {}, "metadata": {"cellId": "cell"}}],
    ids=str,
)
def test_execution_when_the_front_end_does_not_name_it_is_none(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, request_: Any
) -> None:
    _name_cells(monkeypatch, request_)
    assert try_get_execution() is None


def test_execution_when_asked_for_by_another_thread_is_none(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    _name_cells(monkeypatch, {"header": {"msg_id": "run-1"}, "metadata": {"cellId": "cell"}})
    seen: list[Any] = [try_get_execution()]
    thread = threading.Thread(target=lambda: seen.append(try_get_execution()))
    thread.start()
    thread.join()
    assert seen == [Execution("cell", "run-1"), None]


def test_leaving_where_there_is_no_shell_is_harmless() -> None:
    InteractiveShell.clear_instance()
    leave_shell()
    assert try_get_execution() is None
