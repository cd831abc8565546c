from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.client import local_door
from itx_notebook.client.loader import Loader
from itx_notebook.client.local_door import LocalDoor, dial_local_door
from itx_notebook.doors import Deployment
from tests.support import get_async_refusal, hold_store


@pytest.fixture
async def door(deployment: Deployment, home: Path) -> AsyncIterator[LocalDoor]:
    door = await LocalDoor.open(deployment, home)
    yield door
    await door.close()


def get_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read_note(home: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((home / "door.json").read_text())
    return note


async def ask(home: Path) -> int:
    """How many projects there are behind the door."""
    session = await dial_local_door(home)
    try:
        answer = await session.main.projects.list()
        return int(answer["total"])
    finally:
        await session.close()


async def test_the_door_is_a_socket_that_only_its_user_may_use(door: LocalDoor, home: Path) -> None:
    assert await ask(home) == 1
    assert read_note(home) == {"pid": os.getpid(), "unix": str(home / "door.sock")}
    assert get_mode(home / "door.json") == 0o600
    # On Linux connecting takes the right to write to the socket; elsewhere to enter the directory.
    is_private = not get_mode(home / "door.sock") & 0o077 or not get_mode(home) & 0o077
    assert is_private


async def test_closing_takes_the_note_away_and_ends_the_guests(deployment: Deployment, home: Path) -> None:
    door = await LocalDoor.open(deployment, home)
    session = await dial_local_door(home)
    await door.close()
    await door.close()
    await session.wait_closed()
    assert not (home / "door.json").exists()
    with pytest.raises(OSError, match="door"):
        await dial_local_door(home)


@pytest.mark.parametrize("note", ["", "{", "[]", "null", "{}", '{"url": "ws://127.0.0.1:1/"}', '{"unix": "/nowhere"}'])
async def test_a_note_that_is_damaged_or_stale_is_nobody_there(tmp_path: Path, note: str) -> None:
    (tmp_path / "door.json").write_text(note)
    with pytest.raises(OSError):  # noqa: PT011  # every kind of it means the same
        await dial_local_door(tmp_path)


async def test_what_a_killed_owner_left_behind_stops_nobody(home: Path) -> None:
    with hold_store(home) as other:
        other.kill()
    assert (home / "door.json").exists()
    loader = Loader(home)
    await loader.open()
    assert loader.is_owner
    assert read_note(home)["pid"] == os.getpid()
    assert await ask(home) == 1
    await loader.close()
    await loader.queries.close()


@pytest.fixture
def long_home(tmp_path: Path) -> Path:
    """A directory whose name is too long for a socket in it."""
    home = tmp_path / ("x" * 60) / ("y" * 60)
    home.mkdir(parents=True)
    return home


async def test_where_no_socket_fits_loopback_asks_for_a_secret(long_home: Path) -> None:
    deployment = await Deployment.open(long_home)
    door = await LocalDoor.open(deployment, long_home)
    note = read_note(long_home)
    assert note["url"].startswith("ws://127.0.0.1:")
    assert get_mode(long_home / "door.json") == 0o600
    assert await ask(long_home) == 0
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": note["secret"]}):
        with pytest.raises(rpc.HandshakeError) as refused:
            await rpc.open_session(f"{note['url']}api/itx", headers=headers)
        assert refused.value.status == 401
    # A page in a browser of the same machine gets nowhere, whatever it knows.
    with pytest.raises(rpc.HandshakeError):
        await rpc.open_session(
            f"{note['url']}api/itx", headers={"Authorization": f"Bearer {note['secret']}"}, origin="http://evil.example"
        )
    await door.close()
    await deployment.close()


async def test_a_guest_in_a_directory_with_a_long_name_works_and_takes_over(long_home: Path) -> None:
    with hold_store(long_home) as other:
        loader = Loader(long_home)
        await loader.open()
        assert (loader.is_owner, str(loader)) == (False, f"engine of process {other.pid} in {long_home}")
        view = await loader.get_loader_itx("default")
        count = (await view.streams.get("/held").get_state(presence=False)).event_count
        other.kill()
        assert (await view.streams.get("/held").get_state(presence=False)).event_count >= count
    assert loader.is_owner
    assert str(loader) == f"embedded engine in {long_home}"
    await loader.close()
    await loader.queries.close()


async def test_where_the_system_has_no_unix_sockets_it_is_loopback(
    deployment: Deployment, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    door = await LocalDoor.open(deployment, home)
    assert "secret" in read_note(home)
    monkeypatch.undo()
    await door.close()


async def test_an_owner_that_lets_nobody_in_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from itx_notebook.client import loader as loader_module

    monkeypatch.setattr(loader_module, "_TAKE_OVER", 0.2)
    with hold_store(home) as other:
        (home / "door.json").unlink()
        loader = Loader(home)
        error = await get_async_refusal(loader.open())
        assert error.message == f"The store in {home} is in use by process {other.pid}."
        await loader.queries.close()


async def test_ten_guests_take_over_once_and_agree(home: Path) -> None:
    loaders = [Loader(home) for _ in range(10)]
    with hold_store(home) as other:
        await asyncio.gather(*(loader.open() for loader in loaders))
        views = [await loader.get_loader_itx("default") for loader in loaders]
        other.kill()
        states = await asyncio.gather(*(view.streams.get("/held").get_state(presence=False) for view in views))
    assert len({state.event_count for state in states}) == 1
    assert sum(loader.is_owner for loader in loaders) == 1
    # The owner's end is the others' beginning.
    (owner,) = (loader for loader in loaders if loader.is_owner)
    guests = [loader for loader in loaders if loader is not owner]
    await owner.close()
    views = [await guest.get_loader_itx("default") for guest in guests]
    again = await asyncio.gather(*(view.streams.get("/held").get_state(presence=False) for view in views))
    assert len({state.event_count for state in again}) == 1
    assert sum(loader.is_owner for loader in guests) == 1
    for loader in loaders:
        await loader.close()
        await loader.queries.close()


async def test_a_secret_is_in_no_repr(long_home: Path) -> None:
    deployment = await Deployment.open(long_home)
    door = await LocalDoor.open(deployment, long_home)
    secret = read_note(long_home)["secret"]
    assert secret not in repr(door) + repr(vars(door))
    assert local_door.__all__ == ["LocalDoor", "dial_local_door"]
    await door.close()
    await deployment.close()
