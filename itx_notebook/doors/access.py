"""Who may hold what: principal → access → context. Pure decisions; every door asks here.

Missing and forbidden are one outcome, ``None``, and cost the same look-up, so that nobody can tell them apart; the
error for it is built in ``errors.project_not_found``.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from itx_notebook.types import Principal, Project

__all__ = ["ProjectAccess", "access_for_principal", "is_project_id", "may_access", "resolve_accessible_context"]

ProjectAccess = Literal["all"] | tuple[str, ...]
"""``"all"``, or the ids of the projects."""

_ID_PREFIXES: Final = ("prj_", "proj_")


class ProjectLookup(Protocol):
    """The one question access asks of a directory."""

    def try_get(self, id_or_slug: str) -> Project | None:
        """The project with this id (if it looks like one) or slug."""
        ...


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


def resolve_accessible_context(directory: ProjectLookup, access: ProjectAccess, id_or_slug: str) -> Project | None:
    """The project that `id_or_slug` names, if there is one and `access` covers it; else ``None``.

    The look-up comes before the access check in every case.
    """
    project = directory.try_get(id_or_slug)
    return project if project is not None and may_access(access, project.id) else None
