"""Sessions recorded with the original engine, sent frame by frame into the engine's door over a real WebSocket.

What the original's client sent is sent again, byte for byte; what comes back is compared message by message with what
the original's server said. Between messages that do not depend on each other there is no order, so a frame is sent
when everything that had come before it then has come now. Releases are counted, their order is free.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.connection import Connection
from itx_notebook.capnweb.websocket import dial
from itx_notebook.doors import Deployment
from tests.capnweb.wires import Recorder
from tests.doors.cases import MEMBER, PROJECT_ID
from tests.doors.doors import ADMIN_SECRET, Site, open_site
from tests.streams.test_golden import (
    RECORDED,
    Recording,
    in_any_order,
    make_unrecorded_sessions,
    settled,
    unescape,
)

Frame = list[Any]


def read_frames(path: Path) -> list[tuple[str, str]]:
    """Each recorded frame: ``"c2s"`` or ``"s2c"``, and its text."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["dir"], line["text"]) for line in lines if line["dir"] in ("c2s", "s2c")]


def read_target(path: Path) -> str:
    """What the recorded client asked for."""
    return str(json.loads(path.read_text().splitlines()[0])["url"])


def sort_out(frames: list[Frame]) -> dict[str, Any]:
    """The answers by the number of their call, the calls in order, and how many releases there were."""
    answers = {frame[1]: _say_answer(frame) for frame in frames if frame[0] in ("resolve", "reject")}
    calls = [settled(unescape(frame[1][3][0])) for frame in frames if frame[0] == "push"]
    return {"answers": answers, "calls": calls, "releases": sum(frame[0] == "release" for frame in frames)}


def _say_answer(frame: Frame) -> Any:
    if frame[0] == "reject":
        # Name, stack and properties are the host's; the text is the engine's.
        return ("reject", frame[2][2])
    return ("resolve", in_any_order(settled(unescape(frame[2]))))


def count(frames: list[Frame]) -> dict[str, int]:
    kinds = [frame[0] if frame[0] != "reject" else "resolve" for frame in frames]
    return {kind: kinds.count(kind) for kind in ("resolve", "push")}


async def replay(site: Site, path: Path) -> Connection:
    """Be the recorded client, and compare; the connection stays open."""
    headers = {"Authorization": f"Bearer {ADMIN_SECRET}"}
    connection = await dial(site.server.url.rstrip("/") + read_target(path), headers=headers)
    recorder = Recorder()
    connection.start(recorder)
    expected: list[Frame] = []

    def heard() -> list[Frame]:
        return [json.loads(message) for message in recorder.messages]

    def has_come() -> bool:
        now, then = count(heard()), count(expected)
        return all(now[kind] >= then[kind] for kind in then)

    for way, text in read_frames(path):
        if way == "s2c":
            expected.append(json.loads(text))
            continue
        async with asyncio.timeout(10):
            await recorder.wait_for(has_come)
        connection.send([text.encode()])
    async with asyncio.timeout(10):
        await recorder.wait_for(has_come)
        await recorder.wait_for(lambda: sort_out(heard())["releases"] >= sort_out(expected)["releases"])
    assert sort_out(heard()) == sort_out(expected)
    await site.deployment.engine.settle()
    return connection


async def test_recorded_sessions_when_sent_again_are_answered_alike_over_a_socket(deployment: Deployment) -> None:
    assert len(RECORDED) == 11
    async with open_site(deployment) as site:
        # The original's host did not tell its engine that a socket was gone: its logs have no fact of it, its roster
        # shows clients that had left. Ours tells, so here nobody leaves before the end.
        connections: list[Connection] = []
        for path in RECORDED:
            if path.name.startswith("09"):
                await make_unrecorded_sessions(deployment.engine, Recording(path))
            connections.append(await replay(site, path))
        for connection in connections:
            connection.abort()


@pytest.mark.parametrize("who", ["", "user_member"])
async def test_engine_is_for_admins_alone(deployment: Deployment, who: str) -> None:
    async with open_site(deployment) as site:
        site.name(MEMBER)
        for namespace in (PROJECT_ID, "global", "no-such"):
            with pytest.raises(rpc.HandshakeError) as refused:
                await rpc.open_session(
                    f"{site.server.url}api/streams/%2Fa?namespace={namespace}", headers={"x-who": who}
                )
            expected = (404, '{"error": "not found"}') if who else (401, "Unauthorized")
            assert (refused.value.status, refused.value.body) == expected
