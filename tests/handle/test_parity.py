"""The blocking face has what the async handle has, method for method and parameter for parameter."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from itx_notebook.handle import (
    AsyncItx,
    AsyncProjects,
    AsyncRunningProcessor,
    AsyncStream,
    AsyncStreams,
    AsyncSubscription,
    Itx,
    Projects,
    RunningProcessor,
    Stream,
    Streams,
    Subscription,
)
from itx_notebook.notebook import NotebookItx

PAIRS: list[tuple[type, type]] = [
    (AsyncItx, Itx),
    (AsyncProjects, Projects),
    (AsyncStream, Stream),
    (AsyncStreams, Streams),
    (AsyncSubscription, Subscription),
    (AsyncRunningProcessor, RunningProcessor),
]
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].__name__)


def _get_public(cls: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}


def _get_methods(cls: type) -> dict[str, Any]:
    return {name: member for name, member in _get_public(cls).items() if inspect.isfunction(member)}


def _get_parameters(method: Any, *, without: str = "") -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(method).parameters.values()
    return [(each.name, each.kind, each.default) for each in parameters if each.name != without]


def _get_first_clause(member: Any) -> str:
    text = inspect.getdoc(member)
    assert text, f"{member} has no docstring"
    return re.split(r"[.;,:]", text)[0]


@every_pair
def test_face_has_the_same_public_names(pair: tuple[type, type]) -> None:
    assert set(_get_public(pair[0])) == set(_get_public(pair[1]))


@every_pair
def test_face_has_the_same_parameters_and_a_timeout_where_it_waits(pair: tuple[type, type]) -> None:
    for name, method in _get_methods(pair[0]).items():
        face = getattr(pair[1], name)
        # A method that waits by its own nature has a timeout on both sides.
        assert _get_parameters(face, without="timeout") == _get_parameters(method, without="timeout"), name
        timeout = inspect.signature(face).parameters.get("timeout")
        assert (timeout is not None) == inspect.iscoroutinefunction(method), name
        if timeout is not None:
            assert (timeout.kind, timeout.default) == (inspect.Parameter.KEYWORD_ONLY, None), name


@every_pair
def test_face_says_the_same_in_its_docstrings(pair: tuple[type, type]) -> None:
    for name, method in _get_methods(pair[0]).items():
        assert _get_first_clause(getattr(pair[1], name)) == _get_first_clause(method), name


@every_pair
def test_face_has_the_same_properties_with_the_same_docstrings(pair: tuple[type, type]) -> None:
    for name, member in _get_public(pair[0]).items():
        if isinstance(member, property):
            assert inspect.getdoc(getattr(pair[1], name)) == inspect.getdoc(member), name


@pytest.mark.parametrize("cls", [*(cls for pair in PAIRS for cls in pair), NotebookItx])
def test_handle_makes_nothing_up_when_it_is_probed(cls: type) -> None:
    assert not hasattr(cls, "__getattr__")
    for name in ("_repr_png_", "_ipython_display_", "_ipython_canary_method_should_not_exist_", "__array__", "then"):
        assert not hasattr(cls, name)
