"""Time: the machine's own, and the one that tests move."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook._clock import Clock, SystemClock, iso_from_ms
from itx_notebook.testing import FakeClock


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_781_082_000_000, "2026-06-10T09:00:00.000Z"),
        (1_781_082_000_007, "2026-06-10T09:00:00.007Z"),
        (1_781_082_000_999, "2026-06-10T09:00:00.999Z"),
        (1_781_082_001_000, "2026-06-10T09:00:01.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_time_when_written_is_iso_utc_with_milliseconds(ms: int, text: str) -> None:
    assert iso_from_ms(ms) == text


@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=2, max_size=5))
def test_times_when_written_one_after_the_other_sort_as_their_texts_do(times: list[int]) -> None:
    assert [iso_from_ms(ms) for ms in sorted(times)] == sorted(iso_from_ms(ms) for ms in times)


def test_time_when_written_by_many_threads_is_never_anothers_second() -> None:
    ready = threading.Barrier(4)

    def write(first: int) -> list[str]:
        ready.wait(5)
        return [iso_from_ms((first + n % 2) * 1000) for n in range(5_000)]

    firsts = [0, 100, 200, 300]
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(write, firsts))
    assert [set(texts) for texts in written] == [
        {iso_from_ms(n * 1000) for n in (first, first + 1)} for first in firsts
    ]


def test_system_clock_when_asked_tells_the_machines_time() -> None:
    clock = SystemClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 5_000
    assert clock.monotonic() <= clock.monotonic()


async def test_system_timer_when_called_off_does_not_fire() -> None:
    clock = SystemClock()
    fired: list[str] = []
    off = clock.call_later(0.0, lambda: fired.append("off"))
    done = asyncio.Event()
    clock.call_later(0.01, done.set)
    off.cancel()
    off.cancel()
    await asyncio.wait_for(done.wait(), 5)
    await clock.sleep(0)
    assert fired == []


async def test_fake_clock_when_nobody_moves_it_stands_still() -> None:
    clock = FakeClock(1_000)
    seen: Clock = clock
    fired: list[str] = []
    clock.call_later(0, lambda: fired.append("due at once"))
    await asyncio.sleep(0)
    assert (seen.now_ms(), seen.monotonic(), fired) == (1_000, 0.0, [])


async def test_fake_clock_when_moved_fires_what_is_due_in_order_at_its_own_time() -> None:
    clock = FakeClock(1_000)
    fired: list[tuple[str, int]] = []
    for name, delay in (("c", 2.0), ("a", 0.5), ("b", 0.5), ("late", 9.0)):
        clock.call_later(delay, lambda name=name: fired.append((name, clock.now_ms())))  # type: ignore[misc]  # bound here
    await clock.advance(2.0)
    assert fired == [("a", 1_500), ("b", 1_500), ("c", 3_000)]
    assert (clock.now_ms(), clock.pending) == (3_000, 1)


async def test_fake_clock_when_a_timer_makes_another_fires_that_too_if_due() -> None:
    clock = FakeClock()
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.monotonic())
        clock.call_later(1.0, again)

    clock.call_later(1.0, again)
    await clock.advance(3.5)
    assert fired == [1.0, 2.0, 3.0]


async def test_fake_timer_when_called_off_is_not_pending_and_does_not_fire() -> None:
    clock = FakeClock()
    fired: list[str] = []
    timer = clock.call_later(1.0, lambda: fired.append("off"))
    assert clock.pending == 1
    timer.cancel()
    timer.cancel()
    await clock.advance(5.0)
    assert (clock.pending, fired) == (0, [])


async def test_fake_sleep_when_time_moves_ends_and_when_cancelled_leaves_no_timer() -> None:
    clock = FakeClock()
    woken = asyncio.create_task(clock.sleep(1.0))
    given_up = asyncio.create_task(clock.sleep(2.0))
    await clock.advance(1.0)
    assert (woken.done(), given_up.done()) == (True, False)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert clock.pending == 0
