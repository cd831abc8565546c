"""How a stream's window follows the path, on a clock that the test moves."""

from __future__ import annotations

from collections import deque

import pytest

from itx_notebook.capnweb.protocol.flow import (
    INITIAL_BYTES,
    LEAST_SHRINK,
    MAX_BYTES,
    MIN_BYTES,
    STARTUP_GROWTH,
    STEADY_GROWTH,
    Parcel,
    Window,
)

KIB = 1024


class Path:
    """A writer, a wire that takes its time, and a reader that acknowledges everything at once.

    Parameters
    ----------
    bytes_per_second : float
        What the narrowest part carries. Messages queue in front of it.
    trip : float
        Seconds from there to the reader and back.
    """

    def __init__(self, bytes_per_second: float, trip: float, *, chunk_bytes: int = 16 * KIB) -> None:
        self.window = Window()
        self.bytes_per_second = bytes_per_second
        self.trip = trip
        self.chunk_bytes = chunk_bytes
        self.now = 0.0
        self._free_at = 0.0
        self._under_way: deque[tuple[float, Parcel]] = deque()

    @property
    def product(self) -> float:
        """Bytes that fill the path: bandwidth times round trip."""
        return self.bytes_per_second * self.trip

    def send(self) -> Parcel:
        parcel = self.window.sent(self.chunk_bytes, self.now)
        self._free_at = max(self._free_at, self.now) + self.chunk_bytes / self.bytes_per_second
        self._under_way.append((self._free_at + self.trip, parcel))
        return parcel

    def fill(self) -> None:
        while self.window.has_room:
            self.send()

    def acknowledge(self) -> None:
        """Let the next acknowledgement come."""
        self.now, parcel = self._under_way.popleft()
        self.window.acknowledged(parcel, self.now)

    def run(self, trips: float) -> None:
        """Write as much as the window allows for so many round trips."""
        end = self.now + trips * self.trip
        self.fill()
        while self.now < end:
            self.acknowledge()
            self.fill()


def test_room_while_less_is_under_way_than_the_window() -> None:
    window = Window()

    window.sent(INITIAL_BYTES - 1, 0.0)
    had_room = window.has_room
    window.sent(1, 0.0)

    assert had_room
    assert not window.has_room


def test_room_again_once_an_acknowledgement_frees_it() -> None:
    window = Window()
    parcel = window.sent(INITIAL_BYTES, 0.0)

    window.acknowledged(parcel, 0.1)

    assert window.has_room
    assert window.in_flight_bytes == 0


def test_window_doubles_while_the_path_is_not_full() -> None:
    path = Path(bytes_per_second=1e9, trip=0.1)

    path.run(trips=3.5)

    assert path.window.is_starting
    assert path.window.size_bytes >= 4 * INITIAL_BYTES


def test_start_ends_when_the_window_grows_no_more() -> None:
    path = Path(bytes_per_second=4e6, trip=0.1)

    path.run(trips=30)

    assert not path.window.is_starting


@pytest.mark.parametrize(("bytes_per_second", "trip"), [(4e6, 0.1), (1e6, 0.5), (20e6, 0.05)])
def test_window_settles_near_what_fills_the_path(bytes_per_second: float, trip: float) -> None:
    path = Path(bytes_per_second, trip)

    path.run(trips=60)

    assert 0.9 * path.product <= path.window.size_bytes <= 1.6 * path.product


def test_window_does_not_shrink_for_a_writer_with_little_to_say() -> None:
    path = Path(bytes_per_second=4e6, trip=0.1)
    path.run(trips=30)
    while path.window.in_flight_bytes:
        path.acknowledge()
    before = path.window.size_bytes

    for _ in range(50):
        path.send()
        path.acknowledge()

    assert path.window.size_bytes >= before


def test_window_shrinks_slowly_when_the_path_gets_narrower() -> None:
    path = Path(bytes_per_second=8e6, trip=0.1)
    path.run(trips=40)
    wide = path.window.size_bytes
    path.bytes_per_second = 2e6

    sizes = []
    for _ in range(40):
        before = path.window.size_bytes
        parcel = path.send()
        while path.window.in_flight_bytes:
            path.acknowledge()
        sizes.append(path.window.size_bytes)
        assert path.window.size_bytes >= min(before, parcel.window_bytes) * LEAST_SHRINK
        path.fill()

    assert sizes[-1] < wide / 2


def test_failure_frees_room_and_says_nothing_about_the_path() -> None:
    window = Window()
    parcel = window.sent(INITIAL_BYTES, 0.0)

    window.failed(parcel)

    assert (window.in_flight_bytes, window.delivered_bytes, window.size_bytes) == (0, 0, INITIAL_BYTES)
    assert window.has_room


def test_window_grows_no_faster_than_its_factor_in_one_round_trip() -> None:
    window = Window()
    window.acknowledged(window.sent(KIB, 0.0), 0.1)
    parcels = [window.sent(KIB, 0.2) for _ in range(1000)]

    for parcel in parcels:
        # All at one moment: as if the path carried without end.
        window.acknowledged(parcel, 0.3)

    assert window.size_bytes == INITIAL_BYTES * STARTUP_GROWTH


def test_window_grows_more_slowly_after_the_start() -> None:
    path = Path(bytes_per_second=4e6, trip=0.1)
    path.run(trips=30)
    while path.window.in_flight_bytes:
        path.acknowledge()
    path.bytes_per_second = 1e9
    before = path.window.size_bytes

    path.fill()
    for _ in range(int(before // path.chunk_bytes)):
        path.acknowledge()

    assert path.window.size_bytes <= before * STEADY_GROWTH


def test_window_keeps_a_least_size() -> None:
    path = Path(bytes_per_second=2e4, trip=0.01, chunk_bytes=KIB)

    path.run(trips=40_000)

    assert path.window.size_bytes == MIN_BYTES


def test_window_keeps_a_greatest_size() -> None:
    window = Window()
    now = 0.0
    for _ in range(30):
        parcels = [window.sent(int(window.size_bytes), now), window.sent(1, now)]
        now += 0.1
        for parcel in parcels:
            now += 1e-9
            window.acknowledged(parcel, now)

    assert window.size_bytes == MAX_BYTES
