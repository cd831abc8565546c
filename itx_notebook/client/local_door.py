"""The private way into the engine of this process, for other kernels of the same user.

A Unix socket in the data directory where there can be one, which only the user may connect to; elsewhere a port on
loopback that asks for a secret. Which of the two, ``door.json`` beside the store says; only the user may read it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

from itx_notebook import capnweb as rpc
from itx_notebook.client.connection import SESSION_OPTIONS
from itx_notebook.doors import Deployment
from itx_notebook.doors.websocket import OwnerOnly, serve_deployment
from itx_notebook.types import ADMIN, Principal

__all__ = ["LocalDoor", "dial_local_door"]

_DOOR: Final = "door.json"
_SOCKET: Final = "door.sock"
_MAX_SOCKET_PATH_BYTES: Final = 100
"""Of a Unix socket's path; the system's own limit is 104 to 108."""
_PATH: Final = "api/itx"


class LocalDoor:
    """An open door. Made by :meth:`open`."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self._home = home
        self._stack = stack

    @classmethod
    async def open(cls, deployment: Deployment, home: Path) -> Self:
        """Open the door and write down where it is. The caller holds the store, so there is no other."""
        stack = AsyncExitStack()
        try:
            facts = await _listen(deployment, home, stack)
            _write_privately(home / _DOOR, json.dumps(facts))
        except BaseException:
            await stack.aclose()
            raise
        return cls(home, stack)

    async def close(self) -> None:
        """Answer what is asked for, end the sessions, and take the note away. Repeating is harmless."""
        with suppress(OSError):
            (self._home / _DOOR).unlink()
        await self._stack.aclose()


async def _listen(deployment: Deployment, home: Path, stack: AsyncExitStack) -> dict[str, Any]:
    path = home / _SOCKET
    if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        # A file system may have no sockets; then there is still loopback.
        with suppress(OSError):
            await stack.enter_async_context(
                serve_deployment(deployment, OwnerOnly(), unix=path, batch=False, drain_timeout=1.0)
            )
            return {"pid": os.getpid(), "unix": str(path)}
    secret = secrets.token_urlsafe(32)
    server = await stack.enter_async_context(
        serve_deployment(deployment, _WithSecret(secret), origins=(), batch=False, drain_timeout=1.0)
    )
    return {"pid": os.getpid(), "url": server.url, "secret": secret}


class _WithSecret:
    """Lets in who could read the note."""

    def __init__(self, secret: str) -> None:
        self._expected = f"Bearer {secret}"

    async def identify(self, request: rpc.HandshakeRequest) -> Principal | None:
        """Return the admin for the secret."""
        given = request.headers.get("authorization", "")
        return ADMIN if secrets.compare_digest(given.encode(), self._expected.encode()) else None


async def dial_local_door(home: Path) -> rpc.Session:
    """Open a session with the process that holds the store in `home`.

    Raises
    ------
    OSError
        There is no door (yet), or nobody behind it (any more).
    """
    try:
        facts = json.loads((home / _DOOR).read_text())
        unix = facts.get("unix")
        url, headers = (None, {}) if unix else (facts["url"], {"Authorization": f"Bearer {facts['secret']}"})
    except (ValueError, KeyError, AttributeError) as error:
        raise ConnectionRefusedError(f"{home / _DOOR} is damaged: {error!r}") from None
    return await rpc.open_session(
        f"{url or 'ws://localhost/'}{_PATH}", unix=unix, headers=headers, options=SESSION_OPTIONS
    )


def _write_privately(path: Path, text: str) -> None:
    """Write a file that only this user may read, whole or not at all."""
    scratch = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    scratch.replace(path)
