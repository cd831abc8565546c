"""Machines without a loop: a runtime that steps coroutines by hand, pairs whose messages a test delivers, checks."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

from itx_notebook.capnweb.protocol.held import Charge, Meter
from itx_notebook.capnweb.protocol.hooks import Hook, Payload, Proxy, QueuedCall
from itx_notebook.capnweb.protocol.local import TargetHook
from itx_notebook.capnweb.protocol.machine import Machine, Options
from itx_notebook.capnweb.protocol.payload import deliver_payload, own_payload
from itx_notebook.capnweb.stub import RpcPromise, RpcStub

__all__ = ["Gate", "InlineRuntime", "Outcome", "Pair", "ask", "check_tables", "make_machine", "read", "receive", "says"]


class InlineRuntime:
    """Runs calls as the session's runtime does, on no loop: a coroutine goes on when what it waits for happens.

    Parameters
    ----------
    max_running : int
        How many calls may be under way; later ones wait.
    max_held_bytes : int
        How much may be held for the peer.
    """

    def __init__(self, max_running: int = 1000, max_held_bytes: int = sys.maxsize) -> None:
        self.stub_type: type[Proxy] = RpcStub
        self.promise_type: type[Proxy] = RpcPromise
        self.keeps_undefined = False
        self.local = self
        self.pending = 0
        self.resolving: list[Callable[[], None]] = []
        self.held = Meter(max_held_bytes)
        self.charge: Charge | None = None
        self.referred: list[Any] = []
        """Every target and function a reference was made to, in order."""
        self.now = 0.0
        """What the clock shows."""
        self._max_running = max_running
        self._running = 0
        self._queue: deque[QueuedCall] = deque()
        self._ended: Exception | None = None
        self._posted: list[Callable[[], None]] = []
        self._spawned: list[InlineTask] = []

    @property
    def is_backed_up(self) -> bool:
        return bool(self._queue) or self._running >= self._max_running

    def enqueue(self, call: QueuedCall) -> None:
        if self._ended is None:
            self._queue.append(call)
        else:
            call.give_up(self._ended)

    def end(self, error: Exception) -> None:
        self._ended = error
        while self._queue:
            self._queue.popleft().give_up(error)

    def refer(self, target: Any) -> Hook:
        self.referred.append(target)
        return TargetHook.wrap(target, self)

    def start(self, awaitable: Awaitable[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self._running += 1
        self._step(awaitable if inspect.iscoroutine(awaitable) else awaitable.__await__(), done)

    def _step(self, steps: Any, done: Callable[[Any, BaseException | None], None]) -> None:
        try:
            subscribe = steps.send(None)
        except StopIteration as stop:
            self._finish()
            done(stop.value, None)
        except Exception as error:
            self._finish()
            done(None, error)
        else:
            subscribe(lambda: self._step(steps, done))

    def _finish(self) -> None:
        self._running -= 1

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> InlineTask:
        task = InlineTask(self, coroutine)
        self._spawned.append(task)
        return task

    def create_future(self) -> Gate:
        return Gate()

    async def pause(self) -> None:
        gate = Gate()
        self.post(gate.open)
        await gate

    def get_time(self) -> float:
        return self.now

    def post(self, action: Callable[[], None]) -> None:
        self._posted.append(action)

    def call_failed(self, callee: Any, error: BaseException) -> None:
        """The caller is told, which is enough here."""

    def turn(self) -> None:
        """Do what was posted, and make calls that waited for room: what a turn of the loop would do."""
        while self._posted or (self._queue and self._running < self._max_running):
            posted, self._posted = self._posted, []
            for action in posted:
                action()
            while self._queue and self._running < self._max_running:
                self._queue.popleft().begin()


class Gate:
    """Something a coroutine waits for until the test opens it."""

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: list[Callable[[], None]] = []

    def open(self) -> None:
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def done(self) -> bool:
        return self.is_open

    def set_result(self, result: None, /) -> None:
        self.open()

    def __await__(self) -> Generator[Callable[[Callable[[], None]], None], None, None]:
        if not self.is_open:
            yield self._waiting.append


class InlineTask:
    """A coroutine that runs beside the calls, from the runtime's next turn on."""

    def __init__(self, runtime: InlineRuntime, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._is_cancelled = False
        self._step_number = 0
        self._runtime = runtime
        self._plan()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._plan()

    def _plan(self) -> None:
        # What was planned before, by a gate that opens later, has no meaning any more.
        self._step_number += 1
        number = self._step_number
        self._runtime.post(lambda: self._step(number))

    def _step(self, number: int) -> None:
        if number != self._step_number:
            return
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                subscribe = self._coroutine.throw(asyncio.CancelledError())
            else:
                subscribe = self._coroutine.send(None)
        except StopIteration:
            self._step_number = -1
        else:
            subscribe(self._plan)


class Outcome:
    """What became of a promise: a waiter that keeps what it is told."""

    def __init__(self) -> None:
        self.is_known = False
        self.value: Any = None
        self.error: Exception | None = None
        self._waiting: list[Callable[[], None]] = []
        self._payload: Payload | None = None

    def resolve(self, payload: Payload) -> None:
        own_payload(payload)
        self._payload = payload
        deliver_payload(payload, self._delivered)

    def _delivered(self, error: Exception | None) -> None:
        assert self._payload is not None
        self._know(self._payload.value, error)

    def reject(self, error: Exception) -> None:
        self._know(None, error)

    def _know(self, value: Any, error: Exception | None) -> None:
        assert not self.is_known, "a waiter is told once"
        self.is_known, self.value, self.error = True, value, error
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def __await__(self) -> Generator[Callable[[Callable[[], None]], None], None, Any]:
        if not self.is_known:
            yield self._waiting.append
        if self.error is not None:
            raise self.error
        return self.value


def ask(promise: RpcStub) -> Outcome:
    """Ask for a promise's value, as ``await`` does; the outcome can be awaited on an :class:`InlineRuntime`."""
    outcome = Outcome()
    hook = promise._hook.get(promise._path) if promise._path else promise._hook
    hook.pull(outcome)
    return outcome


def make_machine(main: Any = None, options: Options | None = None) -> Machine:
    """Return a machine on a runtime of its own."""
    chosen = options or Options()
    runtime = InlineRuntime(chosen.limits.max_running_calls, chosen.limits.max_held_bytes)
    return Machine(main, runtime=runtime, options=chosen, wake=lambda: None)


def runtime_of(machine: Machine) -> InlineRuntime:
    assert isinstance(machine.runtime, InlineRuntime)
    return machine.runtime


def receive(machine: Machine, *messages: bytes) -> None:
    """Handle messages as one read of a socket, then a turn of the loop."""
    for message in messages:
        machine.receive(message)
    machine.settle()
    runtime_of(machine).turn()


def read(machine: Machine) -> Iterator[Any]:
    """Take the messages out of the outbox, as JSON."""
    messages, machine.outbox = machine.outbox, []
    for message in messages:
        yield json.loads(message)


def says(machine: Machine, *messages: Any) -> list[Any]:
    """Handle messages, and return what is said to them."""
    receive(machine, *(json.dumps(message).encode() for message in messages))
    return list(read(machine))


def check_tables(machine: Machine) -> None:
    """Check what must hold for a machine's tables between any two messages."""
    exports, imports = machine._exports, machine._imports
    if machine.error is not None:
        assert (exports, imports) == ({}, {})
        return
    assert 0 in exports
    assert 0 in imports
    for export_id, export in exports.items():
        assert machine._last_given <= export_id <= machine._last_peer_call
        assert export.refcount >= 1
    for import_id, entry in imports.items():
        assert import_id <= machine._last_call
        assert (entry.id, entry.machine, entry.resolution) == (import_id, machine, None)
        assert entry.remote_refs >= 1
        assert entry.local_refs >= (0 if import_id == 0 or entry.is_stream else 1)
        assert entry.is_promise or not entry.waiters
    assert len(exports) <= machine.limits.max_exports + 1
    assert sum(import_id < 0 for import_id in imports) <= machine.limits.max_imports
    assert machine._unanswered >= 0


class Pair:
    """Two machines joined; messages wait in two queues until the test lets one through."""

    def __init__(
        self, left: Any = None, right: Any = None, options: Options | None = None, right_options: Options | None = None
    ) -> None:
        self.left = make_machine(left, options)
        self.right = make_machine(right, right_options or options)
        self._to_left: deque[bytes] = deque()
        self._to_right: deque[bytes] = deque()

    def collect(self) -> None:
        """Put what both sides want to say on the wire."""
        for machine, wire in ((self.left, self._to_right), (self.right, self._to_left)):
            wire.extend(machine.outbox)
            machine.outbox = []

    def deliver(self, *, to_left: bool) -> bool:
        """Let one message through; whether there was one."""
        self.collect()
        wire, machine = (self._to_left, self.left) if to_left else (self._to_right, self.right)
        if not wire:
            return False
        receive(machine, wire.popleft())
        return True

    def run(self) -> None:
        """Let messages through, in turn, until none are left."""
        is_going = True
        while is_going:
            runtime_of(self.left).turn()
            runtime_of(self.right).turn()
            is_going = self.deliver(to_left=False) | self.deliver(to_left=True)
