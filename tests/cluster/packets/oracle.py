"""What has to become of a connection, said by the documentation of Services and kube-proxy and by no rule of ours.

- Virtual IPs and Service Proxies, "Traffic policies": Local means endpoints of the host that handles the packet;
  without one there packets are dropped, without any at all they are refused.
- "Traffic to terminating endpoints": only when no endpoint that the policy allows is ready.
- External policy Local is about the outside: pods and hosts may use every endpoint, and the client's address is kept.
- Using Source IP: a pod's address is kept on its way to a cluster IP; others, and everything by an external way with
  policy Cluster, arrive with the address of the host that handled it. An endpoint that reaches itself never sees
  itself.
- ``loadBalancerSourceRanges`` are about the load balancer's address alone; who is in none of them is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.proxy.model import Family
from tests.cluster.packets.services import PORTS, STRAY, Case
from tests.cluster.packets.topology import Place, Topology

WAYS = ("cluster", "external", "balancer", "node-port-1", "node-port-2", "loopback", "stray")
"""``stray``: a cluster IP's port that is none of the Service's, on which every host happens to listen."""


@dataclass(frozen=True, slots=True)
class Expected:
    """``answers``: endpoint -> the source addresses it may see; none of them: ``refused``, or else dropped, or
    ``either`` of the two."""

    answers: dict[str, frozenset[str]]
    refused: bool = False
    either: bool = False

    def __str__(self) -> str:
        if self.either:
            return "refused or dropped"
        if not self.answers:
            return "refused" if self.refused else "dropped"
        return " or ".join(f"{name} seeing {'|'.join(sorted(ips))}" for name, ips in self.answers.items())


def expected(
    case: Case, way: str, client: Place, family: Family, topology: Topology, *, mode: str = ""
) -> Expected | None:
    """None where nothing is promised. ``mode`` ipvs has two limits, as kube-proxy's mode of that name has them: no node
    ports on loopback, and with policy Local also pods and the host get endpoints of their own host while there are
    any."""
    if way == "loopback" and (not client.is_host or family == 6 or mode == "ipvs"):
        return None
    if way == "stray":
        return Expected({}, either=True) if case.name == "both-cc" else None
    handler = _handler(way, client)
    source = client.ips[family]
    inside = client.pod or client.is_host
    if handler not in ("", client.host) and client.host:
        # A pod's packets leave the cluster by the address of its host, also on their way to another host.
        inside, source = False, topology.places[client.host].ips[family]
    pod = client.pod and inside
    ready = {name for name, conditions in case.endpoints.items() if conditions["ready"]}
    leaving = {name for name, conditions in case.endpoints.items() if conditions["serving"] and not conditions["ready"]}
    here = {name for name in ready | leaving if topology.places[name].host == handler}
    everywhere, local = ready or leaving, (ready & here) or (leaving & here)

    if way == "cluster":
        usable = local if case.internal_local else everywhere
        keeps = pod
    else:
        usable = local if case.external_local and (not inside or (local and mode == "ipvs")) else everywhere
        keeps = case.external_local and (pod or not inside)
    if way == "balancer" and case.source_ranges and not _in_ranges(case, client):
        return Expected({}) if everywhere else Expected({}, refused=True)
    if not usable:
        return Expected({}, refused=not everywhere)
    own = frozenset(topology.addresses(handler, family))
    return Expected({name: frozenset({source}) if keeps and name != client.name else own for name in sorted(usable)})


def destination(case: Case, way: str, protocol: str, family: Family, topology: Topology) -> tuple[str, int]:
    """Address and port a client asks for."""
    if way.startswith("node-port"):
        return topology.places[f"host-{way[-1]}"].ips[family], case.node_port(protocol)
    if way == "loopback":
        return "127.0.0.1", case.node_port(protocol)
    if way == "stray":
        return case.address("cluster", family), STRAY
    return case.address(way, family), PORTS[protocol]


def _handler(way: str, client: Place) -> str:
    """The host whose rules translate: the client's own, but for packets addressed to another host."""
    if way.startswith("node-port"):
        return f"host-{way[-1]}"
    return client.host or "host-1"


def _in_ranges(case: Case, client: Place) -> bool:
    return "0.0.0.0/0" in case.source_ranges or client.host == "host-1"
