"""Which projects there are: a fold of one stream, ``/projects`` of the global namespace.

The log is the truth here too: a project is a fact appended once, and the directory is what the facts add up to.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any, Final

from itx_notebook.doors.access import is_project_id
from itx_notebook.errors import ItxError
from itx_notebook.streams import StreamEngine
from itx_notebook.types import Project, StreamEvent

__all__ = ["GLOBAL_NAMESPACE", "PROJECTS_PATH", "Directory", "try_get_project"]

GLOBAL_NAMESPACE: Final = "global"
PROJECTS_PATH: Final = "/projects"
_PROJECT_CREATED: Final = "events.iterate.com/project/created"
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class Directory:
    """The projects of one deployment. Made by :meth:`open`; on the engine's loop."""

    def __init__(self, engine: StreamEngine) -> None:
        self._engine = engine
        self._log = engine.stream(GLOBAL_NAMESPACE, PROJECTS_PATH)
        self._by_id: dict[str, Project] = {}
        self._id_by_slug: dict[str, str] = {}
        # Between looking whether slug and id are free and folding the fact, nobody else may look.
        self._creating = asyncio.Lock()

    @classmethod
    async def open(cls, engine: StreamEngine) -> Directory:
        """Fold what the store knows."""
        directory = cls(engine)
        for event in await directory._log.read():
            directory._fold(event)
        return directory

    def try_get(self, id_or_slug: str) -> Project | None:
        """The project with this id (if it looks like one) or slug, whoever asks."""
        if is_project_id(id_or_slug):
            return self._by_id.get(id_or_slug)
        return self._by_id.get(self._id_by_slug.get(id_or_slug, ""))

    def get_all(self) -> list[Project]:
        """Every project, in order of creation."""
        return list(self._by_id.values())

    async def create(self, slug: str, *, project_id: str | None = None) -> Project:
        """Create a project and its root stream.

        Parameters
        ----------
        slug : str
            1 to 63 of lower-case letters, digits, ``_`` and ``-``, the first a letter or digit.
        project_id : str, optional
            An id of one's own, beginning with ``prj_`` or ``proj_``; made up if absent.

        Raises
        ------
        ItxError
            ``CONFLICT``: the slug or id is taken; ``BAD_REQUEST``: it is not one.
        """
        if not _SLUG.fullmatch(str(slug)) or is_project_id(str(slug)):
            raise ItxError(
                f"Project slug {slug!r} is not valid.",
                code="BAD_REQUEST",
                details={"slug": slug},
                hint="Use 1 to 63 lower-case letters, digits, _ and -, and do not begin with prj_ or proj_.",
            )
        if project_id is not None and not is_project_id(project_id):
            raise ItxError(f"Project id {project_id!r} does not begin with prj_.", code="BAD_REQUEST")
        new_id = project_id or f"prj_{uuid.uuid4().hex}"
        async with self._creating:
            self._check_free(slug, new_id)
            event = await self._log.append(
                {
                    "type": _PROJECT_CREATED,
                    "payload": {"id": new_id, "slug": slug},
                    "idempotencyKey": f"project-created:{slug}",
                }
            )
            self._fold(event)
            # A create that was cancelled after its commit left a fact that had not been folded yet.
            if self._id_by_slug[slug] != new_id:
                self._check_free(slug, new_id)
        project = self._by_id[new_id]
        await self._engine.stream(project.id, "/").wake()
        return project

    def _check_free(self, slug: str, project_id: str) -> None:
        taken = self._id_by_slug.get(slug)
        if taken is not None:
            raise ItxError(
                f"Project {slug} exists already.",
                code="CONFLICT",
                details={"slug": slug, "id": taken},
                hint=f"Use it: itx_notebook.connect({slug!r}).",
            )
        if project_id in self._by_id:
            raise ItxError(
                f"Project id {project_id} is taken by another project.", code="CONFLICT", details={"id": project_id}
            )

    def _fold(self, event: StreamEvent) -> None:
        project = try_get_project(event)
        if project is None:
            return
        self._by_id.setdefault(project.id, project)
        self._id_by_slug.setdefault(project.slug, project.id)


def try_get_project(event: StreamEvent) -> Project | None:
    """The project that an event of the directory's stream tells of, or ``None`` if it is of another kind."""
    if event.type != _PROJECT_CREATED:
        return None
    payload: dict[str, Any] = event.payload
    return Project(id=payload["id"], slug=payload["slug"], created_at=event.created_at, updated_at=event.created_at)
