"""Who there is beside the owner: users, their projects, and the tokens by which programs prove to be them.

A fold of one stream, ``/access`` of the global namespace, as the projects are: what was granted, when, and taken back,
stays readable. A token is shown once. The log has a keyed hash of it, and the key lies in a private file beside the
store, so neither a copy of the log nor an admin who reads it can tell whether a guess is right.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from itx_notebook.doors.directory import GLOBAL_NAMESPACE
from itx_notebook.errors import ItxError
from itx_notebook.streams import StreamEngine
from itx_notebook.types import Principal, StreamEvent

__all__ = ["ACCESS_PATH", "TOKEN_PREFIX", "People", "Token", "User"]

ACCESS_PATH: Final = "/access"
TOKEN_PREFIX: Final = "itx_"  # noqa: S105  # what every token begins with, so that scanners find a leaked one

_log = logging.getLogger("itx_notebook")

_KEY_FILE: Final = "access.key"
_KEY_BYTES: Final = 32
_TYPE: Final = "events.iterate.com/access/"
_USER_ID: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,126}", re.ASCII)
_NAME_MAX: Final = 200


class User(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A user. ``projects`` are the ids of those it is a member of, in the order granted."""

    id: str
    name: str
    is_admin: bool
    created_at: str
    projects: tuple[str, ...] = ()


class Token(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a token, which the token itself is no part of.

    Attributes
    ----------
    projects : tuple of str or None
        Ids of the projects it is good for, of those its user is a member of; ``None``: for all the user may.
    expires_at_ms, revoked_at : int, str, or None
        When it stops, or was stopped.
    """

    id: str
    user_id: str
    name: str
    projects: tuple[str, ...] | None
    created_at: str
    expires_at_ms: int | None
    revoked_at: str | None = None


class People:
    """The users and tokens of one deployment. Made by :meth:`open`; on the engine's loop."""

    def __init__(self, engine: StreamEngine) -> None:
        self._log = engine.stream(GLOBAL_NAMESPACE, ACCESS_PATH)
        self._clock = engine.clock
        self._key_file = engine.directory / _KEY_FILE
        self._key = b""
        self._users: dict[str, User] = {}
        self._tokens: dict[str, Token] = {}
        self._hashes: dict[str, str] = {}
        self._listeners: list[Callable[[], object]] = []
        # Between looking whether something may be done and folding that it was, nobody else may look.
        self._changing = asyncio.Lock()

    @classmethod
    async def open(cls, engine: StreamEngine) -> People:
        """Fold what the store knows."""
        people = cls(engine)
        people._key = _read_key(people._key_file)
        for event in await people._log.read():
            people._fold(event)
        return people

    def __repr__(self) -> str:
        return f"People({len(self._users)} users, {len(self._tokens)} tokens)"

    # -- looking -----------------------------------------------------------------------------------------------------

    def try_get_user(self, user_id: str) -> User | None:
        """The user with this id."""
        return self._users.get(user_id)

    def get_users(self) -> list[User]:
        """Every user, in order of creation."""
        return list(self._users.values())

    def get_tokens(self, user_id: str | None = None) -> list[Token]:
        """The tokens of a user, or of all, revoked and expired ones too, in order of creation."""
        return [token for token in self._tokens.values() if user_id in (None, token.user_id)]

    def try_get_principal(self, user_id: str, *, projects: tuple[str, ...] | None = None) -> Principal | None:
        """What a user may, or of that only `projects`. A scope makes of an admin a member of just these."""
        user = self._users.get(user_id)
        if user is None:
            return None
        if projects is None:
            return Principal.user(user.id, projects=user.projects, is_admin=user.is_admin)
        held = tuple(project for project in projects if user.is_admin or project in user.projects)
        return Principal.user(user.id, projects=held)

    def try_identify(self, token: str) -> tuple[Token, Principal] | None:
        """Whose token it is; ``None`` if it is none, or none any more."""
        token_id, _, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
        # An unknown id costs what a wrong secret does.
        expected = self._hashes.get(token_id, "")
        is_right = hmac.compare_digest(self._hash(token_id, secret), expected)
        known = self._tokens.get(token_id)
        if not is_right or known is None or not self._key or not token.startswith(TOKEN_PREFIX):
            return None
        principal = self.try_get_token_principal(token_id)
        return None if principal is None else (known, principal)

    def try_get_token_principal(self, token_id: str) -> Principal | None:
        """What the bearer of a token may now; ``None`` if it was revoked, has expired, or its user is gone."""
        token = self._tokens.get(token_id)
        if token is None or token.revoked_at is not None or self._is_expired(token):
            return None
        return self.try_get_principal(token.user_id, projects=token.projects)

    def _is_expired(self, token: Token) -> bool:
        return token.expires_at_ms is not None and self._clock.now_ms() >= token.expires_at_ms

    # -- changing ----------------------------------------------------------------------------------------------------

    def watch(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` after each change; what is returned ends that."""
        self._listeners.append(callback)

        def unwatch() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return unwatch

    async def create_user(self, user_id: str, *, name: str = "", is_admin: bool = False) -> User:
        """Create a user, who may nothing yet unless `is_admin`.

        Raises
        ------
        ItxError
            ``CONFLICT``: there is one with this id; ``BAD_REQUEST``: it is none.
        """
        if not _USER_ID.fullmatch(user_id):
            raise ItxError(
                f"User id {user_id!r} is not valid.",
                code="BAD_REQUEST",
                hint="Use up to 127 lower-case letters, digits and ._@+-, the first a letter or digit.",
            )
        _check_name(name)
        async with self._changing:
            if user_id in self._users:
                raise ItxError(f"User {user_id} exists already.", code="CONFLICT", details={"userId": user_id})
            await self._append("user-created", {"userId": user_id, "name": name, "isAdmin": is_admin})
        return self._users[user_id]

    async def remove_user(self, user_id: str) -> None:
        """Remove a user with its memberships and tokens; sessions of theirs end. ``NOT_FOUND`` if there is none."""
        async with self._changing:
            self._get_user(user_id)
            await self._append("user-removed", {"userId": user_id})

    async def grant(self, user_id: str, project_id: str) -> User:
        """Make a user a member of a project. Repeating is harmless."""
        async with self._changing:
            if project_id not in self._get_user(user_id).projects:
                await self._append("membership-granted", {"userId": user_id, "projectId": project_id})
        return self._users[user_id]

    async def revoke(self, user_id: str, project_id: str) -> User:
        """Take that back; sessions that hold the project end. Repeating is harmless."""
        async with self._changing:
            if project_id in self._get_user(user_id).projects:
                await self._append("membership-revoked", {"userId": user_id, "projectId": project_id})
        return self._users[user_id]

    async def create_token(
        self,
        user_id: str,
        *,
        name: str = "",
        projects: Iterable[str] | None = None,
        expires_in: float | None = None,
    ) -> tuple[Token, str]:
        """Make a token for a user; the text of it is returned here and nowhere else.

        Parameters
        ----------
        name : str
            What it is for, to be recognised by.
        projects : iterable of str, optional
            Ids of the projects it is good for; all the user may if ``None``.
        expires_in : float, optional
            Seconds from now; never if ``None``.

        Raises
        ------
        ItxError
            ``NOT_FOUND``: the user; ``BAD_REQUEST``: a project the user is no member of, or a time that is none.
        """
        _check_name(name)
        scope = None if projects is None else tuple(dict.fromkeys(projects))
        expires_at_ms = None if expires_in is None else self._clock.now_ms() + round(_check_seconds(expires_in) * 1000)
        async with self._changing:
            user = self._get_user(user_id)
            for project in scope or ():
                if not user.is_admin and project not in user.projects:
                    raise ItxError(
                        f"User {user_id} is no member of project {project}.",
                        code="BAD_REQUEST",
                        details={"userId": user_id, "projectId": project},
                        hint=f"Make them one first: itx-notebook users grant {user_id} PROJECT.",
                    )
            if not self._key:
                self._key = await asyncio.to_thread(_make_key, self._key_file)
            token_id, secret = uuid.uuid4().hex[:16], secrets.token_urlsafe(32)
            facts = {
                "tokenId": token_id,
                "userId": user_id,
                "name": name,
                "projects": None if scope is None else list(scope),
                "expiresAtMs": expires_at_ms,
                "hash": self._hash(token_id, secret),
            }
            await self._append("token-created", facts)
        return self._tokens[token_id], f"{TOKEN_PREFIX}{token_id}_{secret}"

    async def revoke_token(self, token_id: str) -> Token:
        """Stop a token for good; sessions opened with it end. Repeating is harmless. ``NOT_FOUND`` if there is none."""
        async with self._changing:
            token = self._tokens.get(token_id)
            if token is None:
                raise ItxError(f"Token {token_id} not found.", code="NOT_FOUND", details={"tokenId": token_id})
            if token.revoked_at is None:
                await self._append("token-revoked", {"tokenId": token_id})
        return self._tokens[token_id]

    def _get_user(self, user_id: str) -> User:
        user = self._users.get(user_id)
        if user is None:
            raise ItxError(
                f"User {user_id} not found.",
                code="NOT_FOUND",
                details={"userId": user_id},
                hint="itx-notebook users list shows who there is.",
            )
        return user

    async def _append(self, kind: str, payload: dict[str, Any]) -> None:
        # In a task of its own: a caller that gives up must not leave memory behind the log.
        await asyncio.shield(asyncio.ensure_future(self._commit({"type": _TYPE + kind, "payload": payload})))

    async def _commit(self, event: dict[str, Any]) -> None:
        self._fold(await self._log.append(event))
        for listener in tuple(self._listeners):
            listener()

    # -- folding -----------------------------------------------------------------------------------------------------

    def _fold(self, event: StreamEvent) -> None:
        if not event.type.startswith(_TYPE) or not isinstance(event.payload, dict):
            return
        try:
            self._fold_fact(event, event.payload)
        except (KeyError, TypeError, AttributeError):
            # Whoever may append to this stream by hand must not be able to keep the deployment from opening.
            _log.warning("event %s of %s is no fact of this directory; it is passed over", event.offset, ACCESS_PATH)

    def _fold_fact(self, event: StreamEvent, facts: dict[str, Any]) -> None:
        user = self._users.get(facts.get("userId", ""))
        match event.type.removeprefix(_TYPE):
            case "user-created":
                new = User(
                    id=facts["userId"], name=facts["name"], is_admin=facts["isAdmin"], created_at=event.created_at
                )
                self._users.setdefault(new.id, new)
            case "user-removed":
                self._users.pop(facts["userId"], None)
                for token in self.get_tokens(facts["userId"]):
                    self._stop(token.id, event.created_at)
            case "membership-granted" if user is not None:
                projects = dict.fromkeys((*user.projects, facts["projectId"]))
                self._users[user.id] = msgspec.structs.replace(user, projects=tuple(projects))
            case "membership-revoked" if user is not None:
                rest = tuple(project for project in user.projects if project != facts["projectId"])
                self._users[user.id] = msgspec.structs.replace(user, projects=rest)
            case "token-created":
                scope = facts["projects"]
                self._tokens[facts["tokenId"]] = Token(
                    id=facts["tokenId"],
                    user_id=facts["userId"],
                    name=facts["name"],
                    projects=None if scope is None else tuple(scope),
                    created_at=event.created_at,
                    expires_at_ms=facts["expiresAtMs"],
                )
                self._hashes[facts["tokenId"]] = facts["hash"]
            case "token-revoked":
                self._stop(facts["tokenId"], event.created_at)
            case _:
                # Of a newer version, or about a user who is gone.
                pass

    def _stop(self, token_id: str, at: str) -> None:
        token = self._tokens.get(token_id)
        if token is not None and token.revoked_at is None:
            self._tokens[token_id] = msgspec.structs.replace(token, revoked_at=at)
            self._hashes.pop(token_id, None)

    def _hash(self, token_id: str, secret: str) -> str:
        return hmac.new(self._key, f"{token_id}_{secret}".encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _check_name(name: str) -> None:
    if len(name) > _NAME_MAX or not name.isprintable():
        raise ItxError(f"A name has at most {_NAME_MAX} printable characters.", code="BAD_REQUEST")


def _check_seconds(seconds: float) -> float:
    if not 0 < seconds < 10**10:
        raise ItxError(f"{seconds!r} is no number of seconds in which a token may expire.", code="BAD_REQUEST")
    return seconds


def _read_key(file: Path) -> bytes:
    """The key; empty as long as there is none."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def _make_key(file: Path) -> bytes:
    key = secrets.token_bytes(_KEY_BYTES)
    # Whole or not at all: half a key would make every token wrong at the next start.
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(key)
        opened.flush()
        os.fsync(opened.fileno())
    scratch.replace(file)
    return key
