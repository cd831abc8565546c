"""The details of a stream and the form below them, in JupyterLab: read, followed, filtered, copied, appended to."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import NotebookPage, OpenNotebook
from tests.browser.test_access import get_violations
from tests.browser.test_tree import AGENTS, TREE

pytestmark = pytest.mark.browser

ORDERS = f"""{AGENTS}
orders = itx.streams.get("/orders")
orders.append_batch([{{"type": "demo.n", "payload": {{"n": n}}}} for n in range(40)])
"""
LAST = 'last = itx.streams.get("/orders").read(presence=False)[-1]\nprint(last.type, last.payload, last.offset)'


def open_details(page: NotebookPage, path: str = "/orders") -> Locator:
    """Click a stream; the pane that opens."""
    page.row(path).get_by_text(path.rsplit("/", 1)[-1], exact=True).click()
    return get_pane(page, path)


def get_pane(page: NotebookPage, path: str = "/orders") -> Locator:
    return page.page.get_by_role("region", name=f"Details of {path}")


def get_events(pane: Locator) -> Locator:
    """The events, as lines with offset, type and time."""
    return pane.locator("summary").filter(has_text="demo.")


def get_text(page: NotebookPage, index: int) -> str:
    """What a cell printed."""
    text: str = page.get_outputs(index)[0]["text"]
    return text.strip()


def test_events_when_a_stream_is_selected_are_shown_paged_and_followed(notebook: OpenNotebook) -> None:
    page = notebook(ORDERS, TREE, 'orders.append("demo.paid", {"who": ["ada", None]})')
    page.run(1)
    page.run(2)
    pane = open_details(page)
    expect(pane.get_by_text("demo.n").first).to_be_visible()
    expect(pane.locator("summary")).to_have_count(25)
    pane.get_by_role("button", name="Older").click()
    expect(pane.locator("summary")).to_have_count(43)
    expect(pane.get_by_role("button", name="Older")).to_have_count(0)
    page.run(3)
    expect(get_events(pane).first).to_contain_text("44 demo.paid")
    get_events(pane).first.click()
    expect(pane.get_by_text("who: [2]")).to_be_visible()
    pane.get_by_text("who: [2]").click()
    expect(pane.get_by_text('0: "ada"')).to_be_visible()
    expect(pane).to_contain_text("44 events")


def test_details_when_events_come_by_the_thousand_end_at_the_newest(notebook: OpenNotebook) -> None:
    page = notebook(
        ORDERS,
        TREE,
        """
import time
end = time.monotonic() + 4
while time.monotonic() < end:
    orders.append_batch([{"type": "demo.x", "payload": {"n": n}} for n in range(100)])
print(orders.append("demo.last").offset)
""",
    )
    page.run(1)
    page.run(2)
    pane = open_details(page)
    expect(get_events(pane)).to_have_count(25)
    page.run(3)
    last = int(get_text(page, 3))
    assert last > 1_000
    expect(get_events(pane).first).to_contain_text(f"{last} demo.last")
    expect(page.status).to_have_text("live")
    pane.get_by_role("button", name="Older").click()
    expect(get_events(pane).nth(25)).to_contain_text(f"{last - 25} demo.x")


def test_following_when_paused_holds_still_and_counts_what_it_does_not_show(notebook: OpenNotebook) -> None:
    page = notebook(ORDERS, TREE, 'orders.append("demo.paid")')
    page.run(1)
    page.run(2)
    pane = open_details(page)
    expect(pane.locator("summary")).to_have_count(25)
    page.expect_count("/orders", 43)
    pane.get_by_role("button", name="Pause").click()
    page.run(3)
    expect(pane.get_by_role("button", name="Resume (1)")).to_be_visible()
    expect(pane.get_by_text("demo.paid")).to_have_count(0)
    pane.get_by_role("button", name="Resume (1)").click()
    expect(get_events(pane).filter(has_text="demo.paid")).to_have_count(1)


def test_filter_when_a_type_that_was_seen_is_typed_shows_it_alone(notebook: OpenNotebook) -> None:
    page = notebook(ORDERS, 'orders.append("demo.rare")\norders.append_batch([{"type": "demo.n"}] * 3)', TREE)
    for cell in (1, 2, 3):
        page.run(cell)
    pane = open_details(page)
    expect(get_events(pane)).to_have_count(25)
    field = pane.get_by_role("combobox", name="Only events of the type")
    assert field.evaluate("field => [...field.list.options].map(option => option.value)") == ["demo.n", "demo.rare"]
    field.press_sequentially("demo.rare")
    expect(get_events(pane)).to_have_count(1)
    field.press("Escape")
    expect(get_events(pane)).to_have_count(25)
    field.fill("never.seen")
    field.press("Enter")
    expect(pane).to_contain_text("No events of this type.")
    pane.get_by_role("button", name="Clear type").click()
    expect(get_events(pane)).to_have_count(25)


def test_copies_when_asked_for_are_what_a_cell_can_run(notebook: OpenNotebook) -> None:
    page = notebook(f"{AGENTS}\nitx.streams.get('/orders').append('demo.paid', {{'who': ['ada', None]}})", TREE)
    page.run(1)
    page.run(2)
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    read = "() => navigator.clipboard.readText()"
    pane = open_details(page)
    get_events(pane).first.click()
    pane.get_by_role("button", name="Copy Python").click()
    expect(pane.get_by_text("Copied event 4 as Python.")).to_be_visible()
    assert page.page.evaluate(read) == 'itx.streams.get("/orders").append("demo.paid", {"who": ["ada", None]})'
    pane.get_by_role("button", name="Copy JSON").click()
    expect(pane.get_by_text("Copied event 4 as JSON.")).to_be_visible()
    assert page.page.evaluate(f"async () => JSON.parse(await ({read})()).payload") == {"who": ["ada", None]}
    pane.get_by_role("button", name="Copy all Python").click()
    expect(pane.get_by_text("Copied 4 events as Python.")).to_be_visible()
    copied: str = page.page.evaluate(read)
    assert copied.splitlines()[0] == 'stream = itx.streams.get("/orders")'
    assert copied.splitlines()[-1] == 'stream.append("demo.paid", {"who": ["ada", None]})'
    pane.get_by_role("button", name="Copy all JSON").click()
    expect(pane.get_by_text("Copied 4 events as JSON.")).to_be_visible()
    offsets = page.page.evaluate(f"async () => JSON.parse(await ({read})()).map(event => event.offset)")
    assert offsets == [1, 2, 3, 4]


def test_stream_when_it_has_processors_and_company_says_how_they_fare(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        """
from itx_notebook.streams import processor, core_type
orders = itx.streams.get("/orders")
@processor("stumbling", consumes=["demo.stone"])
def stumbling(state, event):
    raise ValueError("over a stone")
present = orders.subscribe(lambda batch: None, key="ada", after_offset="end")
running = orders.run(stumbling)
""",
        TREE,
        'orders.append("demo.stone")\n'
        'orders.wait_for_event(event_types=[core_type("error-occurred")], after_offset="start", timeout=10)',
        'orders.append(core_type("paused"), {"reason": "stock-taking"})',
    )
    for cell in (1, 2, 3):
        page.run(cell)
    pane = open_details(page)
    expect(pane).to_contain_text("Created 20")
    expect(pane.get_by_text("Connected (2)")).to_be_visible()
    pane.get_by_text("Connected (2)").click()
    expect(pane.get_by_role("listitem").filter(has_text="ada, since")).to_be_visible()
    pane.get_by_text("Processors (1)").click()
    expect(pane.get_by_role("listitem").filter(has_text="stumbling 0.1.0")).to_contain_text("running up to event")
    page.run(4)
    expect(pane.get_by_text("Processors (1): failed")).to_be_visible()
    expect(pane.get_by_role("listitem").filter(has_text="stumbling 0.1.0")).to_contain_text("over a stone")
    page.run(5)
    expect(pane.get_by_text("Paused: stock-taking.")).to_be_visible()


def test_events_when_they_cannot_be_read_say_so_and_come_back(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, "itx.close()", "itx = itx_notebook.connect()")
    page.run(1)
    page.run(2)
    page.run(3)
    expect(page.status).to_contain_text("closed since", timeout=10_000)
    pane = open_details(page)
    expect(pane.get_by_role("button", name="Retry")).to_be_visible(timeout=15_000)
    expect(pane.get_by_text("Loading…")).to_have_count(0)
    page.run(4)
    pane.get_by_role("button", name="Retry").click()
    expect(get_events(pane)).to_have_count(1)


def test_selection_when_set_from_python_opens_the_details_and_closes_them(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, 'browser.selected_path = "/agents/mail"', "browser.selected_path = None")
    for cell in (1, 2, 3):
        page.run(cell)
    expect(get_events(get_pane(page, "/agents/mail"))).to_have_count(1)
    expect(page.row("/agents/mail")).to_have_attribute("aria-selected", "true")
    page.run(4)
    expect(get_pane(page, "/agents/mail")).to_have_count(0)


def test_details_when_the_stream_lies_outside_the_tree_are_followed_too(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'browser = itx.tree("/agents", select="/orders")\nbrowser',
        'itx.streams.get("/orders").append("demo.x")',
    )
    page.run(1)
    page.run(2)
    pane = get_pane(page)
    expect(get_events(pane)).to_have_count(1)
    page.run(3)
    expect(get_events(pane)).to_have_count(2, timeout=10_000)


def test_details_when_the_page_is_reloaded_are_of_the_selection(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    expect(get_events(open_details(page))).to_have_count(1)
    page.wait_until_saveable("/", "orders")
    page.save()
    page.reload()
    expect(get_events(get_pane(page))).to_have_count(1)


def test_form_when_filled_appends_once_and_says_where(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, LAST)
    page.run(1)
    page.run(2)
    pane = open_details(page)
    expect(get_events(pane)).to_have_count(1)
    form = pane.get_by_role("form", name="Append to /orders")
    form.get_by_role("combobox", name="Type of the event").fill("demo.paid")
    form.get_by_role("textbox", name="Payload as JSON").fill('{"id": 18446744073709551615}')
    form.get_by_role("button", name="Append").click()
    expect(form.get_by_text("Appended as event 4.")).to_be_visible()
    expect(form.get_by_role("textbox", name="Payload as JSON")).to_have_value("")
    expect(get_events(pane)).to_have_count(2)
    get_events(pane).first.click()
    expect(pane.get_by_text("id: 18446744073709551615")).to_be_visible()
    page.run(3)
    assert get_text(page, 3) == "demo.paid {'id': 18446744073709551615} 4"


def test_form_when_the_payload_is_no_json_says_where_and_keeps_it(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, LAST)
    page.run(1)
    page.run(2)
    before = page.get_sources()
    form = open_details(page).get_by_role("form")
    payload = form.get_by_role("textbox", name="Payload as JSON")
    payload.fill('{"n": 1,\n "m" 2}')
    expect(form.get_by_text("Line 2, column 6: a “:” is missing after the key.")).to_be_visible()
    payload.press("Control+Enter")
    expect(form.get_by_text("The event needs a type")).to_be_visible()
    expect(form.get_by_role("combobox", name="Type of the event")).to_be_focused()
    expect(payload).to_have_value('{"n": 1,\n "m" 2}')
    page.run(3)
    assert get_text(page, 3).endswith(" 3")
    assert page.get_sources() == before


def test_form_when_the_stream_is_paused_shows_the_refusal_and_tries_again(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'itx.streams.get("/orders").append("events.iterate.com/stream/paused", {"reason": "stock-taking"})',
        TREE,
        'itx.streams.get("/orders").append("events.iterate.com/stream/resumed")',
    )
    for cell in (1, 2, 3):
        page.run(cell)
    form = open_details(page).get_by_role("form")
    form.get_by_role("combobox", name="Type of the event").fill("demo.paid")
    form.get_by_role("textbox", name="Payload as JSON").fill("[1]")
    form.get_by_role("textbox", name="Payload as JSON").press("Control+Enter")
    expect(form.get_by_role("alert")).to_contain_text("stock-taking")
    expect(form.get_by_role("textbox", name="Payload as JSON")).to_have_value("[1]")
    page.run(4)
    form.get_by_role("button", name="Retry").click()
    expect(form.get_by_text("Appended as event 6.")).to_be_visible()


def test_form_when_the_handle_may_not_append_says_so_and_loses_no_text(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        TREE,
        """
from itx_notebook.doors.policy import AppendPolicy
class Reader:
    async def get_itx(self):
        self.itx, self.streams = await browser._tree.get_itx(), self
        return self
    def get(self, path):
        return self.itx.streams.get(path, policy=AppendPolicy(mode="none"))
browser._requests._way = Reader()
""",
    )
    for cell in (1, 2, 3):
        page.run(cell)
    pane = open_details(page)
    expect(get_events(pane)).to_have_count(1)
    form = pane.get_by_role("form")
    form.get_by_role("combobox", name="Type of the event").fill("demo.paid")
    form.get_by_role("textbox", name="Payload as JSON").fill("[1]")
    form.get_by_role("button", name="Append").click()
    expect(form.get_by_role("alert")).to_contain_text("Stream append policy rejected append to /orders.")
    expect(form.get_by_role("combobox", name="Type of the event")).to_have_value("demo.paid")
    expect(form.get_by_role("textbox", name="Payload as JSON")).to_have_value("[1]")


def test_form_when_the_answer_is_lost_asks_again_and_the_event_is_there_once(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        TREE,
        """
tell, lost = browser._tell, []
def lose_the_first_answer(message):
    if message["kind"] == "appended" and not lost:
        lost.append(message)
    else:
        tell(message)
browser._requests._tell = lose_the_first_answer
""",
        f"{LAST}\nprint(len(lost))",
    )
    for cell in (1, 2, 3):
        page.run(cell)
    form = open_details(page).get_by_role("form")
    form.get_by_role("combobox", name="Type of the event").fill("demo.paid")
    form.get_by_role("button", name="Append").click()
    expect(form.get_by_text("Appended as event 4.")).to_be_visible(timeout=15_000)
    page.run(4)
    assert get_text(page, 4).split() == ["demo.paid", "UNSET", "4", "1"]


def test_form_when_the_tree_is_read_only_is_not_there_and_the_kernel_refuses(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        "browser = itx.tree(read_only=True)\nbrowser",
        """
refused = []
browser._requests._tell = refused.append
browser._take({"kind": "append", "request": "k", "path": "/orders", "type": "demo.forced", "payload": None})
""",
        f"{LAST}\nprint(refused[0]['error']['code'])",
        "browser.read_only = False",
    )
    page.run(1)
    page.run(2)
    pane = open_details(page)
    expect(get_events(pane)).to_have_count(1)
    expect(pane.get_by_role("form")).to_have_count(0)
    page.run(3)
    page.run(4)
    assert get_text(page, 4).split("\n")[1] == "FORBIDDEN"
    assert "demo.forced" not in get_text(page, 4)
    page.run(5)
    expect(pane.get_by_role("form")).to_be_visible()


def test_everything_when_done_by_keys_alone_can_be_done_and_leaves_the_notebook_alone(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, LAST)
    page.run(1)
    page.run(2)
    before = page.get_sources()
    keyboard = page.page.keyboard
    page.tree.focus()
    keyboard.press("End")
    keyboard.press("Enter")
    pane = get_pane(page)
    expect(get_events(pane)).to_have_count(1)

    def tab_to(target: Locator) -> None:
        for _ in range(30):
            if target.evaluate("element => element.getRootNode().activeElement === element"):
                return
            keyboard.press("Tab")
        raise AssertionError(f"no way to {target} by Tab")

    tab_to(get_events(pane).first)
    keyboard.press("Enter")
    expect(pane.get_by_role("button", name="Copy JSON")).to_be_visible()
    tab_to(pane.get_by_role("combobox", name="Type of the event"))
    keyboard.type("demo.dd")
    keyboard.press("Enter")
    expect(pane.get_by_role("textbox", name="Payload as JSON")).to_be_focused()
    keyboard.type('{"a": "xx"}')
    keyboard.press("Control+Enter")
    expect(pane.get_by_text("Appended as event 4.")).to_be_visible()
    pane.get_by_role("button", name="Close details").focus()
    keyboard.press("Enter")
    expect(pane).to_have_count(0)
    expect(page.tree).to_be_focused()
    page.run(3)
    assert get_text(page, 3) == "demo.dd {'a': 'xx'} 4"
    assert page.get_sources() == before


def test_axe_when_the_details_are_full_of_everything_finds_nothing(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        """
orders = itx.streams.get("/orders")
orders.append("demo.paid", {"who": ["ada", None], "n": {"m": 1}})
orders.append("events.iterate.com/stream/metadata-updated", {"metadata": {"owner": "ada"}})
present = orders.subscribe(lambda batch: None, key="ada", after_offset="end")
orders.enable_processor("circuit-breaker")
orders.append("events.iterate.com/stream/paused", {"reason": "stock-taking"})
""",
        TREE,
    )
    for cell in (1, 2, 3):
        page.run(cell)
    pane = open_details(page)
    expect(pane.get_by_text("Paused: stock-taking.")).to_be_visible()
    for summary in (pane.get_by_text("Connected"), pane.get_by_text("Processors"), get_events(pane).first):
        summary.first.click()
    form = pane.get_by_role("form")
    form.get_by_role("textbox", name="Payload as JSON").fill("{")
    form.get_by_role("button", name="Append").click()
    expect(form.get_by_text("The event needs a type")).to_be_visible()
    assert get_violations(page) == []
    form.get_by_role("textbox", name="Payload as JSON").fill("")
    form.get_by_role("combobox", name="Type of the event").fill("demo.paid")
    form.get_by_role("button", name="Append").click()
    expect(form.get_by_role("alert")).to_be_visible()
    assert get_violations(page) == []
