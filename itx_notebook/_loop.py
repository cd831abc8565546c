"""The I/O thread: one asyncio loop for the whole process, that keeps running while a cell is busy.

It owns actors, cache, watches and tasks. Everything blocking is a call submitted to it from another thread;
everything awaitable may also be awaited on it directly. It starts at the first use, never at import, as a daemon;
a forked child starts its own.

Work runs in an empty :class:`contextvars.Context`: with a copy of the caller's, whatever it prints or displays would
stay tied to the cell that started it, for ever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from itx_notebook.errors import ItxError, ItxTimeoutError

__all__ = ["IoCall", "call_on_io_loop", "get_io_loop", "is_on_io_loop", "on_io_loop", "run_blocking", "submit"]

T = TypeVar("T")
P = ParamSpec("P")

_log = logging.getLogger("itx_notebook")
_log.addHandler(logging.NullHandler())

# How often an awaiting cell looks whether it was interrupted: ipykernel cannot break an await that nothing else wakes.
_AWAIT_TICK = 0.25

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def get_io_loop() -> asyncio.AbstractEventLoop:
    """The loop of the I/O thread, started if need be. Any thread."""
    global _loop
    if _loop is None:
        with _lock:
            if _loop is None:
                _loop = _start()
    return _loop


def is_on_io_loop() -> bool:
    """Whether the calling code runs on the I/O loop."""
    try:
        return asyncio.get_running_loop() is _loop
    except RuntimeError:
        return False


class IoCall(concurrent.futures.Future[T]):
    """A coroutine handed to the I/O loop, seen from another thread. ``cancel()`` cancels the coroutine itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        self._loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Apart from the constructor, so that an interrupt in between finds something to cancel."""
        self._loop.call_soon_threadsafe(self._start, context=contextvars.Context())

    def cancel(self) -> bool:
        """Ask for cancellation; ``False`` if it has already ended. The future ends when the coroutine has."""
        if self.done():
            return False
        self._loop.call_soon_threadsafe(self._cancel_task)
        return True

    def _start(self) -> None:
        if not self.done():
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())
            self._task.add_done_callback(self._note_end)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._end_cancelled()

    async def _run(self) -> None:
        # Answers from within the task: leaving it to the done callback would cost another turn of the loop.
        try:
            result = await self._coroutine
        except asyncio.CancelledError:
            self._end_cancelled()
        except BaseException as error:
            self.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.set_result(result)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step never gets to answer."""
        if not task.cancelled():
            task.exception()
        if not self.done():
            self._end_cancelled()

    def _end_cancelled(self) -> None:
        self._coroutine.close()
        super().cancel()
        self.set_running_or_notify_cancel()


def submit(coroutine: Coroutine[Any, Any, T]) -> IoCall[T]:
    """Start `coroutine` on the I/O loop and return at once. Any thread."""
    call = IoCall(get_io_loop(), coroutine)
    call.start()
    return call


def run_blocking(coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None, what: str = "The call") -> T:
    """Run `coroutine` on the I/O loop and wait for it.

    Any thread but the I/O thread's own. Ctrl-C, and every other ``BaseException``, cancels the coroutine.

    Parameters
    ----------
    timeout : float, optional
        Seconds; ``None`` waits without limit.
    what : str
        Names the work in the error.

    Raises
    ------
    ItxTimeoutError
        It took longer than `timeout`; the coroutine was cancelled.
    ItxError
        ``BAD_REQUEST``: called on the I/O thread, which would wait for itself.
    """
    if is_on_io_loop():
        coroutine.close()
        raise ItxError(
            f"{what} would block the I/O thread it is called on.",
            code="BAD_REQUEST",
            hint="Inside an async callback, await the same method of itx.aio.",
        )
    call = IoCall(get_io_loop(), coroutine)
    try:
        call.start()
        return call.result(timeout)
    except concurrent.futures.TimeoutError:
        if call.done():
            raise
        call.cancel()
        raise ItxTimeoutError(f"{what} took longer than {timeout:g} s.", timeout=timeout or 0.0) from None
    except BaseException:
        call.cancel()
        raise


async def call_on_io_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine`, wherever the caller runs: directly on the I/O loop, else handed over to it.

    Cancelling the caller cancels the coroutine. From a notebook cell the wait ticks, so that an interrupt is seen.
    """
    if is_on_io_loop():
        return await coroutine
    future = submit(coroutine)
    wrapped = asyncio.wrap_future(future)
    try:
        while not wrapped.done():
            await asyncio.wait({wrapped}, timeout=_AWAIT_TICK)
        return wrapped.result()
    except BaseException:
        future.cancel()
        raise


def on_io_loop(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let an async method be awaited on any loop: its body always runs on the I/O loop."""

    @functools.wraps(method)
    async def bridged(*args: P.args, **kwargs: P.kwargs) -> T:
        return await call_on_io_loop(method(*args, **kwargs))

    return bridged


def _start() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_log_unhandled)
    ready = threading.Event()

    def main() -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(ready.set)
        while True:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these two through. A subscriber that calls exit() must not end everybody's thread.
                _log.exception("work on the I/O loop tried to end the process")
            else:
                return

    threading.Thread(target=main, name="itx-io", daemon=True).start()
    ready.wait()
    return loop


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Background failures go to the library's logger, which prints nothing unless the application asks for it."""
    _log.error(context.get("message", "unhandled error on the I/O loop"), exc_info=context.get("exception"))


def _forget_loop() -> None:
    """In a forked child: the thread did not come along, and its loop must not be touched."""
    global _loop, _lock
    _loop = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_loop)
