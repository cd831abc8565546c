"""Calls on one stub begin in the order they were made, however their messages and answers are interleaved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itx_notebook.capnweb import Limits, Options, RpcTarget
from tests.capnweb.machines import Gate, Outcome, Pair, ask

SENDERS: Final = 5
"""Stubs and promises that calls are made on, each with an order of its own."""


class Log:
    """What began, by sender, in order; and what is still under way."""

    def __init__(self) -> None:
        self.begun: dict[int, list[int]] = defaultdict(list)
        self.gates: list[Gate] = []

    def open_gates(self) -> None:
        gates, self.gates = self.gates, []
        for gate in gates:
            gate.open()


class Target(RpcTarget):
    """Writes down each call as it begins."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def note(self, sender: int, number: int) -> None:
        self._log.begun[sender].append(number)

    async def note_at_once(self, sender: int, number: int) -> None:
        self.note(sender, number)

    async def note_and_wait(self, sender: int, number: int) -> int:
        self.note(sender, number)
        await self._wait()
        return number

    def note_and_fail(self, sender: int, number: int) -> None:
        self.note(sender, number)
        raise ValueError

    def make(self) -> Target:
        return Target(self._log)

    async def make_later(self) -> Target:
        await self._wait()
        return Target(self._log)

    async def _wait(self) -> None:
        gate = Gate()
        self._log.gates.append(gate)
        await gate


METHODS: Final = ("note", "note_at_once", "note_and_wait", "note_and_fail")


class Caller:
    """One side's application: it calls by number, on stubs, promises, results of promises, and what they became."""

    def __init__(self, main: Any) -> None:
        later, at_once = main.make_later(), main.make()
        self._senders: list[Any] = [main, at_once, later, later.make(), later.make_later()]
        self._outcomes: dict[int, Outcome] = {}
        self._numbers = [0] * SENDERS
        self._results: list[Any] = []
        self._answers: list[Outcome] = []

    def call(self, sender: int, method: str, *, is_asked: bool) -> None:
        outcome = self._outcomes.get(sender)
        if outcome is not None and outcome.is_known:
            # The promise's calls went ahead; those on what it became follow.
            self._senders[sender] = outcome.value
        number = self._numbers[sender]
        self._numbers[sender] += 1
        result = self._senders[sender][method](sender, number)
        self._results.append(result)
        if is_asked:
            self._answers.append(ask(result))

    def ask_for(self, sender: int) -> None:
        if sender > 0 and sender not in self._outcomes:
            self._outcomes[sender] = ask(self._senders[sender])

    def drop_results(self) -> None:
        self._results.clear()

    @property
    def numbers(self) -> dict[int, list[int]]:
        """What has to have begun at the other side in the end."""
        return {sender: list(range(count)) for sender, count in enumerate(self._numbers) if count}


Step = tuple[str, int, str, bool]

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, SENDERS - 1), st.sampled_from(METHODS), st.booleans()),
        st.tuples(st.just("ask"), st.integers(0, SENDERS - 1), st.just(""), st.booleans()),
        st.tuples(st.just("deliver"), st.integers(1, 5), st.just(""), st.booleans()),
        st.tuples(st.just("open"), st.just(0), st.just(""), st.booleans()),
        st.tuples(st.just("drop"), st.just(0), st.just(""), st.booleans()),
    ),
    max_size=60,
)


@pytest.mark.parametrize("max_running", [1000, 2], ids=["room for all calls", "room for two"])
def test_calls_on_one_stub_begin_in_order(max_running: int) -> None:
    options = Options(limits=Limits(max_running_calls=max_running))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(_steps)
    def run(steps: Sequence[Step]) -> None:
        logs = Log(), Log()
        pair = Pair(Target(logs[0]), Target(logs[1]), options)
        # Either side calls the other, so that answers and calls share the wires.
        callers = Caller(pair.right.main), Caller(pair.left.main)
        for kind, number, method, choice in steps:
            if kind == "call":
                callers[choice].call(number, method, is_asked=number % 2 == 0)
            elif kind == "ask":
                callers[choice].ask_for(number)
            elif kind == "drop":
                callers[choice].drop_results()
            elif kind == "open":
                logs[choice].open_gates()
            else:
                for _ in range(number):
                    pair.deliver(to_left=choice)
        finish(pair, logs)
        assert [dict(log.begun) for log in logs] == [caller.numbers for caller in callers]

    run()


def finish(pair: Pair, logs: Sequence[Log]) -> None:
    pair.run()
    while any(log.gates for log in logs):
        for log in logs:
            log.open_gates()
        pair.run()
