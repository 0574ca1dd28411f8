"""The pod network's own packet rules, as text. Pure: `PodNetwork` loads them.

Chains of this room begin with ``ORCA-``. They let pod traffic be forwarded, masquerade what leaves the cluster,
lead host ports to pods, and drop what is addressed to a service but was translated by no rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from agents.network.addresses import HostPort, Lease
from agents.network.iptables import Jump, Rules
from agents.network.ranges import family_of

TABLES = ("nat", "filter", "mangle")
MASQUERADE_BIT = "0x2000"
SERVICE_BIT = "0x4000"
"""``agents.proxy`` marks packets with it that are to get this host's address."""
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


def chains(
    *, cluster_cidr: str, service_cidr: str, leases: Mapping[str, Lease], family: int = 4, masquerade: bool = True
) -> dict[str, dict[str, Rules]]:
    """Every chain of this room with its rules, by table, for one family.

    The ranges are of that family, "" for none. Without ``masquerade`` what leaves the cluster is somebody else's
    business (a CNI plugin's).
    """
    multicast = "ff00::/8" if family == 6 else "224.0.0.0/4"
    leaving: Rules = ()
    if cluster_cidr and masquerade:
        leaving = (
            f'-s {cluster_cidr} -d {cluster_cidr} -m comment --comment "pod to pod keeps its address" -j RETURN',
            f"-d {multicast} -j RETURN",
            f'-s {cluster_cidr} -m comment --comment "leaves the cluster" -j MASQUERADE --random-fully',
        )
    nat: dict[str, Rules] = {
        "ORCA-POSTROUTING": (
            f'-m mark --mark {MASQUERADE_BIT}/{MASQUERADE_BIT} -m comment --comment "marked by us" -j ORCA-MASQ',
            *leaving,
        ),
        # The mark goes first: a tunnel's outer packet inherits it, and must not be translated a second time.
        "ORCA-MASQ": (f"-j MARK --set-xmark {MASQUERADE_BIT}/0x0", "-j MASQUERADE --random-fully"),
        "ORCA-MARK-MASQ": (f"-j MARK --set-xmark {MASQUERADE_BIT}/{MASQUERADE_BIT}",),
        "ORCA-HOSTPORTS": (),
    }
    # A port bound to one address goes before one bound to all.
    dispatch: list[tuple[bool, str]] = []
    for uid, lease in leases.items():
        for port in lease.host_ports:
            if ip := lease.of(family):
                _host_port(nat, dispatch, family, uid, ip, port, _label(lease, uid))
    # The kernel translates nothing of IPv6's loopback: a port there is closed rather than silent.
    loopback = ("-d ::1/128 -j RETURN",) if family == 6 and dispatch else ()
    nat["ORCA-HOSTPORTS"] = (*loopback, *(rule for _, rule in sorted(dispatch)))
    forward: Rules = ()
    if service_cidr:
        forward += (f'-d {service_cidr} -m comment --comment "services: not ours to accept" -j RETURN',)
    if cluster_cidr:
        forward += (
            f'-s {cluster_cidr} -m comment --comment "from pods" -j ACCEPT',
            f'-d {cluster_cidr} -m comment --comment "to pods" -j ACCEPT',
        )
    forward += (
        # Of services whose endpoints are no pods: where tables of nf_tables translate, only these rules can accept in
        # the eyes of a policy that drops (Docker sets one).
        f'-m mark --mark {SERVICE_BIT}/{SERVICE_BIT} -m comment --comment "by a service, masqueraded" -j ACCEPT',
        '-m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "replies to them" -j ACCEPT',
    )
    return {
        "nat": nat,
        "filter": {"ORCA-FORWARD": forward},
        "mangle": {
            # After the filter rules, which may reject, and before conntrack remembers the connection as untranslated.
            "ORCA-UNTRANSLATED": (f'-o {SERVICE_DEVICE} -m comment --comment "no rule for this service" -j DROP',)
        },
    }


def _host_port(
    nat: dict[str, Rules],
    dispatch: list[tuple[bool, str]],
    family: int,
    uid: str,
    ip: str,
    port: HostPort,
    label: str,
) -> None:
    """One port's chain, and what leads to it."""
    if port.host_ip and family_of(port.host_ip) != family:
        return
    whole, target = ("128", f"[{ip}]") if family == 6 else ("32", ip)
    chain = host_port_chain(uid, port)
    protocol = port.protocol.lower()
    comment = f'-m comment --comment "{label} host port {port.host_port}"'
    where = f"-d {port.host_ip}/{whole} " if port.host_ip else ""
    rule = f"{where}-p {protocol} -m {protocol} --dport {port.host_port} {comment} -j {chain}"
    dispatch.append((not port.host_ip, rule))
    rules = [f'-s {ip}/{whole} -m comment --comment "{label} hairpin" -j ORCA-MARK-MASQ']
    if family == 4:
        rules.append(f'-s 127.0.0.0/8 -m comment --comment "{label} from loopback" -j ORCA-MARK-MASQ')
    rules.append(f"-p {protocol} -m {protocol} {comment} -j DNAT --to-destination {target}:{port.container_port}")
    nat[chain] = tuple(rules)


def host_port_chain(uid: str, port: HostPort) -> str:
    digest = hashlib.sha256(f"{uid}/{port.host_ip}/{port.host_port}/{port.protocol}".encode()).hexdigest()
    return f"ORCA-HP-{digest[:16].upper()}"


def _label(lease: Lease, uid: str) -> str:
    """What a person reads in the rule; the pod's own name when it is known."""
    return "pod " + "".join(c for c in (lease.name or uid) if c.isalnum() or c in "-./_")[:100]
