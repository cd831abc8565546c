"""A deployment served to a team: the door with its limits, its TLS, its health and metrics, and an orderly end.

What is configured stands in :class:`ServiceSettings`; from where it comes (arguments, files, the environment), the
command line knows.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from itx_notebook import capnweb as rpc
from itx_notebook.doors.access import access_for_principal
from itx_notebook.doors.credentials import ADMIN_SECRET_MIN, Credentials
from itx_notebook.doors.inprocess import Deployment
from itx_notebook.doors.monitoring import AccessLog, Metrics
from itx_notebook.doors.sessions import Sessions
from itx_notebook.doors.signed_tokens import SignedTokens
from itx_notebook.doors.websocket import serve_deployment
from itx_notebook.errors import ItxError

__all__ = ["Service", "ServiceSettings", "open_service"]

_TEXT: Final = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), ("Cache-Control", "no-store")]
_JSON: Final = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment is served.

    Attributes
    ----------
    origins : sequence of str or None
        The web pages that may connect; ``None``: those of the host that was asked.
    certificate, key : Path or None
        Of TLS; without them the port speaks plain text.
    trusts_proxy : bool
        Whether ``X-Forwarded-For`` and ``X-Forwarded-Proto`` say the truth.
    drain_timeout : float
        Seconds that answers have to go out at the end.
    jwks, jwt_issuer, jwt_audience : str or None
        Whose signed tokens count; all three or none.
    """

    host: str = "127.0.0.1"
    port: int = 4873
    origins: Sequence[str] | None = None
    admin_secret: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    trusts_proxy: bool = False
    max_connections: int = 1000
    max_message_bytes: int = 32 * 1024 * 1024
    drain_timeout: float = 10.0
    jwks: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None

    def __repr__(self) -> str:
        return f"ServiceSettings(host={self.host!r}, port={self.port})"

    @property
    def is_open_line(self) -> bool:
        """Whether credentials would cross a network in plain text."""
        return self.certificate is None and not self.trusts_proxy and self.host not in _LOOPBACK


class Service:
    """A served deployment. Made by :func:`open_service`.

    Attributes
    ----------
    server : Server
        The listening server.
    sessions : Sessions
        Those that are open.
    """

    def __init__(self, server: rpc.Server, sessions: Sessions, tls: ssl.SSLContext | None, settings: ServiceSettings):
        self.server = server
        self.sessions = sessions
        self._tls = tls
        self._settings = settings

    def reload_certificate(self) -> bool:
        """Read certificate and key again, for connections from now on; ``False`` if there are none.

        Raises ``ItxError``, and keeps the old ones.
        """
        if self._tls is None:
            return False
        _load_certificate(self._tls, self._settings)
        return True


@asynccontextmanager
async def open_service(deployment: Deployment, settings: ServiceSettings) -> AsyncIterator[Service]:
    """Serve a deployment until the block ends; then answer what is asked for, and tell everybody goodbye (1001).

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: a setting is not right, or the address cannot be listened on.
    """
    credentials = Credentials(
        deployment.people,
        admin_secret=_check_secret(settings.admin_secret),
        signatures=_get_signatures(deployment, settings),
    )
    sessions = Sessions(deployment.people, deployment.engine.clock)
    metrics = Metrics(deployment, sessions, version("itx-notebook"))
    log = AccessLog(trusts_proxy=settings.trusts_proxy)
    sessions.on_end = log.note_end

    def note_answer(request: rpc.HandshakeRequest | None, status: int, seconds: float) -> None:
        metrics.note_answer(status, seconds)
        log.note_answer(request, status, seconds)

    async def show_health(_: rpc.HandshakeRequest) -> rpc.PostAnswer:
        if deployment.engine.is_closed:
            raise rpc.Refusal(503, '{"status": "closed"}', _JSON)
        return 200, _JSON, b'{"status": "ok"}'

    async def show_metrics(request: rpc.HandshakeRequest) -> rpc.PostAnswer:
        grant = await credentials.identify(request)
        if grant is None or access_for_principal(grant.principal) != "all":
            raise rpc.Refusal(401, "Unauthorized", [("WWW-Authenticate", "Bearer")])
        return 200, _TEXT, metrics.render().encode()

    def is_secure(request: rpc.HandshakeRequest) -> bool:
        is_forwarded = settings.trusts_proxy and request.headers.get("x-forwarded-proto", "").lower() == "https"
        return request.is_secure or is_forwarded

    limits = rpc.Limits(max_message_bytes=settings.max_message_bytes)
    tls = _make_tls(settings)
    serving = serve_deployment(
        deployment,
        credentials,
        host=settings.host,
        port=settings.port,
        origins=settings.origins,
        options=rpc.Options(limits=limits, on_call_error=metrics.note_call_error),
        sessions=sessions,
        pages={"/healthz": show_health, "/metrics": show_metrics},
        is_secure=is_secure,
        ssl=tls,
        on_answer=note_answer,
        max_connections=settings.max_connections,
        drain_timeout=settings.drain_timeout,
    )
    try:
        server = await serving.__aenter__()
    except OSError as error:
        raise ItxError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror or error}.",
            code="BAD_REQUEST",
            hint="Choose another --port, or end what listens there.",
        ) from None
    deployment.become_served(server.url)
    try:
        yield Service(server, sessions, tls, settings)
    finally:
        await serving.__aexit__(None, None, None)


def _check_secret(secret: str | None) -> str | None:
    if secret is not None and len(secret) < ADMIN_SECRET_MIN:
        raise ItxError(
            f"The admin secret has fewer than {ADMIN_SECRET_MIN} characters.",
            code="BAD_REQUEST",
            hint="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return secret


def _get_signatures(deployment: Deployment, settings: ServiceSettings) -> SignedTokens | None:
    keys, issuer, audience = settings.jwks, settings.jwt_issuer, settings.jwt_audience
    if keys and issuer and audience:
        return SignedTokens(keys, issuer=issuer, audience=audience, clock=deployment.engine.clock)
    if keys or issuer or audience:
        raise ItxError(
            "Signed tokens need three things: where the keys are, the issuer and the audience.",
            code="BAD_REQUEST",
            hint="Give --jwks, --jwt-issuer and --jwt-audience together.",
        )
    return None


def _make_tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: ServiceSettings) -> None:
    assert settings.certificate is not None  # noqa: S101  # there would be no context
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise ItxError(
            f"The TLS certificate {settings.certificate} cannot be used: {error.strerror or error}.",
            code="BAD_REQUEST",
            hint="Give --tls-cert and --tls-key files in PEM format that belong together.",
        ) from None
