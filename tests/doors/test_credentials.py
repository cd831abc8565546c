"""From requests and calls to grants: what counts, what does not, and what is never shown."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from itx_notebook.capnweb.http1 import HandshakeRequest, RequestHeaders
from itx_notebook.doors import Deployment
from itx_notebook.doors.credentials import Credentials, Grant, format_admin_cookie, is_same_origin
from itx_notebook.types import ADMIN, Principal

SECRET = "correct horse battery staple"


class Signatures:
    """Somebody who vouches for one token of one user."""

    async def verify(self, token: str) -> tuple[str, int | None] | None:
        return {"signed.by.them": ("ada", 7), "of.a.stranger": ("nobody", 7)}.get(token)


@pytest.fixture
async def credentials(deployment: Deployment) -> Credentials:
    await deployment.people.create_user("ada")
    return Credentials(deployment.people, admin_secret=SECRET, signatures=Signatures())


def request(*headers: tuple[str, str]) -> HandshakeRequest:
    return HandshakeRequest(method="GET", target="/api", headers=RequestHeaders(headers))


def bearer(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


def cookie(secret: str = SECRET) -> tuple[str, str]:
    return ("Cookie", format_admin_cookie(secret, is_secure=False).partition(";")[0])


async def test_request_is_known_by_what_it_brings(deployment: Deployment, credentials: Credentials) -> None:
    token, text = await deployment.people.create_token("ada")
    ada = Principal.user("ada")
    admin = Grant(principal=ADMIN, kind="admin-secret")
    for headers, grant in (
        ([bearer(text)], Grant(principal=ada, kind="token", token_id=token.id)),
        ([("authorization", f"bearer  {text} ")], Grant(principal=ada, kind="token", token_id=token.id)),
        ([bearer(SECRET)], admin),
        ([cookie()], Grant(principal=ADMIN, kind="admin-cookie")),
        ([("Cookie", f"a=b; {cookie()[1]}; c")], Grant(principal=ADMIN, kind="admin-cookie")),
        ([bearer("signed.by.them")], Grant(principal=ada, kind="signed", user_id="ada", expires_at_ms=7)),
        ([], None),
        ([bearer("of.a.stranger")], None),
        ([bearer("wrong")], None),
        ([bearer("")], None),
        ([("Authorization", f"Basic {text}")], None),
        ([bearer(text), bearer(SECRET)], None),
        # Who shows the wrong token is not taken for whoever uses the browser.
        ([bearer("wrong"), cookie()], None),
        ([cookie("wrong secret, but long enough")], None),
        ([("Cookie", "iterate-admin-auth=!!!")], None),
        ([("Cookie", "iterate-admin-auth=" + base64.urlsafe_b64encode(b"[1]").decode())], None),
        ([("Cookie", "iterate-admin-auth=" + _encode({"secret": SECRET}))], None),
        ([("Cookie", "iterate-admin-auth=" + _encode({"scopes": {"projects": []}, "secret": SECRET}))], None),
        ([bearer("x" * 100_000)], None),
    ):
        assert await credentials.identify(request(*headers)) == grant, headers


def _encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


IMPERSONATED = Grant(principal=Principal.user("eve", projects=("prj_1",)), kind="impersonated")


@pytest.mark.parametrize(
    ("given", "grant"),
    [
        ({"type": "admin-secret", "secret": SECRET}, Grant(principal=ADMIN, kind="admin-secret")),
        ({"type": "admin-secret", "secret": "wrong"}, None),
        ({"type": "admin-secret", "secret": None}, None),
        ({"type": "admin-secret"}, None),
        ({"type": "bearer", "token": SECRET}, Grant(principal=ADMIN, kind="admin-secret")),
        ({"type": "bearer", "token": ["x"]}, None),
        ({"type": "bearer"}, None),
        (
            {"type": "impersonate", "secret": SECRET, "token": {"type": "admin"}},
            Grant(principal=ADMIN, kind="impersonated"),
        ),
        (
            {
                "type": "impersonate",
                "secret": SECRET,
                "token": {"type": "user", "principal": "eve", "projectScopes": ["prj_1"]},
            },
            IMPERSONATED,
        ),
        ({"type": "impersonate", "secret": "wrong", "token": {"type": "admin"}}, None),
        ({"type": "impersonate", "secret": SECRET, "token": {"type": "user", "principal": "eve"}}, None),
        ({"type": "impersonate", "secret": SECRET, "token": {"type": "root"}}, None),
        ({"type": "impersonate", "secret": SECRET}, None),
        ({"type": "from-server-cookie"}, None),
        ({"type": "project-secret"}, None),
        ({}, None),
        ("bearer", None),
        (None, None),
        ([], None),
    ],
)
async def test_authenticate_takes_what_it_knows_and_nothing_else(
    credentials: Credentials, given: Any, grant: Grant | None
) -> None:
    assert await credentials.authenticate(given, request()) == grant


@pytest.mark.parametrize(
    ("origin", "host", "is_let_in"),
    [
        (None, "itx.example", True),
        ("https://itx.example", "itx.example", True),
        ("https://itx.example:8443", "itx.example:8443", True),
        ("https://itx.example", "itx.example:443", True),
        ("https://itx.example", "itx.example:8443", False),
        ("https://evil.example", "itx.example", False),
        ("https://itx.example.evil", "itx.example", False),
        ("null", "itx.example", False),
        ("https://[", "itx.example", False),
    ],
)
async def test_cookie_counts_for_pages_of_the_same_origin_alone(
    credentials: Credentials, origin: str | None, host: str, is_let_in: bool
) -> None:
    asked = request(("Host", host), cookie(), *([] if origin is None else [("Origin", origin)]))
    assert is_same_origin(asked) is is_let_in
    grant = await credentials.authenticate({"type": "from-server-cookie"}, asked)
    assert (grant is not None) is is_let_in


async def test_without_an_admin_secret_nobody_is_the_admin_by_one(deployment: Deployment) -> None:
    credentials = Credentials(deployment.people)
    for given in ("", "None", SECRET):
        assert not credentials.is_admin_secret(given)
    assert await credentials.authenticate({"type": "admin-secret", "secret": ""}, request()) is None


async def test_secret_that_is_short_is_refused_without_being_said(deployment: Deployment) -> None:
    with pytest.raises(ValueError, match="fewer than 16 characters") as caught:
        Credentials(deployment.people, admin_secret="short secret")
    assert "short secret" not in str(caught.value)


async def test_secret_is_in_no_repr(deployment: Deployment, credentials: Credentials) -> None:
    _, text = await deployment.people.create_token("ada")
    asked = request(bearer(text), cookie())
    shown = f"{credentials!r} {vars(credentials)} {asked!r} {await credentials.identify(asked)!r}"
    assert SECRET not in shown
    assert text not in shown
    assert cookie()[1] not in shown


@pytest.mark.parametrize(("is_secure", "attributes"), [(True, "SameSite=None; Secure"), (False, "SameSite=Lax")])
def test_cookie_is_for_the_server_alone(is_secure: bool, attributes: str) -> None:
    assert format_admin_cookie(SECRET, is_secure=is_secure).endswith(f"; HttpOnly; Path=/; {attributes}")
