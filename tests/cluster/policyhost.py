"""The process that plays a host's agent for tests of policies: `nethost`, with the policies of its API enforced."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import structlog
import uvloop

from agents.network.wiring import LINK_PREFIX
from agents.policy import cluster, keeper
from agents.policy.keeper import NetworkPolicies
from agents.policy.kernel import Nft
from orca.api.builtin import NAMESPACES, NETWORKPOLICIES, PODS
from orca.api.objects import uid
from orca.client.informer import Informer
from tests.cluster import nethost

nethost.KINDS.update({"NetworkPolicy": NETWORKPOLICIES, "Namespace": NAMESPACES, "Pod": PODS})
DNS = "10.96.0.10"


class Told:
    """A recorder of events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, obj: Any, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))


class PolicyHost(nethost.HostProcess):
    """One public method a command."""

    policies: NetworkPolicies | None = None

    async def start_policies(self, node_name: str) -> float:
        """Returns the seconds until the host's own pods and the policies are in the kernel."""
        keeper.HEAL_SECONDS = 60.0  # what the kernel tells of is put back at once
        began = time.perf_counter()
        self.told = Told()
        self.mine = f"spec.nodeName={node_name}"
        self.local = Informer(self.client, PODS, fields=self.mine)
        self.namespaces = Informer(self.client, NAMESPACES)
        self.policies = NetworkPolicies(
            self.client,
            self.namespaces,
            kernel=Nft(),
            dns=(DNS,),
            ports=LINK_PREFIX,
            find=lambda pod_uid: next((obj for obj in self.client.objects(PODS) if uid(obj) == pod_uid), None),
            recorder=self.told,
            node={"kind": "Node", "name": node_name},
        )
        self.policies.follow(self.local)
        self.guarded = self.policies.guarding(self.network)
        informers = (self.local.run(), self.namespaces.run())
        self.tasks += [asyncio.create_task(work) for work in (*informers, self.policies.run())]
        await self.policies.settled()
        return time.perf_counter() - began

    async def attach_guarded(self, pod_uid: str, pid: int) -> list[str]:
        return await self.guarded.attach(pod_uid, pid)

    async def detach_guarded(self, pod_uid: str) -> None:
        await self.guarded.detach(pod_uid)

    async def put(self, objects: list[dict[str, Any]], gone: list[dict[str, Any]]) -> float:
        """Make the API have these objects and not those; seconds until the kernel does as they say."""
        began = time.perf_counter()
        for obj in gone:
            metadata = obj["metadata"]
            await self.client.delete(nethost.KINDS[obj["kind"]], metadata["name"], metadata.get("namespace", ""))
        await self.apply(objects)
        return time.perf_counter() - began

    async def _rules_written(self) -> None:
        await super()._rules_written()
        if self.policies is None:
            return
        await self.heard(self.policies._informer, NETWORKPOLICIES)
        await self.heard(self.namespaces, NAMESPACES)
        await self.heard(self.local, PODS, self.mine)
        await self.policies.settled()
        # Who is everywhere is only followed when a rule asks for it, which is known now.
        if (everybody := self.policies._cluster._pods) is not None:
            await self.heard(everybody, PODS, cluster._FIELDS)
            await self.policies.settled()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.install()
    asyncio.run(nethost.main(PolicyHost()))
