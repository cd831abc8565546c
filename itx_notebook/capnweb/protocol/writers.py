"""Writing into a stream of the peer's: chunks go out without waiting for each other, as many as the window allows.

A write is done when the next one may come, not when its chunk has arrived; what goes wrong with it is raised by a later
write, or by the close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcDisposed, RpcError, as_exception
from itx_notebook.capnweb.protocol.flow import Parcel, Window
from itx_notebook.capnweb.protocol.hooks import Future, Hook, Payload, Registration, Runtime

__all__ = ["Writer"]

_BURST_BYTES: Final = 64 * 1024
"""After so much the rest of the loop has its turn, and the connection is asked whether it takes more. It keeps the sum
of many streams' windows out of memory when the peer does not read."""

_MESSAGE_COST_BYTES: Final = 1024
"""What a message counts in a burst besides its length, so that small ones do not hold the loop either."""


class Writer:
    """The remote end of a stream, as something to write into.

    Parameters
    ----------
    hook : Hook
        The writable end; owned.
    runtime : Runtime
        Of the session it came by.

    Attributes
    ----------
    error : Exception or None
        Why nothing can be written any more.
    """

    owned: Final = None

    def __init__(self, hook: Hook, runtime: Runtime) -> None:
        self.error: Exception | None = None
        self._hook = hook
        self._runtime = runtime
        self._window = Window()
        self._burst_bytes = 0
        self._unanswered = 0
        self._is_closed = False
        self._waiting: list[Future] = []
        self._registration: Registration | None = None
        self._on_failure: Callable[[], object] | None = None

    def watch(self, on_failure: Callable[[], object]) -> None:
        """Call `on_failure` once when nothing can be written any more; maybe now."""
        self._on_failure = on_failure
        self._registration = Registration(self._fail)
        self._hook.on_broken(self._registration)

    async def write(self, chunk: Any) -> None:
        """Send a chunk, and return when the next one may be sent.

        Raises what the peer refused an earlier chunk for; ``TypeError`` or ``ValueError`` for a chunk that cannot be
        sent, after which others can.
        """
        await self._wait_for_room()
        self._check_open()
        self._burst_bytes += self._send("write", [chunk]) + _MESSAGE_COST_BYTES
        if self._burst_bytes >= _BURST_BYTES:
            self._burst_bytes = 0
            await self._runtime.pause()
        await self._wait_for_room()
        self._check_error()

    async def close(self) -> None:
        """Send the end, and return when the peer has taken all of it. Raises why it has not."""
        self._check_open()
        self._is_closed = True
        self._send("close", [])
        try:
            while self._unanswered and self.error is None:
                await self._change()
        finally:
            self._release()
        self._check_error()

    async def abort(self, reason: Any = None) -> None:
        """Tell the peer that no more will come, and that what did is void. Harmless when the stream is over."""
        if self.error is not None or self._is_closed:
            return
        error = RpcError("The stream was aborted.") if reason is None else reason
        # Only when the peer has heard it: a writable end given back first would have been left, not aborted.
        self._hook.stream(("abort",), Payload([error], self._runtime), _Release(self._release))
        self._stop(as_exception(error))

    def discard(self) -> None:
        """Let go of the stream, which the peer takes as an abort unless it was closed."""
        self._stop(RpcDisposed())
        self._release()

    def settle(self, parcel: Parcel | None, error: Exception | None) -> None:
        """Hear how a message went."""
        self._unanswered -= 1
        if error is not None:
            if parcel is not None:
                self._window.failed(parcel)
            self._fail(error)
        else:
            if parcel is not None:
                self._window.acknowledged(parcel, self._runtime.get_time())
            self._tell()

    def _send(self, method: str, values: list[Any]) -> int:
        outcome = _Outcome(self)
        self._unanswered += 1
        try:
            size_bytes = self._hook.stream((method,), Payload(values, self._runtime), outcome)
        except BaseException:
            self._unanswered -= 1
            raise
        if not outcome.is_known:
            outcome.parcel = self._window.sent(size_bytes, self._runtime.get_time())
        return size_bytes

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self._stop(error)
            self._release()
            if self._on_failure is not None:
                self._on_failure()

    def _stop(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._tell()

    def _release(self) -> None:
        if self._registration is not None:
            self._registration.unregister()
        self._hook.dispose()

    def _check_open(self) -> None:
        self._check_error()
        if self._is_closed:
            raise RpcError("The stream is closed.", name="TypeError")

    def _check_error(self) -> None:
        if self.error is not None:
            raise self.error

    async def _wait_for_room(self) -> None:
        while self.error is None and not self._window.has_room:
            await self._change()

    async def _change(self) -> None:
        future = self._runtime.create_future()
        self._waiting.append(future)
        await future

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class _Outcome:
    """Waits for the answer to a message of a stream."""

    __slots__ = ("is_known", "parcel", "writer")

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.is_known = False
        self.parcel: Parcel | None = None

    def resolve(self, payload: Payload) -> None:
        self.is_known = True
        self.writer.settle(self.parcel, None)

    def reject(self, error: Exception) -> None:
        self.is_known = True
        self.writer.settle(self.parcel, error)


class _Release:
    """Waits for the answer to an abort, however it turns out."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def resolve(self, payload: Payload) -> None:
        self._release()

    def reject(self, error: Exception) -> None:
        self._release()
