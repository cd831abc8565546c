"""The session as a machine: two tables of references, eight messages, and no socket.

It is fed messages (:meth:`Machine.receive`) and asked for messages (:attr:`Machine.outbox`). Every message is handled
at once, in order; nothing here waits. What a peer sends can end the session, never raise:
:attr:`Machine.close_request` then says how the connection is to be closed.

Ids: 0 is each side's main object. A positive id was chosen by the side that made the call, a negative one by the side
that gave the object out; neither is ever used twice. An id towards the peer is never given out twice for one object
either, since JavaScript peers give back one reference however often they got it.

It is long because the messages share the two tables, and nearly every message touches both. What could be taken out
is: ``tables``, ``local`` and ``pending`` have the references, ``serialize`` and ``evaluate`` the values, ``held`` and
``limits`` the counting.
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from itx_notebook.capnweb.protocol.channels import Channel, Pipe, WriterHook
from itx_notebook.capnweb.protocol.errors import (
    RpcAborted,
    RpcDisconnected,
    RpcDisposed,
    RpcError,
    RpcProtocolError,
    as_exception,
    describe_value,
    forget_frames,
)
from itx_notebook.capnweb.protocol.evaluate import Evaluator, parse_id
from itx_notebook.capnweb.protocol.held import LEAST_BYTES, Charge, Meter
from itx_notebook.capnweb.protocol.hooks import (
    ErrorHook,
    Hook,
    MapFunction,
    Path,
    Payload,
    Proxy,
    Registration,
    Runtime,
    Waiter,
)
from itx_notebook.capnweb.protocol.limits import Budget, Limits
from itx_notebook.capnweb.protocol.local import ValueHook
from itx_notebook.capnweb.protocol.payload import ATOMS, own_payload, take_reference
from itx_notebook.capnweb.protocol.pending import CANCELLED, PendingHook
from itx_notebook.capnweb.protocol.pipes import Readable, Writable
from itx_notebook.capnweb.protocol.plain import LONG_BYTES, Records, decode_long
from itx_notebook.capnweb.protocol.pumps import Carrier, feed, read_blob
from itx_notebook.capnweb.protocol.serialize import Encoder, ErrorFilter, HoldsReferences, Serializer, encode_error
from itx_notebook.capnweb.protocol.tables import Answer, Export, Import, ImportHook
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER, decode, encode
from itx_notebook.capnweb.protocol.writers import Writer

__all__ = ["Machine", "Options", "PeerVersion", "Stats"]

PeerVersion = Literal["0.8", "0.12"]

_MAX: Final = MAX_SAFE_INTEGER
_SCALARS: Final = frozenset({type(None), bool, str})
_MANY: Final = 400
"""Messages in the outbox that are worth a write of their own, though more may come at once. With both ends on cores of
their own a thousand calls in flight took 15 µs each when all were sent together, and 10 µs so."""
_SHUT_DOWN: Final = "RPC session was shut down by disposing the main stub"
_CLOSE_CODE: Final = 3000
"""With which npm ``capnweb`` closes a WebSocket whose session has ended."""
_UNREAD_COST_BYTES: Final = 1024
"""What an unread chunk counts besides its message's length: about what the objects around a small one take."""


class Stats(NamedTuple):
    """How many references a session holds, its main objects counted: (1, 1) when all is given back."""

    imports: int
    exports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a session behaves.

    Attributes
    ----------
    limits : Limits
        What it takes from its peer.
    peer_version : {"0.8", "0.12"}
        The npm ``capnweb`` whose dialect is spoken. With ``"0.8"`` URLs go out as text, which every peer understands.
    keep_undefined : bool
        Deliver ``undefined`` as :data:`UNDEFINED` instead of ``None``.
    encoders : mapping of type to callable
        For values of further types: each turns one into a value the protocol knows.
    on_send_error : callable, optional
        Sees each exception before it is sent, and may return the one to send instead, with its traceback. Without it no
        traceback leaves, but the message does.
    on_call_error : callable, optional
        Hears of each exception that leaves a method or callback of this side.
    """

    limits: Limits = field(default_factory=Limits)
    peer_version: PeerVersion = "0.8"
    keep_undefined: bool = False
    encoders: Mapping[type, Encoder] = field(default_factory=dict)
    on_send_error: ErrorFilter | None = None
    on_call_error: Callable[[Any, BaseException], None] | None = None

    def __post_init__(self) -> None:
        if self.peer_version not in ("0.8", "0.12"):
            raise ValueError(f"peer_version is {self.peer_version!r}; it is '0.8' or '0.12'.")


class Machine:
    """One side of a session.

    Parameters
    ----------
    main : object, optional
        The main object: an ``RpcTarget``, a callable, a stub, or any value of the protocol. ``None``: calls to it fail.
    runtime : Runtime
        Runs what takes time.
    options : Options
        How the session behaves.
    wake : callable
        Called when there is something in the outbox, or a request to close, where there was nothing before; and again
        when there is much in the outbox. It may take the outbox, and nothing else of the machine.

    Attributes
    ----------
    outbox : list of bytes
        Messages to send, in order. The driver takes the list and puts an empty one in its place.
    close_request : tuple of (int, str) or None
        Code and reason with which to close the connection, once the outbox is sent.
    error : Exception or None
        Why the session has ended.
    """

    def __init__(self, main: Any, *, runtime: Runtime, options: Options, wake: Callable[[], None]) -> None:
        self.runtime = runtime
        self.options = options
        self.limits = options.limits
        self.encoders = options.encoders
        self.sends_urls = options.peer_version != "0.8"
        self.keeps_undefined = options.keep_undefined
        self.on_send_error = options.on_send_error
        self.outbox: list[bytes] = []
        self.close_request: tuple[int, str] | None = None
        self.error: Exception | None = None
        self.settled_imports = 0
        """How many results came in: after each, somebody here may have something to say at once."""
        self.answered_bytes = 0
        """How long the answers are that went into the outbox since the driver, which sets this back to 0, last looked
        at what is unsent."""
        self.sends_streams = True
        """Whether the peer can still acknowledge, and write, once it is answered; a batch's client cannot."""
        self.owner: object = None
        """The driver, for who holds a stub and wants the session."""
        self._wake = wake
        # Why nothing can be asked of the peer any more, though it may still be answered.
        self._unreachable: Exception | None = None
        self._exports: dict[int, Export] = {0: Export(_main_hook(main, runtime))}
        self._imports: dict[int, Import] = {0: Import(self, 0, is_promise=False)}
        # How many of the imports the peer made this side hold: its objects, not the results of calls to it.
        self._held = 0
        # Ids of calls, each side's own; and of what this side gives out.
        self._last_call = 0
        self._last_peer_call = 0
        self._last_given = 0
        self._broken: dict[Registration, None] = {}
        self._unanswered = 0
        self._idle: list[Callable[[], None]] = []
        self._to_pull: deque[int] = deque()
        # Those that the peer writes into.
        self._channels: weakref.WeakSet[Channel] = weakref.WeakSet()
        # A result is copied before the application can change it, unless the very next message asks for it.
        self._fresh: ValueHook | None = None
        self._budget = Budget(self.limits.max_map_calls)
        # The message at hand; what the peer has sent into streams and nobody has read; what blobs have brought so far.
        self._message_bytes = 0
        # Whether what is being evaluated answers a call of this side, whose affair it is then how much it is.
        self._is_asked = False
        self._unread = Meter(self.limits.max_unread_bytes)
        self._unread_chunks = 0
        self._blobs = Meter(self.limits.max_blob_bytes)
        self._handlers: dict[str, Callable[[list[Any]], None]] = {
            "push": self._on_push,
            "pull": self._on_pull,
            "resolve": self._on_resolve,
            "reject": self._on_reject,
            "release": self._on_release,
            "stream": self._on_stream,
            "pipe": self._on_pipe,
            "abort": self._on_abort,
        }

    # What the driver does

    @property
    def main(self) -> Proxy:
        """A new stub of the peer's main object."""
        return self.runtime.stub_type(ImportHook(self._imports[0]) if self.error is None else ErrorHook(self.error))

    def stats(self) -> Stats:
        """Return how many references are held."""
        return Stats(len(self._imports), len(self._exports))

    def receive(self, message: bytes) -> None:
        """Handle one message. Never raises."""
        if self.error is not None:
            return
        try:
            self._message_bytes = len(message)
            if len(message) > self.limits.max_message_bytes:
                raise RpcProtocolError(
                    f"bad RPC message: {len(message)} bytes; at most {self.limits.max_message_bytes} are allowed"
                )
            parts = decode(message) if len(message) < LONG_BYTES else decode_long(message)
            kind = parts[0] if type(parts) is list and parts else None
            handler = self._handlers.get(kind) if type(kind) is str else None
            if handler is None:
                raise RpcProtocolError(f"bad RPC message: {message[:100].decode(errors='replace')}")
            if self._fresh is not None:
                self._settle_fresh(parts)
            handler(parts)
        except RecursionError:
            # Calls within calls take several frames for each level: Python's limit may come before ours.
            self.abort(RpcProtocolError("bad RPC message: Deserialization exceeded maximum allowed depth."))
        except RpcProtocolError as error:
            # It is kept as long as the session is; its frames would keep the message, and what was evaluated of it.
            self.abort(forget_frames(error))
        except Exception as error:  # whatever goes wrong here ends this session and nothing else
            self.abort(error)

    def settle(self) -> None:
        """Copy a result nobody asked for yet. The driver calls it when no more messages are at hand."""
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            fresh.settle()

    def connection_lost(self, code: int, reason: str) -> None:
        """The connection is gone: fail what waits."""
        self._end(RpcDisconnected(code, reason))

    def input_ended(self, error: Exception) -> None:
        """No more messages will come: fail what waits for the peer. What the peer asked for is still answered."""
        self._unreachable = error
        imports, self._imports = self._imports, {}
        failed = ErrorHook(error)
        for entry in imports.values():
            entry.settle(failed)
        self._fail_channels(error)

    def abort(self, error: BaseException) -> None:
        """End the session, tell the peer why, and ask for the connection to be closed."""
        if self.error is not None:
            return
        serializer = Serializer(self)
        self._post(["abort", encode_error(error, serializer, 0, may_refer=False)])
        ended = error if isinstance(error, Exception) else RpcError(str(error))
        self._end(ended, (_CLOSE_CODE, str(error)))

    def shut_down(self, why: str = _SHUT_DOWN, code: int = _CLOSE_CODE, reason: str = _SHUT_DOWN) -> None:
        """End the session without a message, as disposing the main stub does; `why` is for those who wait here."""
        self._end(RpcDisposed(why), (code, reason))

    def call_when_answered(self, callback: Callable[[], None]) -> None:
        """Call `callback` as soon as every result the peer asked for is in the outbox; maybe now."""
        if self._unanswered == 0 or self.error is not None:
            callback()
        else:
            self._idle.append(callback)

    # What hooks do

    def send_call(self, import_id: int, path: Path, values: list[Any]) -> Hook:
        """Call the peer. Raises for arguments that cannot be sent; nothing was sent then."""
        if self._unreachable is not None:
            return ErrorHook(self._unreachable)
        for value in values:
            kind = type(value)
            if kind not in _SCALARS and not (kind is int and -_MAX <= value <= _MAX):
                break
        else:
            self._send(self._encode_checked(["push", ["pipeline", import_id, path, values]]))
            return self._new_call()
        serializer = Serializer(self, for_call=True)
        encoded = serializer.encode_all(values)
        self._send(self._encode_checked(["push", ["pipeline", import_id, path, encoded]], serializer))
        # What comes after may send, too, and count on.
        call = self._new_call()
        serializer.finish()
        return call

    def send_stream(self, import_id: int, path: Path, args: Payload, waiter: Waiter) -> int:
        """Call the peer, and tell `waiter` the outcome, which the peer sends unasked. Returns the message's length."""
        if self._unreachable is not None:
            args.dispose()
            waiter.reject(self._unreachable)
            return 0
        serializer = Serializer(self, for_call=True)
        try:
            encoded = serializer.encode_all(args.value)
            message = self._encode_checked(["stream", ["pipeline", import_id, path, encoded]], serializer)
        finally:
            args.dispose()
        self._send(message)
        self._last_call += 1
        entry = self._imports[self._last_call] = Import(self, self._last_call, is_promise=True)
        entry.is_stream = True
        entry.waiters = [waiter]
        serializer.finish()
        return len(message)

    def send_get(self, import_id: int, path: Path) -> Hook:
        """Read a property at the peer."""
        if self._unreachable is not None:
            return ErrorHook(self._unreachable)
        self._post(["push", ["pipeline", import_id, path]])
        return self._new_call()

    def send_map(self, import_id: int, path: Path, function: MapFunction) -> Hook:
        """Have the peer run a recorded function."""
        if self._unreachable is not None:
            function.dispose()
            return ErrorHook(self._unreachable)
        serializer = Serializer(self)
        try:
            captures = [self._encode_capture(hook, serializer) for hook in function.captures]
            message = self._encode_checked(
                ["push", ["remap", import_id, path, captures, function.instructions]], serializer
            )
        except BaseException:
            serializer.roll_back()
            raise
        finally:
            function.dispose()
        self._send(message)
        return self._new_call()

    def _encode_capture(self, hook: Hook, serializer: Serializer) -> list[Any]:
        source = hook.unwrap()
        known = source.find_id(self) if isinstance(source, ImportHook) else None
        return ["export", self._give(hook.dup(), serializer)] if known is None else ["import", known]

    def send_pull(self, entry: Import, waiter: Waiter) -> None:
        """Ask for a result; a promise of the peer's comes by itself."""
        if entry.waiters is None:
            entry.waiters = [waiter]
        else:
            entry.waiters.append(waiter)
        if entry.id > 0 and not entry.is_pulled:
            entry.is_pulled = True
            self._send(b'["pull",%d]' % entry.id)

    def release(self, entry: Import) -> None:
        """Give an unresolved import back; who waits for it hears that it was cancelled."""
        if self._imports.get(entry.id) is entry:
            self._forget(entry)
            self._send(b'["release",%d,%d]' % (entry.id, entry.remote_refs))
        for registration in entry.registrations or ():
            registration.unregister()
        entry.settle(ErrorHook(RpcDisposed(CANCELLED)))

    def drop(self, entry: Import) -> None:
        """Give back a reference that was garbage-collected."""
        entry.local_refs -= 1
        if entry.local_refs == 0 and entry.resolution is None and entry.id != 0:
            self.release(entry)

    def watch(self, entry: Import, registration: Registration) -> None:
        """Fire `registration` when `entry` breaks, or the session ends."""
        registration.owner = self._broken
        self._broken[registration] = None
        if entry.registrations is None:
            entry.registrations = []
        entry.registrations.append(registration)

    # What serializers ask

    def encode_proxy(self, proxy: Proxy, serializer: Serializer) -> Any:
        """Return the expression of a stub or promise; one of the peer's own goes back by its id."""
        hook = proxy._hook.unwrap()
        path = proxy._path
        known = hook.find_id(self) if isinstance(hook, ImportHook) else None
        if known is not None:
            if path:
                return ["pipeline", known, path]
            return ["pipeline" if proxy._is_promise else "import", known]
        if path or proxy._is_promise:
            export_id = self._give(hook.get(path) if path else hook.dup(), serializer)
            serializer.after.append(lambda: self._pull_soon(export_id))
            return ["promise", export_id]
        return ["export", self._give(hook.dup(), serializer)]

    def encode_target(self, target: Any, serializer: Serializer) -> Any:
        """Return the expression of a target or callable: a fresh id, each time."""
        return ["export", self._give(take_reference(target, self.runtime, for_call=serializer.for_call), serializer)]

    def encode_readable(self, readable: Readable, serializer: Serializer) -> Any:
        """Return the expression of a stream to be read at the peer: a pipe, into which it is carried from then on."""
        self._check_streams()
        source = readable.hand_over()
        pipe = self._open_pipe()
        serializer.undo += (readable.take_back, pipe.dispose)
        serializer.after.append(lambda: Carrier(source, Writer(pipe, self.runtime), self.runtime))
        return ["readable", self._last_call]

    def _check_streams(self) -> None:
        if self._unreachable is not None or not self.sends_streams:
            reason = self._unreachable or "the peer only hears one answer, and has stopped talking"
            raise RpcError(f"A stream cannot be sent: {reason}")

    def _open_pipe(self) -> ImportHook:
        self._post(["pipe"])
        self._last_call += 1
        entry = self._imports[self._last_call] = Import(self, self._last_call, is_promise=False)
        return ImportHook(entry)

    def encode_writable(self, writable: Writable, serializer: Serializer) -> Any:
        """Return the expression of a stream to be written at the peer: an object, whose calls go to the sink."""
        self._check_streams()
        sink = writable.hand_over()
        serializer.undo.append(writable.take_back)
        channel = Channel(self.runtime)
        self._channels.add(channel)
        export_id = self._give(WriterHook(channel), serializer)
        serializer.after.append(lambda: self.runtime.spawn(feed(channel, sink, self.runtime)))
        return ["writable", export_id]

    # What evaluators ask

    def find(self, export_id: int) -> Hook:
        """Return what the peer refers to."""
        if self.runtime.pending > self.limits.max_pending_calls:
            raise RpcProtocolError(
                f"The peer made more than {self.limits.max_pending_calls} calls whose outcome is not known."
            )
        entry = self._exports.get(export_id)
        if entry is None:
            raise RpcProtocolError(f"no such entry on exports table: {export_id}")
        return entry.hook

    def introduce(self, import_id: int, *, is_promise: bool) -> Hook:
        """Return a reference to something of the peer's, new or known."""
        entry = self._imports.get(import_id)
        if entry is None:
            if self._held >= self.limits.max_imports:
                raise RpcProtocolError(f"The peer made this side hold more than {self.limits.max_imports} objects.")
            entry = self._imports[import_id] = Import(self, import_id, is_promise=is_promise)
            self._held += 1
            return ImportHook(entry)
        if is_promise or entry.is_promise:
            return ErrorHook(RpcError("Bug in RPC system: The peer sent a promise reusing an existing export ID."))
        entry.remote_refs += 1
        return ImportHook(entry)

    def take_readable(self, pipe_id: int) -> Readable:
        """Return the readable end of a pipe; once."""
        entry = self._exports.get(pipe_id)
        if entry is None or entry.readable is None:
            raise RpcProtocolError(f"no such pipe, or its readable end was sent already: {pipe_id}")
        readable, entry.readable = entry.readable, None
        return readable

    def introduce_writable(self, import_id: int) -> Writable:
        """Return a stream of the peer's that is written from here."""
        return Writable.of(Writer(self.introduce(import_id, is_promise=False), self.runtime))

    def collect_blob(self, type_: str, readable: Readable) -> Hook:
        """Return the blob that `readable` brings, as a promise."""
        promise = PendingHook(self.runtime)
        is_asked = self._is_asked

        async def collect() -> None:
            try:
                blob = await read_blob(readable, type_, self._blobs)
            except Exception as error:  # whatever it is, who waits for the blob hears of it
                promise.reject(error)
            else:
                # It counts as soon as it is kept, unless it is somebody's here who asked for it.
                promise.resolve(ValueHook(Payload(blob, self.runtime, owned=is_asked)))

        self.runtime.spawn(collect())
        return promise

    def make_map(self, captures: list[Hook], instructions: list[Any]) -> MapFunction:
        """Return a recorded function of the peer's; all of one message share a budget."""
        function = MapFunction(captures, instructions, self._budget, self.limits)
        function.charge = self.runtime.charge
        return function

    def _charge_message(self) -> Charge | None:
        """Count the message at hand, of which something is about to be held, if it is long enough to be counted."""
        self._is_asked = False
        if self._message_bytes < LEAST_BYTES:
            return None
        charge = self.runtime.held.charge(self._message_bytes)
        if self.runtime.held.is_over:
            raise self._say_full()
        return charge

    def _say_full(self) -> RpcProtocolError:
        return RpcProtocolError(
            f"The peer made this side hold more than {self.limits.max_held_bytes} bytes (max_held_bytes)."
        )

    # Messages

    def _on_push(self, message: list[Any]) -> None:
        self._last_peer_call += 1
        self._keep(self._last_peer_call, self._evaluate_push(message))

    def _keep(self, export_id: int, hook: Hook) -> None:
        if self.error is not None:
            # What was called ended the session.
            hook.dispose()
            return
        self._exports[export_id] = Export(hook)
        if type(hook) is ValueHook and hook.is_borrowed:
            self._fresh = hook

    def _evaluate_push(self, message: list[Any]) -> Hook:
        if len(message) < 2:
            raise RpcProtocolError(f"bad RPC message: {message[0]!r} without an expression")
        self._check_exports()
        if self._budget.left != self.limits.max_map_calls:
            self._budget = Budget(self.limits.max_map_calls)
        expression = message[1]
        charge = self.runtime.charge = self._charge_message()
        try:
            # In no variable: a failure's traceback keeps this frame, which would make a cycle.
            if type(expression) is list and expression and expression[0] == "pipeline":
                return _counted(Evaluator(self).evaluate_reference(expression, 0), charge)
            return _counted(_hook_of(Evaluator(self).evaluate(expression)), charge)
        finally:
            self.runtime.charge = None

    def _check_exports(self) -> None:
        if self._count_exports() > self.limits.max_exports:
            raise RpcProtocolError(
                f"The peer holds more than {self.limits.max_exports} objects and calls of this side."
            )

    def _count_exports(self) -> int:
        # Chunks that wait to be read are counted by their bytes: an honest peer may send very many small ones.
        return len(self._exports) - self._unread_chunks

    def _on_pull(self, message: list[Any]) -> None:
        export_id = _id_of(message, 2)
        if export_id not in self._exports:
            raise RpcProtocolError(f"no such export ID: {export_id}")
        self._pull_export(export_id)

    def _pull_soon(self, export_id: int) -> None:
        """Start resolving a promise that was given out. Those that its value gives out follow, on no deeper stack."""
        self._to_pull.append(export_id)
        if len(self._to_pull) > 1:
            return
        while self._to_pull:
            self._pull_export(self._to_pull[0])
            self._to_pull.popleft()

    def _pull_export(self, export_id: int) -> None:
        entry = self._exports.get(export_id)
        if entry is None or entry.is_pulled:
            return
        entry.is_pulled = True
        self._unanswered += 1
        entry.hook.pull(Answer(self, export_id, entry))

    def _on_resolve(self, message: list[Any]) -> None:
        entry = self._find_import(message)
        value = message[2]
        kind = type(value)
        if entry is not None and entry.id < 0:
            # It was given unasked, and so is this.
            self.runtime.charge = self._charge_message()
            try:
                hook = _hook_of(Evaluator(self).evaluate(value))
            finally:
                self.runtime.charge = None
            self._settle_import(entry, hook)
            return
        self._is_asked = True
        if kind is list or kind is dict or kind is Records or (kind is int and not -_MAX <= value <= _MAX):
            hook = _hook_of(Evaluator(self).evaluate(value))
        else:
            hook = ValueHook(Payload(value, self.runtime, owned=True))
        self._settle_import(entry, hook)

    def _on_reject(self, message: list[Any]) -> None:
        entry = self._find_import(message)
        charge = self._charge_message() if entry is not None and entry.id < 0 else None
        payload = Evaluator(self).evaluate(message[2])
        if payload.stubs or payload.promises:
            payload.dispose()
            raise RpcProtocolError("bad RPC message: an error cannot carry references")
        self._settle_import(entry, ErrorHook(as_exception(payload.value), None if charge is None else [charge]))

    def _find_import(self, message: list[Any]) -> Import | None:
        if len(message) < 3:
            raise RpcProtocolError(f"bad RPC message: {message[0]!r} without a value")
        entry = self._imports.get(parse_id(message[1]))
        if entry is not None and not entry.is_promise:
            raise RpcProtocolError(f"bad RPC message: {message[0]!r} of {entry.id}, which is no promise")
        return entry

    def _settle_import(self, entry: Import | None, hook: Hook) -> None:
        if entry is None or self._imports.get(entry.id) is not entry:
            # Given up before the answer came, or by a call within the answer. What is in it is given back.
            hook.dispose()
            return
        self._forget(entry)
        self.settled_imports += 1
        target = hook.follow()
        if isinstance(target, ImportHook) and target.designates(entry):
            entry.settle(ErrorHook(RpcError("A promise cannot resolve to itself.")))
            hook.dispose()
        else:
            entry.settle(hook)
        if entry.is_stream:
            # Nobody else holds the answer.
            hook.dispose()
        else:
            self._send(b'["release",%d,%d]' % (entry.id, entry.remote_refs))

    def _on_release(self, message: list[Any]) -> None:
        export_id = _id_of(message, 3)
        count = parse_id(message[2])
        entry = self._exports.get(export_id)
        if entry is None:
            raise RpcProtocolError(f"no such export ID: {export_id}")
        if export_id == 0 or not 1 <= count <= entry.refcount:
            raise RpcProtocolError(f"bad RPC message: release of {count} references to {export_id}")
        entry.refcount -= count
        if entry.refcount == 0:
            self._drop_export(export_id, entry)

    def _drop_export(self, export_id: int, entry: Export) -> None:
        del self._exports[export_id]
        if entry.unread_bytes:
            self._unread_chunks -= 1
            self._unread.remove(entry.unread_bytes)
        entry.hook.dispose()

    def _on_stream(self, message: list[Any]) -> None:
        self._last_peer_call += 1
        export_id = self._last_peer_call
        size_bytes = self._message_bytes + _UNREAD_COST_BYTES
        hook = self._evaluate_push(message)
        if self.error is not None:
            hook.dispose()
            return
        entry = self._exports[export_id] = Export(hook)
        entry.unread_bytes = size_bytes
        self._unread_chunks += 1
        if not self._unread.add(size_bytes):
            raise RpcProtocolError(
                f"The peer sent more than {self.limits.max_unread_bytes} bytes into streams, and none of it was read."
            )
        self._pull_export(export_id)

    def _on_pipe(self, message: list[Any]) -> None:
        self._last_peer_call += 1
        self._check_exports()
        pipe = Pipe(self.runtime)
        self._channels.add(pipe)
        entry = self._exports[self._last_peer_call] = Export(WriterHook(pipe))
        # Dropped with the entry if nobody takes it, which cancels it.
        entry.readable = Readable.of(pipe)

    def _on_abort(self, message: list[Any]) -> None:
        try:
            payload = Evaluator(self).evaluate(message[1] if len(message) > 1 else ["undefined"])
        except Exception as error:  # the peer is gone whatever it said, and gets no answer
            reason: Any = error
        else:
            reason = payload.value
            payload.dispose()
        self._end(RpcAborted(reason), (_CLOSE_CODE, reason if isinstance(reason, str) else describe_value(reason)))

    def _settle_fresh(self, message: list[Any]) -> None:
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            return
        if message[0] == "pull" and len(message) == 2 and message[1] == self._last_peer_call:
            return
        fresh.settle()

    # Answers

    def answer(self, export_id: int, entry: Export, payload: Payload) -> None:
        """Send a result."""
        value = payload.value
        kind = type(value)
        if kind in _SCALARS or (kind is int and -_MAX <= value <= _MAX):
            self.answer_expression(export_id, entry, value)
            return
        if not self._awaits(export_id, entry):
            return
        serializer = Serializer(self, only_data=not payload.owned)
        try:
            try:
                expression = serializer.encode_root(value)
            except HoldsReferences:
                # Calls on this result may still come, and must meet the same references as the peer is given.
                own_payload(payload)
                serializer = Serializer(self)
                expression = serializer.encode_root(payload.value)
            message = self._encode_checked(["resolve", export_id, expression], serializer)
        except Exception as error:  # an encoder of the application's may raise anything
            self.answer_error(export_id, entry, error)
            return
        self._send_answer(entry, message, is_new=not payload.owned)
        serializer.finish()
        self._answered(export_id, entry)

    def answer_expression(self, export_id: int, entry: Export, expression: Any) -> None:
        """Send a result that is an expression already."""
        if self._awaits(export_id, entry):
            try:
                message = self._encode_checked(["resolve", export_id, expression])
            except ValueError as error:
                self.answer_error(export_id, entry, error)
                return
            self._send_answer(entry, message)
            self._answered(export_id, entry)

    def answer_error(self, export_id: int, entry: Export, error: Exception) -> None:
        """Send a failure. References in its properties are left out: the peer could not give them back."""
        if self._awaits(export_id, entry):
            message = encode(["reject", export_id, encode_error(error, Serializer(self), 0, may_refer=False)])
            self._send_answer(entry, message)
            self._answered(export_id, entry)

    def _send_answer(self, entry: Export, message: bytes, *, is_new: bool = True) -> None:
        """Send a result or failure, and count what is held of it until it is given back, unless it counts already."""
        size_bytes = len(message)
        self.answered_bytes += size_bytes
        self._send(message)
        if size_bytes >= LEAST_BYTES and is_new:
            entry.charge = Charge(self.runtime.held, size_bytes)
            if self.runtime.held.is_over:
                # Not here: somebody is being told his result.
                self.runtime.post(lambda: self.abort(self._say_full()))

    def _awaits(self, export_id: int, entry: Export) -> bool:
        """Whether the peer still wants this answer, and has not been told more than it can have read meanwhile."""
        if self.error is None and self._exports.get(export_id) is entry:
            if self.answered_bytes <= self.limits.max_outbound_bytes:
                return True
            # It may ask for the same large value many times, in a message or two. Before it is written once more:
            self.abort(
                RpcError(
                    f"The peer asks for more than {self.limits.max_outbound_bytes} bytes at once (max_outbound_bytes)."
                )
            )
        self._count_answer()
        return False

    def _answered(self, export_id: int, entry: Export) -> None:
        if entry.unread_bytes and self.error is None:
            self._drop_export(export_id, entry)
        self._count_answer()

    def _count_answer(self) -> None:
        self._unanswered -= 1
        if self._unanswered == 0 and self._idle:
            idle, self._idle = self._idle, []
            for callback in idle:
                callback()

    # Small things

    def _post(self, tree: list[Any]) -> None:
        self._send(encode(tree))

    def _encode_checked(self, tree: list[Any], serializer: Serializer | None = None) -> bytes:
        message = encode(tree)
        if len(message) > self.limits.max_message_bytes:
            if serializer is not None:
                serializer.roll_back()
            raise ValueError(
                f"Cannot serialize value: a message of {len(message)} bytes, and at most "
                f"{self.limits.max_message_bytes} are allowed. Send it in parts, or as a stream."
            )
        return message

    def _send(self, message: bytes) -> None:
        outbox = self.outbox
        outbox.append(message)
        count = len(outbox)
        if count == 1 or count == _MANY:
            self._wake()

    def _new_call(self) -> Hook:
        self._last_call += 1
        entry = self._imports[self._last_call] = Import(self, self._last_call, is_promise=True)
        return ImportHook(entry)

    def _export(self, hook: Hook) -> int:
        self._last_given -= 1
        self._exports[self._last_given] = Export(hook)
        return self._last_given

    def _forget(self, entry: Import) -> None:
        del self._imports[entry.id]
        if entry.id < 0:
            self._held -= 1

    def _give(self, hook: Hook, serializer: Serializer) -> int:
        if self._count_exports() > self.limits.max_exports:
            hook.dispose()
            raise RpcError(
                f"The peer would hold more than {self.limits.max_exports} objects and calls of this side (max_exports)."
            )
        export_id = self._export(hook)
        serializer.undo.append(functools.partial(self._take_back, export_id))
        return export_id

    def _take_back(self, export_id: int) -> None:
        entry = self._exports.pop(export_id, None)
        if entry is not None:
            entry.hook.dispose()

    def _fail_channels(self, error: Exception) -> None:
        # Also those of which only this side holds a writer any more: it is held, perhaps, by who waits for the chunks.
        for channel in list(self._channels):
            channel.fail(error)

    def _end(self, error: Exception, close: tuple[int, str] | None = None) -> None:
        if self.error is not None:
            return
        self.error = self._unreachable = error
        self._fresh = None
        self.close_request = close
        failed = ErrorHook(error)
        imports, self._imports = self._imports, {}
        exports, self._exports = self._exports, {}
        for registration in list(self._broken):
            registration.fire(error)
        for entry in imports.values():
            entry.settle(failed)
        for export in exports.values():
            export.hook.lose(error)
        # The error is kept, and its traceback may come to keep this frame.
        imports.clear()
        exports.clear()
        self._fail_channels(error)
        self.runtime.end(error)
        idle, self._idle = self._idle, []
        for callback in idle:
            callback()
        self._wake()


def _main_hook(main: Any, runtime: Runtime) -> Hook:
    if main is None:
        return ErrorHook(RpcError("This connection has no main object."))
    if isinstance(main, Proxy):
        return take_reference(main, runtime)
    if type(main) in ATOMS or isinstance(main, (dict, list, tuple)):
        return ValueHook(Payload(main, runtime))
    return runtime.refer(main)


def _hook_of(payload: Payload) -> Hook:
    """Return the hook of what came off the wire; a promise at the root stands for itself."""
    value = payload.value
    if isinstance(value, Proxy) and value._is_promise:
        return value._hook
    return ValueHook(payload)


def _counted(hook: Hook, charge: Charge | None) -> Hook:
    """Let a failure count as the message does: it may quote it, and keep it."""
    return ErrorHook(hook.error, [charge]) if charge is not None and type(hook) is ErrorHook else hook


def _id_of(message: list[Any], length: int) -> int:
    if len(message) < length:
        raise RpcProtocolError(f"bad RPC message: {message[0]!r} with {len(message)} elements")
    return parse_id(message[1])
