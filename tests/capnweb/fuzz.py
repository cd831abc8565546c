"""A million hostile frames: sessions that begin validly and go wrong, from a seed, against machines.

::

    make fuzz [FRAMES=1000000] [SEED=1]

Each session has a machine with small limits, the main object of the hostile table, and a mutator that knows the
grammar and what the session has said so far: it answers calls, releases what it was given, refers to ids that exist,
nearly exist, or do not, and damages about one message in eight. After every frame the tables must be consistent; at
the end of every session all must be given back, and nothing been reached that was not given.

With ``ATHERIS=1`` (and ``pip install atheris``) coverage guides raw bytes into the decoder and the evaluator instead.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from itx_notebook.capnweb import Limits, Options
from itx_notebook.capnweb.protocol.machine import Machine
from tests.capnweb.hostile.targets import SECRET, Main, Watch, find_miscounted, is_given
from tests.capnweb.machines import check_tables, make_machine, receive, runtime_of

__all__ = ["LIMITS", "Attack", "Mutator", "check_end", "run_atheris", "run_session"]

LIMITS: Final = Limits(
    max_message_bytes=20_000,
    max_depth=24,
    max_bigint_digits=100,
    max_exports=60,
    max_imports=40,
    max_pending_calls=60,
    max_running_calls=8,
    max_map_calls=200,
    max_unread_bytes=100_000,
    max_blob_bytes=10_000,
    max_held_bytes=5_000,
)
FRAMES_PER_SESSION: Final = 60
SESSION_SECONDS: Final = 20.0
"""A thousand times what a session takes."""


class Mutator:
    """Writes one peer's messages.

    Parameters
    ----------
    dice : random.Random
        Where every choice comes from.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._last_push = 0
        self._exports: list[int] = [0]
        """What the machine has, as far as this peer knows: ids of its own calls, and what it was given."""
        self._calls: list[int] = []
        """The machine's calls to this peer, which wait for an answer."""
        self._promises: list[int] = []
        self._last_given = 0
        self._pipes: list[int] = []
        """Ids of pipes whose readable end was not sent yet."""

    def hear(self, message: Any) -> None:
        """Take note of what the machine says."""
        kind = message[0]
        if kind in ("push", "stream"):
            self._calls.append(len(self._calls) + 1)
        self._find_given(message)

    def _find_given(self, expression: Any) -> None:
        if isinstance(expression, dict):
            for value in expression.values():
                self._find_given(value)
        elif isinstance(expression, list):
            if len(expression) == 2 and expression[0] in ("export", "promise") and isinstance(expression[1], int):
                self._exports.append(expression[1])
            else:
                for item in expression:
                    self._find_given(item)

    def write(self) -> bytes:
        """Return the next message."""
        message = self.dice.choices(_MESSAGES, _WEIGHTS)[0](self)
        text = json.dumps(message, separators=(",", ":"))
        return self._damage(text).encode(errors="surrogatepass") if self.dice.random() < 0.002 else text.encode()

    def _damage(self, text: str) -> str:
        at = self.dice.randrange(len(text))
        match self.dice.randrange(5):
            case 0:
                return text[:at] + self.dice.choice('[]{},:"\\0-\x00é') + text[at:]
            case 1:
                return text[:at] + text[at + 1 :]
            case 2:
                return text[:at]
            case 3:
                return text[at:] + text[:at]
            case _:
                return text + text

    # Messages

    def _push(self) -> Any:
        expression = self._call(3) if self.dice.random() < 0.7 else self.expression(4)
        self._last_push += 1
        self._exports.append(self._last_push)
        return ["push", expression]

    def _stream(self) -> Any:
        expression = self._call(3)
        self._last_push += 1
        return ["stream", expression]

    def _pipe(self) -> Any:
        self._last_push += 1
        self._exports.append(self._last_push)
        self._pipes.append(self._last_push)
        return ["pipe"]

    def _write(self) -> Any:
        """Write into something, which may even be a pipe."""
        verb = self.dice.choice(("write", "write", "write", "close", "abort"))
        expression = ["pipeline", self._export_id(), [verb], [self.expression(1)] if verb != "close" else []]
        self._last_push += 1
        return ["stream", expression]

    def _pull(self) -> Any:
        return ["pull", self._export_id()]

    def _release(self) -> Any:
        if len(self._exports) < 2:
            return self._push()
        id_ = self._odd(self._exports.pop(self.dice.randrange(1, len(self._exports))), 0, -1, 1, 10**12, "1")
        return ["release", id_, self._odd(1, 0, -1, 2, 1.0, True, None)]

    def _resolve(self) -> Any:
        return ["resolve", self._answered_id(), self.expression(3)]

    def _reject(self) -> Any:
        return ["reject", self._answered_id(), self._error(0) if self.dice.random() < 0.8 else self._scalar()]

    def _settle_promise(self) -> Any:
        if not self._promises:
            return self._push()
        id_ = self._promises.pop(self.dice.randrange(len(self._promises)))
        return ["resolve", id_, self.expression(3)] if self.dice.random() < 0.7 else ["reject", id_, self._error(0)]

    def _strange(self) -> Any:
        return self.dice.choice(
            (
                ["pipe", 1],
                ["abort", self._scalar()],
                ["abort"],
                [],
                None,
                ["nonsense"],
                ["pull"],
                ["push"],
                ["resolve", 1],
                {"push": 1},
                [["push", 1]],
                "push",
            )
        )

    # Ids

    def _odd(self, usual: Any, *others: Any) -> Any:
        return usual if self.dice.random() < 0.997 else self.dice.choice(others)

    def _export_id(self) -> Any:
        id_ = self.dice.choice(self._exports[-20:])
        return self._odd(id_, 0, -1, self._last_push + 1, 10**12, True, 1.5, "1", None)

    def _answered_id(self) -> Any:
        if self._calls and self.dice.random() < 0.9:
            return self._odd(self.dice.choice(self._calls[-10:]), 0, -1, "1", True)
        return self._odd(self.dice.randrange(500, 1000), 0, -1, None)

    def _new_id(self, *, is_promise: bool = False) -> int:
        if self.dice.random() < 0.05 and self._last_given:
            return self.dice.randrange(self._last_given, 0)
        self._last_given -= 1
        if is_promise:
            self._promises.append(self._last_given)
        return self._last_given

    # Expressions

    def expression(self, depth: int) -> Any:
        """Return an expression, about one in thirty of which is wrong somewhere."""
        dice = self.dice
        if depth <= 0 or dice.random() < 0.3:
            return self._scalar()
        if dice.random() < 0.002:
            return dice.choice(_NONSENSE)
        return dice.choice(_EXPRESSIONS)(self, depth - 1)

    def _scalar(self) -> Any:
        return self.dice.choice(_SCALARS)

    def _list(self, depth: int) -> Any:
        return [[self.expression(depth) for _ in range(self.dice.randrange(4))]]

    def _object(self, depth: int) -> Any:
        return {self.dice.choice(_KEYS): self.expression(depth) for _ in range(self.dice.randrange(4))}

    def _special(self, _: int) -> Any:
        return self.dice.choice(_SPECIALS)

    def _error(self, depth: int) -> Any:
        name = self.dice.choice(("Error", "TypeError", "RangeError", "AggregateError", "SyntaxError", "constructor"))
        error: list[Any] = ["error", name, "a message"]
        if self.dice.random() < 0.5:
            error += [None, {self.dice.choice(_KEYS): self.expression(depth)}]
        return error

    def _export(self, _: int) -> Any:
        return ["export", self._new_id()]

    def _promise(self, _: int) -> Any:
        return ["promise", self._new_id(is_promise=True)]

    def _stream_end(self, _: int) -> Any:
        if self._pipes and self.dice.random() < 0.7:
            readable = ["readable", self._odd(self._pipes.pop(), 0, 1, -1, True)]
            return readable if self.dice.random() < 0.7 else ["blob", "text/plain", readable]
        return ["writable", self._new_id()]

    def _import(self, depth: int) -> Any:
        if self.dice.random() < 0.5:
            return ["import", self._export_id()]
        return ["import", *self._call(depth)[1:]]

    def _pipeline(self, depth: int) -> Any:
        if self.dice.random() < 0.5:
            return ["pipeline", self._export_id()]
        if self.dice.random() < 0.3:
            return ["pipeline", self._export_id(), self._path()]
        return self._call(depth)

    def _call(self, depth: int) -> list[Any]:
        arguments = [self.expression(depth) for _ in range(self.dice.choice((0, 1, 1, 1, 2, 3)))]
        if self.dice.random() < 0.3:
            return ["pipeline", self._export_id(), self._path(), arguments]
        return ["pipeline", 0, [self.dice.choice(_METHODS)], arguments]

    def _path(self) -> list[Any]:
        dice = self.dice
        usual: list[Any] = [dice.choice(_METHODS)] if dice.random() < 0.5 else []
        return [*usual, *(dice.choice(_STEPS) for _ in range(dice.choice((0, 0, 1, 2))))]

    def _remap(self, depth: int) -> Any:
        captures = [
            self.dice.choice((["import", 0], ["import", self._export_id()], ["export", self._new_id()]))
            for _ in range(self.dice.randrange(3))
        ]
        instructions = [self._instruction(depth, index) for index in range(self.dice.randrange(4))]
        target = ["zoo", "list"] if self.dice.random() < 0.5 else self._path()
        return ["remap", 0 if target else self._export_id(), target, captures, instructions]

    def _instruction(self, depth: int, index: int) -> Any:
        dice = self.dice
        id_ = dice.choice((0, -1, -2, index, index + 1))
        match dice.randrange(6):
            case 0:
                return self._scalar()
            case 1:
                return ["pipeline", id_, [dice.choice(_METHODS)], [["pipeline", dice.choice((0, -1))]]]
            case 2:
                return ["pipeline", id_]
            case 3:
                return [[["import", id_], {"a": ["pipeline", 0]}]]
            case 4 if depth > 0:
                return ["remap", id_, [], [["import", -1]], [self._instruction(depth - 1, 0)]]
            case _:
                return ["pipeline", -1, ["numbers"], [5]]


_METHODS: Final = (
    *("square", "echo", "collect", "nothing", "fail", "later", "at_once", "note", "make_counter", "make_counters"),
    *("make_counter_later", "numbers", "keep", "drop", "call", "pass_on", "unsendable", "endless", "counter", "zoo"),
    *("read_all", "read_one", "write_into", "measure", "readable"),
    *("_private", "concealed", "inside", "limit", "Inner", "__class__", "__init__", "_rpc_dispose", "absent"),
)
_STEPS: Final = (
    *("increment", "value", "double", "kind", "once", "sour", "child", "list", "dict", "function", "method", "partial"),
    *("text", "format", "__class__", "__globals__", "helper", "slot", "watch", "a", "items", 0, 1, 2, -1, 10**20, ""),
)
_KEYS: Final = ("a", "b", "c", "", "toString", "__proto__", "toJSON", "cause", "errors", "args", "message", "__class__")
_SCALARS: Final = (None, True, False, 0, 1, 3, -7, 0.5, 2**53, 2**70, "", "text", "\ud800", "x" * 300)
_SPECIALS: Final[tuple[Any, ...]] = (
    *(["undefined"], ["inf"], ["-inf"], ["nan"], ["bigint", "123456789012345678901234567890"], ["date", 1e12]),
    *(["date", None], ["date", 9e15], ["bytes", "aGk"], ["bytes", "AAAAAAAAAAA", "Float64Array"], [[]], {}),
    *(["url", "https://example.org/"], ["headers", [["a", "b"]]], ["response", None, {"status": 404}]),
    ["request", "https://example.org/", {"body": "text", "headers": [["a", "b"]]}],
)
_NONSENSE: Final[tuple[Any, ...]] = (
    *([], [1], [[1], 2], ["nonsense"], ["bigint", "x"], ["bigint", "9" * 200], ["date", "x"], ["bytes", "a"], [None]),
    *(["error"], ["import"], ["export", 1], ["promise", 0], ["remap", 0], ["url", "x"], ["undefined", 1], ["inf", 1]),
    *(
        ["readable", 99],
        ["writable", 1],
        ["blob", "x", 1],
        ["pipeline", 0, "x"],
        ["pipeline", 0, [None]],
        ["pipeline", 0, [], 5],
        ["bytes", "YWJj", "Int16Array"],
    ),
)
_MESSAGES: Final[tuple[Callable[[Mutator], Any], ...]] = (
    Mutator._push,
    Mutator._stream,
    Mutator._pipe,
    Mutator._write,
    Mutator._pull,
    Mutator._release,
    Mutator._resolve,
    Mutator._reject,
    Mutator._settle_promise,
    Mutator._strange,
)
_WEIGHTS: Final = (40, 4, 3, 6, 20, 16, 8, 3, 8, 0.2)
_EXPRESSIONS: Final[tuple[Callable[[Mutator, int], Any], ...]] = (
    Mutator._list,
    Mutator._object,
    Mutator._special,
    Mutator._error,
    Mutator._export,
    Mutator._promise,
    Mutator._stream_end,
    Mutator._import,
    Mutator._pipeline,
    Mutator._call,
    Mutator._remap,
)


@dataclass
class Attack:
    """What was done so far."""

    sessions: int = 0
    frames: int = 0
    answers: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    log: list[bytes] = field(default_factory=list)
    """The messages of the session that runs."""


def run_session(dice: random.Random, attack: Attack, frames: int = FRAMES_PER_SESSION) -> None:
    """Run one session to its end, and check it at every frame."""
    watch = Watch()
    machine = make_machine(Main(watch), Options(limits=LIMITS))
    mutator = Mutator(dice)
    attack.sessions += 1
    attack.log.clear()
    for _ in range(frames):
        message = mutator.write()
        attack.log.append(message)
        attack.frames += 1
        receive(machine, message)
        if dice.random() < 0.1:
            watch.open_gates()
            runtime_of(machine).turn()
        check_tables(machine)
        attack.answers += _hear(machine, mutator)
        if machine.error is not None:
            break
    attack.ends["lived" if machine.error is None else type(machine.error).__name__] += 1
    attack.reasons[str(machine.error)[:60]] += 1
    check_end(machine, watch)


def _hear(machine: Machine, mutator: Mutator) -> int:
    messages, machine.outbox = machine.outbox, []
    for message in messages:
        assert SECRET.encode() not in message, message[:500]
        mutator.hear(json.loads(message))
    return len(messages)


def check_end(machine: Machine, watch: Watch) -> None:
    """End the session, whichever way it stood, and check that all was given back and nothing leaked."""
    runtime = runtime_of(machine)
    machine.connection_lost(1006, "")
    check_tables(machine)
    while watch.gates:
        watch.open_gates()
        runtime.turn()
    watch.kept.clear()
    watch.calls.clear()
    runtime.turn()
    assert watch.leaks == []
    assert [target for target in runtime.referred if not is_given(target)] == []
    if find_miscounted(watch, runtime):
        # A call that waits for itself, or for its caller, is a cycle that only the collector finds.
        gc.collect()
        runtime.turn()
    assert find_miscounted(watch, runtime) == []
    # What was made may keep what it was made with: a stub of a failure, whose traceback keeps arguments.
    watch.made.clear()
    runtime.referred.clear()
    assert machine.error is not None
    # Whom it was raised at, whose frames it keeps.
    machine.error.__traceback__ = None
    for _ in range(3):
        if runtime.held.held_bytes:
            # Cycles are the collector's to find, and what a stream's end gives back may be the next.
            gc.collect()
            runtime.turn()
    assert runtime.held.held_bytes == 0


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in what takes longer, where the system can."""

    def stop(_: int, __: object) -> None:
        raise TimeoutError(f"A session took more than {seconds} seconds.")

    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_frames(frames: int, seed: int) -> Attack:
    """Run sessions until so many frames were sent; report every tenth of the way."""
    attack = Attack()
    began = time.perf_counter()
    next_report = step = max(1, frames // 10)
    session_seed = seed
    while attack.frames < frames:
        session_seed += 1
        try:
            with within(SESSION_SECONDS):
                run_session(random.Random(session_seed), attack)
        except BaseException:
            print(f"seed {session_seed}, after:", *attack.log, sep="\n  ")
            raise
        if attack.frames >= next_report:
            next_report += step
            seconds = time.perf_counter() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                f"{attack.frames:>9} frames  {attack.sessions:>7} sessions  {attack.answers:>8} answers  "
                f"{seconds:6.1f} s  peak {peak} MiB  {dict(attack.ends)}",
                flush=True,
            )
    return attack


def run_atheris(arguments: list[str]) -> None:
    """Let coverage guide raw bytes into machines, until interrupted or told otherwise by libFuzzer's options."""
    import atheris

    def attack(data: bytes) -> None:
        watch = Watch()
        machine = make_machine(Main(watch), Options(limits=LIMITS))
        for message in data.split(b"\n"):
            receive(machine, message)
            check_tables(machine)
        assert not any(SECRET.encode() in message for message in machine.outbox)
        check_end(machine, watch)

    # What is under attack, and not the hundred packages that came with it.
    for function in [thing for thing in gc.get_objects() if isinstance(thing, types.FunctionType)]:
        if (function.__module__ or "").startswith("itx_notebook.capnweb."):
            atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], *arguments], attack)
    atheris.Fuzz()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Attack machines with frames from a seed.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    options, rest = parser.parse_known_args()
    if options.atheris:
        run_atheris(rest)
    else:
        run_frames(options.frames, options.seed * 1_000_000)


if __name__ == "__main__":
    main()
