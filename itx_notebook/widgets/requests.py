"""What a browser asks and waits for: a page of events, an event appended, a stream made. Answered on the I/O loop.

Apart from the widget because these take time and may fail each by itself. The channel is lossy, so a browser asks again
under the same number until it has its answer: what is under way is let go on, what was answered is done again, and
doing it again changes nothing. Every request is answered, in the end by an error.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from itx_notebook.errors import ItxError
from itx_notebook.tree import append_once, create_child, make_node_error, read_page

__all__ = ["RELOAD", "AppendRequest", "CreateRequest", "PageRequest", "Requests", "parse_request"]

RELOAD: Final = "Reload the page: its code may be of another version than the kernel's."
PATIENCE: Final = 10.0
"""Seconds until a request is answered by an error."""
_MAX_PAGES: Final = 4
"""Pages read at once. A view asks for one at a time, but there may be several pages open on one widget."""


class PageRequest(msgspec.Struct, frozen=True):
    """See ``js/src/channel.ts``."""

    request: int
    path: str
    before: int | None
    after: int | None
    type: str | None


class AppendRequest(msgspec.Struct, frozen=True):
    """See ``js/src/channel.ts``. ``payload`` is JSON as it was typed."""

    request: str
    path: str
    type: str
    payload: str | None


class CreateRequest(msgspec.Struct, frozen=True):
    """See ``js/src/channel.ts``."""

    request: int
    parent: str
    name: str


_R = TypeVar("_R", PageRequest, AppendRequest, CreateRequest)
_K = TypeVar("_K", int, str)
_T = TypeVar("_T")


def parse_request(content: Any, kind: type[_R]) -> _R:
    """A message as the request it must be, or ``BAD_REQUEST``."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ItxError(f"The browser's request is not one: {error}.", code="BAD_REQUEST", hint=RELOAD) from None


class Way(Protocol):
    """Where streams come from."""

    async def get_itx(self) -> Any:
        """The project's handle of this moment."""
        ...


class Requests:
    """The requests of one widget.

    Parameters
    ----------
    tell : callable
        Sends a message to the browser.
    is_read_only : callable
        Whether nothing may be written now.
    """

    def __init__(
        self, way: Way, tell: Callable[[dict[str, Any]], None], *, is_read_only: Callable[[], bool] = lambda: False
    ) -> None:
        self._way = way
        self._tell = tell
        self._is_read_only = is_read_only
        self._pages: dict[int, asyncio.Task[None]] = {}
        self._appends: dict[str, asyncio.Task[None]] = {}
        self._creations: dict[int, asyncio.Task[None]] = {}

    def begin_page(self, asked: PageRequest) -> None:
        """Read a page and send it. The oldest of many gives way: whoever still waits for it asks again."""
        if asked.request in self._pages:
            return
        while len(self._pages) >= _MAX_PAGES:
            self._pages.pop(next(iter(self._pages))).cancel()
        self._begin(self._pages, asked.request, self._send_page(asked))

    def begin_append(self, asked: AppendRequest) -> None:
        """Append an event, once for all requests of one number, and send its offset."""
        if asked.request not in self._appends:
            self._begin(self._appends, asked.request, self._send_appended(asked))

    def begin_create(self, asked: CreateRequest) -> None:
        """Make a stream and send its path; one that exists is told like a new one."""
        if asked.request not in self._creations:
            self._begin(self._creations, asked.request, self._send_created(asked))

    def close(self) -> None:
        """Break off the reading. What writes comes to its end: somebody was told that it is under way."""
        for task in self._pages.values():
            task.cancel()
        self._pages.clear()

    def _begin(self, under_way: dict[_K, asyncio.Task[None]], key: _K, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        under_way[key] = task

        def end(ended: asyncio.Task[None]) -> None:
            if under_way.get(key) is ended:
                del under_way[key]

        task.add_done_callback(end)

    async def _send_page(self, asked: PageRequest) -> None:
        answer: dict[str, Any] = {"kind": "events", "request": asked.request, "error": None}
        try:
            answer |= await self._attempt(
                lambda itx: read_page(
                    itx.streams.get(asked.path), before=asked.before, after=asked.after, event_type=asked.type
                ),
                late=ItxError(
                    f"The events of {asked.path} were not read within {PATIENCE:g} s.",
                    code="INTERNAL",
                    hint="Try again; the status of the tree says whether its streams can be reached.",
                ),
            )
        except Exception as error:
            failure = msgspec.to_builtins(make_node_error(error))
            answer |= {"events": [], "before": None, "about": None, "error": failure}
        self._tell(answer)

    async def _send_appended(self, asked: AppendRequest) -> None:
        await self._write(
            {"kind": "appended", "request": asked.request, "offset": None, "error": None},
            lambda itx: append_once(
                itx.streams.get(asked.path), key=asked.request, event_type=asked.type, payload=asked.payload
            ),
            result="offset",
            late=ItxError(
                f"{asked.path} has not answered within {PATIENCE:g} s; the event may be there or not.",
                code="INTERNAL",
                hint="Retry: however often it is sent, it is there once.",
            ),
        )

    async def _send_created(self, asked: CreateRequest) -> None:
        await self._write(
            {"kind": "created", "request": asked.request, "path": None, "error": None},
            lambda itx: create_child(itx, asked.parent, asked.name),
            result="path",
            late=ItxError(
                f"{asked.name} was not made below {asked.parent} within {PATIENCE:g} s; it may be there or not.",
                code="INTERNAL",
                hint="Retry: it is made once.",
            ),
        )

    async def _write(
        self, answer: dict[str, Any], work: Callable[[Any], Awaitable[object]], *, result: str, late: ItxError
    ) -> None:
        """Do what writes, if it may be done, and send the answer with its result or its error."""
        try:
            self._check_writable()
            answer[result] = await self._attempt(work, late=late)
        except Exception as error:
            answer["error"] = msgspec.to_builtins(make_node_error(error))
        self._tell(answer)

    def _check_writable(self) -> None:
        if self._is_read_only():
            raise ItxError(
                "This tree is read only.",
                code="FORBIDDEN",
                hint="Write from a cell, or show the tree without read_only=True.",
            )

    async def _attempt(self, work: Callable[[Any], Awaitable[_T]], *, late: ItxError) -> _T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await work(await self._way.get_itx())
        except TimeoutError as error:
            # One of the engine's own says more than ours.
            raise (error if isinstance(error, ItxError) else late) from None
