"""Events as one text: what goes in comes out, and what a peer may send instead of one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import ServerItx
from itx_notebook.doors.targets import ItxTarget
from itx_notebook.doors.texts import format_committed, format_events, parse_batch, parse_committed
from itx_notebook.types import Event
from tests.support import get_refusal

PAYLOADS: list[Any] = [
    None,
    [],
    [[]],
    [["a", ["b"]], {}],
    {"constructor": 1, "n": 2**60, "tags": ["é", "\u2028", '"]']},
    1.5,
]


async def test_every_payload_comes_out_as_it_went_in(itx: ServerItx) -> None:
    near, _ = rpc.memory_pair(None, ItxTarget(itx))
    stream = near.main.streams.get("/a")
    events = [Event(type="demo.x", payload=payload, idempotency_key=str(n)) for n, payload in enumerate(PAYLOADS)]
    answered = parse_committed(await stream.appendText(format_events(events)))
    texts: list[str] = []
    await stream.subscribe(texts.append, {"afterOffset": "start", "presence": False, "text": True})
    (batch,) = map(parse_batch, texts)
    page = await stream.read({"maxBytes": 10**6, "presence": False, "text": True})
    whole = parse_committed(await stream.read({"presence": False, "text": True}))
    assert [event.payload for event in answered] == PAYLOADS
    assert list(batch.events) == whole == parse_committed(page["events"])
    assert whole[-len(PAYLOADS) :] == answered
    assert batch.state.event_count == batch.stream_max_offset == len(whole)


async def test_pages_of_texts_are_cut_by_bytes(itx: ServerItx) -> None:
    near, _ = rpc.memory_pair(None, ItxTarget(itx))
    stream = near.main.streams.get("/a")
    await stream.appendText(format_events([Event(type="demo.x", payload="x" * 500)] * 20))
    page = await stream.read({"maxBytes": 3000, "presence": False, "text": True})
    assert len(page["events"]) <= 3000
    assert page["rest"] == {"afterOffset": len(parse_committed(page["events"])), "beforeOffset": 23}


async def test_the_context_says_that_it_takes_texts(itx: ServerItx) -> None:
    near, _ = rpc.memory_pair(None, ItxTarget(itx))
    assert (await near.main.describe())["takesTexts"] is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not None"),
        (b"[]", "not b'[]'"),
        ("", "truncated"),
        ("[", "truncated"),
        ("{}", "not '{}'"),
        ("7", "not '7'"),
        ('["x"]', "neither an Event nor a dict"),
        ("[{}]", 'no "type"'),
        ('[{"type":"x","colour":1}]', "unknown field 'colour'"),
        ('[{"type":"x","colour":1},', "truncated"),
        ('[{"type":7}]', "type 7 is not a string"),
        ('[{"type":"x","offset":-1}]', "offset -1"),
        ('[{"type":"x","idempotencyKey":" "}]', "idempotencyKey"),
        ('[{"type":"x","payload":' + "[" * 300 + "]" * 300 + "}]", "nested more than 200 deep"),
        ("[" * 100_000, "recursion"),
        ('["\ud800"]', "surrogates not allowed"),
    ],
    ids=repr,
)
async def test_what_is_no_text_of_events_is_refused_and_the_session_lives(itx: ServerItx, text: Any, said: str) -> None:
    near, _ = rpc.memory_pair(None, ItxTarget(itx))
    with pytest.raises(rpc.RemoteError) as caught:
        await near.main.streams.get("/a").appendText(text)
    assert (caught.value.code, said in caught.value.message) == ("BAD_REQUEST", True), caught.value.message
    assert await near.main.streams.get("/a").read({"presence": False}) == []


async def test_a_text_appends_all_or_none(itx: ServerItx) -> None:
    near, _ = rpc.memory_pair(None, ItxTarget(itx))
    stream = near.main.streams.get("/a")
    with pytest.raises(rpc.RemoteError):
        await stream.appendText(json.dumps([{"type": "demo.x"}, {"type": "demo.x", "offset": 99}]))
    assert [event["type"] for event in await stream.read({"presence": False}) if event["type"] == "demo.x"] == []


def test_what_cannot_be_written_is_refused_by_name() -> None:
    error = get_refusal(lambda: format_events([Event(type="demo.x", payload=float("nan"))]))
    assert (error.code, "payload is nan" in error.message) == ("BAD_REQUEST", True)


@pytest.mark.parametrize("text", ["", "7", "[7]", "\ud800", "[" * 100_000], ids=repr)
def test_a_door_that_sends_nonsense_is_told_by_one_error(text: str) -> None:
    for parse in (parse_committed, parse_batch):
        with pytest.raises(msgspec.DecodeError):
            parse(text)


async def test_an_empty_text_touches_nothing(itx: ServerItx) -> None:
    near, _ = rpc.memory_pair(None, ItxTarget(itx))
    stream = near.main.streams.get("/a")
    assert await stream.appendText("[]") == format_committed([])
    assert itx.streams.get("/a")._stream.get_state().event_count == 0
