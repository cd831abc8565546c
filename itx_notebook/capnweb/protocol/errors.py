"""The exceptions of Cap'n Web: what the peer raised, and what became of the session.

::

    RpcError                    anything of this library; raise it to choose the name the peer sees
    ├── RemoteError             the peer raised: .name .message .stack .props
    │   ├── RemoteTypeError         also a TypeError
    │   ├── RemoteRangeError        also a ValueError
    │   ├── RemoteSyntaxError       also a SyntaxError
    │   ├── RemoteReferenceError    also a NameError
    │   └── RemoteAggregateError    .errors
    ├── RemoteThrown            the peer threw something that is no error: .value
    ├── RpcDisconnected         the connection ended: .code .reason; also a ConnectionError
    ├── RpcAborted              the peer ended the session: .value
    ├── RpcDisposed             a stub or promise was used after it was given back
    └── RpcProtocolError        a peer broke the protocol; the session was ended for it

Here as well stands the mapping between Python's exception classes and JavaScript's eight error names, in both
directions. A JavaScript peer turns every other name into plain ``Error``: what an application must switch on belongs
into a property, for example ``code``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "RemoteAggregateError",
    "RemoteError",
    "RemoteRangeError",
    "RemoteReferenceError",
    "RemoteSyntaxError",
    "RemoteThrown",
    "RemoteTypeError",
    "RpcAborted",
    "RpcDisconnected",
    "RpcDisposed",
    "RpcError",
    "RpcProtocolError",
    "as_exception",
    "build_remote_error",
    "describe_value",
    "get_error_name",
    "get_error_props",
]


class RpcError(Exception):
    """An error of this library, or one of yours whose name and properties the peer shall see.

    Parameters
    ----------
    message : str
        What failed. Crosses the wire.
    name : str
        The error's name on the wire. JavaScript knows ``Error``, ``EvalError``, ``RangeError``, ``ReferenceError``,
        ``SyntaxError``, ``TypeError``, ``URIError`` and ``AggregateError``; others arrive there as ``Error``.
    props : Mapping, optional
        Further properties, as values of the protocol. Those that cannot be sent are left out in silence.
    """

    def __init__(self, message: str = "", *, name: str = "Error", props: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.props: dict[str, Any] = dict(props or {})

    @property
    def message(self) -> str:
        """The text alone."""
        return str(self.args[0]) if self.args else ""


class RemoteError(RpcError):
    """What a call raised at the peer. Its own properties are in `props`, and can be read as attributes.

    Parameters
    ----------
    message, name, props
        As the peer sent them; the name is kept even if it is none of JavaScript's.
    stack : str, optional
        The peer's stack, if it chose to send one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "Error",
        stack: str | None = None,
        props: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, name=name)
        if props is not None:
            # The very same: a promise among them is replaced where it stands.
            self.props = dict(props) if not isinstance(props, dict) else props
        self.stack = stack
        cause = self.props.get("cause")
        if isinstance(cause, BaseException):
            self.__cause__ = cause

    def __getattr__(self, name: str) -> Any:
        # Python asks for dunder names of its own accord; a peer may not answer for them.
        if not name.startswith("_"):
            props = self.__dict__.get("props")
            if props is not None and name in props:
                return props[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, name={self.name!r})"


class RemoteTypeError(RemoteError, TypeError):
    """The peer raised a ``TypeError``: often a member that is not there, or a value it could not send."""


class RemoteRangeError(RemoteError, ValueError):
    """The peer raised a ``RangeError``, which is also what a Python peer sends for ``ValueError``."""


class RemoteSyntaxError(RemoteError, SyntaxError):
    """The peer raised a ``SyntaxError``."""

    def __str__(self) -> str:
        return self.message


class RemoteReferenceError(RemoteError, NameError):  # type: ignore[misc]  # both keep a text in `name`
    """The peer raised a ``ReferenceError``."""


class RemoteAggregateError(RemoteError):
    """The peer raised several errors at once; they are in `errors`, in its order."""

    @property
    def errors(self) -> Sequence[Any]:
        """The errors inside; empty if the peer sent none."""
        errors = self.props.get("errors")
        return errors if isinstance(errors, list) else []


class RemoteThrown(RpcError):  # noqa: N818  # it says what happened, as its siblings do
    """The peer threw a value that is no error, as JavaScript may: it is in `value`."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(f"The peer threw {describe_value(value)}.")
        self.value = value


class RpcDisconnected(RpcError, ConnectionError):  # noqa: N818
    """The connection ended before the answer came. Whether the call ran is not known.

    Attributes
    ----------
    code : int
        The WebSocket's close code; 1006 when there was no close frame.
    reason : str
        The close frame's text; may be empty.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        why = f"code {code}: {reason}" if reason else f"code {code}"
        super().__init__(f"Peer closed the connection ({why}).")
        self.code = code
        self.reason = reason


class RpcAborted(RpcError):  # noqa: N818
    """The peer ended the session, and said why in `value`: mostly an exception, sometimes any other value."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(f"The peer ended the session: {describe_value(value)}")
        self.value = value
        if isinstance(value, BaseException):
            self.__cause__ = value


class RpcDisposed(RpcError):  # noqa: N818
    """A stub or a promise was used after it was disposed, or disposed while it was awaited."""

    def __init__(self, message: str = "Attempted to use RPC stub after it has been disposed.") -> None:
        super().__init__(message)


class RpcProtocolError(RpcError):
    """A message that the protocol or one of the session's limits does not allow. It ends the session."""


_SHOWN_CHARACTERS: Final = 200


def describe_value(value: Any) -> str:
    """Describe what a peer sent, whatever it is: Python refuses to print integers of more than 4300 digits."""
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


_CLASSES: Final[Mapping[str, type[RemoteError]]] = {
    "TypeError": RemoteTypeError,
    "RangeError": RemoteRangeError,
    "SyntaxError": RemoteSyntaxError,
    "ReferenceError": RemoteReferenceError,
    "AggregateError": RemoteAggregateError,
}

_NAMES: Final[Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], str]]] = (
    (TypeError, "TypeError"),
    ((ValueError, IndexError, OverflowError), "RangeError"),
    (SyntaxError, "SyntaxError"),
    (NameError, "ReferenceError"),
    (BaseExceptionGroup, "AggregateError"),
)


def build_remote_error(name: str, message: str, stack: str | None, props: dict[str, Any]) -> RemoteError:
    """Make the exception for an error that came off the wire, of the class that fits its name."""
    error = _CLASSES.get(name, RemoteError)(message, name=name, stack=stack, props=props)
    # The very dict: a promise in it is replaced there by its value, once that is known.
    error.props = props
    return error


def get_error_name(error: BaseException) -> str:
    """Return the name under which `error` is sent."""
    if isinstance(error, RpcError):
        return error.name
    for classes, name in _NAMES:
        if isinstance(error, classes):
            return name
    return "Error"


def get_error_props(error: BaseException) -> dict[str, Any]:
    """Return what `error` carries besides name, message and stack: its public attributes, its cause, its parts."""
    if isinstance(error, RpcError):
        props = dict(error.props)
        # The facts of the session's own errors are for this side: the peer has its own.
    else:
        props = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    if error.__cause__ is not None:
        props.setdefault("cause", error.__cause__)
    if isinstance(error, BaseExceptionGroup):
        props["errors"] = list(error.exceptions)
    for name in ("name", "message", "stack"):
        props.pop(name, None)
    return props


def forget_frames(error: Exception) -> Exception:
    """Return `error` without what it keeps of where it was raised: errors are kept, and frames keep values."""
    error.__traceback__ = error.__context__ = None
    return error


def as_exception(value: Any) -> Exception:
    """Return `value` if it is an exception, else one that carries it."""
    return value if isinstance(value, Exception) else RemoteThrown(value)
