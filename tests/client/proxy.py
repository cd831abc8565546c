"""A proxy that mistreats what it carries: it delays, cuts, half-closes and freezes, at a frame that a test names.

Plain bytes on asyncio streams. It knows just enough of WebSocket to tell where a frame ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

__all__ = ["Harm", "Proxy", "open_proxy"]

Harm = Literal["abort", "half-close", "freeze"]
"""``abort``: both sides get a reset. ``half-close``: the client hears an end, the server nothing. ``freeze``: nothing
is carried any more and nobody is told, as when a cable is pulled."""


class _Frames:
    """Cuts a direction's bytes where its HTTP head and its frames end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._has_head = False

    def split(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Pieces to carry on, and whether each is a frame."""
        self._buffer += data
        if not self._has_head:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            self._has_head, self._buffer = True, rest
            yield head + separator, False
        while (size := self._measure()) is not None and len(self._buffer) >= size:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            yield frame, True

    def _measure(self) -> int | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, size = buffer[1] & 0x7F, 2
        if length >= 126:
            size += 2 if length == 126 else 8
            length = int.from_bytes(buffer[2:size])
            if len(buffer) < size:
                return None
        return size + (4 if buffer[1] & 0x80 else 0) + length


class Proxy:
    """Carries connections to a port.

    Attributes
    ----------
    frames : int
        Frames seen so far, both ways, over all connections.
    harm_at : int or None
        The frame that is not carried any more; with it the connection it is on comes to `harm`.
    harm : str
        What happens then.
    delay : callable
        Seconds that each frame takes.
    is_refusing : bool
        Whether new connections are reset at once.
    connections : int
        How many there were.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.frames = 0
        self.harm_at: int | None = None
        self.harm: Harm = "abort"
        self.delay: Callable[[], float] | None = None
        self.is_refusing = False
        self.connections = 0
        self.harmed = asyncio.Event()
        self._target = port
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """Reset every connection now."""
        for pair in tuple(self._open):
            _abort(*pair)

    async def carry(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self.connections += 1
        if self.is_refusing:
            _abort(near)
            return
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _abort(near)
            return
        pair = (near, far)
        self._open.add(pair)
        frozen = asyncio.Event()
        try:
            await asyncio.gather(
                self._pump(near_reader, far, near, frozen, is_upward=True),
                self._pump(far_reader, near, far, frozen, is_upward=False),
            )
        finally:
            self._open.discard(pair)
            _abort(*pair)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        frozen: asyncio.Event,
        *,
        is_upward: bool,
    ) -> None:
        frames = _Frames()
        with suppress(OSError):
            while data := await reader.read(65536):
                for piece, is_frame in frames.split(data):
                    if is_frame and self.delay is not None:
                        await asyncio.sleep(self.delay())
                    self.frames += is_frame
                    if is_frame and self.frames == self.harm_at:
                        self._do_harm(writer, back, frozen, is_upward=is_upward)
                    if frozen.is_set():
                        # Read on, so that nobody is told that nobody reads.
                        continue
                    writer.write(piece)
                await writer.drain()
            if writer.can_write_eof() and not frozen.is_set():
                writer.write_eof()

    def _do_harm(
        self, writer: asyncio.StreamWriter, back: asyncio.StreamWriter, frozen: asyncio.Event, *, is_upward: bool
    ) -> None:
        self.harmed.set()
        frozen.set()
        if self.harm == "abort":
            _abort(writer, back)
        elif self.harm == "half-close":
            (back if is_upward else writer).write_eof()


def _abort(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.transport.abort()


@asynccontextmanager
async def open_proxy(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of loopback, on a port of its own."""
    proxy = Proxy(port)
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.carry(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)
        await asyncio.wait([task])

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        for task in tuple(carrying):
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


def jitter(most: float) -> Callable[[], float]:
    """Delays up to so many seconds, the same in every run."""
    dice = random.Random(7)
    return lambda: dice.random() * most
