from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from itx_notebook.display import InlineError, Line
from itx_notebook.notebook import create_project
from itx_notebook.types import UNSET
from itx_notebook.widgets import StreamTreeBrowser
from tests.support import run_cell


def _run(shell: InteractiveShell, line: str) -> Any:
    """The value of a line magic; the cell must have succeeded and printed nothing but the value's text."""
    ran = run_cell(shell, line)
    assert ran.error is None, ran.error
    assert ran.stderr == ""
    return ran.value


def _get_error(shell: InteractiveShell, line: str) -> InlineError:
    shown = _run(shell, line)
    assert isinstance(shown, InlineError), shown
    assert shown.doing == line
    assert repr(shown).splitlines()[-1].startswith("→ ")
    return shown


def test_magic_alone_lists_its_commands(loaded: InteractiveShell) -> None:
    lines = repr(_run(loaded, "%itx")).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["%itx", command] for command in ("connect", "tree", "append", "read", "status")
    ]


def test_magics_docstring_lists_the_same_commands(loaded: InteractiveShell) -> None:
    usage = [line.strip() for line in repr(_run(loaded, "%itx")).splitlines()]
    doc = loaded.magics_manager.magics["line"]["itx"].__doc__
    assert [line.strip() for line in doc.splitlines() if line.strip().startswith("%itx")] == usage


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        ("", UNSET),
        ('{"n": 1}', {"n": 1}),
        ('{"n":5}', {"n": 5}),
        ('{"a": {"b": [1, {"c": null}]}}', {"a": {"b": [1, {"c": None}]}}),
        ("{}", {}),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('  "two  blanks"  ', "two  blanks"),
        ('{"text": "it\'s ü"}', {"text": "it's ü"}),
    ],
)
def test_append_with_each_kind_of_payload_appends_it(loaded: InteractiveShell, arguments: str, payload: Any) -> None:
    shown = _run(loaded, f"%itx append /a demo.hello {arguments}")
    assert isinstance(shown, Line)
    assert repr(shown) == "/a: event 3, demo.hello"
    assert loaded.user_ns["itx"].streams.get("/a").read()[-1].payload == payload


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("%itx append", "BAD_REQUEST", "Arguments '' do not fit."),
        ("%itx append /a", "BAD_REQUEST", "Arguments '/a' do not fit."),
        ("%itx append /a demo.hello {n: 1}", "BAD_REQUEST", "The payload '{n: 1}' is not JSON: "),
        ("%itx append /a demo.hello {", "BAD_REQUEST", "The payload '{' is not JSON: "),
        ("%itx append /a demo.hello NaN", "BAD_REQUEST", "payload is nan"),
        ("%itx append /A demo.hello", "BAD_REQUEST", "Stream path"),
        ("%itx append a demo.hello", "BAD_REQUEST", "Stream ref"),
        ("%itx append prj_other:/a demo.hello", "NOT_FOUND", 'No stream namespace "prj_other" for this handle.'),
        ('%itx append /a events.iterate.com/stream/created {"x": 1}', "BAD_REQUEST", "The payload of"),
        ("%itx read", "BAD_REQUEST", "Arguments '' do not fit."),
        ("%itx read /a /b", "BAD_REQUEST", "Arguments '/a /b' do not fit."),
        ('%itx read "/a', "BAD_REQUEST", "Arguments '\"/a' do not fit."),
        ("%itx read /a//b", "BAD_REQUEST", "Stream path"),
        ("%itx tree /a b", "BAD_REQUEST", "Arguments '/a b' do not fit."),
        ("%itx connect nope", "NOT_FOUND", "Project nope not found."),
        ("%itx connect a b", "BAD_REQUEST", "Arguments 'a b' do not fit."),
        ("%itx status now", "BAD_REQUEST", "Arguments 'now' do not fit."),
        ("%itx explode", "BAD_REQUEST", "%itx has no command 'explode'."),
    ],
)
def test_command_that_cannot_be_done_is_shown_in_its_place(
    loaded: InteractiveShell, line: str, code: str, text: str
) -> None:
    shown = _get_error(loaded, line)
    assert shown.error.code == code
    assert shown.error.message.startswith(text)
    assert loaded.user_ns["itx"].streams.get("/a").get_state(presence=False).event_count == 0


def test_read_gives_a_frame_of_the_events(loaded: InteractiveShell) -> None:
    _run(loaded, '%itx append /a demo.n {"n": 1}')
    _run(loaded, '%itx append /a demo.n {"n": 2}')
    frame = _run(loaded, "%itx read /a")
    assert isinstance(frame, pd.DataFrame)
    assert frame["offset"].tolist() == [1, 2, 3, 4]
    assert frame["payload.n"].tolist()[2:] == [1, 2]


def test_command_assigned_to_a_name_gives_its_value(loaded: InteractiveShell) -> None:
    run_cell(loaded, "frame = %itx read /a")
    assert isinstance(loaded.user_ns["frame"], pd.DataFrame)
    run_cell(loaded, "wrong = %itx read")
    assert loaded.user_ns["wrong"].error.code == "BAD_REQUEST"


def test_connect_changes_the_handle_in_the_namespace(loaded: InteractiveShell, home: Path) -> None:
    create_project("demo")
    shown = _run(loaded, "%itx connect demo")
    assert repr(shown) == f"itx: project demo, embedded engine in {home}, 1 stream"
    assert loaded.user_ns["itx"].slug == "demo"
    _get_error(loaded, "%itx connect nope")
    assert loaded.user_ns["itx"].slug == "demo", "a connect that fails leaves what there is"


def test_status_says_what_the_handle_holds(loaded: InteractiveShell, home: Path) -> None:
    _run(loaded, "%itx append /a demo.hello")
    assert repr(_run(loaded, "%itx status")) == f"itx: project default, embedded engine in {home}, 2 streams"


def test_status_without_a_handle_says_how_to_get_one(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITX_PROJECT", "nope")
    run_cell(shell, "%load_ext itx_notebook")
    assert repr(_run(shell, "%itx status")) == "itx: not connected\n→ %itx connect [PROJECT]"


def test_status_after_the_engine_was_closed_says_so_and_the_way_back(loaded: InteractiveShell, home: Path) -> None:
    run_cell(loaded, "itx.close()")
    assert repr(_run(loaded, "%itx status")) == (
        f"itx: project default, embedded engine in {home}, closed\n→ %itx connect [PROJECT]"
    )


@pytest.mark.parametrize("line", ["%itx append /a demo.hello", "%itx read /a"])
def test_command_after_the_engine_was_closed_is_shown_with_the_way_back(loaded: InteractiveShell, line: str) -> None:
    run_cell(loaded, "itx.close()")
    shown = _get_error(loaded, line)
    assert shown.error.message == "The streams engine is closed."
    assert "%itx connect" in shown.error.remedy
    _run(loaded, "%itx connect")
    assert not isinstance(_run(loaded, line), InlineError)


def test_tree_gives_the_browser(loaded: InteractiveShell) -> None:
    _run(loaded, "%itx append /a/b demo.hello")
    browser = _run(loaded, "%itx tree /a")
    assert isinstance(browser, StreamTreeBrowser)
    assert repr(browser).startswith("Streams of default\n/a  ")
    browser.close()


def test_tree_of_a_wrong_path_is_shown_as_an_error(loaded: InteractiveShell) -> None:
    shown = _run(loaded, "%itx tree /A")
    assert isinstance(shown, InlineError)
    assert shown.error.code == "BAD_REQUEST"


def test_interrupted_command_is_an_interruption_and_no_inline_error(
    loaded: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def connect(self, _project: str | None) -> None:
            raise KeyboardInterrupt

        def describe(self, _handle: object) -> None:
            raise AssertionError

    magics = loaded.magics_manager.registry["ItxMagics"]
    monkeypatch.setattr(magics, "session", Interrupted())
    assert isinstance(run_cell(loaded, "%itx connect").error, KeyboardInterrupt)


def test_magic_in_a_terminal_shows_text(home: Path, tmp_path: Path) -> None:
    script = "%load_ext itx_notebook\n%itx append /a demo.hello\n%itx explode\n%itx tree\n"
    source = tmp_path / "script.ipy"
    source.write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", "--quick", str(source)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"ITX_HOME": str(home), "IPYTHONDIR": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"itx: project default, embedded engine in {home}, 1 stream"
