from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itx_notebook.doors import Deployment, ServerItx, get_server_itx
from itx_notebook.types import ADMIN
from tests.doors.cases import OTHER_ID, OTHER_SLUG, PROJECT_ID, PROJECT_SLUG
from tests.support import open_deployment


@pytest.fixture
async def deployment(home: Path) -> AsyncIterator[Deployment]:
    """Two projects."""
    async with open_deployment(home) as deployment:
        await deployment.directory.create(PROJECT_SLUG, project_id=PROJECT_ID)
        await deployment.directory.create(OTHER_SLUG, project_id=OTHER_ID)
        yield deployment


@pytest.fixture
def itx(deployment: Deployment) -> ServerItx:
    """A view narrowed to the first of them."""
    return get_server_itx(deployment, PROJECT_SLUG, ADMIN)
