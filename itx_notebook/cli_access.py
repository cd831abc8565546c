"""``itx-notebook projects``, ``users`` and ``tokens``: who may what, from a terminal on the store's own machine.

They ask the process that holds the store, through its private door, if there is one, and open the store themselves if
there is none: whoever may read the directory owns what is in it. A token is printed alone on standard output.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click

from itx_notebook import capnweb as rpc
from itx_notebook.client.local_door import dial_local_door
from itx_notebook.doors import Deployment, get_global_itx
from itx_notebook.doors.targets import ItxTarget
from itx_notebook.doors.websocket import door_options
from itx_notebook.errors import as_itx_error
from itx_notebook.types import ADMIN

__all__ = ["projects_group", "tokens_group", "users_group"]

_PAGE: Final = 500
_HINT: Final = "What there is: itx-notebook projects list, users list, tokens list."
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_HEADS: Final = {
    "isAdmin": "ADMIN",
    "userId": "USER",
    "createdAt": "CREATED",
    "expiresAt": "EXPIRES",
    "revokedAt": "REVOKED",
}

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def _ask(home: Path, question: Callable[[Any], Awaitable[Any]]) -> Any:
    """What the store's owner answers."""

    async def ask() -> Any:
        async with _open_itx(home) as itx:
            try:
                return await question(itx)
            except rpc.RpcError as error:
                refusal = as_itx_error(error)
                raise (refusal.with_hint(_HINT) if refusal.code == "NOT_FOUND" else refusal) from None

    return asyncio.run(ask())


@asynccontextmanager
async def _open_itx(home: Path) -> AsyncIterator[Any]:
    """The handle on everything: over the owner's private door, or over a store of one's own."""
    try:
        session = await dial_local_door(home)
    except OSError:
        deployment = await Deployment.open(home)
        try:
            main = ItxTarget(get_global_itx(deployment, ADMIN))
            near, _ = rpc.memory_pair(None, main, right_options=door_options())
            yield near.main
            await near.close()
        finally:
            await deployment.close()
    else:
        try:
            yield session.main
        finally:
            await session.close()


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows as a table for people, or as JSON for programs."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = [
        [_HEADS.get(column, column.upper()) for column in columns],
        *([_say(column, row.get(column)) for column in columns] for row in rows),
    ]
    widths = [max(len(line[n]) for line in table) for n in range(len(columns))]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _say(column: str, value: Any) -> str:
    if column.endswith("At") and value is not None:
        return str(value)[:16].replace("T", " ")
    if isinstance(value, list):
        return ",".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


# -- projects ----------------------------------------------------------------------------------------------------------


@click.group("projects")
def projects_group() -> None:
    """List projects, and create them."""


@projects_group.command("list")
@_as_json
@click.pass_obj
def list_projects(home: Path, /, *, as_json: bool) -> None:
    """Show every project."""

    async def get_all(itx: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            page = await itx.projects.list({"limit": _PAGE, "offset": len(found)})
            found += page["projects"]
            if not page["projects"] or len(found) >= page["total"]:
                return found

    _show(_ask(home, get_all), ("slug", "id", "createdAt"), as_json=as_json)


@projects_group.command("create")
@click.argument("slug")
@click.option("--id", "project_id", help="An id of one's own, beginning with prj_.")
@click.pass_obj
def create_project(home: Path, slug: str, project_id: str | None) -> None:
    """Create a project, and print its id."""
    options = {"slug": slug} if project_id is None else {"slug": slug, "id": project_id}
    click.echo(_ask(home, lambda itx: itx.projects.create(options))["id"])


# -- users -------------------------------------------------------------------------------------------------------------


@click.group("users")
def users_group() -> None:
    """Say who there is, and who is a member of which project."""


@users_group.command("list")
@_as_json
@click.pass_obj
def list_users(home: Path, /, *, as_json: bool) -> None:
    """Show every user."""
    users = _ask(home, lambda itx: itx.people.listUsers())
    _show(users, ("id", "name", "isAdmin", "projects", "createdAt"), as_json=as_json)


@users_group.command("create")
@click.argument("user")
@click.option("--name", default="", help="For people to read.")
@click.option("--admin", "is_admin", is_flag=True, help="One who may everything.")
@click.pass_obj
def create_user(home: Path, /, *, user: str, name: str, is_admin: bool) -> None:
    """Create a user, who may nothing yet unless --admin."""
    options = {"id": user, "name": name, "isAdmin": is_admin}
    _ask(home, lambda itx: itx.people.createUser(options))
    click.echo(f"Created {user}.", err=True)


@users_group.command("remove")
@click.argument("user")
@click.pass_obj
def remove_user(home: Path, user: str) -> None:
    """Remove a user; its tokens and open sessions end."""
    _ask(home, lambda itx: itx.people.removeUser(user))
    click.echo(f"Removed {user}.", err=True)


@users_group.command("grant")
@click.argument("user")
@click.argument("project")
@click.pass_obj
def grant(home: Path, user: str, project: str) -> None:
    """Make a user a member of a project."""
    projects = _ask(home, lambda itx: itx.people.grant(user, project))["projects"]
    click.echo(f"{user} is a member of {', '.join(projects)}.", err=True)


@users_group.command("revoke")
@click.argument("user")
@click.argument("project")
@click.pass_obj
def revoke(home: Path, user: str, project: str) -> None:
    """Take that back; sessions that hold the project end."""
    projects = _ask(home, lambda itx: itx.people.revoke(user, project))["projects"]
    click.echo(f"{user} is a member of {', '.join(projects) or 'no project'}.", err=True)


# -- tokens ------------------------------------------------------------------------------------------------------------


@click.group("tokens")
def tokens_group() -> None:
    """Make tokens, by which programs sign in, and stop them."""


@tokens_group.command("list")
@click.option("--user", help="Of this one only.")
@_as_json
@click.pass_obj
def list_tokens(home: Path, /, *, user: str | None, as_json: bool) -> None:
    """Show what is known of tokens, which they themselves are no part of."""
    tokens = _ask(home, lambda itx: itx.people.listTokens(*([] if user is None else [user])))
    _show(tokens, ("id", "userId", "name", "projects", "createdAt", "expiresAt", "revokedAt"), as_json=as_json)


@tokens_group.command("create")
@click.argument("user")
@click.option("--name", default="", help="What it is for.")
@click.option("--project", "projects", multiple=True, help="Good for this one only; may be repeated.")
@click.option("--expires", metavar="TIME", help="30m, 12h, 90d, 8w; never, if not given.")
@click.pass_obj
def create_token(home: Path, /, *, user: str, name: str, projects: tuple[str, ...], expires: str | None) -> None:
    """Print a new token, once: it cannot be shown again."""
    options: dict[str, Any] = {"userId": user, "name": name}
    if projects:
        options["projects"] = list(projects)
    if expires is not None:
        options["expiresInSeconds"] = _parse_time(expires)
    made = _ask(home, lambda itx: itx.people.createToken(options))
    click.echo(f"Token {made['id']} of {user}; it is shown this once.", err=True)
    click.echo(made["token"])


@tokens_group.command("revoke")
@click.argument("token_id")
@click.pass_obj
def revoke_token(home: Path, token_id: str) -> None:
    """Stop a token for good; sessions opened with it end."""
    _ask(home, lambda itx: itx.people.revokeToken(token_id))
    click.echo(f"Revoked {token_id}.", err=True)


def _parse_time(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if match is None or not int(match[1]):
        raise click.BadParameter(f"{text!r} is no time such as 30m, 12h, 90d or 8w.", param_hint="--expires")
    return int(match[1]) * _UNITS[match[2]]
