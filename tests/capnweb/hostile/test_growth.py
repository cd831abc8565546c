"""What little a peer sends must not become much here: memory against bounds argued from the limits."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from itx_notebook.capnweb import Limits, Options
from itx_notebook.capnweb.protocol.machine import Machine
from itx_notebook.capnweb.protocol.wire import encode
from tests.capnweb.hostile.targets import Main, Watch
from tests.capnweb.machines import make_machine, receive, runtime_of

KB: Final = 1024
MB: Final = 1024 * KB
COUNT: Final = 2_000
"""The limit on tables in these tests; the default is five times as much."""

ENTRY_BYTES: Final = 2 * KB
"""More than one entry of a table takes with what hangs on it: its hooks, its payload, a call that waits."""

_LIMITS: Final = Limits(max_exports=COUNT, max_imports=COUNT, max_pending_calls=COUNT, max_running_calls=50)

LIST: Final = ["push", {"a": [list(range(10_000))]}]
"""A value of 10,000 numbers, which takes less than 500 KB."""


@dataclass(frozen=True)
class Growth:
    """What an attack came to.

    Attributes
    ----------
    sent, peak, answered : int
        Bytes sent, most bytes held here at once, bytes answered.
    """

    machine: Machine
    watch: Watch
    sent: int
    peak: int
    answered: int


def attack(reads: Iterable[Any], limits: Limits = _LIMITS) -> Growth:
    """Send frames, each by itself, or some at once where they stand in a list of their own."""
    watch = Watch()
    machine = make_machine(Main(watch), Options(limits=limits))
    sent = answered = 0
    tracemalloc.start()
    try:
        for read in reads:
            frames = read if isinstance(read, list) and isinstance(read[0], list) else [read]
            messages = [frame.encode() if isinstance(frame, str) else encode(frame) for frame in frames]
            sent += sum(map(len, messages))
            receive(machine, *messages)
            answered += sum(map(len, machine.outbox))
            machine.outbox = []
            machine.answered_bytes = 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Growth(machine, watch, sent, peak, answered)


def ended_by(growth: Growth, why: str) -> bool:
    return why in str(growth.machine.error)


def test_calls_that_are_never_given_back() -> None:
    growth = attack(["push", ["pipeline", 0, ["make_counter"], []]] for _ in range(COUNT + 1))
    assert ended_by(growth, f"more than {COUNT} objects and calls")
    assert growth.peak < COUNT * 2 * ENTRY_BYTES


def test_results_that_are_never_given_back() -> None:
    growth = attack(
        frame
        for n in range(1, COUNT // 2 + 2)
        for frame in (["push", ["pipeline", 0, ["make_counter"], []]], ["pull", n])
    )
    assert growth.peak < COUNT * 2 * ENTRY_BYTES
    assert len(growth.machine._exports) <= COUNT + 1


def test_objects_given_all_at_once() -> None:
    growth = attack([["push", [[["export", -n] for n in range(1, 20 * COUNT)]]]])
    assert ended_by(growth, f"more than {COUNT} objects")
    assert growth.peak < COUNT * ENTRY_BYTES + 30 * growth.sent


@pytest.mark.parametrize("method", ["later", "at_once"])
def test_calls_that_are_given_back_before_they_end(method: str) -> None:
    growth = attack(
        frame
        for n in range(1, 4 * COUNT)
        for frame in (["push", ["pipeline", 0, [method], ["x" * 100]]], ["release", n, 1])
    )
    assert growth.peak < COUNT * ENTRY_BYTES
    assert ended_by(growth, f"more than {COUNT} calls" if method == "later" else "None")


def test_calls_on_a_result_that_never_comes_given_back_at_once() -> None:
    growth = attack(
        [
            ["push", ["pipeline", 0, ["later"], []]],
            *(
                frame
                for n in range(2, 4 * COUNT)
                for frame in (["push", ["pipeline", 1, ["x"], ["x" * 100]]], ["release", n, 1])
            ),
        ]
    )
    assert ended_by(growth, f"more than {COUNT} calls")
    assert growth.peak < COUNT * 2 * ENTRY_BYTES


@pytest.mark.parametrize(
    "reference", [["pipeline", 1], ["pipeline", 1, ["a"]], ["import", 1, ["a"]], {"x": ["pipeline", 1, ["a"]]}], ids=str
)
def test_references_to_one_large_value_do_not_copy_it(reference: Any) -> None:
    growth = attack([LIST, *([["push", reference]] * (COUNT // 2))])
    assert growth.machine.error is None
    assert growth.peak < MB + COUNT // 2 * ENTRY_BYTES


def test_maps_that_read_a_large_value_do_not_copy_it() -> None:
    growth = attack(
        [LIST, ["push", ["remap", 0, ["zoo", "list"], [["import", 1]], [*([["pipeline", -1, ["a"]]] * 500), 1]]]]
    )
    assert growth.machine.error is None
    assert growth.peak < MB + 3 * 500 * ENTRY_BYTES


def test_arguments_of_many_promises_of_one_large_value_are_refused() -> None:
    growth = attack(
        [LIST, ["push", ["pipeline", 0, ["note"], [[[["pipeline", 1]] * 1000]]]], ["pull", 2], ["release", 2, 1]]
    )
    assert growth.machine.error is None
    assert growth.watch.calls == []
    # A million items, 8 bytes for each, and as much again for what is under way.
    assert growth.peak < 20 * MB


def doubling(levels: int) -> list[Any]:
    return [["push", [["x"]]], *(["push", [[["pipeline", n], ["pipeline", n]]]] for n in range(1, levels))]


def test_values_that_double_with_every_message() -> None:
    growth = attack(doubling(60))
    assert growth.machine.error is None
    assert growth.peak < 60 * 2 * ENTRY_BYTES


def test_values_that_double_asked_for() -> None:
    growth = attack([*doubling(60), ["pull", 60]])
    assert len(growth.machine._exports) <= COUNT + 1
    assert growth.peak < COUNT * 2 * ENTRY_BYTES


def test_values_that_double_as_an_argument_are_refused() -> None:
    growth = attack(
        [*doubling(60), ["push", ["pipeline", 0, ["note"], [["pipeline", 60]]]], ["pull", 61], ["release", 61, 1]]
    )
    assert growth.machine.error is None
    assert growth.watch.calls == []
    assert growth.peak < 20 * MB + COUNT * ENTRY_BYTES


ANSWERS: Final = replace(_LIMITS, max_outbound_bytes=4 * MB)
TEXT: Final = ["push", {"a": "x" * MB}]


@pytest.mark.parametrize(
    "frames",
    [
        [["push", [[["pipeline", 1, ["a"]]] * 1000]], ["pull", 2]],
        [["push", ["remap", 0, ["zoo", "list"], [["import", 1]], [[[["pipeline", -1, ["a"]]] * 400]]]], ["pull", 2]],
        [frame for n in range(2, 900) for frame in (["push", ["pipeline", 1, ["a"]]], ["pull", n])],
    ],
    ids=["promises", "map", "calls"],
)
def test_answers_that_all_hold_one_large_text(frames: list[Any]) -> None:
    # They come by one read of the socket, so that the driver has not looked at what is unsent yet.
    growth = attack([TEXT, frames], ANSWERS)
    assert ended_by(growth, f"more than {4 * MB} bytes at once (max_outbound_bytes)")
    assert growth.peak < 4 * MB + 3 * MB + 1000 * ENTRY_BYTES


HELD: Final = replace(_LIMITS, max_held_bytes=4 * MB)
LONG: Final = "x" * 100_000


def count_from(first: int, read: list[Any]) -> list[Any]:
    """Return 100 times `read`, with each ``n`` in it replaced by a number that grows."""
    return [json.loads(json.dumps(read).replace('"n"', str(n))) for n in range(first, first + 100)]


@pytest.mark.parametrize(
    "frames",
    [
        [["push", LONG]] * 100,
        [["push", {"a": LONG}]] * 100,
        [["push", ["pipeline", 0, ["later"], [LONG]]]] * 100,
        [["push", ["pipeline", 0, ["call"], [LONG]]]] * 100,
        [["push", ["pipeline", 0, ["collect"], [["import", 0, ["later"], [LONG]]]]]] * 100,
        [["push", ["pipeline", 0, ["later"], []]], *[["push", ["pipeline", 1, [LONG]]]] * 100],
        [["push", ["pipeline", 0, ["later"], []]], *[["push", ["pipeline", 1, [], [LONG]]]] * 100],
        [["push", ["pipeline", 0, ["later"], []]], *[["push", ["remap", 1, [], [], [LONG]]]] * 100],
        count_from(1, [["push", ["pipeline", 0, ["later"], [LONG]]], ["release", "n", 1]]),
        [["push", [[["promise", -n] for n in range(1, 101)]]], *[["resolve", -n, LONG] for n in range(1, 101)]],
        [
            ["push", [[["promise", -n] for n in range(1, 101)]]],
            *[["reject", -n, ["error", "E", LONG]] for n in range(1, 101)],
        ],
        [["stream", ["pipeline", 0, ["collect"], [["import", 0, ["later"], [LONG]]]]]] * 100,
    ],
    ids=str,
)
def test_long_messages_that_something_still_needs(frames: list[Any]) -> None:
    growth = attack(frames, HELD)
    assert ended_by(growth, f"hold more than {4 * MB} bytes (max_held_bytes)")
    # The frames of an error keep its message besides what was read of it; a map keeps its text.
    assert growth.peak < 3 * 4 * MB


def test_messages_that_nothing_needs_any_more_do_not_count() -> None:
    growth = attack(
        [
            *[["push", ["pipeline", 0, ["nothing_of"], [LONG]]]] * 100,
            *[["push", ["pipeline", 0, ["at_once"], [["import", 0, ["nothing_of"], [LONG]]]]]] * 100,
        ],
        HELD,
    )
    assert growth.machine.error is None
    assert growth.peak < MB


def test_errors_do_not_repeat_a_long_path() -> None:
    growth = attack(
        [
            ["push", ["pipeline", 0, ["later"], [{}]]],
            *[["push", ["pipeline", 1, [LONG], []]]] * 30,
            *[["push", ["pipeline", 1, ["a", LONG]]]] * 5,
        ],
        HELD,
    )
    growth.watch.open_gates()
    runtime_of(growth.machine).turn()
    assert growth.machine.error is None
    assert runtime_of(growth.machine).held.held_bytes < 10 * KB


NUMBERS: Final = [["push", {"a": [list(range(1000, 3000))]}]]


@pytest.mark.parametrize(
    "frame",
    [
        ["push", ["pipeline", 0, ["echo"], [[[["pipeline", 1, ["a"]]] * 3]]]],
        ["push", ["pipeline", 0, ["later"], [[[["pipeline", 1, ["a"]]] * 3]]]],
        ["push", ["pipeline", 0, ["collect"], [["pipeline", 1, ["a"]], ["import", 0, ["later"], []], ["pipeline", 2]]]],
        ["push", ["remap", 0, ["zoo", "list"], [["import", 0]], [["pipeline", -1, ["numbers"], [100]]]]],
        ["push", ["remap", 1, ["a"], [], [{"a": [[0, 1, 2, 3]]}]]],
        ["push", [[["pipeline", 0, ["numbers"], [100]]] * 20]],
        ["push", ["pipeline", 0, ["zoo"]]],
    ],
    ids=str,
)
def test_copies_and_results_made_for_little(frame: list[Any]) -> None:
    later = ["push", ["pipeline", 0, ["later"], []]]
    growth = attack([*NUMBERS, later, *[frame] * 200], replace(HELD, max_map_calls=100_000))
    assert runtime_of(growth.machine).held.held_bytes <= 5 * MB
    assert growth.peak < 3 * 4 * MB


def test_text_that_is_in_one_value_many_times_is_refused() -> None:
    growth = attack(
        [
            ["push", {"a": LONG}],
            ["push", ["pipeline", 0, ["echo"], [[[["pipeline", 1, ["a"]]] * 1000]]]],
            ["pull", 2],
        ],
        HELD,
    )
    assert growth.machine.error is None
    assert growth.answered < KB
    assert growth.peak < 4 * MB


@pytest.mark.parametrize("path", [["a"], ["b"], ["c"]])
def test_a_part_that_outlives_the_whole(path: list[str]) -> None:
    whole = ["push", {"a": LONG, "b": [list(range(1000, 11_000))], "c": {"d": LONG}}]
    growth = attack(
        [[whole, ["push", ["pipeline", 2 * n - 1, path]], ["release", 2 * n - 1, 1]] for n in range(1, 101)], HELD
    )
    assert ended_by(growth, f"hold more than {4 * MB} bytes (max_held_bytes)")


def test_answers_that_are_never_given_back() -> None:
    growth = attack(count_from(1, [["push", ["pipeline", 0, ["repeat"], [100_000]]], ["pull", "n"]]), HELD)
    assert ended_by(growth, f"hold more than {4 * MB} bytes (max_held_bytes)")
    assert growth.peak < 4 * MB + MB


def test_blobs_that_are_never_given_back() -> None:
    frames = [
        [
            ["pipe"],
            ["push", ["blob", "", ["readable", 13 * n + 1]]],
            *[["stream", ["pipeline", 13 * n + 1, ["write"], [["bytes", "eHh4" * 25_000]]]]] * 10,
            ["stream", ["pipeline", 13 * n + 1, ["close"], []]],
        ]
        for n in range(20)
    ]
    growth = attack(frames, HELD)
    assert ended_by(growth, f"hold more than {4 * MB} bytes (max_held_bytes)")
    assert growth.peak < 2 * 4 * MB


def test_a_chain_of_calls_on_a_result_that_comes() -> None:
    growth = attack(
        [
            ["push", ["pipeline", 0, ["later"], [1]]],
            *(["push", ["pipeline", n, ["x"], []]] for n in range(1, COUNT - 1)),
            ["pull", COUNT - 1],
        ]
    )
    growth.watch.open_gates()
    runtime_of(growth.machine).turn()
    [answer] = growth.machine.outbox
    assert answer == b'["reject",1999,["error","TypeError","\'x\' is not a function."]]'


def test_a_chain_of_promises_that_come_to_an_end() -> None:
    growth = attack(
        [
            ["push", ["promise", -1]],
            *(["resolve", -n, ["promise", -n - 1]] for n in range(1, COUNT)),
            ["push", ["pipeline", 1, ["x"], []]],
            ["resolve", -COUNT, 5],
            ["pull", 1],
            ["release", 1, 1],
            ["release", 2, 1],
        ]
    )
    assert growth.machine.error is None
    assert growth.machine.stats().exports == 1


def test_a_chain_of_values_that_hold_the_value_before() -> None:
    growth = attack([["push", 1], *(["push", [[["pipeline", n]]]] for n in range(1, COUNT // 2)), ["pull", COUNT // 2]])
    assert growth.machine.error is None
    assert growth.peak < COUNT * 2 * ENTRY_BYTES


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_a_bomb_of_maps(levels: int) -> None:
    instructions: list[Any] = [["pipeline", -1, ["make_counter"], []]]
    for _ in range(levels):
        instructions = [["pipeline", -1, ["numbers"], [100]], ["remap", 1, [], [["import", -1]], instructions]]
    growth = attack(
        [["push", ["remap", 0, ["zoo", "whole"], [["import", 0]], instructions]], ["pull", 1], ["release", 1, 1]]
    )
    assert growth.machine.error is None
    assert len(growth.watch.made) <= 2 + _LIMITS.max_map_calls
    assert growth.peak < _LIMITS.max_map_calls * ENTRY_BYTES


@pytest.mark.parametrize(
    "item",
    ["{}", "[[]]", '{"a":1}', '["undefined"]', '["date",0]', '["bytes",""]', '["error","",""]', '["nan"]', "0.5", '""'],
)
def test_a_message_of_many_small_values(item: str) -> None:
    growth = attack(['["push",[[' + ",".join([item] * 50_000) + "]]]"])
    assert growth.machine.error is None
    # The dearest is an exception: 15 bytes become an object, its dict and its properties.
    assert growth.peak < 50_000 * 700


def test_a_message_of_many_calls_of_a_cheap_method() -> None:
    growth = attack([["push", [[["pipeline", 0, ["square"], [1]]] * 20_000]], ["release", 1, 1]])
    assert growth.machine.error is None
    assert growth.peak < 20_000 * ENTRY_BYTES


def test_a_message_of_many_calls_that_never_end() -> None:
    growth = attack([["push", [[["pipeline", 0, ["later"], []]] * (10 * COUNT)]]])
    assert ended_by(growth, f"more than {COUNT} calls")
    assert growth.peak < COUNT * 2 * ENTRY_BYTES + 20 * growth.sent


def test_numbers_as_long_as_allowed() -> None:
    growth = attack([["push", [[["bigint", "9" * 16_384]] * 100]]])
    assert growth.machine.error is None
    assert growth.peak < 4 * growth.sent


def test_what_is_refused_is_not_kept() -> None:
    growth = attack([["push", [[["text" + "x" * MB], ["nonsense"]]]]])
    assert growth.machine.error is not None
    tracemalloc.start()
    receive(growth.machine, b"x" * MB)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10 * KB
    assert len(str(growth.machine.error)) < 500
