"""Random graphs of calls leave nothing behind, at ours or at the original's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.graphs import CLEAN, OPERATIONS, Balance, Step, run_graph
from tests.capnweb.matrix.server import serve_ours
from tests.capnweb.peers import VERSIONS, serve_node

_OPTIONS = rpc.Options(keep_undefined=True)

LEAKING: Mapping[str, frozenset[str]] = {
    # It forgets the arguments of a call that finds no method.
    "0.8.0": frozenset({"send_streams_to_no_method"}),
    "newest": frozenset(),
}
"""Operations after which a version of the original keeps something for good."""

_steps = st.builds(
    Step, st.sampled_from(OPERATIONS), st.integers(0, 1), st.integers(min_value=0, max_value=20), st.booleans()
)


async def _run_at_ours(steps: Sequence[Step]) -> Balance:
    async with serve_ours(_OPTIONS) as url:
        return await run_graph(url, _OPTIONS, steps)


@settings(max_examples=300, deadline=None)
@given(st.lists(_steps, max_size=30))
def test_any_graph_at_ours_leaves_nothing(steps: list[Step]) -> None:
    assert asyncio.run(_run_at_ours(steps)) == CLEAN


@pytest.mark.parametrize("version", VERSIONS)
async def test_graphs_at_the_original_leave_nothing(version: str) -> None:
    with serve_node(version) as url:
        for seed in range(30):
            steps = make_steps(random.Random(seed), LEAKING[version])
            assert await run_graph(url, _OPTIONS, steps) == CLEAN, f"seed {seed}: {steps}"


def make_steps(dice: random.Random, leaking: frozenset[str]) -> list[Step]:
    operations = [name for name in OPERATIONS if name not in leaking]
    return [
        Step(dice.choice(operations), dice.randrange(2), dice.randrange(20), dice.random() < 0.5)
        for _ in range(dice.randint(5, 40))
    ]
