"""What a served deployment tells of itself: counts for Prometheus, and one line per request and session.

Neither holds anything secret: of a request the path without its query, of a caller the user's id and how it was proved.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from typing import Any, Final

from itx_notebook import capnweb as rpc
from itx_notebook._clock import iso_from_ms
from itx_notebook.doors.inprocess import Deployment
from itx_notebook.doors.sessions import Admission, Sessions
from itx_notebook.errors import get_itx_error_code

__all__ = ["ACCESS_LOGGER", "AccessLog", "Metrics", "get_peer"]

ACCESS_LOGGER: Final = "itx_notebook.access"
_PATH_MAX: Final = 500


class Metrics:
    """Counts since the start, in Prometheus' text format."""

    def __init__(self, deployment: Deployment, sessions: Sessions, version: str) -> None:
        self._deployment = deployment
        self._sessions = sessions
        self._version = version
        self._started = time.time()
        self._answers: Counter[int] = Counter()
        self._answer_seconds = 0.0
        self._call_errors: Counter[str] = Counter()

    def note_answer(self, status: int, seconds: float) -> None:
        """Count an HTTP answer."""
        self._answers[status] += 1
        self._answer_seconds += seconds

    def note_call_error(self, _: Any, error: BaseException) -> None:
        """Count a call that was refused or failed."""
        self._call_errors[get_itx_error_code(error) or "INTERNAL"] += 1

    def render(self) -> str:
        """The page that is scraped."""
        sessions, engine = self._sessions, self._deployment.engine
        families: list[tuple[str, str, str, list[tuple[str, float]]]] = [
            ("itx_build_info", "gauge", "Version of the server.", [(f'version="{self._version}"', 1)]),
            ("itx_start_time_seconds", "gauge", "When the server started.", [("", round(self._started, 3))]),
            ("itx_sessions", "gauge", "Open sessions.", _by("dialect", sessions.count())),
            ("itx_sessions_opened_total", "counter", "Sessions opened.", _by("dialect", sessions.opened)),
            (
                "itx_sessions_ended_total",
                "counter",
                "Sessions ended because their credentials no longer count.",
                _by("grant", sessions.ended),
            ),
            ("itx_http_answers_total", "counter", "HTTP answers, 101 for a session.", _by("status", self._answers)),
            ("itx_http_answer_seconds_total", "counter", "Time to answer.", [("", round(self._answer_seconds, 6))]),
            ("itx_call_errors_total", "counter", "Calls refused or failed.", _by("code", self._call_errors)),
            (
                "itx_events_committed_total",
                "counter",
                "Events appended, the engine's own facts included.",
                [("", engine.committed_events)],
            ),
            ("itx_commits_total", "counter", "Transactions in which they were.", [("", engine.commits)]),
            ("itx_projects", "gauge", "Projects.", [("", len(self._deployment.directory.get_all()))]),
            ("itx_users", "gauge", "Users.", [("", len(self._deployment.people.get_users()))]),
        ]
        lines: list[str] = []
        for name, kind, text, samples in families:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{f'{{{labels}}}' if labels else ''} {value}" for labels, value in samples]
        return "\n".join(lines) + "\n"


def _by(label: str, counts: Counter[Any]) -> list[tuple[str, float]]:
    return [(f'{label}="{value}"', counts[value]) for value in sorted(counts)]


class AccessLog:
    """Writes one JSON object per line to the logger :data:`ACCESS_LOGGER`.

    Parameters
    ----------
    trusts_proxy : bool
        Whether the peer is whom the proxy in front says.
    """

    def __init__(self, *, trusts_proxy: bool) -> None:
        self._log = logging.getLogger(ACCESS_LOGGER)
        self._trusts_proxy = trusts_proxy

    def note_answer(self, request: rpc.HandshakeRequest | None, status: int, seconds: float) -> None:
        """Write down an HTTP answer."""
        facts: dict[str, Any] = {"status": status, "ms": round(seconds * 1000, 1)}
        if request is not None:
            facts["method"] = request.method
            facts["path"] = request.path[:_PATH_MAX]
            facts["peer"] = get_peer(request, trusts_proxy=self._trusts_proxy)
            if isinstance(request.principal, Admission):
                facts |= _describe(request.principal)
        self._write("answer", facts)

    def note_end(self, admission: Admission, seconds: float) -> None:
        """Write down the end of a session."""
        self._write("session-end", {"seconds": round(seconds, 1), **_describe(admission)})

    def _write(self, kind: str, facts: dict[str, Any]) -> None:
        # ASCII: what a client put into a path can neither break a line nor move a terminal's cursor.
        self._log.info("%s", json.dumps({"time": iso_from_ms(time.time_ns() // 1_000_000), "event": kind, **facts}))


def _describe(admission: Admission) -> dict[str, Any]:
    grant = admission.grant
    who = {} if grant is None else {"who": grant.label, "by": grant.kind}
    if grant is not None and grant.token_id is not None:
        who["token"] = grant.token_id
    return {"dialect": admission.dialect, **who}


def get_peer(request: rpc.HandshakeRequest, *, trusts_proxy: bool) -> str:
    """Where a request came from: the socket's other end, or, behind a proxy, whom that saw."""
    if trusts_proxy:
        # The last one is the proxy's own word; what stands before it anybody can send.
        seen = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if seen:
            return seen
    return request.peer
