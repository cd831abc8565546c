"""Users, memberships and tokens: what may be done, what is kept, and what is never kept."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.doors.people import ACCESS_PATH, People
from itx_notebook.streams import StreamEngine
from itx_notebook.testing.clock import FakeClock
from itx_notebook.types import Principal
from tests.support import get_async_refusal


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def engine(home: Path, clock: FakeClock) -> AsyncIterator[StreamEngine]:
    engine = StreamEngine.open(home, clock=clock)
    yield engine
    await engine.close()


@pytest.fixture
async def people(engine: StreamEngine) -> People:
    """Ada, who is a member of two projects, and Root, who is an admin."""
    people = await People.open(engine)
    await people.create_user("ada", name="Ada")
    await people.create_user("root", is_admin=True)
    await people.grant("ada", "prj_1")
    await people.grant("ada", "prj_2")
    return people


def ada(*projects: str) -> Principal:
    return Principal.user("ada", projects=projects)


async def test_token_when_given_back_tells_whose_it_is(people: People) -> None:
    token, text = await people.create_token("ada", name="ci")
    assert text.startswith(f"itx_{token.id}_")
    assert people.try_identify(text) == (token, ada("prj_1", "prj_2"))


async def test_token_when_scoped_is_good_for_what_its_user_still_has_of_that(people: People) -> None:
    _, text = await people.create_token("ada", projects=["prj_2", "prj_2"])
    _, of_admin = await people.create_token("root", projects=["prj_9"])
    found, admin_found = people.try_identify(text), people.try_identify(of_admin)
    assert found is not None
    assert admin_found is not None
    assert found[1] == ada("prj_2")
    # A scope makes of an admin a member of just these projects.
    assert admin_found[1] == Principal.user("root", projects=("prj_9",))
    await people.revoke("ada", "prj_2")
    found = people.try_identify(text)
    assert found is not None
    assert found[1] == ada()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "x",
        lambda text: text.removeprefix("itx_"),
        lambda text: f"itx_{text}",
        lambda text: text.replace("itx_", "itx_0"),
        lambda text: text.rpartition("_")[0],
        lambda text: f"{text.rpartition('_')[0]}_",
        lambda text: text.upper(),
        lambda text: "",
        lambda text: "itx_",
        lambda text: "itx__",
        lambda text: "itx_\ud800_\udfff",
    ],
)
async def test_token_when_changed_is_none(people: People, change: Any) -> None:
    _, text = await people.create_token("ada")
    assert people.try_identify(change(text)) is None


async def test_token_when_expired_is_none(people: People, clock: FakeClock) -> None:
    token, text = await people.create_token("ada", expires_in=60)
    assert token.expires_at_ms == clock.now_ms() + 60_000
    await clock.advance(59.9)
    assert people.try_identify(text) is not None
    await clock.advance(0.1)
    assert people.try_identify(text) is None
    assert people.try_get_token_principal(token.id) is None


async def test_token_when_revoked_is_none_for_good(people: People, engine: StreamEngine) -> None:
    token, text = await people.create_token("ada")
    revoked = await people.revoke_token(token.id)
    assert revoked.revoked_at is not None
    assert await people.revoke_token(token.id) == revoked
    assert people.try_identify(text) is None
    assert (await People.open(engine)).try_identify(text) is None


async def test_user_when_removed_takes_memberships_and_tokens_along(people: People) -> None:
    _, text = await people.create_token("ada")
    await people.remove_user("ada")
    assert people.try_identify(text) is None
    assert people.try_get_principal("ada") is None
    await people.create_user("ada")
    assert people.try_identify(text) is None
    assert people.try_get_principal("ada") == ada()


async def test_everything_when_the_store_is_opened_again_is_as_it_was(people: People, engine: StreamEngine) -> None:
    token, text = await people.create_token("ada", name="ci", projects=["prj_1"], expires_in=3600)
    again = await People.open(engine)
    assert again.get_users() == people.get_users()
    assert again.get_tokens() == people.get_tokens() == [token]
    assert again.get_tokens("ada") == [token]
    assert again.get_tokens("root") == []
    assert again.try_identify(text) == (token, ada("prj_1"))


async def test_refusals_name_what_is_wrong(people: People) -> None:
    for call, code, message in (
        (people.create_user("ada"), "CONFLICT", "User ada exists already."),
        (people.create_user("Ada Lovelace"), "BAD_REQUEST", "User id 'Ada Lovelace' is not valid."),
        (people.create_user("x", name="\n"), "BAD_REQUEST", "A name has at most 200 printable characters."),
        (people.grant("nobody", "prj_1"), "NOT_FOUND", "User nobody not found."),
        (people.remove_user("nobody"), "NOT_FOUND", "User nobody not found."),
        (people.create_token("nobody"), "NOT_FOUND", "User nobody not found."),
        (people.create_token("ada", projects=["prj_3"]), "BAD_REQUEST", "User ada is no member of project prj_3."),
        (people.create_token("ada", expires_in=-1), "BAD_REQUEST", "-1 is no number of seconds in which a token"),
        (people.create_token("ada", expires_in=float("nan")), "BAD_REQUEST", "nan is no number of seconds"),
        (people.revoke_token("nothing"), "NOT_FOUND", "Token nothing not found."),
    ):
        error = await get_async_refusal(call)
        assert (error.code, error.message[: len(message)]) == (code, message)


async def test_repeating_a_grant_writes_nothing(people: People, engine: StreamEngine) -> None:
    before = engine.stream("global", ACCESS_PATH).get_state().event_count
    await people.grant("ada", "prj_1")
    await people.revoke("ada", "prj_none")
    assert engine.stream("global", ACCESS_PATH).get_state().event_count == before


async def test_two_creates_of_one_user_at_once_make_one(people: People) -> None:
    outcomes = await asyncio.gather(*(people.create_user("new") for _ in range(3)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ItxError", "ItxError", "User"]


async def test_watcher_hears_of_each_change_until_it_goes(people: People) -> None:
    heard: list[int] = []
    unwatch = people.watch(lambda: heard.append(len(people.get_users())))
    await people.create_user("new")
    unwatch()
    unwatch()
    await people.create_user("newer")
    assert heard == [3]


def read_files(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())


async def test_token_is_in_no_file_and_no_repr(people: People, engine: StreamEngine, home: Path) -> None:
    token, text = await people.create_token("ada")
    secret = text.removeprefix(f"itx_{token.id}_")
    assert len(secret) >= 32
    assert secret.encode() not in read_files(home)
    log = await engine.stream("global", ACCESS_PATH).read()
    assert secret not in f"{people!r} {token!r} {people.get_tokens()} {log}"


async def test_key_is_private_and_without_it_every_token_is_none(people: People, engine: StreamEngine) -> None:
    _, text = await people.create_token("ada")
    key = engine.directory / "access.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.unlink()
    without = await People.open(engine)
    assert without.try_identify(text) is None
    # One that is made then has a key of its own, which does not bring the others back.
    _, new = await without.create_token("ada")
    again = await People.open(engine)
    assert (again.try_identify(text), again.try_identify(new) is not None) == (None, True)


async def test_event_that_is_no_fact_is_passed_over(
    people: People, engine: StreamEngine, caplog: pytest.LogCaptureFixture
) -> None:
    log = engine.stream("global", ACCESS_PATH)
    for payload in ({}, {"userId": ["x"]}, None, {"userId": "y", "name": 1}):
        await log.append({"type": "events.iterate.com/access/user-created", "payload": payload})
    await log.append({"type": "events.iterate.com/access/of-the-future", "payload": {}})
    again = await People.open(engine)
    assert again.get_users() == people.get_users()
    assert sum("is no fact of this directory" in message for message in caplog.messages) == 3
