"""The half of a WebSocket connection that faces the socket: writing, pausing, keeping alive, and ending.

Which library cuts the bytes into frames (``websocket`` or ``fast``) is a subclass's business; how a connection behaves
is decided here once, so that the two cannot differ. A connection is its own asyncio protocol: from the socket's bytes
to the receiver is one chain of plain calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from itx_notebook.capnweb.forking import disown_socket, own_socket
from itx_notebook.capnweb.paced import PacedSocket
from itx_notebook.capnweb.transport import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    Receiver,
    TransportOptions,
    cut_reason,
    is_sendable_close_code,
)

__all__ = ["Connection", "get_peer_name"]


class Connection:
    """A WebSocket connection after its handshake; a :class:`~itx_notebook.capnweb.transport.Transport`.

    It does not read before :meth:`start`. Attributes with one underscore are for the subclasses too.

    Parameters
    ----------
    is_client
        Whether this end masks its frames and waits for the other to end the TCP connection.
    subprotocol
        What the handshake agreed on, if anything.
    """

    implementation: ClassVar[str]

    def __init__(self, options: TransportOptions, *, is_client: bool, subprotocol: str | None = None) -> None:
        self.options = options
        self.is_client = is_client
        self.subprotocol = subprotocol
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport
        self._paced: PacedSocket | None = None
        self._receiver: Receiver = _NOBODY
        self._peer = ""
        # Bytes that came with the handshake, until they may be read as frames.
        self._early = b""
        self._is_started = False
        self._is_reading_paused = False
        # How much more is read; None: without limit. And whether that is why nothing is.
        self._input_left: int | None = None
        self._is_input_spent = False
        # From the first close frame, sent or received, or the cut: nothing is sent or delivered any more.
        self._is_ending = False
        # What connection_lost will say; of the close frame that was first.
        self._outcome: tuple[int, str] | None = None
        self._is_lost = False
        # Whether the peer's bytes still mean anything: not once it broke the protocol.
        self._is_deaf = False
        # When the peer was last heard, and whether it was since the last silence began that it was pinged for.
        self._heard_at = self._pinged_at = 0.0
        self._has_heard = True
        self._timer: asyncio.TimerHandle | None = None
        self._on_end: Callable[[Connection], None] | None = None

    # The subclass's part.

    def _feed(self, data: bytes) -> None:
        """Take bytes of the socket: deliver the messages in them and answer the rest."""
        raise NotImplementedError

    def _write_close(self, code: int, reason: str) -> None:
        """Write a close frame."""
        raise NotImplementedError

    def _write_ping(self) -> None:
        """Write a ping."""
        raise NotImplementedError

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as one text frame, all of them in one write."""
        raise NotImplementedError

    # What a session uses.

    def start(self, receiver: Receiver) -> None:
        """Deliver to `receiver` from the next turn of the loop on; once."""
        if self._receiver is not _NOBODY:
            raise RuntimeError("This connection has a receiver already.")
        self._receiver = receiver
        self._loop.call_soon(self._begin)

    def close(self, code: int, reason: str) -> None:
        """Send what waits and a close frame, give the peer ``close_timeout`` to answer, then cut."""
        if not is_sendable_close_code(code):
            raise ValueError(f"{code} may not stand in a close frame.")
        if not self._is_ending:
            reason = cut_reason(reason)
            self._write_close(code, reason)
            self._begin_end(code, reason)

    def abort(self) -> None:
        """Cut the wire now, without a close frame."""
        self._is_ending = self._is_deaf = True
        if not self._is_lost:
            self._socket.abort()

    def pause_reading(self) -> None:
        """Read nothing more from the socket."""
        if not self._is_reading_paused:
            self._is_reading_paused = True
            if self._is_started and not self._is_ending:
                self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Read again, from the next turn of the loop on."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._hear()
            if self._early:
                self._loop.call_soon(self._read_on)
            elif self._is_started and not self._is_ending:
                self._resume_socket()

    def limit_input(self, max_bytes: int | None) -> None:
        """Read so many bytes more, then nothing until this is called again; ``None``: read without limit.

        For a peer that has not said yet who it is. What is beyond it waits in the system, which lets the peer wait; by
        how much the last read exceeds it, the size of a read bounds.
        """
        self._input_left = max_bytes
        if self._is_input_spent:
            self._is_input_spent = False
            if self._is_started and not self._is_ending:
                self._resume_socket()

    @property
    def buffered_bytes(self) -> int:
        """Bytes sent and not yet taken by the system."""
        return 0 if self._is_lost else self._socket.get_write_buffer_size()

    @property
    def peer(self) -> str:
        """The other end, for people."""
        return self._peer

    # From the handshake.

    def attach(
        self,
        socket: asyncio.Transport,
        early: bytes,
        on_end: Callable[[Connection], None] | None = None,
    ) -> None:
        """Take the socket over from the handshake, which has paused its reading.

        `early` are the bytes that came after the handshake; `on_end` is called before ``connection_lost``.
        """
        if socket.get_extra_info("ssl_object") is not None:
            socket = self._paced = PacedSocket(socket)
        self._socket = socket
        self._early = early
        self._on_end = on_end
        self._peer = get_peer_name(socket)
        self._number = own_socket(socket.get_extra_info("socket"))
        socket.set_write_buffer_limits(self.options.high_water_bytes, self.options.low_water_bytes)
        socket.set_protocol(cast("asyncio.BaseProtocol", self))

    # From asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing: :meth:`attach` has brought the socket."""

    def pause_writing(self) -> None:
        """Little: a session asks for ``buffered_bytes``."""
        if self._paced is not None:
            self._paced.pause()

    def resume_writing(self) -> None:
        """Pass on that the buffer has drained."""
        is_drained = self._paced is None or self._paced.resume()
        if is_drained and not self._is_ending:
            self._receiver.resume_writing()

    def eof_received(self) -> bool | None:
        """The peer writes no more: asyncio sends what waits, and closes; a peer that does not take it is cut."""
        self._is_ending = True
        self._cut_in_time()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over."""
        disown_socket(self._number)
        self._is_ending = self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._outcome is None:
            self._outcome = (ABNORMAL_CLOSURE, cut_reason(str(exc)) if exc is not None else "")
        if self._on_end is not None:
            self._on_end(self)
        if self._is_started:
            self._tell_lost()

    # Inside.

    def _hear(self, size: int = 0) -> None:
        """Note that the peer lives, and has sent so many bytes."""
        self._has_heard, self._heard_at = True, self._loop.time()
        if self._input_left is not None:
            self._spend(size)

    def _spend(self, size: int) -> None:
        assert self._input_left is not None  # noqa: S101  # asked by the caller
        self._input_left -= size
        if self._input_left <= 0 and not self._is_input_spent:
            self._is_input_spent = True
            if self._is_started and not self._is_ending and not self._is_reading_paused:
                self._socket.pause_reading()

    def _deliver(self, messages: list[bytes]) -> None:
        """Hand messages over. An error in the receiver is a defect of ours that no later message can mend."""
        try:
            self._receiver.messages_received(messages)
        except Exception as error:
            self._loop.call_exception_handler(
                {
                    "message": "A receiver of Cap'n Web messages failed; its connection is cut.",
                    "exception": error,
                    "transport": self._socket,
                    "protocol": self,
                }
            )
            self.abort()

    def _begin(self) -> None:
        self._is_started = True
        if self._is_lost:
            self._tell_lost()
        elif not self._is_ending:
            self._watch()
            self._read_on()

    def _read_on(self) -> None:
        """Read what came with the handshake, then the socket. Harmless when there is nothing to do."""
        if self._is_reading_paused or self._is_input_spent or not self._is_started or self._is_lost:
            return
        self._feed_early()
        self._resume_socket()

    def _feed_early(self) -> None:
        if self._early:
            early, self._early = self._early, b""
            self._feed(early)

    def _resume_socket(self) -> None:
        if not self._is_reading_paused and not self._is_input_spent and not self._socket.is_closing():
            self._socket.resume_reading()

    def _tell_lost(self) -> None:
        if self._outcome is not None:
            self._receiver.connection_lost(*self._outcome)

    def _begin_end(self, code: int, reason: str) -> None:
        """The first close frame is written or read: give the rest a bounded time."""
        self._is_ending = True
        self._outcome = (code, reason)
        self._cut_in_time()
        # The peer's close frame and the end of its stream still have to be read.
        self._is_reading_paused = self._is_input_spent = False
        self._input_left = None
        self._feed_early()
        self._resume_socket()

    def _cut_in_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self.options.close_timeout, self._socket.abort)

    def _fail(self, code: int, reason: str) -> None:
        """The peer broke a rule: say which, and listen no more."""
        if not self._is_ending:
            self._write_close(code, reason)
            self._end_deaf(code, reason)

    def _end_deaf(self, code: int, reason: str) -> None:
        self._is_deaf = True
        self._early = b""
        self._begin_end(code, reason)
        self._shut_down()

    def _shut_down(self) -> None:
        """End our half of the TCP connection after what waits; TLS knows no halves."""
        if self._socket.can_write_eof():
            self._socket.write_eof()
        else:
            self._socket.close()

    def _watch(self) -> None:
        """Begin to look after the peer's silences."""
        self._heard_at = self._loop.time()
        if self.options.ping_interval is not None:
            self._timer = self._loop.call_later(self.options.ping_interval, self._look)

    def _look(self) -> None:
        ping_interval, ping_timeout = self.options.ping_interval, self.options.ping_timeout
        if ping_interval is None:
            return
        now = self._loop.time()
        if self._is_reading_paused or self._is_input_spent:
            # Its silence is our doing.
            self._has_heard, self._heard_at = True, now
        silence = now - self._heard_at
        if silence < ping_interval:
            self._timer = self._loop.call_later(ping_interval - silence, self._look)
            return
        if self._has_heard:
            # The first ping of this silence, from which its time runs.
            self._has_heard, self._pinged_at = False, now
        delay = ping_interval
        if ping_timeout is not None:
            delay = min(delay, self._pinged_at + ping_timeout - now)
            if delay <= 0:
                # A loop that was blocked may run late timers before it reads what has long arrived (uvloop does):
                # one more turn, with a read in it, before the verdict.
                self._timer = self._loop.call_later(0, self._judge)
                return
        self._write_ping()
        self._timer = self._loop.call_later(delay, self._look)

    def _judge(self) -> None:
        if self._has_heard or self._is_reading_paused or self._is_input_spent:
            self._look()
        else:
            self._fail(INTERNAL_ERROR, f"nothing heard for {self.options.ping_timeout} s after a ping")


class _Nobody:
    """The receiver of a connection that has none yet, to which nothing is delivered."""

    def messages_received(self, messages: list[bytes]) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, code: int, reason: str) -> None: ...


_NOBODY = _Nobody()


def get_peer_name(socket: asyncio.BaseTransport) -> str:
    """The other end of a socket, for people: address and port, or a Unix socket's path."""
    name: Any = socket.get_extra_info("peername")
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    # Only the side that listens has a name.
    return str(name or socket.get_extra_info("sockname") or "")
