from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.values import UndefinedType, datetime_from_ms, ms_from_datetime


def test_undefined_is_one_falsy_value() -> None:
    assert not rpc.UNDEFINED
    assert UndefinedType() is rpc.UNDEFINED
    assert copy.deepcopy(rpc.UNDEFINED) is rpc.UNDEFINED
    assert pickle.loads(pickle.dumps(rpc.UNDEFINED)) is rpc.UNDEFINED  # noqa: S301
    assert repr(rpc.UNDEFINED) == "UNDEFINED"


@pytest.mark.parametrize(
    ("ms", "instant"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1234, datetime(1970, 1, 1, 0, 0, 1, 234000, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        (1.9, datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)),
        (-1.9, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        (-62_135_596_800_000, datetime(1, 1, 1, tzinfo=UTC)),
        (253_402_300_799_999, datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        (-62_135_596_800_001, rpc.JsDate(-62_135_596_800_001)),
        (253_402_300_800_000, rpc.JsDate(253_402_300_800_000)),
        (8_640_000_000_000_000, rpc.JsDate(8_640_000_000_000_000)),
        (8_640_000_000_000_001, rpc.JsDate(None)),
        (1e300, rpc.JsDate(None)),
        (None, rpc.JsDate(None)),
    ],
)
def test_milliseconds_become_an_instant_whatever_they_are(ms: float | None, instant: Any) -> None:
    assert datetime_from_ms(ms) == instant


@pytest.mark.parametrize(
    ("instant", "ms"),
    [
        (datetime(1970, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 998001, tzinfo=UTC), -1),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
        (datetime(1, 1, 1, tzinfo=UTC), -62_135_596_800_000),
    ],
)
def test_an_instant_is_cut_to_milliseconds_towards_1970(instant: datetime, ms: int) -> None:
    assert ms_from_datetime(instant) == ms


@pytest.mark.parametrize("href", ["https://example.com/a?b#c", "mailto:a@b.c", "data:text/plain,x", "x:"])
def test_a_url_is_text_that_names_a_place(href: str) -> None:
    url = rpc.Url(href)
    assert url == url.href == href
    assert repr(url) == f"Url({href!r})"


@pytest.mark.parametrize("href", ["", "/a/b", "example.com", "1a:b", "https://", "http:///x", "//host/x"])
def test_a_url_that_no_javascript_would_take_is_refused(href: str) -> None:
    with pytest.raises(ValueError, match="not an absolute URL"):
        rpc.Url(href)


def test_headers_are_found_without_regard_to_case_and_keep_their_order() -> None:
    headers = rpc.Headers([("Set-Cookie", "a=1"), ("X-Y", "z"), ("set-cookie", "b=2")])
    assert list(headers) == [("Set-Cookie", "a=1"), ("X-Y", "z"), ("set-cookie", "b=2")]
    assert headers["SET-COOKIE"] == "a=1, b=2"
    assert headers.get_all("x-y") == ["z"]
    assert headers.get("nope") is None
    assert headers.get("nope", "d") == "d"
    assert "x-Y" in headers
    assert "nope" not in headers
    assert len(headers) == 3
    with pytest.raises(KeyError):
        headers["nope"]


def test_headers_are_equal_by_content() -> None:
    assert rpc.Headers({"A": "1"}) == rpc.Headers([("a", "1")])
    assert rpc.Headers({"A": "1"}) != rpc.Headers({"A": "2"})
    assert rpc.Headers({"A": "1"}) != {"A": "1"}
    with pytest.raises(TypeError):
        hash(rpc.Headers())
    with pytest.raises(TypeError, match="pair of strings"):
        rpc.Headers({"A": 1})  # type: ignore[arg-type]  # what a program might pass all the same
