from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from itx_notebook.testing import FakeClock
from itx_notebook.tree import LiveTree, render_text
from itx_notebook.tree.live import FRAME
from itx_notebook.types import Event, Project
from tests.support import gather, open_owned
from tests.tree.conftest import View, World


async def test_snapshot_after_the_prefetch_has_the_root_and_nothing_is_followed(world: World) -> None:
    tree = world.make_tree()
    await tree.prefetch()
    snapshot = tree.get_snapshot()
    assert snapshot.nodes == {
        "/": {
            "state": "loaded",
            "count": await world.get_count("/"),
            "children": ["agents", "orders"],
            "error": None,
            "updated_at": world.clock.now_ms(),
            "active_at": None,
        }
    }
    assert (snapshot.version, snapshot.seq, snapshot.expanded, snapshot.selected) == (1, 0, ["/"], None)
    assert snapshot.project == {"id": world.project.id, "slug": "demo"}
    assert snapshot.connection.state == "live"
    assert await _get_followed(world) == []


async def test_prefetch_with_a_selection_and_expansions_loads_level_by_level(world: World) -> None:
    tree = world.make_tree(select="/agents/a", expand=["/orders", "/unknown"])
    await tree.prefetch()
    snapshot = tree.get_snapshot()
    assert sorted(snapshot.nodes) == ["/", "/agents", "/agents/a", "/orders"]
    assert (snapshot.selected, snapshot.seq) == ("/agents/a", 0)
    assert [node["state"] for node in snapshot.nodes.values()] == ["loaded"] * 4


async def test_prefetch_without_an_engine_ends_and_leaves_the_tree_empty(world: World) -> None:
    await world.loader.close()
    tree = world.make_tree()
    await tree.prefetch()
    assert tree.get_snapshot().nodes == {}
    assert render_text(tree.get_snapshot()) == "Streams of demo\n/"


async def test_append_to_a_visible_stream_arrives_as_a_patch_of_what_changed(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    await world.append("/agents", 2)
    await world.pass_frames()
    count = await world.get_count("/agents")
    arrived_at = world.clock.now_ms() - 80
    assert view.patches == [{"nodes": {"/agents": {"count": count, "updated_at": arrived_at, "active_at": arrived_at}}}]
    view.check()


async def test_append_to_a_stream_that_is_not_open_is_not_told(world: World) -> None:
    view = await world.open_view()
    await world.append("/agents/a", 5)
    await world.pass_frames()
    assert view.patches == []


async def test_new_child_of_a_visible_stream_arrives_as_added(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    await world.append("/agents/c")
    await world.pass_frames()
    (patch,) = view.patches
    arrived = dict.fromkeys(("updated_at", "active_at"), world.clock.now_ms() - 80)
    assert patch == {
        "nodes": {
            "/": {"count": await world.get_count("/"), **arrived},
            "/agents": {"count": await world.get_count("/agents"), **arrived, "added": ["c"]},
        }
    }
    view.check()


async def test_children_made_within_a_frame_come_in_one_patch(world: World) -> None:
    view = await world.open_view()
    for name in ("x", "y", "z"):
        await world.append(f"/{name}")
    await world.pass_frames()
    assert _merge_added(view, "/") == ["x", "y", "z"]
    assert len(view.patches) <= 2
    view.check()


async def test_patches_however_fast_the_appends_are_a_frame_apart(world: World) -> None:
    view = await world.open_view()
    for _ in range(100):
        await world.append("/")
        await world.clock.advance(0.001)
    await world.pass_frames()
    assert 3 <= len(view.patches) <= 5
    assert all(later - earlier > FRAME - 1e-9 for earlier, later in zip(view.times, view.times[1:], strict=False))
    assert view.state["nodes"]["/"]["count"] == await world.get_count("/")
    view.check()


async def test_ten_thousand_rapid_appends_become_few_patches_and_the_last_value_is_right(world: World) -> None:
    view = await world.open_view()
    stream = await world.get_stream("/")
    await gather(*(stream.append(Event(type="demo.n")) for _ in range(10_000)))
    await world.settle()
    await world.pass_frames(3)
    assert 1 <= len(view.patches) <= 3
    assert view.state["nodes"]["/"]["count"] == await world.get_count("/") > 10_000
    view.check()


async def test_patch_of_one_append_has_the_same_size_beside_ten_and_ten_thousand_children(world: World) -> None:
    sizes = []
    for name, count in (("few", 10), ("lot", 10_000)):
        stream = await world.get_stream(f"/{name}")
        fact = "events.iterate.com/stream/child-stream-created"
        for start in range(0, count, 1_000):
            names = range(start, min(count, start + 1_000))
            await stream.append_batch([Event(type=fact, payload={"childPath": f"/{name}/c{n:05}"}) for n in names])
        view = await world.open_view(root=f"/{name}")
        assert len(view.state["nodes"][f"/{name}"]["children"]) == count
        await world.append(f"/{name}")
        await world.pass_frames()
        sizes.append(len(msgspec.json.encode(view.patches)))
        view.check()
    assert sizes[1] - sizes[0] == len("10003") - len("13")


async def test_expanding_asks_for_the_node_and_follows_it(world: World) -> None:
    view = await world.open_view()
    view.tree.expand("/agents")
    await world.settle()
    await world.pass_frames()
    assert view.state["expanded"] == ["/", "/agents"]
    assert view.state["nodes"]["/agents"]["children"] == ["a", "b"]
    assert await _get_followed(world) == ["/", "/agents"]
    await world.append("/agents")
    await world.pass_frames()
    view.check()


async def test_collapsing_ends_the_watch_of_what_it_hides(world: World) -> None:
    view = await world.open_view(expand=["/agents", "/agents/a"])
    assert await _get_followed(world) == ["/", "/agents", "/agents/a"]
    view.tree.collapse("/agents")
    await world.settle()
    assert await _get_followed(world) == ["/"]
    await world.pass_frames()
    assert view.state["expanded"] == ["/", "/agents/a"]
    view.check()


async def test_collapsing_one_node_within_a_frame_loses_nothing_of_the_others(world: World) -> None:
    view = await world.open_view(expand=["/agents", "/orders"])
    for path in ("/agents", "/orders", "/orders"):
        await world.append(path)
    view.tree.collapse("/agents")
    await world.append("/orders")
    await world.pass_frames(3)
    assert view.state["nodes"]["/orders"]["count"] == await world.get_count("/orders")
    view.check()


async def test_selecting_opens_the_way_and_follows_what_is_selected(world: World) -> None:
    view = await world.open_view()
    view.tree.select("/agents/b")
    await world.settle()
    await world.pass_frames()
    assert (view.state["selected"], view.state["expanded"]) == ("/agents/b", ["/", "/agents"])
    assert await _get_followed(world) == ["/", "/agents", "/agents/b"]
    view.check()


async def test_looking_leaves_no_event_in_any_stream(world: World, home: Path) -> None:
    before = await _get_log(world, home)
    view = await world.open_view(expand=["/agents", "/agents/a"], select="/orders")
    elsewhere = await world.open_view(root="/not/there", select="/not/there/either")
    view.tree.refresh("/agents")
    view.tree.expand("/agents/b")
    view.tree.collapse("/agents")
    await world.settle()
    await world.pass_frames()
    view.tree.close()
    elsewhere.tree.close()
    await world.settle()
    assert await _get_log(world, home) == before
    assert elsewhere.state["nodes"]["/not/there"]["count"] == 0


async def test_closing_ends_every_watch_and_tells_no_more(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    await world.append("/")
    view.tree.close()
    view.tree.close()
    await world.append("/")
    await world.pass_frames()
    view.tree.expand("/orders")
    await world.settle()
    assert await _get_followed(world) == []
    assert view.patches == []
    assert world.clock.pending == len(world.loader.queries._entries), "nothing but lifetimes of the cache is waited for"


async def test_two_trees_of_one_project_have_their_own_numbers_and_the_same_data(world: World) -> None:
    first = await world.open_view()
    second = await world.open_view(expand=["/agents"])
    await world.append("/", 3)
    await world.pass_frames()
    first.check()
    second.check()
    assert first.state["nodes"]["/"] == second.state["nodes"]["/"]
    assert first.tree.session != second.tree.session


async def test_listener_that_fails_does_not_end_the_tree(world: World) -> None:
    tree = world.make_tree()
    await tree.prefetch()

    def fail(_seq: int, _patch: dict[str, Any]) -> None:
        raise ValueError("a view's own trouble")

    tree.subscribe(fail)
    view = View(tree, world.clock)
    tree.open()
    await world.settle()
    for _ in range(2):
        await world.append("/")
        await world.pass_frames()
    assert len(view.patches) == 2
    view.check()


async def test_stream_that_cannot_be_read_is_an_error_on_its_row_and_the_others_live(world: World, home: Path) -> None:
    await world.loader.close()
    body = _damage(home, world.project, "/agents")
    await world.loader.open()
    view = await world.open_view(expand=["/agents", "/orders"])
    # The watch tries once more after a second.
    await world.clock.advance(1.1)
    await world.pass_frames()
    node = view.state["nodes"]["/agents"]
    assert (node["state"], node["count"], node["children"]) == ("error", None, [])
    assert node["error"]["code"] == "INTERNAL"
    assert "/agents" in node["error"]["message"]
    assert node["error"]["hint"]
    assert view.state["connection"]["state"] == "live"
    await world.append("/orders", 2)
    await world.pass_frames()
    assert view.state["nodes"]["/orders"]["count"] == await world.get_count("/orders")
    assert "agents  ! INTERNAL:" in render_text(view.tree.get_snapshot())

    _repair(home, world.project, "/agents", body)
    view.tree.refresh("/agents")
    await world.settle()
    await world.pass_frames()
    node = view.state["nodes"]["/agents"]
    assert (node["state"], node["error"], node["children"]) == ("loaded", None, ["a", "b"])
    await world.append("/agents")
    await world.pass_frames()
    assert view.state["nodes"]["/agents"]["count"] == await world.get_count("/agents")
    view.check()


async def test_stream_that_can_no_longer_be_read_keeps_its_data_beside_the_error(world: World, home: Path) -> None:
    view = await world.open_view(expand=["/agents", "/orders"])
    await world.loader.close()
    body = _damage(home, world.project, "/agents")
    await world.loader.open()
    for _ in range(8):
        await world.clock.advance(0.5)
    await world.append("/orders")
    await world.pass_frames()
    node = view.state["nodes"]["/agents"]
    assert (node["state"], node["children"]) == ("loaded", ["a", "b"])
    assert node["error"]["code"] == "INTERNAL"
    assert view.state["connection"]["state"] == "live", "one row's trouble is not the connection's"
    assert view.state["nodes"]["/orders"]["count"] == await world.get_count("/orders")

    _repair(home, world.project, "/agents", body)
    view.tree.refresh("/agents")
    await world.settle()
    await world.append("/agents")
    await world.clock.advance(20)
    await world.pass_frames()
    node = view.state["nodes"]["/agents"]
    assert (node["error"], node["count"]) == (None, await world.get_count("/agents"))
    view.check()


async def test_engine_that_closes_and_opens_again_is_told_and_found_again(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    since = world.clock.now_ms()
    await world.loader.close()
    await world.pass_frames()
    assert view.state["connection"]["state"] == "reconnecting"
    assert view.state["connection"]["since"] == since
    await world.clock.advance(5)
    connection = view.state["connection"]
    assert (connection["state"], connection["since"]) == ("reconnecting", since)
    assert "closed" in connection["detail"]
    assert view.state["nodes"]["/"]["count"] is not None, "what was known stays"

    await world.loader.open()
    await world.append("/agents", 2)
    await world.clock.advance(16)
    assert view.state["connection"]["state"] == "live"
    assert view.state["connection"]["detail"] is None
    assert view.state["nodes"]["/agents"]["count"] == await world.get_count("/agents")
    assert await _get_followed(world) == ["/", "/agents"]
    await world.append("/agents")
    await world.pass_frames()
    view.check()


async def test_collapsing_the_only_node_that_is_cut_off_does_not_leave_the_tree_cut_off(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    actor = await world.get_actor("/agents")
    for subscription in actor.connections:
        await subscription.unsubscribe()
    await world.settle()
    await world.pass_frames()
    assert view.state["connection"]["state"] == "reconnecting"
    view.tree.collapse("/agents")
    await world.settle()
    await world.pass_frames()
    assert view.state["connection"]["state"] == "live"
    view.check()


async def test_expanding_while_another_node_is_cut_off_does_not_hide_that(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    actor = await world.get_actor("/agents")
    for subscription in actor.connections:
        await subscription.unsubscribe()
    await world.settle()
    view.tree.expand("/orders")
    await world.settle()
    await world.pass_frames()
    assert view.state["connection"]["state"] == "reconnecting"
    await world.clock.advance(2)
    assert view.state["connection"]["state"] == "live"
    view.check()


async def test_refresh_asks_again_though_the_data_is_fresh(world: World) -> None:
    view = await world.open_view()
    await world.clock.advance(3)
    view.tree.refresh("/")
    await world.settle()
    await world.pass_frames()
    assert view.patches == [{"nodes": {"/": {"updated_at": world.clock.now_ms() - 80}}}]


async def test_project_that_cannot_be_resolved_is_an_error_on_the_root(world: World, clock: FakeClock) -> None:
    stranger = Project(id="prj_unknown", slug="unknown", created_at="", updated_at="")
    tree = LiveTree(stranger, queries=world.loader.queries, get_itx=world.loader.get_loader_itx)
    await tree.prefetch()
    view = View(tree, clock)
    tree.open()
    await world.settle()
    await world.pass_frames()
    node = view.state["nodes"]["/"]
    assert (node["state"], node["error"]["code"], node["error"]["message"]) == (
        "error",
        "NOT_FOUND",
        "Project prj_unknown not found.",
    )
    view.check()
    tree.close()


# -- reading the world -----------------------------------------------------------------------------------------------


async def _get_followed(world: World) -> list[str]:
    """The paths somebody is connected to."""
    engine = (await open_owned(world.loader)).engine
    return sorted(stream.path for stream in engine._streams.values() if stream.connections)


def _merge_added(view: View, path: str) -> list[str]:
    return [name for patch in view.patches for name in patch["nodes"].get(path, {}).get("added", [])]


async def _get_log(world: World, home: Path) -> list[Any]:
    """Everything that stands in the store."""
    await world.settle()
    with _open_file(home) as connection:
        return [
            connection.execute("SELECT id, namespace, path FROM streams ORDER BY id").fetchall(),
            connection.execute("SELECT id, type FROM events ORDER BY id").fetchall(),
        ]


class _open_file:  # noqa: N801  # reads as a function
    """The store's file, with a connection that is closed at the end."""

    def __init__(self, home: Path) -> None:
        self._connection = sqlite3.connect(home / "streams.db")

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_exc_info: object) -> None:
        self._connection.commit()
        self._connection.close()


_SECOND_EVENT = "id = (SELECT id << 32 | 2 FROM streams WHERE namespace = ? AND path = ?)"


def _damage(home: Path, project: Project, path: str) -> bytes:
    """Make the second event of a stream unreadable; the bytes it had."""
    with _open_file(home) as connection:
        where = (project.id, path)
        (body,) = connection.execute(f"SELECT body FROM events WHERE {_SECOND_EVENT}", where).fetchone()
        connection.execute(f"UPDATE events SET body = x'7b' WHERE {_SECOND_EVENT}", where)
    return bytes(body)


def _repair(home: Path, project: Project, path: str, body: bytes) -> None:
    with _open_file(home) as connection:
        connection.execute(f"UPDATE events SET body = ? WHERE {_SECOND_EVENT}", (body, project.id, path))


# -- search and order ------------------------------------------------------------------------------------------------


async def test_search_reads_what_nobody_opened_and_leaves_no_trace(world: World) -> None:
    await world.append("/agents/a/deep/down")
    view = await world.open_view()
    before = {path: await world.get_count(path) for path in ("/agents", "/agents/a", "/agents/a/deep")}
    view.tree.set_filter("down")
    await world.settle()
    await world.pass_frames()
    view.check()
    assert view.state["filter"] == "down"
    assert view.state["nodes"]["/agents/a/deep"]["children"] == ["down"]
    assert view.state["expanded"] == ["/"]
    assert {path: await world.get_count(path) for path in before} == before
    assert await _get_followed(world) == ["/"]


async def test_search_that_ends_leaves_the_rest_unread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itx_notebook.tree.explore.EXPLORE_LIMIT", 1)
    view = await world.open_view()
    view.tree.set_filter("x")
    await world.settle()
    await world.pass_frames()
    assert sorted(view.state["nodes"]) == ["/", "/agents"]


async def test_order_by_activity_dates_the_visible_streams(world: World) -> None:
    view = await world.open_view(expand=["/agents"])
    view.tree.set_sort("activity")
    await world.settle()
    await world.pass_frames()
    view.check()
    dated = {path: node["active_at"] for path, node in view.state["nodes"].items()}
    assert sorted(dated) == ["/", "/agents", "/agents/a", "/agents/b", "/orders"]
    newest = await (await world.get_stream("/orders")).read(
        after_offset="start", before_offset="end", event_types=None, limit=None, presence=False
    )
    assert dated["/orders"] == round(datetime.fromisoformat(newest[-1].created_at).timestamp() * 1000)


async def test_path_that_is_looked_at_is_read_and_followed_until_another_is(world: World) -> None:
    view = await world.open_view()
    view.tree.look("/agents")
    await world.settle()
    await world.pass_frames()
    assert view.state["nodes"]["/agents"]["children"] == ["a", "b"]
    assert view.state["expanded"] == ["/"], "looking opens nothing"
    await world.append("/agents/c")
    await world.pass_frames()
    assert view.state["nodes"]["/agents"]["children"] == ["a", "b", "c"]
    view.tree.look(None)
    await world.append("/agents/d")
    await world.pass_frames()
    assert view.state["nodes"]["/agents"]["children"] == ["a", "b", "c"]
    view.check()


async def test_rows_that_are_followed_know_when_they_were_last_written_to(world: World) -> None:
    tree = world.make_tree(expand=["/orders"])
    await tree.prefetch()
    view = View(tree, world.clock)
    tree.open()
    await world.settle()
    await world.pass_frames(4)
    stream = await world.get_stream("/orders")
    newest = await stream.get_event(await world.get_count("/orders"), idempotency_key=None)
    assert newest is not None
    written_at = round(datetime.fromisoformat(newest.created_at).timestamp() * 1000)
    assert view.state["nodes"]["/orders"]["active_at"] == written_at
    await world.append("/orders")
    await world.pass_frames()
    assert view.state["nodes"]["/orders"]["active_at"] == world.clock.now_ms() - 80
    view.check()


async def test_events_of_a_time_when_nobody_followed_are_dated_by_the_newest_of_them(world: World) -> None:
    view = await world.open_view(expand=["/orders"])
    view.tree.collapse("/orders")
    await world.append("/orders", 2)
    await world.clock.advance(3600)
    view.tree.expand("/orders")
    await world.settle()
    await world.pass_frames(4)
    node = view.state["nodes"]["/orders"]
    stream = await world.get_stream("/orders")
    newest = await stream.get_event(node["count"], idempotency_key=None)
    assert newest is not None
    assert node["active_at"] == round(datetime.fromisoformat(newest.created_at).timestamp() * 1000)
    view.check()
