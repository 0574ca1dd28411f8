"""Ten thousand objects seen by a hundred watchers, once each and in order, also when the server is killed."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.watchers import Watcher

OBJECTS = 10_000
WATCHERS = 100
WRITERS = 16
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.timeout(150)
async def test_everything_is_seen_once_and_in_order_across_a_kill(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    try:
        async with Api(server.kubeconfig) as api:
            await _run(server, api)
    finally:
        server.kill()


async def _run(server: ServerProcess, api: Api) -> None:
    tls: ssl.SSLContext = api.tls
    tls.check_hostname = False
    parts = urlsplit(api.url)
    address = (str(parts.hostname), int(parts.port or 443))
    since = (await api.get(MAPS)).json["metadata"]["resourceVersion"]
    watchers = [Watcher(address, tls, MAPS, since, OBJECTS) for _ in range(WATCHERS)]
    following = [asyncio.create_task(watcher.run()) for watcher in watchers]
    numbers = iter(range(OBJECTS))
    killed = asyncio.Event()

    async def write() -> None:
        for number in numbers:
            if number == OBJECTS // 2:
                server.kill()
                await asyncio.to_thread(server.start)
                killed.set()
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
    async with asyncio.timeout(60):
        for watcher in watchers:
            await watcher.done.wait()
    await asyncio.gather(*following)
    assert killed.is_set()
    wanted = {f"c-{number}".encode() for number in range(OBJECTS)}
    first = watchers[0]
    for watcher in watchers:
        assert not watcher.failed
        assert watcher.resumed >= 1
        assert len(watcher.names) == OBJECTS
        assert watcher.names == first.names
        assert watcher.versions == first.versions
    assert set(first.names) == wanted
    assert first.versions == sorted(set(first.versions))
