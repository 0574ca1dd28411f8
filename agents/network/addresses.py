"""Which pod has which address: a round-robin allocator over the node's pod range, and the file that remembers it.

The allocator does no I/O. The file is replaced in one step, so a crash leaves either the former or the new one; what a
torn disk loses is found again in the kernel, where every pod's link carries the pod's uid and address.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from agents.durable import read_object

log = structlog.get_logger()


class RangeExhausted(Exception):
    """No address of the node's pod range is free."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the host that leads to a pod. ``host_ip`` "" means every address of the host."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""

    @classmethod
    def of(cls, port: Any) -> HostPort:
        """From a container's ``ports`` entry (``hostPort``, ``containerPort``, ``protocol``, ``hostIP``)."""
        if isinstance(port, HostPort):
            return port
        host_ip = port.get("hostIP") or ""
        return cls(
            host_port=int(port["hostPort"]),
            container_port=int(port["containerPort"]),
            protocol=port.get("protocol") or "TCP",
            host_ip="" if host_ip in ("0.0.0.0", "::") else host_ip,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """What a pod holds: its address and the host ports that lead to it."""

    ip: str
    name: str = ""
    host_ports: tuple[HostPort, ...] = ()


@dataclass(slots=True)
class Allocator:
    """Addresses of one IPv4 range. The network, broadcast and first (gateway) address are never given out.

    Freed addresses are reused last: the search goes on from the one given out most recently.
    """

    network: ipaddress.IPv4Network
    leases: dict[str, Lease] = field(default_factory=dict)
    last: str = ""

    @property
    def gateway(self) -> str:
        return str(self.network.network_address + 1)

    def allocate(self, uid: str, *, name: str = "", host_ports: Iterable[HostPort] = ()) -> Lease:
        """The pod's lease; one it has already keeps its address. Raises ``RangeExhausted``."""
        held = self.leases.get(uid)
        ip = held.ip if held and self.contains(held.ip) else self._next()
        lease = Lease(ip, name, tuple(host_ports))
        self.leases[uid] = lease
        return lease

    def adopt(self, uid: str, lease: Lease) -> None:
        """Remember an address that was found in use; what is remembered otherwise is wrong, whoever wrote it."""
        for other in [one for one, held in self.leases.items() if held.ip == lease.ip and one != uid]:
            del self.leases[other]
        held = self.leases.get(uid)
        if held is None:
            self.leases[uid] = lease
        elif held.ip != lease.ip:
            self.leases[uid] = replace(held, ip=lease.ip)

    def release(self, uid: str) -> Lease | None:
        return self.leases.pop(uid, None)

    def contains(self, ip: str) -> bool:
        return ipaddress.IPv4Address(ip) in self.network

    def _next(self) -> str:
        first = int(self.network.network_address) + 2
        count = self.network.num_addresses - 3
        taken = {lease.ip for lease in self.leases.values()}
        start = int(ipaddress.IPv4Address(self.last)) - first + 1 if self.last and self.contains(self.last) else 0
        for step in range(max(count, 0)):
            ip = str(ipaddress.IPv4Address(first + (start + step) % count))
            if ip not in taken:
                self.last = ip
                return ip
        raise RangeExhausted(f"all {max(count, 0)} addresses of {self.network} are in use")


@dataclass(slots=True)
class LeaseFile:
    """``<root>/network/addresses.json``."""

    path: Path

    def read(self) -> tuple[dict[str, Lease], str]:
        """(leases by pod uid, the address given out last); empty when there is no readable file."""
        try:
            record = read_object(self.path)
            leases = {uid: _lease(entry) for uid, entry in record["pods"].items()}
            last = str(record.get("last", ""))
            return leases, str(ipaddress.IPv4Address(last)) if last else ""
        except FileNotFoundError:
            return {}, ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # The kernel's links tell which pod has which address; ports of the host come with the pods again.
            log.warning("addresses of pods cannot be read", file=str(self.path), error=str(error))
            return {}, ""

    def write(self, text: str) -> None:
        """Replace the file by what ``render`` gave."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        os.replace(temporary, self.path)


def _lease(entry: Any) -> Lease:
    """Raises ValueError, KeyError, TypeError for what is none."""
    ports = tuple(
        HostPort(int(port["host_port"]), int(port["container_port"]), str(port["protocol"]), str(port["host_ip"]))
        for port in entry["host_ports"]
    )
    return Lease(str(ipaddress.IPv4Address(entry["ip"])), str(entry["name"]), ports)


def render(allocator: Allocator) -> str:
    """The file's text."""
    record = {
        "range": str(allocator.network),
        "last": allocator.last,
        "pods": {uid: asdict(lease) for uid, lease in allocator.leases.items()},
    }
    return json.dumps(record)
