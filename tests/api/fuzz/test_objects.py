"""Mutated objects, patches, queries and headers against every kind.

A failure names the seed; ``ORCA_FUZZ_SEED`` repeats it.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from yarl import URL

from tests.api.fuzz.conftest import SOAK_SECONDS, TOKEN, WARM_UP_SECONDS, seed
from tests.api.fuzz.requests import Attempt, Maker
from tests.api.security.authority import client_tls
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

WORKERS = 4
FEWEST = 50


async def _send(session: aiohttp.ClientSession, url: str, attempt: Attempt) -> tuple[int, bytes]:
    target = URL(url + attempt.path, encoded=True)
    async with session.request(attempt.method, target, data=attempt.body, headers=attempt.headers) as answer:
        return answer.status, await answer.read()


async def fuzz(server: ServerProcess, seconds: float, seed: int) -> int:
    """Send for so long, and not too few; the number of requests. Fails with the first request that is not answered as
    it should be."""
    url = f"https://127.0.0.1:{server.port}"
    space = f"fuzz-{seed % 100000}"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    connector = aiohttp.TCPConnector(ssl=client_tls(), limit=WORKERS)
    sent = 0
    deadline = time.monotonic() + seconds
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        for path, body in (
            ("/api/v1/namespaces", {"metadata": {"name": space}}),
            (f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "default"}}),
        ):
            async with session.post(url + path, json=body) as answer:
                assert answer.status in (201, 409)

        async def work(number: int) -> None:
            nonlocal sent
            maker = Maker(seed * WORKERS + number, space)
            while (now := time.monotonic()) < deadline or (sent < FEWEST and now < deadline + PATIENCE):
                attempt = maker.request()
                try:
                    status, raw = await _send(session, url, attempt)
                except TimeoutError:
                    pytest.fail(f"seed {seed}: no answer to {attempt}")
                except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # Half a WebSocket, or a body the server would not read to its end.
                    continue
                except aiohttp.ClientResponseError as error:
                    # A line too long to be read has no method yet: the library answers HEAD with a body, too.
                    if attempt.method != "HEAD":
                        pytest.fail(f"seed {seed}: {error!r:.500}\n{attempt}")
                    continue
                except (aiohttp.InvalidURL, ValueError):
                    continue  # the client's own library does not send it
                sent += 1
                if status >= 500 and status not in (503, 504) and status != 501:
                    pytest.fail(f"seed {seed}: {status} {raw[:600]!r}\n{attempt}")
                if status >= 400 and attempt.method != "HEAD" and raw:
                    assert raw[:1] in b"{ka" or status in (400, 404), f"seed {seed}: {raw[:200]!r}\n{attempt}"

        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(work(number))
    return sent


async def test_a_while(healthy: ServerProcess) -> None:
    assert await fuzz(healthy, 15, seed()) >= FEWEST


@pytest.mark.slow
@pytest.mark.timeout(SOAK_SECONDS + 600)
async def test_soak(healthy: ServerProcess) -> None:
    """The same for longer, and memory does not grow with it."""
    await fuzz(healthy, WARM_UP_SECONDS, seed())
    settled = healthy.memory()
    sent = await fuzz(healthy, SOAK_SECONDS - WARM_UP_SECONDS, seed() + 1)  # the first namespace may be ending
    grown = healthy.memory() - settled
    print(f"{sent} requests, {grown / (1 << 20):.1f} MiB more")
    assert grown < 48 << 20, f"{grown >> 20} MiB after {sent} requests"
