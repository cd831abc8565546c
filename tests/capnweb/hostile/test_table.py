"""Every hostile sequence against a machine: what it says, how it ends, and what it still holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from itx_notebook.capnweb import Options
from tests.capnweb.hostile import messages, references, streams, values
from tests.capnweb.hostile.cases import Case
from tests.capnweb.hostile.targets import SECRET, Counter, Main, Watch, find_miscounted, is_given
from tests.capnweb.machines import check_tables, make_machine, receive, runtime_of

CASES = [*messages.CASES, *values.CASES, *references.CASES, *streams.CASES]


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(CASES) == len({case.name for case in CASES})
    assert len(CASES) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_machine_answers_a_hostile_sequence(case: Case) -> None:
    watch = Watch()
    machine = make_machine(Main(watch), Options(limits=case.limits))
    said: list[Any] = []
    for message in case.messages:
        receive(machine, message)
        said += machine.outbox
        machine.outbox = []
        check_tables(machine)
    text = b"\n".join(said)
    said = [json.loads(message) for message in said]
    if case.ends is None:
        assert machine.error is None, machine.error
        assert machine.stats() == case.tables
        assert machine.close_request is None
    else:
        assert machine.error is not None
        assert case.ends in str(machine.error)
        assert machine.close_request is not None
        assert machine.close_request[0] == 3000
        if case.is_answered:
            assert said.pop()[0] == "abort"
    assert said == [json.loads(json.dumps(message)) for message in case.says]
    assert watch.leaks == []
    assert SECRET.encode() not in text
    assert [target for target in runtime_of(machine).referred if not is_given(target)] == []
    machine.connection_lost(1006, "")
    runtime_of(machine).turn()
    assert find_miscounted(watch, runtime_of(machine)) == []


@pytest.mark.parametrize(
    "frame",
    [
        ["push", [[["pipeline", 0, ["make_counter"], []]]]],
        ["push", {"toString": ["pipeline", 0, ["make_counter"], []]}],
        ["push", ["pipeline", 0, ["nothing"], [["pipeline", 0, ["make_counter"], []]]]],
        ["push", ["pipeline", 0, ["absent"], [["pipeline", 0, ["make_counter"], []]]]],
        ["push", ["remap", 0, [], [], [["pipeline", 0, ["make_counter"], []], 1]]],
        ["push", [[["pipeline", 0, ["make_counter"], []], ["nonsense"]]]],
        ["resolve", 99, ["pipeline", 0, ["make_counter"], []]],
        ["abort", ["pipeline", 0, ["make_counter"], []]],
    ],
    ids=str,
)
def test_a_target_that_nobody_takes_is_disposed(frame: list[Any]) -> None:
    watch = Watch()
    machine = make_machine(Main(watch))
    receive(machine, json.dumps(frame).encode())
    receive(machine, b'["release",1,1]')
    assert [target.disposals for target in watch.made if isinstance(target, Counter)] == [1]
