"""Carrying chunks: from a source here to the peer, from the peer into a sink here, and from a pipe into a blob.

Everything else in ``protocol`` goes by callbacks; these are coroutines, one for each stream under way, since what an
application's source or sink does takes as long as it likes. What goes wrong with a stream is told to its other end,
and to who listens for failed calls; what becomes of a blob is the caller's to hear.
"""

from __future__ import annotations

import array
from contextlib import suppress

from itx_notebook.capnweb.protocol.channels import Channel
from itx_notebook.capnweb.protocol.errors import RpcError
from itx_notebook.capnweb.protocol.held import Meter
from itx_notebook.capnweb.protocol.hooks import Runtime, Task
from itx_notebook.capnweb.protocol.pipes import Blob, Readable, Sink, Source
from itx_notebook.capnweb.protocol.writers import Writer

__all__ = ["Carrier", "feed", "read_blob"]


class Carrier:
    """Carries chunks from a source to a writer, until the source ends or the peer wants no more.

    Parameters
    ----------
    source : Source
        Where the chunks come from.
    writer : Writer
        Where they go.
    runtime : Runtime
        Runs it, from its next turn on.
    """

    def __init__(self, source: Source, writer: Writer, runtime: Runtime) -> None:
        self._source = source
        self._writer = writer
        self._runtime = runtime
        self._is_taking = False
        self._task: Task = runtime.spawn(self._run())

    async def _run(self) -> None:
        writer = self._writer
        # From here on only: a task that is cancelled before it has begun would leave its source as it is.
        writer.watch(self._interrupt)
        try:
            is_complete = await self._carry()
        except GeneratorExit:
            # The loop is gone, and nothing can be waited for.
            raise
        except BaseException as error:
            is_stopped = writer.error is not None
            await writer.abort(error if isinstance(error, Exception) else None)
            await self._stop_source(writer.error or RpcError("The stream was given up."))
            if not is_stopped and not isinstance(error, Exception):
                raise
        else:
            if is_complete:
                # The source has ended; nobody is left to hear that the peer did not take all of it.
                with suppress(Exception):
                    await writer.close()

    async def _carry(self) -> bool:
        """Return whether the source came to its end; what it raises is the peer's to know."""
        while True:
            self._is_taking = True
            try:
                chunk = await self._source.take()
            except StopAsyncIteration:
                return True
            except Exception as error:
                _blame(self._source, error, self._runtime)
                await self._writer.abort(error)
                return False
            finally:
                self._is_taking = False
            await self._writer.write(chunk)

    def _interrupt(self) -> None:
        """Wait for the source no longer. The writer needs no such thing: it knows already."""
        if self._is_taking:
            self._task.cancel()

    async def _stop_source(self, reason: Exception) -> None:
        try:
            await self._source.stop(reason)
        except Exception as error:
            _blame(self._source, error, self._runtime)


def _blame(end: Source | Sink, error: Exception, runtime: Runtime) -> None:
    """Tell who listens what the application's own end raised; what came from the peer is known there."""
    if end.owned is not None:
        runtime.call_failed(end.owned, error)


async def feed(channel: Channel, sink: Sink, runtime: Runtime) -> None:
    """Carry chunks from a peer's writes to a sink, one at a time; acknowledge each when the sink has taken it."""
    while True:
        try:
            written = await channel.receive()
        except Exception as error:
            try:
                await sink.abort(error)
            except Exception as fault:
                _blame(sink, fault, runtime)
            return
        try:
            if written.is_end:
                await sink.close()
            else:
                await sink.write(written.take_chunk())
        except Exception as error:
            _blame(sink, error, runtime)
            written.refuse(error)
            channel.cancel(error)
            return
        written.acknowledge()
        if written.is_end:
            return


async def read_blob(readable: Readable, type_: str, meter: Meter) -> Blob:
    """Read a blob to its end.

    Raises
    ------
    RpcError
        `meter`, which all blobs that a session is reading share, has no room for it.
    TypeError
        A chunk is not bytes.
    """
    parts: list[bytes] = []
    held_bytes = 0
    try:
        async for chunk in readable:
            if not isinstance(chunk, (bytes, array.array)):
                raise TypeError(f"A blob's chunks are bytes, not {type(chunk).__name__}.")
            part = bytes(chunk)
            held_bytes += len(part)
            if not meter.add(len(part)):
                raise RpcError(f"The blobs that are arriving exceed {meter.limit_bytes} bytes (max_blob_bytes).")
            parts.append(part)
    except Exception as error:
        await readable.cancel(error)
        raise
    finally:
        meter.remove(held_bytes)
    return Blob(b"".join(parts), type_)
