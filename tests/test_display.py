from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from itx_notebook.display import InlineError, Line
from itx_notebook.errors import ItxError


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def _error(**facts: Any) -> ItxError:
    return ItxError("Project x not found.", code="NOT_FOUND", **facts)


def test_inline_error_as_text_is_what_failed_and_what_to_do() -> None:
    shown = InlineError(_error(hint="Look again."), doing="Connecting")
    assert repr(shown) == "Connecting: Project x not found. [NOT_FOUND]\n→ Look again."
    assert shown._repr_mimebundle_()["text/plain"] == repr(shown)


def test_inline_error_without_a_hint_has_the_advice_for_its_code() -> None:
    assert repr(InlineError(_error(), doing="Connecting")).splitlines()[1] == (
        "→ Check the name: itx.projects.list() shows what this handle may see."
    )


def test_inline_error_as_html_folds_the_details() -> None:
    page = _Page(InlineError(_error(details={"a": 1}), doing="Connecting")._repr_mimebundle_()["text/html"])
    assert page.tags == ["div", "div", "b", "code", "div", "details", "summary", "pre"]
    assert '"a": 1' in page.text
    bare = _Page(InlineError(_error(), doing="Connecting")._repr_mimebundle_()["text/html"])
    assert bare.tags == ["div", "div", "b", "code", "div"]


def test_inline_error_of_a_foreign_exception_keeps_it_as_the_cause() -> None:
    trouble = ZeroDivisionError("division by zero")
    shown = InlineError(trouble, doing="Counting")
    assert (shown.error.code, shown.error.message, shown.error.__cause__) == ("INTERNAL", "division by zero", trouble)
    assert "ZeroDivisionError" in shown._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "</div></pre>"])
def test_inline_error_with_hostile_texts_shows_them_as_text(evil: str) -> None:
    error = ItxError(evil, code="INTERNAL", hint=evil, details={"value": evil})
    error.__cause__ = ValueError(evil)
    page = _Page(InlineError(error, doing=evil)._repr_mimebundle_()["text/html"])
    assert page.tags == ["div", "div", "b", "code", "div", "details", "summary", "pre"]
    assert page.text.count(evil) >= 3


def test_inline_error_with_details_that_json_does_not_know_is_shown_all_the_same() -> None:
    shown = InlineError(_error(details={"value": object, 3: {1, 2}}), doing="Connecting")
    assert "class 'object'" in _Page(shown._repr_mimebundle_()["text/html"]).text


def test_line_is_its_text_everywhere() -> None:
    assert repr(Line("itx: ready")) == "itx: ready"
    assert not hasattr(Line("itx: ready"), "_repr_html_")
