"""Bench ``api``: an ``orca server`` of its own on loopback under GET, LIST, CREATE, PATCH and 200 watchers.

The peer's figures are kube-apiserver v1.36 on a machine of this size (2 cores, 24 GiB).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
import uvloop
from rich.console import Console
from rich.table import Table

from orca.api.builtin import PODS
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig
from tests.bench import load
from tests.bench.processes import cpu_seconds, resident_mb
from tests.support.ports import free_port

PEER = {"GET": 3070.0, "LIST 500": 80.0, "LIST 5000": 11.0, "CREATE": 1160.0}
PEER_RESIDENT_MB = 600.0
CONNECTIONS = 16
WATCHERS = 200
NAMESPACE = "bench"


def pod(name: str) -> dict:
    """A pod of about 2 KB as it is stored."""
    container = {
        "name": "main",
        "image": "registry.example.com/team/application:1.2.3",
        "env": [{"name": f"SETTING_{i}", "value": "some value of usual length"} for i in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "ports": [{"containerPort": 8080}],
    }
    spec = {"schedulerName": "none", "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}}, "spec": spec}


@contextmanager
def server() -> Iterator[tuple[int, Path]]:
    """Process id and kubeconfig of a server with an empty store; ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as directory:
        kubeconfig = Path(directory, "kubeconfig")
        port = free_port()
        argv = [str(Path(sys.executable).parent / "orca"), "server", f"--data-dir={directory}/data"]
        argv += [f"--secure-port={port}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]
        argv += [f"--kubeconfig={kubeconfig}"]
        with Path(directory, "log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            ready = ["curl", "-ks", f"https://127.0.0.1:{port}/readyz"]
            while subprocess.run(ready, capture_output=True, check=False).stdout != b"ok":
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"the server does not start:\n{Path(directory, 'log').read_text()[-2000:]}")
                time.sleep(0.1)
            yield process.pid, kubeconfig
        finally:
            process.terminate()
            process.wait(timeout=30)


class Bench:
    """Runs the measurements and keeps the rows of the table."""

    def __init__(self, pid: int, kubeconfig: Path) -> None:
        self.pid, self.kubeconfig = pid, kubeconfig
        endpoint = Kubeconfig(kubeconfig).load()
        assert endpoint.ssl is not None
        self.tls: ssl.SSLContext = endpoint.ssl
        self.tls.check_hostname = False
        parts = urlsplit(endpoint.server)
        self.address = (str(parts.hostname), int(parts.port or 443))
        self.pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        self.rows: list[tuple[str, ...]] = []

    async def measure(self, what: str, make, *, requests: int, connections: int = CONNECTIONS) -> None:
        before = cpu_seconds(self.pid)
        figures = await load.run(self.address, self.tls, make, requests=requests, connections=connections)
        cpu = cpu_seconds(self.pid) - before
        peer = PEER.get(what)
        self.rows.append(
            (
                what,
                f"{figures.rate:,.0f}/s",
                f"{figures.p50:.1f}",
                f"{figures.p99:.1f}",
                f"{1e6 * cpu / requests:,.0f}",
                f"{peer:,.0f}/s" if peer else "",
                f"{figures.rate / peer:.1f}×" if peer else "",
                str(figures.failed or ""),
            )
        )

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        return load.request(method, path, self.address[0], body, kind)

    async def run(self, many: int) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        for path, body in (("/api/v1/namespaces", namespace), (f"{self.pods[:-5]}/serviceaccounts", account)):
            made = self.request("POST", path, json.dumps(body).encode())
            await load.run(self.address, self.tls, lambda _, made=made: made, requests=1, connections=1)

        bodies = [self.request("POST", self.pods, json.dumps(pod(f"pod-{i}")).encode()) for i in range(many)]
        await self.measure("CREATE, first 500", lambda i: bodies[i], requests=500)
        await self.list("LIST 500", 200)
        await self.measure("CREATE", lambda i: bodies[500 + i], requests=many - 500)
        await self.list("LIST 5000", 30)
        one = self.request("GET", f"{self.pods}/pod-7")
        await self.measure("GET", lambda _: one, requests=20_000)
        patches = [
            self.request(
                "PATCH",
                f"{self.pods}/pod-{i % many}",
                json.dumps({"metadata": {"annotations": {"touched": str(i)}}}).encode(),
                "application/merge-patch+json",
            )
            for i in range(2000)
        ]
        await self.measure("PATCH", lambda i: patches[i], requests=len(patches))
        await self.watch(events=100)

    async def list(self, what: str, requests: int) -> None:
        everything = self.request("GET", self.pods)
        await self.measure(what, lambda _: everything, requests=requests, connections=4)

    async def watch(self, *, events: int) -> None:
        """Events/s delivered to all watchers together while one writer changes a pod; delay from write to watcher."""
        client = HttpsClient.from_kubeconfig(self.kubeconfig)
        listed = await client.list(PODS, NAMESPACE)
        seen = 0
        delays: list[float] = []
        sent: dict[str, float] = {}
        everyone = asyncio.Event()

        async def follow() -> None:
            nonlocal seen
            async with client.watch(PODS, NAMESPACE, since=listed.resource_version) as stream:
                async for event in stream:
                    number = event.obj["metadata"].get("annotations", {}).get("event")
                    if number in sent:
                        delays.append(time.perf_counter() - sent[number])
                        seen += 1
                        if seen == events * WATCHERS:
                            everyone.set()
                            return

        watchers = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
        await asyncio.sleep(2)
        before, began = cpu_seconds(self.pid), time.perf_counter()
        for number in range(events):
            sent[str(number)] = time.perf_counter()
            await client.patch(PODS, "pod-1", {"metadata": {"annotations": {"event": str(number)}}}, NAMESPACE)
        try:
            await asyncio.wait_for(everyone.wait(), 60)
        except TimeoutError:
            pass
        took, cpu = time.perf_counter() - began, cpu_seconds(self.pid) - before
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await client.aclose()
        delays.sort()
        lost = events * WATCHERS - seen
        name = f"watch ×{WATCHERS}"
        p50, p99 = (1000 * delays[int(len(delays) * part)] for part in (0.5, 0.99))
        per_event = f"{1e6 * cpu / max(1, seen):,.0f}"
        self.rows.append(
            (name, f"{seen / took:,.0f}/s", f"{p50:.1f}", f"{p99:.1f}", per_event, "", "", str(lost or ""))
        )


@click.command()
@click.option("--pods", "many", default=5000, show_default=True, help="Pods stored for the long LIST.")
def command(many: int) -> None:
    """Measure the API server."""
    console = Console()
    with server() as (pid, kubeconfig):
        idle = resident_mb(pid)
        bench = Bench(pid, kubeconfig)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bench.run(many))
        full = resident_mb(pid)
    table = Table("operation", "rate", "p50 ms", "p99 ms", "server CPU µs", "kube-apiserver", "ratio", "failed")
    for row in bench.rows:
        table.add_row(*row)
    console.print(table)
    console.print(
        f"resident: {idle:.0f} MB idle, {full:.0f} MB with {many} pods (kube-apiserver {PEER_RESIDENT_MB:.0f} MB)"
    )
