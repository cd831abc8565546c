"""A processor that runs on a stream in this process: how far it is, what it has made of the events, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from itx_notebook._loop import on_io_loop
from itx_notebook.errors import ItxError
from itx_notebook.handle.face import Face
from itx_notebook.streams.processors import ProcessorRuntimeState
from itx_notebook.types import StreamEvent

__all__ = ["AsyncRunningProcessor", "RunningProcessor", "RunningSurface"]


class RunnerSurface(Protocol):
    """How far a processor is."""

    @property
    def state(self) -> Any:
        """The state up to the checkpoint."""
        ...

    @property
    def checkpoint_offset(self) -> int:
        """Offset of the last event whose effects are stored."""
        ...

    async def wait_until_event(
        self,
        offset: int | None,
        *,
        predicate: Callable[[StreamEvent], bool] | None,
        timeout: float | None,  # noqa: ASYNC109  # of the engine's clock
    ) -> None:
        """Wait until an event has been dealt with."""
        ...


class RunningSurface(Protocol):
    """A processor at a stream."""

    error: Exception | None

    @property
    def key(self) -> str:
        """Its subscription key."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether the stream delivers to it."""
        ...

    @property
    def runner(self) -> RunnerSurface:
        """How far it is."""
        ...

    def get_runtime_state(self) -> ProcessorRuntimeState:
        """Its snapshot, and what it shows beside it."""
        ...

    async def stop(self) -> None:
        """Stop for good."""
        ...


class AsyncRunningProcessor:
    """A processor at work. ``async with`` stops it at the end."""

    def __init__(self, path: str, running: RunningSurface) -> None:
        self._path = path
        self._running = running

    @property
    def state(self) -> Any:
        """What it has made of the events up to ``offset``. To be read only."""
        return self._running.runner.state

    @property
    def offset(self) -> int:
        """The last event it has dealt with, whose effects are stored; 0 before the first."""
        return self._running.runner.checkpoint_offset

    @property
    def is_running(self) -> bool:
        """Whether events are delivered to it."""
        return self._running.is_connected

    @property
    def error(self) -> Exception | None:
        """Why it was given up, if it failed four times in a row."""
        return self._running.error

    @on_io_loop
    async def wait_until_event(
        self,
        event: int | StreamEvent | Callable[[StreamEvent], bool],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # of the engine's clock
    ) -> None:
        """Wait until an event has been dealt with, and its effects are stored.

        Parameters
        ----------
        event : int, StreamEvent or callable
            An offset, the event itself, or a function that is asked of each event on the I/O loop, from now on.
        timeout : float, optional
            Seconds; ``None`` waits without limit.

        Raises
        ------
        ItxTimeoutError
            It was not in time.
        """
        if isinstance(event, StreamEvent):
            event = event.offset
        if callable(event):
            await self._running.runner.wait_until_event(None, predicate=event, timeout=timeout)
        elif isinstance(event, int):
            await self._running.runner.wait_until_event(event, predicate=None, timeout=timeout)
        else:
            raise ItxError(f"{event!r} is no offset, event or function.", code="BAD_REQUEST")

    @on_io_loop
    async def get_runtime_state(self) -> ProcessorRuntimeState:
        """Offset and state of one moment as plain values, and what the processor shows of itself beside them."""
        return self._running.get_runtime_state()

    @on_io_loop
    async def stop(self) -> None:
        """Stop; what is under way is broken off, and comes again at the next start. Repeating is harmless."""
        await self._running.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<AsyncRunningProcessor {describe_running(self)}>"

    def _describe(self) -> str:
        return f"{self._running.key} on {self._path}"


def describe_running(running: AsyncRunningProcessor) -> str:
    """What its repr says of its health."""
    health = (
        f"gave up: {running.error!r}"
        if running.error is not None
        else f"at offset {running.offset}"
        if running.is_running
        else "stopped"
    )
    return f"{running._describe()}, {health}"  # noqa: SLF001  # the other half of one handle


class RunningProcessor(Face):
    """A processor at work. ``with`` stops it at the end."""

    def __init__(self, aio: AsyncRunningProcessor, timeout: float | None) -> None:
        super().__init__(timeout)
        self.aio = aio

    @property
    def state(self) -> Any:
        """What it has made of the events up to ``offset``. To be read only."""
        return self.aio.state

    @property
    def offset(self) -> int:
        """The last event it has dealt with, whose effects are stored; 0 before the first."""
        return self.aio.offset

    @property
    def is_running(self) -> bool:
        """Whether events are delivered to it."""
        return self.aio.is_running

    @property
    def error(self) -> Exception | None:
        """Why it was given up, if it failed four times in a row."""
        return self.aio.error

    def wait_until_event(
        self, event: int | StreamEvent | Callable[[StreamEvent], bool], *, timeout: float | None = None
    ) -> None:
        """Wait until an event has been dealt with, and its effects are stored.

        Parameters
        ----------
        event : int, StreamEvent or callable
            An offset, the event itself, or a function that is asked of each event on the I/O loop, from now on.
        timeout : float, optional
            Seconds; the handle's own if absent.

        Raises
        ------
        ItxTimeoutError
            It was not in time.
        """
        call = self.aio.wait_until_event(event, timeout=self._get_limit(timeout))
        self._wait_for_its_own_end(call, f"wait_until_event() of {describe_running(self.aio)}")

    def get_runtime_state(self, *, timeout: float | None = None) -> ProcessorRuntimeState:
        """Offset and state of one moment as plain values, and what the processor shows of itself beside them."""
        what = f"get_runtime_state() of {describe_running(self.aio)}"
        return self._wait(self.aio.get_runtime_state(), timeout, what)

    def stop(self, *, timeout: float | None = None) -> None:
        """Stop; what is under way is broken off, and comes again at the next start. Repeating is harmless."""
        self._wait(self.aio.stop(), timeout, f"stop() of {describe_running(self.aio)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<RunningProcessor {describe_running(self.aio)}>"
