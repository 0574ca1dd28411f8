"""Golden renderings: what is compared here is loaded and read back by the real tools, in a namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agents.network import firewall
from agents.network.addresses import HostPort, Lease
from agents.network.iptables import Rules, Transaction, difference, parse_save
from agents.proxy.backend import HostView
from agents.proxy.iptables import layout
from agents.proxy.model import Endpoint, ServicePort

GOLDEN = Path(__file__).parent / "golden"
CIDR = "10.244.0.0/16"
HOST = HostView((CIDR, "fd00:10:244::/56"))
NEAR, FAR = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080, False)
THIRD = Endpoint("10.244.2.3", 8080, False)
BASE = {"service": "default/web", "port_name": "http", "protocol": "TCP", "port": 80, "cluster_ip": "10.96.0.50"}


def port(**more: object) -> ServicePort:
    return ServicePort(**{**BASE, "anywhere": True, **more})  # type: ignore[arg-type]


CASES = {
    "cluster-ip": port(cluster=(NEAR, FAR, THIRD)),
    "no-endpoints": port(anywhere=False, node_port=30080, external_ips=("192.0.2.50",)),
    "node-port": port(cluster=(NEAR, FAR), node_port=30080),
    "external-local": port(cluster=(NEAR, FAR), local=(NEAR,), external_local=True, node_port=30080),
    "external-local-none-here": port(cluster=(FAR,), external_local=True, node_port=30080),
    "internal-local": port(local=(NEAR,), internal_local=True),
    "internal-local-none-here": port(internal_local=True),
    "affinity": port(cluster=(NEAR, FAR), affinity_seconds=10800),
    "udp": port(protocol="UDP", port_name="", cluster=(NEAR,)),
    "sctp": port(protocol="SCTP", cluster=(NEAR,)),
    "load-balancer": port(
        cluster=(NEAR,),
        node_port=30080,
        load_balancer_ips=("192.0.2.60",),
        source_ranges=("192.0.2.0/24", "198.51.100.7/32"),
    ),
}


def chains_of(*ports: ServicePort) -> dict[str, dict[str, Rules]]:
    found: dict[tuple[str, str], Rules] = {}
    for table, chains in layout.static_chains(HOST, 4).items():
        found.update({(table, chain): rules for chain, rules in chains.items()})
    shared: dict[tuple[str, str], Rules] = {}
    for one in ports:
        fragment = layout.render(one, HOST)
        found.update(fragment.own)
        for key, rules in fragment.shared.items():
            shared[key] = shared.get(key, ()) + rules
    for key, tail in layout.shared_tail(HOST, 4).items():
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


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    path = GOLDEN / f"{name}.rules"
    text = text_of(CASES[name])
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"review the difference, then run with UPDATE_GOLDEN=1 ({path.name})"


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
@pytest.mark.parametrize("name", CASES)
def test_real_tool_accepts_and_reads_back_equal(name: str) -> None:
    wanted = chains_of(CASES[name])
    transaction = difference({}, wanted, jumps=layout.JUMPS, owned=layout.owned)
    state = load_and_read(str(transaction))
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


def load_and_read(*texts: str) -> dict[str, dict[str, Rules]]:
    """Test and load each text in a fresh namespace; returns what is there in the end."""
    steps = [f"iptables-restore --noflush {how} <<'EOF'\n{text}EOF" for text in texts for how in ("--test", "--wait 5")]
    reads = [f"iptables-save -t {table}" for table in ("nat", "filter", "mangle")]
    return parse_save(run_alone("\n".join(["set -e", *steps, *reads])))


def run_alone(script: str) -> str:
    done = subprocess.run(["unshare", "--net", "bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{script}"
    return done.stdout
