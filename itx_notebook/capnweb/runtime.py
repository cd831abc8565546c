"""How calls to objects of this process run on asyncio, in the order they were made.

A method's first stretch, up to its first wait, must come before later calls. Where Python can start a task at once
(3.12) it does. Before, a new task begins in the loop's next turn, and until then later calls queue behind it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from itx_notebook.capnweb.protocol.held import Charge, Meter
from itx_notebook.capnweb.protocol.hooks import Hook, Proxy, QueuedCall
from itx_notebook.capnweb.protocol.local import TargetHook

__all__ = ["AsyncioRuntime", "get_runtime"]

_log: Final = logging.getLogger("itx_notebook.capnweb")

CallErrorHandler = Callable[[Any, BaseException], None]


class AsyncioRuntime:
    """Runs calls on one event loop.

    Parameters
    ----------
    loop : AbstractEventLoop
        Where they run.
    stub_type, promise_type : type
        The classes that applications see.
    max_running : int, optional
        How many may run at the same time; later ones wait. ``None``: as many as are made.
    max_held_bytes : int, optional
        How much may be held for the peer. ``None``: there is no peer.
    on_call_error : callable, optional
        Hears of each exception that leaves a callee.
    keeps_undefined : bool
        Whether callees get ``undefined`` as it is; else it becomes ``None``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stub_type: type[Proxy],
        promise_type: type[Proxy],
        *,
        max_running: int | None = None,
        max_held_bytes: int | None = None,
        on_call_error: CallErrorHandler | None = None,
        keeps_undefined: bool = False,
    ) -> None:
        self.keeps_undefined = keeps_undefined
        self.pending = 0
        self.resolving: list[Callable[[], None]] = []
        self.held = Meter(max_held_bytes if max_held_bytes is not None else sys.maxsize)
        self.charge: Charge | None = None
        self.stub_type = stub_type
        self.promise_type = promise_type
        self.loop = loop
        self._thread_id = threading.get_ident()
        self._max_running = max_running if max_running is not None else sys.maxsize
        self._on_call_error = on_call_error
        self._running: set[asyncio.Future[Any]] = set()
        self._starting = 0
        self._queue: deque[QueuedCall] = deque()
        self._ended: Exception | None = None
        self._spawned: set[asyncio.Task[None]] = set()
        self.wait_writable: Callable[[], Awaitable[None]] | None = None
        """How to wait while the connection takes no more; ``None`` where there is none."""

    @property
    def local(self) -> AsyncioRuntime:
        """The loop's runtime for calls that come from no peer."""
        return _get_local(self.loop, self.stub_type, self.promise_type)

    @property
    def is_backed_up(self) -> bool:
        """Whether the next call must queue."""
        return bool(self._starting or self._queue) or len(self._running) >= self._max_running

    def enqueue(self, call: QueuedCall) -> None:
        """Begin `call` when those before it have begun, and there is room; give it up if there is none at the end."""
        self._queue.append(call)
        if self._ended is not None:
            self._drain()

    def end(self, error: Exception) -> None:
        """Begin no call any more that waits for room.

        What runs goes on, like a method whose caller stopped waiting. If it waits for something that nothing but
        itself refers to, nobody can ever wake it, and it is gone with the session, without asyncio's complaint.
        """
        self._ended = error
        for task in (*self._running, *self._spawned):
            _let_go_quietly(task)
        self._drain()

    def refer(self, target: Any) -> Hook:
        """Return the first reference of a new count."""
        return TargetHook.wrap(target, self)

    def start(self, awaitable: Awaitable[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Run `awaitable` as a task, which begins before any later call."""
        task = self._begin(awaitable)
        if task.done():
            self._tell(task, done)
            return
        self._running.add(task)
        if self._ended is not None:
            _let_go_quietly(task)
        task.add_done_callback(lambda finished: self._finish(finished, done))

    def _begin(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        if isinstance(awaitable, asyncio.Future):
            return awaitable
        coroutine = awaitable if inspect.iscoroutine(awaitable) else _as_coroutine(awaitable)
        if sys.version_info >= (3, 12):
            return asyncio.Task(coroutine, loop=self.loop, eager_start=True)
        task = self.loop.create_task(coroutine)
        self._starting += 1
        # The loop's queue is in order: this runs right after the task's first stretch.
        self.loop.call_soon(self._began)
        return task

    def _began(self) -> None:
        self._starting -= 1
        self._drain()

    def _finish(self, task: asyncio.Future[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self._running.discard(task)
        self._tell(task, done)
        self._drain()

    def _tell(self, task: asyncio.Future[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        if task.cancelled():
            done(None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            done(None, error)
        else:
            done(task.result(), None)

    def _drain(self) -> None:
        while self._queue and not self._starting and len(self._running) < self._max_running:
            self._queue.popleft().begin()
        while self._queue and self._ended is not None and not self._starting:
            self._queue.popleft().give_up(self._ended)

    def post(self, action: Callable[[], None]) -> None:
        """Do `action` in a later turn of the loop; from any thread, also while the interpreter ends."""
        try:
            if threading.get_ident() == self._thread_id:
                self.loop.call_soon(action)
            else:
                self.loop.call_soon_threadsafe(action)
        except RuntimeError:
            # The loop is closed: whatever was to be given back is gone with it.
            return

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task of its own, which is none of the calls; from the loop's next turn on."""
        task = asyncio.Task(coroutine, loop=self.loop)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    def create_future(self) -> asyncio.Future[None]:
        """Return a future of the loop."""
        return self.loop.create_future()

    async def pause(self) -> None:
        """Let the loop turn, and wait while the connection takes no more; raise why it has ended, if it has."""
        await asyncio.sleep(0)
        if self.wait_writable is not None:
            await self.wait_writable()

    def get_time(self) -> float:
        """Return the loop's time, in seconds."""
        return self.loop.time()

    def call_failed(self, callee: Any, error: BaseException) -> None:
        """Pass the error on to who listens; a listener that fails is logged and forgotten."""
        if self._on_call_error is None:
            return
        try:
            self._on_call_error(callee, error)
        except Exception:
            _log.exception("on_call_error failed")


def _let_go_quietly(task: asyncio.Future[Any]) -> None:
    if isinstance(task, asyncio.Task):
        # As asyncio's own gather does with what it made.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # nothing public says so


def _as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    async def run() -> Any:
        return await awaitable

    return run()


_last: AsyncioRuntime | None = None


def get_runtime(stub_type: type[Proxy], promise_type: type[Proxy]) -> AsyncioRuntime:
    """Return the running loop's runtime for objects that belong to no session.

    Raises
    ------
    RuntimeError
        No event loop is running in this thread.
    """
    return _get_local(asyncio.get_running_loop(), stub_type, promise_type)


def _get_local(loop: asyncio.AbstractEventLoop, stub_type: type[Proxy], promise_type: type[Proxy]) -> AsyncioRuntime:
    global _last
    if _last is None or _last.loop is not loop:
        _last = AsyncioRuntime(loop, stub_type, promise_type)
    return _last
