"""An itx elsewhere, in this process: sessions joined in memory that can be refused, delayed, cut and left hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from itx_notebook import capnweb as rpc
from itx_notebook.client.connection import SESSION_OPTIONS, Connection
from itx_notebook.doors.websocket import door_options
from itx_notebook.testing.clock import FakeClock, settle


class Place:
    """Where a connection goes.

    Attributes
    ----------
    dials : list of bool
        Each dial so far, and whether it was to ask for credentials anew.
    outcomes : list
        What the next dials come to, in order: an error, or an event to wait for. A dial that finds none succeeds.
    pairs : list
        The sessions so far, as (the client's, the server's).
    """

    def __init__(self, make_main: Callable[[], Any]) -> None:
        self._make_main = make_main
        self.dials: list[bool] = []
        self.outcomes: list[Exception | asyncio.Event] = []
        self.pairs: list[tuple[rpc.Session, rpc.Session]] = []

    async def dial(self, asks_anew: bool) -> rpc.Session:
        """Open a session, as a :class:`Connection` asks."""
        self.dials.append(asks_anew)
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            await outcome.wait()
        near, far = rpc.memory_pair(None, self._make_main(), options=SESSION_OPTIONS, right_options=door_options())
        self.pairs.append((near, far))
        return near

    def connect(self, clock: FakeClock | None = None, **options: Any) -> Connection:
        """A connection to here, whose delays have no jitter."""
        return Connection(self.dial, location="here", clock=clock or FakeClock(), **{"chance": lambda: 0.0, **options})

    async def cut(self) -> None:
        """Cut the last session's wire: both ends learn of it, and nothing is said."""
        self.pairs[-1][0]._transport.abort()
        await settle()

    async def close(self) -> None:
        for near, far in self.pairs:
            await near.close()
            await far.close()


async def start(work: Any) -> asyncio.Task[Any]:
    """Begin a coroutine, and let it come as far as it can."""
    task: asyncio.Task[Any] = asyncio.ensure_future(work)
    await settle()
    return task


def get_status(connection: Connection) -> str:
    """How it stands now: for the type checker a property that was compared once stays as it was."""
    return connection.status
