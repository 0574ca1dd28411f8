"""What people on a host ask of its service proxy at 127.0.0.1:10249, as of kube-proxy: ``/proxyMode``, ``/metrics`` and
``/healthz``."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from agents.proxy.door import Answer, serve
from orca.client.clock import Clock

PORT = 10249


class ProxyStatus:
    """``run`` until cancelled."""

    def __init__(self, mode: Callable[[], str], metrics: Answer, *, clock: Clock, port: int = PORT) -> None:
        self._mode = mode
        self._metrics = metrics
        self._clock = clock
        self._port = port

    async def run(self) -> None:
        """Until cancelled."""
        await serve("its mode and metrics", self.answer, "127.0.0.1", self._port, self._clock)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One question."""
        match request.path:
            case "/metrics":
                return await self._metrics(request)
            case "/proxyMode":
                return web.Response(text=self._mode(), headers={"X-Content-Type-Options": "nosniff"})
            case "/healthz":
                return web.Response(text="ok", headers={"X-Content-Type-Options": "nosniff"})
        return web.Response(status=404, text="404 page not found\n")
