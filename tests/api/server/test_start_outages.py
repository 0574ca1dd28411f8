"""A server starts through an etcd that dies, or hangs, again and again while it does."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.api.server.process import ServerProcess
from tests.support.etcd import PrivateEtcd, private_etcd

OUTAGES = 10
UP_SECONDS = (0.05, 0.5)
DOWN_SECONDS = (0.05, 0.6)
"""A server takes some two seconds to start, so each of its first steps meets an outage in one run or the other."""


@pytest.mark.parametrize("outage", ["killed", "hung"])
async def test_a_server_starts_through_outages_of_etcd(tmp_path: Path, outage: str) -> None:
    async with private_etcd() as etcd:
        server = ServerProcess(tmp_path, f"--etcd-servers={etcd.endpoint}")
        for _ in ("the first server of a cluster", "one that was there before"):
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            for _ in range(OUTAGES):
                await asyncio.sleep(random.uniform(*UP_SECONDS))
                await _harm(etcd, outage, random.uniform(*DOWN_SECONDS))
            await starting
            server.kill()


async def _harm(etcd: PrivateEtcd, outage: str, seconds: float) -> None:
    if outage == "killed":
        etcd.kill()
        await asyncio.sleep(seconds)
        await etcd.start()
    else:
        etcd.freeze()
        await asyncio.sleep(seconds)
        etcd.thaw()
