"""The open sessions of a door, and whether they may stay open.

Who may do what is asked once, when a session begins. So that this is no licence for ever, a session whose grant no
longer holds is ended: its token was revoked or has expired, its user was removed or lost a project. What its client
does then, it does with nothing; connecting again is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from itx_notebook import capnweb as rpc
from itx_notebook._clock import Clock, TimerHandle
from itx_notebook.doors.credentials import Grant
from itx_notebook.doors.people import People

__all__ = ["AUTHENTICATE_TIMEOUT", "INVALID_AUTH", "Admission", "AuthError", "Sessions"]

INVALID_AUTH: Final = "missing or invalid auth"
"""What a session is told that has proved nothing, or no longer anything: the words that v4 clients know."""

AUTHENTICATE_TIMEOUT: Final = 15.0
"""Seconds in which a v4 session has to say who it is; the v4 client gives up after as many."""

_MAX_WAIT: Final = 60.0
"""Seconds between two looks whether a grant has expired: timers do not follow a wall clock that is set meanwhile."""


class AuthError(rpc.RpcError):
    """A call or a session without credentials that count. Crosses the wire as a plain error, as in v4."""

    def __init__(self) -> None:
        super().__init__(INVALID_AUTH)


class Admission:
    """One session from its handshake on: by which grant it is open, and what its peer may call first.

    Attributes
    ----------
    dialect : str
        ``"june"``, ``"v4"`` or ``"engine"``.
    """

    def __init__(self, dialect: str, main: rpc.RpcTarget | None = None, grant: Grant | None = None) -> None:
        self.dialect = dialect
        self.main = main
        self.grant = grant
        self.waits: set[asyncio.Future[Any]] = set()
        """What the peer waits for that would outlive its session."""
        self.on_grant: Callable[[], object] | None = None
        """Told when the session says who it is."""
        self._sessions: Sessions | None = None
        self._session: rpc.Session | None = None
        self._timer: TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Admission({self.dialect}, {'nobody' if self.grant is None else self.grant.label})"

    def set_grant(self, grant: Grant) -> None:
        """The session has said who it is."""
        self.grant = grant
        if self.on_grant is not None:
            self.on_grant()
        if self._sessions is not None:
            self._sessions.check(self)

    def attach(self, sessions: Sessions, session: rpc.Session) -> None:
        """The session is open."""
        self._sessions, self._session = sessions, session

    def end(self) -> None:
        """End the session, and say why."""
        if self._session is not None and self._session.error is None:
            self._session.abort(AuthError())

    def cancel_waits(self) -> None:
        """The peer is gone, or its batch: nobody waits any more."""
        for wait in tuple(self.waits):
            wait.cancel()

    def set_timer(self, timer: TimerHandle | None) -> None:
        """Look again in a while; call off what was planned before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer


class Sessions:
    """The sessions of one server, each under its grant. On the engine's loop.

    Attributes
    ----------
    opened, ended : Counter
        How many there were so far by dialect, and how many of them the door ended by kind of grant.
    on_end : callable, optional
        Told of each session that has ended, and how many seconds it lasted.
    """

    def __init__(self, people: People, clock: Clock) -> None:
        self.opened: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.on_end: Callable[[Admission, float], None] | None = None
        self._people = people
        self._clock = clock
        self._open: dict[rpc.Session, Admission] = {}
        self._unwatch = people.watch(self._check_all)

    def __len__(self) -> int:
        return len(self._open)

    def count(self) -> Counter[str]:
        """How many are open, by dialect."""
        return Counter(admission.dialect for admission in self._open.values())

    def add(self, session: rpc.Session, admission: Admission) -> None:
        """A session has begun."""
        self.opened[admission.dialect] += 1
        self._open[session] = admission
        admission.attach(self, session)
        began = self._clock.monotonic()

        def forget() -> None:
            self._open.pop(session, None)
            if self.on_end is not None:
                self.on_end(admission, self._clock.monotonic() - began)
            admission.set_timer(None)

        session.call_when_closed(forget)
        self.check(admission)

    def check(self, admission: Admission) -> None:
        """End a session that may not stay; look again when its time is up."""
        grant = admission.grant
        now = self._clock.now_ms()
        if grant is None:
            admission.set_timer(self._clock.call_later(AUTHENTICATE_TIMEOUT, lambda: self._give_up(admission)))
        elif not grant.still_holds(self._people, now):
            self.ended[grant.kind] += 1
            admission.end()
        elif grant.expires_at_ms is not None:
            wait = min(_MAX_WAIT, (grant.expires_at_ms - now) / 1000)
            admission.set_timer(self._clock.call_later(wait, lambda: self.check(admission)))
        else:
            admission.set_timer(None)

    def _give_up(self, admission: Admission) -> None:
        if admission.grant is None:
            self.ended["nobody"] += 1
            admission.end()

    def _check_all(self) -> None:
        for admission in tuple(self._open.values()):
            if admission.grant is not None:
                self.check(admission)

    def close(self) -> None:
        """Look no more."""
        self._unwatch()
        for admission in self._open.values():
            admission.set_timer(None)
