"""The process that plays a host with many services in the bench ``services``: one JSON object in, one out."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import structlog
import uvloop

from agents.proxy import HostView, Proxy
from orca.api.builtin import ENDPOINTSLICES, SERVICES
from orca.client.fake import FakeClient
from orca.client.informer import Informer
from tests.bench.processes import resident_mb

Obj = dict[str, Any]
POD = ("10.244.1.2", "10.244.1.3", "10.244.1.4")
SERVER = """
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 8080)); s.listen(1024); print("ready", flush=True)
while True: s.accept()[0].close()
"""


def service(number: int) -> Obj:
    ip = f"10.{96 + number // 65025}.{number // 255 % 255}.{number % 255 + 1}"
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"service-{number:05}", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [port]},
    }


def endpoint_slice(number: int, ips: tuple[str, ...]) -> Obj:
    name = f"service-{number:05}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [ip], "nodeName": "elsewhere", "conditions": {"ready": True}} for ip in ips],
    }


def elsewhere(number: int, generation: int = 0) -> tuple[str, ...]:
    """Three addresses of no pod; another generation differs in one."""
    base = 1_000_000 + number * 4
    return tuple(_ip(base + (3 if place == 2 and generation % 2 else place)) for place in range(3))


def _ip(number: int) -> str:
    return f"10.{200 + number // 65536 % 50}.{number // 256 % 256}.{number % 256}"


async def measure(mode: str, services: int, changes: int, connections: int) -> Obj:
    client = FakeClient()
    for number in range(services):
        serving = POD if number in (0, services - 1) else elsewhere(number)
        await client.create(SERVICES, service(number), "default")
        await client.create(ENDPOINTSLICES, endpoint_slice(number, serving), "default")
    gc.collect()
    empty = resident_mb(os.getpid())
    proxy, tasks, cold, cold_cpu = await _start(client, mode)
    gc.collect()
    taken, cpu = await _change(client, proxy, services // 2, changes)
    times = _connect(service(0), service(services - 1), connections)
    rss = resident_mb(os.getpid())
    await _stop(tasks)
    _, tasks, restart, _ = await _start(client, mode)
    await _stop(tasks)
    direct, first, last = (statistics.median(each) for each in times)
    return {
        "services": services,
        "cold": cold,
        "cold_cpu": cold_cpu,
        "restart": restart,
        "change": statistics.median(taken),
        "change_p99": sorted(taken)[int(len(taken) * 0.99)],
        "change_cpu": cpu / len(taken),
        "direct": direct,
        "first": first,
        "last": last,
        "rss": rss,
        "rss_rules": rss - empty,
    }


async def _start(client: FakeClient, mode: str) -> tuple[Proxy, list[asyncio.Task[None]], float, float]:
    began, used = time.perf_counter(), _cpu()
    informers = Informer(client, SERVICES), Informer(client, ENDPOINTSLICES)
    proxy = Proxy(*informers, "host-1", mode=mode, host=HostView(node_ips=("10.244.1.1",)))
    tasks = [asyncio.create_task(each.run()) for each in (*informers, proxy)]
    await proxy.synced()
    return proxy, tasks, time.perf_counter() - began, _cpu() - used


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _change(client: FakeClient, proxy: Proxy, number: int, changes: int) -> tuple[list[float], float]:
    """Seconds of each change, and the CPU time of all."""
    await proxy.settled()
    taken = []
    changed = asyncio.Event()
    proxy._slices.on_update(lambda *_: changed.set())
    used = _cpu()
    for generation in range(1, changes + 1):
        await asyncio.sleep(0.02)
        changed.clear()
        began = time.perf_counter()
        await client.update(ENDPOINTSLICES, endpoint_slice(number, elsewhere(number, generation)))
        await changed.wait()
        await proxy.settled()
        taken.append(time.perf_counter() - began)
    return taken, _cpu() - used


def _connect(first: Obj, last: Obj, connections: int) -> tuple[list[float], ...]:
    """Seconds that each connection took: to the pod, through the first service, through the last one; in turns, so that
    what disturbs the machine disturbs all."""
    targets = ((POD[0], 8080), (first["spec"]["clusterIP"], 80), (last["spec"]["clusterIP"], 80))
    times: tuple[list[float], ...] = ([], [], [])
    for turn in range(connections * 3):
        which = turn % 3
        with socket.socket() as client:
            began = time.perf_counter()
            client.connect(targets[which])
            times[which].append(time.perf_counter() - began)
    return times


def _cpu() -> float:
    """User and system seconds of this process and of tools it ran."""
    own, tools = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + tools.ru_utime + tools.ru_stime


def _wire() -> subprocess.Popen[str]:
    """A pod that answers, and the device that services are routed to."""
    pod = subprocess.Popen(["unshare", "--net", sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert pod.stdout
    pod.stdout.readline()
    commands = [
        "ip link set lo up",
        f"ip link add pod type veth peer name eth0 netns {pod.pid}",
        "ip addr add 10.244.1.1/24 dev pod",
        "ip link set pod up",
        "ip link add orca-svc type bridge",
        "ip link set orca-svc up",
        "ip route add 10.96.0.0/14 dev orca-svc src 10.244.1.1",
        *(f"nsenter -t {pod.pid} -n ip addr add {ip}/24 dev eth0" for ip in POD),
        f"nsenter -t {pod.pid} -n ip link set eth0 up",
        f"nsenter -t {pod.pid} -n ip link set lo up",
    ]
    for text in commands:
        subprocess.run(text.split(), check=True)
    return pod


def main() -> None:
    asked = json.loads(sys.argv[1])
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    pod = _wire()
    try:
        print(json.dumps(uvloop.run(measure(**asked))))
    finally:
        pod.kill()
        pod.wait()


if __name__ == "__main__":
    main()
