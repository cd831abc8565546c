"""How many writes a turn of the loop makes: one, unless there is so much that the peer could be at work already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.transport import Receiver


class Writes:
    """A transport that keeps what it is given, write by write."""

    buffered_bytes = 0
    peer = "nobody"

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []

    def start(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, messages: Sequence[bytes]) -> None:
        self.sent.append(list(messages))

    def close(self, code: int, reason: str) -> None:
        self.receiver.connection_lost(code, reason)

    def abort(self) -> None:
        self.receiver.connection_lost(1006, "")

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Api(rpc.RpcTarget):
    def square(self, i: int) -> int:
        return i * i


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def count_messages(writes: Writes) -> list[int]:
    return [len(messages) for messages in writes.sent]


async def test_the_calls_of_a_turn_leave_in_one_write() -> None:
    writes = Writes()
    session = rpc.Session(writes)
    pulled = [rpc.pull(session.main.square(i)) for i in range(20)]
    assert writes.sent == []
    await turn()
    assert count_messages(writes) == [40]
    await session.close()
    await asyncio.gather(*pulled, return_exceptions=True)


async def test_many_calls_of_a_turn_leave_before_it_ends_in_order() -> None:
    writes = Writes()
    session = rpc.Session(writes)
    pulled = [rpc.pull(session.main.square(i)) for i in range(1_000)]
    assert 1 < len(writes.sent) < 10
    await turn()
    assert sum(count_messages(writes)) == 2_000
    pulls = [message for messages in writes.sent for message in messages if message.startswith(b'["pull"')]
    assert pulls == [b'["pull",%d]' % call for call in range(1, 1_001)]
    await session.close()
    await asyncio.gather(*pulled, return_exceptions=True)


async def test_what_is_said_after_an_answer_waits_for_the_end_of_the_turn() -> None:
    writes = Writes()
    session = rpc.Session(writes, Api())
    writes.receiver.messages_received([b'["push",["pipeline",0,["square"],[3]]]', b'["pull",1]'])
    assert writes.sent == [[b'["resolve",1,9]']]
    pulled = rpc.pull(session.main.square(1))
    assert len(writes.sent) == 1
    await turn()
    assert count_messages(writes) == [1, 2]
    await session.close()
    await asyncio.gather(pulled, return_exceptions=True)


async def test_a_result_and_the_next_call_leave_in_one_write() -> None:
    writes = Writes()
    session = rpc.Session(writes)

    async def call_twice() -> None:
        await session.main.square(1)
        await session.main.square(2)

    calling = asyncio.ensure_future(call_twice())
    await turn()
    writes.receiver.messages_received([b'["resolve",1,1]'])
    await turn()
    await turn()
    assert [[message[:7] for message in messages] for messages in writes.sent] == [
        [b'["push"', b'["pull"'],
        [b'["relea', b'["push"', b'["pull"'],
    ]
    await session.close()
    await asyncio.gather(calling, return_exceptions=True)
