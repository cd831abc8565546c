"""Our server of the matrix, in this process; ``../node/server.mjs`` is the original's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from itx_notebook import capnweb as rpc
from tests.capnweb.matrix.main import Connection, Main
from tests.capnweb.matrix.noise import hear_noise

__all__ = ["serve_ours"]


@asynccontextmanager
async def serve_ours(options: rpc.Options, *, fast: bool | None = None) -> AsyncIterator[str]:
    """Serve WebSocket sessions and HTTP batches; gives the URL. `fast` chooses the WebSocket library."""
    connections: list[Connection] = []
    noise: list[str] = []
    loop = asyncio.get_running_loop()

    def make_main(request: rpc.HandshakeRequest) -> Main:
        connection = Connection()
        connections.append(connection)
        if request.is_upgrade:
            loop.call_soon(attach, connection)
        return Main(connection, connections, noise)

    def attach(connection: Connection) -> None:
        # The session is made right after its main object, in the same turn of the loop.
        taken = {other.session for other in connections}
        (session,) = [session for session in server.sessions if session not in taken]
        connection.session = session
        ended = loop.create_task(session.wait_closed())
        ended.add_done_callback(lambda task: connection.ended.set_result(task.result()))

    with hear_noise(noise, "server"):
        async with rpc.serve(make_main, options=options, fast=fast) as server:
            yield server.url
