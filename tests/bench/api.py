"""Bench ``api``: an ``orca server`` of its own on loopback under GET, LIST, CREATE, PATCH and a thousand watchers.

The peer's figures are kube-apiserver v1.36 on a machine of this size (2 cores, 24 GiB). Such machines differ by a
factor of two, so the floors that were measured together with the peer are measured again (see ``floors``), and a second
ratio is against the peer's figure times how fast this machine is. ``--pods 30000`` shows how the server grows;
``--events`` how long the watchers are kept busy.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click
import uvloop
from rich.console import Console
from rich.table import Table

from orca.api.builtin import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS
from orca.api.errors import ApiError, is_already_exists
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig
from tests.bench import fanout, floors, load
from tests.bench.processes import cpu_seconds, resident_mb
from tests.support.ports import free_port

CREATE = "CREATE"
MANY = ", 64 at a time"
ALONE = ", without controllers"
CREATES = (CREATE, CREATE + MANY, CREATE + ALONE, CREATE + MANY + ALONE)
"""kube-apiserver has neither controllers nor a scheduler in its process: without them is like beside like, with them is
what users run."""
PEER = {"GET": 3070.0, "LIST 500": 80.0, "LIST 5000": 11.0, **dict.fromkeys(CREATES, 1160.0)}
BY_ETCD = frozenset(CREATES)
"""What is scaled with the etcd floor; the rest is HTTP and scaled with that one."""
PEER_RESIDENT_MB = 600.0
STORED = 6000
"""Pods with which resident memory is compared."""
CONNECTIONS = 16
WATCHERS = 1000
RATE = 100.0
NAMESPACE = "bench"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
"""What kubectl asks for to print a list."""


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


class Server:
    """``orca server`` in a directory of its own; may be started again on what it has stored."""

    def __init__(self, directory: str, *flags: str) -> None:
        self._directory = directory
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.kubeconfig = Path(directory, "kubeconfig")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Seconds until it is ready."""
        argv = [str(Path(sys.executable).parent / "orca"), "server", f"--data-dir={self._directory}/data"]
        argv += [f"--secure-port={self._port}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]
        argv += [f"--kubeconfig={self.kubeconfig}", *self._flags]
        log = Path(self._directory, "log")
        began = time.monotonic()
        with log.open("ab") as file:
            self._process = subprocess.Popen(argv, stdout=file, stderr=file)
        ready = ["curl", "-ks", f"https://127.0.0.1:{self._port}/readyz"]
        while subprocess.run(ready, capture_output=True, check=False).stdout != b"ok":
            if time.monotonic() > began + 120 or self._process.poll() is not None:
                raise SystemExit(f"the server does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None


@dataclass(frozen=True)
class Row:
    """What one measurement found: rate in 1/s, ``cpu`` seconds of the server for each, latencies in ms."""

    what: str
    rate: float
    cpu: float
    p50: float | None = None
    p99: float | None = None
    failed: int = 0

    def cells(self, factor: float) -> tuple[str, ...]:
        """The row of the table; ``factor``: how fast this machine is in parts of the peer's."""
        peer = PEER.get(self.what)
        return (
            self.what,
            f"{self.rate:,.0f}/s",
            f"{self.p50:.1f}" if self.p50 is not None else "",
            f"{self.p99:.1f}" if self.p99 is not None else "",
            f"{1e6 * self.cpu:,.0f}" if self.cpu > 20e-6 else f"{1e6 * self.cpu:.1f}",
            f"{peer:,.0f}/s" if peer else "",
            f"{self.rate / peer:.1f}×" if peer else "",
            f"{self.rate / peer / factor:.1f}×" if peer else "",
            str(self.failed or ""),
        )


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
        self.rows: list[Row] = []
        self.notes: list[str] = []

    async def measure(
        self, what: str, make: Callable[[int], bytes], *, requests: int, connections: int = CONNECTIONS, warm: int = 0
    ) -> None:
        """``warm``: so many requests before those that count, which can be asked twice. Connecting never counts."""
        opened = await load.Load.open(self.address, self.tls, connections)
        try:
            if warm:
                await opened.run(make, warm)
            before = cpu_seconds(self.pid)
            figures = await opened.run(make, requests)
            cpu = cpu_seconds(self.pid) - before
        finally:
            opened.close()
        if not what:
            return
        self.rows.append(Row(what, figures.rate, cpu / requests, figures.p50, figures.p99, figures.failed))

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        return load.request(method, path, self.address[0], body, kind)

    async def run(self, many: int) -> None:
        client = HttpsClient.from_kubeconfig(self.kubeconfig)
        try:
            await self._run(client, many)
        finally:
            await client.aclose()

    async def alone(self) -> None:
        """Creates on a server of its own."""
        client = HttpsClient.from_kubeconfig(self.kubeconfig)
        try:
            await self._begin(client)
            await self.create("", 0, 500)
            await self.create(CREATE + ALONE, 500, 2500)
            await self.create(CREATE + MANY + ALONE, 2500, 5000, connections=64)
        finally:
            await client.aclose()

    async def _begin(self, client: HttpsClient) -> None:
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        try:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            await client.create(SERVICEACCOUNTS, account, NAMESPACE)
        except ApiError as error:
            if not is_already_exists(error):  # its controller was faster
                raise

    async def _run(self, client: HttpsClient, many: int) -> None:
        await self._begin(client)
        await self.create("CREATE, first 500", 0, 500)
        await self.list("LIST 500", 1000)
        await self.create(CREATE, 500, 2500)
        await self.create(CREATE + MANY, 2500, 5000, connections=64)
        await self.list("LIST 5000", 200)
        await self.list("LIST 5000, by label", 200, "?labelSelector=app%3Dbench")
        await self.list("LIST 5000, none by label", 500, "?labelSelector=app%3Dother")
        await self.list("Table, a page of 500", 200, "?limit=500", TABLE)
        await self.create("", 5000, STORED)
        self.note(f"resident with {STORED} pods", f"of kube-apiserver's {PEER_RESIDENT_MB:.0f} MB", after=12)
        one = self.request("GET", f"{self.pods}/pod-7")
        await self.measure("GET", lambda _: one, requests=20_000, warm=1000)
        patches = [
            self.request(
                "PATCH",
                f"{self.pods}/pod-{i}",
                json.dumps({"metadata": {"annotations": {"touched": str(i)}}}).encode(),
                "application/merge-patch+json",
            )
            for i in range(2000)
        ]
        await self.measure("PATCH", lambda i: patches[i], requests=len(patches))
        if many > STORED:
            await self.create(f"CREATE up to {many}", STORED, many)
            await self.list(f"LIST {many}", 40)
            self.note(f"resident with {many} pods", after=12)
        await self.pages(many)

    async def create(self, what: str, first: int, last: int, connections: int = CONNECTIONS) -> None:
        bodies = [self.request("POST", self.pods, json.dumps(pod(f"pod-{i}")).encode()) for i in range(first, last)]
        await self.measure(what, lambda i: bodies[i], requests=last - first, connections=connections)

    async def list(self, what: str, requests: int, query: str = "", accept: str = "application/json") -> None:
        asked = load.request("GET", f"{self.pods}{query}", self.address[0], accept=accept)
        await self.measure(what, lambda _: asked, requests=requests, connections=4, warm=max(4, requests // 10))

    async def pages(self, many: int) -> None:
        """All pods in pages of 500."""
        client = HttpsClient.from_kubeconfig(self.kubeconfig)
        before, began, pages, token = cpu_seconds(self.pid), time.perf_counter(), 0, ""
        while pages == 0 or token:
            answer = await client.raw(self.pods, {"limit": "500", "continue": token})
            token = json.loads(answer)["metadata"].get("continue", "")
            pages += 1
        await client.aclose()
        took, cpu = time.perf_counter() - began, cpu_seconds(self.pid) - before
        self.rows.append(Row(f"LIST, {pages} pages of 500", pages / took, cpu / pages))

    async def watch(self, events: int, watchers: int, rate: float) -> None:
        """Small objects changing at a steady rate, seen by many."""
        client = HttpsClient.from_kubeconfig(self.kubeconfig)
        for number in range(20):
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"map-{number}"}, "data": {"a": "b"}}
            await client.create(CONFIGMAPS, made, NAMESPACE)

        async def change(number: int) -> None:
            patch = {"metadata": {"annotations": {"event": str(number)}}}
            await client.patch(CONFIGMAPS, f"map-{number % 20}", patch, NAMESPACE)

        since = (await client.list(CONFIGMAPS, NAMESPACE)).resource_version
        request = self.request("GET", f"{self.pods[:-4]}configmaps?watch=1&resourceVersion={since}")
        crowd = await fanout.Crowd.gather(self.address, self.tls, request, watchers)
        before = cpu_seconds(self.pid)
        seen = await crowd.follow(change, events=events, rate=rate)
        cpu = cpu_seconds(self.pid) - before
        crowd.close()
        await client.aclose()
        what = f"watch ×{watchers} at {rate:.0f}/s"
        each = cpu / max(1, seen.seen)
        self.rows.append(Row(what, seen.seen / seen.seconds, each, seen.p50, seen.p99, seen.lost))

    def note(self, what: str, text: str = "", *, after: float = 0) -> None:
        """Resident memory once `after` seconds have passed."""
        time.sleep(after)
        self.notes.append(f"{what}: {resident_mb(self.pid):.0f} MB {text}")


CAPTION = (
    "ratio: as measured, against kube-apiserver's figures of another day. scaled: against these times this machine's "
    "factor, which is the floor now (mean of before and after) over the floor measured together with them. GET and "
    "LIST are scaled by the http floor, CREATE by the etcd floor. Floors differ by 10 % from run to run."
)


def alone(bench: Bench, directory: Path) -> None:
    """Adds to `bench` what a server without controllers does."""
    directory.mkdir()
    server = Server(str(directory), "--no-controllers")
    try:
        server.start()
        time.sleep(3)
        other = Bench(server.pid, server.kubeconfig)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(other.alone())
        bench.rows += other.rows
    finally:
        server.stop()


def measure_floors(directory: Path) -> tuple[floors.Floor, floors.Floor]:
    """http, etcd."""
    return floors.http(directory), floors.etcd()


def floor_row(name: str, before: floors.Floor, after: floors.Floor) -> tuple[str, ...]:
    """A floor in the table: the rates of both rounds, and how fast the machine is."""
    rates = f"{before.rate:,.0f}, {after.rate:,.0f}/s"
    factor = f"{(before.factor + after.factor) / 2:.2f}×"
    return (name, rates, "", "", f"{(before.cpu + after.cpu) / 2:,.0f}", f"then {before.then:,.0f}/s", factor)


@click.command()
@click.option("--pods", "many", default=STORED, show_default=True, help="Pods stored in the end.")
@click.option("--events", default=1000, show_default=True, help="Changes that the watchers see.")
@click.option("--watchers", default=WATCHERS, show_default=True, help="Watchers of these changes.")
def command(many: int, events: int, watchers: int) -> None:
    """Measure the API server."""
    console = Console(width=max(120, Console().width))
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as directory:
        http, etcd = measure_floors(Path(directory))
        server = Server(directory)
        try:
            notes = [f"ready {server.start():.1f} s after its start, with nothing stored"]
            time.sleep(3)
            bench = Bench(server.pid, server.kubeconfig)
            bench.notes = notes
            bench.note("resident with nothing stored")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(bench.run(many))
                server.stop()
                notes.append(f"ready {server.start():.1f} s after its start, with {many} pods stored")
                bench.pid = server.pid
                bench.note(f"resident with {many} pods after that", after=12)
                runner.run(bench.watch(events, watchers, RATE))
        finally:
            server.stop()
        alone(bench, Path(directory, "alone"))
        http_after, etcd_after = measure_floors(Path(directory))
    columns = ("operation", "rate", "p50 ms", "p99 ms", "CPU µs", "kube-apiserver", "ratio", "scaled", "failed")
    table = Table(*columns, caption=CAPTION)
    table.add_row(*floor_row(f"floor: aiohttp {aiohttp.__version__}, TLS, 2 KB", http, http_after))
    table.add_row(*floor_row("floor: etcd compare-and-put", etcd, etcd_after))
    factors = {"http": (http.factor + http_after.factor) / 2, "etcd": (etcd.factor + etcd_after.factor) / 2}
    for row in bench.rows:
        table.add_row(*row.cells(factors["etcd" if row.what in BY_ETCD else "http"]))
    console.print(table)
    for note in bench.notes:
        console.print(note)
