"""Tokens that others sign: which count, with real keys, and when the keys are fetched."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt

from itx_notebook import capnweb as rpc
from itx_notebook.doors.signed_tokens import SignedTokens
from itx_notebook.errors import ItxError
from itx_notebook.testing.clock import FakeClock

KEY = jwk.ECKey.generate_key("P-256", {"kid": "one"})
OTHER = jwk.ECKey.generate_key("P-256", {"kid": "two"})


class Issuer:
    """Publishes keys over HTTP, and counts how often they are asked for."""

    def __init__(self) -> None:
        self.keys = [KEY]
        self.asked = 0
        self.status = 200
        self.url = ""

    async def answer(self, _: rpc.HandshakeRequest, __: rpc.ReadBody) -> rpc.PostAnswer:
        self.asked += 1
        return self.status, [], json.dumps(jwk.KeySet(list(self.keys)).as_dict(private=False)).encode()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    async with rpc.serve(lambda _: None, on_request=issuer.answer) as server:
        issuer.url = f"http://127.0.0.1:{server.port}/keys"
        yield issuer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tokens(issuer: Issuer, clock: FakeClock) -> SignedTokens:
    return SignedTokens(issuer.url, issuer="https://id.example", audience="itx", clock=clock)


def sign(clock: FakeClock, *, key: Any = KEY, **claims: Any) -> str:
    now = clock.now_ms() // 1000
    body = {"iss": "https://id.example", "aud": "itx", "sub": "ada", "exp": now + 60, **claims}
    kept = {name: value for name, value in body.items() if value is not None}
    return jwt.encode({"alg": "ES256", "kid": key.kid}, kept, key)


def sign_with_the_public_key(clock: FakeClock) -> str:
    """What a verifier takes that lets the token choose a symmetric algorithm."""
    claims = {"iss": "https://id.example", "aud": "itx", "sub": "ada", "exp": clock.now_ms() // 1000 + 60}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "one"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.digest(KEY.as_pem(private=False), signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


async def test_token_when_everything_is_right_names_its_subject_and_end(tokens: SignedTokens, clock: FakeClock) -> None:
    assert await tokens.verify(sign(clock)) == ("ada", clock.now_ms() + 60_000)
    assert await tokens.verify(sign(clock, aud=["other", "itx"])) is not None


async def test_token_when_anything_is_wrong_does_not_count(tokens: SignedTokens, clock: FakeClock) -> None:
    now = clock.now_ms() // 1000
    forged = jwk.ECKey.generate_key("P-256", {"kid": "one"})
    good = sign(clock)
    for bad in (
        sign(clock, iss="https://other.example"),
        sign(clock, aud="other"),
        sign(clock, exp=now - 31),
        sign(clock, exp=None),
        sign(clock, iss=None),
        sign(clock, aud=None),
        sign(clock, sub=None),
        sign(clock, nbf=now + 31),
        sign(clock, key=forged),
        sign_with_the_public_key(clock),
        good[:-4],
        good.rpartition(".")[0],
        f"{good}.x",
        "a.b.c",
        "",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
    ):
        assert await tokens.verify(bad) is None


async def test_keys_are_fetched_once_and_again_for_a_new_key_but_not_for_every_made_up_one(
    tokens: SignedTokens, issuer: Issuer, clock: FakeClock
) -> None:
    for _ in range(3):
        await tokens.verify(sign(clock))
        await tokens.verify(sign(clock, key=OTHER))
    assert issuer.asked == 1
    issuer.keys = [OTHER]
    await clock.advance(31)
    assert await tokens.verify(sign(clock, key=OTHER)) is not None
    assert await tokens.verify(sign(clock)) is None
    assert issuer.asked == 2
    await clock.advance(3601)
    await tokens.verify(sign(clock, key=OTHER))
    assert issuer.asked == 3


async def test_keys_that_cannot_be_fetched_are_a_503_at_first_and_the_old_ones_later(
    tokens: SignedTokens, issuer: Issuer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status = 500
    with pytest.raises(rpc.Refusal, match="503 The keys of those who sign cannot be fetched"):
        await tokens.verify(sign(clock))
    issuer.status = 200
    assert await tokens.verify(sign(clock)) is not None
    issuer.status = 500
    await clock.advance(3601)
    assert await tokens.verify(sign(clock)) is not None
    assert caplog.text.count("cannot be fetched") == 2


async def test_keys_may_lie_in_a_file(tmp_path: Path, clock: FakeClock) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(jwk.KeySet([KEY]).as_dict(private=False)))
    tokens = SignedTokens(str(file), issuer="https://id.example", audience="itx", clock=clock)
    assert await tokens.verify(sign(clock)) is not None


def test_keys_over_an_open_line_are_refused(clock: FakeClock) -> None:
    with pytest.raises(ItxError, match="neither an https:// URL nor a file"):
        SignedTokens("http://id.example/keys", issuer="a", audience="b", clock=clock)
