"""Group commit: everything that asks in one turn of the loop shares one transaction, and so one fsync.

Where the commit runs was decided by measuring (``docs/decisions/0003-where-the-writer-runs.md``): handing it to another
thread and back costs more than SQLite's own work, so it runs right here, on the loop. That holds while the disk is
quick. A large commit, one that has to wait for another program, and every commit while the disk is slow on average goes
to a thread of its own: one hiccup is no slow disk, and no socket and no widget waits for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError, as_itx_error
from itx_notebook.streams.group import Draft, Group, Request, S
from itx_notebook.streams.storage import PATIENCE, BusyError, KeyTakenError, Snapshot, StreamWrite, Writer
from itx_notebook.types import Event, StreamEvent

__all__ = ["GroupCommitter", "engine_closed"]

_SLOW_COMMIT = 0.004
"""Seconds a commit may hold the loop on average; a frame of the tree is 0.040."""
_NEWEST_WEIGHS = 0.2
"""Share of the newest commit in the average: a disk that turns slow is noticed after four commits."""
_LARGE_COMMIT = 1_000
"""Rows; about what a commit writes in `_SLOW_COMMIT`."""
_LARGE_COMMIT_BYTES = 1024 * 1024
"""The same for few, large events."""


class GroupCommitter(Generic[S]):
    """Takes append requests on the loop and commits them in groups, in the order they came."""

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        on_committed: Callable[[Sequence[tuple[Draft[S], int]]], None],
        *,
        always_threaded: bool = False,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._on_committed = on_committed
        self._queue: list[Request[S]] = []
        self._snapshots: list[tuple[S, Snapshot, asyncio.Future[None]]] = []
        self._flush_due = False
        self._thread: ThreadPoolExecutor | None = None
        self._mean_commit = 0.0
        self._always_threaded = always_threaded
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def is_threaded(self) -> bool:
        """Whether commits run on a thread of their own at the moment, because the disk is slow."""
        return self._always_threaded or self._mean_commit > _SLOW_COMMIT

    def enqueue(self, stream: S, events: Sequence[Event], *, wake: bool = False) -> asyncio.Future[list[StreamEvent]]:
        """Ask for one all-or-nothing append of checked `events`. The answer comes when it is durable, or refused."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[StreamEvent]] = loop.create_future()
        if self._closed:
            future.set_exception(engine_closed())
            return future
        self._queue.append(Request(stream, events, future, wake=wake))
        if not self._flush_due:
            self._schedule(loop)
        return future

    def enqueue_snapshot(self, stream: S, snapshot: Snapshot) -> asyncio.Future[None]:
        """Ask for a processor's snapshot to be stored, with whatever else is committed then."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._closed:
            future.set_exception(engine_closed())
            return future
        self._snapshots.append((stream, snapshot, future))
        self._schedule(loop)
        return future

    async def wait_idle(self) -> None:
        """Wait until no commit is under way. Nothing commits before the caller's next ``await``."""
        while not self._idle.is_set():
            await self._idle.wait()

    async def interrupt(
        self,
        stream: S,
        error: ItxError,
        *,
        get_work: Callable[[], Callable[[Writer], None] | None],
        then: Callable[[], None],
    ) -> None:
        """Between two commits: refuse what waits for `stream`, do some work on the writer's thread, then call `then`.

        What is asked for after the call waits for its end. If the work raises, `then` is not called.
        """
        await self.wait_idle()
        if self._closed:
            raise engine_closed()
        self._refuse_waiting(stream, error)
        work = get_work()
        if work is None:
            then()
            return
        self._idle.clear()
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._get_thread(), work, self._writer)
        ended: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(lambda done: self._after_work(done, ended, then))
        # Shielded: the work goes on without a caller that gave up, and memory must follow the store.
        await asyncio.shield(ended)

    def _after_work(self, done: asyncio.Future[None], ended: asyncio.Future[None], then: Callable[[], None]) -> None:
        self._idle.set()
        error = done.exception()
        try:
            if error is None:
                then()
        finally:
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(as_itx_error(error))
                ended.exception()
            if self._queue or self._snapshots:
                self._schedule(asyncio.get_running_loop())

    def _refuse_waiting(self, stream: S, error: ItxError) -> None:
        for request in self._queue:
            if request.stream is stream:
                request.refuse(error)
        for each, _, future in self._snapshots:
            if each is stream and not future.done():
                future.set_exception(error)
        self._queue = [request for request in self._queue if request.stream is not stream]
        self._snapshots = [item for item in self._snapshots if item[0] is not stream]

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._idle.is_set() and not self._flush_due:
            self._flush_due = True
            loop.call_soon(self._flush)

    def _get_thread(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="itx-writer")
        return self._thread

    async def close(self) -> None:
        """Refuse new requests, let those under way end, and give the thread back."""
        self._closed = True
        while self._flush_due or not self._idle.is_set():
            await self._idle.wait()
            await asyncio.sleep(0)
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def _flush(self) -> None:
        self._flush_due = False
        if not self._idle.is_set():
            # Something began between two commits; what waits is flushed when it ends.
            return
        requests, self._queue = self._queue, []
        snapshots, self._snapshots = self._snapshots, []
        group = Group(requests, [(snapshot, future) for _, snapshot, future in snapshots if not future.done()])
        group.plan(self._clock)
        self._commit(group)

    def _commit(self, group: Group[S]) -> None:
        snapshots = group.snapshots
        if not (group.drafts or snapshots):
            group.settle()
            return
        try:
            writes = [draft.stream.get_write(draft) for draft in group.drafts]
        except Exception as error:
            group.refuse(as_itx_error(error))
            return
        if not self.is_threaded and not _is_large(writes):
            try:
                ids, seconds = _timed_commit(self._writer, writes, snapshots, 0)
            except BusyError:
                pass  # waits for the other program below, on the thread
            except Exception as error:
                self._after_failure(group, error)
                return
            else:
                self._note_duration(seconds)
                self._adopt(group, ids)
                return
        self._idle.clear()
        future = asyncio.get_running_loop().run_in_executor(
            self._get_thread(), _timed_commit, self._writer, writes, snapshots, PATIENCE
        )
        future.add_done_callback(lambda done: self._after_thread(done, group))

    def _after_thread(self, done: asyncio.Future[tuple[list[int], float]], group: Group[S]) -> None:
        self._idle.set()
        error = done.exception()
        if error is not None:
            self._after_failure(group, error)
        else:
            ids, seconds = done.result()
            self._note_duration(seconds)
            self._adopt(group, ids)
        if self._queue or self._snapshots:
            self._schedule(asyncio.get_running_loop())

    def _after_failure(self, group: Group[S], error: BaseException) -> None:
        if isinstance(error, KeyTakenError) and not group.looks_keys_up:
            group.plan_again(self._clock)
            self._commit(group)
        else:
            group.refuse(as_itx_error(error))

    def _note_duration(self, seconds: float) -> None:
        self._mean_commit += _NEWEST_WEIGHS * (seconds - self._mean_commit)

    def _adopt(self, group: Group[S], ids: list[int]) -> None:
        try:
            self._on_committed(list(zip(group.drafts, ids, strict=True)))
        finally:
            # The commit stands, whatever went wrong in telling of it.
            group.settle()


def _is_large(writes: list[StreamWrite]) -> bool:
    rows = size = 0
    for write in writes:
        rows += len(write.rows)
        for row in write.rows:
            size += len(row.body)
    return rows >= _LARGE_COMMIT or size >= _LARGE_COMMIT_BYTES


def _timed_commit(
    writer: Writer, writes: list[StreamWrite], snapshots: list[Snapshot], patience: float
) -> tuple[list[int], float]:
    started = time.perf_counter()
    ids = writer.commit(writes, snapshots, patience=patience)
    return ids, time.perf_counter() - started


def engine_closed() -> ItxError:
    """The error of everything that is asked of a closed engine."""
    return ItxError(
        "The streams engine is closed.",
        code="INTERNAL",
        hint="Connect again: itx = itx_notebook.connect(), or %itx connect.",
    )
