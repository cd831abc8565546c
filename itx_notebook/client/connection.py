"""The one socket of this process to an itx elsewhere: dialled when first needed, and kept alive from then on.

A socket's life is an **epoch**. Whatever was obtained in one (the main handle, handles of projects) is of no use in the
next, so everything asks whether its epoch is still the current one, by identity, after every wait. What a caller sees
is a connection that is there, or will be, or never will: it waits, within its own deadline, or is told why not.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import random
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from itx_notebook import capnweb as rpc
from itx_notebook._clock import Clock, TimerHandle
from itx_notebook.doors.texts import TAKES_TEXTS
from itx_notebook.errors import ItxConnectionError, ItxError, as_itx_error, get_itx_error_code

__all__ = ["SESSION_OPTIONS", "Connection", "ConnectionStatus", "Dial", "Epoch", "from_wire_error", "within"]

_log = logging.getLogger("itx_notebook")

ConnectionStatus = Literal["idle", "connecting", "connected", "reconnecting", "refused", "closed"]
"""``refused``: the credentials were; nothing is dialled until :meth:`Connection.reconnect`. ``closed``: for good."""

Dial = Callable[[bool], Awaitable[rpc.Session]]
"""Opens a session. Told whether credentials must be asked for anew, because the last ones were refused."""

FIRST_DELAY: Final = 0.5
LAST_DELAY: Final = 10.0
_JITTER: Final = 0.25
_STEADY: Final = 10.0
"""Seconds after which a socket counts as a success. One that is lost sooner counts as a failed dial: a peer that lets
everybody in and drops them at once must not be dialled without end."""

_DIAL_TIMEOUT: Final = 15.0
"""Seconds for a whole dial, asking for credentials included."""

_PROBE_INTERVAL: Final = 15.0
_PROBE_TIMEOUT: Final = 10.0
_STRIKES: Final = 2
_SLEPT: Final = 5.0
"""Seconds by which the wall clock must leave the other behind for this machine to have slept."""

_MAX_ATTEMPTS: Final = 5
"""How many epochs one call may outlive: it may be the very reason why they end, by its size for example."""

SESSION_OPTIONS: Final = rpc.Options(limits=rpc.Limits(max_outbound_bytes=64 * 1024 * 1024))
"""How the sessions of a client behave: an append may be as large as a message may be."""

_REFUSALS: Final = frozenset({401, 403})
_WRONG_PLACE: Final = frozenset({301, 302, 303, 307, 308, 400, 404, 405, 426})


class Epoch:
    """The life of one socket.

    Attributes
    ----------
    session : Session
        Its session.
    itx : RpcStub
        The main handle.
    lost : asyncio.Event
        Set when the socket is gone, or has been replaced.
    since : float
        When it began, on the monotonic clock.
    takes_texts : bool
        Whether the other end is known to take events as texts.
    """

    def __init__(self, session: rpc.Session, since: float) -> None:
        self.session = session
        self.itx = session.main
        self.lost = asyncio.Event()
        self.since = since
        self.takes_texts = False
        self._projects: dict[str, rpc.RpcPromise] = {}

    def get_project(self, id_or_slug: str) -> rpc.RpcPromise:
        """Return the handle of a project, as a promise to call on at once. One that is refused is not kept."""
        promise = self._projects.get(id_or_slug)
        if promise is None:
            promise = self._projects[id_or_slug] = self.itx.projects.get(id_or_slug)
            # Asked for, because a peer tells of nothing else that a call has failed.
            rpc.pull(promise).add_done_callback(lambda answer: self._check(id_or_slug, promise, answer))
            rpc.pull(promise.describe()).add_done_callback(self._note_description)
        return promise

    def _note_description(self, answer: asyncio.Future[Any]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            description = answer.result()
            self.takes_texts = isinstance(description, dict) and description.get(TAKES_TEXTS) is True

    def _check(self, id_or_slug: str, promise: rpc.RpcPromise, answer: asyncio.Future[Any]) -> None:
        is_refused = answer.cancelled() or answer.exception() is not None
        if is_refused and self._projects.get(id_or_slug) is promise:
            del self._projects[id_or_slug]


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
    chance : callable
        Gives the share of that quarter, from 0 to 1.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        location: str,
        clock: Clock,
        first_delay: float = FIRST_DELAY,
        last_delay: float = LAST_DELAY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.location = location
        self.clock = clock
        self._dial = dial
        self._delays = (first_delay, last_delay)
        self._chance = chance
        self._status: ConnectionStatus = "idle"
        self._since_ms = clock.now_ms()
        self._skew = self._read_skew()
        self._listeners: dict[object, Callable[[ConnectionStatus], object]] = {}
        self._refusal: ItxError | None = None
        self._last_failure: str | None = None
        self._forget()
        _connections.add(self)

    def _forget(self) -> None:
        """Begin from nothing: what there was belongs to another loop, or there was nothing."""
        self._epoch: Epoch | None = None
        self._was_connected = False
        self._failures = 0
        self._asks_anew = False
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[Epoch] | None = None
        self._probe_timer: TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None
        if self._status not in ("refused", "closed"):
            self._status = "idle"

    @property
    def status(self) -> ConnectionStatus:
        """How it stands."""
        return self._status

    @property
    def since_ms(self) -> int:
        """When it came to stand so: wall-clock milliseconds."""
        return self._since_ms

    @property
    def last_failure(self) -> str | None:
        """Why the last dial failed, or why none is tried any more; ``None`` after one that did not fail."""
        return self._last_failure if self._refusal is None else self._refusal.message

    @property
    def epoch(self) -> Epoch | None:
        """The current epoch; ``None`` while there is no socket."""
        return self._epoch

    def subscribe_status(self, listener: Callable[[ConnectionStatus], object]) -> Callable[[], None]:
        """Call `listener` with each new status; returns the function that ends it."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def ready(self, timeout: float | None = None) -> Epoch:  # noqa: ASYNC109  # of the clock, and the error tells what was tried
        """Return the current epoch, dialling if need be; wait up to `timeout` seconds. Cancelling is safe.

        Raises
        ------
        ItxConnectionError
            There was no connection in time, the credentials were refused, or it was closed for good.
        """
        if self._epoch is not None:
            return self._epoch
        if self._refusal is not None:
            # Afresh, or every time it is raised its traceback would grow.
            raise self._refusal.with_traceback(None)
        if self._status == "closed":
            raise self._make_closed()
        self._start_dialling()
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            # Whoever waited may have gone before the answer came.
            self._waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            async with within(self.clock, timeout):
                return await asyncio.shield(self._waiting)
        except TimeoutError:
            why = f": {self._last_failure}" if self._last_failure else "."
            raise ItxConnectionError(
                f"No connection to {self.location} within {timeout:g} s{why}",
                details={"location": self.location, "timeout": timeout},
                hint="It is tried again and again: call again, or check the URL and whether the server runs.",
            ) from None

    async def call(
        self,
        make: Callable[[Epoch], Awaitable[Any]],
        *,
        is_repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  # of one gap, not of the call
    ) -> Any:
        """Await ``make(epoch)`` once there is a connection; again in the next epoch if it is lost and that is harmless.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a connection each time there is none.

        Raises
        ------
        ItxError
            What the call raised there, with its code; :class:`ItxConnectionError` if it is not known whether it ran.
        """
        self._note_sleep()
        attempts = 0
        while True:
            epoch = await self.ready(timeout)
            attempts += 1
            try:
                return await make(epoch)
            except rpc.RpcError as error:
                if epoch.session.error is None or isinstance(error, (rpc.RemoteError, rpc.RemoteThrown)):
                    raise from_wire_error(error, self.location, is_lost=False) from None
                failure = from_wire_error(error, self.location)
            if not is_repeatable:
                raise failure.with_hint(
                    "Whether it was done is not known: look before repeating it. An append with an idempotency_key"
                    " is repeated by itself."
                )
            if attempts == _MAX_ATTEMPTS:
                raise failure.with_hint(
                    f"That happened {attempts} times in a row: what is sent may be more than the other end takes."
                )
            await epoch.lost.wait()

    def reconnect(self) -> None:
        """Dial anew, with credentials asked for anew, also after a refusal: they or what they allow have changed.

        The socket that there is serves until the new one is there.
        """
        if self._status == "closed":
            return
        self._refusal = None
        self._failures = 0
        self._asks_anew = True
        _cancel(self._dialling)
        self._dialling = None
        self._start_dialling()

    def report_suspicion(self) -> None:
        """Somebody did not hear what should have come: find out now whether the other end is there."""
        if self._epoch is not None and (self._probe is None or self._probe.done()):
            self._cancel_probe_timer()
            self._probe = _spawn(self._check(self._epoch))

    async def close(self) -> None:
        """Close it for good. Who waits is told. Repeating is harmless."""
        if self._status == "closed":
            return
        epoch, self._epoch = self._epoch, None
        if epoch is not None:
            epoch.lost.set()
        self._set_status("closed")
        dialling, self._dialling = self._dialling, None
        _cancel(dialling)
        self._stop_probing()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(self._make_closed())
        if epoch is not None:
            await epoch.session.close()

    def _make_closed(self) -> ItxConnectionError:
        return ItxConnectionError(
            f"The connection to {self.location} was closed.",
            is_final=True,
            hint="Connect again: itx = itx_notebook.connect(...).",
        )

    # Dialling

    def _start_dialling(self) -> None:
        if self._epoch is None:
            self._set_status("reconnecting" if self._was_connected else "connecting")
        if self._dialling is None or self._dialling.done():
            self._dialling = _spawn(self._keep_dialling())

    async def _keep_dialling(self) -> None:
        asks_anew, self._asks_anew = self._asks_anew, False
        while True:
            if self._failures:
                await self.clock.sleep(self._get_delay())
            try:
                session = await self._dial_once(asks_anew)
            except Exception as error:  # of credentials as well, which the user's own function gives
                status = error.status if isinstance(error, rpc.HandshakeError) else None
                if status in _REFUSALS and not asks_anew:
                    asks_anew = True
                    continue
                refusal = self._judge(error, status)
                if refusal is not None:
                    self._refuse(refusal)
                    return
                self._last_failure = str(error) or type(error).__name__
                self._failures += 1
            else:
                self._publish(session)
                return

    async def _dial_once(self, asks_anew: bool) -> rpc.Session:  # noqa: FBT001  # as every dial is called
        try:
            async with within(self.clock, _DIAL_TIMEOUT):
                session = await self._dial(asks_anew)
        except TimeoutError as error:
            raise ConnectionError(str(error) or f"no answer within {_DIAL_TIMEOUT:g} s") from None
        if session.error is not None:
            raise ConnectionError(str(session.error))
        return session

    def _get_delay(self) -> float:
        first, last = self._delays
        # Bounded before it is raised: failures may go on for days.
        return float(min(last, first * 2 ** min(self._failures - 1, 32)) * (1 + _JITTER * self._chance()))

    def _judge(self, error: Exception, status: int | None) -> ItxError | None:
        """Return the refusal if trying again would change nothing."""
        details = {"location": self.location, "status": status}
        if status in _REFUSALS:
            return ItxConnectionError(
                f"{self.location} refused the credentials ({status}).",
                is_final=True,
                details=details,
                hint="Give another token: connect(url=…, token=…), ITX_TOKEN, or sign in again.",
            )
        # Where there was an itx, there will be one again: something stands in for it while it is restarted.
        if status in _WRONG_PLACE and not self._was_connected:
            return ItxConnectionError(
                f"There is no itx at {self.location} ({status}).",
                is_final=True,
                details=details,
                hint="Check the URL: it is the deployment's, such as https://itx.example.com.",
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return ItxConnectionError(
                f"The certificate of {self.location} is not trusted: {error.verify_message}.",
                is_final=True,
                hint="Check the URL; for a private authority, set SSL_CERT_FILE to its certificate.",
            )
        if isinstance(error, (OSError, rpc.RpcError)) and not isinstance(error, ItxError):
            return None
        return None if isinstance(error, ItxConnectionError) and not error.is_final else as_itx_error(error)

    def _refuse(self, refusal: ItxError) -> None:
        self._refusal = refusal
        self._retire(None)
        self._set_status("refused")
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(refusal)

    def _publish(self, session: rpc.Session) -> None:
        epoch = Epoch(session, self.clock.monotonic())
        self._retire(epoch)
        self._was_connected = True
        self._last_failure = None
        self._skew = self._read_skew()
        rpc.on_broken(session.main, lambda _: self._lose(epoch))
        self._set_status("connected")
        self._plan_probe()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(epoch)

    def _retire(self, successor: Epoch | None) -> None:
        """Let an epoch take the place of the current one, whose calls that wait are broken off."""
        self._stop_probing()
        epoch, self._epoch = self._epoch, successor
        if epoch is not None:
            epoch.lost.set()
            epoch.session.abort(rpc.RpcError("The client has a new connection."))

    def _lose(self, epoch: Epoch) -> None:
        epoch.lost.set()
        # The death of an old socket is none of its successor's business.
        if self._epoch is not epoch:
            return
        self._epoch = None
        self._stop_probing()
        is_steady = self.clock.monotonic() - epoch.since >= _STEADY
        self._failures = 0 if is_steady else self._failures + 1
        self._last_failure = str(epoch.session.error)
        self._start_dialling()

    # Liveness: a socket can be half open for ever, and a peer can hang behind a live one.

    def _plan_probe(self) -> None:
        self._cancel_probe_timer()
        self._probe_timer = self.clock.call_later(_PROBE_INTERVAL, self.report_suspicion)

    def _cancel_probe_timer(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()

    def _stop_probing(self) -> None:
        self._cancel_probe_timer()
        probe, self._probe = self._probe, None
        _cancel(probe)

    async def _check(self, epoch: Epoch) -> None:
        for _ in range(_STRIKES):
            try:
                async with within(self.clock, _PROBE_TIMEOUT):
                    await epoch.itx.describe()
            except TimeoutError:
                continue
            except (rpc.RemoteError, rpc.RemoteThrown):
                # An answer is an answer.
                pass
            except rpc.RpcError:
                return
            if self._epoch is epoch:
                self._plan_probe()
            return
        epoch.session.abort(rpc.RpcError("The peer did not answer twice."))

    def _note_sleep(self) -> None:
        """A machine that slept finds its sockets as they were, and the other ends gone."""
        skew = self._read_skew()
        if abs(skew - self._skew) > _SLEPT:
            self._skew = skew
            self.report_suspicion()

    def _read_skew(self) -> float:
        return self.clock.now_ms() / 1000 - self.clock.monotonic()

    # Small things

    def _set_status(self, status: ConnectionStatus) -> None:
        if status == self._status:
            return
        self._status = status
        self._since_ms = self.clock.now_ms()
        for listener in tuple(self._listeners.values()):
            try:
                listener(status)
            except Exception:
                _log.exception("a listener to the connection's status failed")


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forget_epochs() -> None:
    """In a forked child: the sockets are the parent's, and so is the loop on which they lived."""
    for connection in _connections:
        connection._forget()  # noqa: SLF001  # the other half of the class: a fork is told to nobody in particular


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_epochs)


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    # Background work belongs to no cell.
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()


@asynccontextmanager
async def within(clock: Clock, seconds: float | None) -> AsyncIterator[None]:
    """Let the body take so many seconds of `clock`, and end it with :class:`TimeoutError` then; ``None``: no limit."""
    if seconds is None:
        yield
        return
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = clock.call_later(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()


def from_wire_error(error: rpc.RpcError, location: str, *, is_lost: bool = True) -> ItxError:
    """Return the error of ours that `error` stands for: its code decides, and nothing else of it.

    Parameters
    ----------
    is_lost : bool
        Whether an error that did not come from the other end means that the connection is gone.
    """
    if isinstance(error, rpc.RemoteError):
        details = error.props.get("details")
        return ItxError(
            error.message,
            code=get_itx_error_code(error) or "INTERNAL",
            details=details if isinstance(details, dict) else None,
        )
    if isinstance(error, rpc.RemoteThrown) or not is_lost:
        return ItxError(error.message, code="INTERNAL", details={"location": location})
    return ItxConnectionError(f"The connection to {location} was lost: {error.message}", details={"location": location})
