"""The tree wherever notebooks are shown: the same painted, live, answering tree, in the colours of the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.hosts import IPYKERNEL_6, MARIMO, NOTEBOOK, OLD_KERNEL, VSCODE, Host, MarimoPage, open_host
from tests.browser.lab import LabServer
from tests.browser.test_access import get_violations
from tests.browser.test_tree import AGENTS, TREE
from tests.browser.tree_page import TreePage

pytestmark = pytest.mark.browser

OpenHost = Callable[..., TreePage]

in_every_host = pytest.mark.parametrize("host", [NOTEBOOK, IPYKERNEL_6, VSCODE, MARIMO], ids=str)

# Python takes part: it answers a choice with an event in a stream of its own.
ANSWER = """
def answer(change):
    itx.streams.get("/chosen").append("demo.chosen", {"path": change["new"]})
browser.observe(answer, "selected_path")
"""


@pytest.fixture
def open_in(lab: LabServer, browser: Browser, tmp_path: Path) -> Iterator[OpenHost]:
    """``open_in(host, cell, …)`` opens cells, numbered from 1, in a host."""
    with ExitStack() as stack:

        def open_(host: Host, *cells: str, is_dark: bool = False) -> TreePage:
            return stack.enter_context(open_host(host.name, lab, browser, tmp_path, list(cells), is_dark=is_dark))

        yield open_


def get_lightness(colour: str) -> float:
    """How light a colour is, from 0 (black) to 255 (white)."""
    red, green, blue = (float(number) for number in re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3


@in_every_host
def test_tree_when_displayed_is_painted_live_and_its_clicks_reach_python(open_in: OpenHost, host: Host) -> None:
    page = open_in(host, AGENTS, TREE, ANSWER)
    for cell in (1, 2, 3):
        page.run(cell)
    expect(page.row("/agents")).to_be_visible()
    expect(page.row("/agents/slack")).to_have_count(0)
    expect(page.status).to_have_text("live")
    page.expand("/orders")
    page.expect_count("/orders", 3)
    page.row("/orders").get_by_text("orders", exact=True).click()
    expect(page.row("/orders")).to_have_attribute("aria-selected", "true")
    expect(page.row("/chosen")).to_be_visible()


@in_every_host
def test_cell_when_busy_lets_events_through_and_clicks_are_answered(
    open_in: OpenHost, host: Host, tmp_path: Path
) -> None:
    enough = tmp_path / "enough"
    page = open_in(
        host,
        AGENTS,
        'browser = itx.tree(expand=["/orders"])\nbrowser',
        f"""
import pathlib, threading, time
threading.Timer(0.5, lambda: itx.streams.get("/orders").append("x")).start()
while not pathlib.Path({str(enough)!r}).exists():
    time.sleep(0.05)
time.sleep(0.5)
itx.streams.get("/at-once" if browser.selected_path else "/later").append("x")
""",
    )
    page.run(1)
    page.run(2)
    page.expect_count("/orders", 3)
    page.start(3)
    page.expect_count("/orders", 4)
    page.expand("/agents")
    page.row("/orders").get_by_text("orders", exact=True).click()
    if host.answers_while_busy:
        expect(page.row("/agents/slack")).to_be_visible()
    assert page.is_busy
    enough.touch()
    page.wait_until_idle()
    expect(page.row("/agents/slack")).to_be_visible()
    expect(page.row("/at-once" if host.answers_while_busy else "/later")).to_be_visible()
    expect(page.status).to_have_text("live")


@in_every_host
def test_keys_when_pressed_walk_open_search_and_choose(open_in: OpenHost, host: Host) -> None:
    page = open_in(host, AGENTS, TREE, ANSWER)
    for cell in (1, 2, 3):
        page.run(cell)
    page.row("/").get_by_text("/", exact=True).click()
    for key in ("ArrowDown", "ArrowRight"):
        page.page.keyboard.press(key)
    expect(page.row("/agents/slack")).to_be_visible()
    for key in ("ArrowRight", "s", "Enter"):
        page.page.keyboard.press(key)
    expect(page.row("/agents/slack")).to_have_attribute("aria-selected", "true")
    expect(page.row("/chosen")).to_be_visible()
    search = page.page.get_by_role("searchbox", name="Search paths")
    search.press_sequentially("mail")
    expect(page.row("/agents/mail").locator("mark")).to_have_text("mail")
    expect(page.row("/orders")).to_have_count(0)
    search.press("Escape")
    expect(page.row("/orders")).to_be_visible()


@pytest.mark.parametrize("host", [NOTEBOOK, VSCODE, MARIMO], ids=str)
def test_details_form_and_pop_ups_when_used_work_as_in_lab(open_in: OpenHost, host: Host) -> None:
    page = open_in(host, AGENTS, TREE)
    page.run(1)
    page.run(2)
    page.row("/orders").get_by_text("orders", exact=True).click()
    pane = page.page.get_by_role("region", name="Details of /orders")
    expect(pane.get_by_text("demo.hello")).to_be_visible()
    form = pane.get_by_role("form", name="Append to /orders")
    form.get_by_role("combobox", name="Type of the event").fill("demo.paid")
    form.get_by_role("textbox", name="Payload as JSON").fill('{"who": "ada"}')
    form.get_by_role("button", name="Append").click()
    expect(form.get_by_text("Appended as event 4.")).to_be_visible()
    page.expect_count("/orders", 4)
    pane.get_by_text("demo.paid").first.click()
    expect(pane.get_by_text('who: "ada"')).to_be_visible()
    siblings, popup = page.page.get_by_role("button", name="Siblings of /orders"), page.page.get_by_role("dialog")
    siblings.click()
    expect(popup).to_be_visible()
    page.status.click()
    expect(popup).to_have_count(0)
    siblings.click()
    expect(popup).to_be_visible()
    # Beside the notebook, far from the widget.
    page.page.mouse.click(2, 450)
    expect(popup).to_have_count(0)
    siblings.click()
    popup.get_by_role("option", name="agents").click()
    expect(page.row("/agents")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("host", [NOTEBOOK, VSCODE, MARIMO], ids=str)
def test_colours_when_the_host_is_light_or_dark_are_its_own(open_in: OpenHost, host: Host, *, is_dark: bool) -> None:
    page = open_in(host, AGENTS, TREE, is_dark=is_dark)
    page.run(1)
    page.run(2)
    expect(page.row("/orders")).to_be_visible()
    text, ground = page.get_colours()
    assert (text, ground) == (page.resolve_colour(host.text), page.resolve_colour(host.ground))
    assert (get_lightness(ground) < 60) == is_dark
    assert (get_lightness(text) > 180) == is_dark
    # Of the list of orders the browser draws the pop-up, in light or dark as it is told.
    assert ("dark" in page.panel.evaluate("panel => getComputedStyle(panel).colorScheme")) == is_dark
    page.row("/orders").get_by_text("orders", exact=True).click()
    expect(page.page.get_by_role("region", name="Details of /orders").get_by_text("demo.hello")).to_be_visible()
    assert get_violations(page) == []


def test_old_kernel_when_asked_is_the_old_one(open_in: OpenHost) -> None:
    page = open_in(IPYKERNEL_6, f"import ipykernel\nassert ipykernel.__version__ == {OLD_KERNEL!r}")
    page.run(1)


def test_app_of_marimo_when_reloaded_begins_anew_on_the_same_streams(open_in: OpenHost) -> None:
    page = open_in(MARIMO, AGENTS, 'browser = itx.tree(expand=["/orders"])\nbrowser')
    assert isinstance(page, MarimoPage)
    for count in (3, 4):
        page.run(1)
        page.run(2)
        page.expect_count("/orders", count)
        expect(page.status).to_have_text("live")
        page.reload()
