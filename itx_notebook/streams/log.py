"""One stream as the store has it: its events in order, its checkpoint, and what a damaged one is called.

Apart from the actor, which owns what is in memory and decides; this room only reads, and says what is to be written.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol

import msgspec

from itx_notebook._json import encode_json
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams.core import (
    CORE_STATE_VERSION,
    CoreState,
    fold,
    initial_state,
    without_historical_subscribers,
)
from itx_notebook.streams.event import DAMAGE, read_event, read_events
from itx_notebook.streams.group import Draft
from itx_notebook.streams.storage import Reader, StreamWrite
from itx_notebook.types import StreamEvent

__all__ = ["READ_PAGE", "LogStore", "StreamLog"]

_log = logging.getLogger("itx_notebook")

READ_PAGE: Final = 1_000
"""Events decoded between two turns of the loop: about 2 ms."""
_CHECKPOINT_EVERY: Final = 256
"""Events after which the checkpoint is renewed; what a boot folds at the most."""

_decode_state: Final = msgspec.json.Decoder(CoreState).decode


class LogStore(Protocol):
    """What a log asks of its engine."""

    @property
    def reader(self) -> Reader:
        """The read-only side of the store; raises once that is closed."""
        ...

    def try_read_by_key(self, stream_id: int, key: str) -> bytes | None:
        """The stored body under an idempotency key, between commits; raises once the store is closed."""
        ...


class StreamLog:
    """The stored side of one stream. Knows nothing before :meth:`read_state`."""

    __slots__ = ("_checkpoint_is_stale", "_checkpoint_offset", "_namespace", "_path", "_store", "stream_id")

    def __init__(self, store: LogStore, namespace: str, path: str) -> None:
        self._store = store
        self._namespace = namespace
        self._path = path
        self.forget()

    def forget(self) -> None:
        """Know nothing of what is stored, as before the first read."""
        self.stream_id: int | None = None
        self._checkpoint_offset = 0
        self._checkpoint_is_stale = False

    def read_state(self) -> CoreState:
        """Fold the log from its checkpoint on. Writes nothing."""
        state = initial_state()
        stored = self._store.reader.try_read_stream(self._namespace, self._path)
        if stored is None:
            return state
        self.stream_id = stored.stream_id
        if stored.checkpoint is not None:
            # Of another version, or damaged: replaced with the next commit, so that it is folded only once.
            self._checkpoint_is_stale = True
            if stored.checkpoint_version == CORE_STATE_VERSION:
                try:
                    state = without_historical_subscribers(_decode_state(stored.checkpoint))
                    self._checkpoint_is_stale = False
                except DAMAGE:
                    _log.warning("the checkpoint of %s is damaged; folding its log from the start", self._path)
        self._checkpoint_offset = state.max_offset
        while page := self.read_page(after_offset=state.max_offset, limit=READ_PAGE):
            for event in page:
                try:
                    state = fold(state, event)
                except ItxError as error:
                    raise self._damaged(f"at offset {event.offset}", str(error)) from error
        return state

    def read_page(self, *, after_offset: int, limit: int, before_offset: int | None = None) -> list[StreamEvent]:
        """Up to `limit` stored events after an offset, in order; at least one if there is one."""
        if self.stream_id is None:
            return []
        bodies = self._store.reader.read_bodies(
            self.stream_id, after_offset=after_offset, before_offset=before_offset, limit=limit
        )
        try:
            events = read_events(bodies, self._path)
        except DAMAGE as error:
            raise self._damaged(f"after offset {after_offset}", str(error)) from error
        # Offsets are dense, so one look tells that every event is the one of its place.
        if events and events[-1].offset != after_offset + len(events):
            raise self._damaged(f"after offset {after_offset}", "an offset is not that of its place")
        return events

    def try_find(self, key: str) -> StreamEvent | None:
        """The stored event under an idempotency key. To be called between commits, not while one is under way."""
        if self.stream_id is None:
            return None
        body = self._store.try_read_by_key(self.stream_id, key)
        try:
            return None if body is None else read_event(body, self._path)
        except DAMAGE as error:
            raise self._damaged(f"at the idempotency key {key!r}", str(error)) from error

    def get_write(self, draft: Draft[Any]) -> StreamWrite:
        """The storage's part of a draft, with a new checkpoint when the old one has fallen behind."""
        checkpoint = (CORE_STATE_VERSION, encode_json(draft.state)) if self._renews_checkpoint(draft) else None
        return StreamWrite(self._namespace, self._path, self.stream_id, draft.rows, checkpoint)

    def note_commit(self, draft: Draft[Any], stream_id: int) -> None:
        """The write of :meth:`get_write` was committed."""
        self.stream_id = stream_id
        if self._renews_checkpoint(draft):
            self._checkpoint_offset = draft.state.max_offset
            self._checkpoint_is_stale = False

    def _renews_checkpoint(self, draft: Draft[Any]) -> bool:
        return self._checkpoint_is_stale or draft.state.max_offset - self._checkpoint_offset >= _CHECKPOINT_EVERY

    def _damaged(self, where: str, fault: str) -> StoreError:
        return StoreError(
            f"Stream {self._path} cannot be read {where}: an event is damaged ({fault}).",
            details={"namespace": self._namespace, "path": self._path},
            hint="Other streams are not affected; restore this store from a backup to get the event back.",
        )
