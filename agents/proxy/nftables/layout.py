"""The table of one address family, but for what services add: chains, sets and maps. Pure.

    services            by address, protocol and port to the chain for so many endpoints; then by node port
    cluster-ip-N        choose one of N: an address in ``cluster-endpoints``, which has N numbers for each service
    cluster-ip-local-N  the same among endpoints of this host (internal policy Local)
    external-N, node-port-N, external-local-C-L, node-port-local-C-L
                        from outside; policy Local tells pods and this host (C endpoints) from others (L)
    no-endpoints        refuse or drop what leads to a service that has nobody (here)
    firewall            source ranges of load balancers
    masquerading        this host's address for marked packets, and for an endpoint that has reached itself

Every chain but the first of each hook is reached by new connections only: translations are remembered by the kernel.
"""

from __future__ import annotations

from functools import lru_cache

from agents.network.nftables.sets import SetType
from agents.network.nftables.statements import (
    Statement,
    address,
    clear_mark,
    find_verdict,
    immediate,
    is_local,
    marked,
    masquerade,
    member,
    reject,
    set_mark,
    state,
    translate_by,
    translated,
)
from agents.network.nftables.wire import BaseChain, Rule
from agents.proxy.backend import MASQUERADE_MARK, HostView
from agents.proxy.model import Family

TABLE = "orca-proxy"

FILTER, NAT_IN, AFTER_NAT, NAT_OUT = -110, -101, -90, 99
"""Filters see what was asked for, so they come before translation (-100), of ours and of others; ours comes just before
that of others, as does masquerading (100)."""

BASE_CHAINS = {
    "filter-prerouting": BaseChain("filter", 0, FILTER),
    "filter-input": BaseChain("filter", 1, FILTER),
    "filter-forward": BaseChain("filter", 2, FILTER),
    "filter-output": BaseChain("filter", 3, FILTER),
    "filter-output-translated": BaseChain("filter", 3, AFTER_NAT),
    "nat-prerouting": BaseChain("nat", 0, NAT_IN),
    "nat-output": BaseChain("nat", 3, NAT_IN),
    "nat-postrouting": BaseChain("nat", 4, NAT_OUT),
}

FRONTEND = ("daddr", "l4proto", "dport")
NODE_FRONTEND = ("l4proto", "dport")

_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
_IP = {4: "ip", 6: "ip6"}
_LOOPBACK = "127.0.0.0/8"
_SOME = 65536
"""Any modulus: nft wants one to know that a number is meant."""


_NOTES: dict[tuple[Family, str], bytes] = {
    # What nft 1.0 itself puts beside a set that is declared so (``typeof``), in its own words: without it, it cannot
    # print the set. The kernel does not look at it.
    (4, "address"): bytes.fromhex(
        "000400000000010400000000036000040d00000001580014000407000000010c00040c00000001040c000000010e00040900"
        "000001060004100000000214000407000000010c00040b000000010402000000031a00041700000001120004010000000104"
        "00000100020400000000043400040d000000012c0014000407000000010c00040c00000001040c0000000114000407000000"
        "010c00040b000000010402000000060400000000"
    ),
    (4, "port"): bytes.fromhex(
        "000400000000010400000000034a00040d0000000142000e00040900000001060004100000000114000407000000010c0004"
        "0b000000010402000000021a0004170000000112000401000000010400000100020400000000043400040d000000012c0014"
        "000407000000010c00040c00000001040c0000000114000407000000010c00040b000000010402000000060400000000"
    ),
    (6, "address"): bytes.fromhex(
        "000400000000010400000000036000040d00000001580014000407000000010c00040d000000010409000000010e00040900"
        "000001060004100000000214000407000000010c00040b000000010402000000031a00041700000001120004010000000104"
        "00000100020400000000043400040d000000012c0014000407000000010c00040d0000000104090000000114000407000000"
        "010c00040b000000010402000000060400000000"
    ),
    (6, "port"): bytes.fromhex(
        "000400000000010400000000034a00040d0000000142000e00040900000001060004100000000114000407000000010c0004"
        "0b000000010402000000021a0004170000000112000401000000010400000100020400000000043400040d000000012c0014"
        "000407000000010c00040d0000000104090000000114000407000000010c00040b000000010402000000060400000000"
    ),
}


def key_types(family: Family) -> tuple[str, ...]:
    """Of an address, protocol and port."""
    return (_ADDRESS[family], "inet_proto", "inet_service")


def data_types(family: Family) -> tuple[str, ...]:
    """Of an endpoint."""
    return (_ADDRESS[family], "inet_service")


NODE_KEY = ("inet_proto", "inet_service")


def sets(family: Family) -> dict[str, SetType]:
    """Every set and map of the table that is always there."""
    front, to, one = key_types(family), data_types(family), _ADDRESS[family]
    ip = _IP[family]
    by_address = f"{ip} daddr . meta l4proto . th dport . numgen random mod {_SOME} : {ip} daddr . th dport"
    by_port = f"meta l4proto . th dport . numgen random mod {_SOME} : {ip} daddr . th dport"
    endpoints = SetType((*front, "integer"), to, typeof=by_address, note=_NOTES[family, "address"], counted=True)
    node_endpoints = SetType((*NODE_KEY, "integer"), to, typeof=by_port, note=_NOTES[family, "port"], counted=True)
    return {
        "service-ips": SetType(front, ("verdict",), counted=True),
        "service-nodeports": SetType(NODE_KEY, ("verdict",), counted=True),
        "no-endpoint-services": SetType(front, ("verdict",), counted=True),
        "no-endpoint-nodeports": SetType(NODE_KEY, ("verdict",), counted=True),
        "cluster-endpoints": endpoints,
        "local-endpoints": endpoints,
        "nodeport-cluster-endpoints": node_endpoints,
        "nodeport-local-endpoints": node_endpoints,
        "cluster-ips": SetType((one,)),
        "hairpin": SetType((one, one)),
        "firewall-ips": SetType(front),
        "source-ranges": SetType((*front, one), interval=True),
    }


def affinity_set(family: Family, seconds: int) -> SetType:
    """Clients of one endpoint, for so long after their last new connection."""
    return SetType((_ADDRESS[family],), seconds=seconds, size=65535)


def chains(host: HostView, family: Family) -> dict[str, tuple[Rule, ...]]:
    """Every chain that does not depend on services, with its rules."""
    new = state("new")
    refuse = (new, immediate("jump no-endpoints"))
    return {
        "filter-prerouting": ((new, immediate("jump firewall")),),
        "filter-input": (*_guard_loopback(family), refuse),
        "filter-forward": (refuse,),
        "filter-output": ((new, immediate("jump firewall")),),
        "filter-output-translated": (refuse,),
        "nat-prerouting": ((immediate("jump services"),),),
        "nat-output": ((immediate("jump services"),),),
        "nat-postrouting": (
            (marked(MASQUERADE_MARK), immediate("goto masquerading")),
            (translated(), member(family, ("saddr", "daddr"), "hairpin"), masquerade()),
        ),
        "services": (
            (find_verdict(family, FRONTEND, "service-ips"),),
            *(
                (*matches, find_verdict(family, NODE_FRONTEND, "service-nodeports"))
                for matches in node_port_addresses(host, family)
            ),
        ),
        "no-endpoints": (
            (find_verdict(family, FRONTEND, "no-endpoint-services"),),
            *(
                (*matches, find_verdict(family, NODE_FRONTEND, "no-endpoint-nodeports"))
                for matches in node_port_addresses(host, family)
            ),
            # What got so far is a port that no service has on an address that one does have.
            (member(family, ("daddr",), "cluster-ips"), reject(family)),
        ),
        "refused": ((reject(family),),),
        "firewall": (
            (
                member(family, FRONTEND, "firewall-ips"),
                member(family, (*FRONTEND, "saddr"), "source-ranges", negate=True),
                immediate("drop"),
            ),
        ),
        # Off again: a packet that is encapsulated passes here a second time.
        "masquerading": ((clear_mark(MASQUERADE_MARK), masquerade()),),
    }


def node_port_addresses(host: HostView, family: Family) -> tuple[tuple[Statement, ...], ...]:
    """Matches for packets to addresses of this host that serve node ports, one for each network."""
    networks = host.node_port_networks(family)
    if networks is not None:
        return tuple((address(family, "daddr", network), is_local("daddr")) for network in networks)
    if family == 6:
        # Of IPv6, ::1 cannot be left for another host.
        return ((address(6, "daddr", "::1/128", negate=True), is_local("daddr")),)
    if not host.localhost_node_ports:
        return ((address(4, "daddr", _LOOPBACK, negate=True), is_local("daddr")),)
    return ((is_local("daddr"),),)


def _guard_loopback(family: Family) -> tuple[Rule, ...]:
    """Node ports on 127.0.0.1 need net.ipv4.conf.all.route_localnet, which must not open loopback to neighbours."""
    if family == 6:
        return ()
    return (
        (
            address(4, "daddr", _LOOPBACK),
            address(4, "saddr", _LOOPBACK, negate=True),
            state("established", "related", negate=True),
            translated(negate=True),
            immediate("drop"),
        ),
    )


@lru_cache(1024)
def choosing_chain(name: str, host: HostView, family: Family) -> tuple[Rule, ...]:
    """The rules of a chain for so many endpoints, by its name (see the module)."""
    kind, _, counts = name.rpartition("-")
    if kind == "cluster-ip":
        return (*masquerade_internal(host, family), (_choose(family, int(counts), "cluster-endpoints"),))
    if kind == "cluster-ip-local":
        return (*masquerade_internal(host, family), (_choose(family, int(counts), "local-endpoints"),))
    if kind == "external":
        return ((set_mark(MASQUERADE_MARK),), (_choose(family, int(counts), "cluster-endpoints"),))
    if kind == "node-port":
        return ((set_mark(MASQUERADE_MARK),), (_choose(family, int(counts), "nodeport-cluster-endpoints"),))
    kind, _, everywhere = kind.rpartition("-")
    prefix = {"external-local": "", "node-port-local": "nodeport-"}[kind]
    outside = () if counts == "0" else ((_choose(family, int(counts), f"{prefix}local-endpoints"),),)
    return (*outside_local(host, family, _choose(family, int(everywhere), f"{prefix}cluster-endpoints")), *outside)


def outside_local(host: HostView, family: Family, anywhere: Statement) -> tuple[Rule, ...]:
    """External policy Local: pods and the host itself are not outside, they may reach endpoints on every host."""
    cidr = host.cluster_cidr(family)
    from_pods = ((address(family, "saddr", cidr), anywhere),) if cidr else ()
    here = is_local("saddr")
    return (*from_pods, (here, set_mark(MASQUERADE_MARK)), (here, anywhere))


def masquerade_internal(host: HostView, family: Family) -> tuple[Rule, ...]:
    """Whose packets to a cluster IP get this host's address: those that do not come from pods."""
    if host.masquerade_all:
        return ((set_mark(MASQUERADE_MARK),),)
    cidr = host.cluster_cidr(family)
    return ((address(family, "saddr", cidr, negate=True), set_mark(MASQUERADE_MARK)),) if cidr else ()


def _choose(family: Family, count: int, endpoints: str) -> Statement:
    front = NODE_FRONTEND if endpoints.startswith("nodeport-") else FRONTEND
    return translate_by(family, (*front, str(count)), endpoints)
