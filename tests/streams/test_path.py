from __future__ import annotations

from typing import Any

import pytest

from itx_notebook.errors import ItxError
from itx_notebook.streams.path import (
    get_ancestors,
    get_child_path,
    get_label,
    get_parent,
    parse_stream_path,
    parse_stream_ref,
    resolve_stream_path,
)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("/", "/"),
        ("/agents/slack/ts-124", "/agents/slack/ts-124"),
        ("agents", "/agents"),
        ("%2Fagents%2Fa", "/agents/a"),
        ("/a_b-c/0", "/a_b-c/0"),
        ("/" + "a" * 1022, "/" + "a" * 1022),
    ],
)
def test_path_when_valid_becomes_canonical(given: str, canonical: str) -> None:
    assert parse_stream_path(given) == canonical


@pytest.mark.parametrize(
    "given",
    [
        "/A",
        "/a/",
        "//a",
        "/a//b",
        "/a.b",
        "/a b",
        "/ä",
        "/../a",
        "/%FF",
        "/" + "a" * 1023,
        "/a\n",
        "\ud800%41",
        7,
        None,
    ],
)
def test_path_when_invalid_is_refused_by_name(given: Any) -> None:
    with pytest.raises(ItxError, match=r"Stream path .* is not valid") as caught:
        parse_stream_path(given)
    assert caught.value.code == "BAD_REQUEST"


def test_path_when_blank_is_required() -> None:
    with pytest.raises(ItxError, match=r"(?m)^Stream path is required\.$"):
        parse_stream_path("  ")


@pytest.mark.parametrize(
    ("given", "base", "resolved"),
    [
        ("child", "/a/b", "/a/b/child"),
        ("./child", "/a/b", "/a/b/child"),
        ("/abs", "/a/b", "/abs"),
        ("../x", "/a/b", "/a/x"),
        ("../../x/.././y", "/a/b", "/y"),
        ("..", "/a", "/"),
    ],
)
def test_relative_path_when_resolved_walks_like_a_file_system(given: str, base: str, resolved: str) -> None:
    assert resolve_stream_path(given, base) == resolved


def test_relative_path_when_it_escapes_the_root_is_refused() -> None:
    with pytest.raises(ItxError) as caught:
        resolve_stream_path("../../x", "/a")
    assert str(caught.value) == 'streamPath "../../x" escapes the stream root (resolved from "/a")'


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("/a", ("prj_1", "/a")),
        ("prj_2:/a", ("prj_2", "/a")),
        ({"path": "/a"}, ("prj_1", "/a")),
        ({"namespace": "prj_2", "path": "/a"}, ("prj_2", "/a")),
    ],
)
def test_reference_when_valid_names_namespace_and_path(ref: Any, parsed: tuple[str, str]) -> None:
    assert parse_stream_ref(ref, namespace="prj_1") == parsed


@pytest.mark.parametrize(
    ("ref", "shown"),
    [("a", '"a"'), (":/a", '":/a"'), ("x:a", '"x:a"'), ({"p": 1}, '{"p": 1}'), (None, "null"), (3, "3")],
)
def test_reference_when_malformed_is_refused_with_its_json(ref: Any, shown: str) -> None:
    with pytest.raises(ItxError) as caught:
        parse_stream_ref(ref, namespace="prj_1")
    assert str(caught.value) == f'Stream ref {shown} must be "/path", "namespace:/path", or {{ namespace?, path }}.'
    assert caught.value.code == "BAD_REQUEST"


def test_ancestors_when_asked_are_every_proper_one_root_first() -> None:
    assert [get_ancestors(path) for path in ("/", "/a", "/a/b/c")] == [[], ["/"], ["/", "/a", "/a/b"]]


@pytest.mark.parametrize("path", ["/a", "/a/b", "/a//c", "/a/b/", "/a/b/c"])
def test_parent_of_any_path_is_the_last_of_its_ancestors(path: str) -> None:
    assert get_parent(path) == get_ancestors(path)[-1]


@pytest.mark.parametrize(
    ("parent", "descendant", "child"),
    [
        ("/", "/a/b", "/a"),
        ("/a", "/a/b/c", "/a/b"),
        ("/a", "/a", None),
        ("/a", "/ab", None),
        ("/a", "/b/a", None),
        ("/a", "/a//b", "/a/b"),
    ],
)
def test_child_when_announced_is_the_immediate_one(parent: str, descendant: str, child: str | None) -> None:
    assert get_child_path(parent, descendant) == child


def test_label_when_of_the_root_is_a_slash() -> None:
    assert [get_label(path) for path in ("/", "/a/b")] == ["/", "b"]
