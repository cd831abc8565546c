"""A TLS socket that knows how much is waiting.

asyncio's TLS transport encrypts whatever it is given and hands it to the plain socket below, where nobody counts it:
after a write of 16 MB to a peer that does not read, it says that no byte is waiting. This stands before it, keeps what
does not fit, and hands on little enough at a time for the count to be true.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["PacedSocket"]

_SLICE_BYTES = 64 * 1024


class PacedSocket(asyncio.Transport):
    """A TLS transport with a buffer of its own; what a connection calls, and no more.

    The connection passes on the TLS transport's own word: :meth:`pause` and :meth:`resume`. Up to some 200 KiB below,
    encrypted already, remain uncounted.
    """

    def __init__(self, socket: asyncio.Transport) -> None:
        super().__init__()
        self._socket = socket
        self._backlog = bytearray()
        self._is_full = False
        self._is_high = False
        self._is_closing = False
        self._high_water_bytes = self._low_water_bytes = 0
        self.set_write_buffer_limits()

    def pause(self) -> None:
        """The socket takes no more for now."""
        self._is_full = True

    def resume(self) -> bool:
        """The socket takes more; True if what waits had passed the high-water mark and is down at the low one."""
        self._is_full = False
        self._push()
        if self._is_high and self.get_write_buffer_size() <= self._low_water_bytes:
            self._is_high = False
            return True
        return False

    def write(self, data: Any) -> None:
        """Write, or keep what cannot be written yet."""
        if not self.is_closing():
            self._backlog += data
            self._push()
            if self.get_write_buffer_size() > self._high_water_bytes:
                self._is_high = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks that :meth:`resume` goes by."""
        self._high_water_bytes = _SLICE_BYTES if high is None else high
        self._low_water_bytes = self._high_water_bytes // 4 if low is None else low
        # The socket's own mark lies under our low one: above that it will say so when it has come down.
        mark = min(_SLICE_BYTES, self._low_water_bytes)
        self._socket.set_write_buffer_limits(mark, mark // 4)

    def get_write_buffer_size(self) -> int:
        """Bytes waiting here, and those that the socket knows of."""
        return len(self._backlog) + self._socket.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """TLS knows no halves."""
        return False

    def close(self) -> None:
        """Close once everything is handed on."""
        self._is_closing = True
        self._push()

    def abort(self) -> None:
        """Cut at once."""
        self._is_closing = True
        self._backlog.clear()
        self._socket.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be once everything is handed on."""
        return self._is_closing or self._socket.is_closing()

    def pause_reading(self) -> None:
        """Read no more."""
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._socket.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the socket says of itself."""
        return self._socket.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whom the socket tells what happens."""
        self._socket.set_protocol(protocol)

    def _push(self) -> None:
        while self._backlog and not self._is_full:
            piece = bytes(self._backlog[:_SLICE_BYTES])
            del self._backlog[:_SLICE_BYTES]
            self._socket.write(piece)
        if self._is_closing and not self._backlog:
            self._socket.close()
