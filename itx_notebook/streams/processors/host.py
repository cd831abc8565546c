"""The processors of this process: which there are by name, on which streams they run, and what happens when one fails.

A processor runs on a stream because somebody attached it here, or because the stream is configured to have it
(``subscription-configured``), which any process that knows the name then does by itself. Either way the stream sees an
outbound subscriber that says who it is.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError
from itx_notebook.streams.core import CoreState, core_type
from itx_notebook.streams.processors.attachment import Attachment, ProcessedStream
from itx_notebook.streams.processors.breaker import CircuitBreaker
from itx_notebook.streams.processors.contract import ProcessorContract
from itx_notebook.streams.processors.processor import Appendable, Processor
from itx_notebook.types import StreamEvent

__all__ = ["Build", "ProcessorHost", "get_configured_processor"]

_log = logging.getLogger("itx_notebook")

Build = Callable[[], Processor[Any]]
"""Makes a processor for one stream: a class, or what ``@processor`` made."""

_DISCONNECTED: Final = core_type("subscriber-disconnected")
_WOKEN: Final = core_type("woken")
_RESUMED: Final = core_type("resumed")
_CONFIGURED: Final = core_type("subscription-configured")


class HostEngine(Protocol):
    """What the host asks of its engine."""

    @property
    def clock(self) -> Clock:
        """Its time."""
        ...

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run background work that the engine's end waits for."""
        ...


class ProcessorHost:
    """All processors that run in this process. On the engine's loop."""

    def __init__(self, engine: HostEngine) -> None:
        self._engine = engine
        self._incarnation_id = str(uuid.uuid4())
        self._builds: dict[str, Build] = {CircuitBreaker.contract.slug: CircuitBreaker}
        self._attachments: dict[ProcessedStream, dict[str, Attachment]] = {}
        self._is_closed = False

    @property
    def names(self) -> list[str]:
        """The names that a stream may be configured with."""
        return list(self._builds)

    def add(self, name: str, build: Build, *, replace: bool = False) -> None:
        """Make a processor known under a name: streams that are configured with it run it from now on.

        Raises ``BAD_REQUEST`` if the name is taken, unless `replace`; what runs already goes on as it is.
        """
        if name in self._builds and not replace:
            raise ItxError(
                f'Stream processor "{name}" is already registered on this host',
                code="BAD_REQUEST",
                hint="Give it another name, or replace=True for what is started from now on.",
            )
        self._builds[name] = build

    def register(self, build: Build, *, name: str | None = None) -> str:
        """The same under the processor's slug, or a name of one's own; the newest counts. Returns the name."""
        slug = _make_processor(build).contract.slug.strip()
        known = slug if name is None else name
        self.add(known, build, replace=True)
        return known

    async def attach(
        self,
        stream: ProcessedStream,
        name: str | None = None,
        *,
        key: str | None = None,
        view: Appendable | None = None,
    ) -> Attachment:
        """Run the processor `name` on a stream, from its snapshot on; returns when it is connected.

        One that runs under the same key is stopped first.

        Parameters
        ----------
        name : str, optional
            May be left out while there is only one.
        key : str, optional
            The subscription key, under which the snapshot is kept too; ``processor:<name>`` if absent.
        view : object with ``append``, optional
            What the processor's hooks are given as their stream; the engine's own if absent.
        """
        known = self._resolve(name)
        return await self._attach(stream, known, _make_processor(self._builds[known]), key=key, view=view)

    async def run(
        self, stream: ProcessedStream, build: Build, *, key: str | None = None, view: Appendable | None = None
    ) -> Attachment:
        """The same for a processor that has no name here; it runs under its slug."""
        processor = _make_processor(build)
        return await self._attach(stream, processor.contract.slug.strip(), processor, key=key, view=view)

    async def _attach(
        self,
        stream: ProcessedStream,
        name: str,
        processor: Processor[Any],
        *,
        key: str | None,
        view: Appendable | None,
    ) -> Attachment:
        own = key or f"processor:{name}"
        mine = self._attachments.setdefault(stream, {})
        is_configured = own in stream.load().subscriptions_by_key
        attachment = self._make(stream, name, own, processor, is_configured=is_configured, view=view)
        # Entered first: nothing that happens while the old one stops may start a third.
        old, mine[own] = mine.get(own), attachment
        try:
            if old is not None:
                await old.stop()
            await attachment.connect()
        except BaseException:
            if mine.get(own) is attachment:
                del mine[own]
            await attachment.stop()
            raise
        return attachment

    def try_get(self, stream: ProcessedStream, key: str) -> Attachment | None:
        """What runs on a stream under a subscription key."""
        return self._attachments.get(stream, {}).get(key)

    def get_all(self, stream: ProcessedStream) -> list[Attachment]:
        """What runs on a stream."""
        return [each for each in self._attachments.get(stream, {}).values() if not each.is_stopped]

    # -- for the engine ----------------------------------------------------------------------------------------------

    def after_commit(self, stream: ProcessedStream, state: CoreState, committed: Sequence[StreamEvent]) -> None:
        """Run what the stream is configured to have, and let go of what it no longer is. Starts, and never raises."""
        mine = self._attachments.get(stream)
        if not (mine or state.subscriptions_by_key) or self._is_closed:
            return
        if all(event.type == _DISCONNECTED for event in committed):
            # Otherwise a connection that ends would bring itself back.
            return
        if mine is None:
            mine = self._attachments[stream] = {}
        # A pause is why many a processor fails: it cannot append.
        renewed = any(event.type in (_WOKEN, _RESUMED) for event in committed)
        configured_anew = {event.payload["subscriptionKey"].strip() for event in committed if event.type == _CONFIGURED}
        for key, attachment in tuple(mine.items()):
            if attachment.is_stopped and key in configured_anew:
                del mine[key]
            elif attachment.is_configured and key not in state.subscriptions_by_key:
                del mine[key]
                self._engine.start(attachment.stop("subscription-removed"))
            elif renewed or key in configured_anew:
                attachment.pardon()
            if key in mine and attachment.wants_connection:
                self._engine.start(attachment.try_connect())
        for key, entry in state.subscriptions_by_key.items():
            name = get_configured_processor(entry)
            if key not in mine and name is not None and name in self._builds:
                self._start_configured(stream, name, key, mine)

    def _start_configured(self, stream: ProcessedStream, name: str, key: str, mine: dict[str, Attachment]) -> None:
        try:
            processor = _make_processor(self._builds[name])
            attachment = self._make(stream, name, key, processor, is_configured=True, view=None)
        except Exception:
            # The commit that is being told of stands, whatever people's code does.
            _log.warning("could not make the processor %s for %s", name, stream.path, exc_info=True)
            return
        mine[key] = attachment
        self._engine.start(attachment.try_connect())

    def end_life(self, stream: ProcessedStream) -> None:
        """A stream's incarnation is over: break off what its processors are doing. Its next wake brings them back."""
        for attachment in self._attachments.get(stream, {}).values():
            attachment.break_off()

    async def close(self) -> None:
        """Stop all of them, without a word to the streams: the process is going."""
        self._is_closed = True
        for attachment in [each for mine in self._attachments.values() for each in mine.values()]:
            await attachment.abandon()
        self._attachments.clear()

    def _make(
        self,
        stream: ProcessedStream,
        name: str,
        key: str,
        processor: Processor[Any],
        *,
        is_configured: bool,
        view: Appendable | None,
    ) -> Attachment:
        return Attachment(
            stream,
            name,
            key,
            processor,
            view=stream if view is None else view,
            clock=self._engine.clock,
            incarnation_id=self._incarnation_id,
            is_configured=is_configured,
        )

    def _resolve(self, name: str | None) -> str:
        registered = ", ".join(self._builds) or "none"
        if name is None:
            if len(self._builds) == 1:
                return next(iter(self._builds))
            raise ItxError(
                f"processorName is required when a host has more than one processor (registered: {registered})",
                code="BAD_REQUEST",
            )
        if name not in self._builds:
            raise ItxError(
                f'Unknown stream processor "{name}" on this host (registered: {registered})',
                code="NOT_FOUND",
                hint="Register it first; a processor is code, which the store does not keep.",
            )
        return name


def _make_processor(build: object) -> Processor[Any]:
    made = build() if callable(build) else build
    if not isinstance(made, Processor) or not isinstance(getattr(made, "contract", None), ProcessorContract):
        raise ItxError(
            f"{build!r} makes no processor with a contract.",
            code="BAD_REQUEST",
            hint="Give a subclass of Processor that has a contract, or a function decorated with @processor(slug).",
        )
    return made


def get_configured_processor(entry: Mapping[str, Any]) -> str | None:
    """The processor that a configured subscription names, in our own form or in the original's; else ``None``."""
    target = entry["latestConfiguredEvent"]["payload"]["subscriber"]["callable"]
    if target.get("type") == "in-process":
        name = target.get("processorName")
    else:
        merged = target.get("transformInput")
        merged = merged.get("shallowMerge") if isinstance(merged, dict) else None
        name = merged.get("processorName") if isinstance(merged, dict) else None
    return name if isinstance(name, str) else None
