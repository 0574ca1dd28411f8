"""The service model as iptables rules, in kube-proxy's layout, so that people and tools find what they know.

    KUBE-SERVICES   one rule a cluster IP, external IP or load balancer IP
    KUBE-NODEPORTS  one rule a node port, reached from the end of KUBE-SERVICES for packets to the host's own addresses
    KUBE-EXT-…      from outside: mark for masquerade, or keep the address and use local endpoints (policy Local)
    KUBE-SVC-…      choose among all endpoints;  KUBE-SVL-…  among those of this host
    KUBE-SEP-…      one endpoint: translate;  KUBE-FW-…  source ranges of a load balancer

Both families have the same chains, each with its own tool. Text only; ``writer.py`` brings it into the kernel. Rules
are in the form ``iptables-save`` prints them: a restarted agent compares and writes nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.network.iptables import Jump, Rules
from agents.proxy.backend import MASQUERADE_MARK, HostView
from agents.proxy.model import Endpoint, Family, ServicePort

TABLES = ("nat", "filter")
MARK = f"{MASQUERADE_MARK:#x}"
_NEW = "-m conntrack --ctstate NEW"
_REJECT: dict[Family, str] = {
    4: "REJECT --reject-with icmp-port-unreachable",
    6: "REJECT --reject-with icmp6-port-unreachable",
}
_ONE: dict[Family, int] = {4: 32, 6: 128}
"""Prefix length of one address."""
_EVERY_BIT: dict[Family, str] = {4: "255.255.255.255", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}

SERVICES, NODE_PORTS, EXTERNAL = "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"
FIREWALL, FORWARD, LOCALNET = "KUBE-PROXY-FIREWALL", "KUBE-FORWARD", "KUBE-FIREWALL"
POSTROUTING, MARK_MASQ = "KUBE-POSTROUTING", "KUBE-MARK-MASQ"

_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-SEP-", "KUBE-FW-")
_STATIC = (SERVICES, NODE_PORTS, EXTERNAL, FIREWALL, FORWARD, LOCALNET, POSTROUTING, MARK_MASQ)

JUMPS = (
    # The last of a chain ends up first in it.
    Jump("nat", "PREROUTING", '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Jump("nat", "OUTPUT", '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Jump("nat", "POSTROUTING", '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'),
    *(
        Jump("filter", chain, f'{_NEW} -m comment --comment "{what}" -j {target}')
        for chain, what, target in (
            ("INPUT", "kubernetes externally-visible service portals", EXTERNAL),
            ("FORWARD", "kubernetes externally-visible service portals", EXTERNAL),
            # Beyond kube-proxy: the host itself is refused as well, as it is in its other modes.
            ("OUTPUT", "kubernetes externally-visible service portals", EXTERNAL),
            ("FORWARD", "kubernetes service portals", SERVICES),
            ("OUTPUT", "kubernetes service portals", SERVICES),
            ("INPUT", "kubernetes load balancer firewall", FIREWALL),
            ("FORWARD", "kubernetes load balancer firewall", FIREWALL),
            ("OUTPUT", "kubernetes load balancer firewall", FIREWALL),
        )
    ),
    Jump("filter", "FORWARD", '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'),
    Jump("filter", "INPUT", "-j KUBE-FIREWALL"),
    Jump("filter", "OUTPUT", "-j KUBE-FIREWALL"),
)


@dataclass(frozen=True, slots=True)
class Fragment:
    """The rules of one service port: what it adds to shared chains, by (table, chain), and the chains of its own."""

    shared: Mapping[tuple[str, str], Rules] = field(default_factory=dict)
    own: Mapping[tuple[str, str], Rules] = field(default_factory=dict)


def owned(chain: str) -> bool:
    """Whether a chain belongs to this proxy; other ``KUBE-`` chains (a CNI plugin's, say) do not."""
    return chain in _STATIC or chain.startswith(_PREFIXES)


def static_chains(family: Family) -> dict[str, dict[str, Rules]]:
    """Chains that do not depend on services, by table."""
    return {
        "nat": {
            MARK_MASQ: (f"-j MARK --set-xmark {MARK}/{MARK}",),
            POSTROUTING: (
                f"-m mark ! --mark {MARK}/{MARK} -j RETURN",
                # Off again: a packet that is encapsulated passes here a second time.
                f"-j MARK --set-xmark {MARK}/0x0",
                '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
            ),
        },
        "filter": {
            FORWARD: (
                "-m conntrack --ctstate INVALID -j DROP",
                f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {MARK}/{MARK} -j ACCEPT',
                '-m comment --comment "kubernetes forwarding conntrack rule" '
                "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            ),
            # Node ports on 127.0.0.1 need net.ipv4.conf.all.route_localnet, which must not open loopback to neighbours.
            LOCALNET: (
                '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" '
                "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
            )
            if family == 4
            else (),
        },
    }


def shared_tail(host: HostView, family: Family) -> dict[tuple[str, str], Rules]:
    """Every chain that services add to, with the rules that come after theirs."""
    comment = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    networks = host.node_port_networks(family)
    # Of IPv6, ::1 cannot be left for another host; of IPv4, 127.0.0.0/8 can where the kernel is told so.
    loopback = {6: "! -d ::1/128 ", 4: "" if host.localhost_node_ports else "! -d 127.0.0.0/8 "}[family]
    matches = [loopback] if networks is None else [f"-d {network} " for network in networks]
    return {
        ("nat", SERVICES): tuple(
            f"{match}{comment} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS" for match in matches
        ),
        ("nat", NODE_PORTS): (),
        ("filter", SERVICES): (),
        ("filter", EXTERNAL): (),
        ("filter", FIREWALL): (),
        ("filter", NODE_PORTS): (),
    }


def render(port: ServicePort, host: HostView) -> Fragment:
    """All rules of one service port, for the tool of its family."""
    return _Renderer(port, host).fragment()


def service_chain(kind: str, port: ServicePort) -> str:
    """``KUBE-<kind>-<16 characters>`` as kube-proxy computes it; kind is SVC, SVL, EXT or FW."""
    return f"KUBE-{kind}-{_digest(port.label + port.protocol.lower())}"


def endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    return f"KUBE-SEP-{_digest(port.label + port.protocol.lower() + str(endpoint))}"


def _digest(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:16]


def probability(remaining: int) -> str:
    """1/remaining as the kernel keeps and ``iptables-save`` prints it (a 31 bit fraction)."""
    return f"{round((1 << 31) / remaining) / (1 << 31):.11f}"


class _Renderer:
    def __init__(self, port: ServicePort, host: HostView) -> None:
        self.port = port
        self.host = host
        self.cluster_cidr = host.cluster_cidr(port.family)
        self.bits, self.mask = _ONE[port.family], _EVERY_BIT[port.family]
        self.shared: dict[tuple[str, str], list[str]] = {}
        self.own: dict[tuple[str, str], list[str]] = {}
        self.svc, self.svl = service_chain("SVC", port), service_chain("SVL", port)
        self.ext, self.fw = service_chain("EXT", port), service_chain("FW", port)

    def fragment(self) -> Fragment:
        port = self.port
        self._cluster_ip()
        for address in port.external_ips:
            self._external_address("external IP", address, self.ext)
        for address in port.load_balancer_ips:
            self._external_address("loadbalancer IP", address, self.fw if port.source_ranges else self.ext)
        if port.source_ranges and port.load_balancer_ips and port.reachable:
            self._source_ranges()
        if port.node_port:
            self._node_port()
        if port.externally_reachable and port.reachable:
            self._external_chain()
        if port.cluster and (not port.internal_local or port.externally_reachable):
            self._choice(self.svc, port.cluster)
        if port.local:
            self._choice(self.svl, port.local)
        for endpoint in dict.fromkeys((*port.cluster, *port.local)):
            self._endpoint(endpoint)
        return Fragment(
            shared={where: tuple(rules) for where, rules in self.shared.items()},
            own={where: tuple(rules) for where, rules in self.own.items()},
        )

    def _cluster_ip(self) -> None:
        port = self.port
        if not port.internal:
            self._refuse(SERVICES, f"-d {port.cluster_ip}/{self.bits}", port.port, "")
            return
        chain = self.svl if port.internal_local else self.svc
        where = self._match(f"-d {port.cluster_ip}/{self.bits}", port.port, f"{port.label} cluster IP")
        self._add("nat", SERVICES, f"{where} -j {chain}")
        if self.host.masquerade_all:
            self._own("nat", chain, f"{where} -j {MARK_MASQ}")
        elif self.cluster_cidr:
            self._own("nat", chain, f"! -s {self.cluster_cidr} {where} -j {MARK_MASQ}")

    def _external_address(self, kind: str, address: str, chain: str) -> None:
        port = self.port
        if port.reachable:
            where = self._match(f"-d {address}/{self.bits}", port.port, f"{port.label} {kind}")
            self._add("nat", SERVICES, f"{where} -j {chain}")
        if not port.external:
            self._refuse(EXTERNAL, f"-d {address}/{self.bits}", port.port, "")

    def _node_port(self) -> None:
        port = self.port
        if port.reachable:
            self._add("nat", NODE_PORTS, f"{self._match('', port.node_port, port.label + ' node port')} -j {self.ext}")
        if not port.external:
            self._refuse(EXTERNAL, "", port.node_port, "-m addrtype --dst-type LOCAL ")

    def _source_ranges(self) -> None:
        """Who is in a range goes on; the filter drops who is not, still addressed to the balancer, on its way."""
        port = self.port
        comment = f'-m comment --comment "{port.label} source range"'
        for network in port.source_ranges:
            self._own("nat", self.fw, f"-s {network} {comment} -j {self.ext}")
        if self.host.node_in(port.source_ranges):
            # Where a balancer's address is on this host, the host's own packets to it come from it.
            for address in port.load_balancer_ips:
                self._own("nat", self.fw, f"-s {address}/{self.bits} {comment} -j {self.ext}")
        for address in port.load_balancer_ips:
            where = self._match(
                f"-d {address}/{self.bits}", port.port, f"{port.label} traffic not accepted by {self.fw}"
            )
            self._add("filter", FIREWALL, f"{where} -j DROP")

    def _external_chain(self) -> None:
        port = self.port
        comment = f'-m comment --comment "{port.label} external destinations"'
        if not port.external_local:
            self._own("nat", self.ext, f"{comment} -j {MARK_MASQ}")
        elif port.cluster:
            # Pods and the host itself are not outside: they may reach endpoints on every host.
            if self.cluster_cidr:
                self._own("nat", self.ext, f"-s {self.cluster_cidr} {comment} -j {self.svc}")
            self._own("nat", self.ext, f"{comment} -m addrtype --src-type LOCAL -j {MARK_MASQ}")
            self._own("nat", self.ext, f"{comment} -m addrtype --src-type LOCAL -j {self.svc}")
        else:
            self.own.setdefault(("nat", self.ext), [])
        if port.external:
            self._own("nat", self.ext, f"-j {self.svl if port.external_local else self.svc}")

    def _choice(self, chain: str, endpoints: tuple[Endpoint, ...]) -> None:
        port = self.port
        chains = [(endpoint, endpoint_chain(port, endpoint)) for endpoint in endpoints]
        if port.affinity_seconds:
            for endpoint, target in chains:
                recent = f"--rcheck --seconds {port.affinity_seconds} --reap --name {target}"
                self._own(
                    "nat",
                    chain,
                    f"{self._comment(endpoint)} -m recent {recent} --mask {self.mask} --rsource -j {target}",
                )
        for position, (endpoint, target) in enumerate(chains):
            remaining = len(chains) - position
            chance = f" -m statistic --mode random --probability {probability(remaining)}" if remaining > 1 else ""
            self._own("nat", chain, f"{self._comment(endpoint)}{chance} -j {target}")

    def _endpoint(self, endpoint: Endpoint) -> None:
        port, chain = self.port, endpoint_chain(self.port, endpoint)
        comment = f'-m comment --comment "{port.label} endpoint"'
        protocol = port.protocol.lower()
        # Hairpin: an endpoint that reaches itself through the service must not see its own address as the client's.
        self._own("nat", chain, f"-s {endpoint.ip}/{self.bits} {comment} -j {MARK_MASQ}")
        recent = f" -m recent --set --name {chain} --mask {self.mask} --rsource" if port.affinity_seconds else ""
        self._own("nat", chain, f"-p {protocol} {comment}{recent} -j DNAT --to-destination {endpoint}")

    def _refuse(self, chain: str, destination: str, number: int, extra: str) -> None:
        """Reject when there is no endpoint at all, drop when there is one that this host may not use."""
        why = "has no local endpoints" if self.port.anywhere else "has no endpoints"
        target = "DROP" if self.port.anywhere else _REJECT[self.port.family]
        where = self._match(destination, number, f"{self.port.label} {why}", extra)
        self._add("filter", chain, f"{where} -j {target}")

    def _match(self, destination: str, number: int, comment: str, extra: str = "") -> str:
        protocol = self.port.protocol.lower()
        head = f"{destination} " if destination else ""
        return f'{head}-p {protocol} -m comment --comment "{comment}" {extra}-m {protocol} --dport {number}'

    def _comment(self, endpoint: Endpoint) -> str:
        return f'-m comment --comment "{self.port.label} -> {endpoint}"'

    def _add(self, table: str, chain: str, rule: str) -> None:
        self.shared.setdefault((table, chain), []).append(rule)

    def _own(self, table: str, chain: str, rule: str) -> None:
        self.own.setdefault((table, chain), []).append(rule)
