"""A tree that follows its streams: asks for what is wanted, watches it in silence, and tells of changes in patches.

Lives on the I/O loop; :meth:`LiveTree.get_snapshot` may be called from any thread. All data goes through the query
cache, so trees, prefetches and reads share it. A watch takes one state per frame and stream: while a frame is pending
the pump waits, and then delivers the newest state, however many events came in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, Final, Protocol

from itx_notebook._clock import Clock, TimerHandle
from itx_notebook.client.link import Link
from itx_notebook.errors import is_itx_access_error
from itx_notebook.query import (
    GetItx,
    QueryClient,
    QueryDefinition,
    QueryObserver,
    QueryState,
    prefetch_itx_query,
    project_stream_state_query,
)
from itx_notebook.tree.arrange import Sort
from itx_notebook.tree.explore import Explorer
from itx_notebook.tree.model import TreeModel
from itx_notebook.tree.values import SNAPSHOT_VERSION, Connection, Node, Snapshot, make_node_error
from itx_notebook.types import Project, StreamEventBatch, StreamState

__all__ = ["FRAME", "LiveTree", "Way"]

_log = logging.getLogger("itx_notebook")

FRAME: Final = 0.040
"""Seconds between two patches at the least. The server drops comm messages above 1,000 a second, of all widgets
together; 25 a second leave room (measured, with the browser's side of it: 10 ms a patch)."""
_RETRY_FIRST: Final = 1.0
_RETRY_MAX: Final = 15.0

Listener = Callable[[int, dict[str, Any]], object]
"""Takes the number of a patch and its fields, on the I/O loop."""


class Way(Protocol):
    """Where the tree's data comes from, as far as it says how it is reached: a loader."""

    @property
    def link(self) -> Link:
        """How the way stands now."""
        ...

    def subscribe_link(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Tell of each change, until the function is called that it returns."""
        ...


class LiveTree:
    """The tree of one project below `root`. Everything but :meth:`get_snapshot` on the I/O loop.

    Parameters
    ----------
    queries : QueryClient
        The cache; the states of the streams are its entries.
    get_itx : callable
        Gives the project's handle, anew at every fetch and watch: after a reconnection it is another one.
    way : Way, optional
        Tells how the way to the engine stands. Without one it always stands.
    """

    def __init__(
        self,
        project: Project,
        *,
        queries: QueryClient,
        get_itx: GetItx,
        root: str = "/",
        expand: Iterable[str] = (),
        select: str | None = None,
        way: Way | None = None,
    ) -> None:
        self.project = project
        self.session = uuid.uuid4().hex
        self._clock: Clock = queries.clock
        self._queries = queries
        self._get_itx = get_itx
        self._way = way
        self._leave_way: Callable[[], None] | None = None
        self._was_cut_off = False
        self._sleepers: set[asyncio.Event] = set()
        self._cut_off: dict[str, str] = {}
        self._model = TreeModel(root, self._get_connection())
        for path in expand:
            self._model.expand(path)
        if select is not None:
            self._model.select(select)
        self._model.take_patch()
        self._lock = threading.Lock()
        self._seq = 0
        self._watches: dict[str, _Watch] = {}
        self._listeners: list[Listener] = []
        self._frame_timer: TimerHandle | None = None
        self._frame_end: asyncio.Future[None] | None = None
        self._last_frame = -FRAME
        self._is_open = False
        self._closed_at: int | None = None
        self._explorer = Explorer(self)

    # -- life --------------------------------------------------------------------------------------------------------

    async def prefetch(self, *, deadline: float = 2.0) -> None:
        """Bring what the first paint needs into the cache, best effort: never raises, ends at the deadline.

        A level at a time, because only a parent knows its children. What the cache calls fresh is asked for again all
        the same: the first paint is also what a terminal or an exported page keeps, and nothing corrects it there.
        """
        end = self._clock.monotonic() + deadline
        asked: set[str] = set()
        while missing := [path for path in self._model.get_wanted() if path not in asked]:
            asked.update(missing)
            left = end - self._clock.monotonic()
            await self._read(missing, left)
        self._model.take_patch()

    async def _read(self, paths: list[str], deadline: float) -> None:
        """Bring the states of streams into the cache and the tree, best effort: never raises."""
        defined = [self._define(path) for path in paths]
        await asyncio.gather(
            *(
                prefetch_itx_query(replace(each, stale_time=0.0), self._queries, self._get_itx, deadline=deadline)
                for each in defined
            )
        )
        for path, each in zip(paths, defined, strict=True):
            if (state := self._queries.get_query_state(each.query_key)) is not None:
                self._take_result(path, state)

    def open(self) -> None:
        """Begin to follow."""
        self._is_open = True
        self._closed_at = None
        if self._way is not None and self._leave_way is None:
            self._leave_way = self._way.subscribe_link(self._note_way)
            self._note_way()
        self._model.take_turned()
        self._follow(self._model.get_wanted())

    def close(self) -> None:
        """Stop following, and let go of who listens. Repeating is harmless."""
        if self._is_open:
            self._closed_at = self._clock.now_ms()
        self._is_open = False
        self._listeners.clear()
        leave, self._leave_way = self._leave_way, None
        if leave is not None:
            leave()
        self._explorer.close()
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        if self._frame_timer is not None:
            self._frame_timer.cancel()
        self._end_frame()

    # -- what a view asks --------------------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every patch from now on."""
        self._listeners.append(listener)

    @property
    def seq(self) -> int:
        """Number of the last patch."""
        return self._seq

    def now_ms(self) -> int:
        """The tree's wall clock, in milliseconds since the epoch."""
        return self._clock.now_ms()

    def expand(self, path: str) -> None:
        """Open a node: ask for its state and watch it."""
        self._change(lambda model: model.expand(path))

    def collapse(self, path: str) -> None:
        """Close a node; what it hides is no longer watched."""
        self._change(lambda model: model.collapse(path))

    def select(self, path: str | None) -> None:
        """Make `path` the current one."""
        self._change(lambda model: model.select(path))

    def reveal(self, path: str) -> None:
        """Open the way to `path` and bring it into view."""
        self._change(lambda model: model.reveal(path))

    def look(self, path: str | None) -> None:
        """Follow `path` although no row wants it, in place of what was looked at before; try again what failed."""
        self._change(lambda model: model.look(path))
        if path is not None and (watch := self._watches.get(path)) is not None:
            watch.retry()

    def set_filter(self, text: str) -> None:
        """Search for `text`: what it needs to know and is not open is read ahead, up to a limit."""
        self._change(lambda model: model.set_filter(text))

    def set_sort(self, sort: Sort) -> None:
        """Order siblings anew."""
        self._change(lambda model: model.set_sort(sort))

    def refresh(self, path: str) -> None:
        """Ask for a node's state now, whatever its age; also the way to try a failed one again."""
        watch = self._watches.get(path)
        if watch is None:
            self._queries.invalidate_queries(self._define(path).query_key, exact=True)
        else:
            watch.refresh()

    def get_snapshot(self) -> Snapshot:
        """The whole tree as of now, or as it was when it was closed. Any thread."""
        with self._lock:
            model = self._model
            return Snapshot(
                version=SNAPSHOT_VERSION,
                seq=self._seq,
                session=self.session,
                taken_at=self._closed_at or self._clock.now_ms(),
                project={"id": self.project.id, "slug": self.project.slug},
                root=model.root,
                nodes=model.get_nodes(),
                expanded=sorted(model.expanded),
                selected=model.selected,
                filter=model.filter,
                sort=model.sort,
                connection=model.connection,
            )

    # -- following ---------------------------------------------------------------------------------------------------

    def _define(self, path: str) -> QueryDefinition[StreamState]:
        return project_stream_state_query(self.project.id, path)

    def _change(self, change: Callable[[TreeModel], None]) -> None:
        with self._lock:
            change(self._model)
        self._follow_wanted()
        self._begin_frame()

    def _follow_wanted(self) -> None:
        """Start watching what has become wanted and stop what no longer is."""
        if self._is_open:
            self._follow(self._model.take_turned())

    def _follow(self, paths: Iterable[str]) -> None:
        for path in paths:
            if not self._model.is_wanted(path):
                if path in self._watches:
                    self._watches.pop(path).close()
            elif path not in self._watches:
                watch = self._watches[path] = _Watch(self, path)
                watch.open()
        self._explorer.wake()

    def _take_result(self, path: str, state: QueryState[StreamState]) -> None:
        """Let the tree say what the cache knows of a stream."""
        watch = self._watches.get(path)
        is_current = watch is not None and watch.is_current
        node = _make_node(state, self._model.nodes.get(path), is_current=is_current)
        with self._lock:
            had = self._model.nodes.get(path)
            self._model.set_node(path, node)
        if had is None or had.child_paths is not node.child_paths:
            self._follow_wanted()
        elif self._is_open and node.count and node.active_at is None:
            self._explorer.wake()

    def on_result(self, path: str, state: QueryState[StreamState]) -> None:
        """A watch's cache entry changed."""
        self._take_result(path, state)
        self._begin_frame()

    def on_batch(self, path: str, batch: StreamEventBatch) -> Awaitable[object] | None:
        """A watched stream changed: into the cache with it, and no more of it until the frame is out."""
        self._queries.set_query_data(self._define(path).query_key, batch.state)
        # Shielded, because many pumps wait for one frame: the end of one watch cancels what its pump waits for.
        return None if self._frame_end is None else asyncio.shield(self._frame_end)

    def note_cut_off(self, path: str, detail: str) -> None:
        """A watch does not hold: the tree is live again when none is cut off."""
        self._cut_off[path] = detail
        self._tell_connection()

    def note_followed(self, path: str) -> None:
        """A watch holds, or is no longer wanted."""
        if self._cut_off.pop(path, None) is not None:
            self._tell_connection()

    def _note_way(self) -> None:
        """The way to the engine stands otherwise than before. Once it is there again, whoever gave up tries at once."""
        self._tell_connection()
        is_live = self._way is None or self._way.link.is_live
        if is_live and self._was_cut_off:
            for woken in self._sleepers:
                woken.set()
            for watch in tuple(self._watches.values()):
                watch.retry()
        self._was_cut_off = not is_live

    def _tell_connection(self) -> None:
        with self._lock:
            self._model.set_connection(self._get_connection())
        self._begin_frame()

    def _get_connection(self) -> Connection:
        """What is true of the tree: the way to the engine first, then the single watches."""
        link = None if self._way is None else self._way.link
        if link is not None and not link.is_live:
            # What was refused or closed does not come back by itself, and the browser should not say that it does.
            is_final = link.state in ("refused", "closed")
            detail = link.detail or link.state
            return Connection("closed" if is_final else "reconnecting", link.since_ms or self._clock.now_ms(), detail)
        detail_of_watch = next(reversed(self._cut_off.values()), None)
        return Connection("live" if detail_of_watch is None else "reconnecting", self._clock.now_ms(), detail_of_watch)

    # -- frames ------------------------------------------------------------------------------------------------------

    def _begin_frame(self) -> None:
        if self._frame_timer is not None or not self._is_open or not self._model.has_changes:
            return
        self._frame_end = asyncio.get_running_loop().create_future()
        wait = max(0.0, self._last_frame + FRAME - self._clock.monotonic())
        self._frame_timer = self._clock.call_later(wait, self._send_frame)

    def _send_frame(self) -> None:
        self._frame_timer = None
        self._last_frame = self._clock.monotonic()
        with self._lock:
            patch = self._model.take_patch()
            if patch:
                self._seq += 1
            seq = self._seq
        if patch:
            for listener in self._listeners:
                try:
                    listener(seq, patch)
                except Exception:
                    _log.exception("a view of the stream tree failed")
        self._end_frame()

    def _end_frame(self) -> None:
        ended, self._frame_end = self._frame_end, None
        if ended is not None and not ended.done():
            ended.set_result(None)

    # -- for the explorer --------------------------------------------------------------------------------------------

    def get_unread(self, passed: Collection[str], limit: int) -> list[str]:
        """What the search or the order asks about and is not known; none of `passed`."""
        return self._model.get_unread(passed, limit)

    def get_undated(self, passed: Collection[tuple[str, int]], limit: int) -> list[tuple[str, int]]:
        """Nodes whose newest event's time is to be told and is not known, with its offset; none of `passed`."""
        return self._model.get_undated(passed, limit)

    async def read(self, paths: list[str]) -> None:
        """Bring what is known of streams into the tree, best effort."""
        await self._read(paths, _RETRY_MAX)
        self._begin_frame()

    def note_active(self, path: str, offset: int, active_at: int) -> None:
        """The event at `offset`, a stream's newest if it still is, was written then."""
        with self._lock:
            self._model.set_active(path, offset, active_at)
        self._begin_frame()

    # -- for the watches ---------------------------------------------------------------------------------------------

    def observe(self, path: str, listener: Callable[[QueryState[StreamState]], object]) -> QueryObserver[StreamState]:
        """Watch the cache entry of a stream, fetching it if need be."""
        return self._queries.observe(self._define(path).bind(self._get_itx), listener)

    async def get_itx(self) -> Any:
        """The project's handle of this moment."""
        return await self._get_itx(self.project.id)

    async def sleep(self, seconds: float) -> None:
        """Wait on the tree's clock, or until the way to the engine is there again."""
        woken = asyncio.Event()
        self._sleepers.add(woken)
        timer = self._clock.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()
            self._sleepers.discard(woken)


class _Watch:
    """One wanted node: its cache entry, and once that has data a silent subscription that keeps it current.

    Attributes
    ----------
    is_current : bool
        Whether the subscription has delivered, so that what comes from now on is of now.
    """

    def __init__(self, tree: LiveTree, path: str) -> None:
        self.is_current = False
        self._tree = tree
        self._path = path
        self._observer: QueryObserver[StreamState] | None = None
        self._following: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._observer = self._tree.observe(self._path, self._on_result)
        self._on_result(self._observer.result)

    def close(self) -> None:
        if self._observer is not None:
            self._observer.close()
        if self._following is not None:
            self._following.cancel()
        self._tree.note_followed(self._path)

    def refresh(self) -> None:
        if self._observer is not None:
            self._observer.begin_refetch()

    def retry(self) -> None:
        """Ask again if the last answer was an error."""
        if self._observer is not None and self._observer.result.error is not None:
            self._observer.begin_refetch()

    def _on_result(self, state: QueryState[StreamState]) -> None:
        self._tree.on_result(self._path, state)
        if state.has_data and state.error is None and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow(), context=contextvars.Context())
            self._following.add_done_callback(self._on_followed)

    def _on_followed(self, task: asyncio.Task[None]) -> None:
        self._following = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("following %s failed", self._path, exc_info=error)

    def _on_batch(self, batch: StreamEventBatch) -> Awaitable[object] | None:
        taken = self._tree.on_batch(self._path, batch)
        self.is_current = True
        return taken

    async def _follow(self) -> None:
        """Keep a silent subscription open. What is refused is left to the row's retry."""
        delay = _RETRY_FIRST
        while True:
            try:
                stream = (await self._tree.get_itx()).streams.get(self._path)
            except Exception as error:
                if is_itx_access_error(error):
                    self.refresh()
                    return
                self._tree.note_cut_off(self._path, str(error))
            else:
                try:
                    self.is_current = False
                    subscription = await stream.subscribe(
                        self._on_batch,
                        after_offset="end",
                        events=False,
                        presence=False,
                    )
                except Exception as error:
                    # The project is there: the trouble is this stream's own, and asking again lets its row say which.
                    self._tree.note_followed(self._path)
                    self.refresh()
                    if is_itx_access_error(error):
                        return
                else:
                    delay = _RETRY_FIRST
                    self._tree.note_followed(self._path)
                    try:
                        await subscription.closed.wait()
                    finally:
                        with contextlib.suppress(Exception):
                            await subscription.unsubscribe()
                    self._tree.note_cut_off(self._path, "the engine ended the watch")
            await self._tree.sleep(delay)
            delay = min(2 * delay, _RETRY_MAX)


def _make_node(state: QueryState[StreamState], old: Node | None, *, is_current: bool) -> Node:
    """The row for what the cache knows: data first, error second, and children kept while an answer is awaited."""
    error = None if state.error is None else make_node_error(state.error)
    data = state.data
    active_at = None if old is None else old.active_at
    if isinstance(data, StreamState):
        if old is not None and old.count is not None and old.count < data.event_count:
            # Between two looks at a stream nobody watched, its events may have come at any time.
            active_at = state.data_updated_at_ms if is_current else None
        same = old is not None and (old.child_paths is data.child_paths or old.child_paths == data.child_paths)
        return Node(
            state="loaded",
            count=data.event_count,
            child_paths=old.child_paths if same and old is not None else data.child_paths,
            error=error,
            updated_at=state.data_updated_at_ms,
            active_at=active_at,
        )
    return Node(state="loading" if error is None else "error", error=error)
