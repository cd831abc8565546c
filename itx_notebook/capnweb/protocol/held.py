"""What a peer makes a session hold, in bytes.

Apart from the tables, which count entries: an entry is a word or thirty megabytes. A charge stands beside what it is
for, and is over when that is gone: nobody gives it back, so no path through the code can forget to.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any, Final

from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.values import Headers, Request, Response

__all__ = ["LEAST_BYTES", "REFERENCE_BYTES", "RESULT_BYTES", "Charge", "Meter", "weigh", "weigh_container"]

LEAST_BYTES: Final = 512
"""Messages and copies smaller than this are not charged: their number is bounded, and with it what they take."""

REFERENCE_BYTES: Final = 512
"""What a reference in a copied value counts: about what the objects around one take."""

RESULT_BYTES: Final = 1024
"""What the result of one instruction of a map counts. A target made by each took 1.2 KB."""

_CONTAINER_BYTES: Final = 64
_ITEM_BYTES: Final = 8
_MEMBER_BYTES: Final = 40
_MAX_DEPTH: Final = 256
_COLLECTED_PART: Final = 8
_WEIGHED: Final = frozenset({str, bytes, int, float, bool, type(None)})


class Meter:
    """Counts what is held against a limit."""

    __slots__ = ("_charged_bytes", "held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        # Since cycles were last collected for it.
        self._charged_bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether more is held than the limit allows."""
        return self.held_bytes > self.limit_bytes

    def charge(self, size_bytes: int) -> Charge:
        """Count more for as long as the charge is kept. What is garbage already does not make it too much.

        A failure and the frames in its traceback are a cycle easily, and keep what the frames had. Cycles are
        collected for an eighth of the limit at the soonest, so that a peer cannot have it done for every message.
        """
        charge = Charge(self, size_bytes)
        self._charged_bytes += size_bytes
        if self.is_over and self._charged_bytes > self.limit_bytes // _COLLECTED_PART:
            self._charged_bytes = 0
            gc.collect()
        return charge

    def add(self, size_bytes: int) -> bool:
        """Count more; return whether that is still within the limit. It is counted either way."""
        self.held_bytes += size_bytes
        return self.held_bytes <= self.limit_bytes

    def remove(self, size_bytes: int) -> None:
        """Count less."""
        self.held_bytes -= size_bytes


class Charge:
    """Counts bytes on a meter for as long as this object lives: who keeps the bytes keeps it."""

    __slots__ = ("_meter", "_size_bytes")

    def __init__(self, meter: Meter, size_bytes: int) -> None:
        self._meter = meter
        self._size_bytes = size_bytes
        meter.held_bytes += size_bytes

    def grow(self, size_bytes: int) -> None:
        """Count more; raise ``ValueError`` if that is beyond the limit. It is counted either way."""
        self._size_bytes += size_bytes
        if not self._meter.add(size_bytes):
            raise ValueError(
                f"The session would hold more than {self._meter.limit_bytes} bytes for its peer (max_held_bytes)."
            )

    def __del__(self) -> None:
        self._meter.held_bytes -= self._size_bytes


def weigh_container(value: list[Any] | tuple[Any, ...] | dict[str, Any]) -> int:
    """Return about how many bytes a copy of a container takes, its own text and bytes with it, but no other value."""
    if type(value) is dict:
        items: Iterable[Any] = value.values()
        size_bytes = _CONTAINER_BYTES + len(value) * _MEMBER_BYTES
    else:
        items = value
        size_bytes = _CONTAINER_BYTES + len(value) * _ITEM_BYTES
    return size_bytes + sum([len(item) for item in items if type(item) is str or type(item) is bytes])


def weigh(value: Any, depth: int = 0) -> int:
    """Return about how many bytes there are in a value: in its text and bytes above all."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    if depth == _MAX_DEPTH:
        return 0
    depth += 1
    if kind is dict or kind is list or kind is tuple:
        items = value.values() if kind is dict else value
        return weigh_container(value) + sum(weigh(item, depth) for item in items if type(item) not in _WEIGHED)
    if isinstance(value, BaseException):
        facts = value.props if isinstance(value, RpcError) else vars(value)
        return weigh(value.args, depth) + weigh(facts, depth)
    if isinstance(value, Headers):
        return weigh(list(value), depth)
    if isinstance(value, (Request, Response)):
        return weigh([list(value.headers), value.body, value.init], depth)
    # A blob, or an array of numbers.
    return len(value) * getattr(value, "itemsize", 1) if hasattr(value, "__len__") else 0
