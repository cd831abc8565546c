from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itx_notebook.client import loader as loader_module
from itx_notebook.client.loader import Loader
from itx_notebook.errors import StoreError
from itx_notebook.streams import StreamEngine
from tests.support import gather, get_async_refusal


@pytest.fixture
async def loader(home: Path) -> AsyncIterator[Loader]:
    loader = Loader(home)
    yield loader
    await loader.close()
    await loader.queries.close()


async def test_loader_opens_at_the_first_asking_and_once_for_all(loader: Loader) -> None:
    was_open = loader.is_open
    await asyncio.gather(loader.open(), loader.open(), loader.open())
    assert [was_open, loader.is_open, loader.is_owner] == [False, True, True]


async def test_loader_that_was_closed_says_so_and_opens_again(loader: Loader) -> None:
    await loader.open()
    project = await (await loader.get_global_itx()).projects.create("demo")
    await loader.close()
    await loader.close()
    for awaitable in (loader.get_loader_itx("demo"), loader.get_global_itx()):
        error = await get_async_refusal(awaitable)
        assert (error.code, error.message) == ("INTERNAL", f"The embedded engine of {loader.home} is closed.")
        assert "connect" in error.remedy
    await loader.open()
    assert (await loader.get_loader_itx("demo")).project == project


async def test_loader_gives_the_masked_answer_for_an_unknown_project(loader: Loader) -> None:
    await loader.open()
    error = await get_async_refusal(loader.get_loader_itx("nope"))
    assert (error.code, error.message) == ("NOT_FOUND", "Project nope not found.")


async def test_loader_waits_for_the_owner_of_the_store_to_go(loader: Loader, home: Path) -> None:
    owner = StreamEngine.open(home)
    opening = asyncio.ensure_future(loader.open())
    await asyncio.sleep(0)
    assert not opening.done()
    await owner.close()
    await opening
    assert loader.is_open


async def test_loader_whose_opening_was_given_up_opens_when_asked_later(
    loader: Loader, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "_TAKE_OVER", 0.1)
    owner = StreamEngine.open(home)
    impatient = asyncio.ensure_future(loader.open())
    await asyncio.sleep(0)
    impatient.cancel()
    # The attempt goes on for those who may still come, and fails when the owner was given its time.
    opening = loader._opening
    assert opening is not None
    await asyncio.wait([opening])
    assert isinstance(opening.exception(), StoreError)
    await owner.close()
    await loader.open()
    assert loader.is_open


async def test_loader_whose_opening_was_given_up_lets_the_store_go_when_closed(loader: Loader, home: Path) -> None:
    owner = StreamEngine.open(home)
    impatient = asyncio.ensure_future(loader.open())
    await asyncio.sleep(0)
    impatient.cancel()
    await owner.close()
    await loader.close()
    assert not loader.is_open
    await StreamEngine.open(home).close()


@pytest.fixture
def file_in_the_way(home: Path) -> Path:
    """A file where the directory should be."""
    home.write_text("not a directory")
    return home


async def test_loader_of_an_unusable_directory_fails_at_once_and_recovers(
    loader: Loader, file_in_the_way: Path
) -> None:
    outcomes = await gather(loader.open(), loader.open())
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
    assert str(file_in_the_way) in str(outcomes[0])
    await asyncio.to_thread(file_in_the_way.unlink)
    await loader.open()
