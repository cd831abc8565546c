"""Appending and reading, with commits on the loop and on a thread."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams import Stream, StreamEngine, core_type
from itx_notebook.testing import FakeClock
from tests.streams.support import read_short


async def test_first_append_when_the_stream_is_new_gets_offset_3_after_created_and_woken(stream: Stream) -> None:
    event = await stream.append({"type": "demo.x", "payload": {"n": 1}})
    assert (event.offset, event.stream_path) == (3, "/a/b")
    assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "demo.x")]
    first = (await stream.read())[0]
    assert first.payload == {"namespace": "prj_1", "path": "/a/b"}


async def test_created_at_when_stamped_is_iso_utc_with_milliseconds(home: Path) -> None:
    engine = StreamEngine.open(home, clock=FakeClock(1_781_082_000_007))
    event = await engine.stream("p", "/a").append({"type": "x"})
    await engine.close()
    assert event.created_at == "2026-06-10T09:00:00.007Z"


async def test_ancestors_when_a_deep_stream_is_created_learn_their_immediate_child(
    engine: StreamEngine, stream: Stream
) -> None:
    await stream.append({"type": "x"})
    await engine.settle()
    root, parent = engine.stream("prj_1", "/"), engine.stream("prj_1", "/a")
    assert (root.load().child_paths, parent.load().child_paths) == (("/a",), ("/a/b",))
    told = [event for event in await root.read() if event.type == core_type("child-stream-created")]
    assert sorted(event.payload["childPath"] for event in told) == ["/a", "/a/b"]
    assert sorted(str(event.idempotency_key) for event in told) == [
        "child-stream-created:/:/a",
        "child-stream-created:/:/a/b",
    ]


async def test_announcement_when_an_ancestor_was_paused_is_repeated_at_the_next_wake(home: Path) -> None:
    engine = StreamEngine.open(home)
    await engine.stream("p", "/").append({"type": core_type("paused")})
    await engine.stream("p", "/a").append({"type": "x"})
    await engine.settle()
    assert engine.stream("p", "/").load().child_paths == ()
    await engine.stream("p", "/").append({"type": core_type("resumed")})
    await engine.close()
    engine = StreamEngine.open(home)
    await engine.stream("p", "/a").wake()
    await engine.settle()
    assert engine.stream("p", "/").load().child_paths == ("/a",)
    await engine.close()


async def test_key_when_repeated_gives_the_first_event_whatever_the_payload(stream: Stream) -> None:
    first = await stream.append({"type": "x", "payload": 1, "idempotencyKey": "k"})
    again = await stream.append({"type": "y", "payload": 2, "idempotencyKey": " k "})
    assert again == first
    assert stream.load().max_offset == 3


async def test_batch_when_it_repeats_keys_is_aligned_and_writes_each_once(stream: Stream) -> None:
    await stream.append({"type": "x", "idempotencyKey": "old"})
    got = await stream.append_batch(
        [
            {"type": "new"},
            {"type": "again", "idempotencyKey": "old"},
            {"type": "own", "idempotencyKey": "own"},
            {"type": "twice", "idempotencyKey": "own"},
        ]
    )
    assert [(event.offset, event.type) for event in got] == [(4, "new"), (3, "x"), (5, "own"), (5, "own")]


async def test_batch_when_all_repeats_commits_nothing_not_even_a_wake(home: Path) -> None:
    engine = StreamEngine.open(home)
    await engine.stream("p", "/a").append({"type": "x", "idempotencyKey": "k"})
    await engine.close()
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/a")
    assert (await stream.append({"type": "x", "idempotencyKey": "k"})).offset == 3
    assert await read_short(stream) == [(1, "created"), (2, "woken"), (3, "x")]
    await stream.append({"type": "y"})
    assert await read_short(stream, after_offset=3) == [(4, "woken"), (5, "y")]
    await engine.close()


async def test_precondition_when_it_does_not_hold_names_both_offsets(stream: Stream) -> None:
    assert (await stream.append({"type": "x", "offset": 3, "idempotencyKey": "k"})).offset == 3
    for event, message in [
        ({"type": "x", "offset": 3}, "expected offset 4, got 3"),
        ({"type": "x", "offset": 4, "idempotencyKey": "k"}, "idempotency hit at offset 3, got 4"),
    ]:
        with pytest.raises(ItxError, match=f"(?m)^{message}$") as caught:
            await stream.append(event)
        assert caught.value.code == "INTERNAL"
    assert stream.load().max_offset == 3


async def test_batch_when_one_event_is_refused_leaves_nothing_and_burns_no_offset(stream: Stream) -> None:
    batches: list[list[dict[str, Any]]] = [
        [{"type": "a"}, {"type": core_type("paused"), "payload": {"reason": ""}}],
        [{"type": core_type("paused")}, {"type": "b"}],
        [{"type": "a", "idempotencyKey": "k"}, {"type": "b", "offset": 99}],
        [{"type": "a"}, {"type": "b", "bogus": 1}],
    ]
    for bad in batches:
        with pytest.raises(ItxError):
            await stream.append_batch(bad)
    assert stream.load().max_offset == 0
    assert (await stream.append({"type": "a", "idempotencyKey": "k"})).offset == 3


async def test_append_when_paused_is_refused_but_repeats_and_resumed_pass(stream: Stream) -> None:
    await stream.append({"type": "x", "idempotencyKey": "k"})
    await stream.append({"type": core_type("paused"), "payload": {"reason": "too fast"}})
    with pytest.raises(ItxError, match=r"(?m)^stream paused: too fast$"):
        await stream.append({"type": "x"})
    with pytest.raises(ItxError, match="stream paused"):
        await stream.append({"type": core_type("paused")})
    assert (await stream.append({"type": "x", "idempotencyKey": "k"})).offset == 3
    resumed = await stream.append_batch([{"type": core_type("resumed")}, {"type": "x"}])
    assert [event.offset for event in resumed] == [5, 6]


async def test_empty_batch_when_appended_touches_nothing(stream: Stream) -> None:
    assert await stream.append_batch([]) == []
    assert stream.load().event_count == 0


async def test_appends_when_made_at_once_are_dense_and_in_order_of_call(stream: Stream, engine: StreamEngine) -> None:
    other = engine.stream("prj_1", "/other")
    got = await asyncio.gather(
        *(stream.append({"type": "x", "payload": n}) for n in range(50)),
        other.append({"type": core_type("paused")}),
        *(stream.append({"type": "y", "payload": n}) for n in range(50)),
    )
    mine = [event for event in got if event.stream_path == "/a/b"]
    assert [event.offset for event in mine] == list(range(3, 103))


async def test_group_when_one_request_is_refused_commits_the_others(stream: Stream) -> None:
    got = await asyncio.gather(
        stream.append({"type": "a"}),
        stream.append({"type": "b", "offset": 77}),
        stream.append({"type": "c"}),
        return_exceptions=True,
    )
    assert isinstance(got[1], ItxError)
    assert await read_short(stream, after_offset=2) == [(3, "a"), (4, "c")]


async def test_append_when_cancelled_before_its_turn_appends_nothing(stream: Stream) -> None:
    task = asyncio.create_task(stream.append({"type": "x"}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await stream.append({"type": "y"})).offset == 3


async def test_read_when_bounded_excludes_both_cursors(stream: Stream) -> None:
    await stream.append_batch([{"type": f"t{n}"} for n in range(3, 11)])
    assert await read_short(stream, after_offset=4, before_offset=7) == [(5, "t5"), (6, "t6")]
    assert await read_short(stream, after_offset=8, limit=1) == [(9, "t9")]
    assert await read_short(stream, after_offset=10) == []
    assert await read_short(stream, before_offset=1) == []


async def test_read_when_long_comes_in_order_over_many_pages(stream: Stream) -> None:
    await stream.append_batch([{"type": "x", "payload": n} for n in range(3_500)])
    assert [event.offset for event in await stream.read()] == list(range(1, 3_503))


async def test_look_when_silent_neither_creates_nor_wakes(engine: StreamEngine, stream: Stream) -> None:
    assert stream.get_state().event_count == 0
    assert await stream.read() == []
    assert stream.get_children() == []
    assert engine.count_streams("prj_1") == 0


async def test_state_when_reopened_is_the_fold_of_the_log(home: Path) -> None:
    engine = StreamEngine.open(home)
    stream = engine.stream("p", "/")
    await stream.append({"type": core_type("metadata-updated"), "payload": {"metadata": {"title": "t"}}})
    await stream.append_batch([{"type": "x"}] * 700)
    before = stream.load()
    await engine.close()
    engine = StreamEngine.open(home)
    assert engine.stream("p", "/").load() == before
    await engine.close()


async def test_children_when_listed_have_their_own_time_of_creation(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    await engine.settle()
    (child,) = engine.stream("prj_1", "/a").get_children()
    assert (child.path, child.created_at) == ("/a/b", (await stream.read())[0].created_at)


async def test_wake_when_repeated_is_recorded_once_a_process(stream: Stream) -> None:
    await asyncio.gather(stream.wake(), stream.wake())
    await stream.wake()
    assert await read_short(stream) == [(1, "created"), (2, "woken")]


async def test_namespace_when_invalid_is_refused(engine: StreamEngine) -> None:
    for namespace in ("", " ", "a:b", "x" * 256):
        with pytest.raises(ItxError, match=re.escape(repr(namespace))):
            engine.stream(namespace, "/a")


async def test_engine_when_closed_says_so(engine: StreamEngine, stream: Stream) -> None:
    await stream.append({"type": "x"})
    await engine.close()
    for call in (stream.append({"type": "x"}), stream.read()):
        with pytest.raises(ItxError, match="engine is closed"):
            await call
    await engine.close()


async def test_precondition_when_given_to_a_core_event_is_checked_too(stream: Stream) -> None:
    updated = {"type": core_type("metadata-updated"), "payload": {"metadata": {"a": 1}}}
    with pytest.raises(ItxError, match=r"(?m)^expected offset 3, got 1$"):
        await stream.append({**updated, "offset": 1})
    assert (await stream.append({**updated, "offset": 3})).offset == 3
