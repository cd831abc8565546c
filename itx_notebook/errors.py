"""Every exception of the product, and how one is recognised after it crossed a wire.

::

    ItxError                    a refusal or a failure with one of five codes
    ├── StoreError              the data directory: locked, unreadable, full, newer than this code
    ├── ItxTimeoutError         a blocking call ran out of its ``timeout``
    └── ItxConnectionError      the connection to an itx elsewhere: not there, lost, or refused

The five codes are a closed set. Class, name and text of an error are lost when it crosses Cap'n Web, its own
properties survive; so code that decides anything asks :func:`get_itx_error_code` and nothing else.
Source of the codes and of the masked answer: the June-2026 itx kernel (``docs/decisions/0002-errors.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

__all__ = [
    "ITX_ERROR_CODES",
    "ItxConnectionError",
    "ItxError",
    "ItxErrorCode",
    "ItxTimeoutError",
    "StoreError",
    "as_itx_error",
    "get_itx_error_code",
    "is_itx_access_error",
    "project_not_found",
]

ItxErrorCode = Literal["NOT_FOUND", "FORBIDDEN", "CONFLICT", "BAD_REQUEST", "INTERNAL"]

ITX_ERROR_CODES: Final[frozenset[str]] = frozenset({"NOT_FOUND", "FORBIDDEN", "CONFLICT", "BAD_REQUEST", "INTERNAL"})


class ItxError(Exception):
    """A refusal or failure that says what failed, with which value, and what to do.

    Parameters
    ----------
    message : str
        What failed, with the offending value in it. Crosses the wire.
    code : ItxErrorCode
        One of the five codes. Crosses the wire.
    details : Mapping, optional
        Facts as JSON values. Crosses the wire when given; ``None`` means there are none.
    hint : str, optional
        What the person can do about it. Local: never sent, never part of an equality of answers.
    """

    code: ItxErrorCode
    details: Mapping[str, Any] | None
    hint: str | None

    def __init__(
        self,
        message: str,
        *,
        code: ItxErrorCode,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = details
        self.hint = hint
        self._note_remedy()

    @property
    def message(self) -> str:
        """The text alone, without code or hint."""
        return str(self.args[0]) if self.args else ""

    @property
    def remedy(self) -> str:
        """What to do: the hint if there is one, else the usual advice for the code."""
        return self.hint or _REMEDY[self.code]

    def with_hint(self, hint: str) -> Self:
        """Give the error a better hint, and return it."""
        self.hint = hint
        self._note_remedy()
        return self

    def _note_remedy(self) -> None:
        # Python prints notes below the message of an uncaught exception: a script is told what to do as well.
        self.__notes__ = [f"→ {self.remedy}"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the two lines a person needs instead of the frames of the I/O thread."""
        return [f"{type(self).__name__} [{self.code}]: {self.message}", f"→ {self.remedy}"]


class StoreError(ItxError):
    """The data directory cannot be used: held by another process, unreadable, full, or newer than this code."""

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None, hint: str | None = None) -> None:
        super().__init__(message, code="INTERNAL", details=details, hint=hint)


class ItxTimeoutError(ItxError, TimeoutError):
    """A blocking call ran out of its ``timeout`` (seconds); the work behind it was cancelled."""

    def __init__(self, message: str, *, timeout: float) -> None:
        super().__init__(
            message,
            code="INTERNAL",
            details={"timeout": timeout},
            hint="Call again, with a larger timeout= if the work is known to be long.",
        )


class ItxConnectionError(ItxError, ConnectionError):
    """The connection to an itx in another process is not there, was lost, or was refused.

    Attributes
    ----------
    is_final : bool
        Whether trying again is no use: the credentials were refused, or the connection was closed for good.
    """

    is_final: bool

    def __init__(
        self,
        message: str,
        *,
        is_final: bool = False,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(
            message,
            code="INTERNAL",
            details=details,
            hint=hint or "It reconnects by itself: call again. What was acknowledged is safe.",
        )
        self.is_final = is_final


_REMEDY: Final[Mapping[ItxErrorCode, str]] = {
    "NOT_FOUND": "Check the name: itx.projects.list() shows what this handle may see.",
    "FORBIDDEN": "This handle may not do that; ask for one that may.",
    "CONFLICT": "Look at what is there first, or choose another name.",
    "BAD_REQUEST": "Correct the value and call again; nothing was written.",
    "INTERNAL": "Nothing was acknowledged; %itx status tells how the engine is.",
}


def _rebuild(cls: type[ItxError], message: str, facts: dict[str, Any]) -> ItxError:
    """Unpickle without calling ``__init__``: subclasses differ in their parameters, not in their facts."""
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(facts)
    return error


def get_itx_error_code(error: object) -> ItxErrorCode | None:
    """Return the code of `error` if it carries one of the five, else ``None``.

    Looks at the ``code`` attribute alone. Foreign codes (``ECONNREFUSED``, SQL states) count as none.
    """
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and code in ITX_ERROR_CODES else None  # type: ignore[return-value]  # narrowed by the closed set


def is_itx_access_error(error: object) -> bool:
    """Whether `error` says "not there, or not yours" (``NOT_FOUND``, ``FORBIDDEN``): retrying cannot heal it."""
    return get_itx_error_code(error) in ("NOT_FOUND", "FORBIDDEN")


def as_itx_error(error: BaseException) -> ItxError:
    """Return `error` itself if it is an :class:`ItxError`; else one that carries its code (or ``INTERNAL``)."""
    if isinstance(error, ItxError):
        return error
    code = get_itx_error_code(error) or "INTERNAL"
    text = str(error) or type(error).__name__
    tagged = ItxError(text, code=code, details=getattr(error, "details", None))
    tagged.__cause__ = error
    return tagged


def project_not_found(project_id_or_slug: str) -> ItxError:
    """The one masked answer for a project that is missing, foreign, or asked for by nobody.

    Built here and nowhere else, with the caller's own input, so that the causes cannot be told apart.
    """
    return ItxError(
        f"Project {project_id_or_slug} not found.",
        code="NOT_FOUND",
        details={"projectIdOrSlug": project_id_or_slug},
    )
