"""The codec, and the check that refuses what would not come back as it went in."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook._json import check_json, decode_json, encode_json
from itx_notebook.errors import ItxError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    ONE = 1


class Money(Decimal):
    """A subclass, which the codec does not know by itself."""


class Day(date):
    """The same of a date."""


class Tensor:
    """A scalar of an array library that is not numpy: its ``dtype`` has no kind."""

    dtype = "float16"
    ndim = 0

    def item(self) -> float:
        return 0.25


def nest(depth: int) -> Any:
    """Lists and dicts in turn, `depth` of them within each other."""
    value: Any = 1.5
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


@given(json_values)
def test_value_when_it_is_json_passes_and_comes_back_the_same(value: Any) -> None:
    check_json(value, "payload")
    assert decode_json(encode_json(value)) == value


@given(json_values)
def test_bytes_when_written_are_what_any_other_json_reader_understands(value: Any) -> None:
    assert json.loads(encode_json(value)) == value


@given(st.recursive(st.floats() | st.text() | st.integers() | st.none() | st.binary(max_size=2), st.lists))
def test_value_when_it_passes_is_never_written_as_something_else(value: Any) -> None:
    try:
        check_json(value, "payload")
    except ItxError:
        return
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    ("value", "read_back"),
    [
        ((1, (2,)), [1, [2]]),
        (datetime(2026, 6, 10, 9, tzinfo=UTC), "2026-06-10T09:00:00Z"),
        (date(2026, 6, 10), "2026-06-10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        ({"n": np.array(3)}, {"n": 3}),
        (np.datetime64("2026-06-10"), "2026-06-10"),
        (pd.Timestamp("2026-06-10T09:00:00Z"), "2026-06-10T09:00:00Z"),
        (pd.Timestamp("2026-06-10T09:00:00.5"), "2026-06-10T09:00:00.500000"),
        (Tensor(), 0.25),
        (Money("1.50"), "1.50"),
        (Day(2026, 6, 10), "2026-06-10"),
        ("é\u2028\U0001f600", "é\u2028\U0001f600"),
        (-0.0, -0.0),
        (nest(200), nest(200)),
    ],
)
def test_value_when_it_is_nearly_json_is_taken_and_read_back_as_json(value: Any, read_back: Any) -> None:
    check_json(value, "payload")
    assert decode_json(encode_json(value)) == read_back


def test_text_when_written_is_compact_utf8_without_escapes() -> None:
    assert encode_json({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'.encode()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "payload is nan, which JSON cannot say."),
        ({"a": {"b": [0, -math.inf]}}, "payload.a.b[1] is -inf, which JSON cannot say."),
        ([np.float64("nan")], "payload[0] is nan, which JSON cannot say."),
        (2**64, "payload is 18446744073709551616, outside 64 bits."),
        ([-(2**63) - 1], "payload[0] is -9223372036854775809, outside 64 bits."),
        ({1: "x"}, "payload has the key 1, which is not a string."),
        ({"a": {None: 1}}, "payload.a has the key None, which is not a string."),
        ({Colour.RED: 1}, "payload has the key <Colour.RED: 'red'>, which is not a string."),
        ("\ud83d", r"payload is '\ud83d', with half a surrogate pair."),
        ({"\ud83d": 1}, r"a key of payload is '\ud83d', with half a surrogate pair."),
        (b"x", "payload is b'x' (bytes), not a JSON value."),
        ({1, 2}, "payload is {1, 2} (set), not a JSON value."),
        (object, "payload is <class 'object'> (type), not a JSON value."),
        (np.array([1, 2]), "payload is array([1, 2]) (numpy.ndarray), not a JSON value."),
        (OrderedDict(a=1), f"payload is {OrderedDict(a=1)!r} (collections.OrderedDict), not a JSON value."),
        (1j, "payload is 1j (complex), not a JSON value."),
        ([pd.NaT], "payload[0] is NaT, which JSON cannot say."),
        (np.datetime64("NaT"), f"payload is {np.datetime64('NaT')!r} (numpy.datetime64), not a JSON value."),
        (
            pd.Timestamp(1),
            "payload is Timestamp('1970-01-01 00:00:00.000000001') (pandas.Timestamp), with nanoseconds.",
        ),
        (np.longdouble(1), "payload is np.longdouble('1.0') (numpy.longdouble), not a JSON value."),
        (bytes(100), f"payload is {repr(bytes(100))[:57]}… (bytes), not a JSON value."),
    ],
)
def test_value_when_it_is_not_json_is_refused_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(ItxError) as caught:
        check_json(value, "payload")
    assert (str(caught.value), caught.value.code) == (message, "BAD_REQUEST")
    assert caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Size.ONE,
        pd.DataFrame({"a": [1]}),
        pd.Series([1]),
        Ellipsis,
        pd.Timedelta(1),
        np.timedelta64(1, "ns"),
        np.datetime64(1, "ns"),
    ],
)
def test_value_when_it_only_looks_like_json_is_refused(value: Any) -> None:
    with pytest.raises(ItxError, match="not a JSON value"):
        check_json({"value": value}, "payload")


def test_value_when_nested_deeper_than_any_reader_must_bear_is_refused() -> None:
    itself: list[Any] = []
    itself.append(itself)
    for value in (nest(201), nest(100_000), itself, {"a": itself}):
        with pytest.raises(ItxError, match=r"^payload is nested more than 200 deep, or contains itself") as caught:
            check_json(value, "payload")
        assert caught.value.code == "BAD_REQUEST"


def test_foreign_value_when_encoded_unchecked_is_refused_by_the_codec() -> None:
    with pytest.raises(TypeError, match="not a JSON value"):
        encode_json({"x": object()})
