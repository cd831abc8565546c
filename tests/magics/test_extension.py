from __future__ import annotations

import threading
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from itx_notebook.notebook import NotebookItx, connect, create_project
from tests.support import Ran, hold_store, on_io_loop, run_cell


def _get_shown(ran: Ran) -> str:
    """The one thing a cell displayed, as text; the cell itself must have succeeded in silence."""
    assert ran.error is None
    assert (ran.stdout, ran.stderr) == ("", "")
    (shown,) = ran.displayed
    return str(shown["text/plain"])


def test_loading_gives_one_line_and_the_handle(shell: InteractiveShell, home: Path) -> None:
    shown = _get_shown(run_cell(shell, "%load_ext itx_notebook"))
    assert shown == f"itx: project default, embedded engine in {home}, 1 stream"
    assert isinstance(shell.user_ns["itx"], NotebookItx)
    assert "itx" in shell.magics_manager.magics["line"]


def test_loading_takes_the_project_from_the_environment(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_project("demo")
    monkeypatch.setenv("ITX_PROJECT", "demo")
    assert _get_shown(run_cell(shell, "%load_ext itx_notebook")).startswith("itx: project demo, ")


def test_loading_for_an_unknown_project_shows_the_way_and_the_magic_is_there(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITX_PROJECT", "nope")
    ran = run_cell(shell, "%load_ext itx_notebook")
    assert _get_shown(ran) == (
        "itx could not connect: Project nope not found. [NOT_FOUND]\n"
        "→ To create it: itx_notebook.create_project('nope')."
    )
    assert 'role="alert"' in ran.displayed[0]["text/html"]
    assert "itx" not in shell.user_ns
    create_project("nope")
    assert repr(run_cell(shell, "%itx connect").value).startswith("itx: project nope, ")


def test_loading_while_another_process_holds_the_store_goes_through_it(shell: InteractiveShell, home: Path) -> None:
    with hold_store(home):
        assert _get_shown(run_cell(shell, "%load_ext itx_notebook")).startswith("itx: project default, ")
        count = "itx.streams.get('/held').get_state(presence=False).event_count"
        assert run_cell(shell, count).value == 3
    assert run_cell(shell, count).value == 3


def test_unloading_leaves_nothing(shell: InteractiveShell, home: Path) -> None:
    create_project("demo")
    before = {name for name in shell.user_ns if not name.startswith("_")}
    hooks = {event: list(callbacks) for event, callbacks in shell.events.callbacks.items()}
    run_cell(shell, "%load_ext itx_notebook")
    run_cell(shell, "%itx connect demo")
    run_cell(shell, "seen = []\nsubscription = itx.streams.get('/a').subscribe(seen.append)")
    ran = run_cell(shell, "%unload_ext itx_notebook")
    assert (ran.error, ran.displayed, ran.stdout, ran.stderr) == (None, [], "", "")
    assert {name for name in shell.user_ns if not name.startswith("_")} - before == {"seen", "subscription"}
    assert "itx" not in shell.magics_manager.magics["line"]
    assert "ItxMagics" not in shell.magics_manager.registry
    assert {event: list(callbacks) for event, callbacks in shell.events.callbacks.items()} == hooks
    assert shell.user_ns["subscription"].is_closed
    for thread in threading.enumerate():
        if thread.name.startswith("itx-subscriber"):
            thread.join(5)
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("itx")} == {"itx-io"}
    with hold_store(home):
        pass


def test_unloading_when_a_tree_was_shown_takes_its_hooks_out_of_the_shell(loaded: InteractiveShell) -> None:
    def get_hooks() -> list[object]:
        return [hook for event in ("pre_run_cell", "post_run_cell") for hook in loaded.events.callbacks[event]]

    before = get_hooks()
    run_cell(loaded, "browser = itx.tree()")
    assert len(get_hooks()) == len(before) + 2
    run_cell(loaded, "%unload_ext itx_notebook")
    assert get_hooks() == before
    loaded.user_ns["browser"].close()


def test_unloading_leaves_a_name_of_the_users_own(loaded: InteractiveShell) -> None:
    run_cell(loaded, "itx = 'mine'")
    run_cell(loaded, "%unload_ext itx_notebook")
    assert loaded.user_ns["itx"] == "mine"


def test_unloading_when_the_user_has_deleted_the_name_is_quiet(loaded: InteractiveShell) -> None:
    run_cell(loaded, "del itx")
    ran = run_cell(loaded, "%unload_ext itx_notebook")
    assert (ran.error, ran.displayed) == (None, [])


def test_reloading_gives_a_handle_that_works(loaded: InteractiveShell) -> None:
    run_cell(loaded, "before = itx\n%itx append /a demo.hello")
    shown = _get_shown(run_cell(loaded, "%reload_ext itx_notebook"))
    assert shown.startswith("itx: project default, ")
    assert run_cell(loaded, "itx is before").value is False
    assert run_cell(loaded, "itx.streams.get('/a').get_state(presence=False).event_count").value == 3


def test_loading_prefetches_the_root_in_the_background(loaded: InteractiveShell) -> None:
    from itx_notebook.client import get_loader
    from itx_notebook.query import project_stream_state_query
    from itx_notebook.types import StreamState

    handle = loaded.user_ns["itx"]
    query = project_stream_state_query(handle.project.id, "/")
    cached = on_io_loop(lambda: get_loader(handle.home).queries.get_query_data(query.query_key))
    assert isinstance(cached, StreamState)


def test_error_that_is_raised_in_a_cell_shows_two_lines(
    loaded: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_cell(loaded, "itx.streams.get('/a').append('')")
    assert type(ran.error).__name__ == "ItxError"
    assert ran.stdout.splitlines() == [
        "ItxError [BAD_REQUEST]: Event type '' is blank.",
        '→ Use a type such as "demo.hello".',
    ]
    assert capsys.readouterr().err == ""


def test_handle_of_a_script_in_the_same_process_is_not_disturbed_by_loading(shell: InteractiveShell) -> None:
    mine = connect()
    run_cell(shell, "%load_ext itx_notebook")
    appended = mine.streams.get("/a").append("demo.hello")
    assert run_cell(shell, "itx.streams.get('/a').read()[-1]").value == appended
