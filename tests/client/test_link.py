from __future__ import annotations

import re

from itx_notebook.client.link import Link, get_link
from itx_notebook.testing.clock import FakeClock
from tests.client.place import Place, start


def test_words() -> None:
    assert str(Link("live", 1_780_000_000_000, None)) == "live"
    assert str(Link("closed")) == "closed"
    words = str(Link("reconnecting", 1_780_000_000_000, "Connection refused"))
    assert re.fullmatch(r"reconnecting since \d\d:\d\d:\d\d \(Connection refused\)", words)


async def test_a_connections_link_is_true_at_each_moment() -> None:
    clock = FakeClock()
    place = Place(lambda: None)
    connection = place.connect(clock)
    assert get_link(None) == Link("closed")
    assert get_link(connection).state == "connecting"
    place.outcomes = [OSError("down")]
    waiting = await start(connection.ready())
    assert get_link(connection) == Link("connecting", clock.now_ms(), "down")
    await clock.advance(0.5)
    assert waiting.done()
    assert get_link(connection) == Link("live", clock.now_ms())
    await place.cut()
    assert (get_link(connection).state, get_link(connection).is_live) == ("reconnecting", False)
    await connection.close()
    assert get_link(connection).state == "closed"
    await place.close()
