"""A server starts through an etcd that dies, hangs, or hangs up, again and again while it does."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.api.server.process import ServerProcess
from tests.support.etcd import PrivateEtcd, private_etcd
from tests.support.proxy import TcpProxy, tcp_proxy

OUTAGES = 4
UP_SECONDS = (0.3, 0.9)
DOWN_SECONDS = (0.05, 0.6)
CUTS = 12
MOST_PIECES = 40
"""A server sends etcd some hundred in all before it is ready."""
STARTS = ("the first server of a cluster", "one that was there before")


@pytest.mark.parametrize("outage", ["killed", "hung"])
async def test_a_server_starts_through_outages_of_etcd(tmp_path: Path, outage: str) -> None:
    async with private_etcd() as etcd:
        server = ServerProcess(tmp_path, f"--etcd-servers={etcd.endpoint}")
        for _ in STARTS:
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


async def test_a_server_starts_though_its_connections_to_etcd_break(tmp_path: Path) -> None:
    async with private_etcd() as etcd, tcp_proxy(("127.0.0.1", int(etcd.endpoint.split(":")[1]))) as way:
        server = ServerProcess(tmp_path, f"--etcd-servers=127.0.0.1:{way.port}")
        for _ in STARTS:
            cuts = _Cuts(way)
            await asyncio.to_thread(server.start)
            server.kill()
            assert cuts.left < CUTS


class _Cuts:
    """Breaks all connections after some pieces more, and so on."""

    def __init__(self, way: TcpProxy) -> None:
        self.left = CUTS
        self._way = way
        self._next = random.randint(1, MOST_PIECES)
        way.asked = self._asked

    def _asked(self) -> None:
        self._next -= 1
        if self._next == 0 and self.left:
            self.left -= 1
            self._next = random.randint(1, MOST_PIECES)
            self._way.cut()
