"""Which library cuts the frames, and that both cut any stream of them alike."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import picows.version
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS
from itx_notebook.capnweb.websocket import answer_upgrade, choose_frames, open_connection
from tests.capnweb.wires import CONTINUATION, PING, PONG, TEXT, UPGRADE, Recorder, build_frame


@pytest.fixture
def forget_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module be imported anew."""
    monkeypatch.delitem(sys.modules, "itx_notebook.capnweb.fast", raising=False)


def test_picows_is_taken_where_it_is_installed() -> None:
    assert choose_frames(fast=None)
    assert choose_frames(fast=True)
    assert not choose_frames(fast=False)


@pytest.mark.usefixtures("forget_fast")
def test_without_picows_we_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picows", None)
    assert not choose_frames(fast=None)
    with pytest.raises(ImportError, match="picows"):
        choose_frames(fast=True)


@pytest.mark.usefixtures("forget_fast")
def test_picows_of_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picows.version, "__version__", "3.0.0")
    assert not choose_frames(fast=None)
    with pytest.raises(ImportError, match=r"picows 3\.0\.0 is installed"):
        choose_frames(fast=True)


class WrittenSocket:
    """A socket that keeps what is written, and nothing else."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


def pour(connection: Connection, data: bytes) -> None:
    """Hand the connection what a socket read, as a loop would."""
    if isinstance(connection, asyncio.BufferedProtocol):
        while data:
            buffer: Any = connection.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            connection.buffer_updated(count)
            data = data[count:]
    else:
        assert isinstance(connection, asyncio.Protocol)
        connection.data_received(data)


async def read_through(pieces: list[bytes], *, fast: bool) -> tuple[list[bytes], bytes]:
    """The messages that a server's connection delivers when it reads `pieces`, and what it writes."""
    _, core = answer_upgrade(UPGRADE + b"\r\n", subprotocols=(), options=DEFAULT_OPTIONS)
    assert core is not None
    connection = open_connection(core, DEFAULT_OPTIONS, fast=fast)
    socket: Any = WrittenSocket()
    connection.attach(socket, b"")
    recorder = Recorder()
    connection.start(recorder)
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    await turned
    for piece in pieces:
        pour(connection, piece)
    connection.connection_lost(None)
    assert recorder.losses == [(1006, "")]
    return recorder.messages, bytes(socket.written)


texts = st.text(max_size=300).map(str.encode) | st.sampled_from([125, 126, 127, 65_535, 65_536]).map(lambda n: b"x" * n)
fragments = st.lists(st.text(max_size=20).map(str.encode), min_size=2, max_size=4)


def build_message(message: bytes | list[bytes], pings: list[bytes]) -> bytes:
    """A message's frames, of several if it is a list, with pings among them."""
    parts = [message] if isinstance(message, bytes) else message
    frames = [
        build_frame(TEXT if index == 0 else CONTINUATION, part, is_masked=True, is_last=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
    beats = [build_frame(PING, ping, is_masked=True) for ping in pings]
    return b"".join(beats[:1] + frames[:1] + beats[1:] + frames[1:])


@pytest.mark.parametrize("fast", [False, True], ids=["websockets", "picows"])
@given(
    st.lists(st.tuples(texts | fragments, st.lists(st.binary(max_size=5), max_size=2)), max_size=8),
    st.lists(st.integers(1, 400) | st.integers(1, 5), max_size=40),
)
def test_any_stream_of_frames_is_read_alike_however_it_arrives(
    fast: bool, messages: list[tuple[bytes | list[bytes], list[bytes]]], cuts: list[int]
) -> None:
    stream = b"".join(build_message(message, pings) for message, pings in messages)
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    read, written = asyncio.run(read_through([piece for piece in [*pieces, stream] if piece], fast=fast))
    assert read == [message if isinstance(message, bytes) else b"".join(message) for message, _ in messages]
    pings = [ping for _, pings in messages for ping in pings]
    assert written == b"".join(build_frame(PONG, ping, is_masked=False) for ping in pings)


async def test_length_told_in_more_bytes_than_it_needs_does_not_hide_what_follows() -> None:
    short = build_frame(TEXT, b"short", is_masked=True)
    wide = b"\x81\xfe\x00\x02" + bytes(4) + b"{}"
    assert (await read_through([wide + short, short], fast=False))[0] == [b"{}", b"short", b"short"]
