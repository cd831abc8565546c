"""What a check gets to work with, and how the checks of a module are collected under the names both languages use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, Self

from itx_notebook import capnweb as rpc

__all__ = ["Bench", "Check", "Checks", "Link", "collect_into"]

_SETTLING_ROUNDS: Final = 3
"""A release may lead to a release of the other side, and that to another."""


class Link:
    """A connection to the server: its main object, its session."""

    def __init__(self, main: Any) -> None:
        self.main = main
        session = rpc.session_of(main)
        assert session is not None
        self.session = session

    async def closed(self) -> dict[str, Any]:
        """How the connection ended, once it has."""
        code, reason = await self.session.wait_closed()
        return {"code": code, "reason": reason}


class LocalCounter(rpc.RpcTarget):
    """Counts, and says in the log when it is disposed."""

    def __init__(self, log: list[str], start: int) -> None:
        self._log = log
        self._value = start

    def increment(self, by: int = 1) -> int:
        self._value += by
        return self._value

    @property
    def value(self) -> int:
        return self._value

    def _rpc_dispose(self) -> None:
        self._log.append("local counter disposed")


class Bench:
    """Connections, targets of its own, and the sizes of all tables once the check is done."""

    def __init__(self, url: str, options: rpc.Options, *, fast: bool | None = None) -> None:
        self.url = url
        self.options = options
        self._fast = fast
        self.log: list[str] = []
        self._links: list[Link] = []
        self._held: list[Any] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def open(self, main: Any = None) -> Link:
        """Another connection; `main` is what the server may call."""
        api = await self._stack.enter_async_context(rpc.connect(self.url, main, options=self.options, fast=self._fast))
        link = Link(api)
        self._links.append(link)
        return link

    @property
    def link(self) -> Link:
        return self._links[0]

    @property
    def main(self) -> Any:
        return self.link.main

    def hold(self, promise: Any) -> Any:
        """Give `promise` back once the check is done."""
        self._held.append(promise)
        return promise

    def counter(self, start: int = 0) -> LocalCounter:
        """A local target that counts."""
        return LocalCounter(self.log, start)

    async def tables(self) -> list[list[int]]:
        """Entries in the tables of every connection that is still open: own imports and exports, the server's."""
        for promise in self._held:
            rpc.dispose(promise)
        rows = []
        for link in self._links:
            if link.session.error is not None:
                continue
            for _ in range(_SETTLING_ROUNDS):
                await link.main.square(0)
            theirs = await link.main.tables()
            ours = link.session.stats()
            rows.append([ours.imports, ours.exports, *theirs])
        return rows


Check = Callable[[Bench], Awaitable[Any]]
Checks = dict[str, Check]


def collect_into(checks: Checks) -> Callable[[Check], Check]:
    """A decorator: ``call_returns`` is the check ``call-returns``."""

    def collect(check: Check) -> Check:
        checks[check.__name__.replace("_", "-")] = check
        return check

    return collect
