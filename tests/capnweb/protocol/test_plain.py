"""What is said to be plain must come out of the walk, in both directions, as it went in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.plain import LEAST_LENGTH, LONG_BYTES, Records, decode_long, is_plain
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER, decode, encode

EVENTS = [{"seq": seq, "kind": "tick", "v": seq + 0.5, "ok": True, "of": None} for seq in range(LEAST_LENGTH)]

scalars = (
    st.none()
    | st.booleans()
    | st.text(max_size=3)
    | st.integers(-(2**54), 2**54)
    | st.floats(allow_nan=True, allow_infinity=True)
)
keys = st.sampled_from(["a", "b", "c", "toString", "__proto__"]) | st.integers(0, 1)
values = scalars | st.lists(scalars, max_size=1) | st.binary(max_size=1)
columns = st.one_of(
    st.lists(scalars),
    st.lists(st.integers(-(2**54), 2**54)),
    st.lists(st.floats()),
    st.lists(st.text(max_size=2)),
    st.lists(values),
    st.lists(st.dictionaries(keys, values, max_size=3)),
)


def needs_no_change(value: Any) -> bool:
    """The slow and plain definition."""
    match value:
        case None | bool() | str():
            return True
        case int():
            return -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER
        case float():
            return value - value == 0
        case _:
            return False


@given(columns)
def test_what_is_plain_needs_no_change(items: list[Any]) -> None:
    before = copy.deepcopy(items)
    if not is_plain(items):
        return
    assert repr(items) == repr(before)
    for item in items:
        if isinstance(item, dict):
            assert all(type(key) is str and key not in {"toString", "__proto__"} for key in item)
            assert all(needs_no_change(value) for value in item.values())
        else:
            assert needs_no_change(item)


@pytest.mark.parametrize(
    "items",
    [
        EVENTS,
        tuple(EVENTS),
        [MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER],
        [0.5, -1e308],
        ["a", None, True],
        [],
        [{}, {}],
    ],
)
def test_what_is_usual_is_plain(items: list[Any]) -> None:
    assert is_plain(items)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seq": MAX_SAFE_INTEGER + 1}, "an integer JavaScript is not sure of"),
        ({"seq": -MAX_SAFE_INTEGER - 1}, "the same below zero"),
        ({"seq": True}, "a bool among integers"),
        ({"v": float("nan")}, "no number"),
        ({"v": float("-inf")}, "an infinite number"),
        ({"v": 1}, "an integer among floats"),
        ({"kind": b"tick"}, "bytes"),
        ({"kind": ["tick"]}, "a list"),
        ({"of": {}}, "a dict"),
        ({"more": 1}, "one more member"),
        ({"toString": "x"}, "a member that receivers drop"),
        ({1: "x"}, "a key that is no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("index", [0, 3, -1])
def test_one_item_that_is_not_plain_is_seen(change: dict[Any, Any], why: str, index: int) -> None:
    items: list[dict[Any, Any]] = [dict(event) for event in EVENTS]
    items[index].update(change)
    assert not is_plain(items), why


def test_a_scalar_among_dicts_is_not_plain() -> None:
    assert not is_plain([*EVENTS, 1])


def test_members_in_another_order_are_no_harm() -> None:
    items = [{"a": 1, "b": "x"}, {"b": 2**60, "a": "y"}]
    assert not is_plain(items)


def test_an_infinite_sum_of_finite_numbers_is_left_to_the_walk() -> None:
    assert not is_plain([1e308, 1e308])


def call(*arguments: Any) -> list[Any]:
    return ["push", ["pipeline", -1, ["a", 0], list(arguments)]]


def put_back(value: Any) -> Any:
    """What a decoded message would be if nothing had been recognised."""
    match value:
        case Records():
            return [value.items]
        case list():
            return [put_back(item) for item in value]
        case _:
            return value


def count_records(value: Any) -> int:
    match value:
        case Records():
            return 1
        case list():
            return sum(map(count_records, value))
        case _:
            return 0


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (call([EVENTS]), 1),
        (call([EVENTS], 1, "x", [EVENTS], None), 2),
        (call([[]]), 1),
        (["stream", ["pipeline", 3, [], [[EVENTS]]]], 1),
        (["resolve", 3, [EVENTS]], 1),
    ],
)
def test_plain_records_are_recognised_while_they_are_decoded(message: list[Any], count: int) -> None:
    decoded = decode_long(encode(message))
    assert count_records(decoded) == count
    assert put_back(decoded) == message


@pytest.mark.parametrize(
    "message",
    [
        call([EVENTS, EVENTS]),
        call(EVENTS),
        call([[*EVENTS, {"a": [[1]]}]]),
        call([[*EVENTS, {"a": {}}]]),
        call([[*EVENTS, ["undefined"]]]),
        call([[*EVENTS, {"a": 2**53}]]),
        call([[*EVENTS, {"toString": 1}]]),
        call([[*EVENTS, {"constructor": ["export", -1]}]]),
        call([EVENTS], ["export", -1]),
        call([EVENTS], {"a": 1}),
        ["push", ["pipeline", 1.0, [], [[EVENTS]]]],
        ["push", ["pipeline", 1, [1.0], [[EVENTS]]]],
        ["push", ["pipeline", 1, [], [[EVENTS]], 1]],
        ["push", ["pipeline", 1, [], [[EVENTS]]], 1],
        ["push", ["import", 1, [], [[EVENTS]]]],
        ["push", [EVENTS]],
        ["resolve", 1, [EVENTS], 1],
        ["resolve", True, [EVENTS]],
        ["reject", 1, [EVENTS]],
        ["resolve"],
        [],
        {},
    ],
)
def test_anything_else_is_decoded_as_it_is(message: Any) -> None:
    decoded = decode_long(encode(message))
    assert decoded == message
    assert count_records(decoded) == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=2) | st.integers(-(2**54), 2**54) | st.floats(-2, 2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "toJSON"]), inner, max_size=2),
    max_leaves=5,
)


@given(st.lists(json_values | st.lists(st.lists(st.dictionaries(st.sampled_from("ab"), json_values)), max_size=2)))
def test_what_is_recognised_was_there(arguments: list[Any]) -> None:
    message = call(*arguments)
    decoded = decode_long(encode(message))
    assert repr(put_back(decoded)) == repr(decode(encode(message)))


def test_half_a_surrogate_pair_is_left_to_the_usual_decoder() -> None:
    assert decode_long(b'["resolve",1,"\\ud800"]') == ["resolve", 1, "\ud800"]


@pytest.mark.parametrize("message", [b'["push"', b"\xff", b""])
def test_what_is_no_json_is_refused_in_the_usual_words(message: bytes) -> None:
    with pytest.raises(rpc.RpcProtocolError, match="bad RPC message"):
        decode_long(message)


async def test_a_long_call_and_its_result_arrive_as_they_were_sent() -> None:
    events = [{"seq": seq, "text": "x" * 20, "v": 0.5} for seq in range(100)]
    odd = [*events, {"at": [1, 2], "of": {"a": 2**60}}]
    assert len(encode(call([events]))) > LONG_BYTES
    received: list[Any] = []

    class Api(rpc.RpcTarget):
        def keep(self, *values: Any) -> Any:
            received.append(values)
            return values[0]

    client, server = rpc.memory_pair(None, Api())
    for values in ((events,), (odd,), (events, 1, odd, "x"), ([],)):
        assert await client.main.keep(*values) == values[0]
    assert received == [(events,), (odd,), (events, 1, odd, "x"), ([],)]
    assert type(received[0][0]) is list
    await client.close()
    await server.wait_closed()


@pytest.mark.parametrize(("max_depth", "is_taken"), [(4, True), (3, False)])
async def test_records_count_as_deep_as_they_are(max_depth: int, is_taken: bool) -> None:
    class Api(rpc.RpcTarget):
        def count(self, events: list[Any]) -> int:
            return len(events)

    options = rpc.Options(limits=rpc.Limits(max_depth=max_depth))
    client, server = rpc.memory_pair(None, Api(), right_options=options)
    events = [{"seq": seq, "text": "x" * 20} for seq in range(100)]
    if is_taken:
        assert await client.main.count(events) == 100
    else:
        with pytest.raises(rpc.RpcError, match="depth"):
            await client.main.count(events)
    await client.close()
    await server.wait_closed()
