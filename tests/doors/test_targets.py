"""What leaves a door: errors under one of the five codes, and options read strictly."""

from __future__ import annotations

from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.client.connection import from_wire_error
from itx_notebook.doors.sessions import AuthError
from itx_notebook.doors.targets import parse_options, tag_outbound_error
from itx_notebook.doors.websocket import door_options
from itx_notebook.errors import ItxConnectionError, ItxError, get_itx_error_code, project_not_found
from tests.support import get_refusal


class SocketError(Exception):
    """Another library's, with a code of its own."""

    code = "ECONNRESET"


class Failing(rpc.RpcTarget):
    """Raises what a test wants."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def fail(self) -> None:
        raise self._error


OUTBOUND = [
    (project_not_found("shop"), "Project shop not found.", "NOT_FOUND", {"projectIdOrSlug": "shop"}),
    (ItxError("taken", code="CONFLICT", hint="Ask /home/ada."), "taken", "CONFLICT", None),
    (TypeError("no such thing"), "no such thing", "INTERNAL", None),
    (SocketError("reset"), "reset", "INTERNAL", None),
    (KeyError(), "KeyError", "INTERNAL", None),
    (rpc.RpcError("bad", props={"code": "BAD_REQUEST"}), "bad", "INTERNAL", None),
]


@pytest.mark.parametrize(("error", "message", "code", "details"), OUTBOUND, ids=lambda value: type(value).__name__)
async def test_error_that_leaves_has_a_code_its_text_and_nothing_of_this_process(
    error: Exception, message: str, code: str, details: Any
) -> None:
    near, far = rpc.memory_pair(None, Failing(error), right_options=door_options())
    with pytest.raises(rpc.RemoteError) as caught:
        await near.main.fail()
    arrived = caught.value
    # The class is lost on the way; what says what it is, is the code alone.
    assert (arrived.message, arrived.props.get("code"), arrived.props.get("details")) == (message, code, details)
    assert arrived.stack is None
    assert "ada" not in f"{arrived!r} {arrived.props}"
    ours = from_wire_error(arrived, "here")
    assert (type(ours), ours.message, ours.code, ours.details) == (ItxError, message, code, details)
    assert get_itx_error_code(arrived) == code
    await near.close()
    await far.close()


async def test_refused_credentials_leave_as_a_plain_error_as_in_the_original() -> None:
    tagged = tag_outbound_error(AuthError())
    assert isinstance(tagged, rpc.RpcError)
    assert (tagged.message, get_itx_error_code(tagged)) == ("missing or invalid auth", None)


@pytest.mark.parametrize("name", ["ItxError", "Error"])
def test_code_that_arrives_counts_if_it_is_one_of_the_five_whatever_the_name(name: str) -> None:
    for code, ours in (("FORBIDDEN", "FORBIDDEN"), ("TEAPOT", "INTERNAL"), (None, "INTERNAL"), (7, "INTERNAL")):
        error = rpc.RemoteError("Forbidden: not found, unauthorized", name=name, props={"code": code})
        assert from_wire_error(error, "here").code == ours


def test_error_of_the_transport_has_a_class_of_its_own() -> None:
    lost = from_wire_error(rpc.RpcDisconnected(1006, "gone"), "here")
    assert isinstance(lost, ItxConnectionError)
    assert isinstance(lost, ConnectionError)


def test_options_are_read_strictly_and_undefined_is_absent() -> None:
    allowed = {"limit": (int,), "events": (bool,)}
    assert parse_options(None, allowed, "read") == {}
    assert parse_options({"limit": None, "events": False}, allowed, "read") == {"events": False}
    for given, message in (
        ({"limt": 1}, "read has no option 'limt'; there are limit, events."),
        ({"limit": True}, "read: limit True is of the wrong kind."),
        ({"limit": "1"}, "read: limit '1' is of the wrong kind."),
        ([], "read takes an object of options, not []."),
    ):
        error = get_refusal(lambda given=given: parse_options(given, allowed, "read"))  # type: ignore[misc]
        assert (error.code, error.message) == ("BAD_REQUEST", message)
