"""Bench ``dns``: queries/s and latency of cluster DNS over UDP, beside a bare echo in the same kind of loop, and beside
dnsmasq where it is installed. Clients are another process; figures per core are from CPU time, so that what else runs
on the machine matters little.

Cases: one Service asked for again and again; all Services in turn; names that are not there; a headless Service of 50
pods (cut for UDP, shuffled each time); names of the outside that are remembered; and asked while Services change.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table

from agents.dns import DnsServer
from agents.dns.memory import Memory
from agents.dns.received import read
from agents.dns.wire import AAAA, HEADER, A, name_data, parse_query
from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.bench.processes import resident_mb
from tests.support.ports import free_port

WINDOW = 16
"""Questions under way at once: enough that the server never waits for the client."""
SUFFIX = "svc.cluster.local"


@dataclass(frozen=True)
class Load:
    """What a client has seen: answers/s, latencies in ms, and questions lost."""

    rate: float
    p50: float
    p99: float
    lost: int


def question(name: str, kind: int = A) -> bytes:
    return HEADER.pack(0, 0x100, 1, 0, 0, 0) + name_data(name) + struct.pack(">HH", kind, 1)


def ask(port: int, questions: list[bytes], seconds: float, window: int, answer: Connection) -> None:
    """The client's process: ``window`` questions are always under way."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect(("127.0.0.1", port))
    made.settimeout(0.5)
    sent: dict[bytes, float] = {}
    latencies: list[float] = []
    lost = number = 0

    def send() -> None:
        nonlocal number
        number += 1
        identity = struct.pack(">H", number & 0xFFFF)
        sent[identity] = time.perf_counter()
        made.send(identity + questions[number % len(questions)][2:])

    for _ in range(window):
        send()
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        try:
            received = made.recv(4096)
        except TimeoutError:
            lost += len(sent)
            sent.clear()
            for _ in range(window):
                send()
            continue
        when = sent.pop(received[:2], None)
        if when is not None:
            latencies.append(time.perf_counter() - when)
            send()
    latencies.sort()
    took = time.perf_counter() - began
    count = max(len(latencies), 1)
    answer.send(
        Load(len(latencies) / took, 1e3 * latencies[count // 2], 1e3 * latencies[int(count * 0.99)], lost)
        if latencies
        else Load(0.0, 0.0, 0.0, lost)
    )


async def loaded(port: int, questions: list[bytes], seconds: float, window: int = WINDOW) -> Load:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=ask, args=(port, questions, seconds, window, there))
    process.start()
    try:
        return await asyncio.to_thread(here.recv)
    finally:
        process.join()


def cpu(pid: int | None = None) -> float:
    """Seconds of this process, or of another."""
    if pid is None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def service(number: int) -> dict[str, Any]:
    ip = f"10.96.{number // 250}.{number % 250 + 1}"
    spec = {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": f"s{number}", "namespace": "bench"}, "spec": spec}


def headless(size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    owner = {"metadata": {"name": "many", "namespace": "bench"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    endpoints = [
        {"addresses": [f"10.244.{i // 250}.{i % 250 + 1}"], "conditions": {"ready": True}} for i in range(size)
    ]
    labels = {"kubernetes.io/service-name": "many"}
    slices = {
        "metadata": {"name": "many-1", "namespace": "bench", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    return owner, slices


class Echo(asyncio.DatagramProtocol):
    """The floor: what this loop costs when nothing is thought about."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


class Bench:
    """Rows of the table; each measures one load against this process."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.rows: list[tuple[str, Load, float]] = []

    async def measure(
        self,
        what: str,
        port: int,
        questions: list[bytes],
        *,
        pid: int | None = None,
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``pid``: of the server, when it is not this process; ``beside`` is repeated meanwhile."""
        await loaded(port, questions, 0.3)
        began = cpu(pid)
        running = asyncio.create_task(loaded(port, questions, self._seconds))
        while beside is not None and not running.done():
            await beside()
            await asyncio.sleep(0.01)
        load = await running
        answered = max(load.rate * self._seconds, 1)
        self.rows.append((what, load, (cpu(pid) - began) / answered))

    def table(self) -> Table:
        floor = self.rows[0][2]
        table = Table(
            "what", "answers/s", "p50 ms", "p99 ms", "lost", "CPU us each", "answers/s a core", "x echo", box=None
        )
        for what, load, each in self.rows:
            table.add_row(
                what,
                f"{load.rate:,.0f}",
                f"{load.p50:.2f}",
                f"{load.p99:.2f}",
                str(load.lost),
                f"{1e6 * each:.1f}",
                f"{1 / each:,.0f}" if each else "",
                f"{each / floor:.2f}",
            )
        return table


async def run(seconds: float, services: int, peer: tuple[int, int] | None) -> None:
    loop = asyncio.get_running_loop()
    bench = Bench(seconds)
    echo_port = free_port()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", echo_port))
    one = [question(f"s7.bench.{SUFFIX}")]
    await bench.measure("floor: echo", echo_port, one)
    transport.close()

    client = FakeClient()
    for number in range(services):
        client.seed(SERVICES, service(number))
    owner, slices = headless(50)
    client.seed(SERVICES, owner)
    client.seed(ENDPOINTSLICES, slices)
    informers = [Informer(client, resource) for resource in (SERVICES, ENDPOINTSLICES)]
    port = free_port()
    server = DnsServer(*informers, addresses=("127.0.0.1",), port=port)
    tasks = [asyncio.create_task(work) for work in (*(each.run() for each in informers), server.run())]
    await server.listening()
    for informer in informers:
        await informer.synced()
    await bench.measure("one service", port, one)
    everyone = [question(f"s{n}.bench.{SUFFIX}", kind) for n in range(services) for kind in (A, AAAA)]
    random.Random(1).shuffle(everyone)
    await bench.measure(f"{services:,} services, A and AAAA", port, everyone)
    nothing = [question(f"no{n}.bench.{SUFFIX}") for n in range(1000)]
    await bench.measure("1,000 names not there", port, nothing)
    await bench.measure("headless, 50 pods", port, [question(f"many.bench.{SUFFIX}")])
    outside = [question(f"www{n}.example.com") for n in range(100)]
    remember(server.upstream.memory, outside)
    await bench.measure("outside, remembered", port, outside)

    turn = 0

    async def change() -> None:
        nonlocal turn
        turn += 1
        changed = service(turn % services)
        changed["spec"]["clusterIPs"] = [f"10.97.{turn // 250 % 250}.{turn % 250}"]
        await client.update(SERVICES, changed)

    await bench.measure("all services, 100 changes/s", port, everyone, beside=change)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if peer is not None:
        await bench.measure("dnsmasq, the same services", peer[0], everyone, pid=peer[1])
    console = Console(width=160)
    console.print(bench.table())
    console.print(f"{services:,} services; this process with all of them, their cache and the test's own: "
                  f"{resident_mb(os.getpid()):.0f} MB")  # fmt: skip


def remember(memory: Memory, questions: list[bytes]) -> None:
    """As if a nameserver had answered each."""
    for message in questions:
        query = parse_query(message)
        assert query is not None
        record = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 3600, 4) + bytes((192, 0, 2, 1))
        answer = HEADER.pack(0, 0x8180, 1, 1, 0, 0) + query.wire + record
        memory.put(query.key, read(answer, len(query.wire)), time.monotonic())


@contextlib.contextmanager
def dnsmasq(services: int) -> Iterator[tuple[int, int] | None]:
    """(port, pid) of a dnsmasq with the same names, when it is installed."""
    program = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        click.echo("dnsmasq is not installed (apt-get install dnsmasq-base): no peer to compare with")
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        hosts = Path(directory, "hosts")
        hosts.write_text("".join(f"{service(n)['spec']['clusterIP']} s{n}.bench.{SUFFIX}\n" for n in range(services)))
        port = free_port()
        argv = [program, "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", f"--port={port}"]
        argv += ["--listen-address=127.0.0.1", "--bind-interfaces", "--conf-file=/dev/null", "--user=root"]
        argv += ["--local=/cluster.local/", f"--pid-file={directory}/pid", "--cache-size=10000"]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


@click.command("dns")
@click.option("--seconds", default=4.0, show_default=True, help="For each case.")
@click.option("--services", default=1000, show_default=True)
def command(seconds: float, services: int) -> None:
    """Queries/s and p99 of cluster DNS, beside an echo and dnsmasq."""
    with dnsmasq(services) as peer:
        uvloop.run(run(seconds, services, peer))
