"""The process that plays a host's agent in `netlab`: JSON lines in, JSON lines out, on uvloop as the real one."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import structlog
import uvloop

from agents.network import PodNetwork


class HostProcess:
    """One public method a command."""

    def __init__(self) -> None:
        self.network: PodNetwork | None = None

    async def start_network(self, root: str, node: dict[str, Any]) -> float:
        if not self.network:
            self.network = PodNetwork(root, node["metadata"]["name"])
        began = time.perf_counter()
        await self.network.start(node)
        return time.perf_counter() - began

    async def attach(self, uid: str, pid: int, hostname: str, host_ports: list[Any] | None = None) -> list[str]:
        assert self.network
        return await self.network.attach(uid, pid, hostname=hostname, host_ports=host_ports or [])

    async def time_attach(self, pods: list[tuple[str, int]]) -> list[float]:
        """Seconds for each, one after the other."""
        assert self.network
        taken = []
        for uid, pid in pods:
            began = time.perf_counter()
            await self.network.attach(uid, pid, hostname=uid)
            taken.append(time.perf_counter() - began)
        return taken

    async def detach(self, uid: str) -> None:
        assert self.network
        await self.network.detach(uid)

    async def reconcile(self, live: list[str]) -> None:
        assert self.network
        await self.network.reconcile(live)

    async def set_nodes(self, nodes: list[Any]) -> dict[str, str]:
        assert self.network
        await self.network.set_nodes(nodes)
        return self.network.problems

    async def heal(self) -> None:
        assert self.network
        await self.network._heal(-1)

    async def cleanup(self) -> None:
        assert self.network
        await self.network.cleanup()
        self.network = None


async def main() -> None:
    host = HostProcess()
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
    asyncio.run(main())
