"""Which pod has which addresses: round-robin allocators over the node's pod ranges, and the file that remembers it.

The allocator does no I/O. The file is replaced in one step, so a crash leaves either the former or the new one; what a
torn disk loses is found again in the kernel, where every pod's link carries the pod's uid and address.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from agents.durable import read_object
from agents.network.ranges import IPNetwork, family_of

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
        """From a container's ``ports`` entry (``hostPort``, ``containerPort``, ``protocol``, ``hostIP``).

        Raises ValueError: the API takes any text for ``hostIP``, and rules are made of it.
        """
        if isinstance(port, HostPort):
            return port
        return cls(
            host_port=int(port["hostPort"]),
            container_port=int(port["containerPort"]),
            protocol=_protocol(port.get("protocol") or "TCP"),
            host_ip=_host_ip(port.get("hostIP") or ""),
        )


def _protocol(text: str) -> str:
    if text not in ("TCP", "UDP", "SCTP"):
        raise ValueError(f"{text!r} is no protocol of a host port")
    return text


def _host_ip(text: str) -> str:
    """In canonical form, "" for every address of the host. Raises ValueError."""
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"hostIP {text!r} is no address") from None
    if "%" in text:
        raise ValueError(f"hostIP {text!r} names a zone")
    return "" if address.is_unspecified else str(address)


@dataclass(frozen=True, slots=True)
class Lease:
    """What a pod holds: its addresses, the primary one first, and the host ports that lead to it."""

    ips: tuple[str, ...]
    name: str = ""
    host_ports: tuple[HostPort, ...] = ()

    def of(self, family: int) -> str:
        """The address of family 4 or 6, "" when there is none."""
        return next((ip for ip in self.ips if family_of(ip) == family), "")


@dataclass(slots=True)
class Pool:
    """Addresses of one range. The network's own and the first one (the gateway's) are never given out, and with IPv4
    the last, for broadcasts.

    Freed addresses are reused last: the search goes on from the one given out most recently.
    """

    network: IPNetwork
    last: str = ""

    @property
    def gateway(self) -> str:
        return str(self.network.network_address + 1)

    def contains(self, ip: str) -> bool:
        return ipaddress.ip_address(ip) in self.network

    def next(self, taken: Container[str]) -> str:
        """An address that is not in ``taken``. Raises ``RangeExhausted``."""
        first = self.network.network_address + 2
        count = max(self.network.num_addresses - (3 if self.network.version == 4 else 2), 0)
        start = int(ipaddress.ip_address(self.last)) - int(first) + 1 if self.last and self.contains(self.last) else 0
        step = 0
        while step < count:
            ip = str(first + (start + step) % count)
            if ip not in taken:
                self.last = ip
                return ip
            step += 1
        raise RangeExhausted(f"all {count} addresses of {self.network} are in use")


@dataclass(slots=True)
class Allocator:
    """Addresses of a node's pod ranges, one of each for a pod."""

    pools: tuple[Pool, ...]
    leases: dict[str, Lease] = field(default_factory=dict)

    @classmethod
    def over(cls, cidrs: Iterable[str], leases: dict[str, Lease] | None = None, last: Iterable[str] = ()) -> Allocator:
        """``last``: addresses given out most recently."""
        pools = tuple(Pool(ipaddress.ip_network(cidr)) for cidr in cidrs)
        for pool in pools:
            pool.last = next((ip for ip in last if pool.contains(ip)), "")
        return cls(pools, {} if leases is None else leases)

    def __str__(self) -> str:
        return ",".join(str(pool.network) for pool in self.pools)

    @property
    def gateways(self) -> tuple[str, ...]:
        return tuple(pool.gateway for pool in self.pools)

    def allocate(self, uid: str, *, name: str = "", host_ports: Iterable[HostPort] = ()) -> Lease:
        """The pod's lease; one it has already keeps its addresses, also when the node was given another family since.
        Raises ``RangeExhausted``."""
        held = self.leases.get(uid)
        taken: set[str] | None = None
        ips = list(held.ips) if held and self.serves(held) else []
        for pool in self.pools if not ips else ():
            ip = next((ip for ip in held.ips if pool.contains(ip)), "") if held else ""
            if not ip:
                taken = {ip for lease in self.leases.values() for ip in lease.ips} if taken is None else taken
                ip = pool.next(taken)
            ips.append(ip)
        lease = Lease(tuple(ips), name, tuple(host_ports))
        self.leases[uid] = lease
        return lease

    def adopt(self, uid: str, lease: Lease) -> None:
        """Remember addresses that were found in use; what is remembered otherwise is wrong, whoever wrote it."""
        found = set(lease.ips)
        for other in [one for one, held in self.leases.items() if found & set(held.ips) and one != uid]:
            del self.leases[other]
        held = self.leases.get(uid)
        if held is None:
            self.leases[uid] = lease
        elif held.ips != lease.ips:
            self.leases[uid] = replace(held, ips=lease.ips)

    def release(self, uid: str) -> Lease | None:
        return self.leases.pop(uid, None)

    def contains(self, ip: str) -> bool:
        return any(pool.contains(ip) for pool in self.pools)

    def serves(self, lease: Lease) -> bool:
        """Whether a pod with these addresses can be reached: one of a range that is the node's no more cannot."""
        return bool(lease.ips) and all(self.contains(ip) for ip in lease.ips)


@dataclass(slots=True)
class LeaseFile:
    """``<root>/network/addresses.json``."""

    path: Path

    def read(self) -> tuple[dict[str, Lease], tuple[str, ...]]:
        """(leases by pod uid, the addresses given out last); empty when there is no readable file."""
        try:
            record = read_object(self.path)
            leases = {uid: _lease(entry) for uid, entry in record["pods"].items()}
            last = record.get("last", "")
            # A host that was IPv4 only has left one text.
            given_out = [last] if isinstance(last, str) else last
            return leases, tuple(str(ipaddress.ip_address(ip)) for ip in given_out if ip)
        except FileNotFoundError:
            return {}, ()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # The kernel's links tell which pod has which address; ports of the host come with the pods again.
            log.warning("addresses of pods cannot be read", file=str(self.path), error=str(error))
            return {}, ()

    def write(self, text: str) -> None:
        """Replace the file by what ``render`` gave."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        os.replace(temporary, self.path)


def _lease(entry: Any) -> Lease:
    """Raises ValueError, KeyError, TypeError for what is none."""
    ports = tuple(
        HostPort(
            int(port["host_port"]), int(port["container_port"]), _protocol(port["protocol"]), _host_ip(port["host_ip"])
        )
        for port in entry["host_ports"]
    )
    ips = entry["ips"] if "ips" in entry else [entry["ip"]]
    return Lease(tuple(str(ipaddress.ip_address(str(ip))) for ip in ips), str(entry["name"]), ports)


def render(allocator: Allocator) -> str:
    """The file's text."""
    record = {
        "range": str(allocator),
        "last": [pool.last for pool in allocator.pools],
        "pods": {uid: asdict(lease) for uid, lease in allocator.leases.items()},
    }
    return json.dumps(record)
