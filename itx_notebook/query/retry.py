"""Whether and when a failed fetch is tried again.

Apart from the entry so that the rule is one function. What cannot heal is not tried again: a refused or malformed
question, asked once more by every view that draws itself, becomes a storm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from itx_notebook._clock import Clock
from itx_notebook.errors import get_itx_error_code

__all__ = ["RetryPolicy", "get_retry_delay_ms", "retry_itx_once", "run_with_retry", "should_retry"]

T = TypeVar("T")

RetryPolicy: TypeAlias = bool | int | Callable[[int, Exception], bool]
"""``False`` never, ``True`` for ever, a number of retries, or ``(failure_count, error) -> bool`` (counted from 0)."""


def retry_itx_once(failure_count: int, error: Exception) -> bool:
    """The rule of views: one retry, and only of what may heal (no code: the transport; or ``INTERNAL``)."""
    return failure_count < 1 and get_itx_error_code(error) in (None, "INTERNAL")


def should_retry(policy: RetryPolicy, failure_count: int, error: Exception) -> bool:
    """Whether `policy` asks for another attempt after `failure_count` earlier failures and now `error`."""
    if isinstance(policy, bool):
        return policy
    return failure_count < policy if isinstance(policy, int) else policy(failure_count, error)


def get_retry_delay_ms(failure_count: int) -> int:
    """Milliseconds before the next attempt: 1000, 2000, 4000 … at most 30000 (``failure_count`` from 0)."""
    return min(1000 << min(failure_count, 5), 30_000)


async def run_with_retry(
    fetch: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy,
    clock: Clock,
    on_attempt_failed: Callable[[Exception], None],
) -> T:
    """Await `fetch()` until it succeeds or `policy` gives up; then its last error is raised.

    An error raised before there is anything to await counts like any other. Cancellation is never retried.
    """
    failure_count = 0
    while True:
        try:
            return await fetch()
        except Exception as error:
            if not should_retry(policy, failure_count, error):
                raise
            on_attempt_failed(error)
        await clock.sleep(get_retry_delay_ms(failure_count) / 1000)
        failure_count += 1
