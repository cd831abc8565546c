"""Cap'n Web between ours and both versions of the original, each as client and as server, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.capnweb.matrix.expectations import CHECKS, DIFFERENCES, find_mismatches
from tests.capnweb.peers import VERSIONS, run_node_client, serve_node


@pytest.fixture(scope="module")
def node_urls() -> Iterator[dict[str, str]]:
    """A running server of each version of the original, by version."""
    with ExitStack() as stack:
        yield {version: stack.enter_context(serve_node(version)) for version in VERSIONS}


@pytest.mark.parametrize("server", VERSIONS)
@pytest.mark.parametrize("client", VERSIONS)
async def test_checks_between_versions_of_the_original(client: str, server: str, node_urls: dict[str, str]) -> None:
    results = await run_node_client(client, node_urls[server])
    assert [result["name"] for result in results] == list(CHECKS)
    assert find_mismatches(results, client, server) == []


def test_differences_name_checks_that_exist() -> None:
    assert [name for difference in DIFFERENCES for name in difference["cases"] if name not in CHECKS] == []
