"""Prefetch: have the answer in the cache before the view asks, and never be the reason that anything fails.

Apart from the cache because its rules differ from every other reader's: no error, no retry, a deadline, and no trace
of a failure. A refusal thrown by a prefetch once took a whole page down with it; a failure it left in the
cache was painted for a moment by every view that mounted on it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec import UNSET

from itx_notebook._clock import Clock
from itx_notebook.query.client import QueryClient
from itx_notebook.query.definitions import GetItx, QueryDefinition
from itx_notebook.query.entry import Fetch

__all__ = ["prefetch_itx_query"]

_log = logging.getLogger(__name__)


async def prefetch_itx_query(
    query: QueryDefinition[Any],
    client: QueryClient,
    get_loader_itx: GetItx,
    *,
    deadline: float = 2.0,
) -> None:
    """Bring `query` into the cache if it is not fresh there; return when it is, when it failed, or at the deadline.

    On the cache's loop. Never raises; only the caller's own cancellation passes through, and the fetch goes on.
    One attempt, whatever the client's default. A failure keeps older data, and leaves no entry where there was
    neither data nor an observer, also when it comes after the deadline: the view then mounts as if nobody
    had tried, fetches by itself, and shows its own error in its own place.

    Parameters
    ----------
    query : QueryDefinition
        Shared with the view, so that key, fetcher and staleness are the same.
    client : QueryClient
        The cache.
    get_loader_itx : callable
        Gives the project's handle; called inside the query function, so its failure is a failed fetch.
    deadline : float
        Seconds to wait at most. The fetch itself is not ended: it stores when it succeeds. 0 or less: only begin.
    """
    try:
        if client.try_get_fresh(query) is not UNSET:
            return
        fetch = client.begin_fetch(query.bind(get_loader_itx), retry=False, forget_failure=True)
        await _wait_until(fetch, client.clock, deadline)
    except Exception:
        # The contract: an optimisation is never a gate.
        _log.debug("Prefetch of %s could not begin", query.query_hash, exc_info=True)


async def _wait_until(fetch: Fetch[Any], clock: Clock, deadline: float) -> None:
    """Wait for the outcome, whatever it is, or for `deadline` seconds of `clock`."""
    if deadline <= 0:
        return
    woken = asyncio.get_running_loop().create_future()

    def wake(_outcome: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    timer = clock.call_later(deadline, wake)
    fetch.outcome.add_done_callback(wake)
    try:
        await woken
    finally:
        timer.cancel()
        fetch.outcome.remove_done_callback(wake)
