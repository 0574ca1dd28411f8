"""Bench ``scheduler``: an ``orca server`` of its own, simulated nodes and the real scheduler on the real API.

Pods are created over HTTPS and counted as scheduled when a watch shows their node; the time is from the first create to
the last one seen. Everything (server, etcd, this client) shares the machine's cores. After each workload an independent
judge (``tests/support/placements.py``) looks at every placement. The peer's figures are kube-scheduler v1.36 with its
API server and etcd on 2 cores, and the thresholds that its project has published for its own bench.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import click
import uvloop
from rich.console import Console
from rich.table import Table

from orca.api.builtin import NAMESPACES, NODES, PODS, PRIORITYCLASSES, SERVICEACCOUNTS, SERVICES
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig
from tests.bench import decisions, load, workloads
from tests.bench.api import Server
from tests.bench.processes import cpu_seconds, resident_mb
from tests.bench.workloads import NAMESPACE, WORKLOADS, Workload
from tests.support.placements import violations

CONNECTIONS = 16
QUIET_SECONDS = 60.0
IDLE = 0.06
"""CPU seconds a second that a server uses which has nothing to do, but 5,000 nodes to watch over."""
RESTS = 60
PODS_PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass(frozen=True, slots=True)
class Row:
    """`cpu`: seconds of the server (API, scheduler, controllers) a pod; `wrong`: what the judge found."""

    what: str
    bound: int
    wanted: int
    seconds: float
    cpu: float
    resident: float
    wrong: list[str]
    peer: float | None
    threshold: float | None

    @property
    def rate(self) -> float:
        """Pods/s."""
        return self.bound / self.seconds if self.seconds else 0.0

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        return (
            self.what,
            f"{self.bound:,}/{self.wanted:,}",
            f"{self.rate:,.0f}",
            f"{1e6 * self.cpu:,.0f}",
            f"{self.resident:.0f}",
            f"{self.peer:.0f}" if self.peer else "",
            f"{self.rate / self.peer:.1f}×" if self.peer else "",
            f"{self.threshold:.0f}" if self.threshold else "",
            f"{self.rate / self.threshold:.1f}×" if self.threshold else "",
            "all valid" if not self.wrong else f"{len(self.wrong)} wrong",
        )


class Watched:
    """Pods of the bench as a watch shows them."""

    def __init__(self, client: HttpsClient) -> None:
        self._client = client
        self._changed = asyncio.Event()
        self.bound: set[str] = set()
        self.refused: set[str] = set()
        self.last = 0.0

    async def follow(self) -> None:
        """Until cancelled."""
        listed = await self._client.list(PODS, NAMESPACE)
        async with self._client.watch(PODS, namespace=NAMESPACE, since=listed.resource_version) as events:
            async for event in events:
                pod = event.obj
                name = pod["metadata"].get("name", "")
                if (pod.get("spec") or {}).get("nodeName"):
                    if name not in self.bound:
                        self.bound.add(name)
                        self.last = time.perf_counter()
                elif any(one["reason"] == "Unschedulable" for one in (pod.get("status") or {}).get("conditions") or ()):
                    self.refused.add(name)
                self._changed.set()

    async def see(self, names: set[str], *, refused: bool = False) -> None:
        """Returns when all were seen, or nothing more is."""
        seen = self.refused if refused else self.bound
        while not names <= seen:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), QUIET_SECONDS)
            except TimeoutError:
                return


class Bench:
    """One workload on a fresh server."""

    def __init__(self, server: Server, nodes: int, pods: int) -> None:
        endpoint = Kubeconfig(server.kubeconfig).load()
        assert endpoint.ssl is not None
        self._tls: ssl.SSLContext = endpoint.ssl
        self._tls.check_hostname = False
        parts = urlsplit(endpoint.server)
        self._address = (str(parts.hostname), int(parts.port or 443))
        self._server, self._nodes, self._pods = server, nodes, pods
        self._client = HttpsClient.from_kubeconfig(server.kubeconfig)

    async def run(self, workload: Workload) -> Row:
        """Set up, measure, judge."""
        try:
            began = time.perf_counter()
            await self._prepare(workload)
            click.echo(f"{workload.title}: prepared in {time.perf_counter() - began:.0f} s", err=True)
            watched = Watched(self._client)
            watching = asyncio.create_task(watched.follow())
            await asyncio.sleep(0.5)
            try:
                measuring = asyncio.create_task(self._measure(workload, watched))
                await asyncio.wait((measuring, watching), return_when=asyncio.FIRST_COMPLETED)
                if not measuring.done():
                    measuring.cancel()
                    raise SystemExit(f"the watch ended: {watching.exception()!r}")
                return measuring.result()
            finally:
                watching.cancel()
        finally:
            await self._client.aclose()

    async def _post(self, path: str, objects: Iterable[Obj]) -> None:
        bodies = [load.request("POST", path, self._address[0], json.dumps(one).encode()) for one in objects]
        if not bodies:
            return
        figures = await load.run(
            self._address, self._tls, lambda at: bodies[at], requests=len(bodies), connections=CONNECTIONS
        )
        if figures.failed:
            raise SystemExit(f"{figures.failed} of {len(bodies)} creates at {path} failed")

    async def _prepare(self, workload: Workload) -> None:
        client = self._client
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        await client.create(
            PRIORITYCLASSES,
            {
                "apiVersion": PRIORITYCLASSES.api_version,
                "kind": "PriorityClass",
                "metadata": {"name": workloads.IMPORTANT},
                "value": 1000,
            },
        )
        await self._post("/api/v1/nodes", (workloads.node(number) for number in range(self._nodes)))
        while True:
            # New nodes are tainted until their controller has seen that they are ready.
            specs = [one.get("spec") or {} for one in (await client.list(NODES)).items]
            if all(one.get("podCIDR") and not one.get("taints") for one in specs):
                break
            await asyncio.sleep(2)
        while True:
            with suppress(ApiError):
                await client.get(SERVICEACCOUNTS, "default", NAMESPACE)
                break
            await asyncio.sleep(0.1)
        there = (
            _named({**pod, "spec": {**pod["spec"], "nodeName": node}}, f"before-{number}")
            for number, (pod, node) in enumerate(workload.before(self._nodes))
        )
        await self._post(PODS_PATH, there)
        await self._rest()

    async def _rest(self) -> None:
        """Returns when the server does nothing any more that preparing has caused, such as telling of nodes."""
        for _ in range(RESTS):
            before = cpu_seconds(self._server.pid)
            await asyncio.sleep(1)
            if cpu_seconds(self._server.pid) - before < IDLE:
                return

    async def _measure(self, workload: Workload, watched: Watched) -> Row:
        if workload.hopeless is not None:
            names = [f"hopeless-{number}" for number in range(self._pods // 10)]
            await self._post(PODS_PATH, (_named(workload.hopeless(at), name) for at, name in enumerate(names)))
            await watched.see(set(names), refused=True)
        wanted = {f"pod-{number}" for number in range(self._pods)}
        pods = [_named(workload.pod(number), f"pod-{number}") for number in range(self._pods)]
        churning = asyncio.create_task(self._churn()) if workload.churn else None
        own, cpu, began = time.process_time(), cpu_seconds(self._server.pid), time.perf_counter()
        await asyncio.gather(self._post(PODS_PATH, pods), watched.see(wanted))
        cpu = cpu_seconds(self._server.pid) - cpu
        click.echo(f"client: {1e6 * (time.process_time() - own) / self._pods:.0f} µs of CPU a pod", err=True)
        if churning is not None:
            churning.cancel()
            with suppress(asyncio.CancelledError):
                await churning
        bound = len(wanted & watched.bound)
        return Row(
            workload.title,
            bound,
            self._pods,
            watched.last - began,
            cpu / max(bound, 1),
            resident_mb(self._server.pid),
            await self._judge(),
            workload.peer,
            workload.threshold,
        )

    async def _churn(self) -> None:
        """A node, a service and a pod that fits nowhere come and go five times a second."""
        number = 0
        while True:
            number += 1
            node = workloads.node(self._nodes + number)
            pod = _named(workloads.plain(cpu="64"), f"churn-{number}")
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"churn-{number}", "namespace": NAMESPACE},
                "spec": {"selector": {"app": f"churn-{number}"}, "ports": [{"port": 80}]},
            }
            node["spec"] = {"unschedulable": True}
            pod["metadata"]["namespace"] = NAMESPACE
            for resource, one in ((NODES, node), (SERVICES, service), (PODS, pod)):
                await self._client.create(resource, one)
            await asyncio.sleep(0.2)
            await self._client.delete(PODS, f"churn-{number}", NAMESPACE, grace_seconds=0)
            await self._client.delete(SERVICES, f"churn-{number}", NAMESPACE)
            await self._client.delete(NODES, node["metadata"]["name"])

    async def _judge(self) -> list[str]:
        nodes = (await self._client.list(NODES)).items
        pods = (await self._client.list(PODS, NAMESPACE)).items
        return violations(nodes, pods)


def _named(pod: Obj, name: str) -> Obj:
    return {**pod, "metadata": {**pod["metadata"], "name": name}}


CAPTION = (
    "pods/s: bound and seen on a watch, from the first create. CPU µs: of the server for each pod. kube-scheduler: "
    "v1.36 measured on 2 cores with API server and etcd, 5,000 nodes; threshold: its project's own, on bigger machines."
)


@click.command()
@click.option("--nodes", default=5000, show_default=True, help="Simulated nodes.")
@click.option("--pods", default=10_000, show_default=True, help="Pods of the basic workload; the others half as many.")
@click.option("--workload", "names", multiple=True, type=click.Choice(list(WORKLOADS)), help="Only these.")
@click.option("--decisions-only", is_flag=True, help="Only the decisions, without API: CPU µs a pod.")
def command(nodes: int, pods: int, names: tuple[str, ...], decisions_only: bool) -> None:
    """Measure the scheduler."""
    console = Console(width=max(140, Console().width))
    chosen = list(names or WORKLOADS)
    alone = Table("decision", "CPU µs a pod", caption=f"The decision loop alone, {nodes:,} nodes.")
    for name in chosen:
        alone.add_row(WORKLOADS[name].title, f"{decisions.decision_us(WORKLOADS[name], nodes, min(pods, 1000)):,.0f}")
    console.print(alone)
    if decisions_only:
        return
    columns = ("workload", "bound", "pods/s", "CPU µs", "MB", "kube-scheduler", "ratio", "threshold", "ratio", "judge")
    table = Table(*columns, caption=CAPTION)
    complaints = []
    for name in chosen:
        row = measure(WORKLOADS[name], nodes, pods if name == "basic" else max(pods // 2, 1))
        table.add_row(*row.cells())
        complaints += [f"{row.what}: {one}" for one in row.wrong[:10]]
    console.print(table)
    for one in complaints:
        console.print(one)
    if complaints:
        raise SystemExit(1)


def measure(workload: Workload, nodes: int, pods: int) -> Row:
    """One workload on a server of its own. Anti-affine pods are as many as nodes at most."""
    if workload is WORKLOADS["pod-anti-affinity"] or workload is WORKLOADS["preemption"]:
        pods = min(pods, nodes)
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as directory:
        server = Server(directory, "--node-monitor-grace-period=24h", "--cluster-cidr=10.128.0.0/9")
        try:
            server.start()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(Bench(server, nodes, pods).run(workload))
        finally:
            server.stop()
