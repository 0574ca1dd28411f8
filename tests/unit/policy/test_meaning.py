"""Judgement, rendered rules and an oracle of their own agree on every connection of arbitrary worlds."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.policy.model import Pod, pod_of, policy_of
from agents.policy.peers import PeerIndex
from agents.policy.render import Ruleset, difference, replacement, ruleset
from agents.policy.ruleset import isolation
from agents.policy.verdict import Party, judge
from tests.unit.policy import oracle
from tests.unit.policy.interpreter import Packet, Table
from tests.unit.policy.oracle import World
from tests.unit.policy.things import pod, policy

Obj = dict[str, Any]
SPACES = ("x", "y")
PORTS = (53, 80, 81, 8080)
OUTSIDE = ("192.0.2.7", "10.244.9.9", "2001:db8::9")

values = st.sampled_from(("a", "b"))
labels = st.dictionaries(st.sampled_from(("app", "tier")), values, max_size=2)
expressions = st.one_of(
    st.builds(
        lambda key, operator, listed: {"key": key, "operator": operator, "values": listed},
        st.sampled_from(("app", "tier")),
        st.sampled_from(("In", "NotIn")),
        st.lists(values, min_size=1, max_size=2, unique=True),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(("app", "tier")),
        st.sampled_from(("Exists", "DoesNotExist")),
    ),
)
selectors = st.one_of(
    st.just({}),
    st.builds(lambda exact: {"matchLabels": exact}, labels),
    st.builds(lambda one: {"matchExpressions": [one]}, expressions),
)
blocks = st.sampled_from(
    (
        {"cidr": "0.0.0.0/0"},
        {"cidr": "10.244.0.0/16"},
        {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24", "10.244.0.2/32"]},
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]},
        {"cidr": "10.244.0.1/32"},
        {"cidr": "10.244.0.1/32", "except": ["10.244.0.0/24"]},
        {"cidr": "::/0", "except": ["fd00::/64"]},
        {"cidr": "fd00:0:0:1::/64"},
    )
)
peers = st.one_of(
    st.builds(lambda one: {"podSelector": one}, selectors),
    st.builds(lambda one: {"namespaceSelector": one}, selectors),
    st.builds(lambda one, two: {"namespaceSelector": one, "podSelector": two}, selectors, selectors),
    st.builds(lambda one: {"ipBlock": one}, blocks),
)
protocols = st.sampled_from(("TCP", "UDP", "SCTP"))
policy_ports = st.one_of(
    st.builds(lambda one: {"protocol": one}, protocols),
    st.builds(lambda one, number: {"protocol": one, "port": number}, protocols, st.sampled_from((*PORTS, "web"))),
    st.builds(lambda one, first, more: {"protocol": one, "port": first, "endPort": first + more}, protocols,
              st.sampled_from((50, 80)), st.integers(0, 40)),
)  # fmt: skip


def rules(way: str) -> st.SearchStrategy[list[Obj]]:
    one = st.fixed_dictionaries(
        {},
        optional={
            way: st.lists(peers, min_size=1, max_size=2),
            "ports": st.lists(policy_ports, min_size=1, max_size=3),
        },
    )
    return st.lists(one, min_size=1, max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> Obj:
    spec: Obj = {}
    if draw(st.integers(0, 3)):
        spec["ingress"] = draw(rules("from"))
    if draw(st.integers(0, 3)):
        spec["egress"] = draw(rules("to"))
    types = draw(st.sampled_from((None, None, ["Ingress"], ["Egress"], ["Ingress", "Egress"])))
    made = policy(
        draw(st.sampled_from(SPACES)), f"p{draw(st.integers(0, 99))}", draw(st.one_of(st.just({}), selectors)), **spec
    )
    if types:
        made["spec"]["policyTypes"] = types
    return made


@st.composite
def worlds(draw: st.DrawFn) -> World:
    found = []
    for number in range(draw(st.integers(2, 5))):
        web = draw(st.sampled_from(([], [80], [81], [80, 8080])))
        found.append(
            pod(
                draw(st.sampled_from(SPACES)),
                f"pod-{number}",
                f"10.244.{number % 2}.{number}",
                *([f"fd00:0:0:{number % 2}::{number}"] if draw(st.booleans()) else []),
                labels=draw(labels),
                ports=[{"name": "web", "containerPort": one, "protocol": draw(protocols)} for one in web],
                phase=draw(st.sampled_from(("Running", "Running", "Pending", "Failed"))),
                host_network=draw(st.sampled_from((False, False, False, True))),
            )
        )
    unique = {
        one["metadata"]["namespace"] + one["metadata"]["name"]: one
        for one in draw(st.lists(policies(), min_size=1, max_size=3))
    }
    return World(found, list(unique.values()), {name: {**draw(labels), "name": name} for name in SPACES})


def local_and_all(world: World) -> list[Pod]:
    return [one for one in map(pod_of, world.pods) if one is not None]


def built(world: World, index: PeerIndex | None = None) -> Ruleset:
    known = local_and_all(world)
    wanted = isolation(map(policy_of, world.policies), known)
    index = index or PeerIndex(lambda: known, world.namespaces.get)
    index.want(wanted.pod_sets)
    return ruleset(wanted, index, ())


def connections(world: World) -> list[tuple[str, str, str, int]]:
    pods = [entry["ip"] for one in world.pods for entry in one["status"]["podIPs"]]
    pairs = [
        (one, two)
        for one, two in itertools.product((*pods, *OUTSIDE), repeat=2)
        if (":" in one) == (":" in two) and (one in pods or two in pods)
    ]
    return [(*pair, protocol, port) for pair in pairs for protocol in ("TCP", "UDP", "SCTP") for port in PORTS]


@settings(max_examples=25, deadline=None)
@given(worlds())
def test_rules_and_judgement_say_what_the_oracle_says(world: World) -> None:
    table = Table()
    table.apply(replacement(built(world)))
    by_address = {address: one for one in local_and_all(world) for address in one.addresses}
    known = [policy_of(one) for one in world.policies]
    for source, target, protocol, port in connections(world):
        expected = oracle.allowed(world, source, target, protocol, port)
        case = (source, target, protocol, port)
        verdicts = judge(
            known,
            world.namespaces,
            Party(source, by_address.get(source)),
            Party(target, by_address.get(target)),
            protocol,
            port,
        )
        assert all(verdict.allowed for verdict in verdicts) == expected, (case, verdicts)
        assert table.passes(Packet(source, target, protocol.lower(), port)) == expected, case
        assert table.passes(Packet(source, target, protocol.lower(), port, state="reply")), case


@settings(max_examples=60, deadline=None)
@given(worlds(), worlds())
def test_a_change_leads_to_the_same_table_as_a_new_start(before: World, after: World) -> None:
    """Pods and policies change one by one in between, as they do."""
    spaces = dict(before.namespaces)
    present = {one.key: one for one in local_and_all(before)}
    index = PeerIndex(lambda: list(present.values()), spaces.get)
    table, old = Table(), built(before, index)
    table.apply(replacement(old))
    moving = World(before.pods, before.policies, spaces)
    goal = {one.key: one for one in local_and_all(after)}
    steps: list[World] = []
    for name, its_labels in after.namespaces.items():
        if spaces[name] != its_labels:
            spaces[name] = its_labels
            index.namespace_changed()
    for pod_key in {*present, *goal}:
        former, latter = present.pop(pod_key, None), goal.get(pod_key)
        if latter is not None:
            present[pod_key] = latter
        index.change(former, latter)
    for world in (World(after.pods, before.policies, spaces), World(after.pods, after.policies, spaces)):
        steps.append(world)
        new = built(world, index)
        table.apply(difference(old, new))
        assert difference(new, new) == ""
        old = new
    fresh = Table()
    fresh.apply(replacement(built(after)))
    assert (table.elements, table.maps, table.chains) == (fresh.elements, fresh.maps, fresh.chains)
    assert moving.namespaces is spaces
