"""Every kind of value in both directions: what the server sees of ours, what we see of its, what comes back of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tests.capnweb.matrix.bench import Bench, Checks, collect_into
from tests.capnweb.matrix.describe import attempt, describe
from tests.capnweb.matrix.zoo import ZOO

VALUES: Checks = {}
check = collect_into(VALUES)

MANY = 100


async def exchange(t: Bench, action: Callable[[Any], Awaitable[Any]]) -> Any:
    """An exchange of its own connection: a peer that cannot take the value may end the session."""
    main = (await t.open()).main
    return await attempt(lambda: action(main))


async def check_value(kind: str, t: Bench) -> Any:
    make = ZOO[kind]
    seen = await exchange(t, lambda main: main.describe(make()))
    return {
        "seen": json.loads(seen) if isinstance(seen, str) else seen,
        "given": await exchange(t, lambda main: main.give(kind)),
        "echoed": await exchange(t, lambda main: main.echo(make())),
    }


VALUES |= {f"value-{kind}": partial(check_value, kind) for kind in ZOO}


def summarise(got: Any) -> list[str]:
    facts = got["$thrown"]["$error"]
    return [facts["name"], re.split(r"[:.]", facts["message"])[0]]


@check
async def argument_unsendable(t: Bench) -> Any:
    got = await attempt(lambda: t.main.echo(object()))
    return [summarise(got), await t.main.square(3)]


@check
async def argument_unsendable_beside_a_target(t: Bench) -> Any:
    got = await attempt(lambda: t.main.collect(t.counter(), object()))
    await t.main.square(0)
    return [summarise(got), t.log]


@check
async def argument_cyclic(t: Bench) -> Any:
    endless: list[Any] = []
    endless.append(endless)
    got = await attempt(lambda: t.main.echo(endless))
    return [summarise(got), await t.main.square(3)]


@check
async def result_unsendable(t: Bench) -> Any:
    got = await attempt(t.main.unsendable)
    return [summarise(got), await t.main.square(3)]


@check
async def result_cyclic(t: Bench) -> Any:
    main = (await t.open()).main
    got = await attempt(main.endlessList)
    return [summarise(got), await attempt(lambda: main.square(3))]


@check
async def arguments_many(t: Bench) -> Any:
    got = await t.main.collect(*[[i] for i in range(MANY)])
    return [len(got), await describe(got[-1])]
