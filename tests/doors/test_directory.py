from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from itx_notebook.doors import Deployment, get_global_itx
from itx_notebook.errors import ItxError
from itx_notebook.streams import EventBatch
from itx_notebook.types import ADMIN, Project
from tests.doors.cases import MEMBER, OTHER_SLUG, PROJECT_ID, PROJECT_SLUG, STRANGER
from tests.support import gather, get_async_refusal, open_deployment


async def test_directory_when_the_store_is_opened_again_knows_the_same_projects(home: Path) -> None:
    async with open_deployment(home) as deployment:
        made = [await deployment.directory.create(slug) for slug in ("b", "a", "c")]
        made.append(await deployment.directory.create("own-id", project_id="proj_mine"))
    async with open_deployment(home) as deployment:
        directory = deployment.directory
        assert directory.get_all() == made
        assert [directory.try_get(project.slug) for project in made] == made
        assert [directory.try_get(project.id) for project in made] == made
        error = await get_async_refusal(directory.create("a"))
        assert (error.code, error.message) == ("CONFLICT", "Project a exists already.")


async def test_create_when_it_succeeds_makes_an_id_and_the_root_stream(deployment: Deployment) -> None:
    project = await deployment.directory.create("fresh")
    assert project.id.startswith("prj_")
    assert len(project.id) == len("prj_") + 32
    assert project.created_at == project.updated_at
    state = deployment.engine.stream(project.id, "/").get_state()
    assert (state.event_count, state.child_paths) == (2, ())


async def test_create_when_slug_or_id_is_taken_is_a_conflict_and_writes_nothing(deployment: Deployment) -> None:
    before = deployment.engine.stream("global", "/projects").get_state().event_count
    by_slug = await get_async_refusal(deployment.directory.create(PROJECT_SLUG))
    by_id = await get_async_refusal(deployment.directory.create("another", project_id=PROJECT_ID))
    assert (by_slug.code, by_slug.details) == ("CONFLICT", {"slug": PROJECT_SLUG, "id": PROJECT_ID})
    assert (by_id.code, by_id.details) == ("CONFLICT", {"id": PROJECT_ID})
    assert deployment.directory.try_get("another") is None
    assert deployment.engine.stream("global", "/projects").get_state().event_count == before


async def test_two_creates_of_one_slug_at_once_make_one_project(deployment: Deployment) -> None:
    outcomes = await gather(*(deployment.directory.create("wanted") for _ in range(3)))
    made = [outcome for outcome in outcomes if isinstance(outcome, Project)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ItxError)]
    assert [len(made), len(refused)] == [1, 2]
    assert deployment.directory.try_get("wanted") == made[0]
    assert {error.code for error in refused} == {"CONFLICT"}


async def test_two_creates_with_one_id_at_once_make_one_project(home: Path) -> None:
    async with open_deployment(home) as deployment:
        outcomes = await gather(
            deployment.directory.create("first", project_id="prj_same"),
            deployment.directory.create("second", project_id="prj_same"),
        )
        assert isinstance(outcomes[0], Project)
        assert isinstance(outcomes[1], ItxError)
        assert outcomes[1].code == "CONFLICT"
        assert deployment.directory.try_get("second") is None
    async with open_deployment(home) as deployment:
        assert deployment.directory.get_all() == [outcomes[0]]
        assert deployment.directory.try_get("second") is None


async def test_create_that_was_cancelled_after_its_commit_is_known_to_the_next_one(deployment: Deployment) -> None:
    log = deployment.engine.stream("global", "/projects")
    tasks: list[asyncio.Task[Project]] = []

    def cancel(batch: EventBatch) -> None:
        if batch.events:
            tasks[0].cancel()

    await log.subscribe(cancel, presence=False)
    tasks.append(asyncio.ensure_future(deployment.directory.create("lost")))
    (outcome,) = await gather(*tasks)
    assert isinstance(outcome, asyncio.CancelledError)
    assert (await get_async_refusal(deployment.directory.create("lost"))).code == "CONFLICT"


@pytest.mark.parametrize(
    "slug", ["", " ", "Demo", "a b", "-a", "_a", "a/b", "ä", "a" * 64, "prj_mine", "proj_x", "a\n", "a.b"]
)
async def test_slug_when_it_is_not_one_is_a_bad_request_that_names_it(deployment: Deployment, slug: str) -> None:
    error = await get_async_refusal(deployment.directory.create(slug))
    assert (error.code, error.message, error.details) == (
        "BAD_REQUEST",
        f"Project slug {slug!r} is not valid.",
        {"slug": slug},
    )


@pytest.mark.parametrize("slug", ["a", "0", "a-b_c", "a" * 63, "projects"])
async def test_slug_at_the_edge_of_the_grammar_is_taken(deployment: Deployment, slug: str) -> None:
    assert (await deployment.directory.create(slug)).slug == slug


async def test_project_id_of_ones_own_without_the_prefix_is_a_bad_request(deployment: Deployment) -> None:
    assert (await get_async_refusal(deployment.directory.create("x", project_id="mine"))).code == "BAD_REQUEST"


async def test_list_for_each_principal_has_its_projects_in_order_of_creation(deployment: Deployment) -> None:
    await deployment.directory.create("third")
    everything = await get_global_itx(deployment, ADMIN).projects.list()
    page = await get_global_itx(deployment, ADMIN).projects.list(limit=1, offset=1)
    mine = await get_global_itx(deployment, MEMBER).projects.list()
    nothing = await get_global_itx(deployment, STRANGER).projects.list()
    assert [project.slug for project in everything.projects] == [PROJECT_SLUG, OTHER_SLUG, "third"]
    assert ([project.slug for project in page.projects], page.total) == ([OTHER_SLUG], 3)
    assert ([project.slug for project in mine.projects], mine.total) == ([PROJECT_SLUG], 1)
    assert (nothing.projects, nothing.total) == ((), 0)
