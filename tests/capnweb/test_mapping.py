"""map: what a recorded function becomes, where it runs, what it may not do and what it may cost."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.machines import make_machine, says
from tests.capnweb.sessions import Api, Counter, Joiner, Link, quiet, turn

# Every mapper here is a lambda, also where the method itself would do: it is what people write.
# ruff: noqa: PLW0108


def recorded(link: Link) -> Any:
    """The last map that the client sent, without its target."""
    (found,) = [message[1] for message in link.client_wire.said if message[0] == "push" and message[1][0] == "remap"][
        -1:
    ]
    return found[3:]


# Recording


async def test_a_map_is_one_message(join: Joiner) -> None:
    link = join(Api())
    squares = await link.api.echo([1, 2, 3]).map(lambda n: link.api.square(n))
    assert squares == [1, 4, 9]
    assert [message for message in link.client_wire.said if message[0] == "push"] == [
        ["push", ["pipeline", 0, ["echo"], [[[1, 2, 3]]]]],
        ["push", ["remap", 1, [], [["import", 0]], [["pipeline", -1, ["square"], [["pipeline", 0]]], ["pipeline", 1]]]],
    ]


async def test_what_a_mapper_does_becomes_instructions(join: Joiner) -> None:
    link = join(Api())
    value = link.api.echo([{"n": 2, "list": [7]}])
    assert await value.map(lambda item: {"n": item.n, "first": item["list"][0], "both": [item, 5, None, "x"]}) == [
        {"n": 2, "first": 7, "both": [{"n": 2, "list": [7]}, 5, None, "x"]}
    ]
    assert recorded(link) == [
        [],
        [
            {
                "n": ["pipeline", 0, ["n"]],
                "first": ["pipeline", 0, ["list", 0]],
                "both": [[["pipeline", 0], 5, None, "x"]],
            }
        ],
    ]


async def test_results_within_a_mapper_are_numbered(join: Joiner) -> None:
    link = join(Api())
    assert await link.api.echo([2]).map(lambda n: link.api.square(link.api.square(link.api.square(n)))) == [256]
    assert recorded(link)[1] == [
        ["pipeline", -1, ["square"], [["pipeline", 0]]],
        ["pipeline", -1, ["square"], [["pipeline", 1]]],
        ["pipeline", -1, ["square"], [["pipeline", 2]]],
        ["pipeline", 3],
    ]


async def test_what_comes_from_outside_is_captured_once(join: Joiner) -> None:
    link = join(Api())
    other = join(Api())
    with await link.api.make_counter(10) as counter, link.api.make_counter(20) as promised:
        value = link.api.echo([1, 2])
        result = await value.map(
            lambda n: [counter.increment(n), counter.value, promised.increment(n), other.api.square(n), link.api.answer]
        )
        assert result == [[11, 11, 21, 1, 42], [13, 13, 23, 4, 42]]
        captures = recorded(link)[0]
        assert len(captures) == 4
        assert [capture[0] for capture in captures] == ["import", "import", "export", "import"]


async def test_a_mapper_may_return_anything_that_can_be_sent(join: Joiner) -> None:
    link = join(Api())
    value = link.api.echo([1, 2])
    assert await value.map(lambda n: None) == [None, None]
    assert await value.map(lambda n: 5) == [5, 5]
    assert await value.map(lambda n: n) == [1, 2]
    assert await value.map(lambda n: b"x") == [b"x", b"x"]


async def test_a_mapper_cannot_wait(join: Joiner) -> None:
    link = join(Api())

    async def wait(n: Any) -> Any:
        return await n

    with pytest.raises(TypeError, match="A mapper function cannot be a coroutine function"):
        link.api.echo([1]).map(wait)
    seen: list[BaseException] = []

    def step(n: Any) -> Any:
        steps = n.__await__()
        try:
            next(steps)
        except BaseException as error:
            seen.append(error)
        return None

    await link.api.echo([1]).map(step)
    await quiet()
    assert recorded(link) == [[], [None]]


@pytest.mark.parametrize("bad", [print, Counter(), object(), {1}], ids=["function", "target", "object", "set"])
async def test_a_mapper_cannot_pass_what_lives_here(join: Joiner, bad: Any) -> None:
    link = join(Api())
    for mapper in (lambda n: link.api.echo([n, bad]), lambda n: {"n": n, "bad": bad}):
        with pytest.raises(TypeError, match=r"cannot create callbacks or pass objects|Cannot serialize value"):
            link.api.echo([1]).map(mapper)
    assert await link.api.square(2) == 4


async def test_what_a_mapper_raises_is_raised_and_nothing_is_sent(join: Joiner) -> None:
    link = join(Api())

    def fail(n: Any) -> Any:
        link.api.square(n)
        raise KeyError("mine")

    with await link.api.make_counter() as counter, link.api.echo([1]) as value:
        sent = len(link.client_wire.said)
        with pytest.raises(KeyError, match="mine"):
            value.map(fail)
        with pytest.raises(KeyError):
            value.map(lambda n: [counter.increment(n), fail(n)])
        await turn()
        assert [message for message in link.client_wire.said[sent:] if message[0] == "push"] == [
            ["push", ["pipeline", 0, ["echo"], [[[1]]]]]
        ]


async def test_calls_elsewhere_are_made_while_a_mapper_is_recorded(join: Joiner) -> None:
    link = join(Api())
    outcome: list[Any] = []
    go, done = threading.Event(), threading.Event()

    def elsewhere() -> None:
        go.wait(10)

        async def run() -> None:
            outcome.append(await rpc.stub(Api()).square(3))

        asyncio.run(run())
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()

    def mapper(n: Any) -> Any:
        go.set()
        done.wait(10)
        return n

    assert await link.api.echo([1]).map(mapper) == [1]
    thread.join()
    assert outcome == [9]


async def test_a_placeholder_is_of_no_use_afterwards(join: Joiner) -> None:
    link = join(Api())
    kept: list[Any] = []
    await link.api.echo([1]).map(kept.append)
    with pytest.raises(rpc.RpcError, match="after its mapper function returned"):
        await kept[0].method()
    with pytest.raises(rpc.RpcError, match=r"cannot be awaited|after its mapper"):
        await kept[0]


# Running


async def test_a_map_runs_at_the_other_end_over_anything(join: Joiner) -> None:
    class Main(Api):
        def make_counters(self) -> list[Counter]:
            return [self.make_counter(1), self.make_counter(2)]

        async def later(self) -> list[int]:
            await asyncio.sleep(0)
            return [4, 5]

        @property
        def numbers(self) -> list[int]:
            return [6, 7]

    main = Main()
    link = join(main)
    api = link.api
    assert await api.echo([]).map(lambda n: api.square(n)) == []
    assert await api.give_none().map(lambda n: api.square(n)) is None
    assert await api.echo(rpc.UNDEFINED).map(lambda n: api.square(n)) is None
    assert await api.echo(9).map(lambda n: api.square(n)) == 81
    assert await api.echo({"a": 2}).map(lambda item: api.square(item.a)) == 4
    assert await api.later().map(lambda n: api.square(n)) == [16, 25]
    assert await api.numbers.map(lambda n: api.square(n)) == [36, 49]
    assert await api.make_counters().map(lambda counter: counter.increment(10)) == [11, 12]
    assert await api.make_counter(3).map(lambda counter: counter.increment(10)) == 13
    assert await api.echo([1, [2, [3]]]).map(lambda item: item) == [1, [2, [3]]]
    await quiet()
    assert [counter.disposals for counter in main.counters] == [1, 1, 1]


async def test_maps_within_maps_see_what_is_around_them(join: Joiner) -> None:
    link = join(Api())
    api = link.api
    rows = api.echo([{"k": 2, "row": [1, 2]}, {"k": 3, "row": [5]}])
    assert await rows.map(lambda item: item.row.map(lambda n: {"n": api.square(n), "k": item.k})) == [
        [{"n": 1, "k": 2}, {"n": 4, "k": 2}],
        [{"n": 25, "k": 3}],
    ]


async def test_a_mapper_may_be_pipelined_on(join: Joiner) -> None:
    api = join(Api()).api
    value = api.echo([1, 2])
    mapped = value.map(lambda n: api.square(n))
    assert await mapped.map(lambda n: api.square(n)) == [1, 16]
    assert await mapped[1] == 4
    assert await api.echo({"squares": mapped}) == {"squares": [1, 4]}


async def test_a_failure_in_a_map_fails_it_and_gives_everything_back(join: Joiner) -> None:
    api = join(Api()).api
    for mapper in (lambda n: api.fail("why"), lambda n: api.fail_later("why"), lambda n: [n, api.fail("why")]):
        with pytest.raises(rpc.RemoteRangeError, match="why"):
            await api.echo([1, 2]).map(mapper)
    with pytest.raises(rpc.RemoteRangeError, match="why"):
        await api.fail("why").map(lambda n: api.square(n))
    with pytest.raises(rpc.RemoteTypeError, match="'nope' is not a function"):
        await api.echo([1]).map(lambda n: n.nope())


async def test_objects_made_by_a_map_belong_to_the_result(join: Joiner) -> None:
    main = Api()
    link = join(main)
    counters = await link.api.echo([1, 2]).map(lambda n: link.api.make_counter(n))
    assert [await counter.increment() for counter in counters] == [2, 3]
    assert [counter.disposals for counter in main.counters] == [0, 0]
    rpc.dispose(counters)
    await quiet()
    assert [counter.disposals for counter in main.counters] == [1, 1]


# Budgets, and what a hostile peer sends


async def test_a_message_may_run_so_many_instructions(join: Joiner) -> None:
    api = join(Api(), server_options=rpc.Options(limits=rpc.Limits(max_map_calls=100))).api
    assert await api.echo(list(range(50))).map(lambda n: n) == list(range(50))
    with pytest.raises(rpc.RemoteError, match="more instructions than this session allows"):
        await api.echo(list(range(101))).map(lambda n: n)
    rows = api.echo([list(range(20))] * 20)
    with pytest.raises(rpc.RemoteError, match="max_map_calls"):
        await rows.map(lambda row: row.map(lambda n: n))
    assert await api.echo([1]).map(lambda n: api.square(n)) == [1]


@pytest.mark.parametrize(
    ("captures", "instructions", "why"),
    [
        ([], [], "Invalid empty mapper function"),
        ([], [["pipeline", 1]], "not there yet"),
        ([], [["pipeline", -1]], "not there yet"),
        ([["import", 0]], [["pipeline", -2]], "not there yet"),
        ([], [1, ["pipeline", 2]], "not there yet"),
        ([], [["export", -1]], "cannot refer to exports"),
        ([], [["promise", -1]], "cannot refer to exports"),
        ([], [["writable", -1]], "cannot refer to exports"),
        ([], [["readable", 1]], "cannot refer to pipes"),
        ([], [["blob", "", ["readable", 1]]], "cannot refer to pipes"),
        ([], [["nonsense"]], "unknown special value"),
        ([], [["remap", 0, [], [["export", -1]], [["pipeline", 0]]]], "cannot refer to exports"),
        ([], [["remap", 0, [], [["import", 4]], [["pipeline", 0]]]], "not there yet"),
    ],
)
def test_a_bad_function_fails_its_own_call_alone(captures: list[Any], instructions: list[Any], why: str) -> None:
    machine = make_machine([1, 2])
    answers = says(machine, ["push", ["remap", 0, [], captures, instructions]], ["pull", 1])
    assert [answer[:2] for answer in answers] == [["reject", 1]]
    assert why in json.dumps(answers)
    assert says(machine, ["release", 1, 1]) == []
    assert machine.stats() == (1, 1)
