"""``itx-notebook serve`` as a process: what it says, where the secret comes from, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from itx_notebook import capnweb as rpc
from tests.capnweb.wires import get_client_tls
from tests.test_cli_access import rows, run

SECRET: Final = "a secret of the command line's tests"


class Served:
    """A server in a process of its own; what it said is in ``said``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = re.findall(r"wss?://\S+", self.wait_for("Serving"))[0]

    def wait_for(self, text: str) -> str:
        """The next line with `text` in it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"It ended without {text!r}: {''.join(self.said)}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.said += self.process.stderr
        return self.process.wait(20)


@contextmanager
def serve(home: Path, *arguments: str, secret: str | None = SECRET) -> Iterator[Served]:
    environment = {name: value for name, value in os.environ.items() if name != "ITX_ADMIN_SECRET"}
    if secret is not None:
        environment["ITX_ADMIN_SECRET"] = secret
    command = [sys.executable, "-W", "error", "-m", "itx_notebook.cli", "--home", str(home), "serve", "--port", "0"]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Served(process)
        finally:
            process.kill()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_when_told_to_end_says_goodbye_to_sessions_and_exits_well(home: Path, number: signal.Signals) -> None:
    async def hold(served: Served) -> tuple[int, int]:
        session = await rpc.open_session(f"{served.url}api/itx", headers=bearer(SECRET))
        await session.main.projects.create({"slug": "demo"})
        status = await asyncio.to_thread(served.end, number)
        code, _ = await session.wait_closed()
        return status, code

    with serve(home) as served:
        assert asyncio.run(hold(served)) == (0, 1001)
        assert served.said[-1] == "Ended.\n"
        assert SECRET not in "".join(served.said)
    assert [row["slug"] for row in rows(home, "projects", "list")] == ["demo"]


def test_server_when_told_to_end_amid_appends_answers_those_it_has_got(home: Path) -> None:
    async def append(served: Served) -> tuple[list[int], int, list[Any]]:
        session = await rpc.open_session(f"{served.url}api/itx", headers=bearer(SECRET))
        await session.main.projects.create({"slug": "demo"})
        stream = session.main.projects.get("demo").streams.get("/a")
        batches: list[Any] = []
        await stream.subscribe(batches.append, {"afterOffset": "start", "presence": False})
        # They leave together, so whoever has answered the first has got them all.
        appends = [asyncio.ensure_future(stream.append({"type": "demo.n", "payload": n})) for n in range(200)]
        await appends[0]
        served.process.send_signal(signal.SIGTERM)
        events = await asyncio.gather(*appends)
        code, _ = await session.wait_closed()
        return [event["payload"] for event in events], code, [e["offset"] for b in batches for e in b["events"]]

    with serve(home) as served:
        payloads, code, offsets = asyncio.run(append(served))
        assert (payloads, code, served.process.wait(20)) == (list(range(200)), 1001, 0)
        # Who followed was sent them too, before it was told goodbye.
        assert offsets == list(range(1, len(offsets) + 1))
        assert len(offsets) >= 200


def test_commands_beside_the_server_change_what_it_serves_at_once(home: Path) -> None:
    async def sign_in(url: str, token: str) -> str:
        async with rpc.connect(f"{url}api/itx/shop", headers=bearer(token)) as itx:
            return str((await itx.describe())["project"]["slug"])

    with serve(home, secret=None) as served:
        assert "Nobody can sign in yet" in "".join(served.said)
        run(home, "projects", "create", "shop")
        run(home, "users", "create", "ada")
        run(home, "users", "grant", "ada", "shop")
        token = run(home, "tokens", "create", "ada").stdout.strip()
        assert asyncio.run(sign_in(served.url, token)) == "shop"
        run(home, "tokens", "revoke", token.split("_")[1])
        with pytest.raises(rpc.HandshakeError, match="401"):
            asyncio.run(sign_in(served.url, token))
        assert served.end() == 0
        assert token not in "".join(served.said)


def test_secret_comes_from_a_file_that_should_be_private(home: Path, tmp_path: Path) -> None:
    async def is_admin(url: str) -> bool:
        async with rpc.connect(f"{url}api/itx", headers=bearer(SECRET)) as itx:
            return bool((await itx.describe())["access"] == "all")

    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o644)
    with serve(home, "--admin-secret-file", str(file), "--no-access-log", secret=None) as served:
        assert "every user of this machine can read" in "".join(served.said)
        assert asyncio.run(is_admin(served.url))
        served.end()
        assert SECRET not in "".join(served.said)
        assert '"event"' not in "".join(served.said)


def test_files_of_a_server_are_private(home: Path) -> None:
    with serve(home) as served:
        run(home, "users", "create", "ada")
        run(home, "tokens", "create", "ada")
        for name in ("access.key", "door.json", "door.sock"):
            file = home / name
            if file.exists():
                assert file.stat().st_mode & 0o077 == 0, name
        assert (home / "access.key").exists()
        assert home.stat().st_mode & 0o077 == 0
        served.end()
        assert "may read the events" not in "".join(served.said)
    home.chmod(0o755)
    with serve(home) as served:
        assert "may read the events" in "".join(served.said)
        served.end()


def test_second_server_of_one_store_names_the_first(home: Path) -> None:
    with serve(home) as served:
        second = run(home, "serve", "--port", "0")
        assert second.exit_code == 1
        assert f"in use by process {served.process.pid}" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("--tls-cert", __file__), 2, "--tls-cert and --tls-key go together."),
        (("--tls-cert", __file__, "--tls-key", __file__), 1, "cannot be used"),
        (("--admin-secret-file", "/dev/null"), 1, "/dev/null holds no admin secret."),
        (("--admin-secret", "on the line"), 2, "No such option"),
        (("--jwks", "https://id.example/keys"), 1, "Signed tokens need three things"),
        (("--port", "70000"), 2, "70000 is not in the range"),
    ],
)
def test_arguments_that_are_not_right_are_refused(
    home: Path, arguments: tuple[str, ...], status: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ITX_ADMIN_SECRET", raising=False)
    result = run(home, "serve", *arguments)
    assert result.exit_code == status
    assert text in result.stderr


# -- the examples of the page on serving -----------------------------------------------------------------------------

PAGE: Final = (Path(__file__).parent.parent / "docs" / "serve.md").read_text(encoding="utf-8")
CERTIFICATE: Final = Path(__file__).parent / "capnweb" / "localhost.pem"


def get_example(language: str, containing: str) -> str:
    """The block of the page in a language that has a text in it."""
    (found,) = (block for block in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in block)
    return str(found)


def test_example_of_a_unit_starts_a_server_that_reloads_and_ends_in_time(home: Path, tmp_path: Path) -> None:
    unit = dict(line.split("=", 1) for line in get_example("ini", "[Service]").splitlines() if "=" in line)
    (tmp_path / "admin-secret").write_text(SECRET)
    (tmp_path / "admin-secret").chmod(0o600)
    program, home_option, _, *options = shlex.split(unit["ExecStart"].replace("%d", str(tmp_path)))
    assert (program, home_option) == ("/opt/itx/bin/itx-notebook", "--home")
    assert (unit["ExecReload"], options[0]) == ("/bin/kill -HUP $MAINPID", "serve")
    with serve(home, *options[1:], secret=None) as served:
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("there is no certificate")
        assert served.end() == 0


def test_example_of_tls_speaks_it_and_reads_the_files_again(home: Path, tmp_path: Path) -> None:
    command = shlex.split(get_example("sh", "--tls-cert").strip())
    assert command[:4] == ["itx-notebook", "serve", "--host", "0.0.0.0"]  # noqa: S104  # the page's
    files = {"/etc/itx/fullchain.pem": tmp_path / "chain.pem", "/etc/itx/privkey.pem": tmp_path / "key.pem"}
    for file in files.values():
        file.write_bytes(CERTIFICATE.read_bytes())
    options = [str(files.get(word, word)) for word in command[4:]]

    async def describe(url: str, tls: ssl.SSLContext) -> str:
        async with rpc.connect(f"{url}api/itx", headers=bearer(SECRET), ssl=tls) as itx:
            return str((await itx.describe())["context"])

    with serve(home, *options) as served:
        assert "read along" not in "".join(served.said)
        url = served.url.replace("127.0.0.1", "localhost")
        assert asyncio.run(describe(url, get_client_tls())) == "global"
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("The certificate was read again.")
        files["/etc/itx/privkey.pem"].write_text("nonsense")
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("cannot be used")
        assert asyncio.run(describe(url, get_client_tls())) == "global"
        assert served.end() == 0


def test_example_of_a_hub_gives_each_user_a_token(home: Path) -> None:
    class Settings:
        """What JupyterHub calls `c`: sections come into being when they are named."""

        def __getattr__(self, name: str) -> Any:
            setattr(self, name, Settings())
            return vars(self)[name]

    for command in (("projects", "create", "shop"), ("users", "create", "ada"), ("users", "grant", "ada", "shop")):
        run(home, *command)
    names: dict[str, Any] = {"c": Settings()}
    program = '["/opt/itx/bin/itx-notebook", "--home", "/var/lib/itx"]'
    example = get_example("python", "jupyterhub_config.py")
    assert program in example
    here = [sys.executable, "-m", "itx_notebook.cli", "--home", str(home)]
    exec(example.replace(program, repr(here)), names)  # noqa: S102  # our own page's
    spawner: Any = Settings()
    for user, has_token in (("ada", True), ("eve", False)):
        spawner.user.name, spawner.environment = user, {}
        asyncio.run(names["c"].Spawner.pre_spawn_hook(spawner))
        assert list(spawner.environment) == (["ITX_TOKEN"] if has_token else [])
    assert names["c"].Spawner.environment["ITX_PROJECT"] == "shop"
    (token,) = rows(home, "tokens", "list")
    assert (token["userId"], token["name"]) == ("ada", "hub")
    assert token["expiresAt"] is not None
