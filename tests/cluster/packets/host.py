"""A host's proxy for the table: the real backend in the host's namespace, told by JSON lines what there is."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import structlog

from agents.network.iptables import Iptables
from agents.proxy.backend import HostView
from agents.proxy.model import service_key_of, service_ports
from agents.proxy.modes import make_backend
from tests.cluster.packets.topology import CLUSTER


async def main(mode: str, node: str, ips: list[str], options: dict[str, Any]) -> None:
    host = HostView(cluster_cidrs=tuple(CLUSTER.values()), node_ips=tuple(ips), **options)
    backend = make_backend(mode, Iptables(), host)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        began = time.perf_counter()
        if command == "remove":
            await backend.remove_everything()
            written = 0
        elif command == "heal":
            written = await backend.heal()
        else:
            slices: dict[str, list[Any]] = {}
            for each in command:
                if each["kind"] == "EndpointSlice":
                    slices.setdefault(service_key_of(each), []).append(each)
            models = {}
            for each in command:
                if each["kind"] == "Service":
                    key = f"{each['metadata']['namespace']}/{each['metadata']['name']}"
                    models[key] = service_ports(each, slices.get(key, ()), node)
            written = await backend.update(models)
        print(json.dumps({"written": written, "seconds": round(time.perf_counter() - began, 3)}), flush=True)
    backend.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3].split(","), json.loads(sys.argv[4])))
