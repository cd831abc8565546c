"""The loader of an itx that is served or deployed elsewhere: the members of :class:`Loader`, over one socket.

Handles, trees and prefetches of one deployment and identity share it, and so one socket and one query cache. Two
identities are two loaders: what one may see never answers the other's question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from itx_notebook import capnweb as rpc
from itx_notebook._clock import Clock, SystemClock
from itx_notebook.client.connection import FIRST_DELAY, LAST_DELAY, SESSION_OPTIONS, Connection
from itx_notebook.client.destination import Destination
from itx_notebook.client.link import Link, get_link
from itx_notebook.client.remote import RemoteItx
from itx_notebook.errors import ItxConnectionError
from itx_notebook.query import QueryClient
from itx_notebook.types import Project

__all__ = ["RemoteLoader"]

_FIRST_CONNECT: Final = 5.0
"""Seconds in which the first connection must stand: whoever gave a wrong address should not wait long to hear it."""

_TRANSPORT: Final = rpc.TransportOptions(close_timeout=1.0)
"""A kernel that ends does not wait five seconds for a peer that is gone."""


class RemoteLoader:
    """Access to one deployment as one identity. On the I/O loop.

    Parameters
    ----------
    destination : Destination
        Where, and as whom.

    Attributes
    ----------
    queries : QueryClient
        The cache that everything of this deployment and identity shares.
    """

    home: Final = None

    def __init__(self, destination: Destination, *, clock: Clock | None = None) -> None:
        self.destination = destination
        self.queries = QueryClient(clock or SystemClock())
        self._connection: Connection | None = None
        self._projects: dict[str, tuple[Project, str | None]] = {}
        self._listeners: dict[object, Callable[[], object]] = {}

    @property
    def location(self) -> str:
        """The deployment's URL."""
        return self.destination.url

    @property
    def is_open(self) -> bool:
        """Whether it has a connection, be it there or being mended."""
        return self._connection is not None

    @property
    def connection(self) -> Connection | None:
        """The socket's keeper."""
        return self._connection

    @property
    def link(self) -> Link:
        """How the connection stands."""
        return get_link(self._connection)

    def subscribe_link(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` whenever :attr:`link` has changed; returns the function that ends it."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def __str__(self) -> str:
        return f"itx at {self.location}"

    async def open(self) -> None:
        """Connect; a connection that was refused is tried anew. Repeating is harmless.

        Raises
        ------
        ItxConnectionError
            There is none within five seconds, or it is refused.
        """
        if self._connection is None:
            self._connection = Connection(
                self._dial,
                location=self.location,
                clock=self.queries.clock,
                first_delay=FIRST_DELAY,
                last_delay=LAST_DELAY,
            )
            self._connection.subscribe_status(self._tell)
        elif self._connection.status == "refused":
            self._connection.reconnect()
        try:
            await self._connection.ready(_FIRST_CONNECT)
        except ItxConnectionError as error:
            # Nobody has a handle yet that could wait for it to mend.
            if not error.is_final and not self._projects:
                await self.close()
            raise

    async def _dial(self, are_refused: bool) -> rpc.Session:  # noqa: FBT001  # as every dial is called
        destination = self.destination
        headers = await destination.get_headers(are_refused)
        return await rpc.open_session(
            destination.door_url, headers=headers, options=SESSION_OPTIONS, transport_options=_TRANSPORT
        )

    async def get_loader_itx(self, project_id_or_slug: str) -> RemoteItx:
        """The view of a project; raises the masked ``NOT_FOUND``, or why there is no connection."""
        connection = self._get_connection()
        known = self._projects.get(project_id_or_slug)
        if known is not None:
            return RemoteItx(connection, *known)
        view = await RemoteItx(connection).projects.get(project_id_or_slug)
        if view.project is not None:
            self._projects[project_id_or_slug] = view.project, view.context
            self._projects.setdefault(view.project.id, (view.project, None))
        return view

    async def get_global_itx(self) -> RemoteItx:
        """The view of all that this identity may see."""
        return RemoteItx(self._get_connection())

    async def close(self) -> None:
        """Close the connection, for every handle on it; :meth:`open` makes another. Repeating is harmless."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._tell()
            await connection.close()

    def _get_connection(self) -> Connection:
        if self._connection is None:
            raise ItxConnectionError(
                f"The connection to {self.location} was closed.",
                is_final=True,
                hint="Connect again: %itx connect, or itx = itx_notebook.connect(...).",
            )
        return self._connection

    def _tell(self, _status: object = None) -> None:
        for listener in tuple(self._listeners.values()):
            listener()
