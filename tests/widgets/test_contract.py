"""The words of the channel in Python against those in TypeScript: the same fields, of the same kinds."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from itx_notebook.tree import SORTS, About, AboutConnection, AboutProcessor, Connection, NodeError, Snapshot, TreeModel
from itx_notebook.tree.values import SNAPSHOT_VERSION, Node
from itx_notebook.widgets import StreamTreeBrowser
from itx_notebook.widgets import browser as browser_module
from itx_notebook.widgets.requests import AppendRequest, PageRequest

JS = Path(__file__).parents[2] / "js" / "src"
CHANNEL = (JS / "channel.ts").read_text()


def _without_comments(source: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL)


def parse_interface(name: str) -> dict[str, str]:
    """Fields of a TypeScript interface and their types as written; ``?`` stays with the name."""
    found = re.search(rf"export interface {name} \{{(.*?)\n\}}", _without_comments(CHANNEL), re.DOTALL)
    assert found, f"channel.ts has no interface {name}"
    fields = re.findall(r"^\s*(\w+\??):\s*(.+?);\s*$", found[1], re.MULTILINE)
    return {field: kind.replace('"', "'") for field, kind in fields}


def parse_union(name: str) -> set[str]:
    """The texts of a union of literals."""
    found = re.search(rf"export type {name} =([^;]*);", _without_comments(CHANNEL))
    assert found, f"channel.ts has no type {name}"
    return set(re.findall(r'"(\w+)"', found[1]))


def write_type(hint: Any) -> str:
    """A Python annotation as TypeScript writes it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(f"'{arg}'" for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(write_type(arg) for arg in args)
    if origin is dict:
        return "Record<string, unknown>"
    if origin is list:
        return f"{write_type(args[0])}[]"
    names = {str: "string", int: "number", bool: "boolean", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _get_python_fields(struct: Any) -> dict[str, str]:
    hints = typing.get_type_hints(struct)
    return {field.encode_name: write_type(hints[field.name]) for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize("struct", [NodeError, Connection])
def test_struct_has_the_interfaces_fields_and_types(struct: Any) -> None:
    assert _get_python_fields(struct) == parse_interface(struct.__name__)


def test_snapshot_has_the_interfaces_fields_and_types() -> None:
    theirs, ours = parse_interface("Snapshot"), _get_python_fields(Snapshot)
    own_names = {
        "version": "typeof SNAPSHOT_VERSION",
        "project": "Project",
        "nodes": "Record<string, TreeNode>",
        "sort": "Sort",
    }
    assert {**ours, **own_names} == theirs
    assert parse_interface("Project") == {"id": "string", "slug": "string"}
    assert set(SORTS) == parse_union("Sort")
    assert f"SNAPSHOT_VERSION = {SNAPSHOT_VERSION};" in CHANNEL


def test_node_of_a_snapshot_has_the_interfaces_fields() -> None:
    model = TreeModel("/", Connection("live", 0))
    model.set_node("/", Node("loaded", 1, ("/a",), NodeError("INTERNAL", "x"), 2))
    (node,) = model.get_nodes().values()
    assert list(node) == list(parse_interface("TreeNode"))
    assert set(typing.get_args(typing.get_type_hints(Node)["state"])) == parse_union("NodeState")


def test_patch_of_the_model_has_fields_the_interface_knows() -> None:
    model = TreeModel("/", Connection("live", 0))
    model.set_node("/", Node("loaded", 1, ("/a",)))
    model.expand("/a")
    model.collapse("/b")
    model.select("/c")
    model.set_filter("a")
    model.set_sort("count")
    model.reveal("/c")
    model.set_connection(Connection("reconnecting", 1))
    patch = {"kind", "seq", *model.take_patch()}
    assert patch == {field.rstrip("?") for field in parse_interface("Patch")}
    model.set_node("/", Node("loaded", 1, ("/a", "/b")))
    assert model.take_patch() == {"nodes": {"/": {"added": ["b"]}}}
    assert "added?: string[]" in CHANNEL


def test_heartbeat_and_error_have_the_fields_that_are_sent() -> None:
    assert list(parse_interface("Heartbeat")) == ["kind", "seq", "session", "now", "views"]
    assert parse_interface("WidgetError") == {"kind": "'error'", "error": "NodeError"}


def test_page_and_request_for_one_have_the_fields_that_are_sent() -> None:
    assert list(parse_interface("EventPage")) == ["kind", "request", "events", "before", "about", "error"]
    assert _get_python_fields(PageRequest) == {
        "request": "number",
        "path": "string",
        "before": "number | null",
        "after": "number | null",
        "type": "string | null",
    }
    asked = re.search(r'\| \{\s+kind: "events";(.*?)\}', CHANNEL, re.DOTALL)
    assert asked
    assert re.findall(r"(\w+):", asked[1]) == ["request", "path", "before", "after", "type"]


def test_append_and_its_answer_have_the_fields_that_are_sent() -> None:
    assert parse_interface("Appended") == {
        "kind": "'appended'",
        "request": "string",
        "offset": "number | null",
        "error": "NodeError | null",
    }
    assert _get_python_fields(AppendRequest) == {
        "request": "string",
        "path": "string",
        "type": "string",
        "payload": "string | null",
    }
    assert '{ kind: "append"; request: string; path: string; type: string; payload: string | null }' in CHANNEL


@pytest.mark.parametrize(
    ("struct", "name"), [(About, "About"), (AboutProcessor, "Processor"), (AboutConnection, "Presence")]
)
def test_what_is_told_of_a_stream_has_the_interfaces_fields_and_types(struct: Any, name: str) -> None:
    written = {
        field: kind.replace("AboutProcessor", "Processor").replace("AboutConnection", "Presence")
        for field, kind in _get_python_fields(struct).items()
    }
    if name == "Processor":
        states = set(re.findall(r"\w+", written["state"]))
        assert states == parse_union("ProcessorState")
        written["state"] = "ProcessorState"
    assert written == parse_interface(name)


def test_front_end_reads_no_trait_but_the_synced_ones() -> None:
    own = {
        name
        for name, trait in StreamTreeBrowser.class_own_traits().items()
        if trait.metadata.get("sync") and not name.startswith("_")
    }
    assert own == {"snapshot", "height", "read_only"}
    sources = "".join(path.read_text() for path in JS.rglob("*.ts*"))
    read = set(re.findall(r"""model\.(?:get|on)\(\s*["'](?:change:)?(\w+)["']""", sources))
    assert {"snapshot"} <= read
    assert read - {"msg:custom", "msg", "comm_live_update"} <= own


def test_kernel_knows_every_message_the_browser_sends() -> None:
    found = re.search(r"export type Outgoing =(.*?)\n\n", _without_comments(CHANNEL), re.DOTALL)
    assert found
    kinds = set(re.findall(r'"(\w+)"', found[1]))
    source = Path(browser_module.__file__).read_text()
    handled = {kind for case in re.findall(r"case ([^:_]+):", source) for kind in re.findall(r'"(\w+)"', case)}
    assert kinds == handled
