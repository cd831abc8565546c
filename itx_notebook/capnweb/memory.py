"""Two transports joined in memory: what a session's tests run on, and two sides within one process.

They behave as a socket does where a session can notice: messages arrive on a later turn of the loop, those sent
meanwhile arrive together, what the other side has not read counts as buffered, and closing is a handshake. Beyond that
the wire obeys a test: it can be cut, slowed by turns of the loop, or stalled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from itx_notebook.capnweb.frames import is_utf8
from itx_notebook.capnweb.transport import (
    ABNORMAL_CLOSURE,
    DEFAULT_OPTIONS,
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    Receiver,
    TransportOptions,
    cut_reason,
    is_sendable_close_code,
)

__all__ = ["MemoryTransport", "open_memory_transports"]


def open_memory_transports(options: TransportOptions = DEFAULT_OPTIONS) -> tuple[MemoryTransport, MemoryTransport]:
    """Two transports, each the other's peer. On the running loop."""
    left, right = MemoryTransport(options), MemoryTransport(options)
    left.join(right)
    right.join(left)
    return left, right


class _CloseFrame:
    """The close frame among what waits to be read."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class MemoryTransport:
    """One end of a pair; a :class:`~itx_notebook.capnweb.transport.Transport`.

    Made by :func:`open_memory_transports`.
    """

    def __init__(self, options: TransportOptions = DEFAULT_OPTIONS) -> None:
        self.options = options
        self._loop = asyncio.get_running_loop()
        self._other = self
        self._receiver: Receiver | None = None
        # What the other end has sent and this one has not read.
        self._inbox: deque[bytes | _CloseFrame] = deque()
        self._inbox_bytes = 0
        # Whether the other end's buffer passed its high-water mark and has not come down since.
        self._is_inbox_high = False
        self._is_read_due = False
        self._is_paused = False
        self._is_stalled = False
        self._delay_turns = 0
        self._is_ending = False
        self._is_lost = False
        self._outcome: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def join(self, other: MemoryTransport) -> None:
        """Make `other` the peer."""
        self._other = other

    # What a test does to the wire.

    def cut(self) -> None:
        """Cut the wire between the two: both ends lose the connection on the next turn of the loop, without a close."""
        self.lose()
        self._other.lose()

    def delay(self, turns: int) -> None:
        """Let what arrives from now on wait for `turns` more turns of the loop."""
        self._delay_turns = turns

    def stall(self) -> None:
        """Let nothing arrive at this end, as if the network or this end's process hung."""
        self._is_stalled = True

    def unstall(self) -> None:
        """Let arrive what has been waiting."""
        self._is_stalled = False
        self._plan_read()

    # What a session uses.

    def start(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from the next turn of the loop on; once."""
        if self._receiver is not None:
            raise RuntimeError("This connection has a receiver already.")
        self._receiver = receiver
        if self._is_lost:
            self._loop.call_soon(self._tell_lost)
        else:
            self._plan_read()

    def send(self, messages: Sequence[bytes]) -> None:
        """Send the messages; they arrive together."""
        if self._is_ending:
            return
        self._other.arrive(messages, self.options.high_water_bytes)

    def close(self, code: int, reason: str) -> None:
        """Send what waits and a close frame, give the peer ``close_timeout`` to answer, then cut."""
        if not is_sendable_close_code(code):
            raise ValueError(f"{code} may not stand in a close frame.")
        if not self._is_ending:
            self._end(code, cut_reason(reason))

    def abort(self) -> None:
        """Cut the wire now, without a close frame."""
        self._is_ending = True
        self.cut()

    def pause_reading(self) -> None:
        """Read nothing more."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Read again, from the next turn of the loop on."""
        self._is_paused = False
        self._plan_read()

    @property
    def buffered_bytes(self) -> int:
        """Bytes sent that the other end has not read."""
        return 0 if self._is_lost else self._other.unread_bytes

    @property
    def peer(self) -> str:
        """The word "memory"."""
        return "memory"

    # What the other end calls.

    @property
    def unread_bytes(self) -> int:
        """Bytes that have arrived and not been read."""
        return self._inbox_bytes

    def arrive(self, messages: Sequence[bytes], high_water_bytes: int) -> None:
        """Take messages in; tell the other end when they are read if they pass its high-water mark."""
        self._inbox.extend(messages)
        self._inbox_bytes += sum(map(len, messages))
        if self._inbox_bytes > high_water_bytes:
            self._is_inbox_high = True
        self._plan_read()

    def arrive_close(self, code: int, reason: str) -> None:
        """Take a close frame in, after the messages before it."""
        self._inbox.append(_CloseFrame(code, reason))
        self._plan_read()

    def drain(self) -> None:
        """The other end has read everything after its unread bytes had passed the high-water mark."""
        if self._receiver is not None and not self._is_ending:
            self._receiver.resume_writing()

    def lose(self) -> None:
        """The wire was cut."""
        if not self._is_lost:
            self._is_ending = self._is_lost = True
            self._inbox.clear()
            self._inbox_bytes = 0
            if self._timer is not None:
                self._timer.cancel()
            self._outcome = self._outcome or (ABNORMAL_CLOSURE, "")
            if self._receiver is not None:
                self._loop.call_soon(self._tell_lost)

    # Inside.

    def _plan_read(self) -> None:
        if self._inbox and not self._is_read_due and not self._is_lost:
            self._is_read_due = True
            self._loop.call_soon(self._wait_then_read, self._delay_turns)

    def _wait_then_read(self, turns: int) -> None:
        if turns > 0:
            self._loop.call_soon(self._wait_then_read, turns - 1)
        else:
            self._is_read_due = False
            self._read()

    def _read(self) -> None:
        """Deliver what waits: one call for all messages, then the close frame if one is among them."""
        receiver = self._receiver
        is_held = (self._is_paused and not self._is_ending) or self._is_stalled
        if is_held or self._is_lost or (receiver is None and not self._is_ending):
            return
        messages: list[bytes] = []
        broken: tuple[int, str] | None = None
        close: _CloseFrame | None = None
        for item in self._inbox:
            if isinstance(item, _CloseFrame):
                close = item
                break
            broken = broken or self._judge(item)
            if broken is None:
                messages.append(item)
        self._inbox.clear()
        self._inbox_bytes = 0
        if self._is_inbox_high:
            self._is_inbox_high = False
            self._loop.call_soon(self._other.drain)
        if messages and receiver is not None and not self._is_ending:
            self._deliver(receiver, messages)
        if broken is not None and not self._is_ending:
            self._end(*broken)
        if close is not None and not self._is_lost:
            if not self._is_ending:
                self._end(close.code, close.reason)
            # Both close frames have passed: the wire has no more use.
            self.cut()

    def _judge(self, message: bytes) -> tuple[int, str] | None:
        if len(message) > self.options.max_message_bytes:
            return MESSAGE_TOO_BIG, f"message of {len(message)} bytes; the limit is {self.options.max_message_bytes}"
        if not is_utf8(message):
            return INVALID_TEXT, "text that is not UTF-8"
        return None

    def _deliver(self, receiver: Receiver, messages: list[bytes]) -> None:
        try:
            receiver.messages_received(messages)
        except Exception as error:
            message = "A receiver of Cap'n Web messages failed; its connection is cut."
            self._loop.call_exception_handler({"message": message, "exception": error})
            self.abort()

    def _end(self, code: int, reason: str) -> None:
        """The first close frame is written or read: give the rest a bounded time."""
        self._is_ending = True
        self._outcome = (code, reason)
        self._timer = self._loop.call_later(self.options.close_timeout, self.cut)
        self._other.arrive_close(code, reason)
        self._plan_read()

    def _tell_lost(self) -> None:
        if self._receiver is not None and self._outcome is not None:
            self._receiver.connection_lost(*self._outcome)
