"""Bench ``pods``: create→Running through the whole system, beside pause + app pairs made directly on the same engine.

Runs on a lab of its own (one server, one agent host). The floor is made with the Docker SDK, four pairs at a time.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import docker
import uvloop
from rich.console import Console
from rich.table import Table

from orca.api.builtin import PODS
from orca.client.base import Client
from orca.client.http import HttpsClient
from orca.lab import host as hosts
from orca.lab.layout import Lab, load
from tests.bench.processes import resident_mb

LAB = "bench"
NODE = "host-1"
IMAGE = "busybox:1.36"
PAUSE = "orca/pause:1"
COMMAND = ["/bin/sleep", "3600"]
PARALLEL = 4
KUBELET = {"one by one": 0.49, "burst": 7.2}
"""kubelet v1.36 with containerd on a machine of this size: p50 of one pod, and a burst of 50, in seconds."""


@contextmanager
def lab() -> Iterator[Lab]:
    orca = str(Path(sys.executable).parent / "orca")
    subprocess.run([orca, "lab", "up", "--name", LAB, "--hosts", "2"], check=True, stdout=subprocess.DEVNULL)
    try:
        yield load(LAB)
    finally:
        subprocess.run([orca, "lab", "down", "--name", LAB], check=True, stdout=subprocess.DEVNULL)


def manifest(name: str) -> dict:
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": COMMAND}
    spec = {"terminationGracePeriodSeconds": 1, "nodeSelector": {"kubernetes.io/hostname": NODE}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "containers": [container]}}


class Floor:
    """Pause + app pairs made by hand, as little as a pod can be on this engine."""

    def __init__(self, lab: Lab) -> None:
        socket = hosts.root(lab.host(NODE)) / "run/docker.sock"
        self._engine = docker.DockerClient(base_url=f"unix://{socket}", max_pool_size=PARALLEL)
        self._made: list = []

    def pair(self, name: str) -> None:
        make = self._engine.containers.create
        pause = make(PAUSE, name=f"{name}-pause", network_mode="none", ipc_mode="shareable")
        pause.start()
        app = make(IMAGE, COMMAND, network_mode=f"container:{pause.id}", ipc_mode=f"container:{pause.id}")
        app.start()
        self._made += [app, pause]

    def one_by_one(self, count: int) -> list[float]:
        return [_timed(self.pair, f"floor-s{i}") for i in range(count)]

    def burst(self, count: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self.pair, (f"floor-b{i}" for i in range(count))))
        return time.perf_counter() - began

    def clear(self) -> None:
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(lambda container: container.remove(force=True), self._made))
        self._made.clear()


def _timed(work, *args) -> float:
    began = time.perf_counter()
    work(*args)
    return time.perf_counter() - began


class Cluster:
    """Pods through the API: when each was created, Running and gone, by a watch."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.running: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        async with self._client.watch(PODS, "default") as events:
            async for event in events:
                name = event.obj["metadata"].get("name", "")
                status = event.obj.get("status", {})
                if event.type == "DELETED":
                    self.gone[name] = time.perf_counter()
                elif status.get("phase") == "Running" and any(c["ready"] for c in status.get("containerStatuses", [])):
                    self.running.setdefault(name, time.perf_counter())
                self._changed.set()

    async def until(self, seen: dict[str, float], names: list[str]) -> None:
        async with asyncio.timeout(300):
            while any(name not in seen for name in names):
                self._changed.clear()
                await self._changed.wait()

    async def one_by_one(self, count: int) -> list[float]:
        taken = []
        for number in range(count):
            began = time.perf_counter()
            await self._client.create(PODS, manifest(f"serial-{number}"), "default")
            await self.until(self.running, [f"serial-{number}"])
            taken.append(self.running[f"serial-{number}"] - began)
        return taken

    async def burst(self, count: int) -> float:
        names = [f"burst-{number}" for number in range(count)]
        began = time.perf_counter()
        await asyncio.gather(*(self._client.create(PODS, manifest(name), "default") for name in names))
        await self.until(self.running, names)
        return max(self.running[name] for name in names) - began

    async def delete(self, names: list[str]) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self._client.delete(PODS, name, "default") for name in names))
        await self.until(self.gone, names)
        return time.perf_counter() - began


async def measure(lab: Lab, count: int, console: Console) -> None:
    memory = {"server": hosts.service_pid(lab.host(0), "server"), "agent": hosts.service_pid(lab.host(NODE), "agent")}
    idle = {name: resident_mb(pid) for name, pid in memory.items()}
    floor = Floor(lab)
    table = Table("pods", "orca", "Docker floor", "ratio", "kubelet + containerd")
    client = HttpsClient.from_kubeconfig(lab.kubeconfig)
    cluster = Cluster(client)
    following = asyncio.create_task(cluster.follow())
    try:
        base = await asyncio.to_thread(floor.one_by_one, count)
        await asyncio.to_thread(floor.clear)
        ours = await cluster.one_by_one(count)
        p50, p99 = statistics.median(ours), sorted(ours)[int(0.99 * count)]
        low = statistics.median(base)
        table.add_row(f"one by one, p50 of {count}", f"{p50:.3f} s", f"{low:.3f} s", f"{p50 / low:.2f}×", "0.49 s")
        table.add_row("one by one, p99", f"{p99:.3f} s", f"{sorted(base)[int(0.99 * count)]:.3f} s", "", "0.53 s")
        gone = await cluster.delete([f"serial-{i}" for i in range(count)])
        table.add_row(f"{count} deleted, grace 1 s", f"{gone:.2f} s", "", "", "6.9 s")
        base_burst = await asyncio.to_thread(floor.burst, count)
        await asyncio.to_thread(floor.clear)
        burst = await cluster.burst(count)
        table.add_row(
            f"burst of {count}", f"{burst:.2f} s", f"{base_burst:.2f} s", f"{burst / base_burst:.2f}×", "7.2 s"
        )
        full = {name: resident_mb(pid) for name, pid in memory.items()}
        await cluster.delete([f"burst-{i}" for i in range(count)])
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.aclose()
        floor.clear()
    console.print(table)
    for name in memory:
        console.print(f"{name}: {idle[name]:.0f} MB resident at idle, {full[name]:.0f} MB with {count} pods")


@click.command()
@click.option("--count", default=50, show_default=True, help="Pods of each measurement.")
def command(count: int) -> None:
    """Measure pod starts."""
    with lab() as cluster, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(cluster, count, Console()))
