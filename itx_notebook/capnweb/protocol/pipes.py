"""Streams as an application holds them: what is read or written at the other end, piece by piece, and blobs.

Each class stands for both sides. Made by an application, a stream wraps a source or a sink of its own, and is sent;
received, it leads to the peer. Either way it is used alike, so that what came can be passed on.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Protocol, Self

from itx_notebook.capnweb.protocol.channels import OpaqueHook
from itx_notebook.capnweb.protocol.errors import RpcError, as_exception
from itx_notebook.capnweb.protocol.hooks import Proxy

__all__ = ["Blob", "Readable", "Sink", "Source", "Writable"]

_CHUNK_BYTES: Final = 64 * 1024
"""Into how large pieces bytes are cut; 87 KB as base64."""

_STOPPED: Final = "The reader cancelled the stream."


class Source(Protocol):
    """Where a readable's chunks come from."""

    @property
    def owned(self) -> Any:
        """The application's object that is behind it; ``None`` if it is the peer's."""

    async def take(self) -> Any:
        """Return the next chunk; raise ``StopAsyncIteration`` at the end."""

    async def stop(self, error: Exception) -> None:
        """Hear that no more is wanted, for `error`."""

    def discard(self) -> None:
        """Hear that the value the stream stands in was disposed."""

    def discard_soon(self) -> None:
        """Hear that nobody holds the stream any more; from any thread."""


class Sink(Protocol):
    """Where a writable's chunks go."""

    @property
    def owned(self) -> Any:
        """The application's object that is behind it; ``None`` if it is the peer's."""

    async def write(self, chunk: Any) -> None:
        """Take a chunk."""

    async def close(self) -> None:
        """Hear that it was the last."""

    async def abort(self, reason: Any = None) -> None:
        """Hear that no more will come, for `reason`."""

    def discard(self) -> None:
        """Hear that the value the stream stands in was disposed."""


class _StreamHook(OpaqueHook):
    """Stands for a stream among the references of a payload."""

    __slots__ = ("_discard",)

    def __init__(self, discard: Callable[[], None]) -> None:
        self._discard = discard

    def dispose(self) -> None:
        self._discard()


class _LoanHook(_StreamHook):
    """Stands for a stream among a call's arguments.

    It outlives the call while somebody holds it: the callee may read it in a task of its own, which has not begun when
    the call returns. Only a call that fails takes it along, since its error holds all that the callee held.
    """

    __slots__ = ()

    def dispose(self) -> None:
        """The callee has it."""

    def lose(self, error: Exception) -> None:
        self._discard()


class _Stream:
    """What readables and writables have in common: they are sent once, and then belong to the session."""

    _end: Any
    _is_sent = False

    @property
    def reference(self) -> Proxy:
        """What stands for the stream in a result."""
        return Proxy(_StreamHook(self._end.discard))

    @property
    def loan(self) -> Proxy:
        """What stands for the stream among arguments."""
        return Proxy(_LoanHook(self._end.discard))

    def hand_over(self) -> Any:
        """Return the source or sink, for a session to use from now on."""
        self._check_unsent()
        self._is_sent = True
        return self._end

    def take_back(self) -> None:
        """Undo that: the message was not sent."""
        self._is_sent = False

    def discard(self) -> None:
        """Give the stream up, as ``dispose`` does."""
        if not self._is_sent:
            self._end.discard()

    def _check_unsent(self) -> None:
        if self._is_sent:
            raise TypeError(f"This {type(self).__name__} was sent: a stream is used at one place only.")

    def __repr__(self) -> str:
        state = ", sent" if self._is_sent else ""
        return f"<{type(self).__name__} of {type(self._end).__name__.lstrip('_').lower()}{state}>"


class Readable(_Stream):
    """A stream that is read piece by piece: ``async for chunk in readable``.

    Chunks may be any values that can be sent, targets and stubs included; a stub in a chunk is the reader's to dispose.
    What the source raises, the reader is raised after the chunks before it. A readable can be sent once, in any value,
    and cannot be read here then; one that was received may be sent on.

    A received one is bound to its session's loop. Whoever stops reading before the end cancels it, or ends an ``async
    with readable``; disposing the result it stood in does it too, and dropping it, a little later. As an argument it
    lives on after the call for as long as somebody holds it, unless the call fails.

    Parameters
    ----------
    source : async iterable, iterable, or bytes
        Where the chunks come from. Asked for a chunk when the last one was sent and the reader's window has room. Bytes
        are cut into pieces. When the reader stops early, its ``cancel(reason)``, ``aclose()`` or ``close()`` is called,
        the first that there is.

    Raises
    ------
    TypeError
        `source` is none of these, or is text: encode it, or put it into a list.
    """

    def __init__(self, source: AsyncIterable[Any] | Iterable[Any] | bytes | bytearray | memoryview) -> None:
        self._end: Source = _open_source(source)

    @classmethod
    def of(cls, source: Source) -> Self:
        """Return a readable of what is a source already."""
        readable = cls.__new__(cls)
        readable._end = source
        return readable

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        self._check_unsent()
        return self._end.take()

    async def cancel(self, reason: Any = None) -> None:
        """Read no more. The source's end hears `reason`, mostly an exception, with its next chunk."""
        self._check_unsent()
        await self._end.stop(RpcError(_STOPPED) if reason is None else as_exception(reason))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_sent:
            await self.cancel()

    def __del__(self) -> None:
        # A readable whose source could not be opened has none.
        if not self._is_sent and "_end" in self.__dict__:
            self._end.discard_soon()


class Writable(_Stream):
    """A stream that is written piece by piece: ``await writable.write(chunk)``.

    A write returns when the next one may come: the peer may not have seen the chunk yet, and what is wrong with it is
    raised by a later write or by ``close()``. ``async with writable`` closes it at the end, or aborts it if an
    exception passes. A writable can be sent once, in any value, and cannot be written here then; one that was received
    may be sent on. One that is dropped, or disposed, without a close is aborted.

    Parameters
    ----------
    sink : object or callable
        An object with ``write(chunk)``, and ``close()`` and ``abort(reason)`` if it wants to know; or a function that
        takes a chunk. Each may be a coroutine function. A chunk is written when the one before it was; what a write
        raises ends the stream.

    Raises
    ------
    TypeError
        `sink` has no ``write`` and cannot be called.
    """

    def __init__(self, sink: Any) -> None:
        self._end: Sink = _ApplicationSink(sink)

    @classmethod
    def of(cls, sink: Sink) -> Self:
        """Return a writable of what is a sink already."""
        writable = cls.__new__(cls)
        writable._end = sink
        return writable

    async def write(self, chunk: Any) -> None:
        """Write a chunk.

        Raises
        ------
        RpcError
            What the peer refused an earlier chunk for, or why the connection ended.
        TypeError, ValueError
            The chunk cannot be sent; others can, still.
        """
        self._check_unsent()
        await self._end.write(chunk)

    async def close(self) -> None:
        """End the stream, and return when everything was taken. Raises what the peer refused a chunk for."""
        self._check_unsent()
        await self._end.close()

    async def abort(self, reason: Any = None) -> None:
        """End the stream as void; the sink hears `reason`, mostly an exception. Harmless once it is over."""
        self._check_unsent()
        await self._end.abort(reason)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.abort(error if isinstance(error, Exception) else None)


class Blob:
    """Bytes with a MIME type. They travel as a stream, and arrive whole, where a session's limits allow.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        The bytes.
    type : str
        The MIME type, for example ``"image/png"``; may be empty.
    """

    __slots__ = ("data", "type")

    def __init__(self, data: bytes | bytearray | memoryview, type: str = "") -> None:  # noqa: A002  # JavaScript's name
        self.data = bytes(data)
        self.type = type

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blob):
            return NotImplemented
        return self.type == other.type and self.data == other.data

    def __hash__(self) -> int:
        return hash((self.type, self.data))

    def __repr__(self) -> str:
        return f"Blob({len(self.data)} bytes, {self.type!r})"

    def stream(self) -> Readable:
        """Return the bytes as a readable."""
        return Readable(self.data)


# What an application's own sources and sinks are behind


def _open_source(source: Any) -> Source:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _IteratorSource(_cut(source))
    if isinstance(source, AsyncIterable):
        return _AsyncIteratorSource(aiter(source))
    if isinstance(source, Iterable) and not isinstance(source, (str, Proxy)):
        return _IteratorSource(iter(source))
    raise TypeError(f"A Readable is made of an async iterable, an iterable or bytes, not of {source!r:.80}")


def _cut(data: bytes | bytearray | memoryview) -> Iterator[bytes]:
    view = memoryview(data).cast("B")
    for start in range(0, len(view), _CHUNK_BYTES):
        yield bytes(view[start : start + _CHUNK_BYTES])


async def _settle(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class _AsyncIteratorSource:
    """An application's async iterator."""

    _ways_to_stop = ("cancel", "aclose", "close")

    def __init__(self, iterator: AsyncIterator[Any] | Iterator[Any]) -> None:
        self.owned: Any = iterator

    async def take(self) -> Any:
        return await anext(self.owned)

    async def stop(self, error: Exception) -> None:
        for name in self._ways_to_stop:
            way = getattr(self.owned, name, None)
            if way is not None:
                await _settle(way(error) if name == "cancel" else way())
                return

    def discard(self) -> None:
        """It is the application's own, who holds it or lets the garbage collector have it."""

    discard_soon = discard


class _IteratorSource(_AsyncIteratorSource):
    """An application's iterator."""

    async def take(self) -> Any:
        try:
            return next(self.owned)
        except StopIteration:
            raise StopAsyncIteration from None


class _ApplicationSink:
    """An application's sink."""

    def __init__(self, sink: Any) -> None:
        write = getattr(sink, "write", sink)
        if not callable(write):
            raise TypeError(f"A Writable is made of an object with write(chunk), or a function, not of {sink!r:.80}")
        self.owned = sink
        self._write = write
        self._close = getattr(sink, "close", None)
        self._abort = getattr(sink, "abort", None)

    async def write(self, chunk: Any) -> None:
        await _settle(self._write(chunk))

    async def close(self) -> None:
        if self._close is not None:
            await _settle(self._close())

    async def abort(self, reason: Any = None) -> None:
        if self._abort is not None:
            await _settle(self._abort(reason))

    def discard(self) -> None:
        """It is the application's own."""
