"""A served deployment from outside: health, metrics, cookies, the access log, TLS, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.doors import Deployment
from itx_notebook.doors.monitoring import ACCESS_LOGGER
from itx_notebook.doors.service import Service, ServiceSettings, open_service
from tests.capnweb.wires import get_client_tls
from tests.doors.doors import ADMIN_SECRET, wait_until_empty
from tests.support import get_async_refusal

CERTIFICATE = Path(__file__).parent.parent / "capnweb" / "localhost.pem"
ADMIN = {"Authorization": f"Bearer {ADMIN_SECRET}"}


@pytest.fixture
async def service(deployment: Deployment) -> AsyncIterator[Service]:
    settings = ServiceSettings(port=0, admin_secret=ADMIN_SECRET, origins=["https://hub.example"], trusts_proxy=True)
    async with open_service(deployment, settings) as service:
        yield service


Answer = tuple[int, dict[str, str], str]


async def ask(
    service: Service, path: str, method: str = "GET", *, body: str = "", headers: Mapping[str, str] | None = None
) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
    given = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
    async with asyncio.timeout(10):
        text = (await reader.read()).decode()
    writer.close()
    head, _, answer = text.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    return int(first.split()[1]), {n.lower(): v for n, _, v in (line.partition(": ") for line in rest)}, answer


async def test_health_is_told_to_everybody(service: Service) -> None:
    status, headers, body = await ask(service, "/healthz")
    assert (status, body, headers["content-type"]) == (200, '{"status": "ok"}', "application/json")


async def test_health_when_the_engine_is_closed_is_503(deployment: Deployment, service: Service) -> None:
    await deployment.close()
    assert (await ask(service, "/healthz"))[0] == 503


async def test_metrics_are_for_admins_and_in_prometheus_format(deployment: Deployment, service: Service) -> None:
    await deployment.people.create_user("ada")
    _, token = await deployment.people.create_token("ada")
    for headers in ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer wrong"}):
        assert (await ask(service, "/metrics", headers=headers))[0] == 401
    async with rpc.connect(f"{service.server.url}api/itx", headers=ADMIN) as itx:
        with pytest.raises(rpc.RemoteError):
            await itx.projects.get("nope")
        before = deployment.engine.committed_events, deployment.engine.commits
        await itx.projects.get("other").streams.get("/counted").appendBatch([{"type": "t"}] * 5)
        await deployment.engine.settle()
        # Of the stream its first two and the five; its parent is told of it.
        assert deployment.engine.committed_events - before[0] == 8
        assert 1 <= deployment.engine.commits - before[1] <= 3
        status, headers, body = await ask(service, "/metrics", headers=ADMIN)
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = body.splitlines()
    assert body.endswith("\n")
    for line in (
        'itx_sessions{dialect="june"} 1',
        'itx_sessions_opened_total{dialect="june"} 1',
        'itx_http_answers_total{status="101"} 1',
        'itx_http_answers_total{status="401"} 3',
        'itx_call_errors_total{code="NOT_FOUND"} 1',
        "itx_projects 2",
        "itx_users 1",
        f"itx_events_committed_total {deployment.engine.committed_events}",
        f"itx_commits_total {deployment.engine.commits}",
    ):
        assert line in lines
    names = {line.partition(" ")[0].partition("{")[0] for line in lines if not line.startswith("#")}
    assert names <= {line.split()[2] for line in lines if line.startswith("# TYPE")}


async def test_admin_cookie_is_given_for_the_secret_and_opens_the_door(service: Service) -> None:
    value = ""
    for body, headers in ((ADMIN_SECRET, {}), (f"{ADMIN_SECRET}\n", {}), ("", ADMIN)):
        status, answered, text = await ask(service, "/api/itx/admin-cookie", "POST", body=body, headers=headers)
        assert (status, json.loads(text)) == (200, {"ok": True})
        value, _, attributes = answered["set-cookie"].partition(";")
        assert attributes == " HttpOnly; Path=/; SameSite=Lax"
    cookie = {"Cookie": value}
    async with rpc.connect(f"{service.server.url}api/itx", headers=cookie) as itx:
        assert (await itx.describe())["access"] == "all"
    async with rpc.connect(f"{service.server.url}api", headers=cookie) as root:
        session = root.authenticate({"type": "from-server-cookie"})
        assert (await session["__describe"]())["principal"]["type"] == "admin"
    secure = await ask(
        service, "/api/itx/admin-cookie", "POST", body=ADMIN_SECRET, headers={"X-Forwarded-Proto": "https"}
    )
    assert secure[1]["set-cookie"].endswith("; SameSite=None; Secure")


@pytest.mark.parametrize("body", ["", "wrong", ADMIN_SECRET[:-1], "x" * 4096])
async def test_admin_cookie_is_not_given_for_anything_else(service: Service, body: str) -> None:
    status, headers, text = await ask(service, "/api/itx/admin-cookie", "POST", body=body)
    assert (status, text) == (401, "Unauthorized")
    assert "set-cookie" not in headers


async def test_admin_cookie_asks_little_of_the_line(service: Service) -> None:
    assert (await ask(service, "/api/itx/admin-cookie", "POST", body="x" * 5000))[0] == 413
    assert (await ask(service, "/api/itx/admin-cookie"))[0] == 405


async def test_pages_of_known_origins_are_let_in_and_told_so(service: Service) -> None:
    for origin, status in (("https://hub.example", 204), ("https://evil.example", 403)):
        answer = await ask(service, "/api/itx/admin-cookie", "OPTIONS", headers={"Origin": origin})
        assert answer[0] == status
        assert answer[1].get("access-control-allow-origin") == (origin if status == 204 else None)


@pytest.mark.parametrize(
    ("path", "method", "headers", "status", "body"),
    [
        ("/", "GET", {}, 404, '{"error": "not found"}'),
        ("/api/unknown", "GET", ADMIN, 404, '{"error": "not found"}'),
        ("/api/itx/a/b", "GET", ADMIN, 404, '{"error": "not found"}'),
        ("/api/itx", "GET", {}, 401, "Unauthorized"),
        ("/api/itx/other", "GET", {}, 401, "Unauthorized"),
        ("/api/itx/nope", "GET", ADMIN, 404, '{"code": "NOT_FOUND", "error": "Context not found"}'),
        ("/api/itx/other", "GET", ADMIN, 400, "This endpoint only accepts POST or WebSocket requests."),
        ("/api/itx", "DELETE", ADMIN, 400, "This endpoint only accepts POST or WebSocket requests."),
        ("/api", "GET", {}, 400, "This endpoint only accepts WebSocket requests."),
        ("/api/streams/%2Fa", "GET", {}, 401, "Unauthorized"),
        ("/api/streams/%2FA", "GET", ADMIN, 400, None),
        ("/api/streams/%2Fa?namespace=a:b", "GET", ADMIN, 400, None),
        ("/api/streams/%FF%FE", "GET", ADMIN, 400, None),
        ("/api/streams/%2Fa?" + "x=1&" * 20, "GET", ADMIN, 400, "The query has too many fields."),
        ("/healthz", "POST", {}, 404, '{"error": "not found"}'),
        ("/api/itx/run", "POST", {}, 401, "Unauthorized"),
        ("/api/itx/run", "POST", ADMIN, 503, '{"code": "INTERNAL", "error": "LOADER binding not available"}'),
        ("/api/itx/run", "GET", ADMIN, 503, '{"code": "INTERNAL", "error": "LOADER binding not available"}'),
    ],
)
async def test_other_requests_are_refused_in_the_originals_order(
    service: Service, path: str, method: str, headers: dict[str, str], status: int, body: str | None
) -> None:
    answer = await ask(service, path, method, headers=headers)
    assert answer[0] == status
    assert body is None or answer[2] == body


async def test_batch_over_post_speaks_both_dialects(service: Service) -> None:
    url = f"http://127.0.0.1:{service.server.port}/api"
    async with rpc.batch(f"{url}/itx/other", headers=ADMIN) as itx:
        appended = itx.streams.get("/batch").append({"type": "t"})
        assert (await appended)["offset"] == 3
    async with rpc.batch(url) as root:
        session = root.authenticate({"type": "admin-secret", "secret": ADMIN_SECRET})
        (event,) = await session.projects.get("other").streams.get("/batch").append({"type": "u"})
        assert event["offset"] == 4


async def test_access_log_has_a_line_for_each_answer_and_session_and_no_secret(
    deployment: Deployment, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await deployment.people.create_user("ada")
    known, token = await deployment.people.create_token("ada")
    bearer = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "9.9.9.9, 10.0.0.7"}
    async with rpc.connect(f"{service.server.url}api/itx?token={token}", headers=bearer) as itx:
        await itx.describe()
    async with rpc.connect(f"{service.server.url}api") as root:
        await root.authenticate({"type": "admin-secret", "secret": ADMIN_SECRET})
    await ask(service, "/api/itx/nope%0Aforged", headers=ADMIN)
    await ask(service, "/api/itx/admin-cookie", "POST", body=ADMIN_SECRET)
    await wait_until_empty(service.sessions)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == ACCESS_LOGGER]
    facts = [[line.get(name) for name in ("event", "path", "status", "who", "by")] for line in lines]
    assert sorted(facts, key=str) == sorted(
        [
            ["answer", "/api/itx", 101, "ada", "token"],
            ["session-end", None, None, "ada", "token"],
            ["answer", "/api", 101, None, None],
            ["session-end", None, None, "admin", "admin-secret"],
            ["answer", "/api/itx/nope%0Aforged", 404, None, None],
            ["answer", "/api/itx/admin-cookie", 200, None, None],
        ],
        key=str,
    )
    assert lines[0]["peer"] == "10.0.0.7"
    assert lines[0]["token"] == known.id
    everything = caplog.text + repr(service) + repr(caplog.records)
    for secret in (token, token.removeprefix(f"itx_{known.id}_"), ADMIN_SECRET):
        assert secret not in everything


async def test_members_are_not_told_where_the_data_lies(deployment: Deployment, service: Service, home: Path) -> None:
    async with rpc.connect(f"{service.server.url}api/itx/other", headers=ADMIN) as itx:
        facts = await itx.describe()
    assert (facts["engine"], facts["location"]) == ("served", service.server.url)
    assert str(home) not in str(facts)


async def test_end_answers_what_is_asked_for_and_tells_subscribers(deployment: Deployment) -> None:
    batches: asyncio.Queue[Any] = asyncio.Queue()
    async with open_service(deployment, ServiceSettings(port=0, admin_secret=ADMIN_SECRET)) as service:
        url = f"{service.server.url}api/itx/other"
        asking = await rpc.open_session(url, headers=ADMIN)
        following = await rpc.open_session(url, headers=ADMIN)
        await following.main.streams.get("/live").subscribe(batches.put_nowait, {"afterOffset": "end"})
        await batches.get()
        appended = asyncio.gather(
            *(asking.main.streams.get("/live").append({"type": "t", "payload": n}) for n in range(50))
        )
        # Until the server has them: what it has not been asked for it cannot answer.
        first = await batches.get()
    assert [event["payload"] for event in (await appended)] == list(range(50))
    assert first["events"]
    for session in (asking, following):
        assert await session.wait_closed() == (1001, "the server is closing")
    assert deployment.engine.stream(deployment.directory.get_all()[1].id, "/live").get_state().event_count == 53 + 1


async def test_client_that_does_not_close_cannot_hold_the_end_up(deployment: Deployment) -> None:
    settings = ServiceSettings(port=0, admin_secret=ADMIN_SECRET, drain_timeout=0.2)
    async with open_service(deployment, settings) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        await asyncio.sleep(0)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_tls_is_spoken_and_its_certificate_read_again(deployment: Deployment, tmp_path: Path) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file in files:
        file.write_bytes(CERTIFICATE.read_bytes())
    settings = ServiceSettings(port=0, admin_secret=ADMIN_SECRET, certificate=files[0], key=files[1])
    async with open_service(deployment, settings) as service:
        url = f"wss://localhost:{service.server.port}/api/itx"
        async with rpc.connect(url, headers=ADMIN, ssl=get_client_tls()) as itx:
            assert (await itx.describe())["context"] == "global"
        service.reload_certificate()
        files[0].write_text("nonsense")
        with pytest.raises(Exception, match="cannot be used"):
            service.reload_certificate()
        async with rpc.connect(url, headers=ADMIN, ssl=get_client_tls()) as itx:
            assert (await itx.describe())["context"] == "global"
        with pytest.raises(ssl.SSLCertVerificationError):
            await rpc.open_session(url, headers=ADMIN)


async def test_settings_that_are_not_right_are_refused_by_name(deployment: Deployment, tmp_path: Path) -> None:
    for settings, message in (
        (ServiceSettings(admin_secret="short"), "fewer than 16 characters"),
        (ServiceSettings(jwks="https://id.example/keys"), "Signed tokens need three things"),
        (ServiceSettings(certificate=tmp_path / "none", key=tmp_path / "none"), "cannot be used"),
        (ServiceSettings(host="203.0.113.1", port=0), "Cannot listen on 203.0.113.1"),
    ):
        error = await get_async_refusal(open_service(deployment, settings).__aenter__())
        assert error.code == "BAD_REQUEST"
        assert message in error.message
    assert "secret" not in repr(ServiceSettings(admin_secret=ADMIN_SECRET))


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        (ServiceSettings(), False),
        (ServiceSettings(host="192.0.2.1"), True),
        (ServiceSettings(host="192.0.2.1", trusts_proxy=True), False),
        (ServiceSettings(host="192.0.2.1", certificate=CERTIFICATE), False),
    ],
)
def test_open_line_is_recognised(settings: ServiceSettings, is_open: bool) -> None:
    assert settings.is_open_line is is_open
