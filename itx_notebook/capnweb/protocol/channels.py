"""What a peer writes into: chunks wait here, in order, until they are taken at this side.

A channel has a writable end, which the peer calls (:class:`WriterHook`: ``write``, ``close``, ``abort``), and a reader.
A write is acknowledged when its chunk was taken, not when it came: that is all the back-pressure there is, since a
writer lets no more than a window of bytes go unacknowledged. What a peer may send beyond that is bounded by the
session, which counts the messages.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcDisposed, RpcError, as_exception
from itx_notebook.capnweb.protocol.hooks import (
    ErrorHook,
    Future,
    Hook,
    MapFunction,
    Path,
    Payload,
    Registration,
    Runtime,
    Waiter,
)
from itx_notebook.capnweb.protocol.payload import deliver_payload
from itx_notebook.capnweb.protocol.targets import describe_path
from itx_notebook.capnweb.protocol.values import UNDEFINED

__all__ = ["Channel", "OpaqueHook", "Pipe", "WriterHook", "Written"]

_OPAQUE: Final = "A stream has no members, and no value to be awaited."
_LET_GO: Final = "The writer let go of the stream without closing it."
_GIVEN_UP: Final = "The reader gave the stream up before its end."


class OpaqueHook(Hook):
    """A reference to a stream's part, of which nothing can be asked but what the subclass says."""

    __slots__ = ()

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        return ErrorHook(TypeError(_OPAQUE))

    def call(self, path: Path, args: Payload) -> Hook:
        args.dispose()
        return ErrorHook(TypeError(_OPAQUE))

    def get(self, path: Path) -> Hook:
        return ErrorHook(TypeError(_OPAQUE)) if path else self.dup()

    def map(self, path: Path, function: MapFunction) -> Hook:
        function.dispose()
        return ErrorHook(TypeError(_OPAQUE))

    def pull(self, waiter: Waiter) -> None:
        waiter.reject(TypeError(_OPAQUE))

    def dup(self) -> Hook:
        return self

    def on_broken(self, registration: Registration) -> None:
        """Who reads or writes the stream hears of it there."""


class _Acknowledgement(OpaqueHook):
    """The result of a write: nothing, once the chunk was taken."""

    __slots__ = ("_error", "_is_known", "_runtime", "_waiters")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiters: list[Waiter] = []
        self._is_known = False
        self._error: Exception | None = None

    def tell(self, error: Exception | None = None) -> None:
        """Say how it went. Only the first time counts."""
        if self._is_known:
            return
        self._is_known = True
        self._error = error
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self.pull(waiter)

    def pull(self, waiter: Waiter) -> None:
        if not self._is_known:
            self._waiters.append(waiter)
        elif self._error is not None:
            waiter.reject(self._error)
        else:
            waiter.resolve(Payload(UNDEFINED, self._runtime, owned=True))

    def dispose(self) -> None:
        """The write goes its way, whether or not somebody wants to hear of it."""


class Written:
    """One write on its way to the reader, or the end of the stream.

    Attributes
    ----------
    is_end : bool
        Whether it is the end.
    is_ready : bool
        Whether the promises in it are settled.
    error : Exception or None
        Why the chunk cannot be delivered: a promise in it failed.
    """

    __slots__ = ("_args", "acknowledgement", "error", "is_end", "is_ready")

    def __init__(self, args: Payload | None, runtime: Runtime) -> None:
        self._args = args
        self.is_end = args is None
        self.is_ready = args is None or not args.promises
        self.error: Exception | None = None
        self.acknowledgement = _Acknowledgement(runtime)

    def take_chunk(self) -> Any:
        """Return the chunk. The references in it belong to the reader from now on."""
        args, self._args = self._args, None
        if args is None or not args.value:
            return None
        chunk = args.value[0]
        return None if chunk is UNDEFINED and not args.runtime.keeps_undefined else chunk

    def acknowledge(self) -> None:
        """Tell the writer that the chunk was taken."""
        self.acknowledgement.tell()

    def refuse(self, error: Exception) -> None:
        """Tell the writer that it was not."""
        args, self._args = self._args, None
        if args is not None:
            args.dispose()
        self.acknowledgement.tell(error)


class Channel:
    """Chunks between a peer's writes and one reader here, who acknowledges each when it is done with it.

    What was written before the writer gave up is read before the reader hears of it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._writes: deque[Written] = deque()
        self._writers = 0
        self._is_closed = False
        # Why no more will be written, and why nothing that is written would be read.
        self._failure: Exception | None = None
        self._refusal: Exception | None = None
        self._wanted: Future | None = None

    # The writer's end

    def write(self, args: Payload) -> Hook:
        """Take a chunk, the first of `args`; return the hook of its acknowledgement."""
        written = Written(args, self._runtime)
        acknowledgement = self._add(written)
        if not written.is_ready:
            deliver_payload(args, partial(self._deliver, written))
        return acknowledgement

    def close(self) -> Hook:
        """Take the end; return the hook of its acknowledgement."""
        return self._add(Written(None, self._runtime))

    def abort(self, error: Exception) -> Hook:
        """Hear that the writer gave up, for `error`; return the hook of the acknowledgement."""
        self.fail(error)
        acknowledgement = _Acknowledgement(self._runtime)
        acknowledgement.tell()
        return acknowledgement

    def fail(self, error: Exception) -> None:
        """Hear that no more will come, for `error`. After a close it means nothing any more."""
        if self._is_closed or self._failure is not None or self._refusal is not None:
            return
        self._failure = error
        self._changed()

    def hold(self) -> None:
        """Count a further reference to the writable end."""
        self._writers += 1

    def let_go(self, error: Exception | None = None) -> None:
        """Count one less, for `error`. Without any there is nobody to write."""
        self._writers -= 1
        if self._writers == 0:
            self.fail(error or RpcError(_LET_GO))

    def let_go_soon(self) -> None:
        """Do it on the right thread, in a while."""
        self._runtime.post(self.let_go)

    def _add(self, written: Written) -> Hook:
        refusal = self._refusal or self._failure
        if refusal is None and self._is_closed:
            refusal = RpcError("The stream is closed: nothing can be written to it any more.", name="TypeError")
        if refusal is not None:
            written.refuse(refusal)
        else:
            self._writes.append(written)
            self._is_closed = written.is_end
            self._changed()
        return written.acknowledgement

    def _deliver(self, written: Written, error: Exception | None) -> None:
        written.is_ready = True
        written.error = error
        self._changed()

    # The reader's end

    async def receive(self) -> Written:
        """Return the next write, or the end, as soon as there is one. Cancelling loses nothing.

        Raises what the writer gave up for, or why the reader did; ``RuntimeError`` if somebody waits already.
        """
        while not (self._writes and self._writes[0].is_ready):
            if self._refusal is not None:
                raise self._refusal
            if self._failure is not None and not self._writes:
                raise self._failure
            if self._wanted is not None:
                raise RuntimeError("Somebody is reading this stream already.")
            self._wanted = self._runtime.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        written = self._writes.popleft()
        if written.error is not None:
            written.refuse(written.error)
            self.cancel(written.error)
            raise written.error
        return written

    def cancel(self, error: Exception) -> None:
        """Read no more: what was not read is refused with `error`, and so is what is written from now on."""
        if self._refusal is None:
            self._refusal = error
            writes, self._writes = self._writes, deque()
            for written in writes:
                written.refuse(error)
            self._changed()

    def _changed(self) -> None:
        """Wake who waits."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)


class Pipe(Channel):
    """A channel that is read piece by piece: taking a chunk acknowledges it, and the end needs no taking."""

    owned: Final = None

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._is_over = False

    async def take(self) -> Any:
        """Return the next chunk; raise ``StopAsyncIteration`` at the end."""
        if not self._is_over:
            written = await self.receive()
            if not written.is_end:
                written.acknowledge()
                self._changed()
                return written.take_chunk()
        raise StopAsyncIteration

    async def stop(self, error: Exception) -> None:
        """Read no more."""
        self.cancel(error)

    def discard(self) -> None:
        """Read no more."""
        self.cancel(RpcError(_GIVEN_UP))

    def discard_soon(self) -> None:
        """Do it on the right thread, in a while."""
        if not self._is_over:
            self._runtime.post(self.discard)

    def _changed(self) -> None:
        """Acknowledge the end once everything before it was read, whether or not somebody comes to read it."""
        if self._writes and self._writes[0].is_end:
            self._is_over = True
            self._writes[0].acknowledge()
        super()._changed()


class WriterHook(OpaqueHook):
    """One reference to a channel's writable end, as the peer has it."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        channel.hold()

    def call(self, path: Path, args: Payload) -> Hook:
        channel = self._channel
        if channel is None:
            args.dispose()
            return ErrorHook(RpcDisposed())
        if path == ("write",):
            return channel.write(args)
        args.dispose()
        if path == ("close",):
            return channel.close()
        if path == ("abort",):
            return channel.abort(_reason_in(args))
        return ErrorHook(TypeError(f"{describe_path(path)} is not a function."))

    def dup(self) -> Hook:
        return ErrorHook(RpcDisposed()) if self._channel is None else WriterHook(self._channel)

    def dispose(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.let_go()

    def lose(self, error: Exception) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.let_go(error)

    def __del__(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.let_go_soon()


def _reason_in(args: Payload) -> Exception:
    reason = args.value[0] if args.value else None
    if reason is None or reason is UNDEFINED:
        return RpcError("The writer aborted the stream.")
    return as_exception(reason)
