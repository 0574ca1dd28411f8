"""Thousands of objects seen by a hundred watchers, once each and in order, also when the server is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE
from tests.support.watchers import Watcher

WATCHERS = 100
WRITERS = 16
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("objects", [3_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_everything_is_seen_once_and_in_order_across_a_kill(tmp_path: Path, objects: int) -> None:
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    try:
        async with Api(server.kubeconfig) as api:
            await _run(server, api, objects)
    finally:
        server.kill()


@pytest.mark.timeout(900)
async def test_everything_is_seen_once_and_in_order_while_processes_stand_still(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    assert server.process is not None
    both = [server.process.pid, server.etcd_pid()]
    try:
        async with Api(server.kubeconfig) as api:
            pausing = asyncio.create_task(_pause(both))
            await _watch_all(api, 2_000, lambda _: asyncio.sleep(0))
            pausing.cancel()
            await asyncio.gather(pausing, return_exceptions=True)
    finally:
        server.kill()


async def _pause(processes: list[int]) -> None:
    while True:
        await asyncio.sleep(random.random() * 0.3)
        stopped = random.choice(processes)
        os.kill(stopped, signal.SIGSTOP)
        try:
            await asyncio.sleep(random.choice((0.01, 0.05, 0.2, 0.6)))
        finally:
            os.kill(stopped, signal.SIGCONT)


async def _run(server: ServerProcess, api: Api, objects: int) -> None:
    killed = asyncio.Event()

    async def kill_halfway(number: int) -> None:
        if number == objects // 2:
            server.kill()
            await asyncio.to_thread(server.start)
            killed.set()

    watchers = await _watch_all(api, objects, kill_halfway)
    assert killed.is_set()
    assert all(watcher.resumed >= 1 for watcher in watchers)


async def _watch_all(api: Api, objects: int, before: Callable[[int], Awaitable[None]]) -> list[Watcher]:
    """Every watcher sees all that is written, in the same order; ``before`` is awaited before each write."""
    tls: ssl.SSLContext = api.tls
    tls.check_hostname = False
    parts = urlsplit(api.url)
    address = (str(parts.hostname), int(parts.port or 443))
    since = (await api.get(MAPS)).json["metadata"]["resourceVersion"]
    watchers = [Watcher(address, tls, MAPS, since, objects) for _ in range(WATCHERS)]
    following = [asyncio.create_task(watcher.run()) for watcher in watchers]
    numbers = iter(range(objects))

    async def write() -> None:
        for number in numbers:
            await before(number)
            while True:
                try:
                    answer = await api.post(MAPS, {"metadata": {"name": f"c-{number}"}})
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.05)  # it is being killed; whether it was written shows the next try
                    continue
                assert answer.status in (201, 409, 503, 504), answer.raw
                if answer.status in (201, 409):
                    break

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    async with asyncio.timeout(PATIENCE):
        for watcher in watchers:
            await watcher.done.wait()
    await asyncio.gather(*following)
    wanted = {f"c-{number}".encode() for number in range(objects)}
    first = watchers[0]
    for watcher in watchers:
        assert not watcher.failed
        assert len(watcher.names) == objects
        assert watcher.names == first.names
        assert watcher.versions == first.versions
    assert set(first.names) == wanted
    assert first.versions == sorted(set(first.versions))
    return watchers
