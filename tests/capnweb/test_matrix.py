"""Cap'n Web between ours and both versions of the original, each as client and as server, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.client import run_our_client
from tests.capnweb.matrix.expectations import CHECKS, DIFFERENCES, find_mismatches
from tests.capnweb.matrix.server import serve_ours
from tests.capnweb.peers import VERSIONS, run_node_client, serve_node

PEERS: Final = ("ours", *VERSIONS)

_OPTIONS: Final[Mapping[str, rpc.Options]] = {
    "ours": rpc.Options(keep_undefined=True, peer_version="0.12"),
    "newest": rpc.Options(keep_undefined=True, peer_version="0.12"),
    "0.8.0": rpc.Options(keep_undefined=True, peer_version="0.8"),
}
"""How ours speaks to each peer."""


@pytest.fixture(scope="module")
def node_urls() -> Iterator[dict[str, str]]:
    """A running server of each version of the original, by version."""
    with ExitStack() as stack:
        yield {version: stack.enter_context(serve_node(version)) for version in VERSIONS}


@asynccontextmanager
async def _serve(server: str, client: str, node_urls: Mapping[str, str]) -> AsyncIterator[str]:
    if server == "ours":
        async with serve_ours(_OPTIONS[client]) as url:
            yield url
    else:
        yield node_urls[server]


async def _run_client(client: str, server: str, url: str) -> list[dict[str, Any]]:
    return await (run_our_client(url, _OPTIONS[server]) if client == "ours" else run_node_client(client, url))


@pytest.mark.parametrize("server", PEERS)
@pytest.mark.parametrize("client", PEERS)
async def test_every_check_gives_what_is_right(client: str, server: str, node_urls: dict[str, str]) -> None:
    async with _serve(server, client, node_urls) as url:
        results = await _run_client(client, server, url)
    assert [result["name"] for result in results] == list(CHECKS)
    assert find_mismatches(results, client, server) == []


async def test_every_check_without_the_compiled_websocket_as_client(node_urls: dict[str, str]) -> None:
    results = await run_our_client(node_urls["newest"], _OPTIONS["newest"], fast=False)
    assert find_mismatches(results, "ours", "newest") == []


async def test_every_check_without_the_compiled_websocket_as_server() -> None:
    async with serve_ours(_OPTIONS["newest"], fast=False) as url:
        results = await run_node_client("newest", url)
    assert find_mismatches(results, "newest", "ours") == []


def test_differences_name_checks_that_exist() -> None:
    assert [name for difference in DIFFERENCES for name in difference["cases"] if name not in CHECKS] == []
