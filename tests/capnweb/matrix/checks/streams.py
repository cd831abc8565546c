"""Streams in both directions, with their errors, and what travels by them: blobs, requests, responses."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import describe, outcome
from tests.capnweb.matrix.main import make_request, make_response
from tests.capnweb.matrix.streams import make_readable, make_writable, read_all, read_counters, read_some, write_into

STREAMS: Checks = {}
check = collect_into(STREAMS)

_ROUNDS = 20
_WRITTEN = ['wrote "one"', "wrote 2", 'wrote {"three":[3]}']


async def check_sent(kind: str, t: Bench) -> Any:
    return json.loads(await t.main.readAll(make_readable(kind, t.log)))


async def check_got(kind: str, t: Bench) -> Any:
    return json.loads(await read_all(await t.main.readable(kind)))


_KINDS = {
    "": "texts",
    "-empty": "empty",
    "-every-kind": "kinds",
    "-many-chunks": "many",
    "-beyond-the-window": "bytes",
    "-failing": "failing",
}


def is_aborted(lines: list[str]) -> bool:
    return bool(lines) and lines[-1].startswith("aborted")


def has(count: int) -> Callable[[list[str]], bool]:
    return lambda lines: len(lines) >= count


async def logged(t: Bench, is_done: Callable[[list[str]], bool]) -> list[str]:
    """Log of this side once it is as wanted: what happens to a stream follows the call it came with."""
    for _ in range(_ROUNDS):
        if is_done(t.log):
            break
        await t.main.square(0)
    return t.log


async def take_log(t: Bench, is_done: Callable[[list[str]], bool]) -> list[str]:
    """The server's log once it is as wanted."""
    lines: list[str] = []
    for _ in range(_ROUNDS):
        if is_done(lines):
            break
        lines += await t.main.takeLog()
    return lines


def split_aborted(lines: list[str]) -> list[Any]:
    """What an aborted stream was told last, and whether it was told the first chunks before: it may miss later ones."""
    return [lines[-1] if lines else None, lines[:-1] == _WRITTEN[: len(lines) - 1]]


STREAMS |= {f"readable-sent{name}": partial(check_sent, kind) for name, kind in _KINDS.items()}


@check
async def readable_sent_inside_an_object(t: Bench) -> Any:
    return json.loads(await t.main.readAllInside({"label": "x", "stream": make_readable("texts", t.log)}))


@check
async def readable_sent_and_cancelled(t: Bench) -> Any:
    text = await t.main.readSome(make_readable("endless", t.log), 3)
    return [json.loads(text), await logged(t, has(1))]


STREAMS |= {f"readable-got{name}": partial(check_got, kind) for name, kind in _KINDS.items()}


@check
async def readable_got_inside_an_object(t: Bench) -> Any:
    holder = await t.main.readableInside("texts")
    text = await read_all(holder["stream"])
    rpc.dispose(holder)
    return [holder["label"], json.loads(text)]


@check
async def readable_got_and_cancelled(t: Bench) -> Any:
    text = await read_some(await t.main.readable("endless"), 3)
    return [json.loads(text), await take_log(t, has(1))]


@check
async def readable_got_and_disposed(t: Bench) -> Any:
    holder = await t.main.readableInside("endless")
    rpc.dispose(holder)
    return len(await take_log(t, has(1)))


@check
async def readable_there_and_back(t: Bench) -> Any:
    return json.loads(await read_all(await t.main.echo(make_readable("texts", t.log))))


@check
async def readable_passed_on(t: Bench) -> Any:
    other = await t.open()
    return json.loads(await other.main.readAll(await t.main.readable("texts")))


@check
async def readable_promise_as_an_argument(t: Bench) -> Any:
    return json.loads(await t.main.readAll(t.hold(t.main.readable("texts"))))


@check
async def readable_sent_of_targets(t: Bench) -> Any:
    values = await t.main.readCounters(rpc.Readable([t.counter(1), t.counter(2)]))
    return [values, await logged(t, has(2))]


@check
async def readable_got_of_targets(t: Bench) -> Any:
    return [await read_counters(await t.main.counters()), await take_log(t, has(2))]


@check
async def writable_sent(t: Bench) -> Any:
    return [json.loads(await t.main.writeInto(make_writable("plain", t.log), "close")), t.log]


@check
async def writable_sent_slow(t: Bench) -> Any:
    return [json.loads(await t.main.writeInto(make_writable("slow", t.log), "close")), t.log]


@check
async def writable_sent_and_aborted(t: Bench) -> Any:
    text = await t.main.writeInto(make_writable("plain", t.log), "abort")
    return [json.loads(text), *split_aborted(await logged(t, is_aborted))]


@check
async def writable_sent_and_left(t: Bench) -> Any:
    text = await t.main.writeInto(make_writable("plain", t.log), "leave")
    last, is_in_order = split_aborted(await logged(t, is_aborted))
    return [json.loads(text), last.split(" ")[0], is_in_order]


@check
async def writable_sent_failing(t: Bench) -> Any:
    error = json.loads(await t.main.writeInto(make_writable("failing", t.log), "close"))["$error"]
    return [error["name"], error["message"], t.log]


@check
async def writable_got(t: Bench) -> Any:
    text = await write_into(await t.main.writable("plain"), "close")
    return [json.loads(text), await take_log(t, has(4))]


@check
async def writable_got_and_aborted(t: Bench) -> Any:
    text = await write_into(await t.main.writable("plain"), "abort")
    return [json.loads(text), *split_aborted(await take_log(t, is_aborted))]


@check
async def writable_got_failing(t: Bench) -> Any:
    error = json.loads(await write_into(await t.main.writable("failing"), "close"))["$error"]
    return [error["name"], error["message"], await take_log(t, has(1))]


@check
async def writable_passed_on(t: Bench) -> Any:
    other = await t.open()
    text = json.loads(await other.main.writeInto(await t.main.writable("plain"), "close"))
    return [text, await take_log(t, has(4))]


@check
async def readable_and_writable_in_one_call(t: Bench) -> Any:
    await t.main.copy(make_readable("texts", t.log), make_writable("plain", t.log))
    return t.log


@check
async def blob_sent(t: Bench) -> Any:
    return json.loads(await t.main.describe(rpc.Blob("grüße".encode(), "text/odd")))


@check
async def blob_sent_empty(t: Bench) -> Any:
    return json.loads(await t.main.describe(rpc.Blob(b"")))


@check
async def blob_sent_every_byte(t: Bench) -> Any:
    return json.loads(await t.main.describe(rpc.Blob(bytes(range(256)))))


@check
async def blob_sent_large(t: Bench) -> Any:
    return json.loads(await t.main.describe(rpc.Blob(b"\x07" * 300_000)))


@check
async def blob_sent_two_in_one_call(t: Bench) -> Any:
    return json.loads(await t.main.describe([rpc.Blob(b"one"), rpc.Blob(b"two")]))


@check
async def blob_got(t: Bench) -> Any:
    return await outcome(t.main.blob("grüße", "text/odd"))


@check
async def blob_got_empty(t: Bench) -> Any:
    return await outcome(t.main.blob("", ""))


@check
async def blob_got_two_in_one_result(t: Bench) -> Any:
    return await outcome(t.main.blobs())


@check
async def blob_there_and_back(t: Bench) -> Any:
    return await outcome(t.main.echo(rpc.Blob(b"there and back", "text/odd")))


@check
async def headers_sent(t: Bench) -> Any:
    return json.loads(await t.main.describe(rpc.Headers([("x-one", "1"), ("x-two", "2")])))


@check
async def headers_got(t: Bench) -> Any:
    return await outcome(t.main.headers())


@check
async def request_sent(t: Bench) -> Any:
    return json.loads(await t.main.describe(make_request("plain")))


@check
async def request_sent_with_a_body(t: Bench) -> Any:
    return json.loads(await t.main.describe(make_request("body")))


@check
async def request_got(t: Bench) -> Any:
    return await outcome(t.main.request("plain"))


@check
async def request_got_with_a_body(t: Bench) -> Any:
    return await describe(await t.main.request("body"))


@check
async def response_sent(t: Bench) -> Any:
    return json.loads(await t.main.describe(make_response("plain")))


@check
async def response_sent_with_a_body(t: Bench) -> Any:
    return json.loads(await t.main.describe(make_response("body")))


@check
async def response_got(t: Bench) -> Any:
    return await outcome(t.main.response("plain"))


@check
async def response_got_with_a_body(t: Bench) -> Any:
    return await describe(await t.main.response("body"))
