from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest

from itx_notebook._config import get_home
from itx_notebook._loop import run_blocking
from itx_notebook.client import get_loader
from itx_notebook.display import InlineError
from itx_notebook.errors import ItxError
from itx_notebook.notebook import NotebookItx, connect, create_project
from tests.support import OtherProcess, close_engines, gather, get_refusal, hold_store


@pytest.fixture(autouse=True)
def _close_engines() -> Iterator[None]:
    yield
    close_engines()


# -- connect ---------------------------------------------------------------------------------------------------------


def test_connect_without_a_name_makes_the_default_project_once() -> None:
    first = connect()
    assert first.slug == "default"
    assert first.project is not None
    assert connect().project == first.project
    assert first.describe().stream_count == 1


def test_connect_by_slug_or_id_narrows_to_that_project() -> None:
    project = create_project("demo")
    assert connect("demo").project == project
    assert connect(project.id).project == project
    assert connect("demo").describe().access == (project.id,)


def test_connect_to_an_unknown_project_is_refused_with_the_way_to_create_it() -> None:
    for _ in range(2):
        error = get_refusal(lambda: connect("nope"))
        assert (error.code, error.message) == ("NOT_FOUND", "Project nope not found.")
        assert error.remedy == "To create it: itx_notebook.create_project('nope')."
    create_project("nope")
    assert connect("nope").slug == "nope"


def test_connect_takes_the_project_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    create_project("from-env")
    monkeypatch.setenv("ITX_PROJECT", "from-env")
    assert connect().slug == "from-env"
    create_project("by-hand")
    assert connect("by-hand").slug == "by-hand"
    monkeypatch.setenv("ITX_PROJECT", "")
    assert connect().slug == "default"


@pytest.mark.parametrize(
    "options",
    [
        {"token": "secret"},
        {"url": "x", "token": "secret"},
        {"url": "https://a:secret@b"},
        {"url": "http://a", "home": "b"},
    ],
)
def test_connect_with_arguments_that_do_not_fit_is_refused_and_tells_no_secret(
    options: dict[str, Any], home: Path
) -> None:
    error = get_refusal(lambda: connect(**options))
    assert error.code == "BAD_REQUEST"
    assert "secret" not in repr(error) + str(error.details) + error.remedy
    assert not home.exists()


def test_connect_twice_in_one_directory_shares_the_engine(home: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    first = connect(home=home)
    alias.symlink_to(home)
    second = connect(home=str(alias))
    assert (first.home, second.home) == (home, home)
    appended = first.streams.get("/a").append("demo.hello")
    assert second.streams.get("/a").read()[-1] == appended
    elsewhere = connect(home=tmp_path / "elsewhere")
    assert elsewhere.streams.get("/a").get_state(presence=False).event_count == 0


def test_connects_at_the_same_moment_in_a_new_directory_agree_on_the_default_project(home: Path) -> None:
    from itx_notebook.notebook import _connect_here

    outcomes = run_blocking(gather(*(_connect_here("default", home) for _ in range(5))))
    assert {surface.project.slug for surface, _loader in outcomes} == {"default"}


def test_create_project_that_exists_is_a_conflict_that_says_how_to_use_it() -> None:
    create_project("demo")
    error = get_refusal(lambda: create_project("demo"))
    assert (error.code, error.message) == ("CONFLICT", "Project demo exists already.")
    assert error.remedy == "Use it: itx_notebook.connect('demo')."


# -- one owner -------------------------------------------------------------------------------------------------------


def test_a_store_of_another_process_is_used_through_it_and_taken_over_when_it_is_killed(home: Path) -> None:
    with hold_store(home) as other:
        itx = connect()
        stream = itx.streams.get("/held")
        assert stream.read()[-1].type == "demo.held"
        before = stream.append("demo.guest", {"n": 1})
        other.kill()
        started = time.monotonic()
        after = stream.append("demo.guest", {"n": 2}, idempotency_key="second")
        assert time.monotonic() - started < 2
        assert after.offset == before.offset + 2  # the new owner woke the stream
        # What was made before the change works on, and what is made now has the engine here.
        assert [event.payload for event in stream.read(event_types=["demo.guest"])] == [{"n": 1}, {"n": 2}]
        assert connect().streams.get("/held").get_state().event_count == stream.get_state().event_count


def test_connect_while_the_owner_is_ending_waits_for_it(home: Path) -> None:
    with hold_store(home) as other:
        other.tell("you may go")
        assert connect().streams.get("/held").get_state(presence=False).event_count == 3


def test_store_is_free_for_another_process_after_close(home: Path) -> None:
    itx = connect()
    itx.streams.get("/a").append("demo.hello")
    itx.close()
    itx.close()
    with hold_store(home):
        pass
    assert connect().streams.get("/held").get_state(presence=False).event_count == 3


def test_store_is_free_when_the_process_ends_by_itself() -> None:
    script = "import itx_notebook as n; n.connect().streams.get('/a').append('demo.hello')"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert connect().streams.get("/a").get_state(presence=False).event_count == 3


def test_handle_after_close_says_so_and_a_new_one_goes_on() -> None:
    itx = connect()
    stream = itx.streams.get("/a")
    stream.append("demo.hello")
    itx.close()
    for call in (lambda: stream.append("demo.hello"), stream.read, stream.get_state, itx.describe):
        error = get_refusal(call)
        assert (error.code, error.message) == ("INTERNAL", "The streams engine is closed.")
        assert "connect" in error.remedy
    again = connect()
    assert again.streams.get("/a").get_state(presence=False).event_count == 3
    assert again.streams.get("/a").append("demo.hello").offset == 5


# -- fork ------------------------------------------------------------------------------------------------------------

_FORK = """
import gc, json, os, signal, sys, warnings
from pathlib import Path
import itx_notebook
from itx_notebook.errors import ItxError

def attempt(call):
    try:
        return str(call())
    except ItxError as error:
        return f"{error.code}: {error.message}"

home, elsewhere = sys.argv[1:]
itx = itx_notebook.connect(home=home)
stream = itx.streams.get("/a")
stream.append("demo.hello")
read_end, write_end = os.pipe()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads, which is what this is about
    child = os.fork()
if child == 0:
    signal.alarm(30)
    gc.collect()
    answers = {
        "append": attempt(lambda: stream.append("demo.child", timeout=5)),
        "read": attempt(lambda: stream.read(timeout=5)),
        "batch": attempt(lambda: stream.append_batch([{"type": "demo.child"}], timeout=5)),
        "same": attempt(lambda: itx_notebook.connect(home=home).streams.get("/a").append("demo.guest").offset),
        "other": attempt(lambda: itx_notebook.connect(home=elsewhere).streams.get("/b").append("demo.b").offset),
        "pid": os.getppid(),
    }
    os.write(write_end, json.dumps(answers).encode())
    os._exit(0)
answers = json.loads(os.read(read_end, 65536))
os.waitpid(child, 0)
answers["parent"] = [stream.append("demo.hello").offset, [event.type for event in stream.read()]]
print(json.dumps(answers), flush=True)
sys.stdin.readline()
"""


def test_forked_child_writes_into_its_parents_store_as_a_guest_alone(home: Path, tmp_path: Path) -> None:
    other = OtherProcess(_FORK, str(home), str(tmp_path / "elsewhere"))
    answers = msgspec.json.decode(other.hear())
    other.tell()
    assert other.end() == 0
    assert (answers["other"], answers["same"]) == ("3", "4")
    assert answers["parent"] == [
        5,
        [
            *(f"events.iterate.com/stream/{fact}" for fact in ("created", "woken")),
            *("demo.hello", "demo.guest", "demo.hello"),
        ],
    ]
    for call in ("append", "batch", "read"):
        assert answers[call].startswith("INTERNAL: The streams engine"), call


# -- what a person sees ----------------------------------------------------------------------------------------------


def test_handle_shows_project_engine_and_place(home: Path) -> None:
    itx = connect()
    assert itx.project is not None
    assert repr(itx) == f"<Itx default, embedded engine in {home}>"
    html = itx._repr_html_()
    for fact in ("default", itx.project.id, str(home)):
        assert fact in unescape(html)


def test_handle_in_a_directory_with_a_hostile_name_is_escaped(tmp_path: Path) -> None:
    itx = connect(home=tmp_path / "<img src=x>")
    assert "<img" not in itx._repr_html_()


def test_handle_completes_to_its_methods() -> None:
    itx = connect()
    public = {name for name in dir(itx) if not name.startswith("_")}
    assert public == {
        *("aio", "close", "describe", "home", "link", "location", "prefetch"),
        *("project", "projects", "slug", "streams", "tree"),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "Not A Path"}, "Stream path"),
        ({"expand": ["/a", "B"]}, "Stream path"),
        ({"select": ""}, "Stream path is required."),
        ({"height": 3}, "height"),
        ({"read_only": "yes"}, "read_only"),
    ],
    ids=str,
)
def test_tree_with_wrong_arguments_is_shown_as_an_error_and_raises_nothing(
    options: dict[str, Any], message: str
) -> None:
    shown = connect().tree(**options)
    assert isinstance(shown, InlineError)
    assert repr(shown).startswith("The stream tree of default could not be shown: ")
    assert message in shown.error.message


def test_two_handles_of_two_projects_see_their_own_streams() -> None:
    create_project("one")
    create_project("two")
    one, two = connect("one"), connect("two")
    one.streams.get("/a").append("demo.hello")
    assert two.streams.get("/a").get_state(presence=False).event_count == 0
    assert one.project is not None
    error = get_refusal(lambda: two.streams.get(f"{one.describe().context}:/a"))
    assert error.code == "NOT_FOUND"


def test_prefetch_brings_the_roots_state_into_the_cache() -> None:
    from itx_notebook.query import project_stream_state_query
    from itx_notebook.types import UNSET

    itx = connect()
    assert itx.project is not None
    query = project_stream_state_query(itx.project.id, "/")

    async def prefetch() -> Any:
        queries = get_loader(get_home()).queries
        before = queries.get_query_data(query.query_key)
        await itx.prefetch()
        return before, queries.get_query_data(query.query_key)

    before, after = run_blocking(prefetch())
    assert before is UNSET
    assert after == itx.streams.get("/").get_state(presence=False)


def test_handle_needs_a_project() -> None:
    connect()

    async def make() -> ItxError:
        loader = get_loader(get_home())
        surface = await loader.get_global_itx()
        return get_refusal(lambda: NotebookItx(surface, loader, timeout=None))

    assert run_blocking(make()).code == "BAD_REQUEST"
