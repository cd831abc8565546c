from __future__ import annotations

import asyncio

import pytest

from itx_notebook.errors import ItxError, ItxErrorCode
from itx_notebook.query.retry import (
    RetryPolicy,
    get_retry_delay_ms,
    retry_itx_once,
    run_with_retry,
    should_retry,
)
from itx_notebook.testing import FakeClock
from itx_notebook.testing.clock import settle
from tests.query.source import Source, internal


def test_delay_doubles_until_half_a_minute_when_failures_go_on() -> None:
    assert [get_retry_delay_ms(n) for n in (0, 1, 2, 3, 4, 5, 6, 10_000)] == [
        1000,
        2000,
        4000,
        8000,
        16000,
        30000,
        30000,
        30000,
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("INTERNAL", True), ("NOT_FOUND", False), ("FORBIDDEN", False), ("CONFLICT", False), ("BAD_REQUEST", False)],
)
def test_view_rule_retries_once_when_the_code_may_heal(code: ItxErrorCode, expected: bool) -> None:
    error = ItxError("x", code=code)

    assert [retry_itx_once(count, error) for count in (0, 1)] == [expected, False]


@pytest.mark.parametrize("error", [ConnectionError("cut"), OSError(111, "ECONNREFUSED"), ValueError("x")])
def test_view_rule_retries_once_when_there_is_no_code(error: Exception) -> None:
    assert [retry_itx_once(count, error) for count in (0, 1)] == [True, False]


def test_view_rule_retries_when_the_code_is_a_foreign_one() -> None:
    error = ConnectionError("x")
    error.code = "ECONNRESET"  # type: ignore[attr-defined]  # as other libraries do

    assert retry_itx_once(0, error)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (False, [False, False, False]),
        (True, [True, True, True]),
        (0, [False, False, False]),
        (2, [True, True, False]),
        (lambda count, _error: count == 1, [False, True, False]),
    ],
)
def test_policy_decides_when_failures_are_counted_from_zero(policy: RetryPolicy, expected: list[bool]) -> None:
    assert [should_retry(policy, count, internal()) for count in range(3)] == expected


async def test_run_waits_longer_each_time_when_attempts_fail(clock: FakeClock) -> None:
    source, failed = Source(), list[Exception]()
    task = asyncio.create_task(run_with_retry(source.fetch, policy=2, clock=clock, on_attempt_failed=failed.append))
    first, second = internal(), internal()

    await source.fail(first)
    await clock.advance(0.999)
    assert source.calls == 1
    await clock.advance(0.001)
    assert source.calls == 2
    await source.fail(second)
    await clock.advance(1.999)
    assert source.calls == 2
    await clock.advance(0.001)
    await source.succeed("at last")

    assert (await task, failed) == ("at last", [first, second])


async def test_run_raises_the_last_error_when_retries_are_used_up(clock: FakeClock) -> None:
    source = Source()
    task = asyncio.create_task(
        run_with_retry(source.fetch, policy=1, clock=clock, on_attempt_failed=lambda _error: None)
    )
    last = internal()

    await source.fail()
    await clock.advance(1)
    await source.fail(last)

    with pytest.raises(ItxError) as caught:
        await task
    assert caught.value is last


async def test_run_does_not_try_again_when_cancelled_while_it_waits(clock: FakeClock) -> None:
    source = Source()
    task = asyncio.create_task(
        run_with_retry(source.fetch, policy=True, clock=clock, on_attempt_failed=lambda _error: None)
    )
    await source.fail()

    task.cancel()
    await settle()
    await clock.advance(60)

    assert (task.cancelled(), source.calls, clock.pending) == (True, 1, 0)
