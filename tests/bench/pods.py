"""Bench ``pods``: from create to Running, Ready and gone through the whole system, beside the Docker floor.

Runs on a lab of its own (one server, one agent host). Pods are made one by one and in a burst, bare and with probes and
a volume of a ConfigMap; last, what the agent takes while they only sit there with their probes every 10 s.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.table import Table

from orca.api.builtin import CONFIGMAPS, PODS
from orca.api.objects import Obj
from orca.client.base import Client
from orca.client.http import HttpsClient
from orca.lab import host as hosts
from orca.lab.layout import Lab, load
from tests.bench.bursts import alternate
from tests.bench.podfloor import Floor
from tests.bench.processes import cpu_seconds, resident_mb

LAB = "bench"
NODE = "host-1"
IMAGE = "busybox:1.36"
PAUSE = "orca/pause:1"
COMMAND = ["/bin/busybox", "httpd", "-f", "-p", "8080"]
CONFIG = "bench"
PROBE_SECONDS = 10
KUBELET = {"one": "0.49 / 0.53 s", "burst": "7.2 s", "delete": "6.9 s"}
"""kubelet v1.36 with containerd on a machine of this size: one pod create→Ready p50 / p99, and 50 at once."""


@contextmanager
def lab() -> Iterator[Lab]:
    orca = str(Path(sys.executable).parent / "orca")
    subprocess.run([orca, "lab", "up", "--name", LAB, "--hosts", "2"], check=True, stdout=subprocess.DEVNULL)
    try:
        yield load(LAB)
    finally:
        subprocess.run([orca, "lab", "down", "--name", LAB], check=True, stdout=subprocess.DEVNULL)


def manifest(name: str, *, full: bool, period: int = 1) -> Obj:
    """A pod of one container that must be killed; ``full``: with two probes and a volume of a ConfigMap.

    A readiness probe that comes before the server listens costs one ``period``.
    """
    container: Obj = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": COMMAND}
    spec: Obj = {"terminationGracePeriodSeconds": 1, "nodeSelector": {"kubernetes.io/hostname": NODE}}
    if full:
        container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": period}
        container["livenessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": period}
        container["volumeMounts"] = [{"name": "config", "mountPath": "/config"}]
        container["args"] = ["-h", "/config"]
        spec["volumes"] = [{"name": "config", "configMap": {"name": CONFIG}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "containers": [container]}}


def p(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(int(percent / 100 * len(values)), len(values) - 1)]


def told(values: Sequence[float]) -> str:
    return f"{p(values, 50):.3f} / {p(values, 99):.3f} s"


@dataclass
class Times:
    """When each pod was seen so for the first time."""

    running: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)


class Cluster:
    """Pods through the API: when each was created, Running, Ready and gone, by a watch."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.created: dict[str, float] = {}
        self.seen = Times()
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        async with self._client.watch(PODS, "default") as events:
            async for event in events:
                now, name, status = (
                    time.perf_counter(),
                    event.obj["metadata"].get("name", ""),
                    event.obj.get("status", {}),
                )
                if event.type == "DELETED":
                    self.seen.gone[name] = now
                    self._changed.set()
                    continue
                if status.get("phase") == "Running":
                    self.seen.running.setdefault(name, now)
                if any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", ())):
                    self.seen.ready.setdefault(name, now)
                self._changed.set()

    async def until(self, seen: dict[str, float], names: Sequence[str]) -> None:
        async with asyncio.timeout(300):
            while any(name not in seen for name in names):
                self._changed.clear()
                await self._changed.wait()

    async def create(self, name: str, *, full: bool, period: int = 1) -> None:
        self.created[name] = time.perf_counter()
        await self._client.create(PODS, manifest(name, full=full, period=period), "default")

    async def one_by_one(self, names: Sequence[str], *, full: bool) -> None:
        for name in names:
            await self.create(name, full=full)
            await self.until(self.seen.ready, [name])

    async def burst(self, names: Sequence[str], *, full: bool, period: int = 1) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self.create(name, full=full, period=period) for name in names))
        await self.until(self.seen.ready, names)
        return max(self.seen.ready[name] for name in names) - began

    async def delete(self, names: Sequence[str]) -> tuple[float, list[float]]:
        """Seconds until all were gone, and each one's."""
        began = time.perf_counter()
        await asyncio.gather(*(self._client.delete(PODS, name, "default") for name in names))
        await self.until(self.seen.gone, names)
        each = [self.seen.gone[name] - began for name in names]
        return max(each), each

    def since_created(self, seen: dict[str, float], names: Sequence[str]) -> list[float]:
        return [seen[name] - self.created[name] for name in names]


class Bench:
    """One run: the table grows a line a measurement."""

    def __init__(self, lab: Lab, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._agent = hosts.service_pid(lab.host(NODE), "agent")
        socket = hosts.root(lab.host(NODE)) / "run/docker.sock"
        self.floor = Floor(socket, PAUSE, IMAGE, COMMAND, plain=False)
        self.plain = Floor(socket, PAUSE, IMAGE, COMMAND, plain=True)

    async def floors(self, count: int) -> tuple[list[float], float, float]:
        """Pairs of containers made by hand: each one's seconds, those of a burst, and of its removal."""
        table = Table(f"{count} pairs by hand", "one by one, p50 / p99", "burst", "removed, grace 1 s")
        answer: tuple[list[float], float, float] | None = None
        for name, kind in (("as docker run makes them", self.plain), ("the floor", self.floor)):
            each = await asyncio.to_thread(kind.one_by_one, count)
            await asyncio.to_thread(kind.remove)
            burst = await asyncio.to_thread(kind.burst, count)
            removed = await asyncio.to_thread(kind.remove)
            table.add_row(name, told(each), f"{burst:.2f} s", f"{removed:.2f} s")
            answer = each, burst, removed
        self._console.print(table)
        assert answer is not None
        return answer

    async def round(self, count: int, *, full: bool, floor: tuple[list[float], float, float]) -> None:
        kind = "probes, config volume" if full else "bare"
        table = Table(f"{count} pods, {kind}", "orca", "÷ floor", "agent, CPU a pod", "kubelet + containerd")
        cluster, seen = self._cluster, self._cluster.seen
        names = [f"one-{kind[:4]}-{count}-{number}" for number in range(count)]
        before = cpu_seconds(self._agent)
        await cluster.one_by_one(names, full=full)
        used = (cpu_seconds(self._agent) - before) / count
        running, ready = cluster.since_created(seen.running, names), cluster.since_created(seen.ready, names)
        low = p(floor[0], 50)
        table.add_row("one by one: create→Running, p50 / p99", told(running), f"{p(running, 50) / low:.2f}", "", "")
        table.add_row(
            "            create→Ready",
            told(ready),
            f"{p(ready, 50) / low:.2f}",
            f"{used * 1000:.1f} ms",
            KUBELET["one"],
        )
        await self._deleted(table, names, floor)
        names = [f"all-{kind[:4]}-{count}-{number}" for number in range(count)]
        before = cpu_seconds(self._agent)
        took = await cluster.burst(names, full=full)
        used = (cpu_seconds(self._agent) - before) / count
        peer = KUBELET["burst"] if count == 50 else ""
        table.add_row("burst: all Ready", f"{took:.2f} s", f"{took / floor[1]:.2f}", f"{used * 1000:.1f} ms", peer)
        table.add_row("       create→Running, p50 / p99", told(cluster.since_created(seen.running, names)), "", "", "")
        table.add_row("       create→Ready", told(cluster.since_created(seen.ready, names)), "", "", "")
        await self._deleted(table, names, floor)
        self._console.print(table)

    async def _deleted(self, table: Table, names: Sequence[str], floor: tuple[list[float], float, float]) -> None:
        before = cpu_seconds(self._agent)
        took, each = await self._cluster.delete(names)
        used = (cpu_seconds(self._agent) - before) / len(names)
        peer = KUBELET["delete"] if len(names) == 50 else ""
        table.add_row(
            "deleted at once: all gone", f"{took:.2f} s", f"{took / floor[2]:.2f}", f"{used * 1000:.1f} ms", peer
        )
        table.add_row("       delete→gone, p50 / p99", told(each), "", "", "")

    async def idle(self, count: int, seconds: float) -> None:
        """What the agent takes for pods that only sit there."""
        empty = resident_mb(self._agent)
        names = [f"idle-{number}" for number in range(count)]
        await self._cluster.burst(names, full=True, period=PROBE_SECONDS)
        await asyncio.sleep(15)  # what the burst has left to do
        before, began = cpu_seconds(self._agent), time.perf_counter()
        await asyncio.sleep(seconds)
        share = (cpu_seconds(self._agent) - before) / (time.perf_counter() - began)
        full = resident_mb(self._agent)
        await self._cluster.delete(names)
        await asyncio.sleep(5)
        table = Table(f"{count} idle pods, 2 probes each every {PROBE_SECONDS} s", "agent")
        table.add_row("CPU of one core", f"{share:.1%}")
        table.add_row(
            "resident, before / with / after them", f"{empty:.0f} / {full:.0f} / {resident_mb(self._agent):.0f} MB"
        )
        self._console.print(table)


async def measure(
    lab: Lab, counts: Sequence[int], idle: int, seconds: float, console: Console, *, rounds: int, full: bool
) -> None:
    """``rounds``: of bursts alone, in place of everything else; ``full`` are their pods."""
    client = HttpsClient.from_kubeconfig(lab.kubeconfig)
    cluster = Cluster(client)
    bench = Bench(lab, cluster, console)
    following = asyncio.create_task(cluster.follow())
    try:
        page = {"index.html": "hello\n", "settings.yaml": "answer: 42\n" * 50}
        config: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG}, "data": page}
        await client.create(CONFIGMAPS, config, "default")
        for count in counts:
            if rounds:
                await alternate(lab, cluster, bench.floor, count, rounds, console, full=full)
                continue
            floor = await bench.floors(count)
            for kind in (False, True):
                await bench.round(count, full=kind, floor=floor)
        if idle and not rounds:
            await bench.idle(idle, seconds)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.aclose()
        bench.floor.close()
        bench.plain.close()


@click.command()
@click.option(
    "--count", "counts", multiple=True, type=int, default=(50, 100), show_default=True, help="Pods of a round."
)
@click.option("--idle", default=100, show_default=True, help="Pods that only sit there with their probes; 0: none.")
@click.option("--seconds", default=60.0, show_default=True, help="How long they are watched.")
@click.option("--bursts", "rounds", default=0, help="Only bursts, so often, in turn with the floor's; CPU by program.")
@click.option("--full", is_flag=True, help="With --bursts: pods with probes and a volume of a ConfigMap.")
def command(counts: tuple[int, ...], idle: int, seconds: float, rounds: int, full: bool) -> None:
    """Measure pod starts, ends and idleness."""
    with lab() as cluster, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(cluster, counts, idle, seconds, Console(width=130), rounds=rounds, full=full))
