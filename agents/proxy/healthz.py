"""``/healthz`` and ``/livez`` of the service proxy on port 10256, where load balancers of clouds ask for it.

Healthy is a proxy that brings changes into the kernel within a minute. ``/healthz`` says no for a node that is about to
go as well, so that no new connections are sent to it. Reference: k8s.io/kubernetes ``pkg/proxy/healthcheck`` and
KEP-3836.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from aiohttp import web

from agents.proxy.door import serve
from orca.api.objects import Obj, is_terminating
from orca.client.clock import Clock

PORT = 10256
LATE_SECONDS = 60.0
"""As kube-proxy: twice its period of syncing."""
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
    """``run`` until cancelled."""

    def __init__(
        self, standing: Callable[[], Standing], node: Callable[[], Obj | None], *, clock: Clock, port: int = PORT
    ) -> None:
        self._standing = standing
        self._node = node
        self._clock = clock
        self._port = port

    async def run(self) -> None:
        """Until cancelled."""
        await serve("its health", self.answer, None, self._port, self._clock)

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
