from __future__ import annotations

from typing import Any

import msgspec
import pytest

from itx_notebook.notebook import NotebookItx
from itx_notebook.widgets import StreamTreeBrowser
from itx_notebook.widgets.requests import CreateRequest
from tests.widgets.conftest import FakeComm
from tests.widgets.test_contract import CHANNEL, parse_interface


def _ask(wire: FakeComm, **request: Any) -> dict[str, Any]:
    """Ask for a stream, and wait for the answer."""
    answered = len(wire.get_custom("created"))
    wire.say({"kind": "create", **request})
    wire.wait_for(lambda: len(wire.get_custom("created")) > answered)
    return wire.get_custom("created")[-1]


def test_stream_when_asked_for_is_made_and_appears_in_the_tree(itx: NotebookItx, wire: FakeComm) -> None:
    answer = _ask(wire, request=1, parent="/", name="fresh")
    assert answer == {"kind": "created", "request": 1, "path": "/fresh", "error": None}
    assert itx.streams.get("/fresh").get_state(presence=False).event_count == 2

    def has_appeared() -> bool:
        told = (patch.get("nodes", {}).get("/") or {} for patch in wire.get_custom("patch"))
        return any("fresh" in node.get("added", ()) for node in told)

    wire.wait_for(has_appeared)


def test_stream_when_asked_for_again_is_made_once(itx: NotebookItx, wire: FakeComm) -> None:
    for request in (1, 1, 2):
        assert _ask(wire, request=request, parent="/agents", name="b")["path"] == "/agents/b"
    assert itx.streams.get("/agents/b").get_state(presence=False).event_count == 2


def test_name_when_it_is_none_is_answered_with_what_to_do(wire: FakeComm) -> None:
    answer = _ask(wire, request=1, parent="/agents", name="Bad Name")
    assert (answer["path"], answer["error"]["code"]) == (None, "BAD_REQUEST")
    assert answer["error"]["hint"]


def test_stream_when_the_tree_is_read_only_is_refused(
    itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    browser.read_only = True
    answer = _ask(wire, request=1, parent="/", name="fresh")
    assert (answer["path"], answer["error"]["code"]) == (None, "FORBIDDEN")
    assert "read_only" in answer["error"]["hint"]
    assert itx.streams.get("/fresh").get_state(presence=False).event_count == 0


@pytest.mark.parametrize("message", [{}, {"request": "1", "parent": "/", "name": "x"}, {"request": 1, "parent": "/"}])
def test_request_when_it_is_none_is_drawn(wire: FakeComm, message: dict[str, Any]) -> None:
    wire.say({"kind": "create", **message})
    wire.wait_for(lambda: wire.get_custom("error"))
    assert wire.get_custom("error")[-1]["error"]["code"] == "BAD_REQUEST"


def test_path_when_looked_at_is_told_without_being_opened(wire: FakeComm) -> None:
    wire.say({"kind": "look", "path": "/agents"})
    wire.wait_for(lambda: any("/agents" in patch.get("nodes", {}) for patch in wire.get_custom("patch")))
    assert not any("expand" in patch for patch in wire.get_custom("patch"))
    wire.say({"kind": "look", "path": None})
    wire.say({"kind": "look", "path": "no path"})
    wire.wait_for(lambda: wire.get_custom("error"))


def test_request_and_answer_have_the_fields_that_the_front_end_knows(wire: FakeComm) -> None:
    request = [field.name for field in msgspec.structs.fields(CreateRequest)]
    assert request == ["request", "parent", "name"]
    assert '{ kind: "create"; request: number; parent: string; name: string }' in CHANNEL
    assert list(_ask(wire, request=1, parent="/", name="fresh")) == list(parse_interface("Created"))
