from __future__ import annotations

import asyncio
import gc
import itertools
import os
import ssl
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.client import connection as connection_module
from itx_notebook.client.connection import Connection, Epoch, within
from itx_notebook.errors import ItxConnectionError, ItxError, StoreError, project_not_found
from itx_notebook.testing.clock import FakeClock, settle
from tests.client.place import Place, get_status, start
from tests.support import get_async_refusal


class Projects(rpc.RpcTarget):
    def __init__(self, main: Main) -> None:
        self._main = main

    async def get(self, slug: str) -> Project:
        self._main.asked.append(slug)
        if slug not in self._main.known:
            raise project_not_found(slug)
        return Project(slug)


class Project(rpc.RpcTarget):
    def __init__(self, slug: str) -> None:
        self._slug = slug

    def describe(self) -> str:
        return self._slug


class Main(rpc.RpcTarget):
    """Answers, is silent, or fails, as a test wants it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known = {"demo"}
        self.calls = 0
        self.is_silent = False
        self.is_failing = False

    @property
    def projects(self) -> Projects:
        return Projects(self)

    async def describe(self) -> str:
        self.calls += 1
        if self.is_silent:
            await asyncio.Event().wait()
        if self.is_failing:
            raise ItxError("no", code="FORBIDDEN", details={"a": 1})
        return "here"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def main() -> Main:
    return Main()


@pytest.fixture
async def place(main: Main) -> AsyncIterator[Place]:
    place = Place(lambda: main)
    yield place
    await place.close()


@pytest.fixture
async def connection(place: Place, clock: FakeClock) -> AsyncIterator[Connection]:
    connection = place.connect(clock)
    yield connection
    await connection.close()


async def _describe(epoch: Epoch) -> Any:
    return await epoch.itx.describe()


def refused(status: int) -> rpc.HandshakeError:
    return rpc.HandshakeError(f"HTTP {status}", status=status)


# -- dialling --------------------------------------------------------------------------------------------------------


async def test_making_one_dials_nothing_and_callers_share_the_first_dial(connection: Connection, place: Place) -> None:
    assert (connection.status, connection.epoch, place.dials) == ("idle", None, [])
    statuses: list[str] = []
    unsubscribe = connection.subscribe_status(statuses.append)
    first, second = await asyncio.gather(connection.ready(), connection.ready())
    assert first is second is connection.epoch is await connection.ready()
    assert (statuses, place.dials) == (["connecting", "connected"], [False])
    unsubscribe()
    unsubscribe()
    await connection.close()
    assert statuses == ["connecting", "connected"]


async def test_failed_dials_wait_longer_each_time_and_waiters_stay(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    place.outcomes = [OSError("down")] * 7
    waiting = await start(connection.ready())
    begun = clock.monotonic()
    delays: list[float] = []
    for count in itertools.count(2):
        while len(place.dials) < count and not waiting.done():
            await clock.advance(0.25)
        delays.append(clock.monotonic() - begun)
        begun = clock.monotonic()
        if waiting.done():
            break
        assert connection.last_failure == "down"
        assert connection.status == "connecting"
    assert delays == [0.5, 1, 2, 4, 8, 10, 10]
    assert waiting.result() is connection.epoch
    assert connection.last_failure is None


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 0.5), (0.5, 0.5625), (1.0, 0.625)])
async def test_a_delay_is_up_to_a_quarter_longer(place: Place, clock: FakeClock, chance: float, delay: float) -> None:
    connection = place.connect(clock, chance=lambda: chance)
    place.outcomes = [OSError("down")]
    waiting = await start(connection.ready())
    await clock.advance(delay - 0.001)
    assert not waiting.done()
    await clock.advance(0.001)
    assert waiting.done()
    await connection.close()


async def test_a_steady_socket_is_replaced_at_once_a_young_one_after_a_delay(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    await connection.ready()
    statuses: list[str] = []
    connection.subscribe_status(statuses.append)
    await clock.advance(10)
    await place.cut()
    assert (len(place.dials), statuses) == (2, ["reconnecting", "connected"])
    await place.cut()
    assert len(place.dials) == 2
    await clock.advance(0.5)
    assert len(place.dials) == 3
    await place.cut()
    await clock.advance(0.5)
    assert (len(place.dials), connection.status) == (3, "reconnecting")
    await clock.advance(0.5)
    assert (len(place.dials), connection.status) == (4, "connected")
    await clock.advance(10)
    await place.cut()
    assert len(place.dials) == 5


async def test_a_peer_that_drops_everybody_at_once_is_not_dialled_without_end(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    await connection.ready()
    for _ in range(120):
        if connection.epoch is not None:
            await place.cut()
        await clock.advance(0.5)
    assert len(place.dials) <= 12


async def test_a_dial_that_hangs_is_given_up_after_fifteen_seconds(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    place.outcomes = [asyncio.Event()]
    waiting = await start(connection.ready())
    await clock.advance(15)
    assert connection.last_failure == "no answer within 15 s"
    await clock.advance(0.5)
    assert waiting.done()
    assert len(place.dials) == 2


async def test_a_session_that_ended_before_it_was_given_out_is_a_failed_dial(place: Place, clock: FakeClock) -> None:
    async def dial(asks_anew: bool) -> rpc.Session:
        session = await place.dial(asks_anew)
        if len(place.dials) == 1:
            await place.cut()
        return session

    connection = Connection(dial, location="here", clock=clock, chance=lambda: 0.0)
    waiting = await start(connection.ready())
    assert get_status(connection) == "connecting"
    await clock.advance(0.5)
    assert waiting.done()
    assert get_status(connection) == "connected"
    await connection.close()


async def test_waiting_has_a_deadline_that_says_what_was_tried(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    place.outcomes = [OSError("no route to host")] * 9
    waiting = await start(connection.ready(3))
    await clock.advance(3)
    error = await get_async_refusal(waiting)
    assert isinstance(error, ItxConnectionError)
    assert (error.message, error.is_final) == ("No connection to here within 3 s: no route to host", False)
    assert "tried again" in error.remedy


async def test_waiter_that_is_cancelled_leaves_the_dial_to_the_others(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    gate = asyncio.Event()
    place.outcomes = [gate]
    first, second = await start(connection.ready()), await start(connection.ready())
    first.cancel()
    await settle()
    gate.set()
    assert await second is connection.epoch
    assert first.cancelled()
    assert place.dials == [False]


async def test_listener_that_fails_stops_nobody(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def fail(status: str) -> None:
        raise RuntimeError(status)

    connection.subscribe_status(fail)
    connection.subscribe_status(seen.append)
    await connection.ready()
    assert seen == ["connecting", "connected"]
    assert "listener" in caplog.text


# -- refusals --------------------------------------------------------------------------------------------------------


async def test_refused_credentials_are_asked_for_anew_once(connection: Connection, place: Place) -> None:
    place.outcomes = [refused(401)]
    await connection.ready()
    assert place.dials == [False, True]


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_refused_twice_park_until_reconnect(
    connection: Connection, place: Place, clock: FakeClock, status: int
) -> None:
    place.outcomes = [refused(status)] * 2
    message = f"here refused the credentials ({status})."
    for _ in range(3):
        error = await get_async_refusal(connection.ready())
        assert isinstance(error, ItxConnectionError)
        assert (error.message, error.is_final) == (message, True)
    await clock.advance(300)
    assert (connection.status, connection.last_failure, len(place.dials)) == ("refused", message, 2)
    connection.reconnect()
    await connection.ready()
    assert (connection.status, place.dials) == ("connected", [False, True, True])


async def test_credentials_refused_later_break_the_waiting_calls_off(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    await connection.ready()
    place.outcomes = [refused(401)] * 2
    await clock.advance(20)
    await place.cut()
    error = await get_async_refusal(connection.call(_describe, is_repeatable=True, timeout=30))
    assert isinstance(error, ItxConnectionError)
    assert error.is_final


@pytest.mark.parametrize("status", [301, 400, 404, 426])
async def test_a_place_without_an_itx_is_said_to_be_one(connection: Connection, place: Place, status: int) -> None:
    place.outcomes = [refused(status)]
    error = await get_async_refusal(connection.ready())
    assert (error.message, connection.status) == (f"There is no itx at here ({status}).", "refused")
    assert "URL" in error.remedy


@pytest.mark.parametrize("status", [404, 502])
async def test_where_there_was_an_itx_there_will_be_one_again(
    connection: Connection, place: Place, clock: FakeClock, status: int
) -> None:
    await connection.ready()
    place.outcomes = [refused(status)]
    await clock.advance(20)
    await place.cut()
    assert get_status(connection) == "reconnecting"
    await clock.advance(0.5)
    assert get_status(connection) == "connected"


async def test_a_certificate_that_is_not_trusted_parks(connection: Connection, place: Place) -> None:
    untrusted = ssl.SSLCertVerificationError(1, "certificate verify failed")
    untrusted.verify_message = "self-signed certificate"
    place.outcomes = [untrusted]
    error = await get_async_refusal(connection.ready())
    assert error.message == "The certificate of here is not trusted: self-signed certificate."
    assert "SSL_CERT_FILE" in error.remedy


@pytest.mark.parametrize("raised", [StoreError("The disk is full."), KeyError("token"), ValueError("not a URL")])
async def test_what_cannot_heal_by_itself_parks_with_its_words(
    connection: Connection, place: Place, raised: Exception
) -> None:
    place.outcomes = [raised]
    error = await get_async_refusal(connection.ready())
    assert str(raised) in error.message
    assert connection.status == "refused"


async def test_an_error_that_is_raised_often_does_not_grow(connection: Connection, place: Place) -> None:
    place.outcomes = [refused(404)]
    error = await get_async_refusal(connection.ready())
    for _ in range(5):
        assert await get_async_refusal(connection.ready()) is error
    depth = 0
    traceback = error.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    assert depth < 10


# -- reconnecting on purpose -----------------------------------------------------------------------------------------


async def test_reconnect_keeps_the_socket_until_its_successor_is_there(connection: Connection, place: Place) -> None:
    old = await connection.ready()
    gate = asyncio.Event()
    place.outcomes = [gate]
    statuses: list[str] = []
    connection.subscribe_status(statuses.append)
    connection.reconnect()
    await settle()
    assert await connection.call(_describe, is_repeatable=False, timeout=1) == "here"
    assert connection.epoch is old
    gate.set()
    await settle()
    assert connection.epoch is not old
    assert (old.lost.is_set(), old.session.error is not None) == (True, True)
    assert (statuses, place.dials) == ([], [False, True])


async def test_reconnect_forgets_the_delay(connection: Connection, place: Place, clock: FakeClock) -> None:
    place.outcomes = [OSError("down")] * 4
    waiting = await start(connection.ready())
    await clock.advance(0.5 + 1 + 2 + 1)
    assert (len(place.dials), waiting.done()) == (4, False)
    connection.reconnect()
    await settle()
    assert (len(place.dials), waiting.done()) == (5, True)


async def test_reconnect_while_a_dial_hangs_gives_it_up(connection: Connection, place: Place) -> None:
    place.outcomes = [asyncio.Event()]
    waiting = await start(connection.ready())
    connection.reconnect()
    assert await waiting is connection.epoch
    assert len(place.pairs) == 1


# -- calls -----------------------------------------------------------------------------------------------------------


async def test_a_repeatable_call_is_made_again_when_the_connection_is_lost(
    connection: Connection, place: Place, main: Main, clock: FakeClock
) -> None:
    main.is_silent = True
    calling = await start(connection.call(_describe, is_repeatable=True, timeout=1))
    main.is_silent = False
    await clock.advance(10)
    await place.cut()
    assert await calling == "here"
    assert main.calls == 2


async def test_another_call_is_broken_off_with_what_is_known(connection: Connection, place: Place, main: Main) -> None:
    main.is_silent = True
    calling = await start(connection.call(_describe, is_repeatable=False, timeout=1))
    await place.cut()
    error = await get_async_refusal(calling)
    assert isinstance(error, ItxConnectionError)
    assert error.message.startswith("The connection to here was lost: ")
    assert "idempotency_key" in error.remedy
    assert main.calls == 1


async def test_a_call_that_ends_every_connection_is_given_up(
    connection: Connection, place: Place, main: Main, clock: FakeClock
) -> None:
    main.is_silent = True
    calling = await start(connection.call(_describe, is_repeatable=True, timeout=None))
    while not calling.done():
        await clock.advance(10)
        await place.cut()
    error = await get_async_refusal(calling)
    assert "5 times" in error.remedy
    assert main.calls == 5


async def test_an_error_of_the_other_end_keeps_its_code_and_details(connection: Connection, main: Main) -> None:
    main.is_failing = True
    error = await get_async_refusal(connection.call(_describe, is_repeatable=True, timeout=1))
    assert (type(error), error.message, error.code, error.details) == (ItxError, "no", "FORBIDDEN", {"a": 1})
    assert main.calls == 1


async def test_an_error_of_this_end_is_no_lost_connection(connection: Connection) -> None:
    async def use_what_was_disposed(epoch: Epoch) -> Any:
        project = epoch.itx.projects.get("demo")
        rpc.dispose(project)
        return await project

    error = await get_async_refusal(connection.call(use_what_was_disposed, is_repeatable=True, timeout=1))
    assert not isinstance(error, ItxConnectionError)
    assert connection.status == "connected"


async def test_each_gap_has_the_whole_time(connection: Connection, place: Place, main: Main, clock: FakeClock) -> None:
    main.is_silent = True
    calling = await start(connection.call(_describe, is_repeatable=True, timeout=2))
    # The first answer takes longer than any gap may.
    await clock.advance(10)
    place.outcomes = [OSError("down"), OSError("down")]
    main.is_silent = False
    await place.cut()
    await clock.advance(1.5)
    assert await calling == "here"


async def test_a_cancelled_call_is_over(connection: Connection, main: Main) -> None:
    main.is_silent = True
    calling = await start(connection.call(_describe, is_repeatable=True, timeout=None))
    calling.cancel()
    await settle()
    assert calling.cancelled()
    assert connection.status == "connected"


# -- handles of projects ---------------------------------------------------------------------------------------------


async def test_a_projects_handle_is_one_for_an_epoch_and_another_in_the_next(
    connection: Connection, place: Place, main: Main, clock: FakeClock
) -> None:
    old = await connection.ready()
    first = old.get_project("demo")
    assert old.get_project("demo") is first
    assert await first.describe() == "demo"
    assert main.asked == ["demo"]
    await clock.advance(10)
    await place.cut()
    new = await connection.ready()
    assert new.get_project("demo") is not first
    assert await new.get_project("demo").describe() == "demo"


async def test_a_refused_handle_is_not_kept_and_its_late_answer_evicts_no_successor(
    connection: Connection, main: Main
) -> None:
    epoch = await connection.ready()
    refused = epoch.get_project("later")
    with pytest.raises(rpc.RemoteError):
        await refused.describe()
    await settle()
    main.known.add("later")
    again = epoch.get_project("later")
    assert again is not refused
    assert await again.describe() == "later"
    # An old answer that comes after the successor was made.
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    done.set_exception(RuntimeError("late"))
    epoch._check("later", refused, done)
    assert epoch.get_project("later") is again


async def test_a_hundred_thousand_operations_leave_nothing_in_either_table(
    connection: Connection, place: Place
) -> None:
    async def use(epoch: Epoch) -> Any:
        return await epoch.get_project("demo").describe()

    await connection.call(use, is_repeatable=True, timeout=1)
    await settle()
    gc.collect()
    near, far = place.pairs[0]
    before = (near.stats(), far.stats())
    for _ in range(1_000):
        calls = [connection.call(use, is_repeatable=True, timeout=1) for _ in range(100)]
        assert set(await asyncio.gather(*calls)) == {"demo"}
    await settle()
    assert (near.stats(), far.stats()) == before


# -- liveness --------------------------------------------------------------------------------------------------------


async def test_a_peer_that_answers_is_left_alone(connection: Connection, main: Main, clock: FakeClock) -> None:
    epoch = await connection.ready()
    main.is_failing = True
    await clock.advance(15 * 4)
    assert (main.calls, connection.epoch) == (4, epoch)


async def test_a_peer_that_is_silent_twice_is_replaced(
    connection: Connection, place: Place, main: Main, clock: FakeClock
) -> None:
    epoch = await connection.ready()
    main.is_silent = True
    await clock.advance(15 + 10 + 9)
    assert (main.calls, connection.epoch) == (2, epoch)
    main.is_silent = False
    await clock.advance(1)
    assert connection.epoch is not epoch
    assert (connection.status, len(place.dials)) == ("connected", 2)


async def test_a_peer_that_answers_the_second_time_stays(connection: Connection, main: Main, clock: FakeClock) -> None:
    epoch = await connection.ready()
    main.is_silent = True
    await clock.advance(15 + 9)
    main.is_silent = False
    await clock.advance(60)
    assert connection.epoch is epoch


async def test_a_suspicion_is_looked_into_at_once_and_by_one_probe(
    connection: Connection, main: Main, clock: FakeClock
) -> None:
    connection.report_suspicion()
    await connection.ready()
    for _ in range(3):
        connection.report_suspicion()
    await settle()
    assert main.calls == 1
    # The next regular one is counted from here.
    await clock.advance(14.9)
    assert main.calls == 1
    await clock.advance(0.1)
    assert main.calls == 2


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_a_clock_that_jumped_is_a_suspicion(
    connection: Connection, main: Main, clock: FakeClock, jump: int
) -> None:
    await connection.ready()
    clock._start_ms += jump * 1000
    for _ in range(3):
        await connection.call(lambda epoch: epoch.get_project("demo").describe(), is_repeatable=True, timeout=1)
    await settle()
    assert (main.calls, connection.status) == (1, "connected")


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_close_while_reconnecting_tells_the_waiters_and_dials_no_more(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    await connection.ready()
    place.outcomes = [OSError("down")] * 9
    await place.cut()
    waiting = await start(connection.ready())
    await connection.close()
    await connection.close()
    error = await get_async_refusal(waiting)
    assert isinstance(error, ItxConnectionError)
    assert (error.message, error.is_final) == ("The connection to here was closed.", True)
    dials = len(place.dials)
    connection.reconnect()
    await clock.advance(60)
    assert (connection.status, len(place.dials), clock.pending) == ("closed", dials, 0)
    assert "connect" in (await get_async_refusal(connection.ready())).remedy


async def test_close_while_connected_ends_the_session_once(
    connection: Connection, place: Place, clock: FakeClock
) -> None:
    epoch = await connection.ready()
    await connection.close()
    await settle()
    assert (epoch.lost.is_set(), connection.epoch, clock.pending) == (True, None, 0)
    assert [session.error is not None for session in place.pairs[0]] == [True, True]


async def test_close_during_a_dial_leaves_no_session(connection: Connection, place: Place) -> None:
    gate = asyncio.Event()
    place.outcomes = [gate]
    waiting = await start(connection.ready())
    await connection.close()
    gate.set()
    await settle()
    assert isinstance(await get_async_refusal(waiting), ItxConnectionError)
    assert place.pairs == []


async def test_a_forked_child_begins_anew(connection: Connection, place: Place) -> None:
    await connection.ready()
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        os.write(write_end, f"{connection.status} {connection.epoch} {connection._dialling}".encode())
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    assert os.read(read_end, 100) == b"idle None None"
    os.close(read_end)
    os.close(write_end)
    assert connection.status == "connected"


async def test_within_ends_what_takes_too_long_and_nothing_else(clock: FakeClock) -> None:
    async def wait(seconds: float | None) -> str:
        async with within(clock, seconds):
            await clock.sleep(5)
        return "done"

    assert connection_module.within is within
    tasks = [await start(wait(seconds)) for seconds in (4, 6, None)]
    await clock.advance(5)
    assert [type(task.exception()) if task.exception() else task.result() for task in tasks] == [
        TimeoutError,
        "done",
        "done",
    ]
    assert clock.pending == 0
