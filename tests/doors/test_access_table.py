"""One list of cases through both doors, each by every way in: who gets in, and that the others are all told the same.

In process means through the same filter that errors pass on their way out, so that what is compared is what a peer
would see of either door, to the last byte.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itx_notebook.doors import Deployment
from itx_notebook.types import ADMIN
from tests.doors.cases import ANONYMOUS, CASES, NEIGHBOUR, PROJECT_ID, PROJECT_SLUG, STRANGER, Case
from tests.doors.doors import (
    Enter,
    Outcome,
    Site,
    enter_by_narrowing,
    enter_by_path,
    enter_by_v4,
    enter_in_process,
    open_site,
)
from tests.support import open_deployment

NOT_SIGNED_IN: Outcome = ("http", 401, "Unauthorized")
NOT_FOUND: Outcome = ("http", 404, '{"code": "NOT_FOUND", "error": "Context not found"}')


@pytest.fixture
async def site(deployment: Deployment) -> AsyncIterator[Site]:
    async with open_site(deployment) as site:
        yield site


every_case = pytest.mark.parametrize("case", CASES, ids=str)


@every_case
async def test_both_doors_when_asked_alike_answer_alike(case: Case, site: Site) -> None:
    in_process = await enter_in_process(site, case.principal, case.given)
    over_the_wire = await enter_by_narrowing(site, case.principal, case.given)
    if case.is_let_in:
        assert in_process == over_the_wire == ("in", PROJECT_ID, (PROJECT_ID,))
    else:
        assert in_process[:4] == ("refused", in_process[1], "ItxError", f"Project {case.given} not found.")
        assert in_process[5:] == ({"code": "NOT_FOUND", "details": {"projectIdOrSlug": case.given}}, None)
        # On the wire, nobody does not get as far as a project; in process, that must not be told apart.
        assert over_the_wire == (NOT_SIGNED_IN if case.principal is None else in_process)


@every_case
async def test_path_of_the_socket_when_refused_is_404_whatever_the_cause(case: Case, site: Site) -> None:
    outcome = await enter_by_path(site, case.principal, case.given)
    if case.is_let_in:
        assert outcome == ("in", PROJECT_ID, (PROJECT_ID,))
    else:
        assert outcome == (NOT_SIGNED_IN if case.principal is None else NOT_FOUND)


@every_case
async def test_v4_keeps_the_masking(case: Case, site: Site) -> None:
    outcome = await enter_by_v4(site, case.principal, case.given)
    if case.is_let_in:
        assert outcome == ("in", PROJECT_ID)
    elif case.principal is None:
        assert outcome[3] == "missing or invalid auth"
        assert (outcome[2], outcome[5]) == ("Error", {})
    else:
        assert outcome == await enter_in_process(site, case.principal, case.given)


@pytest.mark.parametrize("enter", [enter_in_process, enter_by_narrowing, enter_by_path, enter_by_v4])
@pytest.mark.parametrize("given", [PROJECT_SLUG, PROJECT_ID])
async def test_missing_and_forbidden_are_one_answer_and_one_silence_in_the_log(
    enter: Enter, given: str, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forbidden = [await enter(site, who, given) for who in (STRANGER, NEIGHBOUR)]
    lines = [record.getMessage() for record in caplog.records if given in record.getMessage()]
    async with open_deployment(tmp_path / "empty") as empty, open_site(empty) as nothing_there:
        missing = [await enter(nothing_there, who, given) for who in (STRANGER, NEIGHBOUR, ADMIN)]
    assert forbidden == missing[:1] * 2
    assert missing == missing[:1] * 3
    assert lines == []


async def test_nobody_is_told_the_same_of_every_project_and_of_none(site: Site) -> None:
    for enter in (enter_by_narrowing, enter_by_path):
        outcomes = [await enter(site, ANONYMOUS, given) for given in (PROJECT_SLUG, PROJECT_ID, "no-such-project")]
        assert outcomes == [NOT_SIGNED_IN] * 3
