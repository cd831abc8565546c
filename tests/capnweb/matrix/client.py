"""Every check of the matrix with our own client; ``../node/client.mjs`` is the original's."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.bench import Bench, Check
from tests.capnweb.matrix.checks.callbacks import CALLBACKS
from tests.capnweb.matrix.checks.calls import CALLS
from tests.capnweb.matrix.checks.capabilities import CAPABILITIES
from tests.capnweb.matrix.checks.endings import ENDINGS
from tests.capnweb.matrix.checks.errors import ERRORS
from tests.capnweb.matrix.checks.streams import STREAMS
from tests.capnweb.matrix.checks.values import VALUES
from tests.capnweb.matrix.describe import describe
from tests.capnweb.matrix.noise import hear_noise

__all__ = ["run_our_client"]

_CHECK_SECONDS: Final = 5.0

_CHECKS: Final[Mapping[str, Check]] = CALLS | CAPABILITIES | CALLBACKS | VALUES | ERRORS | STREAMS | ENDINGS


async def run_our_client(
    url: str, options: rpc.Options, names: Sequence[str] = (), *, fast: bool | None = None
) -> list[dict[str, Any]]:
    """Run every check, or those named; one result each, in order. `fast` chooses the WebSocket library."""
    return [
        await _run(name, check, Bench(url, options, fast=fast))
        for name, check in _CHECKS.items()
        if not names or name in names
    ]


async def _run(name: str, check: Check, bench: Bench) -> dict[str, Any]:
    noise: list[str] = []
    with hear_noise(noise, "client"):
        try:
            async with asyncio.timeout(_CHECK_SECONDS), bench:
                # A copy: what happens when the connection closes is not the check's any more.
                got = copy.deepcopy(await check(bench))
                tables = await bench.tables()
                theirs = await bench.main.takeNoise()
        except TimeoutError:
            return {"name": name, "got": {"$late": _CHECK_SECONDS}, "tables": [], "noise": noise}
        except Exception as error:
            return {"name": name, "got": {"$failed": await describe(error)}, "tables": [], "noise": noise}
    return {"name": name, "got": got, "tables": tables, "noise": [*noise, *theirs]}
