"""Values that JavaScript has and Python has not, and the names that no value may carry.

Frozen and small: what a session hands out for them, and what an application hands in. Streams are in ``pipes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, final
from urllib.parse import urlsplit

__all__ = [
    "FILTERED_KEYS",
    "OBJECT_NAMES",
    "UNDEFINED",
    "Headers",
    "JsDate",
    "Prepared",
    "Request",
    "Response",
    "UndefinedType",
    "Url",
    "datetime_from_ms",
    "ms_from_datetime",
]

OBJECT_NAMES: Final = frozenset(
    {
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
        "__proto__",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    }
)
"""What every JavaScript object has: never reachable by a path, never a key of what is delivered."""

FILTERED_KEYS: Final = OBJECT_NAMES | {"toJSON"}
"""Keys that a receiver drops from every object."""


@final
class UndefinedType:
    """The type of :data:`UNDEFINED`; there is one instance."""

    __slots__ = ()
    _instance: UndefinedType | None = None

    def __new__(cls) -> UndefinedType:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __reduce__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = UndefinedType()
"""JavaScript's ``undefined``. Falsy. Received only if the session was asked to keep it; else it becomes ``None``."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A value whose expression was written once, to be sent many times. Made by ``prepare``.

    Attributes
    ----------
    value : Any
        The value; it must not change any more.
    text : bytes
        Its expression as JSON.
    """

    value: Any
    text: bytes


@dataclass(frozen=True, slots=True)
class JsDate:
    """A JavaScript date that no ``datetime`` can hold: an invalid one, or one before year 1 or after year 9999.

    Attributes
    ----------
    ms : int or None
        Milliseconds since 1970 in UTC; ``None`` for an invalid date.
    """

    ms: int | None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_JS_MAX_MS: Final = 8_640_000_000_000_000
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MS
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def datetime_from_ms(ms: float | None) -> datetime | JsDate:
    """Return the instant as an aware ``datetime`` in UTC, or as a :class:`JsDate` where there is none. Never raises."""
    if ms is None or not -_JS_MAX_MS <= ms <= _JS_MAX_MS:
        return JsDate(None)
    whole = int(ms)
    return _EPOCH + whole * _MS if _FIRST_MS <= whole <= _LAST_MS else JsDate(whole)


def ms_from_datetime(instant: datetime) -> int:
    """Return whole milliseconds since 1970; what is finer than one is cut off, as JavaScript does."""
    delta = instant - _EPOCH
    ms, rest = divmod(delta, _MS)
    # Towards 1970, not towards the past.
    return ms + 1 if ms < 0 and rest else ms


class Url(str):
    """An absolute URL. Peers from 0.11 on receive it as a URL object, older ones as plain text."""

    __slots__ = ()

    def __new__(cls, href: str) -> Self:
        """Check and keep `href`; raise ``ValueError`` if it is not absolute."""
        parts = urlsplit(href)
        scheme = parts.scheme
        if not (scheme and scheme[0].isalpha() and scheme.isascii()):
            raise ValueError(f"{href!r} is not an absolute URL: it must start with a scheme, such as https:")
        if scheme in ("http", "https", "ws", "wss", "ftp") and not parts.hostname:
            raise ValueError(f"{href!r} is not an absolute URL: it names no host")
        return super().__new__(cls, href)

    @property
    def href(self) -> str:
        """The text."""
        return str(self)

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"


class Headers:
    """HTTP headers: pairs in order, found by name without regard to case.

    Parameters
    ----------
    items : mapping or iterable of pairs, optional
        Names and values, as text.
    """

    __slots__ = ("_pairs",)

    def __init__(self, items: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = items.items() if isinstance(items, Mapping) else items
        self._pairs: list[tuple[str, str]] = []
        for name, value in pairs:
            if not (isinstance(name, str) and isinstance(value, str)):
                raise TypeError(f"A header is a pair of strings, not {(name, value)!r}")
            self._pairs.append((name, value))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(n.lower(), v) for n, v in self] == [(n.lower(), v) for n, v in other]

    __hash__ = None  # type: ignore[assignment]  # equal by content, so not hashable

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the values of `name` joined by commas, or `default`."""
        return ", ".join(values) if (values := self.get_all(name)) else default

    def get_all(self, name: str) -> list[str]:
        """Return every value of `name`, in order."""
        wanted = name.lower()
        return [value for key, value in self._pairs if key.lower() == wanted]


@dataclass(slots=True)
class Request:
    """A Fetch request as a value: nothing is sent by making one.

    Attributes
    ----------
    url : str
        Where to.
    method : str
        The verb, in capitals.
    headers : Headers
        Its headers.
    body : None, str, bytes or Readable
        Its body.
    init : dict
        Further members of JavaScript's ``RequestInit`` as JSON values, for example ``redirect``.
    """

    url: str
    method: str = "GET"
    headers: Headers = field(default_factory=Headers)
    body: Any = None
    init: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Response:
    """A Fetch response as a value.

    Attributes
    ----------
    body : None, str, bytes or Readable
        Its body.
    status : int
        The status code.
    status_text : str
        The text behind the code; may be empty.
    headers : Headers
        Its headers.
    init : dict
        Further members of JavaScript's ``ResponseInit`` as JSON values.
    """

    body: Any = None
    status: int = 200
    status_text: str = ""
    headers: Headers = field(default_factory=Headers)
    init: dict[str, Any] = field(default_factory=dict)
