"""What goes wrong without anybody being told: errors nobody awaited, callbacks of the loop that raised, warnings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["hear_noise"]


class _Collector(logging.Handler):
    def __init__(self, noise: list[str], side: str) -> None:
        super().__init__(logging.WARNING)
        self._noise = noise
        self._side = side

    def emit(self, record: logging.LogRecord) -> None:
        self._noise.append(f"{self._side}: {record.getMessage()}")


@contextmanager
def hear_noise(noise: list[str], side: str) -> Iterator[None]:
    """Collect in `noise` what the running loop and the library complain of meanwhile."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def hear(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        noise.append(f"{side}: {context.get('exception') or context['message']}")

    collector = _Collector(noise, side)
    loggers = [logging.getLogger(name) for name in ("asyncio", "itx_notebook.capnweb")]
    loop.set_exception_handler(hear)
    for logger in loggers:
        logger.addHandler(collector)
    try:
        yield
    finally:
        loop.set_exception_handler(before)
        for logger in loggers:
            logger.removeHandler(collector)
