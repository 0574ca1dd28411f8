"""How much there is in the kernel, and how it reads."""

from __future__ import annotations

from agents.policy.model import Pod, dns_pod, pod_of, policy_of
from agents.policy.peers import PeerIndex
from agents.policy.render import Ruleset, difference, frame, ruleset, shortcut_closed
from agents.policy.ruleset import isolation
from tests.unit.policy.interpreter import Packet, Table
from tests.unit.policy.things import labelled, pod, policy


def built(pods: list[Pod], *policies: object) -> Ruleset:
    wanted = isolation((policy_of(one) for one in policies), pods)  # type: ignore[arg-type]
    everybody = [*pods, dns_pod(["10.96.0.10"])]
    index = PeerIndex(lambda: everybody, {"x": {"ns": "x"}}.get)
    index.want(wanted.pod_sets)
    return ruleset(wanted, index, ["10.96.0.10"])


def pods(count: int) -> list[Pod]:
    made = (
        pod("x", f"p{n}", f"10.1.{n // 250}.{n % 250}", labels={"app": "web", "pod-hash": str(n)}) for n in range(count)
    )
    return [one for one in map(pod_of, made) if one is not None]


WEB = policy(
    "x",
    "web",
    labelled(app="web"),
    ingress=[
        {"from": [{"podSelector": labelled(app="web")}], "ports": [{"port": 80}, {"port": 8000, "endPort": 8010}]}
    ],
    egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.2.0/24"]}}]}],
)


def test_rules_do_not_grow_with_pods_nor_with_policies_of_others() -> None:
    few = built(pods(2), WEB)
    others = [policy("x", f"other-{n}", labelled(app=f"other-{n}"), ingress=[]) for n in range(50)]
    many = built(pods(500), WEB, *others)
    assert len(few.chains) == len(many.chains) == 2
    assert few.chains == many.chains
    assert few.sets == many.sets


def test_reads_as_people_would_write_it() -> None:
    rules = built(pods(2), WEB)
    ingress = next(text for name, text in rules.chains.items() if name.startswith("ingress4-"))
    egress = next(text for name, text in rules.chains.items() if name.startswith("egress4-"))
    peers = next(name for name in rules.sets if name.startswith("pods4-"))
    block = next(name for name in rules.sets if name.startswith("block4-"))
    assert ingress == (
        f'ip saddr @{peers} tcp dport {{ 80, 8000-8010 }} return comment "x/web"',
        'counter drop comment "isolated by x/web"',
    )
    assert egress == (f'ip daddr @{block} return comment "x/web"', 'counter drop comment "isolated by x/web"')
    assert rules.sets[peers] == 'type ipv4_addr; comment "app=web in x";'
    assert rules.elements[peers] == {"10.1.0.0", "10.1.0.1"}
    assert rules.elements[block] == {"10.0.0.0-10.1.1.255", "10.1.3.0-10.255.255.255"}


def test_pods_whose_names_for_ports_differ_have_rules_of_their_own() -> None:
    named = policy("x", "p", ingress=[{"ports": [{"port": "web"}]}])
    made = [
        pod("x", f"p{n}", f"10.1.0.{n}", ports=[{"name": "web", "containerPort": 80 + n % 2, "protocol": "TCP"}])
        for n in range(4)
    ]
    rules = built([one for one in map(pod_of, made) if one is not None], named)
    assert len(rules.chains) == 2
    assert sorted(rules.maps["ingress4"]) == [f"10.1.0.{n}" for n in range(4)]


def test_dns_is_judged_on_its_way_into_the_host_and_nothing_else_there_is() -> None:
    closed = built(pods(1), policy("x", "p", policyTypes=["Egress"]))
    table = Table()
    table.apply("add table inet orca-policy\n" + frame() + difference(Ruleset(), closed))
    assert not table.passes(Packet("10.1.0.0", "10.96.0.10", "udp", 53), "input")
    assert table.passes(Packet("10.1.0.0", "172.30.0.11", "tcp", 10250), "input")
    assert table.passes(Packet("172.30.0.11", "10.1.0.0", local=True), "output")
    assert not table.passes(Packet("10.1.0.0", "10.1.0.9"), "output"), "what IPVS sends on"


def test_a_pod_always_reaches_itself() -> None:
    closed = built(pods(2), policy("x", "p", policyTypes=["Egress", "Ingress"]))
    table = Table()
    table.apply("add table inet orca-policy\n" + frame() + difference(Ruleset(), closed))
    assert table.passes(Packet("10.1.0.0", "10.1.0.0"))
    assert not table.passes(Packet("10.1.0.0", "10.1.0.1"))


def test_the_way_between_ports_of_the_bridge() -> None:
    assert "ether type ip6 counter drop" in shortcut_closed("op", (6,))
    assert "ether type ip counter" not in shortcut_closed("op", (6,))
