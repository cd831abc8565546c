"""Our client at an itx that somebody else wrote, with the original Cap'n Web: the dialect of June 2026 and no more."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from itx_notebook.errors import ItxConnectionError
from itx_notebook.notebook import NotebookItx, connect
from tests.capnweb.peers import VERSIONS, serve_node
from tests.support import close_engines, get_refusal


@pytest.fixture(params=VERSIONS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with serve_node(request.param, "itx.mjs") as url:
        yield url
        close_engines()


@pytest.fixture
def itx(url: str) -> NotebookItx:
    return connect("demo", url=url, token="itx_member")


def test_append_read_and_state(itx: NotebookItx, url: str) -> None:
    assert (itx.slug, itx.location) == ("demo", url.replace("ws://", "http://").rstrip("/"))
    stream = itx.streams.get("/a")
    first = stream.append("demo.x", {"list": [1, [2, None]]}, idempotency_key="x")
    assert (first.offset, first.payload) == (1, {"list": [1, [2, None]]})
    assert stream.append("demo.x", idempotency_key="x") == first
    assert len(stream.append_batch([{"type": "demo.y"}, {"type": "demo.z"}])) == 2
    assert [event.type for event in stream.read(presence=False)] == ["demo.x", "demo.y", "demo.z"]
    assert [event.offset for event in stream.read(after_offset=1, before_offset=3)] == [2]
    assert stream.get_state().event_count == 3
    assert itx.describe().engine == "served"


def test_errors_keep_their_codes(itx: NotebookItx) -> None:
    error = get_refusal(lambda: itx.projects.get("nope"))
    assert (error.code, error.message, error.details) == (
        "NOT_FOUND",
        "Project nope not found.",
        {"projectIdOrSlug": "nope"},
    )
    assert get_refusal(lambda: itx.projects.create("x")).code == "FORBIDDEN"


def test_what_it_does_not_know_is_said_and_harms_nothing(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    assert "getEvent" in get_refusal(lambda: stream.get_event(1)).message
    assert stream.append("demo.x").offset == 1


def test_refusals_of_the_handshake(url: str) -> None:
    error = get_refusal(partial(connect, "demo", url=url, token="wrong"))
    assert isinstance(error, ItxConnectionError)
    assert "401" in error.message
    assert "404" in get_refusal(partial(connect, "demo", url=f"{url}base", token="itx_member")).message


@pytest.mark.parametrize("after_offset", ["start", "end"])
def test_a_subscription_survives_the_socket(itx: NotebookItx, after_offset: str) -> None:
    stream = itx.streams.get("/a")
    stream.append("demo.before")
    seen: list[str] = []
    with stream.subscribe(lambda batch: seen.extend(event.type for event in batch.events), after_offset=after_offset):  # type: ignore[arg-type]  # the two words are parameters here
        # The other end cuts the socket before it answers; the key makes asking again harmless.
        assert stream.append("demo.cut", idempotency_key="cut").offset == 2
        stream.append("demo.after")
        while seen[-1:] != ["demo.after"]:
            stream.get_state()
    assert seen == [*(["demo.before"] if after_offset == "start" else []), "demo.cut", "demo.after"]


def test_states_follow(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    counts: list[int] = []
    with stream.on_state_change(lambda state: counts.append(state.event_count)):
        stream.append("demo.x")
        while counts[-1:] != [1]:
            stream.get_state()
    assert counts[-1] == 1


def test_the_tree_shows_it(itx: NotebookItx) -> None:
    itx.streams.get("/").append("demo.x")
    assert "1 event" in repr(itx.tree())
