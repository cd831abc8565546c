"""A person's blocking callback, kept off the I/O loop: one daemon thread for each subscription of the blocking face.

The pump waits for each call, so a slow callback has one batch under way and the rest stays in the log.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from itx_notebook.handle.surface import Closed

__all__ = ["CallbackThread"]

T = TypeVar("T")


class CallbackThread(Generic[T]):
    """Runs ``callback(value)`` on a daemon thread of its own, in order. Called on the I/O loop."""

    def __init__(self, callback: Callable[[T], object], *, name: str) -> None:
        self._callback = callback
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[T, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self._waiting: asyncio.Task[None] | None = None

    def __call__(self, value: T) -> asyncio.Future[None]:
        """Hand a value over; the future ends when the callback has, with what it raised."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((value, done))
        return done

    def stop(self) -> None:
        """Begin no further call, and let the thread end. Any thread."""
        self._is_stopped = True
        self._jobs.put(None)

    def stop_after(self, closed: Closed) -> None:
        """Stop when the subscription has ended, whoever ended it: its owner, a callback that raised, the engine."""

        async def wait() -> None:
            await closed.wait()
            self.stop()

        # Kept, because asyncio itself holds tasks weakly.
        self._waiting = asyncio.get_running_loop().create_task(wait(), context=contextvars.Context())

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            value, done = job
            if self._is_stopped:
                return
            error: BaseException | None = None
            try:
                self._callback(value)
            except BaseException as raised:  # the consumer's own; the pump decides what becomes of it
                error = raised
            done.get_loop().call_soon_threadsafe(_finish, done, error)


def _finish(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        # SystemExit or KeyboardInterrupt raised by a callback must drop the subscription, not end the I/O loop, and a
        # future takes no StopIteration (a bare next() in a callback): it would never end, and the pump would wait.
        is_plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
        done.set_exception(error if is_plain else RuntimeError(repr(error)))
