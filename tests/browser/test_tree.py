"""What a person sees of the stream tree in JupyterLab: painted, live, truthful, and harmless to the notebook."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.lab import OpenNotebook

pytestmark = pytest.mark.browser

CONNECT = "import itx_notebook\nitx = itx_notebook.connect()"
AGENTS = f"""{CONNECT}
for name in ("slack", "mail"):
    itx.streams.get(f"/agents/{{name}}").append("demo.hello")
itx.streams.get("/orders").append("demo.hello")
"""
TREE = "browser = itx.tree()\nbrowser"
also_in_notebook_7 = pytest.mark.parametrize("notebook", ["lab", "notebook"], indirect=True)
COUNT = 'itx.streams.get("/orders").get_state(presence=False).event_count'


def test_tree_when_displayed_is_painted_with_its_first_level(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    expect(page.row("/")).to_be_visible()
    expect(page.row("/agents")).to_be_visible()
    expect(page.row("/orders")).to_be_visible()
    expect(page.status).to_have_text("live")
    expect(page.row("/agents/slack")).to_have_count(0)


def test_level_when_expanded_is_loaded_with_counts(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    page.expand("/agents")
    expect(page.row("/agents/slack")).to_be_visible()
    page.expand("/orders")
    page.expect_count("/orders", 3)


def test_append_when_made_in_another_cell_arrives(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, 'browser = itx.tree(expand=["/orders"])\nbrowser', 'itx.streams.get("/orders").append("x")')
    page.run(1)
    page.run(2)
    page.expect_count("/orders", 3)
    page.run(3)
    page.expect_count("/orders", 4)


def test_new_stream_when_created_appears_under_its_parent(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, 'itx.streams.get("/zebra").append("x")')
    page.run(1)
    page.run(2)
    expect(page.row("/orders")).to_be_visible()
    page.run(3)
    expect(page.row("/zebra")).to_be_visible()


def test_looking_when_a_tree_is_open_does_not_move_the_counts(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS, f"before = {COUNT}", 'browser = itx.tree(expand=["/orders"])\nbrowser', f"assert {COUNT} == before"
    )
    for cell in (1, 2, 3):
        page.run(cell)
    page.expect_count("/orders", 3)
    page.run(4)


def test_append_when_made_by_the_io_thread_arrives_while_the_cell_sleeps(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'browser = itx.tree(expand=["/orders"])\nbrowser',
        """
import asyncio, time
from itx_notebook._loop import submit
async def later():
    await asyncio.sleep(1)
    await itx.aio.streams.get("/orders").append("x")
submit(later())
time.sleep(8)
""",
    )
    page.run(1)
    page.run(2)
    page.expect_count("/orders", 3)
    page.start(3)
    page.expect_count("/orders", 4, timeout=5)
    assert page.is_busy
    page.wait_until_idle()


def test_burst_when_200_events_are_appended_all_are_counted(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'browser = itx.tree(expand=["/orders"])\nbrowser',
        'orders = itx.streams.get("/orders")\nfor n in range(200):\n    orders.append("x", {"n": n})',
    )
    page.run(1)
    page.run(2)
    page.expect_count("/orders", 3)
    page.run(3)
    page.expect_count("/orders", 203)


def test_flood_when_10000_updates_a_second_come_the_last_value_is_shown(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'browser = itx.tree(expand=["/orders"])\nbrowser',
        """
import time
orders = itx.streams.get("/orders")
started, sent = time.monotonic(), 0
while time.monotonic() < started + 4:
    orders.append_batch([{"type": "x", "payload": {"n": n}} for n in range(100)])
    sent += 100
seconds = time.monotonic() - started
print("RATE", round(sent / seconds), "COUNT", orders.get_state(presence=False).event_count)
""",
    )
    page.run(1)
    page.run(2)
    page.expect_count("/orders", 3)
    page.run(3)
    text = page.get_outputs(3)[0]["text"]
    rate, count = (int(number) for number in re.findall(r"\d+", text))
    assert rate >= 10_000, text
    page.expect_count("/orders", count)
    expect(page.status).to_have_text("live")


def test_click_when_a_cell_is_busy_is_answered_at_once(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, "import time\ntime.sleep(8)")
    page.run(1)
    page.run(2)
    page.start(3)
    page.expand("/orders")
    page.expect_count("/orders", 3, timeout=5)
    assert page.is_busy
    page.wait_until_idle()


def test_click_when_the_tree_is_live_and_a_cell_appends_is_answered_at_once(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'browser = itx.tree(expand=["/agents/mail"])\nbrowser',
        """
import time
mail, end = itx.streams.get("/agents/mail"), time.monotonic() + 8
while time.monotonic() < end:
    mail.append("x")
    time.sleep(0.01)
""",
    )
    page.run(1)
    page.run(2)
    page.start(3)
    page.expand("/orders")
    page.expect_count("/orders", 3, timeout=5)
    assert page.is_busy
    page.wait_until_idle()


def test_selection_when_clicked_is_readable_from_python(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, 'assert browser.selected_path == "/orders", browser.selected_path')
    page.run(1)
    page.run(2)
    page.row("/orders").get_by_text("orders", exact=True).click()
    expect(page.row("/orders")).to_have_attribute("aria-selected", "true")
    page.expect_count("/orders", 3)
    page.run(3)


@also_in_notebook_7
def test_keys_when_typed_into_the_tree_leave_the_notebook_alone(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    before = page.get_sources()
    page.row("/agents").get_by_text("agents", exact=True).click()
    for key in ("ArrowDown", "a", "b", "x", "d", "d", "ArrowUp", "Enter", "Shift+Enter"):
        page.page.keyboard.press(key)
    assert page.get_sources() == before


def test_arrows_when_pressed_walk_and_open_the_tree(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    page.row("/").get_by_text("/", exact=True).click()
    for key in ("ArrowDown", "ArrowRight"):
        page.page.keyboard.press(key)
    expect(page.row("/agents/slack")).to_be_visible()
    for key in ("ArrowRight", "Enter"):
        page.page.keyboard.press(key)
    expect(page.row("/agents/mail")).to_have_attribute("aria-selected", "true")


@also_in_notebook_7
def test_page_when_reloaded_shows_the_state_of_now(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, 'itx.streams.get("/orders").append("x")')
    page.run(1)
    page.run(2)
    page.expand("/orders")
    page.expect_count("/orders", 3)
    page.run(3)
    page.expect_count("/orders", 4)
    page.save()
    page.reload()
    page.expect_count("/orders", 4)
    expect(page.status).to_have_text("live")
    page.run(3)
    page.expect_count("/orders", 5)


def test_two_views_when_one_model_is_displayed_twice_show_the_same(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE, "browser")
    page.run(1)
    page.run(2)
    page.run(3)
    page.page.get_by_role("button", name="Load /orders").first.click()
    expect(page.page.locator('[role=treeitem][data-path="/orders"] .itx-badge')).to_have_count(2)


@also_in_notebook_7
def test_kernel_when_restarted_is_said_to_be_gone_and_the_way_back_is_the_cell(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    expect(page.status).to_have_text("live")
    page.restart_kernel()
    expect(page.status).to_contain_text("cut off from the kernel", timeout=10_000)
    expect(page.row("/orders")).to_be_visible()
    page.wait_until_open()
    for cell in (0, 1, 2):
        page.run(cell)
    expect(page.status).to_have_text("live")


def test_search_when_typed_finds_what_was_never_opened_and_gives_the_tree_back(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    before = page.get_sources()
    search = page.page.get_by_role("searchbox", name="Search paths")
    search.press_sequentially("slack")
    expect(page.row("/agents/slack")).to_be_visible()
    expect(page.row("/agents/slack").locator("mark")).to_have_text("slack")
    expect(page.row("/orders")).to_have_count(0)
    expect(page.page.get_by_text("1 stream", exact=True)).to_be_visible()
    search.press("Shift+Enter")
    search.press("Escape")
    expect(page.row("/orders")).to_be_visible()
    expect(page.row("/agents/slack")).to_have_count(0)
    assert page.get_sources() == before


def test_order_when_chosen_puts_the_longest_stream_first(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, 'itx.streams.get("/orders").append_batch([{"type": "x"}] * 40)', TREE)
    for cell in (1, 2, 3):
        page.run(cell)
    expect(page.tree.get_by_role("treeitem").nth(1)).to_have_attribute("data-path", re.compile("^/_|^/agents"))
    page.page.get_by_role("combobox", name="Order").select_option("count")
    expect(page.tree.get_by_role("treeitem").nth(1)).to_have_attribute("data-path", "/orders")
    page.expect_count("/orders", 43)


def test_reveal_when_called_brings_a_far_stream_into_view(notebook: OpenNotebook) -> None:
    page = notebook(
        AGENTS,
        'for n in range(100):\n    itx.streams.get(f"/many/s{n:03}").append("x")',
        "browser = itx.tree(height=200)\nbrowser",
        'browser.reveal("/many/s090")',
        'browser.filter = "slack"',
    )
    for cell in (1, 2, 3):
        page.run(cell)
    expect(page.row("/many")).to_be_visible()
    page.run(4)
    expect(page.row("/many/s090")).to_be_in_viewport()
    expect(page.row("/many/s001")).to_have_count(0)
    page.run(5)
    expect(page.page.get_by_role("searchbox", name="Search paths")).to_have_value("slack")
    expect(page.row("/agents/slack")).to_be_visible()
