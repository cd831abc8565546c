"""Where one is in the tree, and how one gets to siblings, children and streams that do not exist yet."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import NotebookPage, OpenNotebook
from tests.browser.test_access import get_violations
from tests.browser.test_errors import DAMAGE, STREAMS
from tests.browser.test_tree import AGENTS, TREE

pytestmark = pytest.mark.browser

SELECTED = 'browser = itx.tree(select="/agents/slack")\nbrowser'


def get_bar(page: NotebookPage) -> Locator:
    """The breadcrumbs."""
    return page.page.get_by_role("group", name="Path")


def press(page: NotebookPage, *keys: str) -> None:
    for key in keys:
        page.page.keyboard.press(key)


def test_crumbs_when_a_stream_is_selected_lead_to_its_ancestors(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, SELECTED, 'assert browser.selected_path == "/agents", browser.selected_path')
    page.run(1)
    page.run(2)
    bar = get_bar(page)
    expect(bar.get_by_role("listitem")).to_have_text(["/", "agents", "slack"])
    expect(bar.get_by_role("button", name="slack", exact=True)).to_have_attribute("aria-current", "page")
    bar.get_by_role("button", name="agents", exact=True).click()
    expect(bar.get_by_role("listitem")).to_have_text(["/", "agents"])
    expect(page.row("/agents")).to_have_attribute("aria-selected", "true")
    page.run(3)


def test_siblings_when_opened_are_marked_walked_by_keys_and_gone_to(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, SELECTED)
    page.run(1)
    page.run(2)
    before = page.get_sources()
    bar = get_bar(page)
    opener = bar.get_by_role("button", name="Siblings of /agents/slack")
    opener.click()
    options = bar.get_by_role("option")
    expect(options).to_have_text(["mail", "slack"])
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    assert get_violations(page) == []
    press(page, "Escape")
    expect(opener).to_be_focused()
    press(page, "Enter", "Home", "End", "Enter")
    expect(opener).to_be_focused()
    expect(page.row("/agents/slack")).to_have_attribute("aria-selected", "true")
    press(page, "Enter", "ArrowUp", "Enter")
    expect(page.row("/agents/mail")).to_have_attribute("aria-selected", "true")
    expect(bar.get_by_role("button", name="mail", exact=True)).to_be_focused()
    press(page, "a", "b", "x", "d", "d")
    assert page.get_sources() == before


def test_list_when_one_clicks_elsewhere_closes(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, SELECTED)
    page.run(1)
    page.run(2)
    opener = get_bar(page).get_by_role("button", name="Children of /agents/slack")
    dialog = page.page.get_by_role("dialog", name="Children of /agents/slack")
    opener.click()
    expect(dialog).to_contain_text("No children yet")
    page.status.click()
    expect(dialog).to_have_count(0)
    opener.click()
    expect(dialog).to_be_visible()
    opener.click()
    expect(dialog).to_have_count(0)


def test_child_when_named_is_made_selected_and_known_to_every_tree(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        SELECTED,
        'other = itx.tree(expand=["/agents", "/agents/slack"])\nother',
        'assert browser.selected_path == "/agents/slack/ts-1", browser.selected_path\n'
        'assert itx.streams.get("/agents/slack/ts-1").get_state(presence=False).event_count == 2',
    )
    for cell in (1, 2, 3):
        page.run(cell)
    first = page.page.locator(".itx-panel").first
    first.get_by_role("button", name="Children of /agents/slack").click()
    field = first.get_by_role("textbox", name="New child of /agents/slack")
    expect(field).to_be_focused()
    field.press_sequentially("TS 1")
    expect(first.get_by_text("Paths are in lower case.")).to_be_visible()
    assert get_violations(page) == []
    field.fill("ts-1")
    field.press("Enter")
    made = '[role=treeitem][data-path="/agents/slack/ts-1"]'
    expect(first.locator(made)).to_have_attribute("aria-selected", "true")
    expect(first.get_by_role("button", name="ts-1", exact=True)).to_be_focused()
    expect(page.page.locator(".itx-panel").last.locator(made)).to_be_visible()
    page.run(4)


def test_child_when_made_from_a_row_by_keys_appears_below_it(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    page.row("/orders").get_by_text("orders", exact=True).click()
    press(page, "Shift+F10")
    expect(page.page.get_by_role("dialog", name="Children of /orders")).to_contain_text("No children yet")
    page.page.keyboard.type("2026/june")
    press(page, "Enter")
    expect(page.row("/orders/2026/june")).to_have_attribute("aria-selected", "true")
    expect(page.tree).to_be_focused()


def test_child_when_its_stream_cannot_be_made_keeps_what_was_typed_and_says_what_to_do(notebook: OpenNotebook) -> None:
    page = notebook("%load_ext itx_notebook", "browser = itx.tree()\nbrowser", "itx.close()", "%itx connect")
    page.run(1)
    page.run(2)
    expect(page.status).to_have_text("live")
    page.run(3)
    expect(page.status).to_contain_text("closed since", timeout=10_000)
    get_bar(page).get_by_role("button", name="Children of /").click()
    field = page.page.get_by_role("textbox", name="New child of /")
    field.fill("fresh")
    field.press("Enter")
    dialog = page.page.get_by_role("dialog", name="Children of /")
    expect(dialog).to_contain_text(re.compile("closed|not answer"), timeout=20_000)
    expect(field).to_have_value("fresh")
    page.run(4)
    expect(page.status).to_have_text("live", timeout=30_000)
    get_bar(page).get_by_role("button", name="Children of /").click()
    field.fill("fresh")
    field.press("Enter")
    expect(page.row("/fresh")).to_have_attribute("aria-selected", "true")


def test_tree_when_read_only_offers_nothing_to_make(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, "browser = itx.tree(read_only=True)\nbrowser", "browser.read_only = False")
    page.run(1)
    page.run(2)
    expect(page.page.get_by_role("button", name="New child of /orders")).to_have_count(0)
    get_bar(page).get_by_role("button", name="Children of /").click()
    expect(page.page.get_by_role("listbox", name="Children of /")).to_be_focused()
    expect(page.page.get_by_role("textbox", name="New child of /")).to_have_count(0)
    press(page, "Escape")
    page.run(3)
    expect(page.page.get_by_role("button", name="New child of /orders")).to_have_count(1)


def test_crumbs_when_there_is_no_room_leave_out_the_middle(notebook: OpenNotebook) -> None:
    page = notebook(
        f'{AGENTS}\nitx.streams.get("/integrations/github/hooks/push").append("x")',
        'browser = itx.tree(select="/integrations/github/hooks/push")\nbrowser',
    )
    page.run(1)
    page.run(2)
    bar = get_bar(page)
    everything = ["/", "integrations", "github", "hooks", "push"]
    expect(bar.get_by_role("listitem")).to_have_text(everything)
    panel = page.page.locator(".itx-panel")
    panel.evaluate("panel => { panel.parentElement.style.width = '240px' }")
    expect(bar.get_by_role("listitem")).to_have_text(["/", "hooks", "push"])
    bar.get_by_role("button", name="Steps left out").click()
    expect(bar.get_by_role("option")).to_have_text(["/integrations", "/integrations/github"])
    press(page, "End", "Enter")
    expect(page.row("/integrations/github")).to_have_attribute("aria-selected", "true")
    panel.evaluate("panel => { panel.parentElement.style.width = '' }")
    expect(bar.get_by_role("listitem")).to_have_text(everything[:3])


def test_list_when_its_stream_cannot_be_read_says_so_and_tries_again(notebook: OpenNotebook) -> None:
    page = notebook(STREAMS, DAMAGE, "itx = itx_notebook.connect()\nbrowser = itx.tree()\nbrowser")
    for cell in (1, 2, 3):
        page.run(cell)
    row = page.row("/bad")
    row.hover()
    row.get_by_role("button", name="New child of /bad").click()
    dialog = page.page.get_by_role("dialog", name="Children of /bad")
    expect(dialog).to_contain_text("damaged", timeout=20_000)
    dialog.get_by_role("button", name="Retry").click()
    expect(dialog).to_contain_text("damaged")
    press(page, "Escape")
    expect(dialog).to_have_count(0)
    expect(page.status).to_have_text("live")


def test_axe_when_lists_are_open_in_the_dark_finds_nothing(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, SELECTED)
    page.run(1)
    page.run(2)
    page.page.evaluate(
        "() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })"
    )
    expect(page.page.locator("body")).to_have_attribute("data-jp-theme-name", "JupyterLab Dark")
    get_bar(page).get_by_role("button", name="Siblings of /agents/slack").click()
    expect(page.page.get_by_role("listbox")).to_be_focused()
    assert get_violations(page) == []
    press(page, "Escape")
    get_bar(page).get_by_role("button", name="Children of /agents/slack").click()
    page.page.keyboard.type("No")
    expect(page.page.get_by_text("Paths are in lower case.")).to_be_visible()
    assert get_violations(page) == []
    page.page.evaluate(
        "() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Light' })"
    )
