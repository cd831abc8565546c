from __future__ import annotations

from itx_notebook.testing import FakeClock
from itx_notebook.widgets.cells import Execution
from itx_notebook.widgets.lifetime import LINGER, Lifetime, Views

FIRST = Execution("cell", "run-1")
SECOND = Execution("cell", "run-2")


class Ward:
    """A lifetime, and how often it closed what it watches over."""

    def __init__(self, made_by: Execution | None = FIRST) -> None:
        self.clock = FakeClock()
        self.closed = 0
        self.lifetime = Lifetime(self._close, made_by=made_by, clock=self.clock)

    def _close(self) -> None:
        self.closed += 1
        self.lifetime.end()

    def run(self, execution: Execution | None) -> None:
        self.lifetime.note_cell_start()
        self.lifetime.note_cell_end(execution)

    async def wait(self, seconds: float = LINGER) -> int:
        await self.clock.advance(seconds)
        return self.closed


async def test_tree_of_an_earlier_run_without_a_view_closes_some_seconds_after_the_newer_one_ended() -> None:
    ward = Ward()
    ward.run(FIRST)
    assert await ward.wait(60) == 0
    ward.run(SECOND)
    assert await ward.wait(LINGER - 0.1) == 0
    assert await ward.wait(0.1) == 1
    ward.run(Execution("cell", "run-3"))
    assert await ward.wait(60) == 1
    assert ward.clock.pending == 0


async def test_tree_that_is_shown_elsewhere_lives_until_that_view_goes() -> None:
    ward = Ward()
    ward.lifetime.take_views("page", 2)
    ward.run(SECOND)
    ward.lifetime.take_views("page", 1)
    assert await ward.wait(60) == 0
    ward.lifetime.take_views("page", 0)
    assert await ward.wait() == 1


async def test_tree_of_another_cell_or_of_no_cell_lives() -> None:
    for ward, execution in (
        (Ward(), Execution("other", "run-2")),
        (Ward(), None),
        (Ward(None), SECOND),
        (Ward(None), None),
    ):
        ward.run(execution)
        assert await ward.wait(60) == 0


async def test_tree_stays_while_a_cell_runs_that_may_display_it_at_its_end() -> None:
    ward = Ward()
    ward.run(SECOND)
    ward.lifetime.note_cell_start()
    assert await ward.wait(60) == 0
    ward.lifetime.note_display()
    ward.lifetime.note_cell_end(Execution("other", "run-9"))
    ward.lifetime.take_views("page", 1)
    assert await ward.wait(60) == 0


async def test_view_that_comes_back_in_time_saves_the_tree() -> None:
    ward = Ward()
    ward.run(SECOND)
    await ward.wait(LINGER - 0.1)
    ward.lifetime.take_views("page", 1)
    assert await ward.wait(60) == 0


async def test_nothing_waits_once_it_has_ended() -> None:
    ward = Ward()
    ward.run(SECOND)
    assert ward.clock.pending == 1
    ward.lifetime.end()
    ward.lifetime.note_cell_end(SECOND)
    ward.lifetime.take_views("page", 0)
    assert ward.clock.pending == 0


def test_views_of_several_pages_are_added_up_and_told_twice_count_once() -> None:
    views = Views()
    assert views.are_gone
    for page, count in (("a", 1), ("b", 2), ("b", 2), ("a", 1)):
        views.take(page, count)
    assert (views.count, views.are_gone) == (3, False)
    for page in ("a", "b", "b"):
        views.take(page, 0)
    assert (views.count, views.are_gone) == (0, True)


def test_page_that_was_left_with_a_view_may_come_back_until_one_does() -> None:
    views = Views()
    views.take("before", 1)
    views.take("before", None)
    assert (views.count, views.are_gone) == (0, False)
    views.take("after", 1)
    views.take("after", 0)
    assert views.are_gone
    views.take("another", None)
    assert views.are_gone, "it had no view to come back to"
