"""The iptables rules beside IPVS: a fixed number, whatever the number of services. Text only.

In the form ``iptables-save`` prints them. Chains carry names that no other way of writing services uses, so that one
can take over from the other while both are there.

Order matters: the hooks of IPVS come after nat's in PREROUTING and OUTPUT, and in OUTPUT before filter's. So what must
not reach a virtual server is dropped in mangle, and what IPVS has not taken is refused in filter.
"""

from __future__ import annotations

from agents.network.iptables import Jump, Rules
from agents.proxy.ipvs import layout
from agents.proxy.ipvs.layout import set_name
from agents.proxy.model import Family

TABLES = ("nat", "filter", "mangle")
MARK = "0x4000"
SERVICES, NODE_PORT, MARK_MASQ = "KUBE-IPVS-SERVICES", "KUBE-IPVS-NODE-PORT", "KUBE-IPVS-MARK-MASQ"
POSTROUTING, FORWARD, FIREWALL = "KUBE-IPVS-POSTROUTING", "KUBE-IPVS-FORWARD", "KUBE-IPVS-FIREWALL"
FILTER = "KUBE-IPVS-FILTER"
CHAINS = (SERVICES, NODE_PORT, MARK_MASQ, POSTROUTING, FORWARD, FIREWALL, FILTER)
_NEW = "-m conntrack --ctstate NEW"
_FROM_HERE = "-m addrtype --src-type LOCAL"

JUMPS = (
    Jump("nat", "PREROUTING", f'-m comment --comment "kubernetes service portals" -j {SERVICES}'),
    Jump("nat", "OUTPUT", f'-m comment --comment "kubernetes service portals" -j {SERVICES}'),
    Jump("nat", "POSTROUTING", f'-m comment --comment "kubernetes postrouting rules" -j {POSTROUTING}'),
    Jump("mangle", "INPUT", f'{_NEW} -m comment --comment "kubernetes ipvs firewall" -j {FIREWALL}'),
    Jump("mangle", "OUTPUT", f'{_NEW} -m comment --comment "kubernetes ipvs firewall" -j {FIREWALL}'),
    Jump("filter", "FORWARD", f'-m comment --comment "kubernetes forwarding rules" -j {FORWARD}'),
    Jump("filter", "INPUT", f'{_NEW} -m comment --comment "kubernetes ipvs access filter" -j {FILTER}'),
    Jump("filter", "OUTPUT", f'{_NEW} -m comment --comment "kubernetes ipvs access filter" -j {FILTER}'),
)


def owned(chain: str) -> bool:
    return chain in CHAINS


def chains(family: Family, *, cluster_cidr: str, masquerade_all: bool = False) -> dict[str, dict[str, Rules]]:
    """Every chain with its rules, by table; ``cluster_cidr`` "" when it is not known who is outside."""

    def match(name: str, directions: str = "dst,dst") -> str:
        return f"-m set --match-set {set_name(family, name)} {directions}"

    def comment(text: str) -> str:
        return f'-m comment --comment "{text}"'

    outside = f"! -s {cluster_cidr} " if cluster_cidr else ""
    reject = f"REJECT --reject-with icmp{'6' if family == 6 else ''}-port-unreachable"
    cluster_ip = f"{comment('kubernetes service cluster ip')} {match(layout.CLUSTER_IP)} -j {MARK_MASQ}"
    services: list[str] = []
    if masquerade_all:
        services.append(cluster_ip)
    elif outside:
        services.append(f"{outside}{cluster_ip}")
    for every, local, what in (
        (layout.EXTERNAL_IP, layout.EXTERNAL_IP_LOCAL, "external ip"),
        (layout.LOAD_BALANCER, layout.LOAD_BALANCER_LOCAL, "load balancer ip"),
    ):
        # The client keeps its address with policy Local, but the host's own may be one that only it can answer to.
        services += [
            f"{comment(f'{what}, policy local')} {match(local)} {_FROM_HERE} -j {MARK_MASQ}",
            f"{comment(f'{what}, policy local')} {match(local)} -j RETURN",
            f"{comment(what)} {match(every)} -j {MARK_MASQ}",
        ]
    services.append(f"-m addrtype --dst-type LOCAL {comment('node ports')} -j {NODE_PORT}")
    node_ports: list[str] = []
    for protocol in ("TCP", "UDP", "SCTP"):
        name, directions = ("SCTP-HASH", "dst,dst") if protocol == "SCTP" else (protocol, "dst")
        local, every = (match(f"NODE-PORT{kind}-{name}", directions) for kind in ("-LOCAL", ""))
        head = f"-p {protocol.lower()} {comment('node port')}"
        node_ports += [
            f"{head} {local} {_FROM_HERE} -j {MARK_MASQ}",
            f"{head} {local} -j RETURN",
            f"{head} {every} -j {MARK_MASQ}",
        ]
    allowed = f"-m set ! --match-set {set_name(family, layout.LOAD_BALANCER_SOURCES)} dst,dst,src"
    return {
        "nat": {
            SERVICES: tuple(services),
            NODE_PORT: tuple(node_ports),
            MARK_MASQ: (f"-j MARK --set-xmark {MARK}/{MARK}",),
            POSTROUTING: (
                f"{comment('an endpoint that reaches itself')} {match(layout.LOOP_BACK, 'dst,dst,src')} "
                "-j MASQUERADE --random-fully",
                f"-m mark ! --mark {MARK}/{MARK} -j RETURN",
                # Off again: a packet that is encapsulated passes here a second time.
                f"-j MARK --set-xmark {MARK}/0x0",
                f"{comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
            ),
        },
        "mangle": {
            FIREWALL: (
                f"{comment('not in the source ranges')} {match(layout.LOAD_BALANCER_FIREWALL)} {allowed} -j DROP",
                f"{comment('no endpoint on this host')} {match(layout.NOT_HERE)} -j DROP",
                f"{outside}{comment('no endpoint on this host')} {match(layout.NOT_HERE_EXTERNAL)} "
                "-m addrtype ! --src-type LOCAL -j DROP",
            )
        },
        "filter": {
            FORWARD: (
                f"{comment('kubernetes forwarding rules')} -m mark --mark {MARK}/{MARK} -j ACCEPT",
                f"{comment('kubernetes forwarding conntrack rule')} "
                "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            ),
            FILTER: (
                f"{comment('no endpoints')} {match(layout.NO_ENDPOINTS)} -j {reject}",
                *(f"{match(name)} -j RETURN" for name in layout.SERVING if not name.endswith("-LOCAL")),
                # Addresses of services are addresses of this host now; what else listens on it is not meant by them.
                f"{comment('not a port of this service')} {match(layout.IPVS_IPS, 'dst')} -j {reject}",
            ),
        },
    }
