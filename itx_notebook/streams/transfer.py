"""Streams as JSON Lines: out of a store, and into one, exactly as they were.

A line is a committed event with where it came from: ``{"namespace", "streamPath", "type", …, "offset", "createdAt"}``.
An import gives each event the offset, the time and the key it had, so the copy's log is the original's; a stream that
holds some of the events already is gone on with, and one that holds others is refused. Importing again therefore adds
nothing, and an import that was cut off is simply repeated.

Below the engine, on the store itself: an engine gives out offsets and times of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from itx_notebook._json import encode_json
from itx_notebook.errors import ItxError, StoreError
from itx_notebook.streams.core import CORE_STATE_VERSION, core_type, fold
from itx_notebook.streams.event import DAMAGE, parse_event, read_events
from itx_notebook.streams.log import StreamLog
from itx_notebook.streams.storage import Reader, Row, Store, StreamName, StreamWrite, open_to_read
from itx_notebook.types import Event, StreamEvent

__all__ = ["Archive", "ImportReport", "import_lines", "open_archive"]

_PAGE: Final = 500
_GROUP_EVENTS: Final = 1_000
_GROUP_BYTES: Final = 4 * 1024 * 1024
"""What one transaction of an import takes."""
_CREATED: Final = core_type("created")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class _Line(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    namespace: str
    stream_path: str
    type: str
    payload: Any = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    source: dict[str, Any] | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET
    offset: int
    created_at: str


_decode_line: Final = msgspec.json.Decoder(_Line).decode

Place = tuple[str, str]
"""A stream: its namespace and its path."""


class Archive:
    """A store to be read from, of the moment it was opened. Made by :func:`open_archive`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get_streams(self, namespace: str) -> list[StreamName]:
        """The streams of a namespace, in order of their paths."""
        return self._reader.read_names(namespace)

    def try_get_stream(self, namespace: str, path: str) -> StreamName | None:
        """One stream, or ``None`` if nothing was ever committed to it."""
        stored = self._reader.try_read_stream(namespace, path)
        return None if stored is None else StreamName(stored.stream_id, namespace, path)

    def count_events(self, stream: StreamName) -> int:
        """How many events a stream has."""
        return self._reader.read_head(stream.stream_id)

    def read_events(self, stream: StreamName) -> Iterator[StreamEvent]:
        """The events of a stream, in order; :class:`StoreError` at one that is damaged."""
        for _, events in self._read_pages(stream):
            yield from events

    def read_lines(self, stream: StreamName) -> Iterator[bytes]:
        """The events of a stream as lines, each with its end; :class:`StoreError` at one that is damaged."""
        origin = encode_json({"namespace": stream.namespace, "streamPath": stream.path})[:-1] + b","
        for bodies, _ in self._read_pages(stream):
            for body in bodies:
                yield origin + body[1:] + b"\n"

    def _read_pages(self, stream: StreamName) -> Iterator[tuple[list[bytes], list[StreamEvent]]]:
        cursor = 0
        while bodies := self._reader.read_bodies(
            stream.stream_id, after_offset=cursor, before_offset=None, limit=_PAGE
        ):
            try:
                events = read_events(bodies, stream.path)
            except DAMAGE as error:
                raise _damaged(stream, cursor, str(error)) from error
            if events[-1].offset != cursor + len(events):
                raise _damaged(stream, cursor, "an offset is not that of its place")
            yield bodies, events
            cursor += len(events)


@contextmanager
def open_archive(directory: Path) -> Iterator[Archive]:
    """Read from the store in `directory`, whoever holds it, as it is at this moment.

    Raises
    ------
    StoreError
        There is no store, or its file cannot be read by this version.
    """
    with open_to_read(directory, Reader) as reader, reader.hold_still():
        yield Archive(reader)


class ImportReport(NamedTuple):
    """What an import found and did."""

    streams: list[Place]
    """Every stream of the lines, where it lies now, in order of appearance."""
    appended: int
    present: int
    """Events that were there already."""


def import_lines(
    directory: Path,
    lines: Iterable[bytes],
    *,
    locate: Callable[[str, str], Place],
    on_progress: Callable[[int], object] | None = None,
) -> ImportReport:
    """Bring exported events into the store in `directory`, which is made if absent and must not be held by anybody.

    What was committed before an error stays; repeating the import goes on from there.

    Parameters
    ----------
    lines : iterable of bytes
        Lines of an export. The events of a stream are in order and without gaps; streams may be mixed.
    locate : callable
        Where a stream of the lines, ``(namespace, path)``, is to be.
    on_progress : callable, optional
        Told after each transaction how many lines were taken.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: a line is not one of an export, or events before it are missing; ``CONFLICT``: the stream holds
        another event at that offset, or the key under another one.
    StoreError
        The store is held by another process, or cannot be used.
    """
    store = Store.open(directory)
    try:
        importer = _Importer(store, locate)
        for number, line in enumerate(lines, 1):
            if line.strip():
                importer.take(number, line)
            if importer.is_due:
                importer.commit()
                if on_progress is not None:
                    on_progress(number)
        importer.commit()
        return importer.get_report()
    finally:
        store.close()


class _StoreOfLogs:
    """What a log asks of its engine, from a store without one."""

    def __init__(self, store: Store) -> None:
        self.reader = store.reader
        self.try_read_by_key = store.writer.try_read_by_key


class _Target:
    """One stream that is imported into."""

    def __init__(self, store: _StoreOfLogs, place: Place) -> None:
        self.place = place
        self.log = StreamLog(store, *place)
        self.state = self.log.read_state()
        self.committed = self.state.max_offset
        self.rows: list[Row] = []
        self.keys: set[str] = set()
        self._page: list[StreamEvent] = []

    def read_at(self, offset: int) -> StreamEvent:
        """The event that is stored at an offset; in order, a page serves many calls."""
        if not self._page or not self._page[0].offset <= offset <= self._page[-1].offset:
            self._page = self.log.read_page(after_offset=offset - 1, limit=_PAGE)
        return self._page[offset - self._page[0].offset]

    def get_write(self) -> StreamWrite:
        """What is to be stored, with a checkpoint: a boot need not fold what was imported."""
        checkpoint = (CORE_STATE_VERSION, encode_json(self.state))
        return StreamWrite(*self.place, self.log.stream_id, self.rows, checkpoint)

    def note_commit(self, stream_id: int) -> None:
        """The write was committed."""
        self.log.stream_id = stream_id
        self.committed = self.state.max_offset
        self.rows = []
        self.keys.clear()


class _Importer:
    """Takes lines and commits them in groups."""

    def __init__(self, store: Store, locate: Callable[[str, str], Place]) -> None:
        self._writer = store.writer
        self._logs = _StoreOfLogs(store)
        self._locate = locate
        self._targets: dict[Place, _Target] = {}
        self._by_origin: dict[Place, _Target] = {}
        self._appended = 0
        self._present = 0
        self._waiting = 0
        self._waiting_bytes = 0

    @property
    def is_due(self) -> bool:
        """Whether a transaction is full."""
        return self._waiting >= _GROUP_EVENTS or self._waiting_bytes >= _GROUP_BYTES

    def take(self, number: int, text: bytes) -> None:
        """Take one line in: compare it with what is there, or add it to the transaction."""
        line = _parse_line(number, text)
        target = self._get_target(line.namespace, line.stream_path)
        event = _as_event(number, line, target.place)
        expected = target.state.max_offset + 1
        if event.offset > expected:
            raise ItxError(
                f"Line {number}: {target.place[1]} goes on at offset {expected}, not {event.offset}.",
                code="BAD_REQUEST",
                details={"line": number, "expected": expected, "given": event.offset},
                hint="Events before it are missing: take the whole export, in its order.",
            )
        if event.offset < expected:
            self._compare(number, target, event)
        else:
            self._add(number, target, event)

    def commit(self) -> None:
        """Store what was taken since the last commit."""
        targets = [target for target in self._targets.values() if target.rows]
        if targets:
            for target, stream_id in zip(
                targets, self._writer.commit([target.get_write() for target in targets]), strict=True
            ):
                target.note_commit(stream_id)
        self._waiting = self._waiting_bytes = 0

    def get_report(self) -> ImportReport:
        """What was done."""
        return ImportReport(list(self._targets), self._appended, self._present)

    def _get_target(self, namespace: str, path: str) -> _Target:
        target = self._by_origin.get((namespace, path))
        if target is None:
            place = self._locate(namespace, path)
            target = self._targets.get(place) or _Target(self._logs, place)
            self._targets[place] = self._by_origin[namespace, path] = target
        return target

    def _compare(self, number: int, target: _Target, event: StreamEvent) -> None:
        if event.offset > target.committed:
            self.commit()
        if target.read_at(event.offset) != event:
            raise ItxError(
                f"Line {number}: {target.place[1]} holds another event at offset {event.offset}.",
                code="CONFLICT",
                details={"line": number, "namespace": target.place[0], "path": target.place[1], "offset": event.offset},
                hint="It is another stream of the same name: import into another project, or under another path.",
            )
        self._present += 1

    def _add(self, number: int, target: _Target, event: StreamEvent) -> None:
        key = None if event.idempotency_key is UNSET else event.idempotency_key
        if key is not None and (key in target.keys or target.log.try_find(key) is not None):
            raise ItxError(
                f"Line {number}: the idempotency key {key!r} of {target.place[1]} is that of an earlier event.",
                code="CONFLICT",
                details={"line": number, "key": key},
                hint="A stream keeps one event per key: the lines are not those of one stream.",
            )
        try:
            target.state = fold(target.state, event)
        except ItxError as error:
            raise _bad_line(number, error.message) from error
        # Stored as the engine would: without the path.
        body = encode_json(msgspec.structs.replace(event, stream_path=UNSET))
        target.rows.append(Row(event.offset, event.type, body, key))
        if key is not None:
            target.keys.add(key)
        self._appended += 1
        self._waiting += 1
        self._waiting_bytes += len(body)


def _parse_line(number: int, text: bytes) -> _Line:
    try:
        line = _decode_line(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_line(number, str(error)) from error
    if line.offset < 1 or not _TIME.fullmatch(line.created_at):
        raise _bad_line(number, f"offset {line.offset} or createdAt {line.created_at!r} is none")
    return line


def _as_event(number: int, line: _Line, place: Place) -> StreamEvent:
    """The event of a line as it is to stand in `place`: the fact that a stream was created names the stream."""
    payload = line.payload
    if line.type == _CREATED and isinstance(payload, dict):
        payload = {**payload, "namespace": place[0], "path": place[1]}
    try:
        checked = parse_event(
            Event(
                type=line.type,
                payload=payload,
                metadata=line.metadata,
                source=line.source,
                idempotency_key=line.idempotency_key,
            )
        )
    except ItxError as error:
        raise _bad_line(number, error.message) from error
    return StreamEvent(
        type=checked.type,
        payload=checked.payload,
        metadata=checked.metadata,
        source=checked.source,
        idempotency_key=checked.idempotency_key,
        offset=line.offset,
        created_at=line.created_at,
        stream_path=place[1],
    )


def _bad_line(number: int, fault: str) -> ItxError:
    return ItxError(
        f"Line {number} is no exported event: {fault.rstrip('.')}.",
        code="BAD_REQUEST",
        details={"line": number},
        hint="An import takes what itx-notebook export wrote; the lines before this one may have been taken.",
    )


def _damaged(stream: StreamName, after: int, fault: str) -> StoreError:
    return StoreError(
        f"Stream {stream.path} cannot be read after offset {after}: an event is damaged ({fault}).",
        details={"namespace": stream.namespace, "path": stream.path},
        hint="itx-notebook verify names every fault; restore a backup to get the event back.",
    )
