"""What went wrong is shown where the data would be, and no cell fails."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.lab import OpenNotebook

pytestmark = pytest.mark.browser

STREAMS = """
import itx_notebook
itx = itx_notebook.connect()
for name in ("good", "bad"):
    itx.streams.get(f"/{name}").append("demo.hello", {"text": "intact"})
itx.close()
"""
DAMAGE = """
import sqlite3
connection = sqlite3.connect(os.path.join(os.environ["ITX_HOME"], "streams.db"))
with connection:
    connection.execute("UPDATE events SET body = ? WHERE CAST(body AS TEXT) LIKE '%intact%' AND id >> 32 ="
                       " (SELECT id FROM streams WHERE path = '/bad')", (b"{damaged",))
connection.close()
"""


def test_project_when_denied_is_shown_inline(notebook: OpenNotebook) -> None:
    page = notebook("%load_ext itx_notebook", "%itx connect secret")
    page.run(1)
    page.run(2)
    shown = page.page.get_by_role("alert")
    expect(shown).to_contain_text("Project secret not found.")
    expect(shown).to_contain_text("create_project")


def test_node_when_unreadable_shows_its_error_and_the_rest_lives(notebook: OpenNotebook) -> None:
    page = notebook(
        STREAMS,
        DAMAGE,
        'itx = itx_notebook.connect()\nbrowser = itx.tree(expand=["/good", "/bad"])\nbrowser',
        'itx.streams.get("/good").append("x")',
    )
    for cell in (1, 2, 3):
        page.run(cell)
    expect(page.row("/bad")).to_contain_text("/bad")
    expect(page.row("/bad")).to_contain_text("damaged")
    expect(page.row("/bad").get_by_role("button", name="Retry")).to_be_visible()
    page.expect_count("/good", 3)
    page.run(4)
    # The restarted engine wakes the stream with its first append.
    page.expect_count("/good", 5)


def test_bad_input_when_given_to_a_magic_is_shown_inline(notebook: OpenNotebook) -> None:
    page = notebook("%load_ext itx_notebook", "%itx append /orders demo.hello {not json}", "%itx tree /Bad!")
    page.run(1)
    page.run(2)
    expect(page.page.get_by_role("alert").last).to_contain_text("{not json}")
    page.run(3)
    expect(page.page.get_by_role("alert").last).to_contain_text("/Bad!")


def test_error_when_raised_by_the_users_own_call_is_two_lines(notebook: OpenNotebook) -> None:
    page = notebook(
        "import itx_notebook\nitx = itx_notebook.connect()", 'itx.streams.get("/a").append("x", {"n": {1, 2}})'
    )
    page.run(1)
    page.start(2)
    page.wait_until_idle()
    (error,) = page.get_errors(2)
    assert error["ename"] == "ItxError"
    assert len(error["traceback"]) == 2
    assert "payload.n" in error["traceback"][0]


def test_store_when_its_engine_is_closed_says_so_in_the_tree_and_comes_back(notebook: OpenNotebook) -> None:
    page = notebook("%load_ext itx_notebook", "browser = itx.tree()\nbrowser", "itx.close()", "%itx connect")
    page.run(1)
    page.run(2)
    expect(page.status).to_have_text("live")
    page.run(3)
    expect(page.status).to_contain_text("closed since", timeout=10_000)
    page.run(4)
    expect(page.status).to_have_text("live", timeout=30_000)
