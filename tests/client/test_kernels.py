"""Three real kernels on one store, whose owner is killed again and again: nothing acknowledged is lost, nothing twice.

Two kills as a rule; ``ITX_KERNEL_KILLS=20`` for a longer run.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from itx_notebook.notebook import connect
from tests.support import close_engines

KILLS = int(os.environ.get("ITX_KERNEL_KILLS", "2"))

WORK = """
import json, os, time
import itx_notebook

NAME, LOG, STOP = {name!r}, {log!r}, {stop!r}
log = open(LOG, "a", buffering=1)
itx = itx_notebook.connect()
stream = itx.streams.get("/shared")
seen = []
subscription = stream.subscribe(lambda batch: seen.extend(event.offset for event in batch.events), presence=False)
n = 0
while not os.path.exists(STOP):
    key = f"{{NAME}}-{{n}}"
    event = stream.append("demo.n", {{"kernel": NAME, "n": n}}, idempotency_key=key)
    log.write(json.dumps([event.offset, key, time.time()]) + "\\n")
    n += 1
    if n % 10 == 0:
        print(time.time(), flush=True)
last = stream.append("demo.last", idempotency_key=f"last-{{NAME}}").offset
while not seen or seen[-1] < last:
    stream.get_state(presence=False)
print("seen", json.dumps([seen, repr(subscription.error)]), flush=True)
"""


class Kernel:
    """One kernel, that appends and follows until a file appears."""

    def __init__(self, name: str, directory: Path, home: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.stop = directory / "stop"
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(env={**os.environ, "ITX_HOME": str(home)})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    @property
    def pid(self) -> int:
        provisioner: Any = self._manager.provisioner
        return int(provisioner.pid)

    def work(self) -> None:
        """Begin; returns when the first events are acknowledged."""
        self._client.execute(WORK.format(name=self.name, log=str(self.log), stop=str(self.stop)))
        self.until_after(0)

    def until_after(self, moment: float) -> None:
        """Wait for the news that an event was acknowledged after a moment."""
        while float(self._hear()) <= moment:
            pass

    def end(self) -> tuple[list[int], str]:
        """What its follower saw, and what it says of its health. The file must be there."""
        while not (line := self._hear()).startswith("seen "):
            pass
        seen, error = json.loads(line.removeprefix("seen "))
        return seen, error

    def _hear(self) -> str:
        """The last whole line of what it says next."""
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            content = message["content"]
            if message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))
            if message["msg_type"] == "stream" and content["text"].strip():
                return str(content["text"]).strip().splitlines()[-1]

    def get_acknowledged(self) -> list[tuple[int, str, float]]:
        """Offset, key and moment of every event that it was told is there."""
        # A kernel that is killed may leave half a line.
        lines = self.log.read_text().splitlines(keepends=True)
        return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]

    def kill(self) -> float:
        """End it as the system would; when."""
        moment = time.time()
        os.kill(self.pid, signal.SIGKILL)
        return moment

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.context.destroy(linger=0)


class Kernels:
    """Those that were started, and those of them that live."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.alive: list[Kernel] = []
        self.all: list[Kernel] = []
        self._directory = directory
        self._home = home

    def start(self) -> None:
        """Start one, and let it work."""
        kernel = Kernel(f"k{len(self.all)}", self._directory, self._home)
        self.all.append(kernel)
        self.alive.append(kernel)
        kernel.work()

    def kill_owner(self) -> float:
        """Kill the one that owns the store; when."""
        pid = json.loads((self._home / "owner.json").read_text())["pid"]
        (owner,) = [kernel for kernel in self.alive if kernel.pid == pid]
        self.alive.remove(owner)
        return owner.kill()


@pytest.fixture
def kernels(home: Path, tmp_path: Path) -> Iterator[Kernels]:
    directory = tmp_path / "logs"
    directory.mkdir()
    kernels = Kernels(directory, home)
    yield kernels
    for kernel in kernels.all:
        kernel.close()


def test_kernels_share_a_store_whose_owner_is_killed(kernels: Kernels, home: Path, tmp_path: Path) -> None:
    for _ in range(3):
        kernels.start()
    took: list[float] = []
    for _ in range(KILLS):
        # A commit that was under way may be acknowledged a moment later all the same.
        moment = kernels.kill_owner() + 0.05
        for kernel in kernels.alive:
            kernel.until_after(moment)
            took.append(min(when for _, _, when in kernel.get_acknowledged() if when > moment) - moment)
        kernels.start()
    (tmp_path / "logs" / "stop").touch()
    followed = [kernel.end() for kernel in kernels.alive]
    acknowledged = [each for kernel in kernels.all for each in kernel.get_acknowledged()]
    stored = connect(home=home).streams.get("/shared").read(presence=False)
    close_engines()
    assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
    keys = [event.idempotency_key for event in stored if event.type == "demo.n"]
    assert len(keys) == len(set(keys))
    there = {(event.offset, event.idempotency_key) for event in stored}
    assert {(offset, key) for offset, key, _ in acknowledged} <= there
    for seen, error in followed:
        assert error == "None"
        assert seen == list(range(1, len(seen) + 1))
    assert max(took) <= 2, took
