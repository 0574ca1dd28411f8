"""A real etcd a module, and a Store on it a test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orca.store import Store
from tests.support.etcd import PrivateEtcd, private_etcd


@pytest.fixture(scope="module")
async def etcd() -> AsyncIterator[PrivateEtcd]:
    async with private_etcd() as running:
        yield running


@pytest.fixture
async def store(etcd: PrivateEtcd) -> AsyncIterator[Store]:
    made = Store(etcd.endpoint)
    await made.start()
    yield made
    await made.close()
