"""What bench ``reconcile`` measures with: a server with simulated nodes, its clients and its meters.

Server, its etcd and this client share the machine's cores. What goes on after a goal (events that are still to be
written, say) is in CPU and writes, not in seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from orca.api.builtin import NAMESPACES, NODES, SERVICEACCOUNTS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig
from tests.bench import load, workloads
from tests.bench.api import Server
from tests.bench.processes import cpu_seconds
from tests.bench.workloads import NAMESPACE

CONNECTIONS = 16
NODE_COUNT = 20
QUIET_SECONDS = 1.0
LONGEST_SECONDS = 600.0


@dataclass(slots=True)
class Row:
    """`seconds` until the goal; `cpu` seconds of the server and `writes` by kind until it was quiet again."""

    what: str
    objects: int
    seconds: float = 0.0
    cpu: float = 0.0
    writes: dict[str, int] = field(default_factory=dict)
    floor: Row | None = None
    note: str = ""

    def kinds(self) -> str:
        """What was written, most first."""
        most = sorted(self.writes.items(), key=lambda one: -one[1])
        return ", ".join(f"{kind} {count:,}" for kind, count in most)

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        floor = self.floor
        return (
            self.what,
            f"{self.objects:,}",
            f"{self.seconds:.2f}",
            f"{self.objects / self.seconds:,.0f}" if self.seconds else "",
            f"{1e6 * self.cpu / self.objects:,.0f}",
            f"{sum(self.writes.values()) / self.objects:.2f}",
            f"{self.seconds / floor.seconds:.1f}×" if floor else "",
            f"{self.cpu / floor.cpu:.1f}×" if floor else "",
            self.note or self.kinds(),
        )


class Rig:
    """A server with nodes, clients for it, and its meters."""

    def __init__(self, server: Server) -> None:
        endpoint = Kubeconfig(server.kubeconfig).load()
        assert endpoint.ssl is not None
        self.tls: ssl.SSLContext = endpoint.ssl
        self.tls.check_hostname = False
        parts = urlsplit(endpoint.server)
        self.address = (str(parts.hostname), int(parts.port or 443))
        self.server = server
        self.client = HttpsClient.from_kubeconfig(server.kubeconfig)

    def request(self, method: str, path: str, body: object = None, kind: str = "application/json") -> bytes:
        return load.request(method, path, self.address[0], b"" if body is None else json.dumps(body).encode(), kind)

    async def send(self, requests: Iterable[bytes], connections: int = CONNECTIONS) -> float:
        """All of them; the seconds it took. Ends the bench when one fails."""
        listed = list(requests)
        began = time.perf_counter()
        figures = await load.run(
            self.address, self.tls, lambda at: listed[at], requests=len(listed), connections=connections
        )
        if figures.failed:
            raise SystemExit(f"{figures.failed} of {len(listed)} requests failed, such as {listed[0][:120]!r}")
        return time.perf_counter() - began

    async def prepare(self) -> None:
        """Namespace and nodes, ready to be used."""
        await self.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        nodes = [workloads.node(number) for number in range(NODE_COUNT)]
        await self.send(self.request("POST", "/api/v1/nodes", node) for node in nodes)
        while True:
            # New nodes are tainted until their controller has seen that they are ready.
            listed = (await self.client.list(NODES)).items
            if not any((one.get("spec") or {}).get("taints") for one in listed):
                break
            await asyncio.sleep(0.2)
        while True:
            with suppress(ApiError):
                await self.client.get(SERVICEACCOUNTS, "default", NAMESPACE)
                return
            await asyncio.sleep(0.1)

    async def written(self) -> dict[str, int]:
        """How many changes of each kind have been stored so far, whoever made them."""
        found: dict[str, int] = {}
        for line in (await self.client.raw("/metrics")).decode().splitlines():
            if line.startswith("apiserver_watch_cache_events_received_total{"):
                labels, _, value = line.partition("{")[2].rpartition("} ")
                named = dict(pair.split("=", 1) for pair in labels.replace('"', "").split(","))
                if named["resource"] != "leases":
                    found[named["resource"]] = found.get(named["resource"], 0) + int(float(value))
        return found

    async def measured(self, what: str, objects: int, work: Awaitable[float]) -> Row:
        """`work` answers its seconds; CPU and writes until nothing is written any more."""
        before, cpu = await self.written(), cpu_seconds(self.server.pid)
        seconds = await work
        last = await self.written()
        used = cpu_seconds(self.server.pid)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            await asyncio.sleep(QUIET_SECONDS)
            now = await self.written()
            if now == last:
                break
            last, used = now, cpu_seconds(self.server.pid)
        rest = {kind: count - before.get(kind, 0) for kind, count in last.items() if count > before.get(kind, 0)}
        return Row(what, objects, seconds, used - cpu, rest)


class Goal:
    """Waits until something that is watched is as wanted."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.at = 0.0

    def hear(self) -> None:
        self.at = time.perf_counter()
        self._changed.set()

    async def reached(self, wanted: Callable[[], bool], what: str) -> float:
        """The moment at which what made it so was heard."""
        while not wanted():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), LONGEST_SECONDS)
            except TimeoutError:
                raise SystemExit(f"not reached: {what}") from None
        return self.at


@contextlib.asynccontextmanager
async def following(rig: Rig, resource: Resource, heard: Callable[[str, Obj], None]) -> AsyncIterator[None]:
    """A watch on a kind in the namespace for as long as the block lasts."""
    listed = await rig.client.list(resource, NAMESPACE)

    async def follow() -> None:
        async with rig.client.watch(resource, namespace=NAMESPACE, since=listed.resource_version) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    heard(event.type, event.obj)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
