"""What the tree says of the way to its engine, and what it does when the way is there again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from itx_notebook.client import Link
from itx_notebook.errors import ItxConnectionError
from itx_notebook.testing.clock import settle
from itx_notebook.tree import LiveTree
from tests.tree.conftest import View, World


class FakeWay:
    """A way that a test opens and shuts."""

    def __init__(self) -> None:
        self.link = Link("live")
        self.listeners: list[Callable[[], object]] = []

    def subscribe_link(self, listener: Callable[[], object]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def become(self, link: Link) -> None:
        self.link = link
        for listener in tuple(self.listeners):
            listener()


@pytest.fixture
def way() -> FakeWay:
    return FakeWay()


def get_connections(view: View) -> list[tuple[str, str | None]]:
    """What the patches said of the connection, in order."""
    said = [patch["connection"] for patch in view.patches if "connection" in patch]
    return [(each["state"], each["detail"]) for each in said]


async def test_tree_says_what_the_way_does(world: World, way: FakeWay) -> None:
    view = await world.open_view(way=way)
    for link in (
        Link("reconnecting", 5_000, "Connection refused"),
        Link("live", 6_000),
        Link("refused", 7_000, "401"),
        Link("closed", 8_000),
    ):
        way.become(link)
        await world.pass_frames()
    assert get_connections(view) == [
        ("reconnecting", "Connection refused"),
        ("live", None),
        ("closed", "401"),
        ("closed", "closed"),
    ]
    assert view.tree.get_snapshot().connection.since == 7_000


async def test_a_tree_that_is_opened_during_a_gap_says_so_from_the_start(world: World, way: FakeWay) -> None:
    way.link = Link("reconnecting", 5_000, "down")
    tree = world.make_tree(way=way)
    assert tree.get_snapshot().connection.state == "reconnecting"


async def test_a_closed_tree_listens_no_more(world: World, way: FakeWay) -> None:
    view = await world.open_view(way=way)
    assert len(way.listeners) == 1
    view.tree.close()
    view.tree.close()
    assert way.listeners == []


async def test_what_failed_in_a_gap_is_asked_for_when_the_way_is_there_again(world: World, way: FakeWay) -> None:
    asked: list[str] = []

    async def get_itx(project: str) -> Any:
        asked.append(project)
        if not way.link.is_live:
            raise ItxConnectionError("down")
        return await world.loader.get_loader_itx(project)

    way.link = Link("reconnecting", 5_000, "down")
    tree = LiveTree(world.project, queries=world.loader.queries, get_itx=get_itx, way=way)
    tree.open()
    await world.clock.advance(2)
    assert tree.get_snapshot().nodes["/"]["state"] == "error"
    count = len(asked)
    await world.clock.advance(60)
    # A row that cannot be read is not read over and over.
    assert len(asked) <= count + 8
    way.become(Link("live"))
    await world.settle()
    await world.pass_frames()
    assert tree.get_snapshot().nodes["/"]["state"] == "loaded"
    assert tree.get_snapshot().connection.state == "live"
    await world.append("/orders")
    await world.pass_frames()
    tree.close()
    await settle()
