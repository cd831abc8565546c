from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from itx_notebook.doors import (
    Deployment,
    ServerItx,
    access_for_principal,
    get_global_itx,
    get_server_itx,
    is_project_id,
    resolve_accessible_context,
)
from itx_notebook.doors.access import ProjectAccess
from itx_notebook.errors import ItxError
from itx_notebook.types import ADMIN, Principal, Project
from tests.doors.cases import (
    ANONYMOUS,
    CASES,
    DOORS,
    HUMAN_ADMIN,
    MEMBER,
    NEIGHBOUR,
    OTHER_ID,
    PROJECT_ID,
    PROJECT_SLUG,
    STRANGER,
    Case,
    Door,
)
from tests.support import get_async_refusal, get_refusal, let_engine_work, open_deployment

every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())


@every_door
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_door_for_each_case_lets_in_or_gives_the_one_answer(
    door: Door, case: Case, deployment: Deployment
) -> None:
    if case.is_let_in:
        itx = await door(deployment, case.principal, case.given)
        facts = await itx.describe()
        assert (facts.context, facts.access) == (PROJECT_ID, (PROJECT_ID,))
    else:
        error = await get_async_refusal(door(deployment, case.principal, case.given))
        assert type(error) is ItxError
        assert (error.message, error.code, error.details, error.hint) == (
            f"Project {case.given} not found.",
            "NOT_FOUND",
            {"projectIdOrSlug": case.given},
            None,
        )


@every_door
async def test_door_by_slug_and_by_id_when_let_in_shows_the_same_streams(door: Door, deployment: Deployment) -> None:
    by_slug = await door(deployment, MEMBER, PROJECT_SLUG)
    await by_slug.streams.get("/itx-server-tests-1").append(_event())
    await let_engine_work(deployment)
    states = [
        await (await door(deployment, who, given)).streams.get("/").get_state()
        for who, given in ((MEMBER, PROJECT_SLUG), (ADMIN, PROJECT_SLUG), (MEMBER, PROJECT_ID))
    ]
    assert states[0].child_paths == ("/itx-server-tests-1",)
    assert states[0] == states[1] == states[2]


@every_door
@pytest.mark.parametrize("given", [PROJECT_SLUG, PROJECT_ID])
async def test_refusal_whatever_its_cause_is_the_same_byte_for_byte(
    door: Door, given: str, deployment: Deployment, tmp_path: Path
) -> None:
    async with open_deployment(tmp_path / "empty") as empty:
        answers = [
            await _get_face(door, deployment, STRANGER, given),
            await _get_face(door, deployment, ANONYMOUS, given),
            await _get_face(door, deployment, NEIGHBOUR, given),
            await _get_face(door, empty, STRANGER, given),
            await _get_face(door, empty, ANONYMOUS, given),
            await _get_face(door, empty, ADMIN, given),
        ]
    assert answers[1:] == answers[:1] * 5


async def _get_face(door: Door, deployment: Deployment, who: Principal | None, given: str) -> tuple[Any, ...]:
    """Everything by which one refusal could be told from another."""
    error = await get_async_refusal(door(deployment, who, given))
    return (
        type(error),
        error.message,
        error.code,
        error.details,
        error.remedy,
        repr(error),
        str(error),
        vars(error),
        error.__cause__,
        error.__context__,
        pickle.dumps(error),
        error._render_traceback_(),
        traceback.format_exception(error),
    )


async def test_refusal_for_strangers_and_for_unknown_projects_differs_in_the_given_name_only(
    deployment: Deployment,
) -> None:
    stranger = get_refusal(lambda: get_server_itx(deployment, PROJECT_SLUG, STRANGER))
    unknown = get_refusal(lambda: get_server_itx(deployment, "no-such-project", ADMIN))
    assert stranger._render_traceback_() == [
        line.replace("no-such-project", PROJECT_SLUG) for line in unknown._render_traceback_()
    ]


async def test_narrowing_when_not_yours_gives_the_doors_own_answer(deployment: Deployment) -> None:
    at_the_door = get_refusal(lambda: get_server_itx(deployment, PROJECT_SLUG, NEIGHBOUR))
    member_of_other = get_server_itx(deployment, OTHER_ID, NEIGHBOUR)
    by_narrowing = await get_async_refusal(member_of_other.projects.get(PROJECT_SLUG))
    assert pickle.dumps(by_narrowing) == pickle.dumps(at_the_door)


async def test_narrowed_view_of_an_admin_when_asked_for_another_project_has_lost_the_power(itx: ServerItx) -> None:
    assert (await itx.projects.list()).total == 1
    error = await get_async_refusal(itx.projects.get(OTHER_ID))
    assert error.code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("principal", "access"),
    [(ADMIN, "all"), (HUMAN_ADMIN, "all"), (MEMBER, (PROJECT_ID,)), (STRANGER, ()), (ANONYMOUS, ())],
)
def test_access_for_each_kind_of_principal_is_what_it_holds(principal: Principal | None, access: ProjectAccess) -> None:
    assert access_for_principal(principal) == access


@pytest.mark.parametrize(
    ("text", "is_id"),
    [("prj_1", True), ("proj_1", True), ("prj_", True), ("prj-1", False), ("project", False), ("PRJ_1", False)],
)
def test_project_id_is_told_from_a_slug_by_its_prefix_alone(text: str, is_id: bool) -> None:
    assert is_project_id(text) is is_id


class _CountingDirectory:
    """Knows one project and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def try_get(self, id_or_slug: str) -> Project | None:
        self.asked.append(id_or_slug)
        known = Project(id=PROJECT_ID, slug=PROJECT_SLUG, created_at="", updated_at="")
        return known if id_or_slug in (PROJECT_ID, PROJECT_SLUG) else None


def test_resolving_when_it_fails_costs_the_same_lookup_as_when_it_succeeds() -> None:
    accesses: tuple[ProjectAccess, ...] = ("all", (), (OTHER_ID,), (PROJECT_ID,))
    for access in accesses:
        for given in (PROJECT_SLUG, PROJECT_ID, "unknown", f"{PROJECT_ID}:/a", f"{PROJECT_ID}:/A", "prj_no:/a"):
            directory = _CountingDirectory()
            resolve_accessible_context(directory, access, given)
            assert directory.asked == [given.partition(":")[0]]


async def test_place_in_a_project_is_reached_by_its_id_and_path(deployment: Deployment) -> None:
    itx = get_server_itx(deployment, f"{PROJECT_ID}:/agents/slack", MEMBER)
    facts = await itx.describe()
    assert (facts.context, facts.access) == (f"{PROJECT_ID}:/agents/slack", (PROJECT_ID,))
    assert (await itx.streams.create()).path == "/agents/slack"
    assert (await itx.streams.create("log")).path == "/agents/slack/log"
    assert (await itx.streams.create("/else")).path == "/else"


async def test_global_streams_without_full_access_are_forbidden(deployment: Deployment) -> None:
    error = get_refusal(lambda: get_global_itx(deployment, MEMBER).streams.get("/anything"))
    assert (error.code, error.message) == (
        "FORBIDDEN",
        "Global streams need admin access. Narrow to a project first: itx.projects.get(idOrSlug).",
    )


async def test_creating_projects_on_a_narrowed_view_is_forbidden(itx: ServerItx) -> None:
    error = await get_async_refusal(itx.projects.create("mine"))
    assert (error.code, error.message) == ("FORBIDDEN", "This itx handle may not create projects.")


async def test_stream_of_a_foreign_namespace_whether_or_not_it_exists_is_one_answer(itx: ServerItx) -> None:
    for namespace in (OTHER_ID, "global", "prj_nothing"):
        for ref in (f"{namespace}:/projects", {"namespace": namespace, "path": "/projects"}):
            error = get_refusal(lambda ref=ref: itx.streams.get(ref))  # type: ignore[misc]  # bound for the loop
            assert (error.code, error.message, error.details) == (
                "NOT_FOUND",
                f'No stream namespace "{namespace}" for this handle.',
                {"namespace": namespace},
            )


async def test_stream_of_its_own_namespace_by_any_reference_is_the_same(itx: ServerItx) -> None:
    refs = ("/a", f"{PROJECT_ID}:/a", {"path": "/a"}, {"namespace": PROJECT_ID, "path": "/a"})
    assert {(stream.namespace, stream.path) for stream in map(itx.streams.get, refs)} == {(PROJECT_ID, "/a")}


@pytest.mark.parametrize("ref", ["a", "x:y", 7, None, {"path": 1}, {"path": "/a", "more": 1}, ":/a", ["/a"]])
async def test_malformed_stream_reference_is_a_bad_request_with_the_reference_in_it(itx: ServerItx, ref: Any) -> None:
    import json

    error = get_refusal(lambda: itx.streams.get(ref))
    assert (error.code, error.message) == (
        "BAD_REQUEST",
        f'Stream ref {json.dumps(ref)} must be "/path", "namespace:/path", or {{ namespace?, path }}.',
    )


async def test_blank_path_is_a_bad_request(itx: ServerItx) -> None:
    error = get_refusal(lambda: itx.streams.get({"path": " "}))
    assert (error.code, error.message) == ("BAD_REQUEST", "Stream path is required.")


def _event() -> Any:
    from itx_notebook.types import Event

    return Event(type="demo.hello")
