"""Golden renderings: what is compared here is loaded and read back by the real tools, in a namespace of its own."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from agents.network import firewall
from agents.network.addresses import HostPort, Lease
from agents.network.iptables import Rules, Transaction, difference, parse_save
from agents.proxy.backend import HostView
from agents.proxy.iptables import layout
from agents.proxy.model import Family, ServicePort
from tests.unit.proxy.models import (
    CASES,
    CIDR,
    CIDR6,
    GOLDEN,
    HOST,
    compare_with_golden,
    of_family,
    port,
    run_alone,
)

TOOLS: dict[Family, str] = {4: "iptables", 6: "ip6tables"}
HOSTS = (
    HOST,
    HostView((), node_ips=HOST.node_ips, node_port_addresses=("primary",), masquerade_all=True),
    HostView((CIDR, CIDR6), node_port_addresses=("192.0.2.0/24", "127.0.0.0/8", "2001:db8::/32")),
    HostView((CIDR, CIDR6), localhost_node_ports=False),
)
FAMILIES = pytest.mark.parametrize("family", TOOLS)


def chains_of(*ports: ServicePort, host: HostView = HOST) -> dict[str, dict[str, Rules]]:
    found: dict[tuple[str, str], Rules] = {}
    family = ports[0].family
    for table, chains in layout.static_chains(family).items():
        found.update({(table, chain): rules for chain, rules in chains.items()})
    shared: dict[tuple[str, str], Rules] = {}
    for one in ports:
        fragment = layout.render(one, host)
        found.update(fragment.own)
        for key, rules in fragment.shared.items():
            shared[key] = shared.get(key, ()) + rules
    for key, tail in layout.shared_tail(host, family).items():
        found[key] = shared.get(key, ()) + tail
    tables: dict[str, dict[str, Rules]] = {"nat": {}, "filter": {}}
    for (table, chain), rules in found.items():
        tables[table][chain] = rules
    return tables


def text_of(one: ServicePort) -> str:
    """Only what this port adds, in a readable order."""
    transaction = Transaction()
    fragment = layout.render(one, HOST)
    for (table, chain), rules in (*sorted(fragment.shared.items()), *sorted(fragment.own.items())):
        transaction.write(table, chain, rules)
    return str(transaction)


@FAMILIES
@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, family: Family) -> None:
    path = GOLDEN / "iptables" / f"{name}{'' if family == 4 else '.ipv6'}.rules"
    compare_with_golden(path, text_of(of_family(CASES[name], family)))


def test_chain_names_are_kube_proxys() -> None:
    # sha256("default/kubernetes:httpstcp") in base32, its first 16 characters: known from any cluster.
    kubernetes = port(service="default/kubernetes", port_name="https")
    assert layout.service_chain("SVC", kubernetes) == "KUBE-SVC-NPX46M4PTMTKRN6Y"
    dns = port(service="kube-system/kube-dns", port_name="dns", protocol="UDP")
    assert layout.service_chain("SVC", dns) == "KUBE-SVC-TCOU7JCQXEZGVUNU"


def test_every_endpoint_has_the_same_chance() -> None:
    for count in range(1, 40):
        left, shares = 1.0, []
        for position in range(count):
            chance = float(layout.probability(count - position)) if position < count - 1 else 1.0
            shares.append(left * chance)
            left *= 1 - chance
        assert max(shares) - min(shares) < 1e-6


def test_only_own_chains_are_owned() -> None:
    assert layout.owned("KUBE-SVC-ABC")
    assert layout.owned("KUBE-SERVICES")
    for foreign in ("KUBE-IPVS-FILTER", "KUBE-KUBELET-CANARY", "DOCKER", "FORWARD", "KUBE-ROUTER-INPUT"):
        assert not layout.owned(foreign)


in_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("iptables-restore"), reason="needs root and iptables"
)


@in_namespace
@FAMILIES
@pytest.mark.parametrize("host", HOSTS, ids=range(len(HOSTS)))
def test_real_tool_accepts_and_reads_back_equal(family: Family, host: HostView) -> None:
    cases = [of_family(CASES[name], family) for name in CASES]
    # Of one service each, so that all of them stand beside each other.
    ports = [replace(port, service=f"default/s{number}") for number, port in enumerate(cases)]
    wanted = chains_of(*ports, host=host)
    transaction = difference({}, wanted, jumps=layout.JUMPS, owned=layout.owned)
    state = load_and_read(str(transaction), tool=TOOLS[family])
    again = difference(state, wanted, jumps=layout.JUMPS, owned=layout.owned)
    assert str(again) == "", "what iptables-save prints is what was rendered"


@in_namespace
def test_real_tool_accepts_the_networks_rules() -> None:
    leases = {"uid": Lease(("10.244.1.2",), "default/web", (HostPort(80, 8080), HostPort(53, 53, "UDP", "192.0.2.1")))}
    wanted = firewall.chains(cluster_cidr=CIDR, service_cidr="10.96.0.0/16", leases=leases)
    state = load_and_read(str(difference({}, wanted, jumps=firewall.JUMPS, owned=firewall.owned)))
    assert str(difference(state, wanted, jumps=firewall.JUMPS, owned=firewall.owned)) == ""


@in_namespace
def test_everything_can_be_removed_again() -> None:
    wanted = chains_of(*CASES.values())
    there = str(difference({}, wanted, jumps=layout.JUMPS, owned=layout.owned))
    removed = difference(wanted, {}, owned=layout.owned)
    for jump in layout.JUMPS:
        removed.remove(jump.table, jump.chain, jump.rule)
    left = load_and_read(there, str(removed))
    assert [chain for chains in left.values() for chain in chains if chain.startswith("KUBE")] == []


def load_and_read(*texts: str, tool: str = "iptables") -> dict[str, dict[str, Rules]]:
    """Test and load each text in a fresh namespace; returns what is there in the end."""
    steps = [f"{tool}-restore --noflush {how} <<'EOF'\n{text}EOF" for text in texts for how in ("--test", "--wait 5")]
    reads = [f"{tool}-save -t {table}" for table in ("nat", "filter", "mangle")]
    return parse_save(run_alone("\n".join(["set -e", *steps, *reads])))
