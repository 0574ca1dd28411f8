"""Clients of whichever ``server`` a directory of tests runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[Api]:
    async with Api(server.kubeconfig) as one:
        yield one


@pytest.fixture
async def anonymous(server: ServerProcess) -> AsyncIterator[Api]:
    async with Api(server.kubeconfig, anonymous=True) as one:
        yield one
