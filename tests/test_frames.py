from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from itx_notebook.frames import to_frame
from itx_notebook.notebook import connect
from itx_notebook.types import UNSET, StreamEvent
from tests.support import close_engines


def _event(offset: int, payload: Any = UNSET, **fields: Any) -> StreamEvent:
    facts: dict[str, Any] = {"type": "demo.n", "created_at": "2026-06-10T09:00:00.123Z", "stream_path": "/a"}
    return StreamEvent(offset=offset, payload=payload, **{**facts, **fields})


def test_frame_of_events_has_one_row_each_in_their_order() -> None:
    frame = to_frame([_event(2), _event(1), _event(5)])
    assert list(frame.columns) == ["offset", "created_at", "type", "stream_path"]
    assert frame["offset"].tolist() == [2, 1, 5]
    assert frame["offset"].dtype == "int64"
    assert frame.index.tolist() == [0, 1, 2]
    assert str(frame["created_at"].dtype) == "datetime64[ns, UTC]"
    assert frame["created_at"][0] == pd.Timestamp("2026-06-10T09:00:00.123Z")
    assert frame["type"].tolist() == ["demo.n"] * 3


def test_frame_of_no_events_has_the_same_columns_and_types() -> None:
    frame = to_frame([])
    assert list(frame.columns) == ["offset", "created_at", "type", "stream_path"]
    assert len(frame) == 0
    assert (str(frame["offset"].dtype), str(frame["created_at"].dtype)) == ("int64", "datetime64[ns, UTC]")


def test_frame_takes_any_iterable_once() -> None:
    assert to_frame(_event(n) for n in (1, 2))["offset"].tolist() == [1, 2]


def test_frame_of_object_payloads_has_a_column_a_field_in_order_of_appearance() -> None:
    frame = to_frame([_event(1, {"b": 1, "a": "x"}), _event(2, {"c": [1], "a": "y"}), _event(3)])
    assert list(frame.columns)[4:] == ["payload.b", "payload.a", "payload.c"]
    assert frame["payload.c"][1] == [1]
    assert frame["payload.a"].tolist()[:2] == ["x", "y"]
    assert [bool(missing) for missing in frame["payload.a"].isna()] == [False, False, True]


def test_frame_of_other_payloads_keeps_them_in_a_column_of_their_own() -> None:
    frame = to_frame([_event(1, 7), _event(2, {"a": 1}), _event(3, None), _event(4, [1])])
    assert list(frame.columns)[4:] == ["payload.a", "payload"]
    assert frame["payload"][0] == 7
    assert frame["payload"][3] == [1]
    assert frame["payload"][1:3].isna().all()


@pytest.mark.parametrize("number", [1, 2**53 + 1, 2**60 + 1, -(2**63), 2**64 - 1])
def test_frame_keeps_whole_numbers_exact_where_some_events_lack_the_field(number: int) -> None:
    frame = to_frame([_event(1, {"id": number}), _event(2, {"other": 1})])
    assert int(frame["payload.id"][0]) == number
    assert pd.isna(frame["payload.id"][1])
    mixed = to_frame([_event(1, number), _event(2, {"other": 1})])
    assert int(mixed["payload"][0]) == number


def test_frame_of_numbers_without_gaps_has_the_plain_types() -> None:
    frame = to_frame([_event(1, {"n": 1, "x": 0.5, "ok": True}), _event(2, {"n": 2, "x": 1.5, "ok": False})])
    assert [str(frame[name].dtype) for name in ("payload.n", "payload.x", "payload.ok")] == ["int64", "float64", "bool"]


def test_frame_has_the_idempotency_keys_if_there_are_any() -> None:
    frame = to_frame([_event(1, idempotency_key="k"), _event(2)])
    assert list(frame.columns) == ["offset", "created_at", "type", "stream_path", "idempotency_key"]
    assert frame["idempotency_key"][0] == "k"
    assert pd.isna(frame["idempotency_key"][1])


def test_frame_of_a_real_stream_has_what_was_appended() -> None:
    stream = connect().streams.get("/orders")
    stream.append_batch([{"type": "order.placed", "payload": {"id": n, "total": n / 2}} for n in range(100)])
    frame = to_frame(stream.read(after_offset=2))
    close_engines()
    assert frame["payload.total"].sum() == sum(n / 2 for n in range(100))
    assert frame["created_at"].is_monotonic_increasing
