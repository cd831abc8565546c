from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.client.destination import Destination, find_destination, get_cli_config_path, parse_base_url
from tests.support import get_async_refusal, get_refusal

SECRET = "itx_geheim"


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Write what the iterate CLI would have stored."""
    monkeypatch.delenv("ITX_HOME")

    def write(content: Any) -> Path:
        path = get_cli_config_path()
        assert path.is_relative_to(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def entry(url: str = "https://os.example", **more: Any) -> dict[str, Any]:
    return {"osBaseUrl": url, "session": {"token": SECRET}, **more}


def find(*args: Any, **kwargs: Any) -> Destination:
    found = find_destination(*args, **kwargs)
    assert found is not None
    return found


# -- which -----------------------------------------------------------------------------------------------------------


def test_nothing_given_means_the_engine_here() -> None:
    assert find_destination() is None
    assert find_destination("demo", home="somewhere") is None


async def test_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITX_URL", "https://env.example")
    monkeypatch.setenv("ITX_TOKEN", "of-env")
    monkeypatch.setenv("ITX_PROJECT", "env")
    found = find("arg", url="https://arg.example/", token=SECRET)
    assert (found.url, found.project, found.url_source, found.token_source) == (
        "https://arg.example",
        "arg",
        "url=",
        "token=",
    )
    assert found.door_url == "wss://arg.example/api/itx"
    assert await found.get_headers(False) == {"Authorization": f"Bearer {SECRET}"}


async def test_the_environment_comes_next(monkeypatch: pytest.MonkeyPatch, write_config: Any) -> None:
    write_config({"configs": {"a": entry()}})
    monkeypatch.setenv("ITX_URL", "http://env.example:8080")
    monkeypatch.setenv("ITX_TOKEN", f" {SECRET}\n")
    monkeypatch.setenv("ITX_PROJECT", "env")
    found = find()
    assert (found.url, found.project, found.describe_sources()) == (
        "http://env.example:8080",
        "env",
        "URL from ITX_URL, token from ITX_TOKEN",
    )
    assert found.door_url == "ws://env.example:8080/api/itx"
    assert await found.get_headers(False) == {"Authorization": f"Bearer {SECRET}"}
    assert find_destination(home="here") is None


async def test_what_the_cli_has_stored_comes_last(write_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config({"configs": {"a": entry(defaultProject="demo")}, "default": "a"})
    found = find()
    assert (found.url, found.project, found.describe_sources()) == (
        "https://os.example",
        "demo",
        f"URL from {path}, token from {path}",
    )
    assert await found.get_headers(False) == {"Authorization": f"Bearer {SECRET}"}
    # The CLI renews its session; the next dial has the new one.
    write_config({"configs": {"a": entry(session={"token": "renewed"})}, "default": "a"})
    assert await found.get_headers(True) == {"Authorization": "Bearer renewed"}
    monkeypatch.setenv("ITX_HOME", "here")
    assert find_destination() is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"configs": {}},
        {"configs": {"a": {"osBaseUrl": "https://os.example"}}},
        {"configs": {"a": entry(), "b": entry()}},
        {"configs": {"a": entry()}, "default": "gone"},
        {"configs": {"a": entry("not a url")}},
        {"configs": {"a": "text"}},
    ],
    ids=str,
)
def test_a_config_without_a_session_or_sense_is_none(write_config: Any, content: Any) -> None:
    write_config(content)
    assert find_destination() is None


async def test_the_clis_entry_is_the_workspaces_the_default_or_the_only_one(
    write_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "work" / "inside"
    inside.mkdir(parents=True)
    configs = {"a": entry("https://a.example"), "b": entry("https://b.example")}
    write_config({"configs": configs, "default": "a", "workspaces": {str(tmp_path / "work"): "b"}})
    assert find().url == "https://a.example"
    monkeypatch.chdir(inside)
    assert find().url == "https://b.example"
    write_config({"configs": {"c": {"session": {"cookie": "s=1"}}}})
    found = find()
    assert found.url == "https://os.iterate.com"
    assert await found.get_headers(False) == {"Cookie": "s=1"}
    write_config(entry("https://flat.example"))
    assert find().url == "https://flat.example"


# -- secrets go where they belong ------------------------------------------------------------------------------------


def test_a_secret_is_not_sent_to_another_deployment(write_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config({"configs": {"a": entry(defaultProject="demo")}})
    found = find(url="https://other.example")
    assert (found.token_source, found.project) == ("none", None)
    assert find(url="https://os.example/api/itx").project == "demo"
    monkeypatch.setenv("ITX_URL", "https://env.example")
    monkeypatch.setenv("ITX_TOKEN", SECRET)
    assert find(url="https://other.example").token_source == "none"
    assert find(url="wss://env.example:443").token_source == "ITX_TOKEN"
    monkeypatch.delenv("ITX_URL")
    assert find(url="https://other.example").token_source == "ITX_TOKEN"


def test_nothing_shows_a_secret(write_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config({"configs": {"a": entry()}})
    assert SECRET not in repr(find()) + find().describe_sources()
    monkeypatch.setenv("ITX_TOKEN", SECRET)
    assert SECRET not in repr(find()) + find().describe_sources()
    assert SECRET not in repr(find(url="https://a.example", token=SECRET))


def test_the_same_credentials_are_the_same_identity() -> None:
    def provide(_: bool) -> str:
        return SECRET

    one, two = find(url="https://a", token=SECRET), find(url="https://a", token=SECRET)
    assert one.identity == two.identity
    assert one.identity != find(url="https://a", token="other").identity
    assert find(url="https://a", token=provide).identity == find(url="https://a", token=provide).identity
    assert find(url="https://a").identity is None


async def test_a_function_is_asked_at_each_dial_and_told_of_the_refusal() -> None:
    asked: list[bool] = []

    def provide(was_refused: bool) -> str:
        asked.append(was_refused)
        return f"{SECRET}-{len(asked)}"

    async def provide_later(was_refused: bool) -> str:
        return provide(was_refused)

    for token in (provide, provide_later, functools.partial(provide_later)):
        found = find(url="https://a", token=token)
        await found.get_headers(False)
        headers = await found.get_headers(True)
        assert headers == {"Authorization": f"Bearer {SECRET}-{len(asked)}"}
    assert asked == [False, True] * 3


@pytest.mark.parametrize("bad", ["", "two words", "line\nbreak", "schlüssel"])
def test_what_is_no_token_is_refused_unsaid(bad: str) -> None:
    error = get_refusal(lambda: find(url="https://a", token=bad))
    assert error.code == "BAD_REQUEST"
    assert not bad or bad not in error.message


@pytest.mark.parametrize("bad", ["", "two words", None, 7])
async def test_what_a_function_gives_that_is_no_token_is_refused(bad: Any) -> None:
    error = await get_async_refusal(find(url="https://a", token=lambda _: bad).get_headers(False))
    assert error.code == "BAD_REQUEST"


# -- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://itx.example", "https://itx.example"),
        ("https://ITX.example:443/", "https://itx.example"),
        ("wss://itx.example/api/itx/", "https://itx.example"),
        ("ws://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:80/base//", "http://127.0.0.1/base"),
        ("http://[::1]:9000/api/itx", "http://[::1]:9000"),
    ],
)
def test_a_base_url_has_one_form(given: str, base: str) -> None:
    assert parse_base_url(given, "url=") == base


@pytest.mark.parametrize(
    "given",
    [
        *("", "itx.example", "localhost:8080", "ftp://a", "https://", "https://a:b", "http://[::1"),
        *("https://user:geheim@a", "https://geheim@a", "https://a?token=geheim", "https://a#geheim"),
    ],
)
def test_what_is_no_base_url_is_refused_and_not_repeated(given: str) -> None:
    error = get_refusal(lambda: parse_base_url(given, "ITX_URL"))
    assert (error.code, error.message[:7]) == ("BAD_REQUEST", "ITX_URL")
    assert "geheim" not in error.message + error.remedy + repr(error.__cause__)
    assert "https://" in error.remedy


@pytest.mark.parametrize(
    "options", [{"url": "https://a", "home": "b"}, {"token": SECRET}, {"url": "", "token": SECRET}], ids=str
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    assert get_refusal(lambda: find_destination(**options)).code == "BAD_REQUEST"
