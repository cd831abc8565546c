"""Every attribute path of up to three steps below every kind of value: none leads to what was not given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from itx_notebook.capnweb import UNDEFINED
from itx_notebook.capnweb.protocol.hooks import Hook, Payload, Proxy
from tests.capnweb.hostile.targets import Counter, Main, Watch, is_given
from tests.capnweb.machines import InlineRuntime

MEMBERS: Final = {
    Counter: {"increment", "value", "double", "kind", "once", "sour", "child"},
    Main: {name for name in vars(Main) if not name.startswith("_")},
}
"""What the targets offer, written down a second time."""

STRANGE: Final = (0, 1, -1, 10**20, "", "0", "then", "length", "__proto__", "constructor", "toString", "valueOf")

Step = str | int


class Seen:
    """Takes a hook's value."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: Exception | None = None

    def resolve(self, payload: Payload) -> None:
        self.value = payload.value

    def reject(self, error: Exception) -> None:
        self.error = error


def look(hook: Hook) -> Seen:
    seen = Seen()
    hook.pull(seen)
    return seen


def is_nothing(seen: Seen) -> bool:
    return seen.value is UNDEFINED or isinstance(seen.error, TypeError)


def is_offered(value: Any, step: Step) -> bool:
    """Whether `step` from `value`, an object of ours, is for peers: the rule, told otherwise than the code does."""
    if isinstance(value, (Main, Counter)):
        return step in MEMBERS[type(value)]
    if isinstance(value, dict):
        return step in value
    return isinstance(value, (list, tuple)) and isinstance(step, int) and step in range(len(value))


def take(value: Any, name: str) -> Any:
    """Return what `getattr` gives, which no peer may get; a thing without attributes if it raises."""
    try:
        return getattr(value, name)
    except Exception:
        return None


def refused_steps(value: Any) -> Iterator[Step]:
    steps: list[Step] = [*dir(value), *STRANGE]
    for step in steps:
        if not is_offered(value, step):
            yield step


def refused_paths(value: Any) -> Iterator[tuple[Step, ...]]:
    """Yield every path of attributes that exist, to the third step, below what is offered of `value`."""
    kinds: set[type] = set()
    for first in refused_steps(value):
        yield (first,)
        if not isinstance(first, str):
            continue
        reached = take(value, first)
        for second in dir(reached):
            yield first, second
            deeper = take(reached, second)
            if type(deeper) not in kinds:
                # A third step depends on nothing but what the second one reached.
                kinds.add(type(deeper))
                for third in dir(deeper):
                    yield first, second, third


def test_no_path_below_any_value_leads_anywhere() -> None:
    watch, runtime = Watch(), InlineRuntime()
    main = runtime.refer(Main(watch))
    zoo = main.get(("zoo",))
    # The same objects once more, to see which attributes there are without telling the watch.
    mirror = Main(Watch()).zoo
    count = 0
    for name, value in mirror.items():
        for path in refused_paths(value):
            count += 1
            assert is_nothing(look(zoo.get((name, *path)))), (name, *path)
    assert count > 40_000
    assert watch.leaks == []
    assert [target for target in runtime.referred if not is_given(target)] == []


def test_no_call_below_any_value_calls_anything() -> None:
    watch, runtime = Watch(), InlineRuntime()
    zoo = runtime.refer(Main(watch)).get(("zoo",))
    for name, value in Main(Watch()).zoo.items():
        for step in refused_steps(value):
            seen = look(zoo.call((name, step), Payload([], runtime, owned=True)))
            assert isinstance(seen.error, TypeError), (name, step)
            why = str(seen.error)
            assert "is not a function" in why or "instance property" in why or why.startswith("Cannot read"), why
    assert watch.leaks == []


def test_no_path_below_a_member_of_the_main_object_leads_anywhere() -> None:
    watch, runtime = Watch(), InlineRuntime()
    main = runtime.refer(Main(watch))
    mirror = Main(Watch())
    for step in refused_steps(mirror):
        assert is_nothing(look(main.get((step,)))), step
    for member in MEMBERS[Main] - {"zoo", "counter"}:
        seen = look(main.get((member,)))
        assert isinstance(seen.value, Proxy) or callable(seen.value)
        for step in dir(getattr(mirror, member)):
            assert is_nothing(look(main.get((member, step)))), (member, step)
    assert watch.leaks == []


def test_every_member_that_is_offered_is_reached() -> None:
    watch, runtime = Watch(), InlineRuntime()
    counter = runtime.refer(Counter(watch, 3))
    reached = {member: look(counter.get((member,))) for member in MEMBERS[Counter]}
    assert [member for member, seen in reached.items() if seen.value is UNDEFINED] == []
    assert reached["value"].value == 3
    assert str(reached["sour"].error) == "sour"
