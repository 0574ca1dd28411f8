"""Hosts that only claim to run pods: they get ready, end and go after a little while, as the seed wants it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from orca.api.builtin import LEASES, NODES, PODS
from orca.api.errors import ApiError
from orca.client.base import Client
from orca.client.informer import Informer
from tests.api.chaos.world import Obj, is_going, is_over, key_of

CPU, PODS_A_NODE = 4, 30
HEARTBEAT_SECONDS = 10.0
NEVER_READY = "chaos/never-ready"
"""Label of pods that do not get ready, like those of a bad image."""
FAILS = "chaos/fails"
"""Label of pods of which some end badly."""
RETRY_SECONDS = 0.3


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def addresses() -> Iterator[str]:
    for number in range(1, 1 << 16):
        yield f"10.244.{number >> 8}.{number & 255}"


class Kubelets:
    """All hosts, in one."""

    def __init__(self, client: Client, count: int, chance: random.Random) -> None:
        self._client = client
        self._chance = chance
        self.names = [f"host-{number:02d}" for number in range(count)]
        self.let_go: set[str] = set()
        """uids of pods that are over, said before the API hears of it."""
        self._addresses = addresses()
        self._tending: set[str] = set()
        self._group = asyncio.TaskGroup()
        self._news: dict[str, asyncio.Event] = {}
        self._pods = Informer(client, PODS)
        self._pods.on_change(self._changed)

    async def run(self) -> None:
        """Until cancelled, or until tending a pod fails."""
        async with self._group as group:
            for name in self.names:
                await self._register(name)
            group.create_task(self._pods.run())
            group.create_task(self._beat())

    async def _register(self, name: str) -> None:
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "claims to run"}
        amounts = {"cpu": str(CPU), "memory": "64Gi", "pods": str(PODS_A_NODE)}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [condition]},
        }
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40},
        }
        await self._client.create(NODES, node)
        await self._client.create(LEASES, lease)

    async def _beat(self) -> None:
        while True:
            for name in self.names:
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                with suppress(ApiError):
                    await self._client.patch(LEASES, name, {"spec": {"renewTime": now}}, "kube-node-lease")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _changed(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") and uid not in self._tending and self._pods.get(key_of(pod)) is not None:
            self._tending.add(uid)
            self._group.create_task(self._tend(uid, key_of(pod))).add_done_callback(lambda _: self._forget(uid))
        if uid in self._news:
            self._news[uid].set()

    def _forget(self, uid: str) -> None:
        self._tending.discard(uid)
        self._news.pop(uid, None)

    async def _tend(self, uid: str, key: str) -> None:
        """From binding to the end of one pod."""
        due = self._chance.uniform(0.05, 0.6)
        ends = self._chance.uniform(0.2, 2.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        address = next(self._addresses)
        while True:
            pod = self._pods.get(key)
            if pod is None or pod["metadata"]["uid"] != uid:
                return
            try:
                if is_going(pod):
                    await asyncio.sleep(self._chance.uniform(0.0, 0.4))
                    await self._end(pod)
                    await self._until_changed(pod, 5.0)
                    continue
                if is_over(pod):
                    # Only somebody who deletes it has the host do anything more.
                    await self._until_changed(pod, 60.0)
                    continue
                running = (pod.get("status") or {}).get("phase") == "Running"
                elapsed = loop.time() - began
                if not running and elapsed >= due:
                    await self._report(pod, _running(pod, address))
                elif running and pod["spec"].get("restartPolicy") != "Always" and elapsed >= due + ends:
                    fails = FAILS in (pod["metadata"].get("labels") or {}) and self._chance.random() < 0.1
                    await self._report(pod, _ended("Failed" if fails else "Succeeded"))
                else:
                    wait = due - elapsed if not running else due + ends - elapsed
                    forever = running and pod["spec"].get("restartPolicy") == "Always"
                    await self._until_changed(pod, 60.0 if forever else max(wait, 0.01))
            except ApiError as error:
                if error.code == 404:
                    return
                await asyncio.sleep(RETRY_SECONDS)

    async def _until_changed(self, pod: Obj, seconds: float) -> None:
        """Returns when the cache shows another state than `pod`, or after so many seconds."""
        news = self._news.setdefault(pod["metadata"]["uid"], asyncio.Event())
        news.clear()
        found = self._pods.get(key_of(pod))
        if found is not None and found["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]:
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), seconds)

    async def _report(self, pod: Obj, status: Obj) -> None:
        metadata = pod["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}, "status": status}
        await self._patch(metadata, body)
        await self._until_changed(pod, 5.0)

    async def _patch(self, metadata: Obj, body: Obj) -> None:
        name, space = metadata["name"], metadata["namespace"]
        await self._client.patch(PODS, name, body, space, kind="strategic", subresource="status")

    async def _end(self, pod: Obj) -> None:
        """What a kubelet does for a pod that is to end: the last status, then the object itself."""
        metadata = pod["metadata"]
        self.let_go.add(metadata["uid"])
        if not is_over(pod) and pod["spec"].get("restartPolicy") != "Always":
            await self._patch(metadata, {"metadata": {"uid": metadata["uid"]}, "status": _ended("Failed")})
        await self._client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=0)


def _condition(kind: str, status: bool) -> Obj:
    return {"type": kind, "status": str(status), "lastTransitionTime": stamp()}


def _running(pod: Obj, address: str) -> Obj:
    ready = NEVER_READY not in (pod["metadata"].get("labels") or {})
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": "192.0.2.1",
        "startTime": stamp(),
        "conditions": [_condition("Ready", ready), _condition("ContainersReady", ready)],
    }


def _ended(how: str) -> Obj:
    state = {"exitCode": int(how == "Failed"), "reason": "Completed", "startedAt": stamp(), "finishedAt": stamp()}
    containers = [
        {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": state}}
    ]
    return {
        "phase": how,
        "conditions": [_condition("Ready", False), _condition("ContainersReady", False)],
        "containerStatuses": containers,
    }
