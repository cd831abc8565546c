from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from itx_notebook.doors import get_global_itx
from itx_notebook.doors.policy import AppendPolicy
from itx_notebook.handle.surface import ItxSurface
from itx_notebook.notebook import NotebookItx
from itx_notebook.testing.clock import settle
from itx_notebook.types import ADMIN, UNSET
from itx_notebook.widgets import StreamTreeBrowser
from itx_notebook.widgets import requests as requests_module
from itx_notebook.widgets.requests import AppendRequest, PageRequest, Requests
from tests.support import get_refusal, open_deployment
from tests.widgets.conftest import FakeComm


def _ask_page(request: int = 7, path: str = "/orders", **more: Any) -> dict[str, Any]:
    return {"kind": "events", "request": request, "path": path, "before": None, "after": None, "type": None, **more}


def _ask_append(request: str = "k1", path: str = "/orders", **more: Any) -> dict[str, Any]:
    return {"kind": "append", "request": request, "path": path, "type": "demo.paid", "payload": '{"n": 1}', **more}


def _get_count(itx: NotebookItx, path: str = "/orders") -> int:
    return itx.streams.get(path).get_state(presence=False).event_count


def _wait_for_answer(wire: FakeComm, kind: str, number: int = 1) -> dict[str, Any]:
    """The answer of a kind, once there are `number` of them."""
    wire.wait_for(lambda: len(wire.get_custom(kind)) >= number)
    return wire.get_custom(kind)[number - 1]


# -- through the comm ------------------------------------------------------------------------------------------------


def test_newest_events_are_sent_as_a_page_with_what_else_is_to_be_said(itx: NotebookItx, wire: FakeComm) -> None:
    itx.streams.get("/orders").append("demo.paid", {"n": 1})
    before = _get_count(itx)
    wire.say(_ask_page())
    page = _wait_for_answer(wire, "events")
    assert set(page) == {"kind", "request", "events", "before", "about", "error"}
    assert (page["request"], page["error"], page["before"]) == (7, None, None)
    assert [event["offset"] for event in page["events"]] == list(range(before, 0, -1))
    assert page["events"][0] | {"createdAt": ""} == {
        "type": "demo.paid",
        "payload": {"n": 1},
        "metadata": {},
        "offset": before,
        "createdAt": "",
    }
    assert (page["about"]["count"], page["about"]["active_at"]) == (before, page["events"][0]["createdAt"])
    assert _get_count(itx) == before


def test_page_that_cannot_be_read_says_why(itx: NotebookItx, wire: FakeComm) -> None:
    itx.close()
    wire.say(_ask_page(1, "no path"))
    page = _wait_for_answer(wire, "events")
    assert (page["request"], page["events"], page["before"], page["about"]) == (1, [], None, None)
    assert page["error"]["message"]


def test_event_from_the_browser_is_appended_and_its_offset_told(itx: NotebookItx, wire: FakeComm) -> None:
    before = _get_count(itx)
    wire.say(_ask_append())
    assert _wait_for_answer(wire, "appended") == {
        "kind": "appended",
        "request": "k1",
        "offset": before + 1,
        "error": None,
    }
    (event,) = itx.streams.get("/orders").read(after_offset=before, presence=False)
    assert (event.type, event.payload) == ("demo.paid", {"n": 1})


def test_event_asked_for_again_because_the_answer_was_lost_is_appended_once(itx: NotebookItx, wire: FakeComm) -> None:
    before = _get_count(itx)
    for number in (1, 2):
        wire.say(_ask_append())
        assert _wait_for_answer(wire, "appended", number)["offset"] == before + 1
    assert _get_count(itx) == before + 1
    wire.say(_ask_append("k2", payload=None))
    assert _wait_for_answer(wire, "appended", 3)["offset"] == before + 2
    assert itx.streams.get("/orders").read(presence=False)[-1].payload is UNSET


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"payload": "{"}, "line 1"),
        ({"type": " "}, "no type"),
        ({"path": "no path"}, "path"),
        ({"type": "events.iterate.com/stream/created", "payload": None}, "events.iterate.com/stream/created"),
    ],
    ids=str,
)
def test_event_that_is_refused_says_why_and_what_to_do(
    itx: NotebookItx, wire: FakeComm, wrong: dict[str, Any], said: str
) -> None:
    before = _get_count(itx)
    wire.say(_ask_append() | wrong)
    answer = _wait_for_answer(wire, "appended")
    assert (answer["request"], answer["offset"]) == ("k1", None)
    assert said in answer["error"]["message"]
    assert answer["error"]["hint"]
    assert _get_count(itx) == before


def test_paused_stream_says_so_in_the_form_and_nothing_else(itx: NotebookItx, wire: FakeComm) -> None:
    itx.streams.get("/orders").append("events.iterate.com/stream/paused", {"reason": "stock-taking"})
    wire.say(_ask_append())
    assert "stock-taking" in _wait_for_answer(wire, "appended")["error"]["message"]
    assert wire.get_custom("error") == []


def test_read_only_tree_refuses_to_append_whatever_the_browser_believes(
    itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    before = _get_count(itx)
    browser.read_only = True
    wire.say(_ask_append())
    answer = _wait_for_answer(wire, "appended")
    assert (answer["offset"], answer["error"]["code"]) == (None, "FORBIDDEN")
    assert _get_count(itx) == before
    browser.read_only = False
    wire.say(_ask_append())
    assert _wait_for_answer(wire, "appended", 2)["offset"] == before + 1


@pytest.mark.parametrize("content", [{"kind": "append"}, _ask_append() | {"request": 3}, _ask_page() | {"path": None}])
def test_request_that_is_none_is_answered_by_an_error(wire: FakeComm, content: dict[str, Any]) -> None:
    wire.say(content)
    assert _wait_for_answer(wire, "error")["error"]["code"] == "BAD_REQUEST"


# -- by itself -------------------------------------------------------------------------------------------------------


class StuckWay:
    """A way to an engine that does not answer; counts who asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def get_itx(self) -> Any:
        self.asked += 1
        await asyncio.get_running_loop().create_future()


class ReadersWay:
    """A way on which everything may be read and nothing appended."""

    def __init__(self, itx: ItxSurface) -> None:
        self.streams = self
        self._itx = itx

    async def get_itx(self) -> Any:
        return self

    def get(self, path: str) -> Any:
        return cast("Any", self._itx.streams).get(path, policy=AppendPolicy(mode="none"))


async def test_handle_that_may_not_append_is_told_so_in_the_form(home: Path) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with open_deployment(home) as deployment:
        await deployment.directory.create("demo")
        itx = await get_global_itx(deployment, ADMIN).projects.get("demo")
        requests = Requests(ReadersWay(itx), answers.put_nowait)
        requests.begin_append(AppendRequest("k", "/orders", "demo", None))
        answer = await answers.get()
        assert (answer["offset"], answer["error"]["code"]) == (None, "FORBIDDEN")
        assert answer["error"]["hint"]
        requests.begin_page(PageRequest(1, "/orders", None, None, None))
        assert (await answers.get())["error"] is None


async def test_request_that_takes_long_is_answered_by_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "PATIENCE", 0.01)
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    requests = Requests(StuckWay(), answers.put_nowait)
    requests.begin_page(PageRequest(1, "/orders", None, None, None))
    requests.begin_append(AppendRequest("k", "/orders", "demo", None))
    page, appended = await answers.get(), await answers.get()
    assert "/orders were not read within" in page["error"]["message"]
    assert "may be there or not" in appended["error"]["message"]
    assert "it is there once" in appended["error"]["hint"]


async def test_request_that_is_under_way_is_not_begun_again() -> None:
    way = StuckWay()
    requests = Requests(way, lambda _message: None)
    for _ in range(3):
        requests.begin_page(PageRequest(1, "/orders", None, None, None))
        requests.begin_append(AppendRequest("k", "/orders", "demo", None))
    await settle()
    assert way.asked == 2
    requests.close()


async def test_many_pages_at_once_make_the_oldest_give_way_and_the_end_breaks_off_all() -> None:
    way = StuckWay()
    requests = Requests(way, lambda _message: None)
    for request in range(6):
        requests.begin_page(PageRequest(request, "/orders", None, None, None))
    await settle()
    assert len([task for task in asyncio.all_tasks() if "_send_page" in repr(task)]) == 4
    requests.begin_page(PageRequest(0, "/orders", None, None, None))
    await settle()
    assert way.asked == 5, "the first two gave way before they had begun"
    requests.close()
    await settle()
    assert not [task for task in asyncio.all_tasks() if "_send_page" in repr(task)]


def test_refusal_of_a_message_names_what_is_wrong_with_it() -> None:
    error = get_refusal(lambda: requests_module.parse_request({"request": "x"}, PageRequest))
    assert "int" in error.message
    assert error.hint == requests_module.RELOAD
