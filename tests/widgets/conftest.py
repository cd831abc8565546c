from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import comm
import msgspec
import pytest
from comm.base_comm import BaseComm
from ipywidgets.widgets.widget import _instances

from itx_notebook._loop import run_blocking
from itx_notebook.client import get_loader
from itx_notebook.notebook import NotebookItx, connect
from itx_notebook.widgets import StreamTreeBrowser
from tests.support import close_engines, on_io_loop, open_owned

WAIT = 5.0


class FakeComm(BaseComm):
    """A comm whose other end is this test: it keeps what is published, and can be waited for."""

    all: ClassVar[list[FakeComm]] = []

    def __init__(self, **options: Any) -> None:
        self.messages: list[dict[str, Any]] = []
        self.has_failed_sockets = False
        self._news = threading.Condition()
        # As ipykernel 7.4 has it; see browser.py.
        self._reply_subshell_for: Callable[[Any, Any], Any] = lambda _data, _default: "somewhere else"
        FakeComm.all.append(self)
        super().__init__(**options)

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        if self.has_failed_sockets:
            raise OSError("the socket is closed")
        # Through JSON, as on a wire: what is not plain would fail here.
        plain = msgspec.json.decode(msgspec.json.encode(copy.deepcopy(data)))
        with self._news:
            self.messages.append({"type": msg_type, "data": plain, "thread": threading.current_thread().name})
            self._news.notify_all()

    # -- what arrived ----------------------------------------------------------------------------------------------

    @property
    def opening(self) -> dict[str, Any]:
        """The state the comm was opened with."""
        state: dict[str, Any] = self.messages[0]["data"]["state"]
        return state

    @property
    def custom(self) -> list[dict[str, Any]]:
        """Custom messages, in order."""
        return [each["data"]["content"] for each in self.messages if each["data"].get("method") == "custom"]

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        """Snapshots that were sent after the opening, in order."""
        updates = [each["data"]["state"] for each in self.messages if each["data"].get("method") == "update"]
        return [update["snapshot"] for update in updates if "snapshot" in update]

    def get_custom(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.custom if message["kind"] == kind]

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Until `condition` holds; it is looked at after each message."""
        with self._news:
            assert self._news.wait_for(condition, WAIT), self.messages[1:]

    # -- what the browser sends ------------------------------------------------------------------------------------

    def say(self, content: Any) -> None:
        """A custom message from the browser."""
        data = {"method": "custom", "content": content}
        self.handle_msg({"content": {"comm_id": self.comm_id, "data": data}, "buffers": []})
        on_io_loop(lambda: None)


@pytest.fixture(autouse=True)
def nothing_of_others() -> None:
    """Trees that tests elsewhere left open would be told of cells, and counted."""
    for widget in list(_instances.values()):
        widget.close()
    on_io_loop(lambda: None)


@pytest.fixture(autouse=True)
def _comms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(comm, "create_comm", FakeComm)
    monkeypatch.setattr(FakeComm, "all", [])
    yield
    for each in FakeComm.all:
        each.has_failed_sockets = False
        each.close()


@pytest.fixture
def itx(home: Path) -> Iterator[NotebookItx]:
    """A project with ``/``, ``/agents``, ``/agents/a`` and ``/orders``."""
    itx = connect(home=home)
    for path in ("/agents/a", "/orders"):
        itx.streams.get(path).append("demo.hello")
    run_blocking(_settle(home))
    yield itx
    close_engines()


async def _settle(home: Path) -> None:
    """Until the announcements of the new streams are written."""
    await (await open_owned(get_loader(home))).engine.settle()


@pytest.fixture
def browser(itx: NotebookItx) -> Iterator[StreamTreeBrowser]:
    """``itx.tree()``, with nobody at the other end yet."""
    browser = itx.tree()
    assert isinstance(browser, StreamTreeBrowser), browser
    yield browser
    browser.close()
    on_io_loop(lambda: None)


@pytest.fixture
def wire(browser: StreamTreeBrowser) -> FakeComm:
    """The comm of `browser`."""
    found = browser.comm
    assert isinstance(found, FakeComm)
    return found
