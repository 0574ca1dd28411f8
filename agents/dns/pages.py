"""What the agent's server says about DNS: GET ``/metrics/dns``."""

from __future__ import annotations

import asyncio

from aiohttp import web

from agents.dns.server import DnsServer

METRICS_PATH = "/metrics/dns"


class DnsPages:
    """`routes` are for the agent's server."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server

    async def metrics(self, request: web.Request) -> web.Response:
        """CoreDNS's metrics in the text format of Prometheus."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        from agents.dns.metrics import Page, families

        memory = self._server.upstream.memory
        page = Page(families(self._server.add_up(), cached=memory.counts(), evictions=memory.evictions))
        return web.Response(body=await asyncio.to_thread(page.text), headers={"Content-Type": CONTENT_TYPE_LATEST})
