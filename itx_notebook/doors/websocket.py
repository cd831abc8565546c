"""The WebSocket door: from a request to the main object of its session, or to a refusal.

=========================  ============================================  ==========================================
path                       who                                           main object
=========================  ============================================  ==========================================
``/api/itx``               anybody signed in                             the whole deployment, as far as they may see
``/api/itx/<project>``     who may see the project, by id or slug        that project
``/api/itx/run``           anybody signed in                             none: 503, scripts are not run
``/api``                   anybody                                       ``authenticate``, which gives the rest (v4)
``/api/streams/<path>``    admins                                        the engine's own RPC of one stream
=========================  ============================================  ==========================================

401 says that nobody is signed in. 404 says that there is no such thing or that it is not yours, and does not say
which. The same paths answer POST with an HTTP batch. Source: the June-2026 itx kernel, and July's for ``/api``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from itx_notebook import capnweb as rpc
from itx_notebook.doors.access import access_for_principal
from itx_notebook.doors.credentials import (
    Authenticator,
    Credentials,
    Grant,
    as_grant,
    format_admin_cookie,
    get_bearer,
)
from itx_notebook.doors.directory import GLOBAL_NAMESPACE
from itx_notebook.doors.engine_rpc import EngineStreamTarget
from itx_notebook.doors.inprocess import Deployment, get_global_itx, get_server_itx
from itx_notebook.doors.sessions import Admission, Sessions
from itx_notebook.doors.targets import ItxTarget, tag_outbound_error
from itx_notebook.doors.v4 import RootTarget
from itx_notebook.errors import ItxError
from itx_notebook.streams import parse_stream_path
from itx_notebook.types import ADMIN, Principal

__all__ = ["Authenticator", "OwnerOnly", "Page", "door_options", "serve_deployment"]

_JSON: Final = (("Content-Type", "application/json"),)
_NO_LOADER: Final = '{"code": "INTERNAL", "error": "LOADER binding not available"}'
"""What the original answers where it has nothing that loads scripts. They are JavaScript, for an isolate that can reach
one project and nothing else; here there is none, and code that came over a wire is never run in this process."""

_COOKIE_BODY_MAX: Final = 4096
_UNKNOWN_MAX: Final = 64 * 1024
"""Bytes that are read of a socket before it has said who it is. What comes behind waits outside, until it has."""

_BATCH_MAX: Final = 1024 * 1024
"""Bytes of a batch that says in itself who sends it."""
_OPTIONS: Final = rpc.Options(limits=rpc.Limits(max_outbound_bytes=64 * 1024 * 1024))
"""An answer may be as large as a message may be: an event of 20 MiB can be read. Subscribers are kept far below it."""

Page = Callable[[rpc.HandshakeRequest], Awaitable[rpc.PostAnswer]]
"""Answers a GET of one path; raises ``Refusal``."""


class OwnerOnly:
    """For a door that only the owner of the store can reach: whoever comes is the owner."""

    async def identify(self, request: rpc.HandshakeRequest) -> Principal | None:
        """Return the admin."""
        return ADMIN


@asynccontextmanager
async def serve_deployment(
    deployment: Deployment,
    authenticator: Authenticator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    unix: str | os.PathLike[str] | None = None,
    origins: Sequence[str] | None = None,
    options: rpc.Options | None = None,
    sessions: Sessions | None = None,
    pages: dict[str, Page] | None = None,
    is_secure: Callable[[rpc.HandshakeRequest], bool] = lambda request: request.is_secure,
    **arguments: Any,
) -> AsyncIterator[rpc.Server]:
    """Serve a deployment on one port, or on a Unix socket.

    Parameters
    ----------
    deployment : Deployment
        What is behind the door. Closing it is the caller's, after the door is closed.
    authenticator : Authenticator
        Tells who is calling. If it is a :class:`Credentials`, ``/api`` and the admin's cookie work too.
    host, port, unix, origins
        Where to listen, and the web pages that may connect.
    options : Options, optional
        Limits of a session. Errors are tagged with their code in any case.
    sessions : Sessions, optional
        Keeps the open sessions; one of the door's own if ``None``.
    pages : dict, optional
        What else answers GET, by path: health, metrics.
    is_secure : callable, optional
        Whether a request came over TLS, all the way from the browser.
    **arguments
        What else :func:`itx_notebook.capnweb.serve` takes.
    """
    # Not `or`: one without sessions is as good as any.
    kept = Sessions(deployment.people, deployment.engine.clock) if sessions is None else sessions
    options = door_options(options)
    door = _Door(deployment, authenticator, pages or {}, is_secure, options)

    def note(session: rpc.Session, request: rpc.HandshakeRequest) -> None:
        kept.add(session, request.principal)

    try:
        async with rpc.serve(
            _main_of,
            host,
            port,
            unix=unix,
            origins=origins,
            authenticate=door.admit,
            on_request=door.answer,
            on_connection=_read_little_of_nobody,
            on_session=note,
            options=options,
            **arguments,
        ) as server:
            yield server
    finally:
        kept.close()


def door_options(options: rpc.Options | None = None) -> rpc.Options:
    """How the sessions of a door behave: `options`, and every error that leaves carries a code."""
    return replace(options or _OPTIONS, on_send_error=tag_outbound_error)


def _read_little_of_nobody(connection: Any, request: rpc.HandshakeRequest) -> None:
    """Who has proved nothing yet can neither make this process hold much nor do much."""
    admission: Admission = request.principal
    if admission.grant is None:
        connection.limit_input(_UNKNOWN_MAX)
        admission.on_grant = lambda: connection.limit_input(None)


def _main_of(request: rpc.HandshakeRequest) -> Any:
    """What :meth:`_Door.admit` decided."""
    return request.principal.main


class _Door:
    """Decides on each request, in the order the original does: path, cookie, who, what, method."""

    def __init__(
        self,
        deployment: Deployment,
        authenticator: Authenticator,
        pages: dict[str, Page],
        is_secure: Callable[[rpc.HandshakeRequest], bool],
        options: rpc.Options,
    ) -> None:
        self._deployment = deployment
        self._authenticator = authenticator
        self._credentials = authenticator if isinstance(authenticator, Credentials) else None
        self._pages = pages
        self._is_secure = is_secure
        self._options = options

    async def admit(self, request: rpc.HandshakeRequest) -> Admission:
        """Return what a session begins with; raise :class:`Refusal`."""
        match request.path.strip("/").split("/"):
            case ["api"]:
                return self._admit_anybody(request)
            case ["api", "itx"]:
                grant = await self._identify(request)
                return Admission("june", ItxTarget(get_global_itx(self._deployment, grant.principal)), grant)
            case ["api", "itx", "run"]:
                await self._identify(request)
                raise rpc.Refusal(503, _NO_LOADER, _JSON)
            case ["api", "itx", target]:
                grant = await self._identify(request)
                return Admission("june", self._narrow(unquote(target), grant), grant)
            case ["api", "streams", path]:
                return self._admit_to_stream(request, path, await self._identify(request))
            case _:
                raise _not_found()

    def _admit_anybody(self, request: rpc.HandshakeRequest) -> Admission:
        if self._credentials is None:
            raise _not_found()
        admission = Admission("v4")
        admission.main = RootTarget(self._deployment, self._credentials, request, admission)
        return admission

    def _narrow(self, target: str, grant: Grant) -> ItxTarget:
        try:
            return ItxTarget(get_server_itx(self._deployment, target, grant.principal))
        except ItxError:
            raise rpc.Refusal(404, '{"code": "NOT_FOUND", "error": "Context not found"}', _JSON) from None

    def _admit_to_stream(self, request: rpc.HandshakeRequest, path: str, grant: Grant) -> Admission:
        # Of streams, too, nobody is told which there are that are not theirs.
        if access_for_principal(grant.principal) != "all":
            raise _not_found()
        try:
            namespaces = parse_qs(request.query, max_num_fields=8).get("namespace", [GLOBAL_NAMESPACE])
            stream = self._deployment.engine.stream(namespaces[-1], parse_stream_path(unquote(path)))
        except ItxError as error:
            raise rpc.Refusal(400, error.message) from None
        except ValueError:
            raise rpc.Refusal(400, "The query has too many fields.") from None
        admission = Admission("engine", grant=grant)
        admission.main = EngineStreamTarget(stream, admission)
        return admission

    async def _identify(self, request: rpc.HandshakeRequest) -> Grant:
        grant = as_grant(await self._authenticator.identify(request))
        if grant is None:
            raise rpc.Refusal(401, "Unauthorized")
        return grant

    async def answer(self, request: rpc.HandshakeRequest, read_body: rpc.ReadBody) -> rpc.PostAnswer | None:
        """Answer a request that is no handshake; ``None`` leaves a POST to be taken for a batch."""
        if request.path == "/api/itx/admin-cookie" and self._credentials is not None:
            return await self._answer_cookie(request, read_body)
        if request.method == "POST":
            return await self._answer_batch(request, read_body) if request.path.strip("/") == "api" else None
        page = self._pages.get(request.path)
        if page is not None and request.method == "GET":
            return await page(request)
        admission = await self.admit(request)
        only = "WebSocket requests" if admission.dialect == "v4" else "POST or WebSocket requests"
        raise rpc.Refusal(400, f"This endpoint only accepts {only}.")

    async def _answer_batch(self, request: rpc.HandshakeRequest, read_body: rpc.ReadBody) -> rpc.PostAnswer:
        """A batch from nobody known: of other doors' batches it is known before they are read whose they are."""
        admission = self._admit_anybody(request)
        answer = await rpc.answer_batch(await read_body(_BATCH_MAX), admission.main, options=self._options)
        return 200, [], answer

    async def _answer_cookie(self, request: rpc.HandshakeRequest, read_body: rpc.ReadBody) -> rpc.PostAnswer:
        assert self._credentials is not None  # noqa: S101  # asked by the caller
        if request.method == "OPTIONS":
            allowed = [
                ("Access-Control-Allow-Methods", "POST, OPTIONS"),
                ("Access-Control-Allow-Headers", "Authorization, Content-Type"),
                ("Access-Control-Allow-Credentials", "true"),
            ]
            return 204, allowed, b""
        if request.method != "POST":
            raise rpc.Refusal(405, "POST the admin secret.", [("Allow", "POST, OPTIONS")])
        secret = get_bearer(request)
        if secret is None:
            secret = (await read_body(_COOKIE_BODY_MAX)).decode(errors="replace").strip()
        if not self._credentials.is_admin_secret(secret):
            raise rpc.Refusal(401, "Unauthorized")
        cookie = format_admin_cookie(secret, is_secure=self._is_secure(request))
        headers = [*_JSON, ("Set-Cookie", cookie), ("Cache-Control", "no-store")]
        return 200, [*headers, ("Access-Control-Allow-Credentials", "true")], b'{"ok": true}'


def _not_found() -> rpc.Refusal:
    return rpc.Refusal(404, '{"error": "not found"}', _JSON)
