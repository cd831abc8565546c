"""Errors: the five codes, what a person reads, what survives a wire and a pickle."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from itx_notebook.errors import (
    ITX_ERROR_CODES,
    ItxError,
    ItxErrorCode,
    ItxTimeoutError,
    StoreError,
    as_itx_error,
    get_itx_error_code,
    is_itx_access_error,
    project_not_found,
)

CODES: tuple[ItxErrorCode, ...] = ("NOT_FOUND", "FORBIDDEN", "CONFLICT", "BAD_REQUEST", "INTERNAL")


class TaggedError(Exception):
    """An error as it arrives from a wire: a class of its own, and a code."""

    def __init__(self, message: str, code: object, details: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


def test_codes_when_listed_are_the_closed_set_of_five() -> None:
    assert set(CODES) == ITX_ERROR_CODES


@pytest.mark.parametrize("code", CODES)
def test_error_when_raised_says_what_failed_and_what_to_do(code: ItxErrorCode) -> None:
    plain = ItxError("It failed.", code=code)
    hinted = ItxError("It failed.", code=code, details={"n": 1}, hint="Do this.")
    assert (str(plain), plain.message, plain.details, plain.hint) == ("It failed.", "It failed.", None, None)
    assert plain.remedy
    assert hinted.remedy == "Do this."
    assert repr(hinted) == f"ItxError('It failed.', code='{code}')"
    assert hinted._render_traceback_() == [f"ItxError [{code}]: It failed.", "→ Do this."]
    assert plain._render_traceback_() == [f"ItxError [{code}]: It failed.", f"→ {plain.remedy}"]


def test_error_when_uncaught_in_a_script_prints_the_remedy_once() -> None:
    error = ItxError("It failed.", code="CONFLICT", hint="Do this.")
    assert error.with_hint("Do that.") is error
    twin = copy.copy(error)
    for each in (error, twin):
        printed = "".join(traceback.format_exception_only(each))
        assert printed == "itx_notebook.errors.ItxError: It failed.\n→ Do that.\n"


def test_store_error_when_raised_is_internal() -> None:
    error = StoreError("The disk is full.", details={"path": "/x"}, hint="Make room.")
    assert isinstance(error, ItxError)
    assert (error.code, error.details, error.remedy) == ("INTERNAL", {"path": "/x"}, "Make room.")


def test_timeout_when_raised_is_also_pythons_own() -> None:
    with pytest.raises(TimeoutError) as caught:
        raise ItxTimeoutError("Too long.", timeout=2.5)
    assert isinstance(caught.value, ItxError)
    assert (caught.value.code, caught.value.details) == ("INTERNAL", {"timeout": 2.5})


@pytest.mark.parametrize(
    "error",
    [
        ItxError("m", code="CONFLICT", details={"a": [1]}, hint="h"),
        StoreError("m", details={"a": 1}),
        ItxTimeoutError("m", timeout=1.0),
    ],
)
def test_error_when_pickled_or_copied_keeps_its_class_and_facts(error: ItxError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301  # our own bytes
        assert type(twin) is type(error)
        assert (str(twin), twin.code, twin.details, twin.hint) == (str(error), error.code, error.details, error.hint)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ItxError("m", code="CONFLICT"), "CONFLICT"),
        (TaggedError("m", "NOT_FOUND"), "NOT_FOUND"),
        (TaggedError("m", "ECONNREFUSED"), None),
        (TaggedError("m", 404), None),
        (TaggedError("m", ["NOT_FOUND"]), None),
        (ValueError("NOT_FOUND"), None),
        (None, None),
    ],
)
def test_code_when_looked_for_is_one_of_the_five_or_none(error: object, code: str | None) -> None:
    assert get_itx_error_code(error) == code


@pytest.mark.parametrize("code", CODES)
def test_access_error_when_asked_is_not_found_or_forbidden(code: ItxErrorCode) -> None:
    assert is_itx_access_error(TaggedError("m", code)) == (code in {"NOT_FOUND", "FORBIDDEN"})


def test_any_error_when_taken_as_ours_keeps_itself_its_code_or_becomes_internal() -> None:
    ours = StoreError("m")
    assert as_itx_error(ours) is ours
    tagged = as_itx_error(TaggedError("gone", "NOT_FOUND", {"id": 1}))
    assert (tagged.code, str(tagged), tagged.details) == ("NOT_FOUND", "gone", {"id": 1})
    foreign = ValueError()
    wrapped = as_itx_error(foreign)
    assert (wrapped.code, str(wrapped), wrapped.__cause__) == ("INTERNAL", "ValueError", foreign)


def test_masked_answer_when_built_twice_is_the_same_whatever_the_cause() -> None:
    first, second = project_not_found("prj_x"), project_not_found("prj_x")
    assert (str(first), first.code, first.details) == (
        "Project prj_x not found.",
        "NOT_FOUND",
        {"projectIdOrSlug": "prj_x"},
    )
    assert (str(first), first.code, first.details, first.hint) == (
        str(second),
        second.code,
        second.details,
        second.hint,
    )
