"""``/healthz`` and ``/livez`` of the service proxy on port 10256, where load balancers of clouds ask for it.

Healthy is a proxy that brings changes into the kernel within a minute. ``/healthz`` says no for a node that is about to
go as well, so that no new connections are sent to it. Reference: k8s.io/kubernetes ``pkg/proxy/healthcheck`` and
KEP-3836.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import structlog
from aiohttp import web

from orca.api.objects import Obj, is_terminating
from orca.client.clock import Clock

log = structlog.get_logger()

PORT = 10256
LATE_SECONDS = 60.0
"""As kube-proxy: twice its period of syncing."""
RETRY_SECONDS = 60.0
_DOOMED = "ToBeDeletedByClusterAutoscaler"


@dataclass(frozen=True, slots=True)
class Standing:
    """``pending`` are the seconds for which the oldest change has waited for the kernel, 0 when none does; ``updated``
    the unix time of the last change that did not have to any more."""

    pending: float
    updated: float


def is_eligible(node: Obj | None) -> bool:
    """Whether new connections may be sent to a node: neither deleted nor about to be."""
    if node is None:
        return True
    taints = (node.get("spec") or {}).get("taints") or ()
    return not is_terminating(node) and not any(taint.get("key") == _DOOMED for taint in taints)


def judge(standing: Standing, node: Obj | None, now: datetime, *, live_only: bool) -> tuple[int, Obj]:
    """(status, body)."""
    healthy, eligible = standing.pending < LATE_SECONDS, is_eligible(node)
    told = {"lastUpdated": _shown(datetime.fromtimestamp(standing.updated, UTC)), "currentTime": _shown(now)}
    good = healthy and (live_only or eligible)
    return 200 if good else 503, told | ({} if live_only else {"nodeEligible": eligible})


def _shown(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")


class ProxyHealth:
    """``run`` until cancelled. A port that is taken is tried again: several agents of one machine."""

    def __init__(
        self, standing: Callable[[], Standing], node: Callable[[], Obj | None], *, clock: Clock, port: int = PORT
    ) -> None:
        self._standing = standing
        self._node = node
        self._clock = clock
        self._port = port

    async def run(self) -> None:
        """Until cancelled."""
        told = False
        while True:
            try:
                await self._serve()
            except OSError as error:
                if not told:
                    log.warning("the health of the proxy is not served", port=self._port, error=error.strerror)
                told = True
                await self._clock.sleep(RETRY_SECONDS)

    async def _serve(self) -> None:
        runner = web.ServerRunner(web.Server(self.answer), shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, None, self._port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """One question."""
        if request.path not in ("/healthz", "/livez"):
            return web.Response(status=404, text="404 page not found\n")
        live_only = request.path == "/livez"
        status, told = judge(self._standing(), self._node(), self._clock.now(), live_only=live_only)
        return web.Response(
            status=status,
            body=orjson.dumps(told),
            content_type="application/json",
            headers={"X-Content-Type-Options": "nosniff"},
        )
