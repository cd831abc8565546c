"""The grammar of stream paths and references, and the two ways a relative path is resolved.

Pure functions on strings. The engine takes any non-blank path; the grammar is enforced where a person or a program
names a stream (the doors), which is also where these functions are called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from itx_notebook.errors import ItxError

__all__ = [
    "ROOT",
    "get_ancestors",
    "get_child_path",
    "get_label",
    "get_parent",
    "parse_stream_path",
    "parse_stream_ref",
    "parse_sub_path",
    "resolve_stream_path",
]

ROOT: Final = "/"
_MAX_LENGTH: Final = 1023
_PATH: Final = re.compile(r"/(?:[a-z0-9_-]+(?:/[a-z0-9_-]+)*)?", re.ASCII)


def parse_stream_path(value: object) -> str:
    """Return the canonical form of a path (``"/agents/a"``), or raise ``BAD_REQUEST``.

    Percent-escapes are decoded, a missing leading slash is added. At most 1023 characters; segments of lower-case
    letters, digits, ``_`` and ``-``; no empty segment, no trailing slash. ``"/"`` is the root.
    """
    if not isinstance(value, str):
        raise _bad_path(value, "it is not a string")
    if not value.strip():
        raise ItxError(
            "Stream path is required.", code="BAD_REQUEST", hint='Name a path such as "/agents/a"; "/" is the root.'
        )
    path = _decode_percent(value)
    path = path if path.startswith("/") else f"/{path}"
    if len(path) > _MAX_LENGTH:
        raise _bad_path(value, f"it has {len(path)} characters, more than {_MAX_LENGTH}")
    if not _PATH.fullmatch(path):
        raise _bad_path(value, "segments are lower-case letters, digits, _ and -, with single slashes between")
    return path


def parse_stream_ref(ref: object, *, namespace: str) -> tuple[str, str]:
    """Return ``(namespace, path)`` of a reference: ``"/path"``, ``"namespace:/path"`` or ``{namespace?, path}``.

    A reference that names no namespace gets `namespace`.
    """
    if isinstance(ref, str):
        head, colon, tail = ref.partition(":")
        if colon and head and tail.startswith("/") and "/" not in head:
            return head, parse_stream_path(tail)
        if not colon and ref.startswith("/"):
            return namespace, parse_stream_path(ref)
    elif isinstance(ref, Mapping) and set(ref) <= {"namespace", "path"} and isinstance(ref.get("path"), str):
        given = ref.get("namespace", namespace)
        if isinstance(given, str) and given:
            return given, parse_stream_path(ref["path"])
    raise ItxError(
        f'Stream ref {_as_json(ref)} must be "/path", "namespace:/path", or {{ namespace?, path }}.',
        code="BAD_REQUEST",
        hint='Streams are named by a path that begins with a slash, such as "/agents/a".',
    )


def resolve_stream_path(given: str, base: str) -> str:
    """Resolve `given` against the stream `base` as a file system would; ``..`` past the root is ``BAD_REQUEST``."""
    segments = [] if given.startswith("/") else [part for part in base.split("/") if part]
    for part in given.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            segments.append(part)
        elif segments:
            segments.pop()
        else:
            raise ItxError(f'streamPath "{given}" escapes the stream root (resolved from "{base}")', code="BAD_REQUEST")
    return "/" + "/".join(segments)


def parse_sub_path(given: str | None, base: str) -> str:
    """The canonical path that a stream's handle means by `given`: absolute, or below `base`; ``None`` is `base` itself.

    Unlike :func:`resolve_stream_path` it never goes up: ``..`` is no segment, and ``BAD_REQUEST``.
    """
    if given is None:
        return base
    if not given.strip() or given.startswith("/"):
        return parse_stream_path(given)
    return parse_stream_path(f"{'' if base == ROOT else base}/{given.removeprefix('./').lstrip('/')}")


def get_ancestors(path: str) -> list[str]:
    """Every proper ancestor, the root first: of ``/a/b/c`` they are ``/``, ``/a``, ``/a/b``; of the root none."""
    segments = path.split("/")[1:-1]
    return [] if path == ROOT else [ROOT, *("/" + "/".join(segments[: n + 1]) for n in range(len(segments)))]


def get_parent(path: str) -> str:
    """The last of the ancestors; not of the root, which has none."""
    return path[: path.rindex("/")] or ROOT


def get_child_path(parent: str, descendant: str) -> str | None:
    """The immediate child of `parent` on the way to `descendant`; ``None`` if that lies elsewhere."""
    prefix = ROOT if parent == ROOT else f"{parent}/"
    if descendant == parent or not descendant.startswith(prefix):
        return None
    segment = next((part for part in descendant[len(prefix) :].split("/") if part), None)
    return None if segment is None else prefix + segment


def get_label(path: str) -> str:
    """The last segment, for display; the root is ``/``."""
    return path.rsplit("/", 1)[-1] or ROOT


def _decode_percent(value: str) -> str:
    """Percent-decoding that leaves the text alone if it, or what its escapes say, is not UTF-8."""
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeError:
        return value


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)


def _bad_path(value: object, fault: str) -> ItxError:
    return ItxError(
        f"Stream path {_as_json(value)} is not valid: {fault}.",
        code="BAD_REQUEST",
        details={"path": value if isinstance(value, str) else repr(value)},
        hint='A path looks like "/agents/slack/ts-124".',
    )
