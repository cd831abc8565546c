"""The WebSocket door: who asks is settled in the handshake, and the main object of the session is the handle.

========================  ============================================  =====================================
path                      who                                           main object
========================  ============================================  =====================================
``/api/itx``              anybody signed in                             the whole deployment, as far as it may see
``/api/itx/<project>``    who may see the project, by id or slug        that project
========================  ============================================  =====================================

401 says that nobody is signed in. 404 says that there is no such project or that it is not yours, and does not say
which. The same paths answer POST with an HTTP batch. Source: the June-2026 itx kernel.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import unquote

from itx_notebook import capnweb as rpc
from itx_notebook.doors.inprocess import Deployment, get_global_itx, get_server_itx
from itx_notebook.doors.targets import ItxTarget, tag_outbound_error
from itx_notebook.errors import ItxError
from itx_notebook.types import ADMIN, Principal

__all__ = ["Authenticator", "OwnerOnly", "door_options", "serve_deployment"]

_JSON: Final = (("Content-Type", "application/json"),)


class Authenticator(Protocol):
    """Tells who is calling."""

    async def identify(self, request: rpc.HandshakeRequest) -> Principal | None:
        """Return the principal of a request; ``None`` for nobody."""
        ...


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
    **arguments: Any,
) -> AsyncIterator[rpc.Server]:
    """Serve a deployment on one port, or on a Unix socket.

    Parameters
    ----------
    deployment : Deployment
        What is behind the door. Closing it is the caller's, after the door is closed.
    authenticator : Authenticator
        Tells who is calling.
    host, port, unix, origins
        Where to listen, and the web pages that may connect.
    options : Options, optional
        Limits of a session. Errors are tagged with their code in any case.
    **arguments
        What else :func:`itx_notebook.capnweb.serve` takes.
    """
    door = _Door(deployment, authenticator)
    async with rpc.serve(
        _main_of,
        host,
        port,
        unix=unix,
        origins=origins,
        authenticate=door.admit,
        options=door_options(options),
        **arguments,
    ) as server:
        yield server


def door_options(options: rpc.Options | None = None) -> rpc.Options:
    """How the sessions of a door behave: `options`, and every error that leaves carries a code."""
    return replace(options or rpc.Options(), on_send_error=tag_outbound_error)


def _main_of(request: rpc.HandshakeRequest) -> Any:
    """What :meth:`_Door.admit` decided."""
    return request.principal


class _Door:
    """From a request to the main object of its session, or to a refusal."""

    def __init__(self, deployment: Deployment, authenticator: Authenticator) -> None:
        self._deployment = deployment
        self._authenticator = authenticator

    async def admit(self, request: rpc.HandshakeRequest) -> rpc.RpcTarget:
        """Return the main object for `request`; raise :class:`Refusal`."""
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["api", "itx"] or len(parts) > 3:
            raise rpc.Refusal(404, '{"error": "not found"}', _JSON)
        principal = await self._authenticator.identify(request)
        if principal is None:
            raise rpc.Refusal(401, "Unauthorized")
        if len(parts) == 2:
            return ItxTarget(get_global_itx(self._deployment, principal))
        try:
            return ItxTarget(get_server_itx(self._deployment, unquote(parts[2]), principal))
        except ItxError:
            raise rpc.Refusal(404, '{"code": "NOT_FOUND", "error": "Context not found"}', _JSON) from None
