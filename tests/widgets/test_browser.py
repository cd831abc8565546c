from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import traitlets
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances

from itx_notebook._loop import get_io_loop
from itx_notebook.errors import ItxError
from itx_notebook.notebook import NotebookItx, connect
from itx_notebook.tree.live import FRAME
from itx_notebook.widgets import StreamTreeBrowser
from itx_notebook.widgets import browser as browser_module
from tests.support import on_io_loop, open_shell, run_cell
from tests.tree.applier import apply_patch
from tests.widgets.conftest import WAIT, FakeComm


def _get_count(itx: NotebookItx, path: str) -> int:
    return itx.streams.get(path).get_state(presence=False).event_count


def _wait_for_count(wire: FakeComm, path: str, count: int) -> None:
    """Until a patch has told that many events."""

    def has_arrived() -> bool:
        patches = wire.get_custom("patch")
        return any((patch.get("nodes", {}).get(path) or {}).get("count") == count for patch in patches)

    wire.wait_for(has_arrived)


def _wait_for_child(wire: FakeComm, path: str, name: str) -> None:
    """Until a patch has told of a child: a stream is announced to its parent some time after its first event."""

    def has_arrived() -> bool:
        patches = wire.get_custom("patch")
        return any(name in (patch.get("nodes", {}).get(path) or {}).get("added", ()) for patch in patches)

    wire.wait_for(has_arrived)


# -- state -----------------------------------------------------------------------------------------------------------


def test_browser_opens_with_the_live_snapshot(itx: NotebookItx, wire: FakeComm) -> None:
    snapshot = wire.opening["snapshot"]
    assert itx.project is not None
    assert snapshot["project"] == {"id": itx.project.id, "slug": "default"}
    assert (snapshot["version"], snapshot["seq"], snapshot["root"]) == (1, 0, "/")
    assert snapshot["nodes"]["/"]["count"] == _get_count(itx, "/")
    assert snapshot["nodes"]["/"]["children"] == ["agents", "orders"]
    assert (wire.opening["height"], wire.opening["read_only"]) == (420, False)
    assert wire.opening["_esm"] == (Path(browser_module.__file__).parent / "static" / "tree.js").read_text()


def test_browser_of_some_options_paints_them_at_once(itx: NotebookItx) -> None:
    browser = itx.tree(expand=["/agents"], select="/agents/a", height=100, read_only=True)
    assert isinstance(browser, StreamTreeBrowser)
    state = FakeComm.all[-1].opening
    assert (state["height"], state["read_only"], browser.selected_path) == (100, True, "/agents/a")
    assert state["snapshot"]["expanded"] == ["/", "/agents"]
    assert state["snapshot"]["selected"] == "/agents/a"
    assert sorted(state["snapshot"]["nodes"]) == ["/", "/agents", "/agents/a"]
    browser.close()


def test_get_state_gives_the_tree_as_of_now(itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm) -> None:
    itx.streams.get("/new").append("demo.hello")
    _wait_for_child(wire, "/", "new")
    for keys in (None, "snapshot", ["snapshot"], {"snapshot", "height"}):
        snapshot = browser.get_state(keys)["snapshot"]
        assert snapshot["nodes"]["/"]["children"] == ["agents", "orders", "new"]
        assert snapshot["seq"] == wire.get_custom("patch")[-1]["seq"]
    assert set(browser.get_state("height")) == {"height"}
    assert browser.snapshot["nodes"]["/"]["children"] == ["agents", "orders", "new"]


def test_bundle_carries_the_widget_and_the_tree_as_text_and_html(browser: StreamTreeBrowser) -> None:
    bundle = browser._repr_mimebundle_(include=None, exclude=None)
    assert bundle is not None
    data, _metadata = bundle
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/plain", "text/html"}
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == browser.model_id
    assert data["text/plain"] == repr(browser) == "Streams of default\n/  5 events\n├─ agents\n└─ orders"
    assert data["text/html"].startswith("<div")


# -- patches ---------------------------------------------------------------------------------------------------------


def test_patches_are_numbered_densely_and_lead_to_the_snapshot(
    itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    wire.say({"kind": "expand", "path": "/agents"})
    for n in range(5):
        itx.streams.get("/agents").append("demo.n", n)
        itx.streams.get(f"/agents/new{n}").append("demo.n", n)
    wire.say({"kind": "select", "path": "/agents/a"})
    wire.say({"kind": "collapse", "path": "/agents"})
    wire.say({"kind": "expand", "path": "/agents"})
    _wait_for_count(wire, "/agents", _get_count(itx, "/agents"))
    _wait_for_count(wire, "/", _get_count(itx, "/"))
    wire.wait_for(lambda: wire.get_custom("patch")[-1]["seq"] == browser._tree.seq)
    patches = wire.get_custom("patch")
    assert [patch["seq"] for patch in patches] == list(range(1, len(patches) + 1))
    state = wire.opening["snapshot"]
    for patch in patches:
        fields = {name: value for name, value in patch.items() if name not in ("kind", "seq")}
        state = apply_patch(state, patch["seq"], fields)
    now = browser.get_state("snapshot")["snapshot"]
    for each in (state, now):
        each["taken_at"] = 0
    assert state == msgspec.json.decode(msgspec.json.encode(now))


def test_everything_is_sent_from_the_io_thread(itx: NotebookItx, wire: FakeComm) -> None:
    wire.say({"kind": "hello"})
    wire.say({"kind": "resync", "have": 0})
    wire.say({"kind": "nonsense"})
    itx.streams.get("/").append("demo.hello")
    _wait_for_count(wire, "/", _get_count(itx, "/"))
    assert {message["thread"] for message in wire.messages[1:]} == {"itx-io"}


def test_looking_leaves_no_event(itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm) -> None:
    before = {path: _get_count(itx, path) for path in ("/", "/agents", "/agents/a", "/orders", "/none")}
    for kind in ("expand", "refresh", "select", "collapse"):
        for path in ("/agents", "/orders", "/none"):
            wire.say({"kind": kind, "path": path})
    browser.close()
    on_io_loop(lambda: None)
    assert {path: _get_count(itx, path) for path in before} == before


# -- the lossy channel -----------------------------------------------------------------------------------------------


def test_hello_is_answered_by_a_heartbeat_with_the_current_number(
    itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    itx.streams.get("/").append("demo.hello")
    _wait_for_count(wire, "/", _get_count(itx, "/"))
    wire.say({"kind": "hello"})
    beat = wire.get_custom("heartbeat")[-1]
    assert set(beat) == {"kind", "seq", "session", "now", "views"}
    assert (beat["seq"], beat["session"]) == (browser._tree.seq, wire.opening["snapshot"]["session"])
    assert beat["seq"] >= 1
    assert beat["now"] >= wire.opening["snapshot"]["taken_at"]


def test_heartbeat_comes_by_itself_until_the_browser_is_closed(
    itx: NotebookItx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_module, "_HEARTBEAT", 0.005)
    browser = itx.tree()
    assert isinstance(browser, StreamTreeBrowser)
    wire = FakeComm.all[-1]
    wire.wait_for(lambda: len(wire.get_custom("heartbeat")) >= 3)
    browser.close()
    on_io_loop(lambda: None)
    count = len(wire.messages)
    later = threading.Event()
    get_io_loop().call_soon_threadsafe(get_io_loop().call_later, 0.03, later.set)
    assert later.wait(WAIT)
    assert len(wire.messages) == count


def test_resync_is_answered_by_the_whole_snapshot_with_the_current_number(itx: NotebookItx, wire: FakeComm) -> None:
    itx.streams.get("/new").append("demo.hello")
    _wait_for_child(wire, "/", "new")
    wire.say({"kind": "resync", "have": 0})
    (snapshot,) = wire.snapshots
    assert snapshot["seq"] == wire.get_custom("patch")[-1]["seq"]
    assert snapshot["nodes"]["/"]["children"] == ["agents", "orders", "new"]
    assert snapshot["session"] == wire.opening["snapshot"]["session"]


def test_resyncs_that_come_together_are_answered_by_one_snapshot_and_the_next_after_a_rest(
    itx: NotebookItx, wire: FakeComm
) -> None:
    for _ in range(10):
        wire.say({"kind": "resync", "have": 0})
    assert len(wire.snapshots) == 1
    itx.streams.get("/new").append("demo.hello")
    _wait_for_child(wire, "/", "new")
    wire.wait_for(lambda: len(wire.snapshots) == 2)
    assert wire.snapshots[1]["seq"] >= wire.snapshots[0]["seq"]
    on_io_loop(lambda: None)
    assert len(wire.snapshots) == 2


def test_heartbeat_tells_how_many_views_are_known(wire: FakeComm) -> None:
    for page, count in (("a", 2), ("b", 1), ("b", None)):
        wire.say({"kind": "views", "page": page, "count": count})
    wire.say({"kind": "hello"})
    assert wire.get_custom("heartbeat")[-1]["views"] == 2


@pytest.mark.parametrize(
    "content",
    [
        None,
        7,
        "hello",
        [],
        {},
        {"kind": None},
        {"kind": ["expand"]},
        {"kind": "explode", "path": "/"},
        {"kind": "expand"},
        {"kind": "expand", "path": None},
        {"kind": "select", "path": "Not A Path"},
        {"kind": "refresh", "path": "/a/../b"},
        {"kind": "collapse", "path": {"a": 1}},
        {"kind": "filter", "text": 3},
        {"kind": "sort", "by": "colour"},
        {"kind": "views", "page": "a"},
        {"kind": "views", "page": 1, "count": 1},
        {"kind": "events", "path": "/"},
    ],
    ids=str,
)
def test_message_that_cannot_be_understood_is_answered_by_an_error_and_changes_nothing(
    browser: StreamTreeBrowser, wire: FakeComm, content: Any
) -> None:
    wire.say(content)
    (message,) = wire.get_custom("error")
    assert set(message["error"]) == {"code", "message", "hint", "details"}
    assert message["error"]["code"] == "BAD_REQUEST"
    assert message["error"]["hint"]
    assert all(set(patch) == {"kind", "seq", "nodes"} for patch in wire.get_custom("patch"))
    assert browser.selected_path is None


def test_message_after_the_socket_has_gone_ends_quietly(
    itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    wire.has_failed_sockets = True
    wire.say({"kind": "hello"})
    wire.say({"kind": "nonsense"})
    wire.say({"kind": "resync", "have": 0})
    itx.streams.get("/").append("demo.hello")
    on_io_loop(lambda: None)
    wire.has_failed_sockets = False
    wire.say({"kind": "hello"})
    wire.wait_for(lambda: wire.get_custom("heartbeat"))


def test_clicks_are_answered_where_the_browser_sent_them(wire: FakeComm) -> None:
    """ipykernel asks the comm which subshell a message belongs to; ours always agrees with the browser's choice."""
    assert wire._reply_subshell_for({}, "the browser's choice") == "the browser's choice"


# -- clicks ----------------------------------------------------------------------------------------------------------


def test_expanding_in_the_browser_brings_the_node(itx: NotebookItx, wire: FakeComm) -> None:
    wire.say({"kind": "expand", "path": "/agents"})
    wire.wait_for(lambda: any("/agents" in patch.get("nodes", {}) for patch in wire.get_custom("patch")))
    wire.wait_for(lambda: any(patch.get("expand") == ["/agents"] for patch in wire.get_custom("patch")))
    _wait_for_count(wire, "/agents", _get_count(itx, "/agents"))


def test_selecting_in_the_browser_is_seen_by_an_observer_and_told_back(
    browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    seen: list[Any] = []
    browser.observe(lambda change: seen.append((change["old"], change["new"])), "selected_path")
    wire.say({"kind": "select", "path": "/orders"})
    assert (seen, browser.selected_path) == ([(None, "/orders")], "/orders")
    wire.wait_for(lambda: [patch for patch in wire.get_custom("patch") if patch.get("selected") == "/orders"])
    wire.say({"kind": "select", "path": "/orders"})
    assert len(seen) == 1


def test_selecting_in_python_reaches_the_browser_and_opens_the_way(browser: StreamTreeBrowser, wire: FakeComm) -> None:
    browser.selected_path = "/agents/a"
    wire.wait_for(lambda: any(patch.get("selected") == "/agents/a" for patch in wire.get_custom("patch")))
    assert browser.get_state("snapshot")["snapshot"]["expanded"] == ["/", "/agents"]
    browser.selected_path = None
    wire.wait_for(lambda: any(patch.get("selected", "") is None for patch in wire.get_custom("patch")))


def test_selecting_twice_within_a_frame_keeps_the_last(browser: StreamTreeBrowser, wire: FakeComm) -> None:
    tree = browser._tree

    def click_again_before_the_first_is_told(_seq: int, patch: dict[str, Any]) -> None:
        if patch.get("selected") == "/orders":
            # The other click, on the main thread, at the worst moment: the first is on its way to the browser.
            browser.selected_path = "/agents"

    on_io_loop(lambda: tree._listeners.insert(0, click_again_before_the_first_is_told))
    wire.say({"kind": "select", "path": "/orders"})
    wire.wait_for(lambda: any(patch.get("selected") == "/agents" for patch in wire.get_custom("patch")))
    told = threading.Event()
    get_io_loop().call_soon_threadsafe(get_io_loop().call_later, 3 * FRAME, told.set)
    assert told.wait(WAIT)
    assert browser.selected_path == "/agents"
    assert browser.get_state("snapshot")["snapshot"]["selected"] == "/agents"
    assert [patch["selected"] for patch in wire.get_custom("patch") if "selected" in patch] == ["/orders", "/agents"]


@pytest.mark.parametrize("path", ["Not A Path", "", "/a/"])
def test_selecting_in_python_what_is_no_path_is_refused(browser: StreamTreeBrowser, path: str) -> None:
    with pytest.raises(ItxError) as caught:
        browser.selected_path = path
    assert caught.value.code == "BAD_REQUEST"
    assert browser.selected_path is None


def test_selecting_in_python_takes_the_canonical_form(browser: StreamTreeBrowser) -> None:
    browser.selected_path = "agents/a"
    assert browser.selected_path == "/agents/a"


def test_observer_that_fails_is_shown_in_the_browser(browser: StreamTreeBrowser, wire: FakeComm) -> None:
    def fail(_change: Any) -> None:
        raise ValueError("the observer's own trouble")

    browser.observe(fail, "selected_path")
    wire.say({"kind": "select", "path": "/orders"})
    (message,) = wire.get_custom("error")
    assert message["error"]["message"] == "the observer's own trouble"


# -- life ------------------------------------------------------------------------------------------------------------


def test_closing_leaves_the_last_snapshot_and_takes_model_layout_and_watches_away(
    itx: NotebookItx, browser: StreamTreeBrowser, wire: FakeComm
) -> None:
    layout = browser.layout
    models = {browser.model_id, layout.model_id}
    assert models <= set(_instances)
    itx.streams.get("/").append("demo.hello")
    _wait_for_count(wire, "/", _get_count(itx, "/"))
    browser.close()
    on_io_loop(lambda: None)
    assert wire.snapshots[-1]["nodes"]["/"]["count"] == _get_count(itx, "/")
    assert wire.messages[-1]["type"] == "comm_close"
    assert (browser.comm, layout.comm) == (None, None)
    assert not models & set(_instances)
    assert browser._tree._watches == {}
    count = len(wire.messages)
    itx.streams.get("/").append("demo.hello")
    browser.close()
    on_io_loop(lambda: None)
    assert len(wire.messages) == count


def test_two_browsers_of_one_project_are_told_apart(itx: NotebookItx, wire: FakeComm) -> None:
    other = itx.tree()
    assert isinstance(other, StreamTreeBrowser)
    other_wire = FakeComm.all[-1]
    wire.say({"kind": "expand", "path": "/agents"})
    itx.streams.get("/").append("demo.hello")
    count = _get_count(itx, "/")
    _wait_for_count(wire, "/", count)
    _wait_for_count(other_wire, "/", count)
    assert not any("expand" in patch for patch in other_wire.get_custom("patch"))
    assert wire.opening["snapshot"]["session"] != other_wire.opening["snapshot"]["session"]
    other.close()


def test_browser_of_a_closed_engine_says_that_it_is_cut_off_and_comes_back(itx: NotebookItx, wire: FakeComm) -> None:
    def get_states() -> list[str]:
        return [patch["connection"]["state"] for patch in wire.get_custom("patch") if "connection" in patch]

    itx.close()
    wire.wait_for(lambda: get_states()[-1:] == ["closed"])
    connect(home=itx.home)
    wire.wait_for(lambda: get_states()[-1:] == ["live"])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with open_shell(tmp_path / "ipython", monkeypatch) as shell:
        yield shell


def test_snapshot_is_sent_after_a_cell_to_a_runner_that_has_no_browser(
    shell: InteractiveShell, itx: NotebookItx
) -> None:
    browser = itx.tree()
    assert isinstance(browser, StreamTreeBrowser)
    wire = FakeComm.all[-1]
    itx.streams.get("/").append("demo.hello")
    _wait_for_count(wire, "/", _get_count(itx, "/"))
    run_cell(shell, "1")
    wire.wait_for(lambda: wire.snapshots)
    assert wire.snapshots[-1]["nodes"]["/"]["count"] == _get_count(itx, "/")
    on_io_loop(lambda: None)
    count = len(wire.snapshots)
    run_cell(shell, "1")
    on_io_loop(lambda: None)
    assert len(wire.snapshots) == count, "sent once for each change"
    browser.close()


def test_snapshot_is_not_sent_after_a_cell_when_a_browser_is_there(shell: InteractiveShell, itx: NotebookItx) -> None:
    browser = itx.tree()
    assert isinstance(browser, StreamTreeBrowser)
    wire = FakeComm.all[-1]
    wire.say({"kind": "hello"})
    itx.streams.get("/").append("demo.hello")
    _wait_for_count(wire, "/", _get_count(itx, "/"))
    run_cell(shell, "1")
    on_io_loop(lambda: None)
    assert wire.snapshots == []
    browser.close()


# -- from Python -----------------------------------------------------------------------------------------------------


def test_selected_is_the_handle_of_the_selected_stream(itx: NotebookItx, browser: StreamTreeBrowser) -> None:
    before = browser.selected
    browser.selected_path = "/orders"
    selected = browser.selected
    assert before is None
    assert selected is not None
    selected.append("demo.more")
    assert itx.streams.get("/orders").read()[-1].type == "demo.more"


def test_search_is_set_and_observed_from_python(browser: StreamTreeBrowser, wire: FakeComm) -> None:
    seen: list[Any] = []
    browser.observe(lambda change: seen.append(change["new"]), "filter")
    wire.say({"kind": "filter", "text": "ord"})
    assert (seen, browser.filter) == (["ord"], "ord")
    browser.filter = "agents"
    wire.wait_for(lambda: any(patch.get("filter") == "agents" for patch in wire.get_custom("patch")))
    assert "orders" not in repr(browser)
    with pytest.raises(traitlets.TraitError):
        browser.set_trait("filter", 3)


def test_reveal_opens_the_way_and_tells_the_browser(browser: StreamTreeBrowser, wire: FakeComm) -> None:
    browser.reveal("agents/a")
    wire.wait_for(lambda: any(patch.get("reveal") == "/agents/a" for patch in wire.get_custom("patch")))
    assert browser.get_state("snapshot")["snapshot"]["expanded"] == ["/", "/agents"]
    assert browser.selected_path is None
    with pytest.raises(ItxError):
        browser.reveal("Not A Path")


def test_page_is_written_where_it_was_asked_for(browser: StreamTreeBrowser, tmp_path: Path) -> None:
    written = browser.to_html(tmp_path / "tree.html")
    assert written == tmp_path / "tree.html"
    assert "orders" in written.read_text(encoding="utf-8")
