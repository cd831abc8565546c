"""What a peer reaches of an object and what it does not: one step at a time, without a session."""

from __future__ import annotations

import functools
from collections import defaultdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.targets import take_step
from itx_notebook.capnweb.protocol.values import OBJECT_NAMES


class Helper:
    """Not a target: what it defines is nobody's business."""

    def help(self) -> str:
        return "helped"


class Base(rpc.RpcTarget):
    def base(self) -> str:
        return "base"

    def overridden(self) -> str:
        return "base"

    def withdrawn(self) -> str:
        return "base"

    @property
    def title(self) -> str:
        return "base"


class Target(Base, Helper):
    CONSTANT = 3
    withdrawn = None  # type: ignore[assignment]  # a subclass takes it back

    class Nested:
        pass

    def __init__(self) -> None:
        self.instance = "instance"
        self._private = "private"

    def method(self) -> str:
        return "method"

    async def later(self) -> str:
        return "later"

    def overridden(self) -> str:
        return "target"

    @property
    def getter(self) -> str:
        return "getter"

    @functools.cached_property
    def cached(self) -> list[int]:
        return [1]

    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @rpc.hidden
    def hidden_method(self) -> str:
        return "hidden"

    @property
    @rpc.hidden
    def hidden_getter(self) -> str:
        return "hidden"

    @rpc.name("otherName")
    def named(self) -> str:
        return "named"

    def _under(self) -> str:
        return "under"

    def __call__(self) -> str:
        return "called"

    partial = functools.partialmethod(method)
    value_property = property(lambda _: 5)


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("method", "method"),
        ("overridden", "target"),
        ("base", "base"),
        ("static", "static"),
        ("of_class", "Target"),
        ("otherName", "named"),
    ],
)
def test_methods_are_reached_bound(step: str, value: str) -> None:
    assert take_step(Target(), step)() == value


@pytest.mark.parametrize(
    ("step", "value"), [("getter", "getter"), ("cached", [1]), ("title", "base"), ("value_property", 5)]
)
def test_properties_are_read(step: str, value: Any) -> None:
    assert take_step(Target(), step) == value


@pytest.mark.parametrize(
    "step",
    [
        "nope",
        "CONSTANT",
        "Nested",
        "help",
        "withdrawn",
        "hidden_method",
        "hidden_getter",
        "named",
        "_under",
        "_private",
        "_rpc_naming",
        "_rpc_members",
        "__call__",
        "__init__",
        "__dict__",
        "__class__",
        "__module__",
        "partial",
        "",
        *sorted(OBJECT_NAMES),
        0,
        -1,
    ],
)
def test_nothing_else_of_a_target_is_there(step: str | int) -> None:
    assert take_step(Target(), step) is rpc.UNDEFINED


def test_an_instance_attribute_is_refused_with_advice() -> None:
    class Slotted(rpc.RpcTarget):
        __slots__ = ("value",)

        def __init__(self) -> None:
            self.value = 1

    for target, step in ((Target(), "instance"), (Slotted(), "value")):
        with pytest.raises(
            TypeError, match=f"access property '{step}', which is an instance property of the RpcTarget"
        ):
            take_step(target, step)


def test_an_instance_attribute_shadows_no_method() -> None:
    target = Target()
    target.method = lambda: "instance"  # type: ignore[method-assign]  # what a program may do
    assert take_step(target, "method")() == "method"


def test_what_a_getter_raises_is_raised() -> None:
    class Sour(rpc.RpcTarget):
        @property
        def value(self) -> int:
            raise AttributeError("sour")

    with pytest.raises(AttributeError, match="sour"):
        take_step(Sour(), "value")


def test_camel_case_is_a_choice_of_the_class_and_of_those_below_it() -> None:
    class Camel(rpc.RpcTarget, naming="camel"):
        def make_counter(self) -> int:
            return 1

        def plain(self) -> int:
            return 2

        def with_2_digits(self) -> int:
            return 3

        @rpc.name("kept_name")
        def renamed(self) -> int:
            return 4

    class Below(Camel):
        def also_here(self) -> int:
            return 5

        def renamed(self) -> int:
            return 6

    class Python(Camel, naming="python"):
        def snake_again(self) -> int:
            return 7

    below = Below()
    assert [take_step(below, name)() for name in ("makeCounter", "plain", "with2Digits", "kept_name", "alsoHere")] == [
        1,
        2,
        3,
        6,
        5,
    ]
    for name in ("make_counter", "renamed", "also_here"):
        assert take_step(below, name) is rpc.UNDEFINED
    assert take_step(Python(), "snake_again")() == 7
    assert take_step(Python(), "makeCounter")() == 1


def test_a_chosen_name_may_be_any_but_those_of_every_object() -> None:
    class Odd(rpc.RpcTarget):
        @rpc.name("_under")
        def one(self) -> int:
            return 1

        @property
        @rpc.name("a b")
        def two(self) -> int:
            return 2

    assert take_step(Odd(), "_under")() == 1
    assert take_step(Odd(), "a b") == 2
    for name in ("", "constructor", "__proto__"):
        with pytest.raises(ValueError, match="cannot be a member's name"):
            rpc.name(name)


def test_marks_are_for_members_alone() -> None:
    with pytest.raises(TypeError, match="neither a method nor a property"):
        rpc.hidden(3)
    with pytest.raises(ValueError, match="naming is 'pascal'"):

        class Pascal(rpc.RpcTarget, naming="pascal"):  # type: ignore[arg-type]  # what is refused
            pass


# Values that are no targets


@pytest.mark.parametrize(
    ("value", "step", "found"),
    [
        ({"a": 1}, "a", 1),
        ({"a": 1}, "b", rpc.UNDEFINED),
        ({"0": 1}, 0, rpc.UNDEFINED),
        ({"then": 1}, "then", 1),
        ({"constructor": 1, "__proto__": 2}, "constructor", rpc.UNDEFINED),
        ({}, "get", rpc.UNDEFINED),
        ({}, "items", rpc.UNDEFINED),
        ([10, 20], 1, 20),
        ((10, 20), 0, 10),
        ([10], 1, rpc.UNDEFINED),
        ([10], -1, rpc.UNDEFINED),
        ([10], "0", rpc.UNDEFINED),
        ([10], "length", rpc.UNDEFINED),
        ([10], "append", rpc.UNDEFINED),
        ("text", "format", rpc.UNDEFINED),
        ("text", 0, rpc.UNDEFINED),
        (b"x", "decode", rpc.UNDEFINED),
        (5, "real", rpc.UNDEFINED),
        (5.0, "hex", rpc.UNDEFINED),
        (True, "denominator", rpc.UNDEFINED),
        (datetime(2026, 1, 1, tzinfo=UTC), "year", rpc.UNDEFINED),
        (ValueError("x"), "args", rpc.UNDEFINED),
        (rpc.Headers({"a": "b"}), "get", rpc.UNDEFINED),
        (rpc.Request("https://a.b/"), "url", rpc.UNDEFINED),
        (lambda: None, "__globals__", rpc.UNDEFINED),
        (len, "__self__", rpc.UNDEFINED),
        ([].append, "__self__", rpc.UNDEFINED),
        (functools.partial(len, []), "func", rpc.UNDEFINED),
        (Target().method, "__func__", rpc.UNDEFINED),
        (SimpleNamespace(a=1), "a", rpc.UNDEFINED),
        (Helper(), "help", rpc.UNDEFINED),
        (Target, "static", rpc.UNDEFINED),
    ],
)
def test_plain_values_offer_their_items_alone(value: Any, step: str | int, found: Any) -> None:
    assert take_step(value, step) is found


def test_reading_a_dict_runs_nobodys_code_and_changes_nothing() -> None:
    members: defaultdict[str, list[int]] = defaultdict(list)
    assert take_step(members, "a") is rpc.UNDEFINED
    assert members == {}


@pytest.mark.parametrize(("value", "name"), [(None, "null"), (rpc.UNDEFINED, "undefined")])
def test_nothing_has_no_members(value: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"Cannot read 'a' of {name}"):
        take_step(value, "a")
