"""Frames of every kind, found by Hypothesis: a machine takes them or ends, and never raises."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from itx_notebook.capnweb import Options
from tests.capnweb.fuzz import LIMITS, Attack, Mutator, check_end, run_session
from tests.capnweb.hostile.targets import SECRET, Main, Watch
from tests.capnweb.machines import check_tables, make_machine, receive

_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

_ids = st.one_of(st.integers(-6, 6), st.sampled_from([True, None, 1.5, "1", 2**70, -(2**70)]))
_names = st.sampled_from(
    (
        *("square", "echo", "later", "make_counter", "call", "keep", "zoo", "counter", "increment", "value", "child"),
        *("read_all", "write", "close", "a", "_private", "__class__", "concealed", "inside", "toString", "__proto__"),
    )
)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
_paths = st.lists(st.one_of(_names, st.integers(-1, 3), _scalars), max_size=3)
_tags = st.sampled_from(
    (
        *("import", "pipeline", "export", "promise", "remap", "readable", "writable", "error", "bigint", "date"),
        *("bytes", "url", "headers", "request", "response", "blob", "undefined", "inf", "nan", "nonsense"),
    )
)


def _grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    return st.one_of(
        lists,
        lists.map(lambda items: [items]),
        st.dictionaries(st.one_of(_names, st.text(max_size=3)), inner, max_size=4),
        st.tuples(_tags, inner).map(list),
        st.tuples(_tags, st.one_of(_ids, inner), inner).map(list),
        st.tuples(st.sampled_from(["import", "pipeline"]), _ids, _paths).map(list),
        st.tuples(st.sampled_from(["import", "pipeline"]), _ids, _paths, lists).map(list),
        st.tuples(st.just("pipeline"), st.just(0), st.tuples(_names).map(list), lists).map(list),
        st.tuples(st.just("remap"), _ids, _paths, lists, lists).map(list),
        st.tuples(st.just("error"), st.text(max_size=5), inner, st.none(), inner).map(list),
    )


_expressions = st.recursive(st.one_of(_scalars, st.tuples(_tags, _ids).map(list)), _grow, max_leaves=15)
_messages = st.one_of(
    st.tuples(st.sampled_from(["push", "stream"]), _expressions).map(list),
    st.tuples(st.just("pull"), _ids).map(list),
    st.tuples(st.sampled_from(["resolve", "reject"]), _ids, _expressions).map(list),
    st.tuples(st.just("release"), _ids, _ids).map(list),
    st.just(["pipe"]),
    st.tuples(st.just("abort"), _expressions).map(list),
    _expressions,
)


def _play(messages: list[bytes]) -> None:
    """Send the messages to a machine, and check everything that must hold whatever they are."""
    watch = Watch()
    machine = make_machine(Main(watch), Options(limits=LIMITS))
    for message in messages:
        receive(machine, message)
        check_tables(machine)
        for said in machine.outbox:
            assert SECRET.encode() not in said
            assert type(json.loads(said)) is list
        machine.outbox = []
        assert (machine.error is None) == (machine.close_request is None)
    check_end(machine, watch)


@settings(_SETTINGS, max_examples=400)
@given(st.lists(_messages, max_size=12))
@example([["push", ["pipeline", 0, ["later"], [["promise", -1]]]], ["resolve", -1, ["import", 1, ["x"], []]]])
def test_messages_of_any_shape(messages: list[Any]) -> None:
    _play([json.dumps(message).encode() for message in messages])


@settings(_SETTINGS, max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), max_size=4))
def test_bytes_of_any_kind(messages: list[bytes]) -> None:
    _play(messages)


@settings(_SETTINGS, max_examples=300)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=3)), max_size=3))
def test_sessions_that_begin_validly_and_are_damaged(seed: int, damages: list[tuple[int, bytes]]) -> None:
    mutator = Mutator(random.Random(seed))
    messages = [mutator.write() for _ in range(30)]
    for index, data in damages:
        message = messages[index % len(messages)]
        at = index * 7 % (len(message) + 1)
        messages[index % len(messages)] = message[:at] + data + message[at + len(data) :]
    _play(messages)


def test_the_first_twenty_thousand_frames_of_a_seed() -> None:
    attack = Attack()
    for seed in range(500):
        run_session(random.Random(seed), attack)
    assert attack.frames > 20_000
    assert attack.ends["lived"] > 100
