"""A Node that claims to run whatever it is given: pods get ready at once and go when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from tests.api.conformance.cases import when
from tests.api.server.api import Api

NAME = "claims-to-run"
CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "100Gi"}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "lastTransitionTime": now()}


class Host:
    """Pods labelled ``phase: Failed`` (or Succeeded) end like that, with ``unready: "true"`` they do not get ready."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._ips = iter(range(1, 60000))

    async def register(self) -> None:
        await self.api.post("/api/v1/nodes", {"metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}}})
        status = {
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "conditions": [{**condition("Ready"), "reason": "KubeletReady", "lastHeartbeatTime": now()}],
        }
        path = f"/api/v1/nodes/{NAME}"
        assert (await self.api.patch(f"{path}/status", {"status": status})).status == 200
        lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        await self.api.post(lease, {"metadata": {"name": NAME}, "spec": {"holderIdentity": NAME}})
        await when(self.api, path, lambda node: not node["spec"].get("taints"))

    async def heartbeat(self) -> None:
        lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NAME}"
        while True:
            moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            await self.api.patch(lease, {"spec": {"renewTime": moment}})
            await asyncio.sleep(5)

    async def run(self) -> None:
        """Until cancelled."""
        path = f"/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D{NAME}&timeoutSeconds=3600"
        session = self.api._session
        assert session is not None
        async with session.get(self.api.url + path, timeout=None) as response:
            async for line in response.content:
                event = orjson.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    await self._tend(event["object"])

    async def _tend(self, pod: Any) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            await self.api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
            return
        labels = meta.get("labels") or {}
        if pod["status"].get("phase") != "Pending":
            return
        ready = "False" if labels.get("unready") else "True"
        phase = labels.get("phase", "Running")
        ended = {"terminated": {"exitCode": int(phase == "Failed"), "reason": "Error", "finishedAt": now()}}
        state = {"running": {"startedAt": now()}} if phase == "Running" else ended
        number = next(self._ips)
        status = {
            "phase": phase,
            "podIP": (ip := f"198.18.{number // 250}.{number % 250 + 1}"),
            "podIPs": [{"ip": ip}],
            "startTime": now(),
            "conditions": [
                {**condition("PodScheduled")},
                {**condition("Initialized")},
                {**condition("ContainersReady"), "status": ready},
                {**condition("Ready"), "status": ready},
            ],
            "containerStatuses": [
                {
                    "name": one["name"],
                    "image": one["image"],
                    "imageID": "",
                    "ready": ready == "True",
                    "restartCount": 0,
                    "state": state,
                }
                for one in pod["spec"]["containers"]
            ],
        }
        await self.api.patch(f"{path}/status", {"metadata": {"uid": meta["uid"]}, "status": status})


@asynccontextmanager
async def host(api: Api) -> AsyncIterator[Host]:
    """While it lasts, pods that are given to it run."""
    one = Host(api)
    await one.register()
    tasks = [asyncio.create_task(one.run()), asyncio.create_task(one.heartbeat())]
    try:
        yield one
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
