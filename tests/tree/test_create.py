from __future__ import annotations

import json
from pathlib import Path

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.tree import create_child
from itx_notebook.tree.create import parse_child_path
from tests.support import gather
from tests.tree.conftest import World

# The front end's tests read the same cases: it says at once what the kernel would refuse.
CASES = json.loads((Path(__file__).parent / "child_names.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["name"]))
def test_name_below_a_parent_means_the_path_it_would_be(case: dict[str, str | None]) -> None:
    parent, name = case["parent"], case["name"]
    assert parent is not None
    assert name is not None
    if case["path"] is None:
        with pytest.raises(ItxError) as caught:
            parse_child_path(parent, name)
        assert caught.value.code == "BAD_REQUEST"
        assert caught.value.remedy
    else:
        assert parse_child_path(parent, name) == case["path"]


def test_name_that_makes_the_path_too_long_is_refused() -> None:
    parent = "/" + "p" * 1000
    assert len(parse_child_path(parent, "c" * 21)) == 1023
    with pytest.raises(ItxError, match="1024 characters"):
        parse_child_path(parent, "c" * 22)


async def test_child_when_created_exists_and_appears_in_every_tree(world: World) -> None:
    view, other = await world.open_view(expand=["/agents"]), await world.open_view()
    itx = await world.loader.get_loader_itx(world.project.id)
    assert await create_child(itx, "/agents", "mail/in") == "/agents/mail/in"
    await world.settle()
    await world.pass_frames()
    assert await world.get_count("/agents/mail/in") == 2, "created and woken"
    assert view.state["nodes"]["/agents"]["children"][-1] == "mail"
    view.tree.expand("/agents/mail")
    await world.settle()
    await world.pass_frames()
    assert view.state["nodes"]["/agents/mail"]["children"] == ["in"]
    await create_child(itx, "/", "fresh")
    await world.settle()
    await world.pass_frames()
    assert other.state["nodes"]["/"]["children"][-1] == "fresh"


async def test_child_when_created_twice_or_there_before_gets_no_event_more(world: World) -> None:
    itx = await world.loader.get_loader_itx(world.project.id)
    await gather(*(create_child(itx, "/", "twice") for _ in range(2)))
    assert await world.get_count("/twice") == 2
    before = await world.get_count("/orders")
    assert await create_child(itx, "/", "orders") == "/orders"
    assert await world.get_count("/orders") == before
