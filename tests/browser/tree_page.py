"""The stream tree in a page, whoever hosts it: found by role and text, also inside a shadow root.

Own room because every host shows the same tree; what differs is how a host runs cells.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from playwright.sync_api import Locator, Page, expect

__all__ = ["TreePage"]


class TreePage(ABC):
    """A page with cells to run, and a stream tree; the newest if there are several."""

    def __init__(self, page: Page) -> None:
        self.page = page

    # -- running -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, index: int) -> None:
        """Begin a cell and do not wait for it. The first is number 1."""

    @abstractmethod
    def wait_until_idle(self, timeout: float = 60.0) -> None:
        """Wait until the cell that was begun last has ended."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether the cell that was begun last still runs."""

    def run(self, index: int) -> None:
        """Run a cell and wait until it has ended."""
        self.start(index)
        self.wait_until_idle()

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def panel(self) -> Locator:
        """The whole widget."""
        return self.page.locator(".itx-panel").last

    @property
    def tree(self) -> Locator:
        """The list of rows."""
        return self.page.get_by_role("tree").last

    @property
    def status(self) -> Locator:
        """The status line."""
        return self.page.locator(".itx-header").last.get_by_role("status")

    def row(self, path: str) -> Locator:
        """The row of a stream."""
        return self.tree.locator(f'[role=treeitem][data-path="{path}"]')

    def get_count(self, path: str) -> int:
        """The number of events that the row of a stream shows."""
        text = self.row(path).locator(".itx-badge").inner_text()
        return int(text.replace(",", ""))

    def expect_count(self, path: str, count: int, timeout: float = 10.0) -> None:
        """Wait until the row of a stream shows `count` events."""
        digits = f"{count:,}"
        expect(self.row(path).locator(".itx-badge")).to_have_text(
            re.compile(f"^({digits}|{count})$"), timeout=timeout * 1000
        )

    def expand(self, path: str) -> None:
        """Press the disclosure of a row."""
        self.row(path).locator(f'button[aria-label="Expand {path}"], button[aria-label="Load {path}"]').click()

    def get_colours(self) -> tuple[str, str]:
        """The text's colour and the ground's, as the browser computes them for the widget."""
        text, ground = self.panel.evaluate(
            "panel => { const style = getComputedStyle(panel); return [style.color, style.backgroundColor]; }"
        )
        return text, ground

    def resolve_colour(self, variable: str) -> str:
        """What a colour variable of the host is where the widget stands."""
        colour: str = self.panel.evaluate(
            """(panel, variable) => {
                const probe = document.createElement("span");
                probe.style.color = `var(${variable})`;
                panel.parentNode.append(probe);
                const { color } = getComputedStyle(probe);
                probe.remove();
                return color;
            }""",
            variable,
        )
        return colour
