"""What a contract accepts, and what it makes of events and states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams import core_type
from itx_notebook.streams.processors import EventCatalog, EventType, ProcessorContract, processor
from itx_notebook.types import UNSET, StreamEvent


class Order(msgspec.Struct):
    order: int
    note: str = "none"


@dataclass
class Count:
    count: int = 0
    last: str | None = None


PLACED = EventType("An order came in.", Order)
SHOP = EventCatalog("shop", {"order.placed": PLACED})


def event(name: str, payload: Any = UNSET) -> StreamEvent:
    return StreamEvent(type=name, payload=payload, offset=7, created_at="2026-06-10T09:00:00.000Z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slug": " "}, "A processor's slug must not be blank."),
        ({"consumes": ("a",)}, 'Unresolved stream processor consumes event type "a".'),
        ({"emits": ("a",)}, 'Unresolved stream processor emits event type "a".'),
        (
            {"events": {"order.placed": EventType()}, "deps": (SHOP,)},
            'Duplicate stream processor event type "order.placed" owned by both "count" and "shop".',
        ),
        ({"state": list[int]}, 'Processor "count" state is not of its shape: Expected `array`, got `object`.'),
        ({"initial_state": {"at": object()}}, 'Processor "count" state cannot be stored'),
    ],
)
def test_contract_when_wrong_says_what(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ItxError) as caught:
        ProcessorContract(**{"slug": "count", **options})
    assert caught.value.code == "BAD_REQUEST"
    assert caught.value.message.startswith(message)


def test_state_when_no_object_is_refused() -> None:
    contract = ProcessorContract(slug="count", state=Count)
    for bad in (7, [1], None, "text"):
        with pytest.raises(ItxError, match=r'Processor "count" state must be an object\.'):
            contract.parse_state(bad)
    with pytest.raises(ItxError, match=r'Processor "count" state must be an object\.'):
        contract.encode_state([1])  # type: ignore[arg-type]  # what is tested


def test_type_when_reached_by_two_routes_is_one() -> None:
    first: ProcessorContract[Any] = ProcessorContract(slug="first", deps=(SHOP,), consumes=("order.placed",))
    second: ProcessorContract[Any] = ProcessorContract(
        slug="second", deps=(SHOP, first), consumes=("order.placed", core_type("paused"))
    )
    assert second.try_consume(event("order.placed", {"order": 1})) is not None


def test_stored_state_when_older_is_filled_in() -> None:
    assert ProcessorContract(slug="count", state=Count).parse_state({"count": 3}) == Count(3, None)
    plain: ProcessorContract[dict[str, Any]] = ProcessorContract(slug="count", initial_state={"a": 1, "b": [2]})
    assert plain.parse_state({"a": 5}) == {"a": 5, "b": [2]}


def test_initial_state_when_made_twice_shares_nothing() -> None:
    contract: ProcessorContract[dict[str, Any]] = ProcessorContract(slug="count", initial_state={"seen": []})
    contract.make_initial_state()["seen"].append(1)
    assert contract.make_initial_state() == {"seen": []}


def test_event_when_named_is_checked_and_converted_and_others_are_left_out() -> None:
    contract: ProcessorContract[Any] = ProcessorContract(slug="count", deps=(SHOP,), consumes=("order.placed",))
    taken = contract.try_consume(event("order.placed", {"order": 1}))
    assert taken is not None
    assert taken.payload == Order(1, "none")
    assert contract.try_consume(event("order.paid")) is None
    with pytest.raises(ItxError, match=r'Processor "count" cannot take order\.placed at offset 7'):
        contract.try_consume(event("order.placed", {"order": "one"}))


def test_event_when_everything_is_consumed_is_unchecked_unless_named() -> None:
    contract: ProcessorContract[Any] = ProcessorContract(slug="count", deps=(SHOP,), consumes=("*", "order.placed"))
    unknown = event("never.heard.of", [1])
    assert contract.try_consume(unknown) is unknown
    with pytest.raises(ItxError, match="cannot take"):
        contract.try_consume(event("order.placed"))


def test_announcement_says_what_the_stream_should_know() -> None:
    contract: ProcessorContract[Any] = ProcessorContract(
        slug=" echo ",
        version="1.2.3",
        description="Says it again.",
        events={"echo.said": EventType("Said again."), "echo.other": EventType()},
        consumes=("*",),
        emits=("echo.said",),
    )
    assert contract.announcement == {
        "slug": "echo",
        "version": "1.2.3",
        "description": "Says it again.",
        "consumes": ["*"],
        "emits": ["echo.said"],
        "ownedEvents": [{"type": "echo.said", "description": "Said again."}, {"type": "echo.other"}],
    }


def test_decorated_fold_knows_the_types_it_names() -> None:
    @processor("count", consumes=["order.placed", core_type("paused")], initial_state={"count": 0}, emits=["x"])
    def count(state: dict[str, Any], event: StreamEvent) -> dict[str, Any]:
        """Counts orders.

        And nothing else.
        """
        return {"count": state["count"] + 1}

    assert (count.contract.slug, count.contract.description) == ("count", "Counts orders.")
    assert count.contract.announcement["ownedEvents"] == []
    assert repr(count) == "<processor count 0.1.0>"
    assert count().reduce({"count": 1}, event("order.placed")) == {"count": 2}


def test_decorator_when_given_one_type_takes_it_and_without_a_slug_says_how() -> None:
    @processor("count", consumes="order.placed", emits="order.counted")
    def count(state: dict[str, Any], event: StreamEvent) -> None:
        """Keeps what it has."""

    assert (count.contract.consumes, count.contract.emits) == (("order.placed",), ("order.counted",))
    with pytest.raises(ItxError, match="is no slug") as caught:
        processor(count)  # type: ignore[arg-type]  # what is tested: the decorator without its parentheses
    assert "@processor(" in caught.value.remedy


@pytest.mark.parametrize("value", [float("nan"), 2**70, "\ud800"], ids=repr)
def test_state_when_json_cannot_say_it_is_refused(value: Any) -> None:
    contract: ProcessorContract[dict[str, Any]] = ProcessorContract(slug="count")
    with pytest.raises(ItxError, match=r'Processor "count" state'):
        contract.encode_state({"at": value})
