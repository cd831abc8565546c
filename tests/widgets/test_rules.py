"""What notebooks do to a live widget asks twelve rules of it; here stands which test holds each of them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

import pytest

from itx_notebook.notebook import NotebookItx
from itx_notebook.tree import LiveTree, Node, TreeModel
from itx_notebook.widgets import StreamTreeBrowser
from tests.support import on_io_loop
from tests.widgets.conftest import FakeComm

ROOT: Final = Path(__file__).parents[2]
STATIC: Final = ROOT / "itx_notebook" / "widgets" / "static"
MAX_BUNDLE_BYTES: Final = 50_000

RULES: Final = {
    "1. The channel loses messages: few of them, numbered, and the whole is asked for where one is missing.": (
        "tests/tree/test_live.py::test_patches_however_fast_the_appends_are_a_frame_apart",
        "tests/widgets/test_browser.py::test_patches_are_numbered_densely_and_lead_to_the_snapshot",
        "tests/widgets/test_browser.py::test_resync_is_answered_by_the_whole_snapshot_with_the_current_number",
        "tests/browser/test_tree.py::test_flood_when_10000_updates_a_second_come_the_last_value_is_shown",
        "tests/browser/test_troubles.py::test_patches_when_lost_on_the_way_are_made_good_by_the_next_heartbeat",
        "js/tests/store.test.ts::asks again every two seconds while no answer comes",
    ),
    "2. One comm for a tree, never one for a node.": (
        "tests/widgets/test_rules.py::test_tree_of_a_thousand_nodes_has_one_comm_and_its_layout_another",
    ),
    "3. What a thread sends arrives while a cell is busy.": (
        "tests/browser/test_tree.py::test_append_when_made_by_the_io_thread_arrives_while_the_cell_sleeps",
    ),
    "4. Clicks are answered while a cell is busy; handlers run on any thread and only pass on.": (
        "tests/browser/test_tree.py::test_click_when_a_cell_is_busy_is_answered_at_once",
        "tests/browser/test_tree.py::test_click_when_the_tree_is_live_and_a_cell_appends_is_answered_at_once",
        "tests/widgets/test_browser.py::test_clicks_are_answered_where_the_browser_sent_them",
        "tests/widgets/test_browser.py::test_everything_is_sent_from_the_io_thread",
    ),
    "5. The background prints nothing; what fails there is drawn by the widget.": (
        "tests/widgets/test_browser.py::test_message_that_cannot_be_understood_is_answered_by_an_error_and_changes_nothing",
        "tests/widgets/test_browser.py::test_observer_that_fails_is_shown_in_the_browser",
        "tests/test__loop.py::test_background_failure_when_nobody_awaits_it_goes_to_the_log",
        "tests/widgets/test_rules.py::test_troubles_of_a_tree_print_nothing",
    ),
    "6. Work in the background is not tied to the cell that began it.": (
        "tests/test__loop.py::test_work_when_it_runs_sees_nothing_of_the_callers_context",
    ),
    "7. The tree stands outside the synced attributes, and asked for its state the widget gives that of now.": (
        "tests/widgets/test_browser.py::test_get_state_gives_the_tree_as_of_now",
        "tests/browser/test_tree.py::test_page_when_reloaded_shows_the_state_of_now",
        "js/tests/tree.test.tsx::writes the quiet tree into the model without a word to the kernel",
    ),
    "8. The module holds all it needs, is small and ready at once, else a widget is deaf for ever.": (
        "tests/widgets/test_rules.py::test_module_is_small_and_imports_nothing",
        "tests/browser/test_troubles.py::test_trees_when_fifty_are_shown_at_once_are_all_heard_and_hear",
    ),
    "9. A model's state is its own, and shared by its views.": (
        "js/tests/tree.test.tsx::shares one store between its views, and keeps apart what each looks at",
        "tests/browser/test_tree.py::test_two_views_when_one_model_is_displayed_twice_show_the_same",
        "tests/browser/test_troubles.py::test_view_when_made_late_has_what_came_before_and_outlives_the_first",
        "tests/widgets/test_browser.py::test_two_browsers_of_one_project_are_told_apart",
    ),
    "10. Keys that are meant for the tree do nothing to the notebook.": (
        "tests/browser/test_tree.py::test_keys_when_typed_into_the_tree_leave_the_notebook_alone",
        "tests/browser/test_details.py::test_everything_when_done_by_keys_alone_can_be_done_and_leaves_the_notebook_alone",
    ),
    "11. A kernel that is gone is said to be gone.": (
        "tests/browser/test_troubles.py::test_kernel_when_restarted_is_said_to_be_gone_within_a_second",
        "tests/browser/test_troubles.py::test_kernel_when_killed_is_said_to_be_gone_and_the_cell_is_the_way_back",
        "js/tests/store.test.ts::is cut off by a message that cannot be sent",
    ),
    "12. Text and HTML stand beside the widget for all who draw none.": (
        "tests/widgets/test_browser.py::test_bundle_carries_the_widget_and_the_tree_as_text_and_html",
        "tests/browser/test_saved.py::test_static_export_when_opened_without_a_network_shows_the_tree",
        "tests/browser/test_saved.py::test_untrusted_notebook_when_opened_shows_the_static_tree",
    ),
}


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    if not (ROOT / path).is_file():
        return False
    source = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        return re.search(rf"^(async )?def {name}\(", source, re.MULTILINE) is not None
    return f'it("{name}"' in source


@pytest.mark.parametrize("rule", RULES)
def test_rule_names_tests_that_exist(rule: str) -> None:
    assert [test for test in RULES[rule] if not _exists(test)] == []


def test_rules_are_twelve() -> None:
    assert [int(rule.partition(".")[0]) for rule in RULES] == list(range(1, 13))


def test_tree_of_a_thousand_nodes_has_one_comm_and_its_layout_another(
    itx: NotebookItx, browser: StreamTreeBrowser
) -> None:
    comms = len(FakeComm.all)
    tree: LiveTree = browser._tree

    def grow() -> None:
        paths = tuple(f"/n{n}" for n in range(1_000))
        tree._change(lambda model: model.set_node("/", Node("loaded", count=1, child_paths=paths)))
        for path in paths:
            tree._change(functools.partial(TreeModel.set_node, path=path, node=Node("loaded", count=1)))

    on_io_loop(grow)
    assert len(browser.get_state("snapshot")["snapshot"]["nodes"]) >= 1_000
    assert [each.target_name for each in FakeComm.all] == ["jupyter.widget"] * comms
    assert comms == 2


def test_troubles_of_a_tree_print_nothing(
    itx: NotebookItx, browser: StreamTreeBrowser, capfd: pytest.CaptureFixture[str]
) -> None:
    wire = browser.comm
    assert isinstance(wire, FakeComm)
    for content in ({"kind": "nonsense"}, {"kind": "expand", "path": "/none"}, {"kind": "select", "path": 3}):
        wire.say(content)
    itx.close()
    wire.wait_for(lambda: any("connection" in patch for patch in wire.get_custom("patch")))
    wire.has_failed_sockets = True
    wire.say({"kind": "resync", "have": 0})
    on_io_loop(lambda: None)
    wire.has_failed_sockets = False
    browser.close()
    on_io_loop(lambda: None)
    assert capfd.readouterr() == ("", "")


def test_module_is_small_and_imports_nothing() -> None:
    module = (STATIC / "tree.js").read_text(encoding="utf-8")
    assert sum(file.stat().st_size for file in STATIC.iterdir()) <= MAX_BUNDLE_BYTES
    # What it unpacks comes from itself, by way of a blob.
    assert re.findall(r"\bimport\b[^;]*", module) == [
        "import(/* webpackIgnore: true */url)}finally{URL.revokeObjectURL(url)}}"
    ]
    assert not re.search(r"https?://", module)
