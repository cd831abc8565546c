"""A session on asyncio: a machine on one side, a transport on the other, and this in between.

It corks: what the machine wants to say within one turn of the loop leaves in one write, so that a call costs one
packet, not three. It slices: a long read gives timers and other tasks their turn. It watches how much is unsent, and
ends the session of a peer that does not read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from itx_notebook.capnweb.memory import open_memory_transports
from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.hooks import Proxy
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.machine import Machine, Options, Stats
from itx_notebook.capnweb.protocol.tables import ImportHook
from itx_notebook.capnweb.runtime import AsyncioRuntime
from itx_notebook.capnweb.stub import RpcPromise, RpcStub
from itx_notebook.capnweb.transport import NORMAL_CLOSURE, Transport, TransportOptions

__all__ = ["Session", "fit", "memory_pair", "session_of"]

_DEFAULT: Final = Options()
_SLICE: Final = 32
"""Messages handled between two looks at the clock."""


class Session:
    """One connection's session. To be made and used on the thread of the running event loop.

    Parameters
    ----------
    transport : Transport
        The connection.
    main : object, optional
        What the peer gets as its main stub: an ``RpcTarget`` mostly.
    options : Options, optional
        Limits and behaviour.

    Attributes
    ----------
    main : RpcStub
        The peer's main object. Disposing it ends the session.
    """

    def __init__(self, transport: Transport, main: Any = None, *, options: Options = _DEFAULT) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._options = options
        runtime = AsyncioRuntime(
            self._loop,
            RpcStub,
            RpcPromise,
            max_running=options.limits.max_running_calls,
            max_held_bytes=options.limits.max_held_bytes,
            on_call_error=options.on_call_error,
            keeps_undefined=options.keep_undefined,
        )
        runtime.wait_writable = self.writable
        self._machine = Machine(main, runtime=runtime, options=options, wake=self._wake)
        self._machine.owner = self
        self._backlog: deque[bytes] = deque()
        self._is_flush_planned = False
        self._closed: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._writable: asyncio.Future[None] | None = None
        stub = self._machine.main
        assert isinstance(stub, RpcStub)  # noqa: S101  # what the runtime was told to make
        self.main: RpcStub = stub
        transport.start(self)

    @property
    def error(self) -> Exception | None:
        """Why the session has ended; ``None`` while it lives."""
        return self._machine.error

    @property
    def peer(self) -> str:
        """The other end's address, for people."""
        return self._transport.peer

    @property
    def limits(self) -> Limits:
        """The limits it was made with."""
        return self._options.limits

    def stats(self) -> Stats:
        """Return how many references are held, main objects counted: ``(1, 1)`` when everything was given back."""
        return self._machine.stats()

    async def drain(self) -> None:
        """Wait until every result the peer asked for so far has been handed to the transport."""
        answered = asyncio.Event()
        self._machine.call_when_answered(answered.set)
        await answered.wait()
        self._flush()

    @property
    def is_writable(self) -> bool:
        """Whether :meth:`writable` would not wait now."""
        return self._transport.buffered_bytes <= self._options.limits.outbound_high_bytes

    async def writable(self) -> None:
        """Wait while more is unsent than ``Limits.outbound_high_bytes``, until it is less than ``outbound_low_bytes``.

        Raises what ended the session, also while it waits. Cancelling is safe.
        """
        self._flush()
        if self._machine.error is None and not self.is_writable:
            if self._writable is None:
                self._writable = self._loop.create_future()
            await asyncio.shield(self._writable)
        if self._machine.error is not None:
            raise self._machine.error

    async def wait_closed(self) -> tuple[int, str]:
        """Wait until the connection has ended, and return its close code and reason. Cancelling is safe."""
        return await asyncio.shield(self._closed)

    def call_when_closed(self, callback: Callable[[], object]) -> None:
        """Call `callback` in a turn of the loop after the connection has ended."""
        self._closed.add_done_callback(lambda _: callback())

    async def close(self) -> None:
        """End the session: calls that wait fail, what was given out is disposed. Repeating is harmless."""
        self._machine.shut_down("The session was closed.", NORMAL_CLOSURE, "")
        self._flush()
        await self.wait_closed()

    def abort(self, error: BaseException) -> None:
        """End the session and tell the peer why."""
        self._machine.abort(error)

    # What the transport calls

    def messages_received(self, messages: list[bytes]) -> None:
        """Handle messages, as many as fit a slice; the rest in later turns of the loop."""
        if self._backlog:
            self._backlog.extend(messages)
            return
        self._handle(messages)

    def resume_writing(self) -> None:
        """Let those go on who wait for room."""
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def connection_lost(self, code: int, reason: str) -> None:
        """Handle what arrived before, and fail what waits then."""
        while self._backlog:
            self._machine.receive(self._backlog.popleft())
        self._machine.connection_lost(code, reason)
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result((code, reason))

    # Inside

    def _handle(self, messages: list[bytes]) -> None:
        machine = self._machine
        receive = machine.receive
        settled = machine.settled_imports
        if len(messages) <= _SLICE:
            for message in messages:
                receive(message)
        else:
            self._handle_slice(messages)
        machine.settle()
        if machine.settled_imports == settled:
            # Nobody here was woken who could have more to say in this turn: the answers need not wait for it.
            self._flush()

    def _handle_slice(self, messages: list[bytes]) -> None:
        receive = self._machine.receive
        end = time.perf_counter() + self._options.limits.read_slice_seconds
        for start in range(0, len(messages), _SLICE):
            for message in messages[start : start + _SLICE]:
                receive(message)
            if time.perf_counter() > end and start + _SLICE < len(messages):
                self._backlog.extend(messages[start + _SLICE :])
                self._transport.pause_reading()
                self._loop.call_soon(self._go_on)
                return

    def _go_on(self) -> None:
        if not self._backlog:
            return
        messages = list(self._backlog)
        self._backlog.clear()
        self._handle(messages)
        if not self._backlog:
            self._transport.resume_reading()

    def _wake(self) -> None:
        machine = self._machine
        if not self._is_flush_planned:
            self._is_flush_planned = True
            self._loop.call_soon(self._flush_planned)
        elif len(machine.outbox) > 1:
            # The peer can be at work on these already. What else a flush does waits: this may be amid anything.
            messages, machine.outbox = machine.outbox, []
            self._transport.send(messages)

    def _flush_planned(self) -> None:
        self._is_flush_planned = False
        self._flush()

    def _flush(self) -> None:
        machine = self._machine
        messages = machine.outbox
        if messages:
            machine.outbox = []
            machine.answered_bytes = 0
            self._transport.send(messages)
            unsent = self._transport.buffered_bytes
            if unsent > self._options.limits.max_outbound_bytes and machine.error is None:
                machine.abort(RpcError(f"The peer does not read: {unsent} bytes are unsent."))
                # No message would reach it before what is unsent already.
                self._transport.abort()
                return
        request = machine.close_request
        if request is not None:
            machine.close_request = None
            self._transport.close(*request)


def memory_pair(
    left: Any = None, right: Any = None, *, options: Options = _DEFAULT, right_options: Options | None = None
) -> tuple[Session, Session]:
    """Return two sessions in this process, joined in memory: for tests, and to keep parts of a program apart."""
    first, second = open_memory_transports()
    right_options = right_options or options
    first.options, second.options = fit(first.options, options), fit(second.options, right_options)
    return Session(first, left, options=options), Session(second, right, options=right_options)


def fit(transport_options: TransportOptions, options: Options) -> TransportOptions:
    """Let a session's limits hold for its connection too: they are named once."""
    limits = options.limits
    return replace(
        transport_options,
        max_message_bytes=limits.max_message_bytes,
        high_water_bytes=limits.outbound_high_bytes,
        low_water_bytes=limits.outbound_low_bytes,
    )


def session_of(stub: Proxy) -> Session | None:
    """Return the session by which `stub` came, also an ended one; ``None`` if it is local or was disposed."""
    hook = stub._hook if isinstance(stub._hook, ImportHook) else stub._hook.unwrap()
    machine = hook.machine if isinstance(hook, ImportHook) else None
    owner = None if machine is None else machine.owner
    return owner if isinstance(owner, Session) else None
