"""The pod network's own packet rules, as text. Pure: `PodNetwork` loads them.

Chains of this room begin with ``ORCA-``. They let pod traffic be forwarded, masquerade what leaves the cluster,
lead host ports to pods, and drop what is addressed to a service but was translated by no rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from agents.network.addresses import HostPort, Lease
from agents.network.iptables import Jump, Rules

TABLES = ("nat", "filter", "mangle")
MASQUERADE_BIT = "0x2000"
SERVICE_DEVICE = "orca-svc"

JUMPS = (
    Jump("nat", "PREROUTING", '-m addrtype --dst-type LOCAL -m comment --comment "orca host ports" -j ORCA-HOSTPORTS'),
    Jump("nat", "OUTPUT", '-m addrtype --dst-type LOCAL -m comment --comment "orca host ports" -j ORCA-HOSTPORTS'),
    Jump("nat", "POSTROUTING", '-m comment --comment "orca pod network" -j ORCA-POSTROUTING'),
    Jump("filter", "FORWARD", '-m comment --comment "orca pod network" -j ORCA-FORWARD'),
    Jump("mangle", "POSTROUTING", '-m comment --comment "orca pod network" -j ORCA-UNTRANSLATED'),
)


def owned(chain: str) -> bool:
    """Whether a chain belongs to this room."""
    return chain.startswith("ORCA-")


def chains(*, cluster_cidr: str, service_cidr: str, leases: Mapping[str, Lease]) -> dict[str, dict[str, Rules]]:
    """Every chain of this room with its rules, by table."""
    nat: dict[str, Rules] = {
        "ORCA-POSTROUTING": (
            f'-m mark --mark {MASQUERADE_BIT}/{MASQUERADE_BIT} -m comment --comment "marked by us" -j ORCA-MASQ',
            f'-s {cluster_cidr} -d {cluster_cidr} -m comment --comment "pod to pod keeps its address" -j RETURN',
            "-d 224.0.0.0/4 -j RETURN",
            f'-s {cluster_cidr} -m comment --comment "leaves the cluster" -j MASQUERADE --random-fully',
        ),
        "ORCA-MASQ": (f"-j MARK --set-xmark {MASQUERADE_BIT}/0x0", "-j MASQUERADE --random-fully"),
        "ORCA-MARK-MASQ": (f"-j MARK --set-xmark {MASQUERADE_BIT}/{MASQUERADE_BIT}",),
        "ORCA-HOSTPORTS": (),
    }
    # A port bound to one address goes before one bound to all.
    dispatch: list[tuple[bool, str]] = []
    for uid, lease in leases.items():
        for port in lease.host_ports:
            chain = host_port_chain(uid, port)
            protocol = port.protocol.lower()
            comment = f'-m comment --comment "{_label(lease, uid)} host port {port.host_port}"'
            where = f"-d {port.host_ip}/32 " if port.host_ip else ""
            rule = f"{where}-p {protocol} -m {protocol} --dport {port.host_port} {comment} -j {chain}"
            dispatch.append((not port.host_ip, rule))
            nat[chain] = (
                f'-s {lease.ip}/32 -m comment --comment "{_label(lease, uid)} hairpin" -j ORCA-MARK-MASQ',
                f'-s 127.0.0.0/8 -m comment --comment "{_label(lease, uid)} from loopback" -j ORCA-MARK-MASQ',
                f"-p {protocol} -m {protocol} {comment} -j DNAT --to-destination {lease.ip}:{port.container_port}",
            )
    nat["ORCA-HOSTPORTS"] = tuple(rule for _, rule in sorted(dispatch))
    return {
        "nat": nat,
        "filter": {
            "ORCA-FORWARD": (
                f'-d {service_cidr} -m comment --comment "services: not ours to accept" -j RETURN',
                f'-s {cluster_cidr} -m comment --comment "from pods" -j ACCEPT',
                f'-d {cluster_cidr} -m comment --comment "to pods" -j ACCEPT',
            )
        },
        "mangle": {
            # After the filter rules, which may reject, and before conntrack remembers the connection as untranslated.
            "ORCA-UNTRANSLATED": (f'-o {SERVICE_DEVICE} -m comment --comment "no rule for this service" -j DROP',)
        },
    }


def host_port_chain(uid: str, port: HostPort) -> str:
    digest = hashlib.sha256(f"{uid}/{port.host_ip}/{port.host_port}/{port.protocol}".encode()).hexdigest()
    return f"ORCA-HP-{digest[:16].upper()}"


def _label(lease: Lease, uid: str) -> str:
    """What a person reads in the rule; the pod's own name when it is known."""
    return "pod " + "".join(c for c in (lease.name or uid) if c.isalnum() or c in "-./_")[:100]
