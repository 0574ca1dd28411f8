"""How a server ends for those who are connected: at once, and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.security.raw import connection
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

WATCH = b"GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that need not be there in the end."""
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    yield server
    server.kill()


async def test_watches_end_in_order_and_idle_connections_at_once(ending: ServerProcess) -> None:
    tls = Api(ending.kubeconfig).tls
    async with (
        connection(ending.port, tls) as (watched, watcher),
        connection(ending.port, tls) as (idle, asker),
        asyncio.timeout(PATIENCE),
    ):
        watcher.write(WATCH)
        assert (await watched.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        asker.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        assert ending.process is not None
        ending.process.terminate()
        assert await idle.read() == b""
        assert (await watched.read()).endswith(b"0\r\n\r\n")  # the end of the chunks
    assert await asyncio.to_thread(ending.process.wait, PATIENCE) == 0
