"""What stands in a session's two tables, and the references to it.

An :class:`Export` is an object that the peer may refer to. An :class:`Import` is an object of the peer's, or the result
of a call to it; an :class:`ImportHook` is one reference to that, and the last one gone gives it back. The machine owns
both tables and says everything; nothing here sends a message of its own.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

from itx_notebook.capnweb.protocol.errors import RpcDisposed
from itx_notebook.capnweb.protocol.held import Charge
from itx_notebook.capnweb.protocol.hooks import (
    ErrorHook,
    Hook,
    MapFunction,
    Path,
    Payload,
    Reader,
    Registration,
    Runtime,
    Waiter,
)
from itx_notebook.capnweb.protocol.limits import Limits
from itx_notebook.capnweb.protocol.payload import hand_out
from itx_notebook.capnweb.protocol.pending import CANCELLED
from itx_notebook.capnweb.protocol.pipes import Readable

__all__ = ["Answer", "Export", "Import", "ImportHook", "Keeper"]


class Keeper(Protocol):
    """Who keeps the tables: the machine, as far as what stands in them speaks through it."""

    runtime: Runtime
    limits: Limits
    error: Exception | None
    owner: object

    def send_call(self, import_id: int, path: Path, values: list[Any]) -> Hook:
        """Call the peer."""

    def send_get(self, import_id: int, path: Path) -> Hook:
        """Read a property at the peer."""

    def send_map(self, import_id: int, path: Path, function: MapFunction) -> Hook:
        """Have the peer run a recorded function."""

    def send_stream(self, import_id: int, path: Path, args: Payload, waiter: Waiter) -> int:
        """Call the peer, which tells the outcome unasked."""

    def send_pull(self, entry: Import, waiter: Waiter) -> None:
        """Ask for a result."""

    def release(self, entry: Import) -> None:
        """Give an unresolved import back."""

    def drop(self, entry: Import) -> None:
        """Give back a reference that was garbage-collected."""

    def watch(self, entry: Import, registration: Registration) -> None:
        """Tell when `entry` breaks."""

    def shut_down(self) -> None:
        """End the session."""

    def answer(self, export_id: int, entry: Export, payload: Payload) -> None:
        """Send a result."""

    def answer_expression(self, export_id: int, entry: Export, expression: Any) -> None:
        """Send a result that is an expression already."""

    def answer_error(self, export_id: int, entry: Export, error: Exception) -> None:
        """Send a failure."""


class Export:
    """An object the peer may refer to."""

    __slots__ = ("charge", "hook", "is_pulled", "readable", "refcount", "unread_bytes")

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.refcount = 1
        self.is_pulled = False
        self.charge: Charge | None = None
        """Of a result that was sent, and is kept for what may still be asked of it."""
        self.unread_bytes = 0
        """Of what a ``stream`` message made: what it counts until it is answered, and forgotten."""
        self.readable: Readable | None = None
        """Of a pipe: its readable end, until that is taken."""


class Import:
    """An object of the peer's, or the result of a call to it."""

    __slots__ = (
        "id",
        "is_promise",
        "is_pulled",
        "is_stream",
        "local_refs",
        "machine",
        "registrations",
        "remote_refs",
        "resolution",
        "waiters",
    )

    def __init__(self, machine: Keeper, import_id: int, *, is_promise: bool) -> None:
        self.machine = machine
        self.id = import_id
        self.is_promise = is_promise
        self.is_pulled = False
        self.is_stream = False
        self.local_refs = 0
        self.remote_refs = 1
        self.resolution: Hook | None = None
        self.waiters: list[Waiter] | None = None
        self.registrations: list[Registration] | None = None

    def settle(self, hook: Hook) -> None:
        """Become `hook`: wake who waits."""
        self.resolution = hook
        waiters, self.waiters = self.waiters, None
        registrations, self.registrations = self.registrations, None
        if waiters:
            for waiter in waiters:
                hook.pull(waiter)
        if registrations:
            for registration in registrations:
                owner, registration.owner = registration.owner, None
                if owner is None:
                    continue
                # If what this became is of the same session, the callback keeps its place among the others.
                hook.on_broken(registration)
                if registration.owner is not owner:
                    owner.pop(registration, None)


class ImportHook(Hook):
    """One local reference to an object of the peer's."""

    __slots__ = ("_entry",)

    def __init__(self, entry: Import) -> None:
        self._entry: Import | None = entry
        entry.local_refs += 1

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        entry = self._entry
        if entry is None:
            return ErrorHook(RpcDisposed())
        if entry.resolution is not None:
            return self.unwrap().invoke(path, values)
        return entry.machine.send_call(entry.id, path, values)

    def call(self, path: Path, args: Payload) -> Hook:
        entry = self._entry
        if entry is None:
            args.dispose()
            return ErrorHook(RpcDisposed())
        if entry.resolution is not None:
            return self.unwrap().call(path, args)
        try:
            return entry.machine.send_call(entry.id, path, args.value)
        finally:
            args.dispose()

    def get(self, path: Path) -> Hook:
        entry = self._entry
        if entry is None:
            return ErrorHook(RpcDisposed())
        if not path:
            return self.dup()
        if entry.resolution is not None:
            return self.unwrap().get(path)
        return entry.machine.send_get(entry.id, path)

    def map(self, path: Path, function: MapFunction) -> Hook:
        entry = self._entry
        if entry is None:
            return ErrorHook(RpcDisposed()).map(path, function)
        if entry.resolution is not None:
            return self.unwrap().map(path, function)
        return entry.machine.send_map(entry.id, path, function)

    def stream(self, path: Path, args: Payload, waiter: Waiter) -> int:
        entry = self._entry
        if entry is None:
            args.dispose()
            waiter.reject(RpcDisposed())
            return 0
        if entry.resolution is not None:
            return self.unwrap().stream(path, args, waiter)
        return entry.machine.send_stream(entry.id, path, args, waiter)

    def pull(self, waiter: Waiter) -> None:
        entry = self._entry
        if entry is None:
            waiter.reject(RpcDisposed(CANCELLED))
        elif entry.resolution is not None:
            self.unwrap().pull(waiter)
        elif isinstance(waiter, Answer) and waiter.machine is entry.machine and entry.is_promise:
            # The peer has the value, or will: it is told which one is meant.
            waiter.forward(entry.id)
        elif entry.is_promise:
            entry.machine.send_pull(entry, waiter)
        else:
            hand_out(ImportHook(entry), entry.machine.runtime, waiter)

    def dup(self) -> Hook:
        return ErrorHook(RpcDisposed()) if self._entry is None else ImportHook(self._entry)

    def dispose(self) -> None:
        hook: Hook = self
        while isinstance(hook, ImportHook):
            entry, hook._entry = hook._entry, None
            if entry is None:
                return
            entry.local_refs -= 1
            if entry.local_refs > 0:
                return
            if entry.resolution is None:
                if entry.id == 0:
                    entry.machine.shut_down()
                else:
                    entry.machine.release(entry)
                return
            hook = entry.resolution
        hook.dispose()

    def on_broken(self, registration: Registration) -> None:
        entry = self._entry
        if entry is None:
            registration.fire(RpcDisposed())
        elif entry.resolution is not None:
            self.unwrap().on_broken(registration)
        else:
            entry.machine.watch(entry, registration)

    def unwrap(self) -> Hook:
        # A loop, since a peer may let promises resolve to promises for as long as it likes.
        hook: Hook = self
        while isinstance(hook, ImportHook):
            entry = hook._entry
            if entry is None or entry.resolution is None:
                return hook
            hook = entry.resolution
        return hook.unwrap()

    def find_id(self, machine: Keeper) -> int | None:
        """Return the id under which `machine`'s peer knows the object; ``None`` if it is not that peer's."""
        entry = self._entry
        if entry is None:
            raise RpcDisposed
        return entry.id if entry.machine is machine and entry.resolution is None else None

    def designates(self, entry: Import) -> bool:
        """Whether this refers to `entry`."""
        return self._entry is entry

    @property
    def machine(self) -> Keeper | None:
        """The session the object came by; ``None`` once the reference is given back."""
        return None if self._entry is None else self._entry.machine

    def describe(self) -> str:
        """Say for people what this refers to and how it stands."""
        entry = self._entry
        if entry is None:
            return "disposed"
        if isinstance(entry.resolution, ErrorHook):
            return f"broken: {entry.resolution.error}"
        if entry.id == 0:
            return "main"
        kind = "promise" if entry.is_promise else "object"
        return f"{kind} {entry.id}" if entry.resolution is None else f"{kind} {entry.id}, resolved"

    def __del__(self) -> None:
        entry = self._entry
        if entry is not None and entry.resolution is None and entry.machine.error is None:
            self._entry = None
            entry.machine.runtime.post(functools.partial(entry.machine.drop, entry))


class Answer(Reader):
    """Waits for an export's value, to send it."""

    __slots__ = ("entry", "id", "machine")

    def __init__(self, machine: Keeper, export_id: int, entry: Export) -> None:
        self.machine = machine
        self.id = export_id
        self.entry = entry

    def resolve(self, payload: Payload) -> None:
        self.machine.answer(self.id, self.entry, payload)

    def reject(self, error: Exception) -> None:
        self.machine.answer_error(self.id, self.entry, error)

    def forward(self, import_id: int) -> None:
        self.machine.answer_expression(self.id, self.entry, ["pipeline", import_id])
