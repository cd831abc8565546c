"""How the tree looks: in every theme, width and direction, whatever styles the page has, from the first paint on."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import NotebookPage, OpenNotebook
from tests.browser.test_access import get_violations
from tests.browser.test_tree import AGENTS, TREE

pytestmark = pytest.mark.browser

LONG = "ts-1718031600-a-thread-with-a-name-that-does-not-fit-000"
STREAMS = f"""{AGENTS}
for number in range(2):
    itx.streams.get(f"/agents/slack/{LONG}{{number}}").append("demo.hello")
"""
OPENED = f"""
browser = itx.tree(expand=["/agents", "/agents/slack", "/orders"], select="/agents/slack/{LONG}0")
browser
"""
HOSTILE = """
* { letter-spacing: 3px; line-height: 3; text-transform: uppercase; font-style: italic; outline: 3px dotted red; }
button, input, select { margin: 7px; padding: 9px; border: 5px dashed lime; background: pink; font: 30px cursive; }
button { min-width: 90px; border-radius: 30px; } input { width: 500px !ie; height: 70px; }
p, ol, li, h4, form, details, summary, pre { margin: 40px; padding: 20px; border: 1px solid lime; list-style: square; }
span, bdi, mark { display: block; color: lime; background: navy; } svg { width: 99px; }
"""
# There is no text in a picture, and no box of an option that is not dropped down.
COMPUTED = """panel => [panel, ...panel.querySelectorAll('*:not(option, svg *)')].map(element => {
    const { x, y, width, height } = element.getBoundingClientRect();
    const origin = panel.getBoundingClientRect();
    const style = getComputedStyle(element);
    const names = element.matches('svg') ? ['outlineStyle'] : [
        'letterSpacing', 'lineHeight', 'textTransform', 'fontStyle', 'fontSize', 'fontFamily', 'color',
        'backgroundColor', 'borderTopStyle', 'borderTopWidth', 'borderRadius', 'display', 'outlineStyle',
    ];
    const isDrawn = width + height > 0;
    const box = isDrawn ? [x - origin.x, y - origin.y, width, height].map(Math.round) : [];
    return [element.tagName, ...box,
        ...names.map(name => style[name])].join(' ');
})"""
SELECTORS = """() => [...document.styleSheets].flatMap(sheet => {
    try { return [...sheet.cssRules]; } catch { return []; }
}).filter(rule => rule.cssText.includes('.itx-')).flatMap(function read(rule) {
    return rule.selectorText ? [rule.selectorText] : [...rule.cssRules ?? []].flatMap(read);
})"""


@pytest.fixture
def opened(notebook: OpenNotebook) -> NotebookPage:
    """A tree with some levels open and a stream selected, live and at rest."""
    page = notebook(STREAMS, OPENED)
    page.run(1)
    page.run(2)
    expect(page.status).to_have_text("live")
    expect(page.row(f"/agents/slack/{LONG}1")).to_be_visible()
    page.page.get_by_role("button", name="Close details").click()
    page.page.mouse.move(0, 0)
    return page


def get_panel(page: NotebookPage) -> Locator:
    return page.page.locator(".itx-panel")


def set_width(page: NotebookPage, width: str) -> None:
    get_panel(page).evaluate("(panel, width) => { panel.parentElement.style.width = width }", width)


def get_box(locator: Locator) -> dict[str, float]:
    box = locator.bounding_box()
    assert box is not None
    return {"x": box["x"], "width": box["width"]}


def test_page_with_styles_for_everything_changes_nothing_in_the_tree(opened: NotebookPage) -> None:
    before = get_panel(opened).evaluate(COMPUTED)
    assert len(before) > 60
    opened.page.add_style_tag(content=HOSTILE)
    assert opened.page.locator(".jp-Toolbar").first.evaluate("e => getComputedStyle(e).letterSpacing") == "3px"
    # A host that loads its styles late comes before ours or after: either way.
    assert get_panel(opened).evaluate(COMPUTED) == before
    opened.page.get_by_role("button", name="Children of /agents/slack/").click()
    dialog = opened.page.get_by_role("dialog")
    hostile = dialog.evaluate(COMPUTED)
    opened.page.evaluate("() => document.head.lastElementChild.remove()")
    assert dialog.evaluate(COMPUTED) == hostile


def test_styles_of_the_tree_reach_nothing_else(opened: NotebookPage) -> None:
    selectors: list[str] = opened.page.evaluate(SELECTORS)
    assert len(selectors) > 50
    own = [selector for selector in selectors if ".itx-" in selector]
    # What has no name of ours in it is a step of an animation.
    assert {selector for selector in selectors if selector not in own} <= {"0%", "50%", "100%"}
    for part in (part for selector in own for part in _split(selector)):
        assert ".itx-" in part, part


def _split(selector: str) -> list[str]:
    """The members of a selector list, at its outermost commas."""
    parts, depth = [""], 0
    for character in selector:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


@pytest.mark.parametrize("width", ["280px", "480px", "1600px"])
def test_tree_of_any_width_overflows_nowhere_and_keeps_the_ends_of_names(opened: NotebookPage, width: str) -> None:
    if width == "1600px":
        opened.page.set_viewport_size({"width": 2100, "height": 900})
    set_width(opened, width)
    panel = get_panel(opened)
    expect(panel).to_have_css("width", width)
    row = opened.row(f"/agents/slack/{LONG}0")
    right = get_box(panel)["x"] + get_box(panel)["width"]
    for shown in (row.get_by_text("with", exact=False).first, row.get_by_text("-fit-000", exact=False).last):
        expect(shown).to_be_visible()
        assert get_box(shown)["x"] + get_box(shown)["width"] <= right
    expect(row.locator("[title]").first).to_have_attribute("title", f"/agents/slack/{LONG}0")
    assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    activity = opened.row("/orders").get_by_title("Last event")
    expect(activity).to_be_visible(visible=width != "280px")
    if width != "280px":
        expect(activity).to_have_text("now")
    assert get_violations(opened) == []


def test_tree_from_right_to_left_is_mirrored_and_so_are_its_keys(opened: NotebookPage) -> None:
    panel = get_panel(opened)
    agents, mail = opened.row("/agents"), opened.row("/agents/mail")
    assert _indent(agents, from_right=False) < _indent(mail, from_right=False)
    panel.evaluate("panel => { panel.parentElement.dir = 'rtl' }")
    assert _indent(agents, from_right=True) < _indent(mail, from_right=True)
    badge, label = get_box(opened.row("/orders").locator(".itx-badge")), get_box(_get_name(opened.row("/orders")))
    assert badge["x"] < label["x"]
    # Names are no words of the language: they are read, and shortened, as ever.
    row = opened.row(f"/agents/slack/{LONG}0")
    head, tail = (get_box(row.locator(name)) for name in (".itx-label-head", ".itx-label-tail"))
    assert head["x"] < tail["x"]
    _get_name(opened.row("/agents")).click()
    for key, children in (("ArrowRight", 0), ("ArrowLeft", 1)):
        opened.page.keyboard.press(key)
        expect(opened.row("/agents/mail")).to_have_count(children)
    opened.page.keyboard.press("ArrowLeft")
    opened.page.keyboard.press("Enter")
    expect(opened.row("/agents/mail")).to_have_attribute("aria-selected", "true")
    crumbs = opened.page.get_by_role("group", name="Path").get_by_role("listitem")
    expect(crumbs).to_have_text(["/", "agents", "mail"])
    assert get_box(crumbs.nth(2))["x"] < get_box(crumbs.nth(1))["x"] < get_box(crumbs.nth(0))["x"]
    # A path begins with its slash, whatever stands around it.
    path = opened.page.get_by_role("region", name="Details of /agents/mail").get_by_text("/agents/mail", exact=True)
    assert path.evaluate("element => getComputedStyle(element).unicodeBidi") == "isolate"
    opened.page.get_by_role("button", name="Siblings of /agents/mail").click()
    opener, dialog = (
        get_box(opened.page.get_by_role(role, name="Siblings of /agents/mail")) for role in ("button", "dialog")
    )
    assert abs(opener["x"] + opener["width"] - dialog["x"] - dialog["width"]) <= 1
    assert get_violations(opened) == []


def _get_name(row: Locator) -> Locator:
    return row.locator(".itx-label-head")


def _indent(row: Locator, *, from_right: bool) -> float:
    outer, inner = get_box(row), get_box(_get_name(row))
    return outer["x"] + outer["width"] - inner["x"] - inner["width"] if from_right else inner["x"] - outer["x"]


def test_first_paint_is_the_tree_and_nothing_in_it_moves_afterwards(notebook: OpenNotebook) -> None:
    page = notebook(STREAMS, 'browser = itx.tree(expand=["/agents", "/agents/slack", "/orders"])\nbrowser')
    page.run(1)
    page.page.evaluate(
        """() => {
            window.__seen = { shifts: [], first: null };
            new PerformanceObserver(list => {
                for (const { sources } of list.getEntries())
                    for (const { node } of sources)
                        if (node?.parentElement?.closest?.('.itx-panel')) window.__seen.shifts.push(node.outerHTML);
            }).observe({ type: 'layout-shift', buffered: true });
            new MutationObserver(() => {
                const panel = document.querySelector('.itx-panel');
                if (!panel || window.__seen.first) return;
                const { borderTopStyle, backgroundColor } = getComputedStyle(panel);
                const rows = panel.querySelectorAll('[role=treeitem]').length;
                window.__seen.first = { rows, borderTopStyle, backgroundColor, text: panel.innerText };
            }).observe(document.body, { childList: true, subtree: true });
        }"""
    )
    page.run(2)
    expect(page.status).to_have_text("live")
    expect(page.row("/orders").get_by_title("Last event")).to_be_visible()
    seen: dict[str, Any] = page.page.evaluate("() => window.__seen")
    assert seen["first"]["rows"] > 5, "the tree is there as soon as anything is"
    assert seen["first"]["borderTopStyle"] == "solid", "and so are its styles"
    assert "oading" not in seen["first"]["text"]
    assert seen["shifts"] == []


def test_themes_of_vs_code_are_followed_by_its_variables(opened: NotebookPage) -> None:
    panel = get_panel(opened)
    panel.evaluate(
        """panel => {
            const variables = { 'editor-background': 'rgb(1, 2, 3)', foreground: 'rgb(250, 251, 252)' };
            for (const [name, value] of Object.entries(variables))
                panel.parentElement.style.setProperty(`--vscode-${name}`, value);
            document.body.classList.add('vscode-dark');
        }"""
    )
    # JupyterLab's own are there as well, as the widget bundle puts them into VS Code.
    expect(panel).to_have_css("background-color", "rgb(1, 2, 3)")
    expect(panel).to_have_css("color", "rgb(250, 251, 252)")
    expect(panel).to_have_css("color-scheme", "dark")
    opened.page.get_by_role("button", name="Siblings of /agents", exact=True).click()
    expect(opened.page.get_by_role("dialog")).to_have_css("background-color", "rgb(1, 2, 3)")


def test_colours_that_a_person_forces_leave_selection_focus_and_state_to_be_seen(opened: NotebookPage) -> None:
    opened.page.emulate_media(forced_colors="active")
    line = opened.row(f"/agents/slack/{LONG}0").locator(".itx-line")
    expect(line).to_have_css("outline-style", "solid")
    expect(opened.status).to_have_text("live")
    button = opened.page.get_by_role("button", name="Siblings of /agents", exact=True)
    button.focus()
    opened.page.keyboard.press("Enter")
    expect(opened.page.get_by_role("option", name="agents")).to_have_css("outline-style", "solid")


def test_count_when_it_moves_lights_up_unless_a_person_wants_no_motion(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, 'browser = itx.tree(expand=["/orders"])\nbrowser', 'itx.streams.get("/orders").append("x")')
    page.run(1)
    page.run(2)
    page.expect_count("/orders", 3)
    badge = page.row("/orders").locator(".itx-badge")
    expect(badge).to_have_css("animation-name", "none")
    page.run(3)
    page.expect_count("/orders", 4)
    expect(badge).to_have_css("animation-name", "itx-move")
    page.page.emulate_media(reduced_motion="reduce")
    expect(badge).to_have_css("animation-name", "none")


def test_tree_in_a_shadow_root_opens_its_lists_there(notebook: OpenNotebook) -> None:
    page = notebook(AGENTS, TREE)
    page.run(1)
    page.run(2)
    expect(page.status).to_have_text("live")
    page.page.evaluate(
        """() => {
            const view = document.querySelector('.itx-panel').parentElement;
            const host = document.createElement('div');
            // What was drawn stays what it is wherever it is put.
            host.attachShadow({ mode: 'open' }).append(...view.childNodes);
            view.append(host);
        }"""
    )
    expect(get_panel(page)).to_have_css("border-top-style", "solid")
    opener = page.page.get_by_role("button", name="Children of /", exact=True)
    opener.click()
    field = page.page.get_by_role("textbox", name="New child of /")
    expect(field).to_be_focused()
    field.fill("zebra")
    page.page.get_by_role("button", name="Create", exact=True).click()
    expect(page.page.get_by_role("button", name="zebra", exact=True)).to_be_focused()
    page.page.get_by_role("button", name="Siblings of /zebra").click()
    expect(page.page.get_by_role("listbox")).to_be_focused()
    page.page.locator(".jp-InputArea-editor").first.click()
    expect(page.page.get_by_role("listbox")).to_have_count(0)
