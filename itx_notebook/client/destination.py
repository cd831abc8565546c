"""Where ``connect()`` goes and as whom: arguments, then the environment, then what the ``iterate`` CLI has stored.

Apart from the loader because it is about settings alone: nothing here opens a socket. A secret is read when a dial asks
for it, goes into that dial's headers, and stands nowhere else: not in a repr, an error, a widget or a notebook.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from itx_notebook.errors import ItxError

__all__ = ["Destination", "Token", "find_destination", "get_cli_config_path", "parse_base_url"]

Token = str | Callable[[bool], str | Awaitable[str]]
"""A token, or a function that gives one at each dial. It is told whether the last one was refused."""

GetHeaders = Callable[[bool], Awaitable[dict[str, str]]]

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_DOOR: Final = "/api/itx"
_TOKEN: Final = re.compile(r"[!-~]+")
"""Visible ASCII: what a header's value may be, and every token is."""

_CLI_URL: Final = "https://os.iterate.com"
"""The deployment of a CLI config that names none (the CLI's own default)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A deployment, and how to prove who one is there.

    Attributes
    ----------
    url : str
        The deployment's base, ``http`` or ``https``, without a trailing slash and without secrets.
    project : str or None
        The project that was asked for.
    url_source, token_source : str
        Where they were found, for people; ``"none"`` for a token: nobody is signed in.
    identity : hashable
        Equal for equal credentials. Holds the secret itself, so it is not shown.
    get_headers : callable
        Gives a dial's headers.
    """

    url: str
    project: str | None
    url_source: str
    token_source: str
    identity: Hashable = field(repr=False)
    get_headers: GetHeaders = field(repr=False, compare=False)

    @property
    def door_url(self) -> str:
        """The WebSocket's address."""
        return f"ws{self.url.removeprefix('http')}{_DOOR}"

    def describe_sources(self) -> str:
        """Say what was used, without saying what it is."""
        return f"URL from {self.url_source}, token from {self.token_source}"


def find_destination(
    project: str | None = None,
    *,
    url: str | None = None,
    token: Token | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Destination | None:
    """Return where to go; ``None`` for the embedded engine.

    The first that is there decides: `url`; `home`; ``ITX_URL``; ``ITX_HOME``; the ``iterate`` CLI's config with a
    stored session. The token is `token`, else ``ITX_TOKEN`` (not if ``ITX_URL`` names another deployment), else the
    session that the CLI has stored for that very deployment.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: they do not fit together, or one is malformed. No message repeats a token.
    """
    if url is not None and home is not None:
        raise ItxError(
            "connect() was given url= and home=: one is an itx elsewhere, the other the engine here.",
            code="BAD_REQUEST",
            hint="Leave one of them out.",
        )
    cli = _CliConfig.try_read()
    env_url = os.environ.get("ITX_URL") or None
    if url is not None:
        base, source = parse_base_url(url, "url="), "url="
    elif home is None and env_url is not None:
        base, source = parse_base_url(env_url, "ITX_URL"), "ITX_URL"
    elif home is None and not os.environ.get("ITX_HOME") and cli is not None and cli.has_session:
        base, source = cli.url, str(cli.path)
    elif token is not None:
        raise ItxError(
            "connect() was given a token but no url.", code="BAD_REQUEST", hint="Say where it is good for: url=…"
        )
    else:
        return None
    token_source, identity, get_headers = _find_token(base, token, env_url, cli)
    chosen = project or os.environ.get("ITX_PROJECT") or (cli.project if cli is not None and cli.url == base else None)
    return Destination(base, chosen, source, token_source, identity, get_headers)


def _find_token(
    base: str, token: Token | None, env_url: str | None, cli: _CliConfig | None
) -> tuple[str, Hashable, GetHeaders]:
    if token is not None:
        return "token=", token, _Bearer(token)
    env_token = os.environ.get("ITX_TOKEN")
    if env_token and (env_url is None or parse_base_url(env_url, "ITX_URL") == base):
        return "ITX_TOKEN", env_token, _Bearer(env_token)
    if cli is not None and cli.has_session and cli.url == base:
        return str(cli.path), (str(cli.path), cli.name), _CliSession(cli)
    return "none", None, _nobody


def parse_base_url(url: str, what: str) -> str:
    """Return a deployment's base URL in its one form: ``https://host[:port][/base]``.

    ``ws`` and ``wss`` count as ``http`` and ``https``, and a trailing ``/api/itx`` is left out.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: it is not one. A user name or password in it is not repeated.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise _bad_url(what, "is not a URL") from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname:
        raise _bad_url(what, "is not the URL of an itx")
    if parts.username is not None or parts.password is not None:
        raise _bad_url(what, "holds a name or password")
    if parts.query or parts.fragment:
        raise _bad_url(what, "goes on after its path")
    path = parts.path.rstrip("/").removesuffix(_DOOR).rstrip("/")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_usual = port is None or port == {"http": 80, "https": 443}[scheme]
    return SplitResult(scheme, host if is_usual else f"{host}:{port}", path, "", "").geturl()


def _bad_url(what: str, why: str) -> ItxError:
    return ItxError(
        f"{what} {why}.",
        code="BAD_REQUEST",
        hint="Write it like https://itx.example.com, and give the token apart: token=…, or ITX_TOKEN.",
    )


async def _nobody(_are_refused: bool) -> dict[str, str]:  # noqa: FBT001  # as every provider is asked
    return {}


class _Bearer:
    """Headers from a token of the user's."""

    __slots__ = ("_token",)

    def __init__(self, token: Token) -> None:
        self._token = token
        if isinstance(token, str):
            _check_token(token)

    async def __call__(self, are_refused: bool) -> dict[str, str]:  # noqa: FBT001  # as every provider is asked
        token = self._token
        if not isinstance(token, str):
            # A function of the user's may block, and this is everybody's loop.
            given = token(are_refused) if inspect.iscoroutinefunction(token) else None
            answer = given if given is not None else await asyncio.to_thread(token, are_refused)
            token = await answer if inspect.isawaitable(answer) else answer
        return {"Authorization": f"Bearer {_check_token(token)}"}


def _check_token(token: object) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token.strip()):
        raise ItxError(
            f"The token is not one: {'it is empty' if not token else 'it holds what no token holds'}.",
            code="BAD_REQUEST",
            hint="Tokens are visible ASCII, without spaces. Copy it again.",
        )
    return token.strip()


class _CliSession:
    """Headers from the CLI's stored session, read anew at each dial: the CLI renews it."""

    __slots__ = ("_config",)

    def __init__(self, config: _CliConfig) -> None:
        self._config = config

    async def __call__(self, _are_refused: bool) -> dict[str, str]:  # noqa: FBT001  # as every provider is asked
        return (await asyncio.to_thread(_CliConfig.try_read, self._config.name) or self._config).get_headers()


@dataclass(frozen=True, slots=True)
class _CliConfig:
    """One entry of the CLI's config file: ``{configs: {name: entry}, default?, workspaces?: {directory: name}}``.

    An entry is ``{osBaseUrl?, defaultProject?, session?: {token?, cookie?, …}}``.
    """

    path: Path
    name: str
    url: str
    project: str | None
    session: dict[str, Any] = field(repr=False)

    @classmethod
    def try_read(cls, name: str | None = None) -> _CliConfig | None:
        """The entry of this directory, or the default one; ``None`` if there is none that makes sense."""
        path = get_cli_config_path()
        try:
            file = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(file, dict):
            return None
        entries = file.get("configs")
        if not isinstance(entries, dict):
            # An entry by itself.
            entries, name = {"": file}, ""
        name = name if name is not None else _choose_entry(file, entries)
        entry = entries.get(name)
        if name is None or not isinstance(entry, dict):
            return None
        session, project = entry.get("session"), entry.get("defaultProject")
        try:
            url = parse_base_url(str(entry.get("osBaseUrl") or _CLI_URL), str(path))
        except ItxError:
            return None
        return cls(
            path,
            name,
            url,
            project if isinstance(project, str) and project else None,
            session if isinstance(session, dict) else {},
        )

    @property
    def has_session(self) -> bool:
        """Whether somebody has signed in."""
        return bool(self.session.get("token") or self.session.get("cookie"))

    def get_headers(self) -> dict[str, str]:
        """What proves the session."""
        if token := self.session.get("token"):
            return {"Authorization": f"Bearer {_check_token(token)}"}
        cookie = self.session.get("cookie")
        return {"Cookie": cookie} if isinstance(cookie, str) and cookie.isprintable() else {}


def _choose_entry(file: dict[str, Any], entries: dict[str, Any]) -> str | None:
    """The entry of the nearest workspace, else the default one, else the only one."""
    workspaces = file.get("workspaces")
    if isinstance(workspaces, dict):
        with suppress(FileNotFoundError):
            here = Path.cwd()
            for directory in (here, *here.parents):
                if (name := workspaces.get(str(directory))) in entries:
                    return str(name)
    default = file.get("default")
    if isinstance(default, str):
        return default
    return next(iter(entries)) if len(entries) == 1 else None


def get_cli_config_path() -> Path:
    """Where the ``iterate`` CLI keeps its settings."""
    parent = os.environ.get("XDG_CONFIG_HOME")
    return (Path(parent) if parent else Path.home() / ".config") / "iterate" / "config.json"
