"""What a peer may reach: the allow-list of a target's members, and how one step of a path is taken.

``getattr`` on a value a peer can name would hand it ``str.format``, ``__globals__`` and every helper of a base class.
So
a member exists only if a class written as a target defines it, as a method or a property, and a plain value offers
its items alone. Nothing here looks an attribute up by a name that came off the wire.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, TypeVar

from itx_notebook.capnweb.protocol.values import OBJECT_NAMES, UNDEFINED

__all__ = ["RpcTarget", "hidden", "name", "take_step"]

_F = TypeVar("_F")

_NAME: Final = "__rpc_name__"
_HIDDEN: Final = "__rpc_hidden__"

_MEMBER_KINDS: Final = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)

Naming = Literal["python", "camel"]


class RpcTarget:
    """Base of objects that peers call: passed by reference, never copied.

    A peer reaches the methods, coroutine methods, properties, static and class methods that this class's subclasses
    define.
    It does not reach names that start with an underscore, instance attributes, class constants, what
    :func:`hidden` marks, or what a base class that is not an ``RpcTarget`` defines.

    With ``class Api(RpcTarget, naming="camel")`` a member ``make_counter`` is ``makeCounter`` on the wire; :func:`name`
    chooses one member's name. If the class has a method ``_rpc_dispose``, it is called when the last reference is gone.
    One named ``dup``, without parameters, is called when the target is passed as an argument; what it returns
    is passed.

    Methods are called on the session's loop. A method of the target may be a coroutine function; it begins before later
    calls do, and runs beside them.
    """

    _rpc_naming: ClassVar[Naming] = "python"
    _rpc_members: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls, *, naming: Naming | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if naming is not None:
            if naming not in ("python", "camel"):
                raise ValueError(f"naming is {naming!r}; it is 'python' or 'camel'.")
            cls._rpc_naming = naming


def hidden(member: _F) -> _F:
    """Keep a method or property from peers, though its name is public."""
    _mark(member, _HIDDEN, value=True)
    return member


def name(wire_name: str) -> Callable[[_F], _F]:
    """Choose the name under which peers reach a method or property. Python's name is then not reachable.

    A name chosen here may start with an underscore, which no other member a peer reaches does.

    Raises
    ------
    ValueError
        `wire_name` is empty, or one that every JavaScript object has.
    """
    if not wire_name or wire_name in OBJECT_NAMES:
        raise ValueError(f"{wire_name!r} cannot be a member's name: no peer could reach it.")

    def mark(member: _F) -> _F:
        _mark(member, _NAME, value=wire_name)
        return member

    return mark


def _mark(member: Any, attribute: str, *, value: Any) -> None:
    function = _function_of(member)
    if function is None:
        raise TypeError(f"{member!r} is neither a method nor a property.")
    setattr(function, attribute, value)


def _function_of(member: Any) -> Any:
    """Return the function on which a member's marks are kept."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    return member if isinstance(member, types.FunctionType) else None


def _members_of(cls: type[RpcTarget]) -> Mapping[str, Any]:
    """Return the descriptors a peer reaches on instances of `cls`, by wire name."""
    members: dict[str, Any] | None = vars(cls).get("_rpc_members")
    if members is None:
        members = _find_members(cls)
        cls._rpc_members = members
    return members


def _find_members(cls: type[RpcTarget]) -> dict[str, Any]:
    exposing = [base for base in cls.__mro__ if issubclass(base, RpcTarget) and base is not RpcTarget]
    members: dict[str, Any] = {}
    seen: set[str] = set()
    for base in exposing:
        for attribute, member in vars(base).items():
            if attribute in seen or attribute.startswith("_"):
                continue
            seen.add(attribute)
            if not isinstance(member, _MEMBER_KINDS) or getattr(_function_of(member), _HIDDEN, False):
                continue
            wire_name = _wire_name(exposing, attribute, base._rpc_naming)
            if wire_name not in OBJECT_NAMES:
                members.setdefault(wire_name, member)
    return members


def _wire_name(exposing: list[type[RpcTarget]], attribute: str, naming: Naming) -> str:
    """Return the chosen name, also when a subclass overrides the member without choosing again; else the usual one."""
    for base in exposing:
        chosen = getattr(_function_of(vars(base).get(attribute)), _NAME, None)
        if chosen is not None:
            return str(chosen)
    if naming == "camel":
        return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), attribute)
    return attribute


_MOST_TOLD: Final = 200
"""Characters of a peer's path that an error repeats. Errors are kept until the peer gives the call back."""


def describe_path(path: tuple[str | int, ...]) -> str:
    """Return a path for people, in quotes and not too long."""
    text = ".".join(map(str, path))
    return repr(text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}…")


def take_step(value: Any, step: str | int) -> Any:
    """Return what `step` leads to from `value`: a bound method, a getter's result, an item, or ``UNDEFINED``.

    A getter runs, and what it raises is raised here.

    Raises
    ------
    TypeError
        `value` is nothing that has members, or `step` names an instance attribute of a target.
    """
    if isinstance(value, RpcTarget):
        return _take_member(value, step)
    if isinstance(value, dict):
        # The key of a peer is looked up as data; a subclass's own `__missing__` is not asked.
        return dict.get(value, step, UNDEFINED) if isinstance(step, str) and step not in OBJECT_NAMES else UNDEFINED
    if isinstance(value, (list, tuple)):
        return value[step] if isinstance(step, int) and 0 <= step < len(value) else UNDEFINED
    if value is None or value is UNDEFINED:
        raise TypeError(f"Cannot read {describe_path((step,))} of {'null' if value is None else 'undefined'}.")
    return UNDEFINED


def _take_member(target: RpcTarget, step: str | int) -> Any:
    cls = type(target)
    member = _members_of(cls).get(step) if isinstance(step, str) else None
    if member is not None:
        return member.__get__(target, cls)
    if isinstance(step, str) and not step.startswith("_") and _is_instance_attribute(target, step):
        raise TypeError(
            f"Attempted to access property {step!r}, which is an instance property of the RpcTarget. "
            "Peers see methods and properties of the class only: define one to offer this value."
        )
    return UNDEFINED


def _is_instance_attribute(target: RpcTarget, step: str) -> bool:
    if step in getattr(target, "__dict__", ()):
        return True
    return any(isinstance(vars(base).get(step), types.MemberDescriptorType) for base in type(target).__mro__)
