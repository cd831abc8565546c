"""Who may hold what: principal → access → context. Pure decisions; every door asks here.

Missing and forbidden are one outcome, ``None``, and cost the same look-up, so that nobody can tell them apart; the
error for it is built in ``errors.project_not_found``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

from itx_notebook.errors import ItxError
from itx_notebook.streams.path import ROOT, parse_stream_path
from itx_notebook.types import Principal, Project

__all__ = [
    "Context",
    "ProjectAccess",
    "access_for_principal",
    "is_project_id",
    "may_access",
    "resolve_accessible_context",
]

ProjectAccess = Literal["all"] | tuple[str, ...]
"""``"all"``, or the ids of the projects."""

_ID_PREFIXES: Final = ("prj_", "proj_")


class ProjectLookup(Protocol):
    """The one question access asks of a directory."""

    def try_get(self, id_or_slug: str) -> Project | None:
        """The project with this id (if it looks like one) or slug."""
        ...


class Context(NamedTuple):
    """What a handle points at: a project, and the place in it from which paths are taken."""

    project: Project
    path: str = ROOT

    @property
    def name(self) -> str:
        """The project's id; with the path behind a colon if that is not the root."""
        return self.project.id if self.path == ROOT else f"{self.project.id}:{self.path}"


def access_for_principal(principal: Principal | None) -> ProjectAccess:
    """What a principal may narrow to: everything for admins, its own projects for a user, nothing for nobody."""
    if principal is None:
        return ()
    if principal.type == "admin" or principal.is_admin:
        return "all"
    return principal.projects


def is_project_id(text: str) -> bool:
    """Whether `text` is an id rather than a slug. By prefix alone (``prj_``, the legacy ``proj_``), never by trying."""
    return text.startswith(_ID_PREFIXES)


def may_access(access: ProjectAccess, project_id: str) -> bool:
    """Whether `access` covers a project."""
    return access == "all" or project_id in access


def resolve_accessible_context(directory: ProjectLookup, access: ProjectAccess, target: str) -> Context | None:
    """The context that `target` names, if there is one and `access` covers it; else ``None``.

    One look-up in every case, and before the access check, so that no outcome costs more than another.

    Parameters
    ----------
    target : str
        A project's id, its slug, or ``<id>:/<path>``.
    """
    name, path = _split(target)
    project = directory.try_get(name)
    if project is None or path is None or not may_access(access, project.id):
        return None
    return Context(project, path)


def _split(target: str) -> tuple[str, str | None]:
    """The project's part of `target`, and its path; ``None`` for one that is none."""
    name, colon, path = target.partition(":")
    if not colon or not is_project_id(name) or not path.startswith(ROOT):
        return target, ROOT
    try:
        return name, parse_stream_path(path)
    except ItxError:
        return name, None
