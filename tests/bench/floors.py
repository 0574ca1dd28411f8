"""Floors of bench ``api``: how fast this machine does the least that an API server in Python must do, in the same run.

Machines of one class differ by a factor of two, and so do days. The floors were measured on the machine and day that
kube-apiserver's figures are from; measured again beside ours they tell how fast the machine is, and so about what
kube-apiserver would do on it.

- *http*: aiohttp on uvloop answers a fixed body of 2 KB over TLS, one process.
- *etcd*: compare-and-put of values of 100 bytes at 64 in flight by gRPC's asyncio stubs, on an etcd of its own.

The aiohttp of today may be another than that of the figures: with its bare server, as here, it does about a tenth more
than with its router, which the other figure may have included. That makes our ratios smaller, not larger.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from aetcd import rpc
from aiohttp import web

from orca.auth.pki import ensure_pki
from tests.bench import load
from tests.bench.processes import cpu_seconds
from tests.support.ports import free_port

HTTP_THEN = 21_000.0
"""GET/s where kube-apiserver was measured, on the one core of the server."""
ETCD_THEN = 8_000.0
"""Transactions/s there."""
BODY = b"x" * 2048
VALUE = b"x" * 100
IN_FLIGHT = 64
CONNECTIONS = 16
ROUNDS = 3
REQUESTS = 6_000
TRANSACTIONS = 3_000


@dataclass(frozen=True)
class Floor:
    """A rate and the CPU time a request cost the server (http) or the client (etcd), in µs; the best of the rounds."""

    rate: float
    cpu: float
    then: float

    @property
    def factor(self) -> float:
        """How fast this machine is, in parts of the one where kube-apiserver was measured."""
        return self.rate / self.then


def http(directory: Path) -> Floor:
    """Serve in a process of its own and load it. ``directory`` is for certificates."""
    pki = ensure_pki(directory / "pki", ["127.0.0.1", "localhost"])
    port = free_port()
    argv = [sys.executable, "-m", "tests.bench.floors", str(port), str(pki.apiserver.cert), str(pki.apiserver.key)]
    server = subprocess.Popen(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_load(server.pid, port))
    finally:
        server.terminate()
        server.wait(timeout=10)


async def _load(pid: int, port: int) -> Floor:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    address = ("127.0.0.1", port)
    one = load.request("GET", "/", address[0])
    deadline = time.monotonic() + 20
    while True:
        try:
            await load.run(address, tls, lambda _: one, requests=500, connections=CONNECTIONS)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
    best = Floor(0, 0, HTTP_THEN)
    for _ in range(ROUNDS):
        before = cpu_seconds(pid)
        figures = await load.run(address, tls, lambda _: one, requests=REQUESTS, connections=CONNECTIONS)
        cpu = 1e6 * (cpu_seconds(pid) - before) / REQUESTS
        best = max(best, Floor(figures.rate, cpu, HTTP_THEN), key=lambda floor: floor.rate)
    return best


async def _serve(port: int, cert: str, key: str) -> None:
    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=BODY, content_type="application/json")

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    server = await asyncio.get_running_loop().create_server(
        web.Server(handle, access_log=None), "127.0.0.1", port, ssl=tls
    )
    await server.serve_forever()


def etcd() -> Floor:
    """Start an etcd with the settings of ``orca server`` and write to it."""
    port, peer = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="orca-floor-") as directory:
        argv = ["etcd", f"--data-dir={directory}/etcd", "--log-level=error", "--logger=zap"]
        argv += [f"--listen-client-urls=http://127.0.0.1:{port}", f"--advertise-client-urls=http://127.0.0.1:{port}"]
        argv += [f"--listen-peer-urls=http://127.0.0.1:{peer}"]
        with Path(directory, "log").open("wb") as file:
            process = subprocess.Popen(argv, stdout=file, stderr=file)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_write(port))
        finally:
            process.terminate()
            process.wait(timeout=10)


async def _write(port: int) -> Floor:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        store = rpc.KVStub(channel)
        best = Floor(0, 0, ETCD_THEN)
        for number in range(ROUNDS):
            requests = iter([_absent_put(b"/floor/%d/%d" % (number, one)) for one in range(TRANSACTIONS)])

            async def work(requests: Any = requests) -> None:
                for request in requests:
                    await store.Txn(request, timeout=10)

            before, began = cpu_seconds(os.getpid()), time.perf_counter()
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
            took, cpu = time.perf_counter() - began, 1e6 * (cpu_seconds(os.getpid()) - before) / TRANSACTIONS
            best = max(best, Floor(TRANSACTIONS / took, cpu, ETCD_THEN), key=lambda floor: floor.rate)
        return best


def _absent_put(key: bytes) -> Any:
    """Put where nothing is, else tell what is there: the transaction of a create."""
    absent = rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=key, mod_revision=0)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=VALUE))
    look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
    return rpc.TxnRequest(compare=[absent], success=[put], failure=[look])


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
