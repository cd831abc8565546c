"""All actors of one store: who is who, what happens after a commit, and the end.

Usable on its own, on any asyncio loop::

    engine = StreamEngine.open(Path("data"))
    await engine.stream("prj_1", "/agents/a").append({"type": "demo.hello"})
    await engine.close()
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import weakref
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

from itx_notebook._clock import Clock, SystemClock
from itx_notebook.errors import ItxError
from itx_notebook.streams.committer import GroupCommitter, engine_closed
from itx_notebook.streams.core import core_type
from itx_notebook.streams.eviction import LoadedStates
from itx_notebook.streams.group import Draft
from itx_notebook.streams.path import ROOT, get_ancestors
from itx_notebook.streams.processors import ProcessorHost
from itx_notebook.streams.storage import Reader, Snapshot, Store, Writer
from itx_notebook.streams.stream import Stream
from itx_notebook.types import Event, StreamEvent

__all__ = ["StreamEngine"]

_log = logging.getLogger("itx_notebook")
_CREATED = core_type("created")


class StreamEngine:
    """The engine over one open store. Everything but :meth:`open` is to be called on the loop that opened it.

    Attributes
    ----------
    committed_events, commits : int
        What was appended since it was opened, its own facts included, and in how many transactions.
    """

    def __init__(self, store: Store, *, clock: Clock, always_threaded: bool = False) -> None:
        self.clock = clock
        self.processors = ProcessorHost(self)
        self._store = store
        self._streams: dict[tuple[str, str], Stream] = {}
        self._loaded = LoadedStates()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._committer: GroupCommitter[Stream] = GroupCommitter(
            store.writer, clock, self._on_committed, always_threaded=always_threaded
        )
        self.committed_events = 0
        self.commits = 0
        self._is_closed = False
        self._closing: asyncio.Task[None] | None = None
        _engines.add(self)

    @classmethod
    def open(cls, directory: Path, *, clock: Clock | None = None, always_threaded: bool = False) -> Self:
        """Open the store in `directory` (made if absent) and take ownership of it. Call it on a running loop.

        Parameters
        ----------
        always_threaded : bool
            Commit on a thread of its own even while the disk is quick; for measuring.

        Raises
        ------
        StoreError
            The store is in use, unusable, or newer than this code.
        """
        return cls(Store.open(directory), clock=clock or SystemClock(), always_threaded=always_threaded)

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._store.directory

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._is_closed

    @property
    def reader(self) -> Reader:
        """The read-only side of the store. Raises once the store is closed."""
        if self._store.is_closed:
            raise engine_closed()
        return self._store.reader

    def try_read_by_key(self, stream_id: int, key: str) -> bytes | None:
        """The stored body under an idempotency key. Between commits: it is the writer that looks."""
        if self._store.is_closed:
            raise engine_closed()
        return self._store.writer.try_read_by_key(stream_id, key)

    def stream(self, namespace: str, path: str) -> Stream:
        """The one actor of ``(namespace, path)``; no I/O. `path` is canonical (see ``path.parse_stream_path``)."""
        stream = self._streams.get((namespace, path))
        if stream is None:
            if not namespace.strip() or len(namespace) > 255 or ":" in namespace:
                raise ItxError(
                    f"Stream namespace {namespace!r} is not 1 to 255 characters without a colon.", code="BAD_REQUEST"
                )
            stream = self._streams[namespace, path] = Stream(self, namespace, path)
        return stream

    def count_streams(self, namespace: str) -> int:
        """How many streams a namespace holds."""
        return self.reader.count_streams(namespace)

    async def between_commits(self) -> None:
        """Wait until no commit is under way; none begins before the caller's next ``await``."""
        await self._committer.wait_idle()

    async def end_life(self, stream: Stream, error: ItxError, *, erase: bool) -> None:
        """Refuse what waits for `stream` and end its incarnation, between two commits; `erase` what is stored too."""
        if self._store.is_closed:
            raise engine_closed()

        def get_work() -> Callable[[Writer], None] | None:
            stream_id = stream.stream_id if erase else None
            return None if stream_id is None else lambda writer: writer.erase(stream_id)

        await self._committer.interrupt(
            stream, error, get_work=get_work, then=lambda: self._end_incarnation(stream, error)
        )

    def _end_incarnation(self, stream: Stream, error: ItxError) -> None:
        stream.end_incarnation(error)
        self.processors.end_life(stream)

    async def save_snapshot(self, stream: Stream, snapshot: Snapshot) -> None:
        """Store how far a processor has come with `stream`, with whatever else is committed then."""
        if self._store.is_closed:
            raise engine_closed()
        await self._committer.enqueue_snapshot(stream, snapshot)

    def commit(
        self, stream: Stream, events: Sequence[Event], *, wake: bool = False
    ) -> asyncio.Future[list[StreamEvent]]:
        """Append checked `events` to `stream`, all or none; see ``Stream.append_batch``."""
        if self._store.is_closed:
            raise engine_closed()
        return self._committer.enqueue(stream, events, wake=wake)

    def note_loaded(self, stream: Stream) -> None:
        """A stream's state is in memory now; of those that nobody is connected to, the oldest may have to go."""
        self._loaded.note(stream)

    def start(self, work: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> None:
        """Run background work that the engine's end waits for; failures are logged, never raised."""
        task = (
            work
            if isinstance(work, asyncio.Future)
            else asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        )
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("background work of the streams engine failed", exc_info=error)

    def _on_committed(self, committed: Sequence[tuple[Draft[Stream], int]]) -> None:
        # The memory of all of them first: nothing that happens in telling of one may leave another behind the store.
        self.commits += 1
        for draft, stream_id in committed:
            self.committed_events += len(draft.committed)
            draft.stream.adopt(draft, stream_id)
        for draft, _ in committed:
            draft.stream.notify(draft.committed)
            if draft.wakes and draft.stream.path != ROOT:
                self.announce(draft.stream, is_new=draft.committed[0].type == _CREATED)
            self.processors.after_commit(draft.stream, draft.state, draft.committed)

    def announce(self, stream: Stream, *, is_new: bool = False) -> None:
        """Tell every ancestor of a stream that it exists: in the background, and again at the next wake if lost.

        Those that know it are not told, unless it `is_new` and nobody can.
        """
        for path in get_ancestors(stream.path):
            ancestor = self.stream(stream.namespace, path)
            try:
                if is_new or not stream.is_known_to(ancestor):
                    self.start(self.commit(ancestor, (stream.get_announcement(ancestor),)))
            except ItxError as error:
                _log.warning("could not announce %s to %s: %s", stream.path, path, error)

    async def settle(self) -> None:
        """Wait until no background work (announcements, presence facts) is under way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def close(self) -> None:
        """Finish what is under way, let the consumers go, and free the store for others. Repeating is harmless."""
        if self._closing is None:
            if self._is_closed:
                return
            self._is_closed = True
            self._closing = asyncio.get_running_loop().create_task(self._shut_down(), context=contextvars.Context())
        # Shielded: a close that somebody gave up on still frees the store.
        await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        # First the processors: what their hooks wait for may never come.
        await self.processors.close()
        await self.settle()
        for stream in self._streams.values():
            stream.close()
        await self._committer.close()
        self._store.close()
        self._forget_streams()

    def abandon(self) -> None:
        """In a forked child: refuse everything from now on, and leave the store, which is the parent's, alone."""
        self._is_closed = True
        self._store.is_closed = True
        self._forget_streams()

    def _forget_streams(self) -> None:
        """Nothing in memory may answer for a store that others write to."""
        for stream in self._streams.values():
            stream.forget()


_engines: weakref.WeakSet[StreamEngine] = weakref.WeakSet()
_abandoned: list[StreamEngine] = []


def _abandon_engines() -> None:
    """In a forked child: two processes that append from one memory would give one offset twice."""
    engines = list(_engines)
    # Kept for ever: SQLite forbids even to close a connection that came through a fork.
    _abandoned.extend(engines)
    for engine in engines:
        engine.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_abandon_engines)
