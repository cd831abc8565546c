"""Answers the browser that asks for a stream to be made: each request once at a time, and always with a word.

Apart from the browser because requests come over a lossy channel: they are asked again until they are answered, and
what was made already is answered like the first time.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from itx_notebook.errors import ItxError
from itx_notebook.tree import create_child, make_node_error

__all__ = ["CreateRequest", "Creations", "parse_create_request"]


class CreateRequest(msgspec.Struct):
    """Make the stream `name` below `parent`."""

    request: int
    parent: str
    name: str


def parse_create_request(content: Any) -> CreateRequest:
    """A message as the request it must be, or ``BAD_REQUEST``."""
    try:
        return msgspec.convert(content, CreateRequest)
    except msgspec.ValidationError as error:
        raise ItxError(
            f"The request for a stream is not one: {error}.",
            code="BAD_REQUEST",
            hint="Reload the page: its code may be of another version than the kernel's.",
        ) from None


class Creations:
    """The streams that are being made for one browser. On the I/O loop.

    Parameters
    ----------
    get_itx : callable
        Gives the project's handle of the moment.
    tell : callable
        Sends a message to the browser.
    """

    def __init__(self, get_itx: Callable[[], Awaitable[Any]], tell: Callable[[dict[str, Any]], object]) -> None:
        self._get_itx = get_itx
        self._tell = tell
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def take(self, request: CreateRequest, is_refused: bool) -> None:  # noqa: FBT001  # passed through a callback of the loop
        """Begin to make a stream, unless that is under way."""
        if request.request not in self._tasks:
            task = asyncio.get_running_loop().create_task(
                self._answer(request, is_refused=is_refused), context=contextvars.Context()
            )
            self._tasks[request.request] = task
            task.add_done_callback(lambda _: self._tasks.pop(request.request, None))

    def end(self) -> None:
        """Stop. What was begun may be done all the same."""
        for task in self._tasks.values():
            task.cancel()

    async def _answer(self, request: CreateRequest, *, is_refused: bool) -> None:
        answer: dict[str, Any] = {"kind": "created", "request": request.request, "path": None, "error": None}
        try:
            if is_refused:
                raise ItxError(
                    "This tree is read-only: no stream can be created from it.",
                    code="FORBIDDEN",
                    hint="Call itx.tree() without read_only=True.",
                )
            answer["path"] = await create_child(await self._get_itx(), request.parent, request.name)
        except Exception as error:
            answer["error"] = msgspec.to_builtins(make_node_error(error))
        self._tell(answer)
