"""Projects and their streams out of a store as JSON Lines, and into one.

What a line of a stream is, and how it comes back, is the engine's (``streams/transfer.py``). Here stands what a project
adds: its own fact as the first line, its id in the new store, and that its streams are found from above.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from itx_notebook.doors.access import is_project_id
from itx_notebook.doors.directory import GLOBAL_NAMESPACE, PROJECTS_PATH, try_get_project
from itx_notebook.doors.inprocess import Deployment
from itx_notebook.errors import ItxError, project_not_found
from itx_notebook.streams import parse_stream_path
from itx_notebook.streams.transfer import Archive, ImportReport, import_lines
from itx_notebook.types import Project, StreamEvent

__all__ = ["ExportPlan", "import_archive", "plan_export"]

_decode_event: Final = msgspec.json.Decoder(StreamEvent).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


class ExportPlan(NamedTuple):
    """What is to be exported."""

    project: Project
    events: int
    """How many lines there will be."""
    lines: Iterator[bytes]


def plan_export(archive: Archive, id_or_slug: str, paths: Sequence[str] = ()) -> ExportPlan:
    """The lines of some streams of a project, or, without any, of the whole project with its own fact before them.

    Raises
    ------
    ItxError
        ``NOT_FOUND``: no such project, or a stream that has no events; ``BAD_REQUEST``: a path is none.
    """
    project, fact = _find_project(archive, id_or_slug)
    if not paths:
        streams = archive.get_streams(project.id)
        head = [fact]
    else:
        streams, head = [], []
        for path in dict.fromkeys(parse_stream_path(path) for path in paths):
            stream = archive.try_get_stream(project.id, path)
            if stream is None:
                raise ItxError(
                    f"Stream {path} of {project.slug} has no events.",
                    code="NOT_FOUND",
                    details={"path": path},
                    hint="Leave the path out to export the whole project.",
                )
            streams.append(stream)
    lines = itertools.chain(head, *(archive.read_lines(stream) for stream in streams))
    return ExportPlan(project, len(head) + sum(map(archive.count_events, streams)), lines)


def _find_project(archive: Archive, id_or_slug: str) -> tuple[Project, bytes]:
    directory = archive.try_get_stream(GLOBAL_NAMESPACE, PROJECTS_PATH)
    if directory is not None:
        for line in archive.read_lines(directory):
            project = _try_read_project(line)
            if project is not None and id_or_slug in (project.id, project.slug):
                return project, line
    raise project_not_found(id_or_slug)


async def import_archive(
    home: Path,
    lines: Iterable[bytes],
    *,
    project: str | None = None,
    path: str | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> tuple[Project, ImportReport]:
    """Bring an export into the store in `home`, which must not be in use; importing again adds nothing.

    Parameters
    ----------
    project : str, optional
        Where it goes. A project's export is brought into a project of its own: of this slug, or of its own slug if it
        is ``None``. Streams go into this project, which has to exist.
    path : str, optional
        Another path for the one stream of the lines.

    Raises
    ------
    ItxError
        ``BAD_REQUEST``: the lines are no export; ``CONFLICT``: a stream of the name has another history; ``NOT_FOUND``:
        the project to bring streams into.
    StoreError
        The store is in use, or cannot be used.
    """
    first, lines = _split(lines)
    origin = _try_read_project(first)
    target = await _find_target(home, origin, project)
    locate = _Locator(target, None if origin is None else origin.id, None if path is None else parse_stream_path(path))
    # The project's fact tells how its directory knew it; the new one gets a fact of its own.
    rest = itertools.chain([b""] if origin is not None else [first], lines)
    report = import_lines(home, rest, locate=locate, on_progress=on_progress)
    return await _make_known(home, target, report), report


def _split(lines: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    iterator = iter(lines)
    return next(iterator, b""), iterator


def _try_read_project(line: bytes) -> Project | None:
    """The project of a line that is the directory's fact of one."""
    try:
        place = _decode_object(line)
        if (place.get("namespace"), place.get("streamPath")) != (GLOBAL_NAMESPACE, PROJECTS_PATH):
            return None
        return try_get_project(_decode_event(line))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None


async def _find_target(home: Path, origin: Project | None, wanted: str | None) -> Project:
    deployment = await Deployment.open(home)
    try:
        directory = deployment.directory
        name = wanted or (None if origin is None else origin.slug)
        if name is None:
            raise ItxError(
                "These lines are of streams, not of a project, and no project is named.",
                code="BAD_REQUEST",
                hint="Name the project they go into: --project.",
            )
        known = directory.try_get(name)
        if known is not None:
            return known
        if origin is None or is_project_id(name):
            raise project_not_found(name).with_hint(f"To create it: itx_notebook.create_project({name!r}).")
        # Worked out, not made up: an import that was cut off finds what it brought.
        taken = directory.try_get(origin.id) is not None
        new_id = f"prj_{uuid.uuid5(uuid.NAMESPACE_URL, f'{origin.id}/{name}').hex}" if taken else origin.id
        return Project(id=new_id, slug=name, created_at=origin.created_at, updated_at=origin.updated_at)
    finally:
        await deployment.close()


class _Locator:
    """Where the streams of the lines go."""

    def __init__(self, target: Project, namespace: str | None, path: str | None) -> None:
        self._target = target
        self._namespace = namespace
        self._path = path
        self._only: str | None = None

    def __call__(self, namespace: str, path: str) -> tuple[str, str]:
        if self._namespace is None:
            self._namespace = namespace
        if namespace != self._namespace:
            raise ItxError(
                f"The lines are of two namespaces, {self._namespace} and {namespace}.",
                code="BAD_REQUEST",
                details={"namespaces": [self._namespace, namespace]},
                hint="Import the streams of one project at a time.",
            )
        if self._path is None:
            return self._target.id, parse_stream_path(path)
        if self._only is not None and path != self._only:
            raise ItxError(
                f"The lines are of several streams, {self._only} and {path}; one path is not enough for them.",
                code="BAD_REQUEST",
                details={"paths": [self._only, path]},
                hint="Leave the path out, or export one stream.",
            )
        self._only = path
        return self._target.id, self._path


async def _make_known(home: Path, target: Project, report: ImportReport) -> Project:
    """The project in the directory, and every stream in those above it."""
    deployment = await Deployment.open(home)
    try:
        project = deployment.directory.try_get(target.id)
        if project is None:
            project = await deployment.directory.create(target.slug, project_id=target.id)
        for namespace, path in report.streams:
            deployment.engine.announce(deployment.engine.stream(namespace, path))
        await deployment.engine.settle()
        return project
    finally:
        await deployment.close()
