"""The process that plays a host's agent in `netlab`: JSON lines in, JSON lines out, on uvloop as the real one."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import structlog
import uvloop

from agents.dns import DnsServer
from agents.network import Iptables, NetworkOptions, NetworkPlugin, PodNetwork
from agents.network.cni import CniNetwork
from agents.network.generation import RuleGeneration
from agents.network.routes import published
from agents.proxy import Proxy
from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.api.objects import key
from orca.api.resources import Resource
from orca.client.fake import FakeClient
from orca.client.informer import Informer

IPV4_ONLY = ("10.244.0.0/16", "10.96.0.0/16")
DUAL_STACK = ("10.244.0.0/16,fd10:244::/32", "10.96.0.0/16,fd10:96::/112")
KINDS = {"Service": SERVICES, "EndpointSlice": ENDPOINTSLICES}


class HostProcess:
    """One public method a command."""

    def __init__(self) -> None:
        self.network: PodNetwork | CniNetwork | None = None
        self.client = FakeClient()
        self.proxy: Proxy | None = None
        self.tasks: list[asyncio.Task[None]] = []

    async def apply(self, objects: list[dict[str, Any]]) -> float:
        """Create or replace objects in this host's own API; returns the seconds until the rules are in the kernel."""
        began = time.perf_counter()
        known = {(obj["kind"], key(obj)) for kind in KINDS.values() for obj in self.client.objects(kind)}
        for obj in objects:
            resource = KINDS[obj["kind"]]
            if (obj["kind"], key(obj)) in known:
                await self.client.update(resource, obj)
            else:
                await self.client.create(resource, obj, obj["metadata"].get("namespace", ""))
        await self._rules_written()
        return time.perf_counter() - began

    async def delete(self, kind: str, name: str, namespace: str = "default") -> float:
        began = time.perf_counter()
        await self.client.delete(KINDS[kind], name, namespace)
        await self._rules_written()
        return time.perf_counter() - began

    async def start_proxy(self, node_name: str, mode: str = "auto") -> float:
        """Seconds until the first rules are complete."""
        began = time.perf_counter()
        self.services, self.slices = Informer(self.client, SERVICES), Informer(self.client, ENDPOINTSLICES)
        iptables = self.network.iptables if self.network else Iptables()
        self.proxy = Proxy(self.services, self.slices, node_name, mode=mode, iptables=iptables)
        self.tasks += [asyncio.create_task(work) for work in (self.services.run(), self.slices.run())]
        self.tasks.append(asyncio.create_task(self.proxy.run()))
        await self.proxy.synced()
        while not self.proxy._former_modes_gone:  # noqa: ASYNC110 (done right after)
            await asyncio.sleep(0.001)
        return time.perf_counter() - began

    async def apply_status(self, obj: dict[str, Any]) -> None:
        await self.client.update(KINDS[obj["kind"]], obj, subresource="status")
        await self._rules_written()

    async def time_release(self, ip: str, objects: list[dict[str, Any]]) -> float:
        """Seconds from the change that takes ``ip`` out until `released` says so."""
        assert self.proxy
        waiting = asyncio.create_task(self.proxy.released(ip))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        began = time.perf_counter()
        await self.apply(objects)
        await waiting
        return time.perf_counter() - began

    async def heal_rules(self) -> None:
        assert self.proxy
        await self.proxy._backend.restore()

    async def foreign_changes(self) -> int:
        assert self.network
        return self.network.iptables.foreign_changes()

    async def generation(self) -> int | None:
        return RuleGeneration().read()

    async def start_dns(self, resolv_conf: str) -> None:
        """Needs the proxy's informers."""
        self.dns = DnsServer(self.services, self.slices, resolv_conf=Path(resolv_conf))
        self.tasks.append(asyncio.create_task(self.dns.run()))
        await self.dns.listening()

    async def stop_proxy(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []

    async def clean_proxy(self) -> None:
        await self.stop_proxy()
        assert self.proxy
        await self.proxy.cleanup()

    async def _rules_written(self) -> None:
        if not self.proxy or not self.tasks:
            return
        await self.heard(self.services, SERVICES)
        await self.heard(self.slices, ENDPOINTSLICES)
        await self.proxy.settled()

    async def heard(self, informer: Informer, resource: Resource, fields: str = "") -> None:
        """Returns once the informer has what the API has; its events may be on their way to it."""
        objects = (await self.client.list(resource, fields=fields)).items if fields else self.client.objects(resource)
        last = max((int(obj["metadata"]["resourceVersion"]) for obj in objects), default=0)
        names = {key(obj) for obj in objects}

        def behind() -> bool:
            return int(informer.resource_version or 0) < last or {key(obj) for obj in informer.list()} != names

        while behind():  # noqa: ASYNC110 (the event is on its way to the informer)
            await asyncio.sleep(0)

    async def start_network(self, root: str, node: dict[str, Any], dual_stack: bool = False) -> float:
        if not self.network:
            cluster, services = DUAL_STACK if dual_stack else IPV4_ONLY
            self.network = PodNetwork(root, node["metadata"]["name"], cluster_cidr=cluster, service_cidr=services)
        began = time.perf_counter()
        await self.network.start(node)
        return time.perf_counter() - began

    async def start_cni(self, root: str, node: dict[str, Any], conf_dir: str, bin_dirs: list[str]) -> None:
        if not isinstance(self.network, CniNetwork):
            programs = tuple(map(Path, bin_dirs))
            options = NetworkOptions(NetworkPlugin.CNI, cni_conf_dir=Path(conf_dir), cni_bin_dirs=programs)
            self.network = CniNetwork(root, node["metadata"]["name"], options=options)
        await self.network.start(node)

    async def published(self) -> dict[str, str]:
        """What the host would have its Node tell others."""
        assert isinstance(self.network, PodNetwork)
        return published(self.network.standing)

    async def attach(
        self,
        uid: str,
        pid: int,
        hostname: str,
        host_ports: list[Any] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> list[str]:
        assert self.network
        return await self.network.attach(
            uid,
            pid,
            hostname=hostname,
            namespace="default",
            sandbox_id=f"box-{hostname}",
            host_ports=host_ports or [],
            annotations=annotations,
        )

    async def time_attach(self, pods: list[tuple[str, int]]) -> tuple[list[float], list[str]]:
        """Seconds for each, one after the other; and the programs that were started for them."""
        assert self.network
        taken: list[float] = []
        started: list[str] = []
        watched = True
        execute = asyncio.create_subprocess_exec

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if watched and event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec"):
                started.append(f"{event} {arguments[:2]}")

        async def noted(*argv: Any, **options: Any) -> Process:
            started.append(f"create_subprocess_exec {argv}")
            return await execute(*argv, **options)

        sys.addaudithook(audit)
        asyncio.create_subprocess_exec = noted  # type: ignore[assignment]  # uvloop's raises no audit event
        try:
            for uid, pid in pods:
                began = time.perf_counter()
                await self.network.attach(uid, pid, hostname=uid)
                taken.append(time.perf_counter() - began)
        finally:
            watched = False
            asyncio.create_subprocess_exec = execute
        return taken, started

    async def detach(self, uid: str) -> None:
        assert self.network
        await self.network.detach(uid)

    async def reconcile(self, live: list[str]) -> None:
        assert self.network
        await self.network.reconcile(live)

    async def set_nodes(self, nodes: list[Any]) -> dict[str, str]:
        assert isinstance(self.network, PodNetwork)
        await self.network.set_nodes(nodes)
        return self.network.problems

    async def heal(self) -> None:
        assert self.network
        await self.network._heal(-1)

    async def cleanup(self) -> None:
        assert self.network
        await self.network.cleanup()
        self.network = None


async def main(host: HostProcess) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = {"result": await getattr(host, command["method"])(**command["arguments"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.install()
    asyncio.run(main(HostProcess()))
