"""Events as a pandas DataFrame. pandas is imported when the first frame is made, not before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from itx_notebook.types import UNSET, StreamEvent, absent_to_none

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_frame"]


def to_frame(events: Iterable[StreamEvent]) -> pd.DataFrame:
    """One row an event, in the order given.

    Returns
    -------
    pandas.DataFrame
        Columns, for ``n`` events, index 0 … n-1:

        - ``offset`` : int64, place in the stream, from 1
        - ``created_at`` : datetime64[ns, UTC], of millisecond precision
        - ``type``, ``stream_path`` : str
        - ``idempotency_key`` : str or None; only if an event has one
        - ``payload.<field>`` : one column for each top-level field of payloads that are objects, in order of first
          appearance, of the type pandas finds for its values; missing where an event lacks it
        - ``payload`` : payloads that are not objects; only if there are any

        Whole numbers stay exact: a column of them with gaps is ``Int64`` (``object`` beyond 63 bits), never float.

    Examples
    --------
    >>> to_frame(itx.streams.get("/orders").read())
    """
    import pandas as pd

    rows = list(events)
    columns: dict[str, Any] = {
        "offset": pd.Series([event.offset for event in rows], dtype="int64"),
        "created_at": pd.to_datetime(pd.Series([event.created_at for event in rows], dtype="str"), utc=True).dt.as_unit(
            "ns"
        ),
        "type": [event.type for event in rows],
        "stream_path": [absent_to_none(event.stream_path) for event in rows],
    }
    if any(event.idempotency_key is not UNSET for event in rows):
        columns["idempotency_key"] = [absent_to_none(event.idempotency_key) for event in rows]
    fields = dict.fromkeys(name for event in rows if isinstance(event.payload, dict) for name in event.payload)
    for name in fields:
        columns[f"payload.{name}"] = _make_column(
            [event.payload.get(name) if isinstance(event.payload, dict) else None for event in rows]
        )
    if any(event.payload is not UNSET and not isinstance(event.payload, dict) for event in rows):
        columns["payload"] = _make_column(
            [None if isinstance(event.payload, dict) else absent_to_none(event.payload) for event in rows]
        )
    return pd.DataFrame(columns)


def _make_column(values: list[Any]) -> Any:
    """The values, kept from becoming floats where whole numbers stand beside gaps: an id of 64 bits is no float."""
    import pandas as pd

    kinds = {type(value) for value in values}
    if kinds != {int, type(None)}:
        return values
    fits = all(value is None or -(2**63) <= value < 2**63 for value in values)
    return pd.array(values, dtype="Int64") if fits else pd.Series(values, dtype="object")
