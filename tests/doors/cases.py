"""Who gets through a door, and what the others are told: one table, for every door there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from itx_notebook.doors import Deployment, ServerItx, get_server_itx
from itx_notebook.types import ADMIN, Principal

PROJECT_ID: Final = "proj__test__itxserver"
PROJECT_SLUG: Final = "itx-server-demo"
OTHER_ID: Final = "prj_other"
OTHER_SLUG: Final = "other"

MEMBER: Final = Principal.user("user_member", projects=(PROJECT_ID,))
HUMAN_ADMIN: Final = Principal.user("user_admin", is_admin=True)
STRANGER: Final = Principal.user("user_stranger")
NEIGHBOUR: Final = Principal.user("user_neighbour", projects=(OTHER_ID,))
ANONYMOUS: Final = None

Door = Callable[[Deployment, "Principal | None", str], Awaitable[ServerItx]]
"""Takes credentials and a name, gives the handle's surface or raises."""


async def enter_in_process(deployment: Deployment, principal: Principal | None, id_or_slug: str) -> ServerItx:
    return get_server_itx(deployment, id_or_slug, principal)


DOORS: Final[dict[str, Door]] = {"in-process": enter_in_process}


@dataclass(frozen=True)
class Case:
    who: str
    principal: Principal | None
    given: str
    is_let_in: bool

    def __str__(self) -> str:
        return f"{self.who}-{self.given}"


CASES: Final = (
    Case("member", MEMBER, PROJECT_SLUG, True),
    Case("admin", ADMIN, PROJECT_SLUG, True),
    Case("member", MEMBER, PROJECT_ID, True),
    Case("stranger", STRANGER, PROJECT_SLUG, False),
    Case("anonymous", ANONYMOUS, PROJECT_SLUG, False),
    Case("admin", ADMIN, "no-such-project", False),
    Case("stranger", STRANGER, PROJECT_ID, False),
    Case("anonymous", ANONYMOUS, PROJECT_ID, False),
    Case("admin", ADMIN, PROJECT_ID, True),
    Case("human-admin", HUMAN_ADMIN, PROJECT_SLUG, True),
    Case("human-admin", HUMAN_ADMIN, PROJECT_ID, True),
    Case("neighbour", NEIGHBOUR, PROJECT_SLUG, False),
    Case("neighbour", NEIGHBOUR, PROJECT_ID, False),
    Case("member", MEMBER, OTHER_SLUG, False),
    Case("admin", ADMIN, "prj_nothing", False),
    Case("admin", ADMIN, "proj_nothing", False),
    Case("admin", ADMIN, f"{PROJECT_ID}:/", True),
    Case("member", MEMBER, f"{PROJECT_ID}:/", True),
    Case("stranger", STRANGER, f"{PROJECT_ID}:/", False),
    Case("stranger", STRANGER, f"{PROJECT_ID}:/a", False),
    Case("admin", ADMIN, "prj_nothing:/", False),
    Case("admin", ADMIN, f"{PROJECT_SLUG}:/", False),
    Case("admin", ADMIN, f"{PROJECT_ID}:", False),
    Case("admin", ADMIN, f"{PROJECT_ID}:a", False),
    Case("admin", ADMIN, f"{PROJECT_ID}:/A", False),
    Case("admin", ADMIN, f"{PROJECT_ID}:/..", False),
    Case("admin", ADMIN, f" {PROJECT_ID}", False),
    Case("admin", ADMIN, "../itx", False),
    Case("admin", ADMIN, PROJECT_SLUG.upper(), False),
    Case("admin", ADMIN, "no\nline \u202e\0", False),
    Case("admin", ADMIN, "global", False),
)
