"""Bearer tokens that somebody else has signed (JWT), checked against the keys that they publish (JWKS).

For teams that sign in elsewhere. The signature says who it is; what they may do here, the directory says. Needs the
extra ``jwt``, which is imported when the first verifier is made.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from itx_notebook import capnweb as rpc
from itx_notebook._clock import Clock
from itx_notebook.errors import ItxError

__all__ = ["SignedTokens"]

_log = logging.getLogger("itx_notebook")

# Asymmetric ones alone: with a symmetric one among them, a published key would serve to sign.
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
_FETCH_TIMEOUT: Final = 5.0
_MAX_BYTES: Final = 1024 * 1024
_MAX_AGE: Final = 3600.0
"""Seconds after which keys are fetched again, which is also how long a key that was taken back still counts."""
_MIN_AGE: Final = 30.0
"""Seconds before they are fetched again for a key that is not among them: anybody can make such tokens up."""
_LEEWAY: Final = 30
"""Seconds that two clocks may differ."""


class SignedTokens:
    """Verifies tokens of one issuer.

    Parameters
    ----------
    keys : str
        The issuer's key set: an ``https://`` URL, ``http://`` on loopback, or a file.
    issuer, audience : str
        Which tokens count: those of this issuer for this audience. Both are asked for, so that a token that was made
        for another service is no good here.
    clock : Clock
        Tells the time.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: the URL is not private, or the extra ``jwt`` is not installed.
    """

    def __init__(self, keys: str, *, issuer: str, audience: str, clock: Clock) -> None:
        try:
            from joserfc import errors, jwk, jwt
        except ImportError:
            raise ItxError(
                "Signed tokens need the package joserfc, which is not installed.",
                code="BAD_REQUEST",
                hint="Install the extra: pip install 'itx-notebook[jwt]'.",
            ) from None
        self._jwk, self._jwt, self._error = jwk, jwt, errors.JoseError
        self._location = _check_location(keys)
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._keys: Any = None
        self._fetched_at = 0.0
        self._fetching = asyncio.Lock()

    async def verify(self, token: str) -> tuple[str, int | None] | None:
        """Return the token's subject and when it expires (milliseconds); ``None`` if it does not count.

        Raises
        ------
        Refusal
            503: the issuer's keys cannot be fetched.
        """
        key_id = _read_key_id(token)
        if key_id is None:
            return None
        keys = await self._get_keys(key_id)
        claims: dict[str, Any]
        try:
            decoded = self._jwt.decode(token, keys, algorithms=list(_ALGORITHMS))
            claims = decoded.claims
            registry = self._jwt.JWTClaimsRegistry(
                now=self._clock.now_ms() // 1000,
                leeway=_LEEWAY,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._audience},
                exp={"essential": True},
                sub={"essential": True},
            )
            registry.validate(claims)
        except (self._error, ValueError, TypeError, KeyError):
            return None
        subject, expires = claims["sub"], claims["exp"]
        return (subject, int(expires * 1000)) if isinstance(subject, str) else None

    async def _get_keys(self, key_id: str) -> Any:
        async with self._fetching:
            age = self._clock.monotonic() - self._fetched_at
            is_known = self._keys is not None and (not key_id or key_id in [key.kid for key in self._keys.keys])
            if self._keys is None or age > (_MAX_AGE if is_known else _MIN_AGE):
                try:
                    self._keys = await asyncio.to_thread(self._fetch)
                except (OSError, ValueError, self._error) as error:
                    # Not the error's text to the caller, who may be anybody.
                    _log.warning("the keys of %s cannot be fetched: %s", self._location, error)
                    if self._keys is None:
                        raise rpc.Refusal(503, "The keys of those who sign cannot be fetched.") from None
                self._fetched_at = self._clock.monotonic()
            return self._keys

    def _fetch(self) -> Any:
        if isinstance(self._location, Path):
            text = self._location.read_bytes()
        else:
            with urllib.request.urlopen(self._location, timeout=_FETCH_TIMEOUT) as answer:  # noqa: S310  # checked
                text = answer.read(_MAX_BYTES)
        return self._jwk.KeySet.import_key_set(json.loads(text))


def _read_key_id(token: str) -> str | None:
    """The key that a token says it was signed with, empty if it says none; ``None`` if it is no token."""
    head, *rest = token.split(".")
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return None
    key_id = header.get("kid", "") if isinstance(header, dict) and len(rest) == 2 else None
    return key_id if isinstance(key_id, str) else None


def _check_location(keys: str) -> str | Path:
    parts = urlsplit(keys)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")):
        return keys
    if parts.scheme in ("", "file"):
        return Path(parts.path)
    raise ItxError(f"{keys} is neither an https:// URL nor a file.", code="BAD_REQUEST")
