"""``connect()`` over a socket, as a notebook does it: blocking, with a server on the I/O loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from itx_notebook._loop import run_blocking
from itx_notebook.client import get_remote_loader, remote_loader
from itx_notebook.client.destination import find_destination
from itx_notebook.doors import get_server_itx
from itx_notebook.errors import ItxConnectionError, ItxError
from itx_notebook.notebook import NotebookItx, connect
from itx_notebook.tree import LiveTree, Snapshot
from itx_notebook.types import Principal, Project
from tests.client.served import ADMIN_TOKEN, Served, serve_here
from tests.support import OtherProcess, close_engines, get_refusal, on_io_loop


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_here(tmp_path / "served") as served:
        yield served
        close_engines()


@pytest.fixture
def demo(served: Served) -> Project:
    return served.create("demo", "itx_member")


@pytest.fixture
def itx(served: Served, demo: Project) -> NotebookItx:
    return connect("demo", url=served.url, token="itx_member")


def test_a_handle_over_a_socket_works_like_the_other(itx: NotebookItx, served: Served, demo: Project) -> None:
    assert itx.project is not None
    assert (itx.slug, itx.project.id, itx.home, itx.location) == ("demo", demo.id, None, served.url)
    stream = itx.streams.get("/a")
    first = stream.append("demo.hello", {"n": 1})
    assert stream.read()[-1] == first
    assert [project.slug for project in itx.projects.list().projects] == ["demo"]
    facts = itx.describe()
    assert (facts.engine, facts.location, facts.project) == ("served", served.url, demo)


def test_repr_says_where_how_and_by_what(itx: NotebookItx, served: Served) -> None:
    assert repr(itx) == f"<Itx demo, itx at {served.url}; URL from url=, token from token=>"
    html = unescape(itx._repr_html_())
    assert "itx_member" not in repr(itx) + html
    for fact in ("demo", served.url, "token from token="):
        assert fact in html


def test_the_environment_is_enough(served: Served, demo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITX_URL", served.url)
    monkeypatch.setenv("ITX_TOKEN", "itx_member")
    monkeypatch.delenv("ITX_HOME")
    itx = connect()
    assert itx.slug == "demo"
    assert "URL from ITX_URL, token from ITX_TOKEN" in repr(itx)


def test_without_a_name_the_only_project_is_taken_and_of_several_none(served: Served, demo: Project) -> None:
    assert connect(url=served.url, token=ADMIN_TOKEN).slug == "demo"
    served.create("second")
    error = get_refusal(lambda: connect(url=served.url, token=ADMIN_TOKEN))
    assert (error.code, error.message) == ("BAD_REQUEST", f"Which project of {served.url}? You have demo, second.")


def test_foreign_and_missing_projects_are_one_answer(served: Served, demo: Project) -> None:
    served.create("private")
    for name in ("private", "no-such-project", "default"):
        error = get_refusal(partial(connect, name, url=served.url, token="itx_member"))
        assert (error.code, error.message) == ("NOT_FOUND", f"Project {name} not found.")
        # As a notebook shows it, it is what the door in the server's own process raises.
        own = get_refusal(partial(get_server_itx, served.deployment, name, Principal.user("member")))
        for face in (repr, str, vars, ItxError._render_traceback_):
            assert face(error) == face(own)


def test_handles_of_one_identity_share_a_socket_others_do_not(served: Served, demo: Project) -> None:
    for _ in range(3):
        connect("demo", url=served.url, token="itx_member")
    connect("demo", url=f"{served.url}/api/itx", token=ADMIN_TOKEN)
    assert served.people.asked == ["itx_member", ADMIN_TOKEN]


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_refused_credentials_say_so_and_better_ones_help(
    served: Served, demo: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = get_refusal(lambda: connect("demo", url=served.url, token="itx_wrong"))
    assert isinstance(error, ItxConnectionError)
    assert error.message == f"{served.url} refused the credentials (401)."
    assert "itx_wrong" not in caplog.text + repr(error) + str(error.details) + error.remedy
    assert len(error._render_traceback_()) == 2
    served.people.known["itx_wrong"] = served.people.known["itx_member"]
    assert connect("demo", url=served.url, token="itx_wrong").slug == "demo"


def test_nobody_there_is_told_within_seconds_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_loader, "_FIRST_CONNECT", 0.7)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = get_refusal(lambda: connect("demo", url=f"http://127.0.0.1:{port}", token="itx_x"))
    assert isinstance(error, ItxConnectionError)
    assert error.message.startswith(f"No connection to http://127.0.0.1:{port} within 0.7 s: ")
    assert "refused" in error.message.lower() or "connect" in error.message.lower()


def test_a_place_that_is_no_itx_is_told_at_once(served: Served) -> None:
    error = get_refusal(lambda: connect("demo", url=f"{served.url}/elsewhere", token=ADMIN_TOKEN))
    assert error.message == f"There is no itx at {served.url}/elsewhere (404)."


def test_a_token_from_a_function_that_fails_is_an_error_of_its_own(served: Served, demo: Project) -> None:
    def fail(_: bool) -> str:
        raise KeyError("vault")

    error = get_refusal(lambda: connect("demo", url=served.url, token=fail))
    assert "vault" in error.message


def test_a_handle_tells_how_the_way_stands(itx: NotebookItx, served: Served) -> None:
    stream = itx.streams.get("/a")
    stream.append("demo.hello")
    states = _watch(itx)
    served.stop()
    _wait_for(itx, "reconnecting")
    assert "reconnecting since" in repr(itx)
    started = time.monotonic()
    with pytest.raises(ItxError):
        stream.read(timeout=0.2)
    assert time.monotonic() - started < 2
    served.start()
    assert [event.type for event in stream.read()][-1] == "demo.hello"
    assert _get_state(itx) == "live"
    served.people.known.clear()
    served.cut()
    _wait_for(itx, "refused")
    assert "refused the credentials (401)" in repr(itx)
    assert isinstance(get_refusal(stream.read), ItxConnectionError)
    itx.close()
    assert _get_state(itx) == "closed"
    assert "connect" in get_refusal(stream.read).remedy
    assert states == ["reconnecting", "live", "reconnecting", "refused", "closed"]


def _get_state(itx: NotebookItx) -> str:
    return itx.link.state


def _watch(itx: NotebookItx) -> list[str]:
    """The states that follow, each once."""
    states: list[str] = []

    def note() -> None:
        if [itx.link.state] != states[-1:]:
            states.append(itx.link.state)

    itx._loader.subscribe_link(note)
    return states


def _wait_for(itx: NotebookItx, state: str) -> None:
    """Wait until the handle says so."""

    async def wait() -> None:
        changed = asyncio.Event()
        unsubscribe = itx._loader.subscribe_link(changed.set)
        while itx.link.state != state:
            changed.clear()
            await changed.wait()
        unsubscribe()

    run_blocking(wait(), timeout=20)


def test_after_a_close_connect_gives_a_handle_that_works(itx: NotebookItx, served: Served) -> None:
    itx.close()
    itx.close()
    again = connect("demo", url=served.url, token="itx_member")
    assert again.streams.get("/a").append("demo.hello").offset == 3


def test_a_subscription_of_the_blocking_face_outlives_the_socket(
    itx: NotebookItx, served: Served, demo: Project
) -> None:
    stream = itx.streams.get("/a")
    seen: list[int] = []
    with stream.subscribe(lambda batch: seen.extend(event.offset for event in batch.events), presence=False):
        stream.append("demo.a")
        served.cut()
        served.append(demo, "/a", "demo.b", "demo.c")
        stream.wait_for_event(event_types=["demo.c"], after_offset="start", timeout=10, presence=False)
        deadline = time.monotonic() + 10
        while seen[-1:] != [5] and time.monotonic() < deadline:
            stream.get_state(presence=False)
    assert seen == [1, 2, 3, 4, 5]


def test_an_interrupt_cancels_the_call_and_the_handle_goes_on(itx: NotebookItx, served: Served) -> None:
    stream = itx.streams.get("/a")
    served.stop()
    _wait_for(itx, "reconnecting")
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        stream.read(timeout=20)
    timer.join()
    served.start()
    assert stream.append("demo.hello").offset == 3


def test_the_tree_paints_and_says_what_the_connection_does(itx: NotebookItx, served: Served, demo: Project) -> None:
    served.append(demo, "/a", "demo.hello")
    shown: Any = itx.tree()
    assert "─ a" in repr(shown)
    assert "itx_member" not in str(shown.get_state())


def test_a_tree_over_a_socket_catches_up_after_a_gap(itx: NotebookItx, served: Served, demo: Project) -> None:
    loader = itx._loader
    served.append(demo, "/a", "demo.hello")
    patched = asyncio.Event()

    async def open_tree() -> LiveTree:
        tree = LiveTree(demo, queries=loader.queries, get_itx=loader.get_loader_itx, way=loader, expand=["/a"])
        await tree.prefetch()
        tree.subscribe(lambda _seq, _patch: patched.set())
        tree.open()
        return tree

    tree = run_blocking(open_tree())

    def wait_for(condition: Callable[[Snapshot], bool]) -> None:
        async def wait() -> None:
            while not condition(tree.get_snapshot()):
                patched.clear()
                await patched.wait()

        run_blocking(wait(), timeout=20)

    assert tree.get_snapshot().nodes["/a"]["count"] == 3
    served.stop()
    wait_for(lambda snapshot: snapshot.connection.state == "reconnecting")
    served.append(demo, "/a", "demo.gap", "demo.gap")
    served.start()
    wait_for(lambda snapshot: snapshot.connection.state == "live" and snapshot.nodes["/a"]["count"] == 5)
    served.append(demo, "/a", "demo.live")
    wait_for(lambda snapshot: snapshot.nodes["/a"]["count"] == 6)
    on_io_loop(tree.close)


def test_loader_of_a_destination_is_one(served: Served) -> None:
    async def get() -> bool:
        destinations = [find_destination(url=served.url, token="itx_member") for _ in range(2)]
        loaders = [get_remote_loader(each) for each in destinations if each is not None]
        return loaders[0] is loaders[1] and str(loaders[0]) == f"itx at {served.url}"

    assert run_blocking(get())


def test_a_place_in_a_project_stays_what_the_handle_is_asked_for_by(served: Served, demo: Project) -> None:
    place = f"{demo.id}:/agents/a"
    for _ in range(2):
        assert connect(place, url=served.url, token=ADMIN_TOKEN).describe().context == place
    assert connect("demo", url=served.url, token=ADMIN_TOKEN).describe().context == demo.id


FORK = """
import os, sys, warnings
import itx_notebook
warnings.simplefilter("ignore")
itx = itx_notebook.connect("demo", url=sys.argv[1], token=sys.argv[2])
stream = itx.streams.get("/forked")
seen = []
subscription = stream.subscribe(lambda batch: seen.extend(event.type for event in batch.events), presence=False)
stream.append("demo.before")
child = os.fork()
if child == 0:
    # What was made before the fork works on, over a socket of the child's own.
    stream.append("demo.child")
    again = itx_notebook.connect("demo", url=sys.argv[1], token=sys.argv[2])
    print([event.type for event in again.streams.get("/forked").read(presence=False)][-2:], flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert subscription.is_live
stream.append("demo.after")
stream.wait_for_event(event_types=["demo.after"], after_offset="start", presence=False)
while seen[-1] != "demo.after":
    stream.get_state(presence=False)
print(seen[-3:], itx.link.state, flush=True)
"""


def test_after_a_fork_parent_and_child_go_on_over_sockets_of_their_own(served: Served, demo: Project) -> None:
    process = OtherProcess(FORK, served.url, "itx_member")
    assert process.hear() == "['demo.before', 'demo.child']"
    assert process.hear() == "['demo.before', 'demo.child', 'demo.after'] live"
    assert process.end() == 0
