"""A query function whose every answer the test gives by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from itx_notebook.errors import ItxError
from itx_notebook.query import Query, StaleTime
from itx_notebook.testing.clock import settle

__all__ = ["Source", "internal", "not_found"]


class Source:
    """Counts its calls and answers each, the oldest first, when told to."""

    def __init__(self, *key: Any, stale_time: StaleTime | None = None) -> None:
        self.calls = 0
        self.waiting: list[asyncio.Future[Any]] = []
        self.query: Query[Any] = Query(query_key=key or ("things", "one"), query_fn=self.fetch, stale_time=stale_time)

    async def fetch(self) -> Any:
        self.calls += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        return await answer

    async def succeed(self, data: Any) -> None:
        await settle()
        self.waiting.pop(0).set_result(data)
        await settle()

    async def fail(self, error: Exception | None = None) -> None:
        await settle()
        self.waiting.pop(0).set_exception(error or internal())
        await settle()


def internal() -> ItxError:
    return ItxError("The stream died.", code="INTERNAL")


def not_found() -> ItxError:
    return ItxError("Project nope not found.", code="NOT_FOUND")
