"""Sessions recorded with the original engine, replayed on ours: what comes back is the same, message by message.

The recordings are frames of Cap'n Web: a push calls a method of the stream (or a function the server gave), a resolve
or reject answers it, and a push the other way is a batch. The order between independent messages is not fixed. All
sessions are of one run and share streams, so they are replayed in the order of their files, in one namespace.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams import EventBatch, Stream, StreamEngine
from itx_notebook.types import StreamEvent

RECORDED = sorted((Path(__file__).parent / "golden").glob("*.jsonl"))
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Recording:
    """One session: what the client asked, what it was answered, and the batches it was given."""

    def __init__(self, path: Path) -> None:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        url = urlsplit(lines[0]["url"])
        self.stream_path = unquote(url.path.removeprefix("/api/streams/"))
        (self.namespace,) = parse_qs(url.query)["namespace"]
        frames = [(line["dir"], json.loads(line["text"])) for line in lines if line["dir"] in ("c2s", "s2c")]
        self.calls = [frame[1] for way, frame in frames if way == "c2s" and frame[0] == "push"]
        self.answers = {frame[1]: frame for way, frame in frames if way == "s2c" and frame[0] in ("resolve", "reject")}
        self.batches = [unescape(frame[1][3][0]) for way, frame in frames if way == "s2c" and frame[0] == "push"]


def unescape(value: Any) -> Any:
    """A value of the wire, where an array stands within another one."""
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], list):
            return [unescape(item) for item in value[0]]
        return f"<{value[0]}>"
    if isinstance(value, dict):
        return {key: unescape(item) for key, item in value.items()}
    return value


def settled(value: Any) -> Any:
    """The same with what no two runs share replaced: times and random ids."""
    if isinstance(value, dict):
        return {settled(key): settled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [settled(item) for item in value]
    if isinstance(value, str):
        return "<uuid>" if _UUID.fullmatch(value) else "<time>" if _TIME.fullmatch(value) else value
    return value


def plain(value: Any) -> Any:
    """A value of ours as the wire would say it."""
    if isinstance(value, StreamEvent):
        # The engine's form of an event does not say where it was read.
        return {key: item for key, item in msgspec.to_builtins(value).items() if key != "streamPath"}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return json.loads(msgspec.json.encode(value))


def plain_batch(batch: EventBatch) -> dict[str, Any]:
    return {
        "namespace": batch.namespace,
        "path": batch.path,
        "events": [plain(event) for event in batch.events],
        "streamMaxOffset": batch.stream_max_offset,
        "state": plain(batch.state),
    }


class Session:
    """Calls on a stream of ours, in the original's names."""

    def __init__(self, stream: Stream) -> None:
        self.batches: list[Any] = []
        self._stream = stream
        self._unsubscribe: Callable[[], Any] | None = None

    async def call(self, push: list[Any]) -> Any:
        _, target, path, *arguments = push
        options = arguments[0][0] if arguments and arguments[0] else {}
        if target != 0:
            assert self._unsubscribe is not None
            await self._unsubscribe()
            return "<undefined>"
        (method,) = path
        return await getattr(self, f"_{method}")(unescape_arguments(options))

    async def _append(self, options: Any) -> Any:
        return plain(await self._stream.append(options["event"]))

    async def _appendBatch(self, options: Any) -> Any:  # noqa: N802  # the original's name
        return plain(await self._stream.append_batch(options["events"]))

    async def _getEvents(self, options: Any) -> Any:  # noqa: N802  # the original's name
        await self._stream.wake()
        names = {"afterOffset": "after_offset", "beforeOffset": "before_offset", "limit": "limit"}
        return plain(await self._stream.get_events(**{names[key]: value for key, value in options.items()}))

    async def _runtimeState(self, options: Any) -> Any:  # noqa: N802  # the original's name
        return plain(self._stream.get_runtime_state())

    async def _subscribe(self, options: Any) -> Any:
        subscription = await self._stream.subscribe(
            lambda batch: self.batches.append(plain_batch(batch)),
            key=options.get("subscriptionKey"),
            replay_after_offset=options.get("replayAfterOffset"),
            event_types=options.get("eventTypes"),
            events=options.get("events", True),
            subscriber=options.get("subscriber"),
        )
        self._unsubscribe = subscription.unsubscribe
        return {
            "subscriptionKey": subscription.key,
            "streamMaxOffset": subscription.stream_max_offset,
            "unsubscribe": "<export>",
        }


def unescape_arguments(options: Any) -> Any:
    return {key: unescape(value) for key, value in options.items()}


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [Recording(path) for path in RECORDED]


async def replay(engine: StreamEngine, recording: Recording) -> None:
    session = Session(engine.stream(recording.namespace, recording.stream_path))
    for number, push in enumerate(recording.calls, 1):
        kind, _, expected = recording.answers[number]
        if kind == "reject":
            with pytest.raises(ItxError) as caught:
                await session.call(push)
            assert caught.value.message == expected[2]
            continue
        answer = await session.call(push)
        assert in_any_order(settled(answer)) == in_any_order(settled(unescape(expected)))
    assert settled(session.batches) == settled(recording.batches)
    await engine.settle()


def in_any_order(value: Any) -> Any:
    """Announcements of children reach an ancestor in no fixed order, and so have no fixed offsets."""
    if not (isinstance(value, list) and any("child-stream-created" in str(event.get("type")) for event in value)):
        return value
    return sorted(
        json.dumps({key: item for key, item in event.items() if key != "offset"}, sort_keys=True) for event in value
    )


async def make_unrecorded_sessions(engine: StreamEngine, recording: Recording) -> None:
    """Two sessions between those that were kept: what they did shows in the log that a later one read."""
    stream = engine.stream(recording.namespace, recording.stream_path)
    await stream.subscribe(
        lambda _: None,
        key="typed",
        replay_after_offset=0,
        event_types=["test.example/ping"],
        subscriber={"description": "golden client"},
    )
    await stream.subscribe(lambda _: None, key="state", events=False)
    await stream.append({"type": "test.example/ping", "payload": {"i": 8, "text": "hello"}})


@pytest.fixture
async def golden_engine(home: Path) -> AsyncIterator[StreamEngine]:
    engine = StreamEngine.open(home)
    yield engine
    await engine.close()


async def test_recorded_sessions_when_replayed_are_answered_alike(
    golden_engine: StreamEngine, recordings: list[Recording]
) -> None:
    assert len(recordings) == 11
    for path, recording in zip(RECORDED, recordings, strict=True):
        if path.name.startswith("09"):
            await make_unrecorded_sessions(golden_engine, recording)
        await replay(golden_engine, recording)
