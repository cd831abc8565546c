"""Being called: hooks on objects and values that live here.

A :class:`TargetHook` is one reference to a target or a function, and its disposer runs when the last one is gone. A
:class:`ValueHook` is a result: it serves reads and pipelined calls until its owner lets go.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcDisposed, RpcError, forget_frames
from itx_notebook.capnweb.protocol.hooks import (
    ErrorHook,
    Hook,
    MapFunction,
    Path,
    Payload,
    Proxy,
    Reader,
    Registration,
    Runtime,
    Waiter,
)
from itx_notebook.capnweb.protocol.payload import ATOMS, CALLABLES, deliver_payload, hand_out, is_light, own_payload
from itx_notebook.capnweb.protocol.pending import PendingHook
from itx_notebook.capnweb.protocol.running import run_map
from itx_notebook.capnweb.protocol.targets import RpcTarget, describe_path, take_step
from itx_notebook.capnweb.protocol.values import UNDEFINED

__all__ = ["TargetHook", "ValueHook", "hook_from_result"]

_VARARGS: Final = inspect.CO_VARARGS


class _Box:
    """A target or function, and how many hooks refer to it."""

    __slots__ = ("refs", "runtime", "target")

    def __init__(self, target: Any, runtime: Runtime) -> None:
        self.target = target
        self.runtime = runtime
        self.refs = 1

    def release(self) -> None:
        self.refs -= 1
        if self.refs == 0:
            target, self.target = self.target, None
            disposer = getattr(type(target), "_rpc_dispose", None)
            if disposer is not None:
                try:
                    disposer(target)
                except Exception as error:  # a disposer's fault is told to whoever listens, and ends nothing
                    self.runtime.call_failed(disposer, error)


class TargetHook(Hook):
    """One reference to a target or a function."""

    __slots__ = ("_box",)

    def __init__(self, box: _Box) -> None:
        self._box: _Box | None = box

    @classmethod
    def wrap(cls, target: Any, runtime: Runtime) -> TargetHook:
        """Return the first reference of a new count: a target is disposed once for each time it is wrapped."""
        return cls(_Box(target, runtime))

    @property
    def target(self) -> Any:
        """The object; ``None`` once the reference is given back."""
        return None if self._box is None else self._box.target

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        if self._box is None:
            return ErrorHook(RpcDisposed())
        return self.call(path, Payload(values, self._box.runtime.local))

    def call(self, path: Path, args: Payload) -> Hook:
        if self._box is None:
            args.dispose()
            return ErrorHook(RpcDisposed())
        return _call(self._box.target, path, args, self._box.runtime)

    def get(self, path: Path) -> Hook:
        if self._box is None:
            return ErrorHook(RpcDisposed())
        return _get(self._box.target, path, self._box.runtime) if path else self.dup()

    def map(self, path: Path, function: MapFunction) -> Hook:
        if self._box is None:
            return ErrorHook(RpcDisposed()).map(path, function)
        return run_map(self.get(path), function, self._box.runtime, ValueHook)

    def pull(self, waiter: Waiter) -> None:
        if self._box is None:
            waiter.reject(RpcDisposed())
            return
        hand_out(self.dup(), self._box.runtime, waiter)

    def dup(self) -> Hook:
        if self._box is None:
            return ErrorHook(RpcDisposed())
        self._box.refs += 1
        return TargetHook(self._box)

    def dispose(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            box.release()

    def on_broken(self, registration: Registration) -> None:
        """What lives here does not break."""

    def __del__(self) -> None:
        box = self._box
        if box is not None:
            self._box = None
            box.runtime.post(box.release)


class _Share:
    """A payload that several hooks look at, whole or in part. The last one disposes it."""

    __slots__ = ("holders", "payload")

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.holders = 1

    def release(self) -> None:
        self.holders -= 1
        if self.holders == 0:
            self.payload.dispose()


class ValueHook(Hook):
    """A value that lives here, mostly the result of a call.

    Duplicates, and hooks on parts of it, share the value until one of them hands it to an application: a peer can ask
    for both as often as it likes, of a value as large as it likes.
    """

    __slots__ = ("_error", "_share", "payload")

    def __init__(self, payload: Payload, share: _Share | None = None) -> None:
        self.payload = payload
        self._share = share
        self._error: Exception | None = None

    @property
    def is_borrowed(self) -> bool:
        """Whether the application may still change the value, or it was not counted yet."""
        return not self.payload.owned and not is_light(self.payload.value)

    def settle(self) -> None:
        try:
            own_payload(self.payload)
        except (TypeError, ValueError) as error:
            self._error = forget_frames(error)
            self.payload = Payload(None, self.payload.runtime, owned=True)

    def invoke(self, path: Path, values: list[Any]) -> Hook:
        return self.call(path, Payload(values, self.payload.runtime.local))

    def call(self, path: Path, args: Payload) -> Hook:
        if self._error is not None:
            args.dispose()
            return ErrorHook(self._error)
        return _call(self.payload.value, path, args, self.payload.runtime)

    def get(self, path: Path) -> Hook:
        # What is handed out twice must count on one reference: a target in the value is wrapped here, once.
        self.settle()
        if self._error is not None:
            return ErrorHook(self._error)
        runtime = self.payload.runtime
        found = self.payload.value
        for index, step in enumerate(path):
            if not isinstance(found, (dict, list, tuple)):
                return _get(found, path[index:], runtime)
            found = take_step(found, step)
        # Long text is viewed too: it counts for as long as somebody refers to it, like what it is a part of.
        return _get(found, (), runtime) if is_light(found) or isinstance(found, Proxy) else self._view(found)

    def _view(self, part: Any) -> Hook:
        if self._share is None:
            self._share = _Share(self.payload)
        self._share.holders += 1
        return ValueHook(Payload(part, self.payload.runtime, owned=True), self._share)

    def _stop_sharing(self) -> None:
        share, self._share = self._share, None
        if share is not None and (share.holders > 1 or share.payload is not self.payload):
            self.payload = Payload(self.payload.value, self.payload.runtime)
            self.settle()
            share.release()

    def follow(self) -> Hook:
        value = self.payload.value
        return value._hook.follow() if isinstance(value, Proxy) else self

    def map(self, path: Path, function: MapFunction) -> Hook:
        return run_map(self.get(path), function, self.payload.runtime, ValueHook)

    def pull(self, waiter: Waiter) -> None:
        if self._share is not None and not isinstance(waiter, Reader):
            self._stop_sharing()
        if self._error is not None:
            waiter.reject(self._error)
        else:
            waiter.resolve(self.payload)

    def dup(self) -> Hook:
        return self.get(())

    def dispose(self) -> None:
        share, self._share = self._share, None
        if share is None:
            self.payload.dispose()
        else:
            self.payload = Payload(self.payload.value, self.payload.runtime, owned=True)
            share.release()

    def on_broken(self, registration: Registration) -> None:
        value = self.payload.value
        if self._error is not None:
            registration.fire(self._error)
        elif isinstance(value, Proxy):
            value._hook.on_broken(registration)


def hook_from_result(result: Any, runtime: Runtime) -> Hook:
    """Return the hook of what a method or getter returned. Awaitables are the caller's to start."""
    if isinstance(result, Proxy):
        hook = result._hook.unwrap()
        if result._path:
            return hook.get(result._path)
        if result._is_promise:
            return hook.dup()
    return ValueHook(Payload(result, runtime))


def _call(value: Any, path: Path, args: Payload, runtime: Runtime) -> Hook:
    """Call what lives here. The caller's runtime says when, and runs it; `runtime` is that of the value."""
    if isinstance(value, Proxy):
        return value._hook.call((*value._path, *path), args)
    caller = args.runtime
    if not caller.is_backed_up:
        return _call_now(value, path, args, runtime)
    own_payload(args, for_call=True)
    return _enqueue(functools.partial(_call_now, value, path, args, runtime), args, caller)


class _Queued:
    """A call, or a read, that waits for room."""

    __slots__ = ("_args", "_make", "_result")

    def __init__(self, make: Callable[[], Hook], args: Payload | None, result: PendingHook) -> None:
        self._make = make
        self._args = args
        self._result = result

    def begin(self) -> None:
        try:
            hook = self._make()
        except Exception as error:  # an argument that cannot be passed on; the call site is gone
            if self._args is not None:
                self._args.dispose()
            hook = ErrorHook(error)
        self._result.resolve(hook)

    def give_up(self, error: Exception) -> None:
        if self._args is not None:
            self._args.lose(error)
        self._result.reject(error)


def _enqueue(make: Callable[[], Hook], args: Payload | None, runtime: Runtime) -> PendingHook:
    result = PendingHook(runtime)
    runtime.enqueue(_Queued(make, args, result))
    return result


def _call_now(value: Any, path: Path, args: Payload, runtime: Runtime) -> Hook:
    callee = value
    try:
        for index, step in enumerate(path):
            if isinstance(callee, Proxy):
                return callee._hook.call((*callee._path, *path[index:]), args)
            if inspect.isawaitable(callee):
                return _start(callee, None, runtime).call(path[index:], args)
            callee = take_step(callee, step)
    except Exception as error:  # whatever a getter raises is the call's answer
        args.dispose()
        return ErrorHook(error)
    if isinstance(callee, Proxy):
        return callee._hook.call(callee._path, args)
    if path and inspect.isawaitable(callee):
        return _start(callee, None, runtime).call((), args)
    if not isinstance(callee, CALLABLES):
        args.dispose()
        return ErrorHook(TypeError(f"{describe_path(path)} is not a function."))
    # JavaScript ignores surplus arguments, and its libraries rely on it when they call back; a method keeps its arity.
    is_method = bool(path) and isinstance(callee, types.MethodType)
    try:
        own_payload(args, for_call=True)
    except (TypeError, ValueError):
        args.dispose()
        raise
    if args.promises:
        caller = args.runtime
        result = PendingHook(caller)

        def begin(error: Exception | None) -> None:
            if error is not None:
                args.dispose()
                result.reject(error)
            elif caller.is_backed_up:
                caller.enqueue(_Queued(run, args, result))
            else:
                result.resolve(run())

        def run() -> Hook:
            return _invoke(callee, args, runtime, path, is_method=is_method)

        deliver_payload(args, begin)
        return result
    return _invoke(callee, args, runtime, path, is_method=is_method)


def _invoke(callee: Callable[..., Any], args: Payload, runtime: Runtime, path: Path, *, is_method: bool) -> Hook:
    values: list[Any] = args.value
    try:
        if not is_method or _has_holes(values):
            undefined = UNDEFINED if runtime.keeps_undefined else None
            values = _fit(callee, values, undefined, keep_surplus=is_method)
        result = callee(*values)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a method raises is the call's answer, a cancellation too
        # In no variable of this frame, which is one of the error's own: that would be a cycle, of the arguments too.
        return _fail_now(_describe_bad_call(callee, _as_failure(error), path, values), args, runtime, callee)
    if type(result) in ATOMS:
        if args.stubs:
            args.dispose()
        return ValueHook(Payload(result, runtime))
    if inspect.isawaitable(result) and not isinstance(result, Proxy):
        return _start(result, args, runtime, callee)
    return _finish(result, args, runtime)


def _fail_now(failure: Exception, args: Payload, runtime: Runtime, callee: Any) -> Hook:
    hook = _fail(failure, args)
    runtime.call_failed(callee, failure)
    return hook


def _fail(failure: Exception, args: Payload | None) -> Hook:
    """Give the arguments back, and return the failure's hook."""
    hook = ErrorHook(failure, None if args is None else args.charges)
    if args is not None:
        args.lose(failure)
    return hook


def _finish(result: Any, args: Payload | None, runtime: Runtime) -> Hook:
    """Make the result's hook before the arguments are given back: what is in both must live on."""
    hook = hook_from_result(result, runtime)
    if args is not None and args.stubs:
        hook.settle()
        args.dispose()
    return hook


def _start(awaitable: Any, args: Payload | None, runtime: Runtime, callee: Any = None) -> Hook:
    pending: PendingHook | None = None
    outcome: Hook | None = None

    def done(result: Any, error: BaseException | None) -> None:
        nonlocal outcome
        if error is None:
            hook = _finish(result, args, runtime)
        else:
            hook = _fail(_as_failure(error), args)
            runtime.call_failed(callee, error)
        if pending is None:
            outcome = hook
        else:
            pending.resolve(hook)

    caller = runtime if args is None else args.runtime
    caller.start(awaitable, done)
    if outcome is not None:
        return outcome
    pending = PendingHook(caller)
    return pending


def _as_failure(error: BaseException) -> Exception:
    """Return what the caller hears of: that a method was cancelled is this side's affair, and an error to the peer."""
    return error if isinstance(error, Exception) else RpcError("The call was cancelled.")


def _get(value: Any, path: Path, runtime: Runtime) -> Hook:
    if path and runtime.is_backed_up and isinstance(value, RpcTarget):
        return _enqueue(functools.partial(_get_now, value, path, runtime), None, runtime)
    return _get_now(value, path, runtime)


def _get_now(value: Any, path: Path, runtime: Runtime) -> Hook:
    found = value
    try:
        for index, step in enumerate(path):
            if isinstance(found, Proxy):
                return found._hook.get((*found._path, *path[index:]))
            if inspect.isawaitable(found):
                return _start(found, None, runtime).get(path[index:])
            found = take_step(found, step)
    except Exception as error:  # whatever a getter raises is the read's answer
        return ErrorHook(error)
    if path and inspect.isawaitable(found) and not isinstance(found, Proxy):
        return _start(found, None, runtime)
    hook = hook_from_result(found, runtime)
    if not path:
        # A duplicate of a value that its first reference may dispose.
        hook.settle()
    return hook


def _has_holes(values: list[Any]) -> bool:
    # By identity: an application's own values, which a local call passes as they are, may compare as they like.
    return any(value is UNDEFINED for value in values)


def _fit(callee: Callable[..., Any], values: list[Any], undefined: Any, *, keep_surplus: bool) -> list[Any]:
    """Leave arguments out that the callee does not take, and put its default, or `undefined`, in the place of none."""
    function, bound = callee, 0
    if isinstance(callee, functools.partial) and not callee.keywords:
        # Asking for a signature takes longer than all the rest of a call.
        function, bound = callee.func, len(callee.args)
    if isinstance(function, (types.FunctionType, types.MethodType)) and not _has_holes(values):
        code = getattr(function, "__code__", None)
        if code is not None:
            room = max(0, code.co_argcount - isinstance(function, types.MethodType) - bound)
            return values if code.co_flags & _VARARGS or len(values) <= room else values[:room]
    try:
        parameters = list(inspect.signature(callee).parameters.values())
    except (TypeError, ValueError):
        # Some builtins do not tell. They get what was sent.
        return [undefined if value is UNDEFINED else value for value in values]
    taken: list[Any] = []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for index, value in enumerate(values):
        if index < len(positional):
            default = positional[index].default
            absent = undefined if default is inspect.Parameter.empty else default
            taken.append(absent if value is UNDEFINED else value)
        elif is_open or keep_surplus:
            taken.append(undefined if value is UNDEFINED else value)
    return taken


def _describe_bad_call(callee: Any, error: Exception, path: Path, values: list[Any]) -> Exception:
    """Return `error`, or one that does not show our names if the arguments did not fit the callee at all."""
    traceback = error.__traceback__
    if isinstance(error, TypeError) and traceback is not None and traceback.tb_next is None:
        name = describe_path(path or ("the function",))
        target = functools.partial(callee) if not isinstance(callee, CALLABLES) else callee
        try:
            inspect.signature(target).bind(*values)
        except TypeError as mismatch:
            return TypeError(f"{name} cannot be called with {len(values)} argument(s): {mismatch}")
        except ValueError:
            return error
    return error
