"""The one socket of this process to an itx elsewhere: dialled when first needed, and kept alive from then on.

A socket's life is an **epoch**. Whatever was obtained in one (the main handle, handles of projects) is of no use in the
next, so everything asks whether its epoch is still the current one, by identity, after every wait. What a caller sees
is a connection that is there, or will be, or never will: it waits, within its own deadline, or is told why not.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal

from itx_notebook import capnweb as rpc
from itx_notebook._clock import Clock, TimerHandle
from itx_notebook.errors import ItxConnectionError, ItxError, get_itx_error_code

__all__ = ["Connection", "ConnectionStatus", "Dial", "Epoch", "from_wire_error"]

ConnectionStatus = Literal["idle", "connecting", "connected", "reconnecting", "refused", "closed"]
"""``refused``: the credentials were; nothing is dialled until :meth:`Connection.reconnect`. ``closed``: for good."""

Dial = Callable[[bool], Awaitable[rpc.Session]]
"""Opens a session. Told whether credentials must be asked for anew, because the last ones were refused."""

FIRST_DELAY: Final = 0.5
LAST_DELAY: Final = 10.0
_JITTER: Final = 0.25
"""``refused``: the credentials were; nothing is dialled until ``reconnect()``. ``closed``: for good."""

_PROBE_INTERVAL: Final = 45.0
_PROBE_TIMEOUT: Final = 10.0
_STRIKES: Final = 2

_REFUSALS: Final = frozenset({401, 403})
_WRONG_PLACE: Final = frozenset({400, 404, 405, 426})


class Epoch:
    """The life of one socket.

    Attributes
    ----------
    session : Session
        Its session.
    itx : RpcStub
        The main handle.
    lost : asyncio.Event
        Set when the socket is gone.
    """

    def __init__(self, session: rpc.Session) -> None:
        self.session = session
        self.itx = session.main
        self.lost = asyncio.Event()
        self._projects: dict[str, rpc.RpcPromise] = {}

    def get_project(self, id_or_slug: str) -> rpc.RpcPromise:
        """Return the handle of a project, as a promise to call on at once. One that turns out broken is not kept."""
        promise = self._projects.get(id_or_slug)
        if promise is None:
            promise = self._projects[id_or_slug] = self.itx.projects.get(id_or_slug)

            def evict(_: Exception) -> None:
                if self._projects.get(id_or_slug) is promise:
                    del self._projects[id_or_slug]

            rpc.on_broken(promise, evict)
        return promise


class Connection:
    """Keeps one session to a deployment. On one event loop; making one does no I/O.

    Parameters
    ----------
    dial : callable
        Opens a session.
    location : str
        Where to, for people: a URL or a path, without secrets.
    clock : Clock
        Times the delays and probes.
    first_delay, last_delay : float
        Seconds between failed dials: the first doubles until it is the last, and each is up to a quarter longer.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        location: str,
        clock: Clock,
        first_delay: float = FIRST_DELAY,
        last_delay: float = LAST_DELAY,
    ) -> None:
        self._delays = (first_delay, last_delay)
        self.location = location
        self._dial = dial
        self.clock = clock
        self._status: ConnectionStatus = "idle"
        self._since_ms = clock.now_ms()
        self._listeners: dict[object, Callable[[ConnectionStatus], None]] = {}
        self._epoch: Epoch | None = None
        self._was_connected = False
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[Epoch] | None = None
        self._refusal: ItxError | None = None
        self._last_failure: str | None = None
        self._probe_timer: TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None

    @property
    def status(self) -> ConnectionStatus:
        """How it stands."""
        return self._status

    @property
    def since_ms(self) -> int:
        """When it came to stand so: wall-clock milliseconds."""
        return self._since_ms

    @property
    def epoch(self) -> Epoch | None:
        """The current epoch; ``None`` while there is no socket."""
        return self._epoch

    def subscribe_status(self, listener: Callable[[ConnectionStatus], None]) -> Callable[[], None]:
        """Call `listener` with each new status; returns the function that ends it."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def ready(self, timeout: float | None = None) -> Epoch:  # noqa: ASYNC109  # tells what was tried, not only that
        """Return the current epoch, dialling if need be; wait up to `timeout` seconds. Cancelling is safe.

        Raises
        ------
        ItxConnectionError
            There was no connection in time, the credentials were refused, or it was closed for good.
        """
        if self._epoch is not None:
            return self._epoch
        if self._refusal is not None:
            raise self._refusal
        if self._status == "closed":
            raise ItxConnectionError(
                f"The connection to {self.location} was closed.",
                is_final=True,
                hint="Connect again: itx = itx_notebook.connect(...).",
            )
        self._start_dialling()
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            # Whoever waited may have gone before the answer came.
            self._waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._waiting)
        except TimeoutError:
            why = f": {self._last_failure}" if self._last_failure else "."
            raise ItxConnectionError(
                f"No connection to {self.location} within {timeout:g} s{why}",
                details={"location": self.location, "timeout": timeout},
            ) from None

    async def call(
        self,
        make: Callable[[Epoch], Awaitable[Any]],
        *,
        is_repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109
    ) -> Any:
        """Await ``make(epoch)`` once there is a connection; again in the next epoch if it is lost and that is harmless.

        Raises
        ------
        ItxError
            What the call raised there, with its code; :class:`ItxConnectionError` if it is not known whether it ran.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while True:
            epoch = await self.ready(None if end is None else max(0.0, end - loop.time()))
            try:
                return await make(epoch)
            except rpc.RpcError as error:
                failure = from_wire_error(error, self.location)
                if not (is_repeatable and isinstance(failure, ItxConnectionError)):
                    raise failure from None
                if self._epoch is epoch:
                    # The session ended before the news of it did; it will be replaced.
                    await epoch.lost.wait()

    def reconnect(self) -> None:
        """Dial anew, also after a refusal: credentials or claims have changed."""
        self._refusal = None
        epoch = self._epoch
        if epoch is not None:
            epoch.session.abort(rpc.RpcError("The client reconnects."))
        elif self._status != "closed":
            self._cancel(self._dialling)
            self._dialling = None
            self._start_dialling()

    def report_suspicion(self) -> None:
        """Somebody did not hear what should have come: find out now whether the other end is there."""
        if self._epoch is not None and (self._probe is None or self._probe.done()):
            self._probe = self._spawn(self._check(self._epoch))

    async def close(self) -> None:
        """Close it for good. Who waits is told. Repeating is harmless."""
        if self._status == "closed":
            return
        self._set_status("closed")
        self._cancel(self._dialling)
        self._stop_probing()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(ItxConnectionError(f"The connection to {self.location} was closed.", is_final=True))
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            await epoch.session.close()

    # Dialling

    def _start_dialling(self) -> None:
        if self._dialling is None or self._dialling.done():
            self._set_status("reconnecting" if self._was_connected else "connecting")
            self._dialling = self._spawn(self._keep_dialling())

    async def _keep_dialling(self) -> None:
        delay, last_delay = self._delays
        is_second_try = False
        while True:
            try:
                session = await self._dial(is_second_try)
            except (OSError, ItxError, rpc.RpcError) as error:
                status = error.status if isinstance(error, rpc.HandshakeError) else None
                if status in _REFUSALS and not is_second_try:
                    is_second_try = True
                    continue
                refusal = self._judge(error, status)
                if refusal is not None:
                    self._refuse(refusal)
                    return
                self._last_failure = str(error) or type(error).__name__
            else:
                self._publish(session)
                return
            await self.clock.sleep(delay * (1 + _JITTER * random.random()))  # noqa: S311  # spreads, hides nothing
            delay = min(last_delay, delay * 2)

    def _judge(self, error: Exception, status: int | None) -> ItxError | None:
        """Return the refusal if trying again would change nothing."""
        if status in _REFUSALS:
            return ItxConnectionError(
                f"{self.location} refused the credentials ({status}).",
                is_final=True,
                details={"location": self.location, "status": status},
                hint="Give another token: connect(url=…, token=…), ITX_TOKEN, or sign in again.",
            )
        if status in _WRONG_PLACE:
            return ItxConnectionError(
                f"There is no itx at {self.location} ({status}).",
                is_final=True,
                details={"location": self.location, "status": status},
                hint="Check the URL: it is the deployment's, such as https://itx.example.com.",
            )
        return error if isinstance(error, ItxError) else None

    def _refuse(self, refusal: ItxError) -> None:
        self._refusal = refusal
        self._set_status("refused")
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(refusal)

    def _publish(self, session: rpc.Session) -> None:
        epoch = self._epoch = Epoch(session)
        self._was_connected = True
        self._last_failure = None
        session.call_when_closed(lambda: self._lose(epoch))
        self._set_status("connected")
        self._plan_probe()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(epoch)

    def _lose(self, epoch: Epoch) -> None:
        epoch.lost.set()
        # The death of an old socket is none of its successor's business.
        if self._epoch is epoch:
            self._epoch = None
            self._stop_probing()
            self._start_dialling()

    # Liveness: a socket can be half open for ever, and a peer can hang behind a live one.

    def _plan_probe(self) -> None:
        self._probe_timer = self.clock.call_later(_PROBE_INTERVAL, self.report_suspicion)

    def _stop_probing(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self._cancel(self._probe)

    async def _check(self, epoch: Epoch) -> None:
        for _ in range(_STRIKES):
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT):
                    await epoch.itx.describe()
            except TimeoutError:
                continue
            except rpc.RemoteError:
                # An answer is an answer.
                pass
            except rpc.RpcError:
                return
            if self._epoch is epoch:
                self._plan_probe()
            return
        epoch.session.abort(rpc.RpcError("The peer did not answer twice."))

    # Small things

    def _set_status(self, status: ConnectionStatus) -> None:
        if status == self._status:
            return
        self._status = status
        self._since_ms = self.clock.now_ms()
        for listener in tuple(self._listeners.values()):
            listener(status)

    @staticmethod
    def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Background work belongs to no cell.
        return asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    @staticmethod
    def _cancel(task: asyncio.Task[None] | None) -> None:
        if task is not None:
            task.cancel()


def from_wire_error(error: rpc.RpcError, location: str) -> ItxError:
    """Return the error of ours that `error` stands for: its code decides, and nothing else of it."""
    if isinstance(error, (rpc.RemoteError, rpc.RemoteThrown)):
        props = error.props if isinstance(error, rpc.RemoteError) else {}
        details = props.get("details")
        return ItxError(
            error.message,
            code=get_itx_error_code(error) or "INTERNAL",
            details=details if isinstance(details, dict) else None,
        )
    return ItxConnectionError(f"The connection to {location} was lost: {error.message}", details={"location": location})
