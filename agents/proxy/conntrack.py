"""Connections the kernel remembers and that lead to a UDP endpoint that is gone.

TCP clients notice and connect anew; a UDP client that keeps its source port would be sent to the dead address for ever.
The decision is pure (`stale`); `ConntrackTool` reads and deletes with the ``conntrack`` program.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog

from agents.proxy.model import ServicePort

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """Remembered flows from any client: asked at ``destination:port``, answered by ``server``."""

    destination: str
    port: int
    server: str

    @property
    def translated(self) -> bool:
        return self.destination != self.server


def parse(text: str) -> set[Flow]:
    """Flows in ``conntrack -L`` output: a line's first dst and dport were asked, its second src answers."""
    found = set()
    for line in text.splitlines():
        destination, port, sources = "", 0, []
        for word in line.split():
            name, _, value = word.partition("=")
            if name == "src":
                sources.append(value)
            elif name == "dst" and not destination:
                destination = value
            elif name == "dport" and not port and value.isdigit():
                port = int(value)
        if destination and port and len(sources) == 2:
            found.add(Flow(destination, port, sources[1]))
    return found


def stale(flows: Iterable[Flow], ports: Iterable[ServicePort]) -> list[Flow]:
    """Flows to a UDP service port that end at none of its endpoints, or were not translated although they could be."""
    addresses: dict[tuple[str, int], set[str]] = {}
    node_ports: dict[int, set[str]] = {}
    for port in ports:
        if port.protocol != "UDP":
            continue
        servers = {endpoint.ip for endpoint in (*port.cluster, *port.local)}
        for address in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
            addresses[(address, port.port)] = servers
        if port.node_port:
            node_ports[port.node_port] = servers
    found = []
    for flow in flows:
        servers_now = addresses.get((flow.destination, flow.port))
        if servers_now is None and flow.translated:
            # Untranslated ones to this port number may be anybody's: only what a rule has sent somewhere is ours.
            servers_now = node_ports.get(flow.port)
        if servers_now is not None and flow.server not in servers_now and (servers_now or flow.translated):
            found.append(flow)
    return sorted(found)


class ConntrackTool:
    """The ``conntrack`` program. Where it is missing, stale UDP flows end by their own timeout, and the log says so."""

    def __init__(self) -> None:
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
        self._program = shutil.which("conntrack", path=path)
        if not self._program:
            log.warning("conntrack is not installed: UDP clients may go on using endpoints that are gone")

    async def sweep(self, services: Mapping[str, tuple[ServicePort, ...]]) -> int:
        """Delete the stale UDP flows of these services; returns how many kinds were deleted."""
        ports = [port for ports in services.values() for port in ports if port.protocol == "UDP"]
        if not self._program or not ports:
            return 0
        flows = parse(await self._run("-L", "-f", "ipv4", "-p", "udp"))
        gone = stale(flows, ports)
        for flow in gone:
            await self._run(
                "-D", "-f", "ipv4", "-p", "udp", "--orig-dst", flow.destination, "--orig-port-dst", str(flow.port),
                "--reply-src", flow.server,
            )  # fmt: skip
        return len(gone)

    async def _run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self._program or "conntrack",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        # A failure means that the flow ended by itself meanwhile.
        return output.decode(errors="replace")
