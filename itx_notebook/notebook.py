"""The handle of a notebook: the blocking handle, plus what can be seen, and ``connect()``, which gives it.

Above all rooms, because it joins the handle with the widgets, and neither should know the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from itx_notebook._config import DEFAULT_PROJECT, get_home, get_project
from itx_notebook._loop import run_blocking
from itx_notebook.client import Destination, Link, Loader, Token, find_destination, get_loader, get_remote_loader
from itx_notebook.display import InlineError
from itx_notebook.errors import ItxError, get_itx_error_code
from itx_notebook.handle import AsyncItx, Itx
from itx_notebook.handle.surface import ItxSurface
from itx_notebook.query import prefetch_itx_query, project_stream_state_query
from itx_notebook.streams import parse_stream_path
from itx_notebook.types import Project

if TYPE_CHECKING:
    from itx_notebook.client.remote_loader import RemoteLoader
    from itx_notebook.widgets import StreamTreeBrowser

__all__ = ["NotebookItx", "connect", "create_project"]

_TIMEOUT: Final = 30.0
_PREFETCH_DEADLINE: Final = 2.0


class NotebookItx(Itx):
    """A handle narrowed to one project, with a tree to look at.

    Attributes
    ----------
    aio : AsyncItx
        The async twin, to await in a cell.
    streams : Streams
        ``itx.streams.get("/agents/a")``.
    projects : Projects
        The projects it may narrow to: its own.
    """

    def __init__(self, surface: ItxSurface, loader: Loader | RemoteLoader, *, timeout: float | None) -> None:
        super().__init__(AsyncItx(surface), timeout)
        if surface.project is None:
            raise ItxError("A notebook's handle is narrowed to one project.", code="BAD_REQUEST")
        self._loader = loader
        self._project = surface.project

    @property
    def slug(self) -> str:
        """The project's name for people."""
        return self._project.slug

    @property
    def home(self) -> Path | None:
        """The data directory; ``None`` for an itx elsewhere."""
        return self._loader.home

    @property
    def location(self) -> str:
        """Where the data is: the data directory, or the URL of an itx elsewhere."""
        return self._loader.location

    @property
    def link(self) -> Link:
        """How the way to the engine stands now: ``itx.link.state`` is ``"live"``, or says why not. Never waits."""
        return self._loader.link

    def tree(
        self,
        path: str = "/",
        *,
        expand: Iterable[str] = (),
        select: str | None = None,
        height: int = 420,
        read_only: bool = False,
    ) -> StreamTreeBrowser | InlineError:
        """Show the stream tree, live.

        Paints at once from what is known and follows from then on, also while a cell is busy. Looking leaves no trace
        in the streams. Never raises: what goes wrong is shown where the tree would be.

        Parameters
        ----------
        path : str
            Where the tree begins.
        expand : iterable of str
            Paths to open besides the first level.
        select : str, optional
            The current path; the way to it is opened.
        height : int
            Maximal height of the list, in CSS pixels.
        read_only : bool
            Without the form that appends events; what would write is refused in the kernel as well.

        Examples
        --------
        >>> browser = itx.tree()
        >>> browser.selected_path
        """
        try:
            from itx_notebook.widgets import StreamTreeBrowser

            tree = run_blocking(
                self._open_tree(
                    parse_stream_path(path),
                    [parse_stream_path(each) for each in expand],
                    None if select is None else parse_stream_path(select),
                ),
                timeout=self._timeout,
                what="tree()",
            )
            return StreamTreeBrowser(tree, height=height, read_only=read_only)
        except Exception as error:
            return InlineError(error, doing=f"The stream tree of {self._project.slug} could not be shown")

    async def _open_tree(self, root: str, expand: list[str], select: str | None) -> Any:
        from itx_notebook.tree import LiveTree

        tree = LiveTree(
            self._project,
            queries=self._loader.queries,
            get_itx=self._loader.get_loader_itx,
            root=root,
            expand=expand,
            select=select,
            way=self._loader,
        )
        await tree.prefetch(deadline=_PREFETCH_DEADLINE)
        return tree

    async def prefetch(self) -> None:
        """Bring the root's state into the cache, best effort: the first tree then paints at once. On the I/O loop."""
        query = project_stream_state_query(self._project.id, "/")
        await prefetch_itx_query(query, self._loader.queries, self._loader.get_loader_itx, deadline=_PREFETCH_DEADLINE)

    def close(self) -> None:
        """Close the engine of this data directory, or the connection, for every handle of the process that uses it.

        Repeating is harmless.
        """
        run_blocking(self._loader.close(), timeout=self._timeout, what="close()")

    def _describe_way(self) -> str:
        """Where the data is and how the way there stands, without asking anybody."""
        link = self.link
        return str(self._loader) if link.is_live else f"{self._loader}, {link}"

    def _describe_sources(self) -> str:
        destination = self._loader.destination if self._loader.home is None else None
        return "" if destination is None else destination.describe_sources()

    def __repr__(self) -> str:
        sources = self._describe_sources()
        return f"<Itx {self._project.slug}, {self._describe_way()}{f'; {sources}' if sources else ''}>"

    def _repr_html_(self) -> str:
        slug, identity = escape(self._project.slug), escape(self._project.id)
        sources = escape(self._describe_sources())
        origin = f'<div style="opacity:.7">{sources}</div>' if sources else ""
        return (
            f'<div><b>itx</b> {slug} <span style="opacity:.7">{identity}, {escape(self._describe_way())}</span>{origin}'
            '<div style="opacity:.7">itx.tree() · itx.streams.get("/path") · %itx</div></div>'
        )


def connect(
    project: str | None = None,
    *,
    url: str | None = None,
    token: Token | None = None,
    home: str | os.PathLike[str] | None = None,
    timeout: float | None = _TIMEOUT,
) -> NotebookItx:
    """A blocking handle, narrowed to one project: on the engine in this process, or on an itx elsewhere.

    Without a URL the engine runs in this process, on an SQLite store in the data directory; no server and no account
    are needed. A second kernel on the same directory goes through the first, and takes its place when it ends.

    With one it connects to an itx that is served (``itx-notebook serve``) or deployed. The connection mends itself.

    Parameters
    ----------
    project : str, optional
        Id or slug; else ``ITX_PROJECT``. Else, on the embedded engine, ``"default"``, which is created at first use;
        elsewhere the only project there is.
    url : str, optional
        The deployment's base URL; else, if there is no ``home``, ``ITX_URL``; else, if there is no ``ITX_HOME``
        either, that of the ``iterate`` CLI's config, once somebody has signed in with it. The handle's repr says which.
    token : str or callable, optional
        Proves who you are; else ``ITX_TOKEN``, else the CLI's session if it is for that deployment. A function is
        called at each dial with whether the last token was refused, and returns one (or an awaitable of it).
    home : path, optional
        Data directory; else ``ITX_HOME``, else the platform's place for user data. Made if absent.
    timeout : float, optional
        Seconds for connecting, and later for each call that has no ``timeout`` of its own; ``None`` waits for ever.

    Raises
    ------
    ItxError
        ``NOT_FOUND``: there is no such project, or it is not yours. ``BAD_REQUEST``: the arguments do not fit.
    ItxConnectionError
        There is no connection within five seconds, or it is refused.
    StoreError
        The store is held by another process that lets nobody in, or cannot be used.

    Examples
    --------
    >>> itx = itx_notebook.connect()
    >>> itx = itx_notebook.connect("demo", url="https://itx.example.com", token="itx_…")
    """
    destination = find_destination(project, url=url, token=token, home=home)
    connecting = (
        _connect_here(get_project(project), get_home(home)) if destination is None else _connect_remotely(destination)
    )
    surface, loader = run_blocking(connecting, timeout=timeout, what="connect()")
    return NotebookItx(surface, loader, timeout=timeout)


async def _connect_remotely(destination: Destination) -> tuple[ItxSurface, Loader | RemoteLoader]:
    loader = get_remote_loader(destination)
    await loader.open()
    project = destination.project
    if project is None:
        everywhere: ItxSurface = await loader.get_global_itx()
        found = await everywhere.projects.list(limit=10, offset=0)
        if found.total != 1:
            names = ", ".join(each.slug for each in found.projects) or "none"
            raise ItxError(
                f"Which project of {loader.location}? You have {names}{' …' if found.total > 10 else ''}.",
                code="BAD_REQUEST",
                hint='Name it: connect("demo", url=…), or ITX_PROJECT.',
            )
        project = found.projects[0].id
    return await loader.get_loader_itx(project), loader


async def _connect_here(project: str, home: Path) -> tuple[ItxSurface, Loader | RemoteLoader]:
    loader = get_loader(home)
    await loader.open()
    try:
        return await loader.get_loader_itx(project), loader
    except ItxError as error:
        if get_itx_error_code(error) != "NOT_FOUND":
            raise
        if project != DEFAULT_PROJECT:
            raise error.with_hint(f"To create it: itx_notebook.create_project({project!r}).") from None
    try:
        await (await loader.get_global_itx()).projects.create(project, project_id=None)
    except ItxError as error:
        # Another first connect(), of this process or another, was quicker.
        if get_itx_error_code(error) != "CONFLICT":
            raise
    return await loader.get_loader_itx(project), loader


def create_project(
    slug: str, *, home: str | os.PathLike[str] | None = None, timeout: float | None = _TIMEOUT
) -> Project:
    """Create a project in the embedded store, as its owner. A narrowed handle cannot: it has no more than its project.

    Raises
    ------
    ItxError
        ``CONFLICT``: the slug is taken; ``BAD_REQUEST``: it is not a slug.
    """
    return run_blocking(_create_project(slug, get_home(home)), timeout=timeout, what="create_project()")


async def _create_project(slug: str, home: Path) -> Project:
    loader = get_loader(home)
    await loader.open()
    itx: ItxSurface = await loader.get_global_itx()
    return await itx.projects.create(slug, project_id=None)
