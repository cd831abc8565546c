"""The public face: what `rpc.` offers is named, sorted and documented."""

from __future__ import annotations

import types

from itx_notebook import capnweb as rpc


def test_public_names_are_sorted_and_are_the_namespace() -> None:
    names = rpc.__all__
    # Constants, then classes, then functions: the order that the linter keeps.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert len(set(names)) == len(names)
    bound = {
        name
        for name, value in vars(rpc).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert bound == set(names)


def test_public_names_have_docstrings() -> None:
    for name in rpc.__all__:
        value = getattr(rpc, name)
        if isinstance(value, (type, types.FunctionType)):
            assert value.__doc__, name


def test_public_names_have_documented_members() -> None:
    for name in rpc.__all__:
        value = getattr(rpc, name)
        if not isinstance(value, type) or issubclass(value, BaseException):
            continue
        for member, found in vars(value).items():
            if not member.startswith("_") and isinstance(found, (types.FunctionType, property)):
                assert found.__doc__, f"{name}.{member}"
