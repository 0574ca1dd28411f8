"""What the proxy says about itself at 127.0.0.1:10249."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
from aiohttp import web

from agents.proxy.status import ProxyStatus
from orca.client.clock import SystemClock
from tests.support.patience import PATIENCE
from tests.support.ports import free_port


async def _metrics(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="kubeproxy_sync_proxy_rules_last_timestamp_seconds 1\n")


async def test_mode_metrics_and_health() -> None:
    port = free_port()
    task = asyncio.create_task(ProxyStatus(lambda: "nftables", _metrics, clock=SystemClock(), port=port).run())
    async with aiohttp.ClientSession() as session:

        async def ask(path: str) -> tuple[int, str]:
            while True:
                with suppress(aiohttp.ClientConnectorError):
                    async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                        return answer.status, await answer.text()
                await asyncio.sleep(0)

        async with asyncio.timeout(PATIENCE):
            assert await ask("/proxyMode") == (200, "nftables")
            assert (await ask("/metrics"))[1].startswith("kubeproxy_")
            assert await ask("/healthz") == (200, "ok")
            assert (await ask("/else"))[0] == 404
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
