"""What a browser asks of one stream and waits for: a page of its events, an event to append. Answered on the I/O loop.

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
from itx_notebook.handle.surface import StreamSurface
from itx_notebook.tree import append_once, make_node_error, read_page

__all__ = ["RELOAD", "AppendRequest", "PageRequest", "Requests", "parse_request"]

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


_R = TypeVar("_R", PageRequest, AppendRequest)
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
    """

    def __init__(self, way: Way, tell: Callable[[dict[str, Any]], None]) -> None:
        self._way = way
        self._tell = tell
        self._pages: dict[int, asyncio.Task[None]] = {}
        self._appends: dict[str, asyncio.Task[None]] = {}

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

    def refuse_append(self, asked: AppendRequest) -> None:
        """Answer that nothing may be appended from here."""
        refusal = ItxError(
            "This tree is read only.",
            code="FORBIDDEN",
            hint="Append from a cell, or show the tree without read_only=True.",
        )
        self._answer_append(asked, error=refusal)

    def close(self) -> None:
        """Break off the reading. Appends come to their end: somebody was told that they are under way."""
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
                asked.path,
                lambda stream: read_page(stream, before=asked.before, after=asked.after, event_type=asked.type),
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
        try:
            offset = await self._attempt(
                asked.path,
                lambda stream: append_once(stream, key=asked.request, event_type=asked.type, payload=asked.payload),
                late=ItxError(
                    f"{asked.path} has not answered within {PATIENCE:g} s; the event may be there or not.",
                    code="INTERNAL",
                    hint="Retry: however often it is sent, it is there once.",
                ),
            )
        except Exception as error:
            self._answer_append(asked, error=error)
        else:
            self._answer_append(asked, offset=offset)

    async def _attempt(self, path: str, work: Callable[[StreamSurface], Awaitable[_T]], *, late: ItxError) -> _T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await work((await self._way.get_itx()).streams.get(path))
        except TimeoutError as error:
            # One of the engine's own says more than ours.
            raise (error if isinstance(error, ItxError) else late) from None

    def _answer_append(
        self, asked: AppendRequest, *, offset: int | None = None, error: BaseException | None = None
    ) -> None:
        failure = None if error is None else msgspec.to_builtins(make_node_error(error))
        self._tell({"kind": "appended", "request": asked.request, "offset": offset, "error": failure})
