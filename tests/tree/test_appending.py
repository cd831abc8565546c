from __future__ import annotations

import asyncio
from typing import Any

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.tree import append_once
from itx_notebook.tree.appending import make_appended
from itx_notebook.types import UNSET
from tests.tree.conftest import World


async def test_event_that_is_asked_for_again_is_there_once(world: World) -> None:
    stream = await world.get_stream("/orders")
    before = await world.get_count("/orders")
    asked: dict[str, Any] = {"key": "k1", "event_type": "demo.paid", "payload": '{"n": 18446744073709551615}'}
    offsets = await asyncio.gather(*(append_once(stream, **asked) for _ in range(3)))
    assert offsets == [before + 1] * 3
    assert await append_once(stream, **asked | {"key": "k2"}) == before + 2
    event = await stream.get_event(before + 1, idempotency_key=None)
    assert event is not None
    assert (event.type, event.payload, event.idempotency_key) == ("demo.paid", {"n": 2**64 - 1}, "itx-tree:k1")


def test_event_without_a_payload_has_none() -> None:
    assert make_appended(key="k", event_type="demo", payload=None).payload is UNSET
    assert make_appended(key="k", event_type="demo", payload="null").payload is None


@pytest.mark.parametrize(
    ("event_type", "payload", "said"),
    [
        ("", None, "The event has no type."),
        (" ", None, "The event has no type."),
        ("\ud800", None, "type is "),
        ("demo", "", "line 1, column 1"),
        ("demo", '{"a": 1\n "b": 2}', "line 2, column 2"),
        ("demo", "NaN", "The payload is not JSON"),
        ("demo", "123456789012345678901234", "outside 64 bits"),
        ("demo", '"\ud800"', "The payload is not JSON"),
        ("demo", "[" * 250 + "]" * 250, "nested more than 200 deep"),
        ("demo", "[" * 100_000, "nested too deep"),
    ],
    ids=range(10),
)
def test_event_that_is_none_is_refused_with_what_to_do(event_type: str, payload: str | None, said: str) -> None:
    with pytest.raises(ItxError) as caught:
        make_appended(key="k", event_type=event_type, payload=payload)
    assert caught.value.code == "BAD_REQUEST"
    assert said in caught.value.message
    assert caught.value.hint


async def test_core_event_of_the_wrong_shape_is_refused_by_the_stream(world: World) -> None:
    stream = await world.get_stream("/orders")
    with pytest.raises(ItxError) as caught:
        await append_once(
            stream, key="k", event_type="events.iterate.com/stream/metadata-updated", payload='{"metadata": 3}'
        )
    assert "metadata" in caught.value.message
