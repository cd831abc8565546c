"""Thousands of values through ours and the original: written here, read and written there, read here again."""

from __future__ import annotations

import array
import json
import math
import random
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from itx_notebook.capnweb import UNDEFINED, Headers, JsDate, Options, RemoteError, Url
from itx_notebook.capnweb.protocol.evaluate import Evaluator
from itx_notebook.capnweb.protocol.machine import Machine
from itx_notebook.capnweb.protocol.serialize import Serializer
from itx_notebook.capnweb.protocol.wire import decode, encode
from tests.capnweb.machines import make_machine
from tests.capnweb.peers import VERSIONS, find_node

BATCH: Final = 1_000
BATCHES: Final = 5


class Original:
    """A process in which the original reads and writes expressions."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._process = subprocess.Popen(
            [find_node(), "roundtrip.mjs", version],
            cwd=Path(__file__).parent / "node",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def pass_through(self, expressions: list[bytes]) -> list[Any]:
        """Return what the original makes of each: the text it writes, or an object with its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([expression.decode() for expression in expressions]) + "\n")
        self._process.stdin.flush()
        answers: list[Any] = json.loads(self._process.stdout.readline())
        return answers

    def close(self) -> None:
        with self._process:
            pass


@pytest.fixture(scope="module", params=VERSIONS)
def original(request: pytest.FixtureRequest) -> Iterator[Original]:
    process = Original(request.param)
    yield process
    process.close()


class Values:
    """Values of every kind that can be sent, from dice."""

    def __init__(self, dice: random.Random, *, urls: bool) -> None:
        self.dice = dice
        self._leaves: list[Callable[[], Any]] = [
            *(self.whole, self.whole, self.real, self.text, self.text, self.special, self.date, self.data),
            *(self.bigint, self.headers, *([self.url] if urls else [])),
        ]

    def value(self, depth: int) -> Any:
        if depth == 0 or self.dice.random() < 0.4:
            return self.dice.choice(self._leaves)()
        return self.dice.choice((self.items, self.members, self.error))(depth - 1)

    def whole(self) -> int:
        return self.dice.choice((0, 1, -1, 2**31, 2**53 - 1, -(2**53) + 1, self.dice.randrange(-1000, 1000)))

    def bigint(self) -> int:
        size = self.dice.choice((54, 64, 200, 14_000, 50_000))
        return self.dice.choice((-1, 1)) * (self.dice.getrandbits(size) | 1 << size)

    def real(self) -> float:
        dice = self.dice
        exponent = dice.randrange(-320, 308)
        choices = (0.5, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e21, 1e-7, dice.uniform(-1, 1) * 10.0**exponent)
        return dice.choice(choices)

    def text(self) -> str:
        dice = self.dice
        alphabet = (
            'a"\\/\b\f\n\r\t\x00\x1f\x7f',
            "äöü€\u2028\u2029\ufeff\uffff",
            "😀𝄞\U0010ffff",
            "\ud800\udfff",
            "abc",
        )
        letters = dice.choice(alphabet)
        return "".join(dice.choice(letters) for _ in range(dice.choice((0, 1, 3, 40))))

    def special(self) -> Any:
        return self.dice.choice((None, True, False, UNDEFINED, math.inf, -math.inf, math.nan))

    def date(self) -> datetime | JsDate:
        dice = self.dice
        if dice.random() < 0.3:
            return JsDate(dice.choice((None, 8_640_000_000_000_000, -8_640_000_000_000_000, 253_402_300_800_000)))
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=dice.randrange(-(10**13), 10**14))

    def data(self) -> bytes:
        return self.dice.randbytes(self.dice.choice((0, 1, 2, 3, 100)))

    def headers(self) -> Headers:
        return Headers([(f"x-{index}", self.dice.choice(("a", "b c", ""))) for index in range(self.dice.randrange(3))])

    def url(self) -> Url:
        return Url(self.dice.choice(("https://example.org/", "https://example.org/a?b=c#d", "data:text/plain,x")))

    def items(self, depth: int) -> list[Any]:
        return [self.value(depth) for _ in range(self.dice.randrange(5))]

    def members(self, depth: int) -> dict[str, Any]:
        return {self._key(): self.value(depth) for _ in range(self.dice.randrange(5))}

    def error(self, depth: int) -> RemoteError:
        name = self.dice.choice(("Error", "TypeError", "RangeError", "SyntaxError", "ReferenceError", "URIError"))
        props = {f"p{index}": self.value(depth) for index in range(self.dice.randrange(3))}
        return RemoteError(self.text(), name=name, props=props)

    def _key(self) -> str:
        keys = ("", "a", "length", "then", "prototype", "__class__", "0", "ä", "😀", self.text())
        return self.dice.choice(keys)


def plain(value: Any) -> Any:
    """Return `value` as JSON's types that tell every kind apart, so that two can be compared."""
    match value:
        case bool() | None:
            return value
        case str():
            return {"$url": str(value)} if isinstance(value, Url) else join(value)
        case int() | float():
            return plain_number(value)
        case bytes():
            return {"$bytes": value.hex()}
        case array.array():
            return {"$array": [value.typecode, [plain(item) for item in value]]}
        case datetime():
            return {"$date": str(value)}
        case JsDate():
            return {"$js": value.ms}
        case Headers():
            return {"$headers": sorted(value)}
        case BaseException():
            assert isinstance(value, RemoteError)
            return {"$error": [value.name, join(value.message), plain(value.props)]}
        case list():
            return [plain(item) for item in value]
        case dict():
            return {"$members": {join(key): plain(item) for key, item in value.items()}}
        case _:
            assert value is UNDEFINED
            return {"$undefined": True}


def join(text: str) -> str:
    """Make one character of two halves that stand side by side: in JavaScript's strings they are the same."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def plain_number(value: float) -> Any:
    if isinstance(value, int) and abs(value) > 2**53 - 1:
        return {"$bigint": hex(value)}
    # JavaScript has one kind of number; its JSON knows no negative zero.
    return "NaN" if math.isnan(value) else float(value) + 0.0


def write(machine: Machine, value: Any) -> bytes:
    return encode(Serializer(machine).encode_root(value))


def read(machine: Machine, text: bytes) -> Any:
    return Evaluator(machine).evaluate(decode(text)).value


def make(version: str) -> Machine:
    return make_machine(None, Options(keep_undefined=True, peer_version="0.8" if version == "0.8.0" else "0.12"))


def test_values_come_back_from_the_original_as_they_were(original: Original) -> None:
    machine = make(original.version)
    dice = random.Random(20)
    values = Values(dice, urls=original.version != "0.8.0")
    for _ in range(BATCHES):
        batch = [values.value(4) for _ in range(BATCH)]
        answers = original.pass_through([write(machine, value) for value in batch])
        for value, answer in zip(batch, answers, strict=True):
            assert isinstance(answer, str), (value, answer)
            assert plain(read(machine, answer.encode(errors="surrogatepass"))) == plain(value)


def test_what_is_read_is_written_as_it_was(original: Original) -> None:
    """Read here, write here: the original finds the same value in both texts."""
    machine = make(original.version)
    values = Values(random.Random(21), urls=original.version != "0.8.0")
    texts = [write(machine, values.value(4)) for _ in range(BATCH)]
    again = [write(machine, read(machine, text)) for text in texts]
    assert original.pass_through(again) == original.pass_through(texts)


def test_values_come_back_from_ourselves_as_they_were() -> None:
    machine = make("newest")
    values = Values(random.Random(22), urls=True)
    for _ in range(BATCHES * BATCH):
        value = values.value(5)
        assert plain(read(machine, write(machine, value))) == plain(value)


MALFORMED: Final[tuple[Any, ...]] = (
    *([], [1], [1, 2], [[1], 2], ["nonsense"], ["bigint"], ["bigint", 1], ["bigint", "x"], ["date", "x"], ["date"]),
    *(["bytes"], ["bytes", 1], ["error"], ["error", "Error"], ["error", 1, "x"], ["error", "Error", "x", None, 5]),
    *(["import", 5], ["pipeline", 5], ["export", "x"], ["headers", 5], ["request"], ["response"], ["remap", 0]),
    *(["readable", 3], ["writable", "x"], ["blob"], {"a": []}, [[[]]], [[["nonsense"]]]),
)


def test_what_the_original_refuses_is_refused_here(original: Original) -> None:
    answers = original.pass_through([encode(expression) for expression in MALFORMED])
    assert [text for text, answer in zip(MALFORMED, answers, strict=True) if isinstance(answer, str)] == []
    assert [text for text in MALFORMED if not refused(text)] == []


def refused(expression: Any) -> bool:
    machine = make("newest")
    machine.receive(encode(["push", expression]))
    return machine.error is not None
