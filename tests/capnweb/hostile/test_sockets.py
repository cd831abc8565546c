"""Hostile sequences over a real socket, sent by a peer that speaks raw frames to a server of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.hostile import messages, references, streams, values
from tests.capnweb.hostile.cases import Case
from tests.capnweb.hostile.targets import SECRET, Main, Watch
from tests.capnweb.sessions import turn
from tests.capnweb.wires import BINARY, CLOSE, PATIENCE, TEXT, UPGRADE, RawPeer

EVERY = 7
"""Of the large tables one case in so many: what differs from the machine alone is the way in and out."""


def choose() -> Iterator[Case]:
    """Yield every malformed message, and some of all else that needs no limits of its own and no test to go on."""
    for case in (*messages.CASES, *values.CASES[::EVERY], *references.CASES[::EVERY], *streams.CASES[::2]):
        waits = any(method in str(case.frames) for method in ("later", "measure", "write_into", "['abort']"))
        if case.limits == rpc.Limits() and not waits:
            yield case


def same(messages: list[Any]) -> list[str]:
    """Return messages without their order: what is given back late may come later than in a machine."""
    return sorted(json.dumps(message) for message in messages)


class Attacker:
    """A raw peer that sends messages and hears answers."""

    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer
        self._last_push = 0

    def send(self, case: Case) -> None:
        for message in case.messages:
            if case.ends is None:
                self._last_push += json.loads(message)[0] in ("push", "stream", "pipe")
            self._peer.write(self._peer.frame(TEXT, message))

    async def hear_to_the_end(self) -> tuple[list[Any], int]:
        """Return what is said until the connection is closed, and its close code."""
        said: list[Any] = []
        while True:
            opcode, payload = await self._peer.read_frame()
            if opcode == CLOSE:
                return said, int.from_bytes(payload[:2])
            said.append(json.loads(payload))

    async def hear(self) -> list[Any]:
        """Return what is said until an echo comes back, a second one for what is said a turn later."""
        said: list[Any] = []
        for _ in range(2):
            self._last_push += 1
            self._peer.write(self._peer.text('["push","echo"]', f'["pull",{self._last_push}]'))
            echo = ["resolve", self._last_push, "echo"]
            while (message := json.loads((await self._peer.read_frame())[1])) != echo:
                said.append(message)
        return said


@asynccontextmanager
async def open_peer(server: rpc.Server) -> AsyncIterator[RawPeer]:
    """A raw peer of `server`, cut at the end."""
    assert server.port is not None
    peer = RawPeer(*await asyncio.open_connection("127.0.0.1", server.port), is_client=True)
    try:
        yield peer
    finally:
        peer.cut()


@asynccontextmanager
async def open_attacker(server: rpc.Server) -> AsyncIterator[RawPeer]:
    """The same, after the handshake."""
    async with open_peer(server) as peer:
        peer.write(UPGRADE, b"\r\n")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
        yield peer


async def run_case(case: Case, peer: RawPeer) -> None:
    attacker = Attacker(peer)
    attacker.send(case)
    if case.ends is None:
        said = await attacker.hear()
    else:
        said, code = await attacker.hear_to_the_end()
        assert code == 3000, case.name
        if case.is_answered:
            assert said.pop()[0] == "abort", case.name
    assert same(said) == same(list(case.says)), case.name
    assert SECRET not in str(said)


@pytest.mark.parametrize("fast", [False, True], ids=["websockets", "picows"])
async def test_sessions_answer_hostile_sequences_as_machines_do(fast: bool) -> None:
    watch = Watch()
    async with rpc.serve(lambda _: Main(watch), fast=fast) as server:
        for case in choose():
            async with open_attacker(server) as peer, asyncio.timeout(PATIENCE):
                await run_case(case, peer)
    assert watch.leaks == []


async def test_frames_that_are_no_text_end_the_session() -> None:
    async with rpc.serve(lambda _: Main(Watch())) as server:
        async with open_attacker(server) as peer:
            peer.write(peer.frame(BINARY, b'["push",1]'))
            assert (await peer.read_close())[0] == 1003
        async with open_attacker(server) as peer:
            peer.write(peer.frame(TEXT, b'["push","\xff"]'))
            assert (await peer.read_close())[0] == 1007


async def test_a_message_over_the_limit_ends_the_session_before_it_is_read() -> None:
    options = rpc.Options(limits=rpc.Limits(max_message_bytes=1000))
    async with rpc.serve(lambda _: Main(Watch()), options=options) as server, open_attacker(server) as peer:
        peer.write(peer.frame(TEXT, b"x" * 100, length=2**40))
        assert (await peer.read_close())[0] == 1009


async def test_a_peer_that_asks_and_never_reads_is_cut() -> None:
    limits = rpc.Limits(outbound_low_bytes=1000, outbound_high_bytes=2000, max_outbound_bytes=1_000_000)
    options = rpc.Options(limits=limits)
    async with rpc.serve(lambda _: Main(Watch()), options=options) as server, open_attacker(server) as peer:
        [session] = server.sessions
        peer.write(peer.text(json.dumps(["push", "x" * 100_000])))
        async with asyncio.timeout(PATIENCE):
            # The system takes some megabytes before anything waits here.
            for number in range(2, 500):
                peer.write(peer.text('["push",["pipeline",1]]', f'["pull",{number}]'))
                # Asked for in one turn, they would be too many at once.
                await turn(2)
            assert (await session.wait_closed())[0] == 1006
        assert "does not read" in str(session.error)


async def test_a_peer_that_asks_for_too_much_at_once_is_told() -> None:
    options = rpc.Options(limits=rpc.Limits(max_outbound_bytes=2 * 1024 * 1024))
    async with rpc.serve(lambda _: Main(Watch()), options=options) as server, open_attacker(server) as peer:
        [session] = server.sessions
        large = json.dumps(["push", "x" * 1_000_000])
        many = [frame for n in range(2, 100) for frame in ('["push",["pipeline",1]]', f'["pull",{n}]')]
        peer.write(peer.text(large, *many))
        async with asyncio.timeout(PATIENCE):
            opcode, payload = await peer.read_frame()
            answered = 0
            while opcode == TEXT:
                answered += len(payload)
                opcode, payload = await peer.read_frame()
            assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 3000)
        assert 0 < answered < 4 * 1024 * 1024
        assert "at once (max_outbound_bytes)" in str(session.error)


async def test_the_longest_answer_does_not_end_the_session() -> None:
    longest = rpc.Limits().max_message_bytes - 100
    async with (
        rpc.serve(lambda _: Main(Watch())) as server,
        rpc.connect(server.url) as api,
    ):
        text = "x" * longest
        assert await api.echo(text) == text
        assert await api.square(3) == 9


async def test_frames_without_a_handshake_are_no_session() -> None:
    async with rpc.serve(lambda _: Main(Watch())) as server, open_peer(server) as peer:
        peer.write(peer.text('["push",1]'), b"\r\n\r\n")
        assert b" 400 " in await peer.read_to_end()
        assert server.sessions == set()
