"""Values that are encoded once and sent often."""

from __future__ import annotations

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.wire import encode


class Echo(rpc.RpcTarget):
    def echo(self, value: object) -> object:
        return value


async def test_prepared_value_arrives_as_the_value_itself() -> None:
    value = {"events": [[1, [2]], {"big": 2**70, "text": "é"}], "none": None}
    prepared = rpc.prepare(value)
    near, far = rpc.memory_pair(None, Echo())
    assert await near.main.echo(prepared) == value
    assert await near.main.echo({"in": [prepared, prepared]}) == {"in": [value, value]}
    assert await rpc.stub(lambda got: got)(prepared) == value
    await near.close()
    await far.wait_closed()


async def test_prepared_text_survives_beside_half_a_surrogate_pair() -> None:
    near, _ = rpc.memory_pair(None, Echo())
    assert await near.main.echo([rpc.prepare(["a"]), "\ud800"]) == [["a"], "\ud800"]
    await near.close()


def test_a_reference_cannot_be_prepared() -> None:
    with pytest.raises(TypeError, match="a reference is of one session"):
        rpc.prepare({"callback": print})


def test_what_is_no_part_of_a_message_is_refused_by_the_slow_codec_too() -> None:
    with pytest.raises(TypeError, match="no part of a message"):
        encode(["\ud800", object()])
