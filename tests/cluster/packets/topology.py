"""Two hosts, their pods and the world outside them: network namespaces with addresses of both families.

    outside 172.31.0.1 ── segment ── host-1 172.31.0.11 ── near (10.244.1.2), here (10.244.1.3)
                                  └─ host-2 172.31.0.12 ── far (10.244.2.2), there (10.244.2.3)

``here`` and ``there`` are endpoints, ``near`` and ``far`` only clients. Service addresses lead to a device that
swallows what no rule has translated, as on a real host. The outside sends what is for external addresses to host-1.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agents.proxy.model import Family

CLUSTER = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
SERVICES = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
EXTERNAL = {4: "198.51.100.0/24", 6: "2001:db8:100::/64"}
OUTSIDE: dict[Family, str] = {4: "172.31.0.1", 6: "fd00:31::1"}
MASQUERADE = """
table inet pods {{
    chain leaving {{
        type nat hook postrouting priority srcnat + 10;
        ip saddr {cluster4} ip daddr != {cluster4} masquerade
        ip6 saddr {cluster6} ip6 daddr != {cluster6} masquerade
    }}
}}
"""
"""As the pod network does it."""
ON = (
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    "ipv4/conf/all/route_localnet",
    "ipv4/conf/orca0/route_localnet",
)
OFF = (
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/send_redirects",
    "ipv4/conf/orca0/send_redirects",
    # Thousands are refused within seconds: each has to be told.
    "ipv4/icmp_ratelimit",
    "ipv4/icmp_ratemask",
    "ipv6/icmp/ratelimit",
    "ipv6/icmp/ratemask",
)
"""Settings of a host."""
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection can start: a namespace with its addresses. ``host`` is "" for the outside."""

    name: str
    netns: str
    host: str
    ips: dict[Family, str]
    pod: bool = False

    @property
    def is_host(self) -> bool:
        return self.name == self.host


@dataclass(frozen=True, slots=True)
class Topology:
    places: dict[str, Place]

    @property
    def hosts(self) -> list[Place]:
        return [place for place in self.places.values() if place.is_host]

    def addresses(self, host: str, family: Family) -> set[str]:
        """All a host may put on a packet as its own: that of its uplink and that of its pods' bridge."""
        number = host[-1]
        gateway = f"10.244.{number}.1" if family == 4 else f"fd00:10:244:{number}::1"
        return {self.places[host].ips[family], gateway}


def _place(prefix: str, name: str, host: str = "", pod: int = 0) -> Place:
    number = host[-1:]
    if pod:
        ips: dict[Family, str] = {4: f"10.244.{number}.{pod}", 6: f"fd00:10:244:{number}::{pod}"}
    elif host:
        ips = {4: f"172.31.0.1{number}", 6: f"fd00:31::1{number}"}
    else:
        ips = OUTSIDE
    return Place(name, f"{prefix}{name}", host, ips, bool(pod))


@contextmanager
def made() -> Iterator[Topology]:
    """The topology, until the block ends."""
    prefix = f"pkt{os.getpid()}-{next(_numbers)}-"
    places = [
        _place(prefix, "outside"),
        _place(prefix, "host-1", "host-1"),
        _place(prefix, "host-2", "host-2"),
        _place(prefix, "near", "host-1", 2),
        _place(prefix, "here", "host-1", 3),
        _place(prefix, "far", "host-2", 2),
        _place(prefix, "there", "host-2", 3),
    ]
    topology = Topology({place.name: place for place in places})
    try:
        _ip(*(f"netns add {place.netns}" for place in places))
        _wire_segment(topology)
        for host in topology.hosts:
            _wire_host(topology, host)
        yield topology
    finally:
        for place in places:
            subprocess.run(["ip", "netns", "delete", place.netns], capture_output=True, check=False)


def _wire_segment(topology: Topology) -> None:
    outside = topology.places["outside"]
    _ip(
        "link set lo up",
        "link add segment type bridge forward_delay 0",
        f"addr add {outside.ips[4]}/24 dev segment",
        f"addr add {outside.ips[6]}/64 dev segment nodad",
        "link set segment up",
        *(f"link add {h.name} type veth peer name eth0 netns {h.netns}" for h in topology.hosts),
        *(f"link set {h.name} master segment up" for h in topology.hosts),
        *(f"route add {net[f]} via {topology.places['host-1'].ips[f]}" for net in (SERVICES, EXTERNAL) for f in (4, 6)),
        netns=outside.netns,
    )


def _wire_host(topology: Topology, host: Place) -> None:
    number = host.name[-1]
    other = next(each for each in topology.hosts if each is not host)
    pods = [place for place in topology.places.values() if place.pod and place.host == host.name]
    gateways = {4: f"10.244.{number}.1", 6: f"fd00:10:244:{number}::1"}
    _ip(
        "link set lo up",
        f"addr add {host.ips[4]}/24 dev eth0",
        f"addr add {host.ips[6]}/64 dev eth0 nodad",
        "link set eth0 up",
        *(f"route add default via {OUTSIDE[f]}" for f in (4, 6)),
        "link add orca0 type bridge forward_delay 0 mcast_snooping 0",
        f"addr add {gateways[4]}/24 dev orca0",
        f"addr add {gateways[6]}/64 dev orca0 nodad",
        "link set orca0 up",
        "link add orca-svc type bridge forward_delay 0",
        "link set orca-svc arp off up",
        *(f"route add {net[f]} dev orca-svc src {host.ips[f]}" for net in (SERVICES, EXTERNAL) for f in (4, 6)),
        f"route add 10.244.{other.name[-1]}.0/24 via {other.ips[4]}",
        f"route add fd00:10:244:{other.name[-1]}::/64 via {other.ips[6]}",
        *(f"link add {pod.name} type veth peer name eth0 netns {pod.netns}" for pod in pods),
        *(f"link set {pod.name} master orca0" for pod in pods),
        *(f"link set {pod.name} type bridge_slave hairpin on" for pod in pods),
        *(f"link set {pod.name} up" for pod in pods),
        netns=host.netns,
    )
    script = "".join(f"echo 1 >/proc/sys/net/{each};" for each in ON)
    script += "".join(f"echo 0 >/proc/sys/net/{each};" for each in OFF)
    subprocess.run(["ip", "netns", "exec", host.netns, "sh", "-c", script], check=True)
    _load(host, MASQUERADE.format(**{f"cluster{f}": CLUSTER[f] for f in (4, 6)}))
    for pod in pods:
        # Or they would learn to send answers to a neighbour past the host, which has to translate them back.
        redirects = [f"ipv{f}/conf/{name}/accept_redirects" for f in (4, 6) for name in ("all", "eth0")]
        script = "".join(f"echo 0 >/proc/sys/net/{each};" for each in redirects)
        subprocess.run(["ip", "netns", "exec", pod.netns, "sh", "-c", script], check=True)
        _ip(
            "link set lo up",
            f"addr add {pod.ips[4]}/32 dev eth0",
            f"addr add {pod.ips[6]}/128 dev eth0 nodad",
            "link set eth0 up",
            f"route add {gateways[4]} dev eth0",
            f"route add default via {gateways[4]}",
            f"route add {gateways[6]} dev eth0",
            f"route add default via {gateways[6]}",
            netns=pod.netns,
        )


def _load(host: Place, rules: str) -> None:
    subprocess.run(["ip", "netns", "exec", host.netns, "nft", "-f", "-"], input=rules, text=True, check=True)


def _ip(*commands: str, netns: str = "") -> None:
    where = ["-n", netns] if netns else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"ip -batch: {done.stderr}\n{chr(10).join(commands)}")
