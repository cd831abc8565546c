"""Whether a store is what it should be: every log whole and in order, and everything folded from it in agreement.

Looks at one stream after the other, each of one moment, so that it can run while the store is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams.core import (
    CORE_STATE_VERSION,
    CoreState,
    core_type,
    fold,
    initial_state,
    without_historical_subscribers,
)
from itx_notebook.streams.event import DAMAGE, read_event
from itx_notebook.streams.storage import Auditor, EventRow, StreamName, open_to_read
from itx_notebook.types import StreamEvent

__all__ = ["Fault", "Verification", "verify_store"]

_MOST_FAULTS: Final = 20
"""Of one stream: what is wrong with the rest follows from what was wrong before."""
_decode_state: Final = msgspec.json.Decoder(CoreState).decode


class Fault(NamedTuple):
    """One thing that is not as it should be. Of the file as a whole, it has no stream."""

    namespace: str | None
    path: str | None
    offset: int | None
    what: str

    def __str__(self) -> str:
        if self.path is None:
            return self.what
        where = f"{self.namespace}:{self.path}"
        return f"{where}: {self.what}" if self.offset is None else f"{where} at offset {self.offset}: {self.what}"


class Verification(NamedTuple):
    """What was looked at, and what was found."""

    streams: int
    events: int
    faults: list[Fault]


def verify_store(
    directory: Path,
    *,
    namespace: str | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Verification:
    """Check a store, whoever holds it, and change nothing.

    Of the file: its pages and indexes, and rows that belong to no stream. Of each stream: offsets dense from 1, each
    event at its place and of its type, chunks whole, the checkpoint equal to the fold of the log, and the idempotency
    keys those of the events.

    Parameters
    ----------
    namespace : str, optional
        Only the streams of this one; the file is checked all the same.
    on_progress : callable, optional
        Told after each stream how many are done, of how many.

    Raises
    ------
    StoreError
        There is no store, or it cannot be opened at all.
    """
    faults: list[Fault] = []
    events = 0
    with open_to_read(directory, Auditor) as store:
        try:
            faults += [Fault(None, None, None, what) for what in store.find_file_faults()]
        except StoreError as error:
            faults.append(Fault(None, None, None, error.message))
        try:
            names = store.read_names(namespace)
        except StoreError as error:
            return Verification(0, 0, [*faults, Fault(None, None, None, error.message)])
        for done, name in enumerate(names, 1):
            check = _StreamCheck(name)
            try:
                with store.hold_still():
                    faults += check.run(store)
            except StoreError as error:
                faults.append(Fault(name.namespace, name.path, None, error.message))
            events += check.events
            if on_progress is not None:
                on_progress(done, len(names))
    return Verification(len(names), events, faults)


class _StreamCheck:
    """The check of one stream."""

    def __init__(self, name: StreamName) -> None:
        self.events = 0
        self._name = name
        self._faults: list[Fault] = []
        self._state = initial_state()
        self._is_folded = True
        self._keys: dict[str, int] = {}

    def run(self, store: Auditor) -> list[Fault]:
        """Look at every row; returns the first faults."""
        stored = store.try_read_stream(self._name.namespace, self._name.path)
        if stored is None:
            return []  # erased since the streams were listed
        checkpoint = self._try_decode(stored.checkpoint, stored.checkpoint_version)
        for row in store.read_event_rows(stored.stream_id):
            self._check_row(row)
            if checkpoint is not None and self._is_folded and row.offset == checkpoint.max_offset:
                self._check_checkpoint(checkpoint)
        if checkpoint is not None and self._is_folded and checkpoint.max_offset > self._state.max_offset:
            self._note(None, f"the checkpoint is at offset {checkpoint.max_offset}, beyond the end of the log")
        if self._is_folded and (self._state.namespace, self._state.path) != (self._name.namespace, self._name.path):
            self._note(1, f"it was created as {self._state.namespace}:{self._state.path}")
        self._check_keys(store.read_keys(stored.stream_id))
        return self._faults[:_MOST_FAULTS]

    def _note(self, offset: int | None, what: str) -> None:
        self._faults.append(Fault(self._name.namespace, self._name.path, offset, what))

    def _check_row(self, row: EventRow) -> None:
        self.events += 1
        expected = self.events
        if row.offset != expected and self._is_folded:
            self._note(expected, f"it is missing; the next event is at offset {row.offset}")
            self._is_folded = False
        try:
            event = read_event(row.body, self._name.path)
        except DAMAGE as error:
            self._note(row.offset, "its chunks are not whole" if not row.body else f"it is no event ({error})")
            self._is_folded = False
            return
        if (event.offset, event.type) != (row.offset, row.type):
            self._note(row.offset, f"it says that it is {event.type!r} at offset {event.offset}, not {row.type!r}")
            self._is_folded = False
        self._note_key(event)
        if self._is_folded:
            self._fold(event)

    def _note_key(self, event: StreamEvent) -> None:
        key = event.idempotency_key
        if key is UNSET:
            return
        if key in self._keys:
            self._note(event.offset, f"its idempotency key {key!r} is that of offset {self._keys[key]}")
        self._keys.setdefault(key, event.offset)

    def _fold(self, event: StreamEvent) -> None:
        if event.offset == 1 and event.type != core_type("created"):
            self._note(1, f"the first event is {event.type!r}")
        try:
            self._state = fold(self._state, event)
        except ItxError as error:
            self._note(event.offset, f"it cannot be folded: {error.message}")
            self._is_folded = False

    def _try_decode(self, checkpoint: bytes | None, version: int | None) -> CoreState | None:
        """``None`` also for a checkpoint that a boot would not trust either."""
        if checkpoint is None or version != CORE_STATE_VERSION:
            return None
        try:
            return without_historical_subscribers(_decode_state(checkpoint))
        except DAMAGE as error:
            self._note(None, f"the checkpoint is damaged ({error}); the log is folded from the start instead")
            return None

    def _check_checkpoint(self, checkpoint: CoreState) -> None:
        if checkpoint != self._state:
            fields: Iterator[str] = (
                field
                for field in checkpoint.__struct_fields__
                if getattr(checkpoint, field) != getattr(self._state, field)
            )
            self._note(checkpoint.max_offset, f"the checkpoint is not the fold of the log: {', '.join(fields)}")

    def _check_keys(self, stored: dict[str, int]) -> None:
        differing: list[tuple[str, Any, Any]] = [
            (key, stored.get(key), self._keys.get(key))
            for key in stored.keys() | self._keys.keys()
            if stored.get(key) != self._keys.get(key)
        ]
        for key, pointed, found in sorted(differing, key=str):
            if pointed is None:
                self._note(found, f"its idempotency key {key!r} is not in the index")
            else:
                self._note(pointed, f"the idempotency key {key!r} of the index is not that of the event")
