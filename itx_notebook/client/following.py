"""A subscription that outlives its socket: each event once, in order, whatever happens to the connection.

A **round** is one time of being subscribed. It ends with its socket, with events that are missing, or with a consumer
that lags too far behind; the next one asks for what comes after the last event received. So a slow consumer costs a
bounded amount of memory, and nothing is delivered twice.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from itx_notebook import capnweb as rpc
from itx_notebook.client.connection import Connection, Epoch, from_wire_error, within
from itx_notebook.doors.texts import parse_batch
from itx_notebook.errors import ItxConnectionError, ItxError, as_itx_error, get_itx_error_code
from itx_notebook.types import StreamEventBatch, StreamState

__all__ = ["Following", "replace_following"]

OnBatch = Callable[[StreamEventBatch], Awaitable[object] | None]

_MAX_WAITING_EVENTS: Final = 10_000
_MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may wait for the consumer; beyond it events are left at the stream, and asked for later."""

_OPEN_TIMEOUT: Final = 30.0
"""Seconds to wait for a connection when it is opened. Afterwards there is no limit: it waits until there is one."""
_FIRST_BATCH_TIMEOUT: Final = 5.0
"""Seconds for the batch that every subscription gets at once. From then on it is known where a live one begins."""
_LOOK_INTERVAL: Final = 30.0
"""Seconds of silence after which the stream is asked whether it still delivers (the June client's figure)."""
_FAREWELL_TIMEOUT: Final = 5.0
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 15.0
"""Seconds before a stream is asked again, over a connection that is there, when the last round came to nothing."""


class Following:
    """One subscription, opened as often as it takes. On the connection's loop.

    Parameters
    ----------
    connection : Connection
        The socket.
    get_stub : callable
        The stream's stub in an epoch.
    on_batch : callable
        The consumer. What it raises ends the subscription.
    after_offset : int or str
        Where to begin: an offset, ``"start"`` or ``"end"``.
    options : dict
        The other options of ``subscribe``.

    Attributes
    ----------
    error : BaseException or None
        Why it ended, if nobody asked it to.
    closed : asyncio.Event
        Set when nothing more is delivered.
    """

    def __init__(
        self,
        connection: Connection,
        get_stub: Callable[[Epoch], Any],
        on_batch: OnBatch,
        *,
        after_offset: int | str,
        options: dict[str, Any],
    ) -> None:
        self.error: BaseException | None = None
        self.closed = asyncio.Event()
        self._connection = connection
        self._get_stub = get_stub
        self._on_batch = on_batch
        self._options = options
        self._is_state_only = options.get("events") is False
        self._is_filtered = "eventTypes" in options
        # The last offset received; None: live, and where the stream ended when it began is not known yet.
        self._received = None if after_offset == "end" else 0 if after_offset == "start" else int(after_offset)
        self._state: StreamState | None = None
        self._life: str | None = None
        self._has_begun = False
        # In which it is subscribed now.
        self._epoch: Epoch | None = None
        # The highest offset of the stream that a batch has told of.
        self._head = 0
        self._queue: deque[StreamEventBatch] = deque()
        self._waiting_events = self._waiting_bytes = 0
        self._draining: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._farewell: asyncio.Future[Any] | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever opened it may have gone before the answer came.
        self._opened.add_done_callback(lambda opened: opened.cancelled() or opened.exception())

    @property
    def is_live(self) -> bool:
        """Whether the stream delivers now. Not while the connection is away, nor before the stream agreed anew."""
        return self._epoch is not None and self._epoch is self._connection.epoch and not self.closed.is_set()

    async def open(self) -> None:
        """Subscribe; returns when the stream has agreed. Raises what it says instead."""
        self._keeping = _spawn(self._keep_subscribed())
        try:
            await self._opened
        except BaseException:
            self.end()
            raise

    async def unsubscribe(self) -> None:
        """Stop delivery; no batch begins afterwards. Repeating is harmless."""
        self.end()
        if self._keeping is not None:
            await asyncio.wait([self._keeping])
        farewell, self._farewell = self._farewell, None
        if farewell is not None:
            # The other end has done it when it answers. If it never does, it is about to find out by itself.
            with suppress(rpc.RpcError, TimeoutError):
                async with within(self._connection.clock, _FAREWELL_TIMEOUT):
                    await farewell

    # Subscribing

    async def _keep_subscribed(self) -> None:
        delay = 0.0
        while not self.closed.is_set():
            received = self._received
            try:
                epoch = await self._connection.ready(None if self._opened.done() else _OPEN_TIMEOUT)
            except ItxError as error:
                # There will be no connection any more, or there was none to begin with.
                self._fail(error)
                return
            try:
                await self._subscribe_once(epoch)
            except rpc.RpcError as error:
                is_lost = epoch.session.error is not None
                failure = from_wire_error(error, self._connection.location, is_lost=is_lost)
                if not isinstance(failure, ItxConnectionError) and not self._may_heal(failure):
                    self._fail(failure)
                    return
            except Exception as error:  # a stub that cannot be made, an answer that makes no sense
                self._fail(as_itx_error(error))
                return
            if self._draining is not None:
                await asyncio.wait([self._draining])
            if epoch.session.error is not None or self._received != received:
                delay = 0.0
                continue
            delay = min(_LAST_RETRY, max(_FIRST_RETRY, 2 * delay))
            await self._connection.clock.sleep(delay)

    def _may_heal(self, failure: ItxError) -> bool:
        """Whether a stream that was followed before may let itself be followed again: its engine may be restarting."""
        return self._opened.done() and get_itx_error_code(failure) == "INTERNAL"

    async def _subscribe_once(self, epoch: Epoch) -> None:
        stub = self._get_stub(epoch)
        this = _Round()
        life = None if self._is_state_only else rpc.pull(stub.read(self._get_first_event_options()))
        if life is not None and self._life is not None and _get_life(await life) != self._life:
            self._fail(_was_reset())
            return
        cursor = "end" if self._received is None else self._received
        promise = stub.subscribe(_Ear(self._receive, this), {**self._options, "afterOffset": cursor})
        try:
            subscription = await promise
            if life is not None:
                self._life = _get_life(await life)
            self._epoch = epoch
            if not self._opened.done():
                await self._wait_for_first_batch(this)
                self._opened.set_result(None)
            await self._watch(this, stub, subscription)
            if this.is_let_go and epoch.session.error is None:
                await self._ask_why(subscription)
        finally:
            self._epoch = None
            this.end()
            if life is not None:
                life.cancel()
            if epoch.session.error is None:
                # On the promise: whether the stream has agreed may not be known yet.
                self._farewell = rpc.pull(promise.unsubscribe())
                self._farewell.add_done_callback(lambda answer: answer.cancelled() or answer.exception())
            rpc.dispose(promise)

    def _get_first_event_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"afterOffset": "start", "beforeOffset": 2}
        if self._options.get("presence") is False:
            options["presence"] = False
        return options

    async def _wait_for_first_batch(self, this: _Round) -> None:
        # A stream that does not send it is followed all the same, from its end of whatever moment.
        with suppress(TimeoutError):
            async with within(self._connection.clock, _FIRST_BATCH_TIMEOUT):
                await this.begun.wait()

    async def _watch(self, this: _Round, stub: Any, subscription: Any) -> None:
        """Wait for the end of a round, and look now and then whether it ended without a word."""
        while not this.over.is_set():
            head = self._head
            with suppress(TimeoutError):
                async with within(self._connection.clock, _LOOK_INTERVAL):
                    await this.over.wait()
                return
            # Only a stream that was quiet is asked; a slow answer must not be taken for a stall.
            if self._head == head and not await self._is_served(stub, subscription, head) and self._head == head:
                this.end()

    async def _is_served(self, stub: Any, subscription: Any, head: int) -> bool:
        try:
            return bool(await subscription.ping())
        except (rpc.RemoteError, rpc.RemoteThrown):
            pass
        # The June engine cannot say; but offsets are dense, so its count of events tells what should have come.
        if self._is_filtered:
            return True
        try:
            state = await stub.getState()
        except (rpc.RemoteError, rpc.RemoteThrown):
            return True
        return not isinstance(state, dict) or not isinstance(count := state.get("eventCount"), int) or count <= head

    async def _ask_why(self, subscription: Any) -> None:
        """The other end has let go of the subscription: end as it did, or begin another round."""
        try:
            is_served = await subscription.ping()
            why = await subscription.error
        except (rpc.RemoteError, rpc.RemoteThrown):
            # Not every engine can tell.
            return
        if isinstance(why, dict):
            message = str(why.get("message", "The stream ended the subscription."))
            self._fail(ItxError(message, code=get_itx_error_code(_Coded(why)) or "INTERNAL"))
        elif not is_served:
            self.end()

    # Receiving

    def _receive(self, this: _Round, message: Any) -> None:
        """Take a batch off the wire."""
        if this.over.is_set() or self.closed.is_set():
            return
        try:
            batch = parse_batch(message) if isinstance(message, str) else msgspec.convert(message, StreamEventBatch)
        except msgspec.DecodeError as error:
            self._fail(ItxError(f"The stream sent what is not a batch of events: {error}.", code="INTERNAL"))
            return
        self._head = batch.stream_max_offset
        fresh = self._take_state(batch) if self._is_state_only else self._take_events(this, batch)
        this.begun.set()
        if fresh is None:
            return
        if self._draining is None:
            self._hand_over(fresh)
            return
        if self._is_state_only:
            # Who is slow is told the newest.
            self._queue.clear()
        self._queue.append(fresh)
        self._waiting_events += len(fresh.events)
        self._waiting_bytes += len(msgspec.json.encode(fresh.events))
        if self._waiting_events > _MAX_WAITING_EVENTS or self._waiting_bytes > _MAX_WAITING_BYTES:
            this.end()

    def _take_state(self, batch: StreamEventBatch) -> StreamEventBatch | None:
        """A later round begins with the state, which may be the one that is known."""
        if self._has_begun and batch.state == self._state:
            return None
        self._has_begun, self._state = True, batch.state
        return batch

    def _take_events(self, this: _Round, batch: StreamEventBatch) -> StreamEventBatch | None:
        """Move the cursor past a batch; return what is new of it, ``None`` if that is nothing."""
        is_first, self._has_begun = not self._has_begun, True
        if self._received is None:
            # Live from here on: what is appended while the connection is away belongs to it too.
            self._received = batch.events[-1].offset if batch.events else batch.stream_max_offset
            return batch
        if batch.stream_max_offset < self._received and not is_first:
            self._fail(_was_reset())
            return None
        fresh = tuple(event for event in batch.events if event.offset > self._received)
        if not fresh:
            return batch if is_first else None
        is_dense = fresh[0].offset == self._received + 1 and fresh[-1].offset == self._received + len(fresh)
        if not is_dense and not self._is_filtered:
            this.end()
            return None
        self._received = fresh[-1].offset
        return batch if len(fresh) == len(batch.events) else replace(batch, events=fresh)

    # Delivering

    def _hand_over(self, batch: StreamEventBatch) -> None:
        """Call the consumer, which has nothing else to do; what it leaves to be awaited is a task's work."""
        pending = self._call(batch)
        if pending is not None:
            self._draining = _spawn(self._drain(pending))

    def _call(self, batch: StreamEventBatch) -> Awaitable[object] | None:
        try:
            answer = self._on_batch(batch)
        except (Exception, asyncio.CancelledError) as error:  # whatever the consumer raises is why it is dropped
            self._drop(error)
            return None
        return answer if inspect.isawaitable(answer) else None

    async def _drain(self, pending: Awaitable[object] | None) -> None:
        try:
            while True:
                # One batch a turn: a consumer that takes at once must not hold the loop.
                await (asyncio.sleep(0) if pending is None else pending)
                if self.closed.is_set() or not self._queue:
                    return
                batch = self._queue.popleft()
                self._waiting_events -= len(batch.events)
                if not self._queue:
                    self._waiting_events = self._waiting_bytes = 0
                pending = self._call(batch)
        except Exception as error:
            self._drop(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The consumer waited for something that was cancelled.
            self._drop(error)
        finally:
            self._draining = None

    # Ending

    def _fail(self, error: ItxError) -> None:
        """The stream, or the way to it, does not go on."""
        if not self.closed.is_set():
            self.error = error
            if not self._opened.done():
                self._opened.set_exception(error)
            self.end()

    def _drop(self, error: BaseException) -> None:
        """The consumer broke. Opening has not failed by that."""
        if not self.closed.is_set():
            self.error = error
            if not self._opened.done():
                self._opened.set_result(None)
            self.end()

    def end(self) -> None:
        """Stop delivery, and let the stream know as soon as may be. Repeating is harmless."""
        self.closed.set()
        self._queue.clear()
        current = asyncio.current_task()
        for task in (self._keeping, self._draining):
            if task is not None and task is not current:
                task.cancel()


_Place = tuple[str, str, str]
"""Namespace, path and subscription key."""

_keyed: weakref.WeakKeyDictionary[Connection, weakref.WeakValueDictionary[_Place, Following]] = (
    weakref.WeakKeyDictionary()
)


def replace_following(connection: Connection, place: _Place, following: Following) -> None:
    """Let a following take the place of the one under the same key, if this process has it.

    The stream tells the other so, too. But should that news be lost with the connection, both would come back, and each
    would take the place of the other.
    """
    followings = _keyed.setdefault(connection, weakref.WeakValueDictionary())
    before = followings.get(place)
    followings[place] = following
    if before is not None:
        before.end()


class _Round:
    """One time of being subscribed: what comes after its end is not heard."""

    __slots__ = ("begun", "is_let_go", "over")

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.is_let_go = False

    def end(self) -> None:
        """Hear no more."""
        self.over.set()


class _Ear(functools.partial[None]):
    """The function that the peer calls with each batch. When it lets go of it, the round is over.

    That is how it tells that a subscription has ended there; the loss of the session looks the same.
    """

    def _rpc_dispose(self) -> None:
        this: _Round = self.args[0]
        this.is_let_go = not this.over.is_set()
        this.end()


class _Coded:
    """An error's members, for :func:`get_itx_error_code` to look at."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.code = members.get("code")


def _get_life(first_events: Any) -> str | None:
    """What tells one life of a stream from another: when its first event was appended."""
    created_at = first_events[0]["createdAt"] if first_events else None
    return created_at if isinstance(created_at, str) else None


def _was_reset() -> ItxError:
    return ItxError(
        "The stream was reset: another life of it has begun, with other events from offset 1.",
        code="INTERNAL",
        hint="Subscribe again to follow the new life from its start.",
    )


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    # Background work belongs to no cell.
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())
