"""Redis Streams and PostgreSQL as peers of the engine: servers of our own, on a socket, in a directory of their own.

Both keep the promise that is measured: the answer comes after the fsync. A server or client that is missing is said so
in its rows. Redis is spoken to in two ways: by hand in its own protocol, blocking, which takes less than any library;
and through redis-py's asyncio client with its parser in C (``pip install "redis[hiredis]"``), which is what a program
like ours would hold. PostgreSQL is spoken to through psycopg (``pip install "psycopg[binary]"``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Postgres", "Redis", "find_postgres", "find_redis", "find_redis_client", "wait_for"]


def find_redis() -> str | None:
    """The server's program, or ``None`` if it is not installed."""
    return shutil.which("redis-server")


def find_redis_client() -> bool:
    """Whether redis-py is installed, and its parser in C."""
    return all(importlib.util.find_spec(name) is not None for name in ("redis", "hiredis"))


def find_postgres() -> str | None:
    """The server's program, or ``None`` if it, or the client, is not installed."""
    return None if importlib.util.find_spec("psycopg") is None else shutil.which("postgres")


class Redis:
    """A Redis of our own, ``appendfsync always``, on loopback and on a Unix socket; and a client of it, by hand.

    Attributes
    ----------
    path : Path
        The server's Unix socket.
    port : int
        The server's port.
    """

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self.port = port
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Redis]:
        """A server, and a connection to it."""
        program = find_redis()
        assert program is not None
        directory = Path(tempfile.mkdtemp(prefix="itx-redis-"))
        path = directory / "redis.sock"
        port = _find_port()
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "unixsocket": str(path),
            "dir": str(directory),
            "appendonly": "yes",
            "appendfsync": "always",
            # Neither snapshots nor a rewrite of the log beside what is measured.
            "save": "",
            "auto-aof-rewrite-percentage": "0",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
        try:
            wait_for(path.exists, "Redis")
            yield cls(path, port)
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(directory, ignore_errors=True)

    def connect(self, wire: str) -> Any:
        """A client of redis-py for asyncio, over ``loopback`` or ``unix``."""
        import redis.asyncio

        if wire == "unix":
            return redis.asyncio.Redis(unix_socket_path=str(self.path))
        return redis.asyncio.Redis(host="127.0.0.1", port=self.port)

    def send(self, *commands: tuple[bytes, ...]) -> list[Any]:
        """Several commands at once, and their answers."""
        self._socket.sendall(
            b"".join(
                b"*%d\r\n%s" % (len(words), b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                for words in commands
            )
        )
        return [self._read() for _ in commands]

    def _read(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._read() for _ in range(max(0, int(rest)))]
        assert kind != b"-", rest
        return rest


class Postgres:
    """A client of a PostgreSQL of our own; ``synchronous_commit`` on, as it comes."""

    def __init__(self, directory: Path) -> None:
        import psycopg

        self.connection: Any = psycopg.connect(host=str(directory), user="postgres", dbname="postgres", autocommit=True)
        self.connection.execute(
            "CREATE TABLE events (id bigserial PRIMARY KEY, type text NOT NULL, key text UNIQUE, body jsonb NOT NULL)"
        )

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Postgres]:
        """A server, and a connection to it."""
        program = find_postgres()
        assert program is not None
        tools = Path(program).resolve().parent
        directory = Path(tempfile.mkdtemp(prefix="itx-postgres-"))
        # It refuses to be root.
        as_nobody: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if as_nobody:
            shutil.chown(directory, **as_nobody)
        data = directory / "data"
        subprocess.run(
            [tools / "initdb", "-D", data, "-A", "trust", "-U", "postgres"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=directory,
            **as_nobody,
        )
        server = subprocess.Popen(
            [program, "-D", data, "-k", directory, "-c", "listen_addresses="],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            **as_nobody,
        )
        try:
            wait_for(lambda: _accepts(tools, directory), "PostgreSQL")
            postgres = cls(directory)
            try:
                yield postgres
            finally:
                postgres.connection.close()
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(directory, ignore_errors=True)

    def append(self, bodies: list[dict[str, Any]], key: str | None = None) -> None:
        """One transaction."""
        rows = [(body["type"], key, json.dumps(body)) for body in bodies]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany("INSERT INTO events (type, key, body) VALUES (%s, %s, %s)", rows)


def _find_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _accepts(tools: Path, directory: Path) -> bool:
    asked = subprocess.run([tools / "pg_isready", "-q", "-h", directory], check=False)
    return asked.returncode == 0


def wait_for(is_ready: Callable[[], bool], what: str) -> None:
    """Wait until a process that was started can be spoken to; :class:`TimeoutError` after 30 seconds."""
    deadline = time.monotonic() + 30
    while not is_ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not start within 30 seconds")
        time.sleep(0.02)
