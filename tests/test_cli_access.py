"""Projects, users and tokens from a terminal: on a store nobody holds, and through the process that does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from itx_notebook.cli import main
from tests.support import hold_store


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments])


def rows(home: Path, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in run(home, *arguments, "--json").stdout.splitlines()]


def work(home: Path) -> None:
    """Everything there is, once; the same whoever holds the store."""
    created = run(home, "projects", "create", "shop")
    assert created.stdout.startswith("prj_")
    assert run(home, "projects", "create", "lab", "--id", "prj_lab").stdout == "prj_lab\n"
    assert {row["slug"] for row in rows(home, "projects", "list")} >= {"shop", "lab"}
    assert run(home, "users", "create", "ada", "--name", "Ada L.").stderr == "Created ada.\n"
    assert run(home, "users", "create", "root", "--admin").exit_code == 0
    assert run(home, "users", "grant", "ada", "shop").stderr == "ada is a member of shop.\n"
    assert run(home, "users", "grant", "ada", "prj_lab").stderr == "ada is a member of shop, lab.\n"
    assert run(home, "users", "revoke", "ada", "lab").stderr == "ada is a member of shop.\n"
    assert [(row["id"], row["isAdmin"], row["projects"]) for row in rows(home, "users", "list")] == [
        ("ada", False, ["shop"]),
        ("root", True, []),
    ]
    made = run(home, "tokens", "create", "ada", "--name", "ci", "--project", "shop", "--expires", "90d")
    (known,) = rows(home, "tokens", "list", "--user", "ada")
    assert made.stdout.startswith(f"itx_{known['id']}_")
    assert made.stdout.count("\n") == 1
    assert made.stderr == f"Token {known['id']} of ada; it is shown this once.\n"
    assert (known["name"], known["projects"], known["revokedAt"]) == ("ci", ["shop"], None)
    assert made.stdout.strip() not in run(home, "tokens", "list").stdout
    assert run(home, "tokens", "revoke", str(known["id"])).stderr == f"Revoked {known['id']}.\n"
    assert rows(home, "tokens", "list")[0]["revokedAt"] is not None
    assert run(home, "users", "remove", "ada").stderr == "Removed ada.\n"
    assert [row["id"] for row in rows(home, "users", "list")] == ["root"]


def test_commands_on_a_store_that_nobody_holds(home: Path) -> None:
    work(home)
    table = run(home, "users", "list").stdout.splitlines()
    assert [line.split()[:4] for line in table] == [["ID", "NAME", "ADMIN", "PROJECTS"], ["root", "-", "yes", "-"]]


def test_commands_through_the_process_that_holds_the_store(home: Path) -> None:
    with hold_store(home):
        work(home)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("users", "grant", "nobody", "shop"), 1, "Error: Project shop not found.\n→ What there is: itx-notebook"),
        (("users", "remove", "nobody"), 1, "Error: User nobody not found."),
        (("users", "create", "A B"), 1, "Error: User id 'A B' is not valid."),
        (("tokens", "create", "nobody"), 1, "Error: User nobody not found."),
        (("tokens", "revoke", "0"), 1, "Error: Token 0 not found."),
        (("projects", "create", "A"), 1, "Error: Project slug 'A' is not valid."),
        (("tokens", "create", "ada", "--expires", "soon"), 2, "'soon' is no time such as 30m, 12h, 90d or 8w."),
        (("tokens", "create", "ada", "--expires", "0d"), 2, "'0d' is no time"),
    ],
)
def test_refusals_are_told_in_two_lines(home: Path, arguments: tuple[str, ...], status: int, text: str) -> None:
    result = run(home, *arguments)
    assert result.exit_code == status
    assert text in result.stderr
