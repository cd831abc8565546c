"""``make screenshots``: the tree in eight states, photographed in JupyterLab into ``build/screenshots``, to be seen.

Every state is the real thing: a kernel with its own data directory, and where something must be late or away, a server
in a process of its own that is stopped or ended. With ``--docs`` the four that explain most go to ``docs/images`` too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.lab import LabServer, NotebookPage

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "build" / "screenshots"
DOCS: Final = ROOT / "docs" / "images"
IN_DOCS: Final = ("light", "error", "reconnecting", "snapshot")
MAX_DOCS_BYTES: Final = 60_000
PATIENCE_MS: Final = 60_000

CONNECT: Final = "import itx_notebook\nitx = itx_notebook.connect()\n"
FILL: Final = """
def fill(itx):
    say = lambda path, *events: itx.streams.get(path).append_batch([{"type": t, "payload": p} for t, p in events])
    for thread in ("ts-1718031600-000100", "ts-1718031600-000200", "ts-1718034011-000900"):
        say(f"/agents/slack/{thread}", ("slack.message", {"text": "Where is my order?"}), ("agent.thinking", {}),
            ("tool.called", {"name": "find_order", "arguments": {"order": "order-1001"}}),
            ("slack.reply", {"text": "It is on its way.", "to": "ada"}))
    say("/agents/mail", *[("mail.received", {"n": n}) for n in range(41)])
    for order in ("order-1001", "order-1002"):
        say(f"/orders/{order}", ("order.placed", {"item": "tea", "count": 2}), ("order.paid", {"amount": "9.80"}))
    say("/orders", *[("orders.counted", {"n": n}) for n in range(1_836)])
    say("/integrations/github", ("hook.received", {"ref": "refs/heads/main"}))
fill(itx)
"""
SHOW: Final = """
browser = itx.tree(expand=["/agents", "/agents/slack", "/orders"], select="/agents/slack/ts-1718031600-000100")
browser
"""
SHOW_CLOSED: Final = 'browser = itx.tree(expand=["/agents", "/agents/slack", "/orders"])\nbrowser'
DAMAGE: Final = """
import sqlite3
itx.close()
connection = sqlite3.connect(os.path.join(os.environ["ITX_HOME"], "streams.db"))
with connection:
    mail = "(SELECT id FROM streams WHERE path = '/agents/mail')"
    connection.execute(f"UPDATE events SET body = ? WHERE id >> 32 = {mail}", (b"{damaged",))
connection.close()
itx = itx_notebook.connect()
browser = itx.tree(expand=["/agents", "/agents/mail", "/agents/slack", "/orders"])
browser
"""
MANY: Final = """
kind = "events.iterate.com/stream/child-stream-created"
def name(parent, children):
    itx.streams.get(parent).append_batch([{"type": kind, "payload": {"childPath": each}} for each in children])
groups = [f"/group-{group:02}" for group in range(100)]
name("/", groups)
for group in groups:
    name(group, [f"{group}/stream-{number:04}" for number in range(1_000)])
browser = itx.tree(expand=groups, height=360)
browser
"""
SERVER: Final = [sys.executable, "-m", "itx_notebook.cli", "serve", "--port", "0"]


class ScreenshotError(Exception):
    """A state could not be brought about; the message says which."""


class Studio:
    """A JupyterLab and a browser, and where the pictures go."""

    def __init__(self, lab: LabServer, browser: Browser, scratch: Path) -> None:
        self.lab = lab
        self.browser = browser
        self.scratch = scratch

    @contextlib.contextmanager
    def open(self, *cells: str) -> Iterator[NotebookPage]:
        """A notebook with a data directory of its own; none of its cells has run."""
        from tests.browser.lab import open_notebook

        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.scratch))
        with open_notebook(self.lab, self.browser, home, list(cells)) as page:
            page.page.set_default_timeout(PATIENCE_MS)
            yield page

    def take(self, page: NotebookPage, name: str, *, width: str = "600px") -> None:
        """Photograph the tree in a given width, with no mouse over it and no focus in it."""
        page.page.mouse.move(0, 0)
        page.page.evaluate("() => document.activeElement?.blur()")
        panel = page.page.locator(".itx-panel").last
        panel.evaluate("(panel, width) => { panel.parentElement.style.width = width }", width)
        panel.scroll_into_view_if_needed()
        panel.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
        print(f"{name}.png", flush=True)


def main() -> int:
    """Take them; 0 if all were taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the four that explain most into docs/images")
    parser.add_argument("--only", choices=sorted(STATES), action="append", help="take no others")
    arguments = parser.parse_args()
    try:
        take_all(arguments.only or sorted(STATES))
        if arguments.docs:
            put_into_docs()
    except ScreenshotError as error:
        print(f"The screenshots failed: {error}", file=sys.stderr)
        return 1
    return 0


def take_all(wanted: list[str]) -> None:
    """Bring about each state in turn."""
    # The driver of the browser tests; it stands in tests, which are not installed.
    sys.path.insert(0, str(ROOT))
    from playwright.sync_api import Error, sync_playwright

    from tests.browser.lab import CHROMIUM_FLAGS, start_lab

    found = subprocess.run([ROOT / "scripts" / "find_chromium.sh"], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise ScreenshotError("there is no Chromium, see above.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="itx-screenshots-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        with start_lab(scratch / "lab") as lab, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=found.stdout.strip(), headless=True, args=CHROMIUM_FLAGS
            )
            for name in wanted:
                try:
                    STATES[name](Studio(lab, browser, scratch))
                except (Error, AssertionError) as error:
                    raise ScreenshotError(f"{name}: {error}") from error
            browser.close()


def put_into_docs() -> None:
    """Copy what the page about the tree shows, if it is small enough to be kept."""
    for name in IN_DOCS:
        picture = FOLDER / f"{name}.png"
        if picture.stat().st_size > MAX_DOCS_BYTES:
            raise ScreenshotError(f"{picture.name} has {picture.stat().st_size} bytes, more than {MAX_DOCS_BYTES}.")
        shutil.copyfile(picture, DOCS / f"tree-{name}.png")


def run_all(page: NotebookPage, *indexes: int) -> None:
    """Run cells one after the other."""
    for index in indexes:
        page.run(index)


def expect_status(page: NotebookPage, text: str) -> None:
    """Wait until the status line says it."""
    from playwright.sync_api import expect

    expect(page.status).to_contain_text(text, timeout=PATIENCE_MS)


def set_theme(page: NotebookPage, theme: str) -> None:
    """Choose a theme of JupyterLab."""
    from playwright.sync_api import expect

    page.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    expect(page.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)


def take_light(studio: Studio) -> None:
    """A stream selected, its newest events below."""
    from playwright.sync_api import expect

    with studio.open(CONNECT + FILL, SHOW) as page:
        run_all(page, 1, 2)
        expect_status(page, "live")
        expect(page.row("/orders").get_by_title("Last event")).to_be_visible()
        expect(page.page.get_by_text("slack.reply").last).to_be_visible()
        studio.take(page, "light")


def take_dark(studio: Studio) -> None:
    """The same in JupyterLab's dark theme, with the siblings open."""
    from playwright.sync_api import expect

    with studio.open(CONNECT + FILL, SHOW) as page:
        run_all(page, 1, 2)
        set_theme(page, "JupyterLab Dark")
        expect_status(page, "live")
        studio.take(page, "dark")
        page.page.get_by_role("button", name="Siblings of /agents/slack/ts-1718031600-000100").click()
        expect(page.page.get_by_role("listbox")).to_be_visible()
        page.page.screenshot(path=FOLDER / "dark-siblings.png")
        # The server keeps it for whoever comes next.
        set_theme(page, "JupyterLab Light")


def take_narrow(studio: Studio) -> None:
    """In 280 CSS pixels."""
    with studio.open(CONNECT + FILL, SHOW) as page:
        run_all(page, 1, 2)
        expect_status(page, "live")
        studio.take(page, "narrow", width="280px")


def take_loading(studio: Studio) -> None:
    """Asked for while the server stands still."""
    from playwright.sync_api import expect

    with serve(studio.scratch) as (server, connect), studio.open(connect + FILL, SHOW_CLOSED) as page:
        page.run(1)
        server.send_signal(signal.SIGSTOP)
        page.start(2)
        expect(page.page.get_by_text("Loading stream tree...")).to_be_visible()
        studio.take(page, "loading")
        server.send_signal(signal.SIGCONT)
        page.wait_until_idle()


def take_error(studio: Studio) -> None:
    """One stream that cannot be read, the others live."""
    from playwright.sync_api import expect

    with studio.open(CONNECT + FILL, DAMAGE) as page:
        run_all(page, 1, 2)
        expect(page.row("/agents/mail").get_by_role("button", name="Retry")).to_be_visible()
        expect_status(page, "live")
        studio.take(page, "error")


def take_reconnecting(studio: Studio) -> None:
    """The server ended under a live tree."""
    with serve(studio.scratch) as (server, connect), studio.open(connect + FILL, SHOW_CLOSED) as page:
        run_all(page, 1, 2)
        expect_status(page, "live")
        server.terminate()
        expect_status(page, "reconnecting since")
        studio.take(page, "reconnecting")


def take_snapshot(studio: Studio) -> None:
    """A notebook that was saved with the widget's state, opened again; no cell has run."""
    from playwright.sync_api import expect

    from tests.browser.lab import open_page

    with studio.open(CONNECT + FILL, SHOW_CLOSED) as page:
        run_all(page, 1, 2)
        expect_status(page, "live")
        expect(page.row("/orders").get_by_title("Last event")).to_be_visible()
        page.wait_until_saveable("/agents/slack", "ts-1718034011-000900")
        page.save()
        page.close_and_end_kernel()
        with open_page(studio.lab, studio.browser, page.path, page.home) as reopened:
            expect_status(reopened, "snapshot of")
            studio.take(reopened, "snapshot")
            reopened.close_and_end_kernel()


def take_many(studio: Studio) -> None:
    """A hundred thousand streams, all of them open, scrolled to the middle."""
    from playwright.sync_api import expect

    with studio.open(CONNECT, MANY) as page:
        run_all(page, 1, 2)
        expect_status(page, "live")
        expect(page.row("/group-00/stream-0000")).to_be_visible()
        page.tree.evaluate("tree => { tree.scrollTop = tree.scrollHeight / 2 }")
        expect(page.row("/group-50")).to_be_attached()
        studio.take(page, "many")


@contextlib.contextmanager
def serve(scratch: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server with a project, and the cell that connects to it."""
    environment = {
        **os.environ,
        "ITX_HOME": tempfile.mkdtemp(prefix="served-", dir=scratch),
        "ITX_ADMIN_SECRET": "the admin secret of the screenshots",
    }
    server = subprocess.Popen(SERVER, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        line = next((each for each in server.stderr or () if "Serving" in each), None)
        if line is None:
            raise ScreenshotError("the server did not start.")
        address = line.split(" at ")[1].split()[0].rstrip("/").replace("ws://", "http://")

        def manage(*arguments: str) -> str:
            command = [sys.executable, "-m", "itx_notebook.cli", *arguments]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            return done.stdout.strip()

        manage("projects", "create", "shop")
        manage("users", "create", "ada")
        manage("users", "grant", "ada", "shop")
        token = manage("tokens", "create", "ada", "--name", "screenshots", "--project", "shop")
        yield server, f"import itx_notebook\nitx = itx_notebook.connect('shop', url={address!r}, token={token!r})\n"
    finally:
        server.kill()
        server.wait()


STATES: Final[dict[str, Callable[[Studio], Any]]] = {
    "light": take_light,
    "dark": take_dark,
    "narrow": take_narrow,
    "loading": take_loading,
    "error": take_error,
    "reconnecting": take_reconnecting,
    "snapshot": take_snapshot,
    "many": take_many,
}


if __name__ == "__main__":
    sys.exit(main())
