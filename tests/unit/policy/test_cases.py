"""Policies as people write them, all pairs of nine pods: the rules say what the oracle says, and not too little."""

from __future__ import annotations

import itertools

import pytest

from agents.policy.model import pod_of, policy_of
from agents.policy.peers import PeerIndex
from agents.policy.render import replacement, ruleset
from agents.policy.ruleset import isolation
from agents.policy.verdict import Party, judge
from tests.support import policies
from tests.unit.policy import oracle
from tests.unit.policy.interpreter import Packet, Table

ADDRESSES = {key: f"10.244.{1 + number % 2}.{(number * 37) % 250 + 2}" for number, key in enumerate(policies.PODS)}
LABELS = {one["metadata"]["name"]: one["metadata"]["labels"] for one in policies.namespaces()}
PODS = [policies.pod(key, "", address) for key, address in ADDRESSES.items()]


@pytest.mark.parametrize("case", policies.CASES)
def test_all_pairs(case: str) -> None:
    world = oracle.World(PODS, policies.CASES[case](ADDRESSES), LABELS)
    known = [pod for pod in map(pod_of, PODS) if pod is not None]
    parsed = [policy_of(one) for one in world.policies]
    wanted = isolation(parsed, known)
    index = PeerIndex(lambda: known, LABELS.get)
    index.want(wanted.pod_sets)
    table = Table()
    table.apply(replacement(ruleset(wanted, index, ())))
    by_address = {pod.addresses[0]: pod for pod in known}
    outcomes = set()
    for (source, target), protocol, port in itertools.product(
        itertools.product(by_address, repeat=2), ("TCP", "UDP", "SCTP"), policies.NUMBERS
    ):
        expected = oracle.allowed(world, source, target, protocol, port)
        outcomes.add(expected)
        assert table.passes(Packet(source, target, protocol.lower(), port)) == expected, (source, target, port)
        ends = Party(source, by_address[source]), Party(target, by_address[target])
        verdicts = judge(parsed, LABELS, *ends, protocol, port)
        assert all(one.allowed for one in verdicts) == expected, verdicts
    assert outcomes == {True, False}
