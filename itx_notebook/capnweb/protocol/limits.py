"""Every limit of a session, with its default and unit, in one place.

A Cap'n Web peer is a program that sends what it likes. The protocol itself bounds nothing but depth, bigint length and
message size, and the JavaScript library of June 2026 not even these; 283 bytes of nested maps cost it 48 seconds
and 4 GB (measured). So a session counts everything a peer can make it hold or do, and ends, or refuses the call,
at the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from itx_notebook.capnweb.protocol.errors import RpcError

__all__ = ["Budget", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a session takes from its peer, and how much it holds for it.

    The first three defaults are those of npm ``capnweb`` 0.12; the rest are ours.
    """

    max_message_bytes: int = 32 * 1024 * 1024
    """Bytes of one message, received. The session ends beyond it."""

    max_depth: int = 256
    """Lists, objects and calls within each other, in both directions. Received beyond it: the session ends.

    A call among the arguments of a call counts twice.
    """

    max_bigint_digits: int = 16_384
    """Characters of one big integer with its sign, in both directions."""

    max_exports: int = 10_000
    """Live entries the peer may hold here: its unreleased calls, and what it was given.

    The session ends when the peer calls beyond it; a call or an answer of this side that would give out more fails.
    """

    max_imports: int = 10_000
    """Live objects the peer may make this side hold. The session ends beyond it."""

    max_pending_calls: int = 10_000
    """Calls whose outcome is not known yet, also where the peer has given up waiting. The session ends beyond it."""

    max_running_calls: int = 1_000
    """Calls of the peer that run at the same time; later ones wait, in order."""

    max_map_calls: int = 10_000
    """Instructions one message may run by ``map``, counted across nesting. The call is refused beyond it.

    Long ones count once for every 64 bytes.
    """

    max_unread_bytes: int = 128 * 1024 * 1024
    """Bytes of messages the peer may have sent into streams and nobody has read, each counted with 1 KiB more.

    An honest peer sends no more into a stream than its window, which grows with what the connection carries. The
    session ends beyond it.
    """

    max_blob_bytes: int = 128 * 1024 * 1024
    """Bytes of blobs that are arriving, all together. Beyond it the blob fails, and what waits for it."""

    max_held_bytes: int = 128 * 1024 * 1024
    """Bytes the peer may make this side hold, all together.

    They are those of its messages for as long as anything of them is needed (calls that wait or run, values not given
    back), of answers it has not given back, and of copies and results made out of them for it. The session ends when
    messages or answers go beyond it; a call or a map that would is refused. Python's objects take several times the
    bytes of the message they came by.
    """

    outbound_high_bytes: int = 1024 * 1024
    """Unsent bytes above which ``Session.writable()`` waits …"""

    outbound_low_bytes: int = 256 * 1024
    """… until there are fewer than this."""

    max_outbound_bytes: int = 64 * 1024 * 1024
    """Unsent bytes at which the session ends: the peer does not read. Also of the answers that it asks for at once.

    Twice what one message may have: the longest answer is on its way for a while, and others come behind it.
    """

    read_slice_seconds: float = 0.005
    """How long incoming messages are handled before timers, pings and other tasks get their turn."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} is {value!r}; a limit is a positive number.")
        if not self.outbound_low_bytes <= self.outbound_high_bytes <= self.max_outbound_bytes:
            raise ValueError(
                f"The outbound marks must rise: outbound_low_bytes={self.outbound_low_bytes} <= "
                f"outbound_high_bytes={self.outbound_high_bytes} <= max_outbound_bytes={self.max_outbound_bytes}."
            )


class Budget:
    """How many more instructions may run for one message.

    Three nested maps of a hundred elements are a million calls out of 283 bytes, so every instruction is counted,
    however deep it stands.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, instructions: int) -> None:
        """Count `instructions` as run; raise :class:`RpcError` when there are not so many left."""
        self.left -= instructions
        if self.left < 0:
            raise RpcError("The map runs more instructions than this session allows (max_map_calls).")
