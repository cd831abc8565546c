"""Who is calling: from what a request or a call brings with it to a grant.

A grant is a principal together with how it was proved, so that a door can tell later whether it still holds. Nothing
here decides what a principal may do, and nothing here keeps, prints or logs a secret.

Ways to prove who one is: a token of the directory (``Authorization: Bearer itx_…``), the admin secret the same way or
in the admin cookie, and, if told whose signatures count, a signed bearer token (``signed_tokens.py``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from itx_notebook import capnweb as rpc
from itx_notebook.doors.access import access_for_principal
from itx_notebook.doors.people import TOKEN_PREFIX, People
from itx_notebook.types import ADMIN, Principal

__all__ = [
    "ADMIN_COOKIE",
    "ADMIN_SECRET_MIN",
    "Authenticator",
    "Credentials",
    "Grant",
    "GrantKind",
    "SignatureVerifier",
    "as_grant",
    "format_admin_cookie",
    "get_bearer",
    "is_same_origin",
]

ADMIN_COOKIE: Final = "iterate-admin-auth"
ADMIN_SECRET_MIN: Final = 16
"""Characters of an admin secret at the least: it is asked for over a network, as often as somebody likes."""

_SECRET_MAX: Final = 16 * 1024

GrantKind = Literal["owner", "token", "admin-secret", "admin-cookie", "signed", "impersonated"]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A principal, and how it was proved.

    Attributes
    ----------
    token_id : str, optional
        Of the directory's token it came by.
    user_id : str, optional
        The directory's user it stands for: when that user loses something, the grant no longer holds.
    expires_at_ms : int, optional
        When it ends by itself.
    """

    principal: Principal
    kind: GrantKind = "owner"
    token_id: str | None = None
    user_id: str | None = None
    expires_at_ms: int | None = None

    @property
    def label(self) -> str:
        """Who it is, for logs: never anything secret."""
        return self.principal.user_id or self.principal.type

    def still_holds(self, people: People, now_ms: int) -> bool:
        """Whether everything that was granted would be granted again."""
        if self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return False
        if self.token_id is not None:
            current = people.try_get_token_principal(self.token_id)
        elif self.user_id is not None:
            current = people.try_get_principal(self.user_id)
        else:
            return True
        return current is not None and _covers(current, self.principal)


def _covers(current: Principal, granted: Principal) -> bool:
    access, had = access_for_principal(current), access_for_principal(granted)
    return access == "all" or (had != "all" and set(had) <= set(access))


class Authenticator(Protocol):
    """Tells who is calling."""

    async def identify(self, request: rpc.HandshakeRequest) -> Grant | Principal | None:
        """Return who sent a request; ``None`` for nobody."""
        ...


class SignatureVerifier(Protocol):
    """Tells whose a signed token is."""

    async def verify(self, token: str) -> tuple[str, int | None] | None:
        """Return the user's id and when the token expires (milliseconds); ``None`` if it is not valid."""
        ...


def as_grant(found: Grant | Principal | None) -> Grant | None:
    """What an authenticator found, as a grant."""
    return Grant(principal=found) if isinstance(found, Principal) else found


class Credentials:
    """Knows callers by the directory, the admin secret and, optionally, by signatures.

    Parameters
    ----------
    people : People
        The directory.
    admin_secret : str, optional
        Whoever has it is the admin. Nobody is, by that way, if ``None``.
    signatures : SignatureVerifier, optional
        Whose signatures count. The user they name must be in the directory.
    """

    def __init__(
        self, people: People, *, admin_secret: str | None = None, signatures: SignatureVerifier | None = None
    ) -> None:
        if admin_secret is not None and len(admin_secret) < ADMIN_SECRET_MIN:
            raise ValueError(f"The admin secret has fewer than {ADMIN_SECRET_MIN} characters.")
        self._people = people
        self._admin_hash = None if admin_secret is None else _digest(admin_secret)
        self._signatures = signatures

    def __repr__(self) -> str:
        return f"Credentials(admin_secret={'no' if self._admin_hash is None else 'yes'})"

    async def identify(self, request: rpc.HandshakeRequest) -> Grant | None:
        """Who sent a request: by its ``Authorization``, and only without one by its cookie."""
        if "authorization" in request.headers:
            token = get_bearer(request)
            return None if token is None else await self.identify_bearer(token)
        return self.identify_cookie(request)

    async def identify_bearer(self, token: str) -> Grant | None:
        """Whose a bearer token is."""
        if len(token) > _SECRET_MAX:
            return None
        if self.is_admin_secret(token):
            return Grant(principal=ADMIN, kind="admin-secret")
        if token.startswith(TOKEN_PREFIX):
            found = self._people.try_identify(token)
            if found is None:
                return None
            known, principal = found
            return Grant(principal=principal, kind="token", token_id=known.id, expires_at_ms=known.expires_at_ms)
        if self._signatures is not None:
            verified = await self._signatures.verify(token)
            principal_or_none = None if verified is None else self._people.try_get_principal(verified[0])
            if verified is not None and principal_or_none is not None:
                user_id, expires_at_ms = verified
                return Grant(principal=principal_or_none, kind="signed", user_id=user_id, expires_at_ms=expires_at_ms)
        return None

    def identify_cookie(self, request: rpc.HandshakeRequest) -> Grant | None:
        """Whether a request has the admin cookie."""
        secret = _read_admin_cookie(request)
        if secret is None or not self.is_admin_secret(secret):
            return None
        return Grant(principal=ADMIN, kind="admin-cookie")

    def is_admin_secret(self, secret: object) -> bool:
        """Whether it is. Takes the same time for every wrong one."""
        if self._admin_hash is None or not isinstance(secret, str) or len(secret) > _SECRET_MAX:
            return False
        return hmac.compare_digest(_digest(secret), self._admin_hash)

    async def authenticate(self, given: object, request: rpc.HandshakeRequest) -> Grant | None:
        """Who calls ``authenticate``, in the v4 dialect; ``None`` for anything that is not right.

        Parameters
        ----------
        given : dict
            ``{type: "bearer", token}``, ``{type: "admin-secret", secret}``, ``{type: "from-server-cookie"}``, or
            ``{type: "impersonate", secret, token}`` with ``{type: "admin"}`` or ``{type: "user", principal,
            projectScopes}`` for the token.
        request : HandshakeRequest
            What opened the session: its cookie and origin.
        """
        if not isinstance(given, Mapping):
            return None
        match given.get("type"):
            case "bearer":
                token = given.get("token")
                return await self.identify_bearer(token) if isinstance(token, str) else None
            case "admin-secret":
                is_admin = self.is_admin_secret(given.get("secret"))
                return Grant(principal=ADMIN, kind="admin-secret") if is_admin else None
            case "from-server-cookie":
                return self.identify_cookie(request) if is_same_origin(request) else None
            case "impersonate":
                is_admin = self.is_admin_secret(given.get("secret"))
                return _impersonate(given.get("token")) if is_admin else None
            case _:
                return None


def _impersonate(token: object) -> Grant | None:
    """The grant of somebody else, for who holds the admin secret anyway."""
    if not isinstance(token, Mapping):
        return None
    if token.get("type") == "admin":
        return Grant(principal=ADMIN, kind="impersonated")
    user, scopes = token.get("principal"), token.get("projectScopes")
    if token.get("type") != "user" or not isinstance(user, str) or not user:
        return None
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return None
    return Grant(principal=Principal.user(user, projects=tuple(scopes)), kind="impersonated")


def get_bearer(request: rpc.HandshakeRequest) -> str | None:
    """The token of a request's one ``Authorization: Bearer``."""
    given = request.headers.get_all("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def format_admin_cookie(secret: str, *, is_secure: bool) -> str:
    """The value of ``Set-Cookie`` that makes a browser the admin's until it is closed."""
    body = msgspec.json.encode({"scopes": {"projects": "all"}, "secret": secret})
    value = base64.urlsafe_b64encode(body).decode().rstrip("=")
    return f"{ADMIN_COOKIE}={value}; HttpOnly; Path=/; {'SameSite=None; Secure' if is_secure else 'SameSite=Lax'}"


def _read_admin_cookie(request: rpc.HandshakeRequest) -> str | None:
    for header in request.headers.get_all("cookie"):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name != ADMIN_COOKIE or len(value) > _SECRET_MAX:
                continue
            try:
                body = msgspec.json.decode(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
            except (binascii.Error, ValueError):
                return None
            if isinstance(body, dict) and body.get("scopes") == {"projects": "all"}:
                secret = body.get("secret")
                return secret if isinstance(secret, str) else None
            return None
    return None


def is_same_origin(request: rpc.HandshakeRequest) -> bool:
    """Whether a request names no origin, or exactly the host that it was sent to."""
    origins = request.headers.get_all("origin")
    if not origins:
        return True
    try:
        page, asked = urlsplit(origins[0]), urlsplit(f"//{request.headers.get('host', '')}")
        return len(origins) == 1 and page.hostname is not None and _place(page) == _place(asked, page.scheme)
    except ValueError:
        return False


def _place(url: Any, scheme: str | None = None) -> tuple[str | None, int | None]:
    default = {"http": 80, "https": 443}.get(scheme or url.scheme)
    return url.hostname, url.port or default


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
