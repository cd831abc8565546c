"""What the server throws, and how it arrives."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import outcome
from tests.capnweb.matrix.zoo import THROWABLES

ERRORS: Checks = {}
check = collect_into(ERRORS)


async def check_thrown(kind: str, t: Bench) -> Any:
    return await outcome(t.main.fail(kind))


ERRORS |= {f"throws-{kind}": partial(check_thrown, kind) for kind in THROWABLES}


@check
async def throws_later(t: Bench) -> Any:
    return await outcome(t.main.failLater("range"))


@check
async def throws_into_a_callback_and_back(t: Bench) -> Any:
    return await outcome(t.main.call(lambda: t.main.fail("props")))


@check
async def throws_and_the_session_goes_on(t: Bench) -> Any:
    await outcome(t.main.fail("plain"))
    return await t.main.square(3)
