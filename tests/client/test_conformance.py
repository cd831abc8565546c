"""One suite, five ways to an engine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from itx_notebook._loop import run_blocking
from itx_notebook.client import remote_loader
from itx_notebook.handle import AsyncItx
from itx_notebook.notebook import connect, create_project
from itx_notebook.testing import HandleConformance
from tests.client.proxy import Proxy, jitter, open_proxy
from tests.client.served import ADMIN_TOKEN, Served, serve_here
from tests.support import OtherProcess, close_engines


class TestEmbedded(HandleConformance):
    @pytest.fixture
    def itx(self, home: Path) -> Iterator[AsyncItx]:
        yield connect(home=home).aio
        close_engines()


OWN = """
import sys, itx_notebook
itx_notebook.connect(home=sys.argv[1])
print("mine", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that another process owns, for the whole suite."""
    home = tmp_path_factory.mktemp("owned")
    other = OtherProcess(OWN, str(home))
    assert other.hear() == "mine"
    yield home
    other.kill()
    other.end()


class TestGuest(HandleConformance):
    @pytest.fixture
    def itx(self, owned: Path) -> Iterator[AsyncItx]:
        slug = f"p-{uuid.uuid4().hex[:8]}"
        create_project(slug, home=owned)
        handle = connect(slug, home=owned)
        assert str(handle._loader).startswith("engine of process ")
        yield handle.aio
        close_engines()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_here(tmp_path / "served") as served:
        served.create("demo", "itx_member")
        yield served
        close_engines()


class TestSocket(HandleConformance):
    @pytest.fixture
    def itx(self, served: Served) -> AsyncItx:
        return connect("demo", url=served.url, token="itx_member").aio


class TestProxied(HandleConformance):
    """Through a proxy that delays every frame, and cuts or half-closes the connection every so many frames."""

    @pytest.fixture
    def itx(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Iterator[AsyncItx]:
        monkeypatch.setattr(remote_loader, "FIRST_DELAY", 0.01)
        monkeypatch.setattr(remote_loader, "LAST_DELAY", 0.02)
        stack = AsyncExitStack()
        is_told_of_ends = "kill" in request.node.name or "reset" in request.node.name

        async def start() -> tuple[Proxy, asyncio.Task[None] | None]:
            proxy = await stack.enter_async_context(open_proxy(served.port))
            proxy.delay = jitter(0.002)
            # Whether the end of a stream's life is told or slept through depends on when the wire is cut.
            return proxy, None if is_told_of_ends else asyncio.ensure_future(_harm(proxy))

        proxy, harming = run_blocking(start())
        # The admin may see everything, so the narrowing is the handle's own.
        yield connect("demo", url=proxy.url, token=ADMIN_TOKEN).aio
        close_engines()
        if harming is not None:
            harming.get_loop().call_soon_threadsafe(harming.cancel)
        run_blocking(stack.aclose())
        assert is_told_of_ends or proxy.frames < 40 or proxy.connections > 1


async def _harm(proxy: Proxy) -> None:
    """Cut and half-close in turn, whenever so many frames have passed."""
    proxy.harm_at = 37
    while True:
        await proxy.harmed.wait()
        proxy.harmed.clear()
        proxy.harm = "half-close" if proxy.harm == "abort" else "abort"
        proxy.harm_at = proxy.frames + 37


def test_suite_runs_over_every_way() -> None:
    ways = {TestEmbedded, TestGuest, TestSocket, TestProxied}
    tests = [name for name in dir(HandleConformance) if name.startswith("test_")]
    assert len(tests) > 25
    for way in ways:
        assert [name for name in tests if getattr(way, name) is not getattr(HandleConformance, name)] == []
