"""Pairs of transports over every kind of wire, receivers that remember, and peers that speak raw bytes."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import os
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.listener import HandshakeRequest, Listener, listen
from itx_notebook.capnweb.memory import open_memory_transports
from itx_notebook.capnweb.transport import DEFAULT_OPTIONS, Transport, TransportOptions
from itx_notebook.capnweb.websocket import dial

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed. None waits that long when all is well."""

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""A key and its certificate for ``localhost``, signed by itself; of no worth to anybody."""


class Recorder:
    """A receiver that keeps what it is told, in order, and lets a test wait for it."""

    def __init__(self, on_messages: Callable[[list[bytes]], None] | None = None) -> None:
        self.reads: list[list[bytes]] = []
        self.losses: list[tuple[int, str]] = []
        self.resumptions = 0
        self.calls_after_loss = 0
        self._on_messages = on_messages
        self._changed = asyncio.Event()

    @property
    def messages(self) -> list[bytes]:
        return [message for read in self.reads for message in read]

    def messages_received(self, messages: list[bytes]) -> None:
        self._note()
        self.reads.append(messages)
        if self._on_messages is not None:
            self._on_messages(messages)

    def resume_writing(self) -> None:
        self._note()
        self.resumptions += 1

    def connection_lost(self, code: int, reason: str) -> None:
        self._note()
        self.losses.append((code, reason))

    async def wait_for(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not is_true():
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_messages(self, count: int) -> list[bytes]:
        await self.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def wait_for_loss(self) -> tuple[int, str]:
        """The loss; also checks that it was told once and that nothing came after it."""
        await self.wait_for(lambda: bool(self.losses))
        await turn()
        assert len(self.losses) == 1
        assert self.calls_after_loss == 0
        return self.losses[0]

    def _note(self) -> None:
        self.calls_after_loss += bool(self.losses)
        self._changed.set()


async def turn(turns: int = 20) -> None:
    """Let the loop turn a few times, reading what has arrived."""
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        turned: asyncio.Future[None] = loop.create_future()
        # With a timer rather than call_soon: uvloop does not look at sockets between two callbacks of the same turn.
        loop.call_later(0, turned.set_result, None)
        await turned


async def wait_until_still(get_number: Callable[[], int]) -> int:
    """The number once it has not changed for many turns of the loop."""
    async with asyncio.timeout(PATIENCE):
        number = get_number()
        while True:
            await turn(50)
            if get_number() == number:
                return number
            number = get_number()


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of wire: what it runs over, and which library cuts the frames on either side."""

    medium: Literal["memory", "tcp", "unix", "tls"]
    is_client_fast: bool = False
    is_server_fast: bool = False

    def __str__(self) -> str:
        if self.medium == "memory":
            return "memory"
        client, server = (
            "picows" if is_fast else "websockets" for is_fast in (self.is_client_fast, self.is_server_fast)
        )
        return f"{client}-{self.medium}" if client == server else f"{client}-to-{server}"


SOCKETS = [
    Kind("tcp"),
    Kind("tcp", is_client_fast=True, is_server_fast=True),
    Kind("tcp", is_client_fast=True),
    Kind("tcp", is_server_fast=True),
    Kind("unix"),
    Kind("unix", is_client_fast=True, is_server_fast=True),
    Kind("tls"),
    Kind("tls", is_client_fast=True, is_server_fast=True),
]
KINDS = [Kind("memory"), *SOCKETS]


@dataclasses.dataclass
class Wire:
    """Two ends of a wire, each with a receiver that has not been started."""

    client: Any
    server: Any
    to_client: Recorder
    to_server: Recorder

    def start(self) -> None:
        self.client.start(self.to_client)
        self.server.start(self.to_server)


def get_server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def get_client_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


@asynccontextmanager
async def open_wire(
    kind: Kind,
    directory: Path,
    *,
    client_options: TransportOptions = DEFAULT_OPTIONS,
    server_options: TransportOptions = DEFAULT_OPTIONS,
) -> AsyncIterator[Wire]:
    """A wire of `kind` with nothing started; cut at the end."""
    if kind.medium == "memory":
        client, server = open_memory_transports()
        client.options, server.options = client_options, server_options
        yield Wire(client, server, Recorder(), Recorder())
        client.abort()
        await turn()
        return
    accepted: asyncio.Queue[Transport] = asyncio.Queue()

    def take(connection: Connection, _: HandshakeRequest) -> None:
        accepted.put_nowait(connection)

    is_tls, is_unix = kind.medium == "tls", kind.medium == "unix"
    async with await listen(
        take,
        unix=directory / "socket" if is_unix else None,
        ssl=get_server_tls() if is_tls else None,
        options=server_options,
        fast=kind.is_server_fast,
    ) as listener:
        url = listener.url if not is_tls else f"wss://localhost:{listener.port}/"
        tls = get_client_tls() if is_tls else None
        connection = await dial(url, ssl=tls, options=client_options, fast=kind.is_client_fast)
        wire = Wire(connection, await accepted.get(), Recorder(), Recorder())
        yield wire
        wire.client.abort()
        await listener.close(timeout=0)


# Peers that speak raw bytes.

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def build_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    is_masked: bool,
    is_last: bool = True,
    reserved: int = 0,
    length: int | None = None,
) -> bytes:
    """A frame, right or wrong. `length` says another length than the payload's."""
    size = len(payload) if length is None else length
    first = (0x80 if is_last else 0) | reserved << 4 | opcode
    bit = 0x80 if is_masked else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not is_masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def build_close(code: int, reason: bytes = b"") -> bytes:
    """The payload of a close frame."""
    return struct.pack("!H", code) + reason


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
"""A client's handshake up to its blank line."""


def answer_upgrade(head: bytes) -> bytes:
    """A server's answer to a handshake, up to its blank line."""
    key = next(
        line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n"
    )


class RawPeer:
    """One end of a TCP connection, in bytes and frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.is_client = is_client

    def write(self, *parts: bytes) -> None:
        """Write all parts in one go."""
        self.writer.write(b"".join(parts))

    def frame(self, opcode: int, payload: bytes = b"", **options: Any) -> bytes:
        """A frame masked as this side has to."""
        return build_frame(opcode, payload, **{"is_masked": self.is_client, **options})

    def text(self, *messages: str) -> bytes:
        return b"".join(self.frame(TEXT, message.encode()) for message in messages)

    async def read_head(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """An HTTP answer: status, headers with names in lower case, body."""
        lines = (await self.read_head()).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, body

    async def read_frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        async with asyncio.timeout(PATIENCE):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            assert bool(second & 0x80) != self.is_client, "the other side masks, and only the client's"
            mask = await self.reader.readexactly(4) if second & 0x80 else bytes(4)
            payload = await self.reader.readexactly(size)
            assert first & 0x70 == 0
        return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))

    async def read_close(self) -> tuple[int, str]:
        """The close frame, which has to be the next frame that is no pong."""
        opcode, payload = await self.read_frame()
        while opcode == PONG:
            opcode, payload = await self.read_frame()
        assert opcode == CLOSE
        return (int.from_bytes(payload[:2]), payload[2:].decode()) if payload else (1005, "")

    async def read_to_end(self) -> bytes:
        """Everything up to the end of the stream; also when it was cut."""
        parts: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            try:
                while part := await self.reader.read(65536):
                    parts.append(part)
            except ConnectionError:
                pass
        return b"".join(parts)

    def stop_reading(self) -> None:
        """Take nothing more from the socket."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def cut(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def open_raw_client(listener: Listener) -> AsyncIterator[RawPeer]:
    """A raw client of a listener."""
    port = listener.port
    if port is None:
        reader, writer = await asyncio.open_unix_connection(listener.url.removeprefix("unix:"))
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawPeer(reader, writer, is_client=True)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def serve_raw(talk: Callable[[RawPeer], Awaitable[None]]) -> AsyncIterator[str]:
    """A raw server that talks with each client, then closes; yields its URL."""
    talks: set[asyncio.Task[None]] = set()

    async def talk_then_close(peer: RawPeer) -> None:
        try:
            await talk(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            # The client under test may go at any time.
            return
        finally:
            peer.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk_then_close(RawPeer(reader, writer, is_client=False))))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"ws://{host}:{port}/"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@asynccontextmanager
async def open_under_test(
    side: Literal["client", "server"], *, fast: bool, options: TransportOptions = DEFAULT_OPTIONS
) -> AsyncIterator[tuple[Any, Recorder, RawPeer]]:
    """A connection of ours on `side`, started, with its receiver; and a raw peer, both after the handshake."""
    recorder = Recorder()
    if side == "server":
        accepted: asyncio.Queue[Connection] = asyncio.Queue()
        async with (
            await listen(lambda connection, _: accepted.put_nowait(connection), options=options, fast=fast) as listener,
            open_raw_client(listener) as peer,
        ):
            peer.write(UPGRADE, b"\r\n")
            assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
            connection = await accepted.get()
            connection.start(recorder)
            yield connection, recorder, peer
            connection.abort()
            await listener.close(timeout=0)
        return
    peers: asyncio.Queue[RawPeer] = asyncio.Queue()
    is_over = asyncio.Event()

    async def talk(peer: RawPeer) -> None:
        peer.write(answer_upgrade(await peer.read_head()), b"\r\n")
        peers.put_nowait(peer)
        await is_over.wait()

    async with serve_raw(talk) as url:
        connection = await dial(url, options=options, fast=fast)
        connection.start(recorder)
        peer = await peers.get()
        yield connection, recorder, peer
        connection.abort()
        is_over.set()
        await turn()


def split(data: bytes, sizes: Iterable[int]) -> Sequence[bytes]:
    """`data` in pieces of the given sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]
