"""What a test can do to the wire in memory, and what the transports on it make of that."""

from __future__ import annotations

from dataclasses import replace

from itx_notebook.capnweb.memory import MemoryTransport, open_memory_transports
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS
from tests.capnweb.wires import Recorder, turn


def open_started() -> tuple[MemoryTransport, MemoryTransport, Recorder, Recorder]:
    left, right = open_memory_transports(replace(DEFAULT_OPTIONS, close_timeout=0.05))
    to_left, to_right = Recorder(), Recorder()
    left.start(to_left)
    right.start(to_right)
    return left, right, to_left, to_right


async def test_what_is_sent_in_one_turn_arrives_together_in_the_next() -> None:
    left, _, _, to_right = open_started()
    left.send([b"a", b"b"])
    left.send([b"c"])
    assert to_right.reads == []
    assert left.buffered_bytes == 3
    await turn(1)
    assert to_right.reads == [[b"a", b"b", b"c"]]
    assert left.buffered_bytes == 0


async def test_cut_wire_loses_both_ends_and_what_was_on_it() -> None:
    left, right, to_left, to_right = open_started()
    left.send([b"lost"])
    right.cut()
    assert await to_left.wait_for_loss() == (1006, "")
    assert await to_right.wait_for_loss() == (1006, "")
    assert to_right.reads == []


async def test_delayed_end_reads_turns_later() -> None:
    left, right, _, to_right = open_started()
    right.delay(40)
    left.send([b"slow"])
    await turn(20)
    assert to_right.reads == []
    await turn(40)
    assert to_right.reads == [[b"slow"]]


async def test_stalled_end_gets_nothing_until_it_goes_on() -> None:
    left, right, _, to_right = open_started()
    right.stall()
    left.send([b"waiting"])
    await turn()
    assert to_right.reads == []
    right.unstall()
    await turn(1)
    assert to_right.reads == [[b"waiting"]]


async def test_stalled_peer_does_not_answer_a_close_which_is_cut_in_time() -> None:
    left, right, to_left, to_right = open_started()
    right.stall()
    left.close(3000, "anybody?")
    assert await to_left.wait_for_loss() == (3000, "anybody?")
    assert await to_right.wait_for_loss() == (1006, "")
