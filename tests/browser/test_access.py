"""The tree for people who do not see it, or see it badly: axe finds nothing, keys reach everything, nothing moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.lab import OpenNotebook
from tests.browser.test_tree import AGENTS, TREE
from tests.browser.tree_page import TreePage

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "js" / "node_modules" / "axe-core" / "axe.min.js"
OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
    # The rule takes all that a row shows for its label: the age of the newest event too, which is its description.
    "rules": {"label-content-name-mismatch": {"enabled": False}},
    "resultTypes": ["violations"],
}


def get_violations(page: TreePage) -> list[str]:
    """What axe finds wrong in the widget, with the elements."""
    if not page.page.evaluate("() => 'axe' in window"):
        page.page.evaluate(AXE.read_text())
    results: dict[str, Any] = page.panel.evaluate("(panel, options) => axe.run(panel, options)", OPTIONS)
    assert results["testEngine"]["name"] == "axe-core"
    return [
        f"{each['id']}: {node['html'][:120]} {json.dumps([check['message'] for check in node['any']])}"
        for each in results["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_when_it_looks_at_the_tree_finds_nothing(notebook: OpenNotebook, theme: str) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    page.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    expect(page.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
    page.expand("/agents")
    page.row("/agents/slack").get_by_text("slack", exact=True).click()
    expect(page.row("/agents/slack")).to_have_attribute("aria-selected", "true")
    assert get_violations(page) == []
    page.page.get_by_role("searchbox", name="Search paths").fill("slack")
    expect(page.row("/agents/slack").locator("mark")).to_be_visible()
    assert get_violations(page) == []


def test_axe_when_the_kernel_is_gone_finds_nothing_and_the_change_is_announced(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    expect(page.status).to_have_text("live")
    expect(page.status).to_have_attribute("aria-live", "polite")
    page.restart_kernel()
    expect(page.status).to_contain_text("cut off from the kernel", timeout=10_000)
    assert get_violations(page) == []
    page.wait_until_open()


def test_focus_when_events_arrive_stays_where_it_is(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        TREE,
        """
import asyncio
from itx_notebook._loop import submit
async def go_on():
    while True:
        await asyncio.sleep(0.1)
        await itx.aio.streams.get("/").append("x")
submit(go_on())
""",
    )
    for cell in (1, 2, 3):
        page.run(cell)
    page.row("/").get_by_text("/", exact=True).click()
    for key in ("ArrowDown", "*", "o"):
        page.page.keyboard.press(key)
    expect(page.row("/agents/slack")).to_be_visible()
    page.expect_count("/orders", 3)
    for _ in range(3):
        badge = page.row("/").locator(".itx-badge")
        expect(badge).not_to_have_text(badge.inner_text())
        expect(page.tree).to_be_focused()
        expect(page.row("/orders")).to_have_attribute("data-active", "true")


def test_motion_when_a_person_wants_none_stands_still(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    chevron = page.row("/agents").get_by_role("button", name="Load /agents").locator("svg")
    moves = "element => getComputedStyle(element).transitionDuration"
    assert chevron.evaluate(moves) != "0s"
    page.page.emulate_media(reduced_motion="reduce")
    assert chevron.evaluate(moves) == "0s"
