"""What a processor says of itself: its name, its state's shape, the events it takes and makes.

Checked when it is written down, so that a misspelt event type is an error at import and not silence at run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from itx_notebook._json import check_json
from itx_notebook.errors import ItxError
from itx_notebook.streams.core import CORE_TYPES
from itx_notebook.types import StreamEvent

__all__ = ["ANY", "EventCatalog", "EventType", "ProcessorContract"]

S = TypeVar("S")

ANY: Final = "*"
"""Among `consumes`: every event, those of a known type checked, the others as they are."""


@dataclass(frozen=True)
class EventType:
    """One type of event.

    Attributes
    ----------
    payload : type, optional
        What a payload must convert to (a ``msgspec.Struct``, a dataclass, ``dict[str, int]``, …); the processor is
        given the converted one. ``None``: anything, as it is.
    examples : tuple
        Payloads as they may look.
    """

    description: str = ""
    payload: Any = None
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True)
class EventCatalog:
    """Types of events that belong to no processor."""

    slug: str
    events: Mapping[str, EventType]


_CORE: Final = EventCatalog("stream", {name: EventType() for name in CORE_TYPES})


@dataclass(frozen=True, kw_only=True)
class ProcessorContract(Generic[S]):
    """What a processor is and needs.

    Attributes
    ----------
    slug, version : str
        Its name for people and for idempotency keys, and which one it is.
    state : type
        Of the state: ``dict``, a ``msgspec.Struct`` or a dataclass; on the wire it is an object. A stored state is
        converted to it, so that defaults fill in what an older version did not have.
    initial_state : mapping, optional
        What it begins with; the defaults of `state` if absent.
    events : mapping of str to EventType
        The types that are its own.
    deps : tuple of ProcessorContract or EventCatalog
        Whose types it also speaks. The core events are always known.
    consumes : tuple of str
        The types it is given; ``"*"`` among them is all.
    emits : tuple of str
        The types it may append; said, not enforced.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: a type that nobody owns, or two do; a state that is no object.
    """

    slug: str
    version: str = "0.1.0"
    description: str = ""
    state: type[S] = dict  # type: ignore[assignment]  # the default of a type parameter, which Python 3.11 cannot say
    initial_state: Mapping[str, Any] | None = None
    events: Mapping[str, EventType] = field(default_factory=dict)
    deps: tuple[ProcessorContract[Any] | EventCatalog, ...] = ()
    consumes: tuple[str, ...] = (ANY,)
    emits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("slug", "version"):
            if not getattr(self, name).strip():
                raise _refusal(f"A processor's {name} must not be blank.")
        known = self._resolve_types()
        for role in ("consumes", "emits"):
            for event_type in getattr(self, role):
                if event_type not in known and event_type != ANY:
                    raise _refusal(f'Unresolved stream processor {role} event type "{event_type}".')
        object.__setattr__(self, "_payloads", {name: known[name].payload for name in self.consumes if name != ANY})
        self.make_initial_state()

    @property
    def consumes_all(self) -> bool:
        """Whether it is given every event."""
        return ANY in self.consumes

    @property
    def announcement(self) -> dict[str, Any]:
        """What the stream is told of it when it connects."""
        owned = [
            {"type": name, "description": each.description} if each.description else {"type": name}
            for name, each in self.events.items()
        ]
        return {
            "slug": self.slug.strip(),
            "version": self.version.strip(),
            "description": self.description,
            "consumes": list(self.consumes),
            "emits": list(self.emits),
            "ownedEvents": owned,
        }

    def make_initial_state(self) -> S:
        """A new initial state, shared with nobody."""
        return self._convert(dict(self.initial_state or {}))

    def parse_state(self, stored: Any) -> S:
        """The state out of a snapshot, with what it lacks filled in. Raises ``BAD_REQUEST``."""
        if not isinstance(stored, dict):
            raise _refusal(f'Processor "{self.slug}" state must be an object.')
        return self._convert({**(self.initial_state or {}), **stored})

    def encode_state(self, state: S) -> dict[str, Any]:
        """The state as plain values. Raises ``BAD_REQUEST`` if it is no object, or not JSON."""
        try:
            plain = msgspec.to_builtins(state, str_keys=True)
        except (TypeError, ValueError) as error:
            raise _refusal(f'Processor "{self.slug}" state cannot be stored: {error}.') from None
        if not isinstance(plain, dict):
            raise _refusal(f'Processor "{self.slug}" state must be an object.')
        check_json(plain, f'Processor "{self.slug}" state')
        return plain

    def try_consume(self, event: StreamEvent) -> StreamEvent | None:
        """The event as the processor is given it, or ``None`` if it takes no such event.

        Raises ``BAD_REQUEST`` if it is of a named type and its payload is not of that type's shape.
        """
        payloads: dict[str, Any] = self._payloads  # type: ignore[attr-defined]  # set past the frozen dataclass
        if event.type not in payloads:
            return event if self.consumes_all else None
        shape = payloads[event.type]
        if shape is None:
            return event
        payload = {} if event.payload is msgspec.UNSET else event.payload
        try:
            return msgspec.structs.replace(event, payload=msgspec.convert(payload, shape))
        except msgspec.ValidationError as error:
            raise _refusal(
                f'Processor "{self.slug}" cannot take {event.type} at offset {event.offset}: {error}.'
            ) from None

    def _convert(self, value: dict[str, Any]) -> S:
        own = deepcopy(value)
        try:
            state = msgspec.convert(own, self.state)
        except (msgspec.ValidationError, TypeError) as error:
            raise _refusal(f'Processor "{self.slug}" state is not of its shape: {error}.') from None
        self.encode_state(state)
        return state

    def _resolve_types(self) -> dict[str, EventType]:
        owners: dict[str, tuple[str, EventType]] = {}
        for owner, events in self._walk():
            for name, definition in events.items():
                known = owners.setdefault(name, (owner, definition))
                if known[1] is not definition:
                    raise _refusal(
                        f'Duplicate stream processor event type "{name}" owned by both "{known[0]}" and "{owner}".'
                    )
        return {name: definition for name, (_, definition) in owners.items()}

    def _walk(self) -> Iterator[tuple[str, Mapping[str, EventType]]]:
        yield _CORE.slug, _CORE.events
        yield self.slug, self.events
        for dep in self.deps:
            if isinstance(dep, EventCatalog):
                yield dep.slug, dep.events
            else:
                yield from dep._walk()  # noqa: SLF001  # another contract, the same class


def _refusal(message: str) -> ItxError:
    return ItxError(message, code="BAD_REQUEST", hint="Correct the processor's contract, or the event it was given.")
