"""Simulated kubelets of many nodes: pods that are bound become Running and Ready, pods that are to end are gone."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable

from orca.api.builtin import PODS
from orca.api.objects import Obj, is_terminating, name, uid
from orca.client.http import HttpsClient
from tests.bench import load

MERGE = "application/merge-patch+json"
CONNECTIONS = 8


def status(pod_ip: str, *, ready: bool) -> Obj:
    """What a kubelet tells of a pod that runs."""
    state = "True" if ready else "False"
    stamp = "2026-01-01T00:00:00Z"
    conditions = [{"type": kind, "status": state, "lastTransitionTime": stamp} for kind in ("Ready", "ContainersReady")]
    container = {
        "name": "main",
        "image": "pause",
        "imageID": "pause",
        "ready": ready,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": stamp}},
    }
    return {
        "phase": "Running",
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": stamp,
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp},
            {"type": "Initialized", "status": "True", "lastTransitionTime": stamp},
            *conditions,
        ],
        "containerStatuses": [container],
    }


def address_of(number: int) -> str:
    """Of the nth pod."""
    return f"10.{128 + (number >> 16 & 63)}.{number >> 8 & 255}.{number & 255}"


class Kubelets:
    """Follows all pods of a namespace; `heard` is told of each event before it is acted on."""

    def __init__(
        self,
        client: HttpsClient,
        address: tuple[str, int],
        tls: ssl.SSLContext,
        namespace: str,
        heard: Callable[[str, Obj], None],
    ) -> None:
        self._client, self._namespace, self._heard = client, namespace, heard
        self._host = address[0]
        self._pool = load.Pool(address, tls)
        self._todo: asyncio.Queue[bytes] = asyncio.Queue()
        self._started: set[str] = set()
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self.refused = 0

    async def run(self) -> None:
        """Until cancelled."""
        await self._pool.open(CONNECTIONS)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONNECTIONS):
                    group.create_task(self._work())
                group.create_task(self._follow())
        finally:
            self._pool.close()

    async def _follow(self) -> None:
        listed = await self._client.list(PODS, self._namespace)
        async with self._client.watch(PODS, namespace=self._namespace, since=listed.resource_version) as events:
            async for event in events:
                if event.type == "BOOKMARK":
                    continue
                self._heard(event.type, event.obj)
                if event.type != "DELETED":
                    self._act(event.obj)

    def _act(self, pod: Obj) -> None:
        if not pod["spec"].get("nodeName"):
            return
        path = f"{self._path}/{name(pod)}"
        if is_terminating(pod):
            body = json.dumps({"gracePeriodSeconds": 0, "preconditions": {"uid": uid(pod)}}).encode()
            self._todo.put_nowait(load.request("DELETE", path, self._host, body))
        elif uid(pod) not in self._started:
            self._started.add(uid(pod))
            change = json.dumps({"status": status(address_of(len(self._started)), ready=True)}).encode()
            self._todo.put_nowait(load.request("PATCH", f"{path}/status", self._host, change, MERGE))

    async def _work(self) -> None:
        while True:
            code = await self._pool.ask(await self._todo.get())
            self.refused += not (200 <= code < 300 or code in (404, 409))


async def while_running(kubelets: Kubelets, work: Awaitable[None]) -> None:
    """Do `work` with kubelets that run; a failure of theirs is one of the work."""
    running = asyncio.create_task(kubelets.run())
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((running, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            raise SystemExit(f"simulated kubelets ended: {running.exception()!r}")
        working.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
