"""Counting what is held: against a limit, and for as long as somebody keeps it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.held import Charge, Meter, weigh
from tests.capnweb.test_session import failure_of

LONG = "x" * 10_000


def test_meter_counts_up_to_its_limit() -> None:
    meter = Meter(10)

    answers = [meter.add(6), meter.add(4), meter.add(1)]
    seen = [meter.is_over]
    meter.remove(11)

    assert answers == [True, True, False]
    assert [*seen, meter.is_over] == [True, False]
    assert meter.held_bytes == 0


def test_charge_counts_for_as_long_as_it_is_kept() -> None:
    meter = Meter(10)
    charge = Charge(meter, 4)
    charge.grow(6)
    with pytest.raises(ValueError, match=r"more than 10 bytes for its peer \(max_held_bytes\)"):
        charge.grow(1)
    seen = [meter.held_bytes]
    del charge

    assert [*seen, meter.held_bytes] == [11, 0]


def test_a_cycle_that_nobody_refers_to_does_not_make_it_too_much() -> None:
    meter = Meter(100)
    cycle: list[Any] = [meter.charge(90)]
    cycle.append(cycle)
    with without_collector():
        del cycle
        kept = [meter.charge(50)]
        seen = [meter.is_over]
        # Collected for again only when an eighth of the limit has come since.
        cycle = [meter.charge(5)]
        cycle.append(cycle)
        del cycle
        kept.append(meter.charge(48))
    seen += [meter.is_over, meter.held_bytes == 98]
    assert seen == [False, False, True]
    assert len(kept) == 2


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        LONG.encode(),
        [LONG],
        {"a": {"b": (LONG,)}},
        rpc.RpcError(LONG),
        rpc.RpcError("x", props={"a": [LONG]}),
        ValueError(LONG),
        rpc.Blob(LONG.encode()),
        rpc.Headers({"a": LONG}),
        rpc.Request("https://example.org/", "POST", body=LONG),
        rpc.Response(LONG.encode()),
        rpc.Response(None, headers=rpc.Headers({"a": LONG})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_weighs_what_its_text_does(value: Any) -> None:
    assert len(LONG) <= weigh(value) < len(LONG) + 1000


def test_a_value_that_contains_itself_has_a_weight() -> None:
    endless: list[Any] = [LONG]
    endless.append(endless)
    assert weigh(endless) > len(LONG)


class Keeper(rpc.RpcTarget):
    def nothing(self, *values: Any) -> None:
        return None

    def echo(self, value: Any) -> Any:
        return value

    async def echo_later(self, value: Any) -> Any:
        return value

    def fail(self, value: Any) -> None:
        raise ValueError(len(value))

    async def fail_later(self, value: Any) -> None:
        raise ValueError(len(value))

    async def call(self, function: Any, value: Any) -> Any:
        return await function(value)


@contextmanager
def without_collector() -> Iterator[None]:
    """What is over must not wait for the collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_nothing_is_held_of_calls_that_are_over() -> None:
    with without_collector():
        client, server = rpc.memory_pair(None, Keeper())
        api: Any = client.main
        records = [{"a": LONG, "b": [index]} for index in range(20)]
        blobs = {"a": [rpc.Blob(LONG.encode())]}
        for value in (LONG, records, blobs):
            assert await api.echo(value) == value
            assert await api.echo_later(value) == value
            assert await api.echo(api.echo(value)) == value
            assert await api.nothing(api.echo_later(value), [value]) is None
            assert await api.call(lambda it: it, value) == value
            # A failure of a call that waited for a promise keeps the frames that waited, in a cycle.
            failing = value if value is not blobs else LONG
            for call in (api.fail(failing), api.fail_later(failing), api[LONG](failing)):
                assert isinstance(await failure_of(call), rpc.RemoteError)
            del call
        assert await api.echo(records).map(lambda record: {"c": record["a"]}) == [{"c": LONG}] * 20
        await client.drain()
        await api.nothing()
        # What is asked for here may be kept here.
        kept = [api.echo(rpc.Blob(LONG.encode())) for _ in range(10)]
        await rpc.gather(*kept)
        held = [session._machine.runtime.held.held_bytes for session in (client, server)]
        assert held[0] == 0
        del kept
        await api.nothing()
        assert server._machine.runtime.held.held_bytes == 0
        await client.close()
        await server.wait_closed()


async def test_what_is_held_for_a_peer_ends_its_session_and_names_the_limit() -> None:
    options = rpc.Options(limits=rpc.Limits(max_held_bytes=50_000))
    client, server = rpc.memory_pair(None, Keeper(), right_options=options)
    kept = [client.main.echo(LONG) for _ in range(10)]
    error = await failure_of(client.main.echo(LONG))
    assert isinstance(error, rpc.RpcAborted)
    assert "hold more than 50000 bytes (max_held_bytes)" in str(error)
    await server.wait_closed()
    assert len(kept) == 10
