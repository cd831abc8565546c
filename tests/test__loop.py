"""The I/O thread: starting, calling, cancelling, interrupting, forking."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from itx_notebook._loop import call_on_io_loop, get_io_loop, is_on_io_loop, on_io_loop, run_blocking, submit
from itx_notebook.errors import ItxError, ItxTimeoutError
from tests.support import OtherProcess

cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")


class Work:
    """A coroutine that never ends by itself, and tells how far it came."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def run(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def answer(value: Any) -> Any:
    return value


async def fail(error: BaseException) -> None:
    raise error


async def get_thread_name() -> str:
    return threading.current_thread().name


def test_import_when_it_is_all_that_happens_starts_no_thread() -> None:
    script = "import threading, itx_notebook; print([thread.name for thread in threading.enumerate()])"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "['MainThread']"


def test_loop_when_asked_for_by_many_at_once_is_one() -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loops = set(pool.map(lambda _: get_io_loop(), range(64)))
    assert loops == {get_io_loop()}
    assert [thread.name for thread in threading.enumerate()].count("itx-io") == 1


def test_call_when_blocking_runs_on_the_io_thread_and_returns_its_result() -> None:
    assert run_blocking(answer(7)) == 7
    assert run_blocking(get_thread_name()) == "itx-io"
    assert not is_on_io_loop()


def test_call_when_it_raises_raises_the_same_error() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        run_blocking(fail(error))
    assert caught.value is error


def test_call_when_it_runs_out_of_time_cancels_the_work_and_says_what_and_how_long() -> None:
    work = Work()
    with pytest.raises(ItxTimeoutError, match=r"(?m)^Reading took longer than 0\.05 s\.$") as caught:
        run_blocking(work.run(), timeout=0.05, what="Reading")
    assert caught.value.details == {"timeout": 0.05}
    assert work.cancelled.wait(5)


def test_call_when_the_work_itself_raises_a_timeout_keeps_that_one() -> None:
    with pytest.raises(TimeoutError, match="theirs") as caught:
        run_blocking(fail(TimeoutError("theirs")), timeout=5)
    assert not isinstance(caught.value, ItxTimeoutError)


def test_call_when_made_on_the_io_thread_is_refused_instead_of_waiting_for_itself() -> None:
    async def call_back() -> None:
        run_blocking(answer(1), what="stream.read()")

    with pytest.raises(ItxError, match=r"^stream\.read\(\) would block the I/O thread it is called on") as caught:
        run_blocking(call_back())
    assert caught.value.code == "BAD_REQUEST"
    gc.collect()  # A coroutine that nobody awaited would be warned about, and a warning fails the test.


INTERRUPTED = """
import asyncio, sys, threading
from itx_notebook._loop import run_blocking
cancelled = threading.Event()
async def work():
    print("begun", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.set()
try:
    run_blocking(work())
except KeyboardInterrupt:
    print("interrupted", cancelled.wait(5), flush=True)
async def answer():
    return "alive"
print(run_blocking(answer()), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_call_when_interrupted_with_ctrl_c_cancels_the_work_and_leaves_the_loop_alive() -> None:
    other = OtherProcess(INTERRUPTED)
    assert other.hear() == "begun"
    os.kill(other.pid, signal.SIGINT)
    assert [other.hear(), other.hear()] == ["interrupted True", "alive"]
    assert other.end() == 0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_loop_when_work_tries_to_end_the_process_reports_it_and_lives_on(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_blocking(fail(error), timeout=5)
    assert run_blocking(answer(1), timeout=5) == 1


def test_loop_when_a_callback_tries_to_end_the_process_lives_on() -> None:
    def leave() -> None:
        raise SystemExit(3)

    get_io_loop().call_soon_threadsafe(leave)
    assert run_blocking(answer(1), timeout=5) == 1


def test_work_when_it_runs_sees_nothing_of_the_callers_context() -> None:
    async def look() -> str:
        return cell.get()

    cell.set("this one")
    assert run_blocking(look()) == "none"
    assert submit(look()).result(5) == "none"


def test_submitted_work_when_cancelled_ends_cancelled_and_cancelling_again_is_harmless() -> None:
    work = Work()
    call = submit(work.run())
    assert work.begun.wait(5)
    assert call.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        call.result(5)
    assert work.cancelled.is_set()
    assert not call.cancel()


def test_submitted_work_when_cancelled_at_once_never_begins() -> None:
    hold, held = threading.Event(), threading.Event()

    def block_loop() -> None:
        held.set()
        hold.wait(5)

    get_io_loop().call_soon_threadsafe(block_loop)
    assert held.wait(5)
    work = Work()
    call = submit(work.run())
    call.cancel()
    hold.set()
    with pytest.raises(concurrent.futures.CancelledError):
        call.result(5)
    assert not work.begun.is_set()
    gc.collect()


def test_submitted_work_when_nobody_keeps_its_call_goes_on_to_its_end() -> None:
    done = threading.Event()

    async def wait_for(gate: asyncio.Event) -> None:
        await gate.wait()
        done.set()

    async def make_gate() -> asyncio.Event:
        return asyncio.Event()

    gate = run_blocking(make_gate())
    submit(wait_for(gate))
    run_blocking(answer(None))
    gc.collect()
    get_io_loop().call_soon_threadsafe(gate.set)
    assert done.wait(5)


async def test_work_when_awaited_from_another_loop_runs_on_the_io_loop() -> None:
    assert await call_on_io_loop(get_thread_name()) == "itx-io"
    with pytest.raises(ValueError, match="mine"):
        await call_on_io_loop(fail(ValueError("mine")))


async def test_work_when_its_awaiter_is_cancelled_is_cancelled_too() -> None:
    work = Work()
    task = asyncio.create_task(call_on_io_loop(work.run()))
    await asyncio.to_thread(work.begun.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(work.cancelled.wait, 5)


def test_work_when_awaited_on_the_io_loop_runs_right_there() -> None:
    async def both() -> bool:
        return await call_on_io_loop(answer(is_on_io_loop()))

    assert run_blocking(both())


async def test_method_when_bridged_keeps_its_name_and_runs_on_the_io_loop() -> None:
    class Reader:
        @on_io_loop
        async def read(self, count: int) -> tuple[str, int]:
            """Read."""
            return threading.current_thread().name, count

    assert await Reader().read(3) == ("itx-io", 3)
    assert (Reader.read.__name__, Reader.read.__doc__) == ("read", "Read.")


def test_background_failure_when_nobody_awaits_it_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail_plainly() -> None:
        raise ValueError("lost")

    get_io_loop().call_soon_threadsafe(fail_plainly)
    run_blocking(answer(None))
    (record,) = caplog.records
    assert record.name == "itx_notebook"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


FORKED = """
import os, sys, threading, warnings
from itx_notebook._loop import get_io_loop, run_blocking
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork with threads
async def answer(value):
    return value, threading.current_thread().name
assert run_blocking(answer(1)) == (1, "itx-io")
mine = get_io_loop()
if os.fork() == 0:
    os._exit(0 if run_blocking(answer(2), timeout=10) == (2, "itx-io") and get_io_loop() is not mine else 1)
status = os.waitstatus_to_exitcode(os.wait()[1])
print(status, run_blocking(answer(3)), get_io_loop() is mine)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_child_when_forked_starts_a_loop_of_its_own_and_leaves_the_parents() -> None:
    output = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout.strip() == "0 (3, 'itx-io') True"
