"""``Itx``: the blocking face of ``AsyncItx``, for cells and scripts.

One explicit method for each async one, so that completion, Shift-Tab and types are real. A call hands its coroutine to
the I/O loop and waits; Ctrl-C cancels it; so does running out of ``timeout`` (seconds; ``None`` takes the handle's).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Self

from itx_notebook.handle.aio import (
    AsyncItx,
    AsyncProjects,
    AsyncStream,
    AsyncStreams,
    AsyncSubscription,
    describe_subscription,
)
from itx_notebook.handle.callbacks import CallbackThread
from itx_notebook.handle.face import Face
from itx_notebook.handle.running import RunningProcessor
from itx_notebook.handle.surface import Cursor
from itx_notebook.streams import CoreState, RuntimeState
from itx_notebook.streams.processors import Build
from itx_notebook.streams.waiting import Predicate
from itx_notebook.types import (
    UNSET,
    Event,
    ItxDescription,
    Project,
    ProjectList,
    StreamChild,
    StreamEvent,
    StreamEventBatch,
    StreamState,
)

__all__ = ["Itx", "Projects", "Stream", "Streams", "Subscription"]


class Subscription(Face):
    """An open subscription. ``with`` unsubscribes at the end."""

    def __init__(self, aio: AsyncSubscription, path: str, callback: CallbackThread[Any], timeout: float | None) -> None:
        super().__init__(timeout)
        self.aio = aio
        self._path = path
        self._callback = callback

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is delivered: unsubscribed, or dropped."""
        return self.aio.is_closed

    @property
    def is_live(self) -> bool:
        """Whether what is appended is delivered now. ``False`` once it is closed, and while a connection is away."""
        return self.aio.is_live

    @property
    def error(self) -> BaseException | None:
        """What the callback raised, if that is why it was dropped; or that the stream was killed or reset."""
        return self.aio.error

    def unsubscribe(self, *, timeout: float | None = None) -> None:
        """Stop delivery; no call of the callback begins afterwards. Repeating is harmless."""
        self._callback.stop()
        self._wait(self.aio.unsubscribe(), timeout, f"unsubscribe() from {self._path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.unsubscribe()

    def __repr__(self) -> str:
        return f"<Subscription to {self._path}, {describe_subscription(self.aio)}>"


class Stream(Face):
    """One stream of the handle's project. Making one does no I/O.

    Attributes
    ----------
    aio : AsyncStream
        The async twin, to await in a cell.
    """

    def __init__(self, aio: AsyncStream, timeout: float | None) -> None:
        super().__init__(timeout)
        self.aio = aio

    @property
    def path(self) -> str:
        """The canonical path."""
        return self.aio.path

    @property
    def namespace(self) -> str:
        """The id of the project, or ``"global"``."""
        return self.aio.namespace

    def append(
        self,
        event: str | Event | Mapping[str, Any],
        payload: Any = UNSET,
        *,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        offset: int | None = None,
        timeout: float | None = None,
    ) -> StreamEvent:
        """Append one event; returns it as committed, when it is on disk.

        Parameters
        ----------
        event : str, Event or mapping
            The type, with the fields as arguments; or a whole event, ``{"type": …, "payload": …}``.
        payload : JSON value, optional
            What happened. Dates and UUIDs become strings, numpy scalars numbers.
        metadata : mapping, optional
            Facts about the event; ``{}`` is kept when absent.
        idempotency_key : str, optional
            A repeat of the key answers with the first event and appends nothing, however its payload differs.
        offset : int, optional
            Append only if the event gets exactly this offset.
        timeout : float, optional
            Seconds to wait; the handle's own if absent.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: the event is not well formed, with the field and value named. ``INTERNAL``: the stream is
            paused, or the offset is another one.

        Examples
        --------
        >>> stream.append("demo.hello", {"n": 1})
        """
        call = self.aio.append(event, payload, metadata=metadata, idempotency_key=idempotency_key, offset=offset)
        return self._wait(call, timeout, f"append() to {self.path}")

    def append_batch(
        self, events: Iterable[Event | Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[StreamEvent]:
        """Append all of `events` or none; the committed events, aligned with the input."""
        return self._wait(self.aio.append_batch(events), timeout, f"append_batch() to {self.path}")

    def read(
        self,
        *,
        after_offset: Cursor = "start",
        before_offset: Cursor = "end",
        event_types: Iterable[str] | None = None,
        limit: int | None = None,
        presence: bool = True,
        timeout: float | None = None,
    ) -> list[StreamEvent]:
        """Events after one cursor and before another, both exclusive, in order.

        Parameters
        ----------
        after_offset, before_offset : int, "start" or "end"
            ``after_offset=10`` begins with event 11; ``before_offset=10`` ends with event 9.
        event_types : iterable of str, optional
            The types that are wanted; all if absent.
        limit : int, optional
            How many events at the most.
        presence : bool
            ``True``: touching the stream creates it and records this process, as every touch does. ``False``: a silent
            look that leaves no trace.

        Examples
        --------
        >>> itx_notebook.to_frame(stream.read())
        """
        call = self.aio.read(
            after_offset=after_offset,
            before_offset=before_offset,
            event_types=event_types,
            limit=limit,
            presence=presence,
        )
        return self._wait(call, timeout, f"read() of {self.path}")

    def get_event(
        self, offset: int | None = None, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> StreamEvent | None:
        """One event, by its offset or its idempotency key. A silent look.

        Parameters
        ----------
        offset : int, optional
            ``NOT_FOUND`` if there is none.
        idempotency_key : str, optional
            ``None`` is the answer if there is none.
        """
        call = self.aio.get_event(offset, idempotency_key=idempotency_key)
        return self._wait(call, timeout, f"get_event() of {self.path}")

    def get_state(self, *, presence: bool = True, timeout: float | None = None) -> StreamState:
        """The state folded from the log: event count, children, metadata.

        Parameters
        ----------
        presence : bool
            ``True``: touching the stream creates it and records this process, as every touch does. ``False``: a silent
            look that leaves no trace.
        """
        return self._wait(self.aio.get_state(presence=presence), timeout, f"get_state() of {self.path}")

    def get_runtime_state(self, *, timeout: float | None = None) -> RuntimeState:
        """The whole reduced state, and the connections of this process with what each was given. A silent look."""
        return self._wait(self.aio.get_runtime_state(), timeout, f"get_runtime_state() of {self.path}")

    def reduce(
        self,
        event: str | Event | Mapping[str, Any],
        payload: Any = UNSET,
        *,
        state: CoreState | None = None,
        timeout: float | None = None,
    ) -> CoreState:
        """What the whole state would be after an event. Changes and stores nothing.

        Parameters
        ----------
        event, payload
            As for :meth:`append`.
        state : CoreState, optional
            The state to begin from, such as the result of another what-if; the stream's own if absent.
        """
        return self._wait(self.aio.reduce(event, payload, state=state), timeout, f"reduce() of {self.path}")

    def list_children(self, *, presence: bool = True, timeout: float | None = None) -> list[StreamChild]:
        """Immediate children, in order of arrival. ``presence=False``: a silent look, see :meth:`get_state`."""
        return self._wait(self.aio.list_children(presence=presence), timeout, f"list_children() of {self.path}")

    def subscribe(
        self,
        on_batch: Callable[[StreamEventBatch], object],
        *,
        after_offset: Cursor = "start",
        event_types: Iterable[str] | None = None,
        events: bool = True,
        presence: bool = True,
        key: str | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Deliver batches from a cursor on: what is there, then what comes. The first batch, with the state, at once.

        Parameters
        ----------
        on_batch : callable
            Called with a :class:`StreamEventBatch` on a thread of its own, one batch after the other; it may block. If
            it raises, the subscription is dropped and says why in ``error``.
        after_offset : int, "start" or "end"
            Exclusive; ``"end"`` is live only.
        event_types : iterable of str, optional
            The types that are wanted; all if absent.
        events : bool
            ``False``: states only, with ``events`` empty, coalesced.
        presence : bool
            ``False``: a silent observer; otherwise subscribing is itself an event of the stream.
        key : str, optional
            A subscription under the same key is ended first.
        """
        callback = CallbackThread(on_batch, name=f"itx-subscriber {self.path}")
        call = self.aio.subscribe(
            callback,
            after_offset=after_offset,
            event_types=event_types,
            events=events,
            presence=presence,
            key=key,
        )
        return self._subscribe(call, callback, timeout, f"subscribe() to {self.path}")

    def on_state_change(
        self, on_state: Callable[[StreamState], object], *, presence: bool = True, timeout: float | None = None
    ) -> Subscription:
        """Deliver the state now and at every change, coalesced, on a thread of its own. See :meth:`subscribe`."""
        callback = CallbackThread(on_state, name=f"itx-subscriber {self.path}")
        call = self.aio.on_state_change(callback, presence=presence)
        return self._subscribe(call, callback, timeout, f"on_state_change() of {self.path}")

    def wait_for_event(
        self,
        predicate: Predicate | None = None,
        *,
        event_types: Iterable[str] | None = None,
        after_offset: Cursor = "end",
        presence: bool = True,
        timeout: float | None = None,
    ) -> StreamEvent:
        """The first event that matches, from a cursor on.

        Parameters
        ----------
        predicate : callable, optional
            Takes an event, on the I/O loop, so it must be quick. What it raises ends the wait.
        event_types : iterable of str, optional
            The types that count. One of the two must be given.
        after_offset : int, "start" or "end"
            Exclusive; ``"end"``: events from now on.
        timeout : float, optional
            Seconds; the handle's own if absent.
        presence : bool
            ``False``: a silent observer; otherwise the waiting is itself in the log.

        Raises
        ------
        ItxTimeoutError
            There was none in time; it tells what was seen.
        """
        call = self.aio.wait_for_event(
            predicate,
            event_types=event_types,
            after_offset=after_offset,
            presence=presence,
            timeout=self._get_limit(timeout),
        )
        return self._wait_for_its_own_end(call, f"wait_for_event() of {self.path}")

    def run(self, processor: Build, *, key: str | None = None, timeout: float | None = None) -> RunningProcessor:
        """Run a processor on this stream in this process, from where it was stopped before.

        Parameters
        ----------
        processor : class or callable
            Makes the processor: a subclass of ``Processor``, or what ``@processor`` made. Its hooks run on the I/O
            loop.
        key : str, optional
            The subscription key, under which its progress is stored; ``processor:<slug>`` if absent. One that runs
            under the same key is stopped first.
        """
        running = self._wait(self.aio.run(processor, key=key), timeout, f"run() on {self.path}")
        return RunningProcessor(running, self._timeout)

    def enable_processor(self, name: str, *, timeout: float | None = None) -> None:
        """Configure the stream to be processed by every process that knows a name. Repeating is harmless.

        Parameters
        ----------
        name : str
            ``"circuit-breaker"``, or what :meth:`Streams.register_processor` made known.
        """
        self._wait(self.aio.enable_processor(name), timeout, f"enable_processor() on {self.path}")

    def disable_processor(self, name: str, *, timeout: float | None = None) -> None:
        """Take back what :meth:`enable_processor` did. Repeating is harmless."""
        self._wait(self.aio.disable_processor(name), timeout, f"disable_processor() on {self.path}")

    def kill(self, *, timeout: float | None = None) -> None:
        """End the stream's incarnation, as if its process had died: subscribers are let go, the log stays."""
        self._wait(self.aio.kill(), timeout, f"kill() of {self.path}")

    def reset(self, *, timeout: float | None = None) -> None:
        """Erase the stream for good: its next life begins at offset 1.

        Subscribers are let go with an error. Streams below it stay. There is no way back but a backup.
        """
        self._wait(self.aio.reset(), timeout, f"reset() of {self.path}")

    def _subscribe(
        self,
        call: Coroutine[Any, Any, AsyncSubscription],
        callback: CallbackThread[Any],
        timeout: float | None,
        what: str,
    ) -> Subscription:
        aio = self._wait(_subscribe_with(callback, call), timeout, what)
        return Subscription(aio, self.path, callback, self._timeout)

    def __repr__(self) -> str:
        return f"<Stream {self.path}>"


async def _subscribe_with(
    callback: CallbackThread[Any], call: Coroutine[Any, Any, AsyncSubscription]
) -> AsyncSubscription:
    """Subscribe, and let the callback's thread end with the subscription, or at once if there is none."""
    try:
        subscription = await call
    except BaseException:
        callback.stop()
        raise
    callback.stop_after(subscription._subscription.closed)  # noqa: SLF001  # the other half of one handle
    return subscription


class Streams(Face):
    """The streams of the handle's project."""

    def __init__(self, aio: AsyncStreams, timeout: float | None) -> None:
        super().__init__(timeout)
        self.aio = aio

    def get(self, ref: str | Mapping[str, str]) -> Stream:
        """A stream by path, such as ``"/agents/a"``. No I/O; it need not exist yet.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: not a path; ``NOT_FOUND``: another project's.
        """
        return Stream(self.aio.get(ref), self._timeout)

    def register_processor(self, processor: Build, *, name: str | None = None, timeout: float | None = None) -> str:
        """Make a processor known in this process, for the streams that are configured to have it.

        Parameters
        ----------
        processor : class or callable
            Makes the processor, once for each stream.
        name : str, optional
            The processor's slug if absent. What is known under the name already is replaced for new starts.

        Returns
        -------
        str
            The name, for :meth:`Stream.enable_processor`.
        """
        return self._wait(self.aio.register_processor(processor, name=name), timeout, "register_processor()")

    def __repr__(self) -> str:
        return "<Streams: .get(path)>"


class Projects(Face):
    """The projects this handle may narrow to."""

    def __init__(self, aio: AsyncProjects, timeout: float | None) -> None:
        super().__init__(timeout)
        self.aio = aio

    def get(self, id_or_slug: str, *, timeout: float | None = None) -> Itx:
        """A new handle, narrowed to one project.

        Raises
        ------
        ItxError
            ``NOT_FOUND``: there is no such project, or it is not yours; the two cannot be told apart.
        """
        return Itx(self._wait(self.aio.get(id_or_slug), timeout, f"projects.get({id_or_slug!r})"), self._timeout)

    def list(self, *, limit: int = 100, offset: int = 0, timeout: float | None = None) -> ProjectList:
        """A page of the projects this handle may narrow to, in order of creation."""
        return self._wait(self.aio.list(limit=limit, offset=offset), timeout, "projects.list()")

    def create(self, slug: str, *, project_id: str | None = None, timeout: float | None = None) -> Project:
        """Create a project. ``FORBIDDEN`` on a handle narrowed to one; ``CONFLICT`` if the slug is taken."""
        return self._wait(self.aio.create(slug, project_id=project_id), timeout, f"projects.create({slug!r})")

    def __repr__(self) -> str:
        return "<Projects: .get(id_or_slug), .list(), .create(slug)>"


class Itx(Face):
    """A handle: a view of one project (or, for its owner, of the whole deployment).

    Attributes
    ----------
    aio : AsyncItx
        The async twin, to await in a cell: ``await itx.aio.streams.get("/a").append("demo.hello")``.
    projects : Projects
    streams : Streams
    """

    def __init__(self, aio: AsyncItx, timeout: float | None = None) -> None:
        super().__init__(timeout)
        self.aio = aio
        self.projects = Projects(aio.projects, timeout)
        self.streams = Streams(aio.streams, timeout)

    @property
    def project(self) -> Project | None:
        """The project it is narrowed to; ``None`` for the whole deployment."""
        return self.aio.project

    def describe(self, *, timeout: float | None = None) -> ItxDescription:
        """What this handle points at: project, engine, where the data is."""
        return self._wait(self.aio.describe(), timeout, "describe()")

    def __repr__(self) -> str:
        return f"<Itx {'(whole deployment)' if self.project is None else self.project.slug}>"
