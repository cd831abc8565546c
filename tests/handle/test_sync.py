from __future__ import annotations

import concurrent.futures
import queue
import signal
import threading
from typing import Any

import pytest

from itx_notebook._loop import is_on_io_loop, run_blocking
from itx_notebook.errors import ItxTimeoutError
from itx_notebook.handle import AsyncStream, Stream
from itx_notebook.notebook import NotebookItx, connect
from itx_notebook.types import StreamEventBatch
from tests.handle.conftest import NeverStream
from tests.support import get_refusal, on_io_loop

WAIT = 2.0


def _get_subscriber_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("itx-subscriber")]


def _join_subscriber_threads() -> None:
    for thread in _get_subscriber_threads():
        thread.join(WAIT)
    assert _get_subscriber_threads() == []


# -- calls -----------------------------------------------------------------------------------------------------------


def test_handle_does_every_call_of_the_async_one(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    one = stream.append("demo.hello", {"n": 1})
    two, three = stream.append_batch([{"type": "demo.hello"}, {"type": "demo.hello", "payload": None}])
    assert [one.offset, two.offset, three.offset] == [3, 4, 5]
    assert stream.read(after_offset=2) == [one, two, three]
    assert stream.get_state().event_count == 5
    assert [child.path for child in itx.streams.get("/").list_children()] == ["/a"]
    assert itx.projects.list().projects == (itx.project,)
    assert itx.projects.get("default").describe() == itx.describe()
    assert (stream.path, stream.namespace) == ("/a", itx.describe().context)
    assert [repr(each) for each in (stream, itx.streams, itx.projects, itx.projects.get("default"))] == [
        "<Stream /a>",
        "<Streams: .get(path)>",
        "<Projects: .get(id_or_slug), .list(), .create(slug)>",
        "<Itx default>",
    ]


def test_handle_that_may_not_create_projects_says_who_may(itx: NotebookItx) -> None:
    error = get_refusal(lambda: itx.projects.create("more"))
    assert (error.code, error.message) == ("FORBIDDEN", "This itx handle may not create projects.")
    assert "create_project" in error.remedy


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("append()", lambda stream: stream.append("demo.hello", timeout=0.02)),
        ("append_batch()", lambda stream: stream.append_batch([{"type": "a"}], timeout=0.02)),
        ("read()", lambda stream: stream.read(timeout=0.02)),
        ("get_state()", lambda stream: stream.get_state(timeout=0.02)),
        ("list_children()", lambda stream: stream.list_children(timeout=0.02)),
        ("subscribe()", lambda stream: stream.subscribe(print, timeout=0.02)),
        ("on_state_change()", lambda stream: stream.on_state_change(print, timeout=0.02)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_call_that_runs_out_of_its_timeout_is_cancelled_and_says_so(never: NeverStream, name: str, call: Any) -> None:
    with pytest.raises(ItxTimeoutError) as caught:
        call(Stream(AsyncStream(never), timeout=None))
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.code, error.details) == ("INTERNAL", {"timeout": 0.02})
    assert error.message.startswith(name)
    assert error.message.endswith("/never took longer than 0.02 s.")
    assert never.was_cancelled.wait(WAIT)


def test_call_without_a_timeout_takes_the_handles(never: NeverStream) -> None:
    with pytest.raises(ItxTimeoutError) as caught:
        Stream(AsyncStream(never), timeout=0.01).read()
    assert caught.value.details == {"timeout": 0.01}


def test_call_that_is_interrupted_is_cancelled(never: NeverStream) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        never.was_asked.wait(WAIT)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Stream(AsyncStream(never), timeout=None).read()
    thread.join(WAIT)
    assert never.was_cancelled.wait(WAIT)


def test_call_on_the_io_thread_is_refused_at_once(itx: NotebookItx) -> None:
    error = on_io_loop(lambda: get_refusal(itx.describe))
    assert (error.code, error.message) == ("BAD_REQUEST", "describe() would block the I/O thread it is called on.")
    assert "itx.aio" in error.remedy


def test_call_inside_an_async_callback_is_refused_and_drops_that_subscription_only(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")

    async def on_batch(_batch: StreamEventBatch) -> None:
        stream.append("demo.echo")

    async def subscribe() -> Any:
        return await stream.aio.subscribe(on_batch, presence=False)

    subscription = run_blocking(subscribe())
    on_io_loop(lambda: None)
    assert subscription.is_closed
    assert "would block the I/O thread" in str(subscription.error)
    assert stream.append("demo.hello").offset == 3


def test_call_from_several_threads_at_once_loses_nothing(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        events = list(pool.map(lambda n: stream.append("demo.n", n), range(200)))
    assert sorted(event.offset for event in events) == list(range(3, 203))
    assert sorted(event.payload for event in stream.read(after_offset=2)) == list(range(200))


def test_error_of_a_call_shows_two_lines(itx: NotebookItx) -> None:
    error = get_refusal(lambda: itx.streams.get("/a").append("demo.hello", {"x": {1}}))
    lines = error._render_traceback_()
    assert len(lines) == 2
    assert lines[0].startswith("ItxError [BAD_REQUEST]: payload.x is {1}")
    assert lines[1].startswith("→ ")


# -- subscriptions ---------------------------------------------------------------------------------------------------


class _Taker:
    """A callback that keeps what it gets, and can be waited for."""

    def __init__(self) -> None:
        self.batches: list[StreamEventBatch] = []
        self.threads: set[str] = set()
        self._arrivals: queue.SimpleQueue[StreamEventBatch] = queue.SimpleQueue()

    def __call__(self, batch: StreamEventBatch) -> None:
        self.threads.add(threading.current_thread().name)
        self.batches.append(batch)
        self._arrivals.put(batch)

    @property
    def payloads(self) -> list[Any]:
        return [event.payload for batch in self.batches for event in batch.events if event.type == "demo.n"]

    def wait_for(self, offset: int) -> None:
        while self._arrivals.get(timeout=WAIT).stream_max_offset < offset:
            pass


def test_callback_runs_off_the_io_loop_on_a_thread_of_its_own(itx: NotebookItx) -> None:
    where: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()
    stream = itx.streams.get("/a")
    with stream.subscribe(lambda _batch: where.put((is_on_io_loop(), threading.current_thread().name))):
        assert where.get(timeout=WAIT) == (False, "itx-subscriber /a")
    _join_subscriber_threads()


def test_callback_may_call_the_handle_it_hangs_on(itx: NotebookItx) -> None:
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()
    other = itx.streams.get("/b")
    with itx.streams.get("/a").subscribe(lambda _batch: answers.put(other.append("demo.echo").offset)):
        assert answers.get(timeout=WAIT) == 3


def test_callback_that_is_slow_stops_no_append_and_misses_nothing(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    taker, entered, gate = _Taker(), threading.Event(), threading.Event()

    def on_batch(batch: StreamEventBatch) -> None:
        entered.set()
        gate.wait(WAIT)
        taker(batch)

    subscription = stream.subscribe(on_batch, presence=False)
    assert entered.wait(WAIT)
    last = [stream.append("demo.n", n) for n in range(300)][-1]
    assert taker.batches == []
    gate.set()
    taker.wait_for(last.offset)
    while len(taker.payloads) < 300:
        taker.wait_for(last.offset)
    assert taker.payloads == list(range(300))
    assert max(len(batch.events) for batch in taker.batches) == 100
    subscription.unsubscribe()
    _join_subscriber_threads()


def test_state_callback_that_is_slow_gets_the_newest_state_and_not_each(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    counts: queue.SimpleQueue[int] = queue.SimpleQueue()
    entered, gate = threading.Event(), threading.Event()

    def on_state(state: Any) -> None:
        entered.set()
        gate.wait(WAIT)
        counts.put(state.event_count)

    with stream.on_state_change(on_state, presence=False):
        assert entered.wait(WAIT)
        for n in range(50):
            stream.append("demo.n", n)
        gate.set()
        assert [counts.get(timeout=WAIT), counts.get(timeout=WAIT)] == [0, 52]
    assert counts.empty()


@pytest.mark.parametrize(
    "trouble", [ValueError("mine"), StopIteration(), KeyboardInterrupt(), SystemExit(1)], ids=lambda e: type(e).__name__
)
def test_callback_that_raises_drops_its_subscription_and_says_why(itx: NotebookItx, trouble: BaseException) -> None:
    stream = itx.streams.get("/a")
    taker = _Taker()
    survivor = stream.subscribe(taker, presence=False)

    def on_batch(_batch: StreamEventBatch) -> None:
        raise trouble

    subscription = stream.subscribe(on_batch, presence=False)
    stream.append("demo.n", 1)
    taker.wait_for(3)
    for thread in _get_subscriber_threads()[1:]:
        thread.join(WAIT)
    on_io_loop(lambda: None)
    assert subscription.is_closed
    assert subscription.error is trouble or repr(trouble) in repr(subscription.error)
    assert repr(subscription).startswith("<Subscription to /a, dropped: ")
    assert not survivor.is_closed
    stream.append("demo.n", 2)
    taker.wait_for(4)
    assert taker.payloads == [1, 2]
    survivor.unsubscribe()
    _join_subscriber_threads()


def test_callback_may_unsubscribe_itself(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    subscribed: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done = threading.Event()
    seen: list[int] = []

    def on_batch(batch: StreamEventBatch) -> None:
        seen.append(batch.stream_max_offset)
        subscribed.get(timeout=WAIT).unsubscribe()
        done.set()

    subscription = stream.subscribe(on_batch)
    stream.append("demo.n", 1)
    subscribed.put(subscription)
    assert done.wait(WAIT)
    stream.append("demo.n", 2)
    _join_subscriber_threads()
    assert len(seen) == 1
    assert (subscription.is_closed, subscription.error) == (True, None)
    assert repr(subscription) == "<Subscription to /a, closed>"


def test_unsubscribing_at_the_end_of_with_delivers_nothing_more(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    taker = _Taker()
    with stream.subscribe(taker, after_offset="end", presence=False) as subscription:
        assert repr(subscription) == "<Subscription to /a, live>"
        stream.append("demo.n", 1)
        taker.wait_for(3)
    before = len(taker.batches)
    stream.append("demo.n", 2)
    on_io_loop(lambda: None)
    assert len(taker.batches) == before
    assert taker.payloads == [1]
    subscription.unsubscribe()
    _join_subscriber_threads()


def test_subscribing_leaves_its_presence_in_the_stream_unless_silent(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    with stream.subscribe(_Taker(), presence=False):
        pass
    assert stream.get_state(presence=False).event_count == 0
    with stream.subscribe(_Taker()):
        pass
    assert [event.type.rsplit("/", 1)[-1] for event in stream.read()] == [
        "created",
        "woken",
        "subscriber-connected",
        "subscriber-disconnected",
    ]


def test_subscription_ends_with_the_engine_and_leaves_no_thread(itx: NotebookItx) -> None:
    taker = _Taker()
    subscription = itx.streams.get("/a").subscribe(taker, presence=False)
    taker.wait_for(0)
    itx.close()
    assert subscription.is_closed
    _join_subscriber_threads()


def test_subscribing_that_fails_leaves_no_thread(itx: NotebookItx) -> None:
    stream = itx.streams.get("/a")
    itx.close()
    assert get_refusal(lambda: stream.subscribe(_Taker())).code == "INTERNAL"
    again = connect()
    bad: Any = "never"
    assert get_refusal(lambda: again.streams.get("/a").subscribe(_Taker(), after_offset=bad)).code == "BAD_REQUEST"
    _join_subscriber_threads()
