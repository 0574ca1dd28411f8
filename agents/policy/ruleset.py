"""What the kernel shall have for the pods of this host. Pure.

Each isolated pod's address leads to one chain for egress and one for ingress; pods of the same policies (and the same
numbers for their ports' names) share theirs. A chain has one rule for each peers and ports of a policy's rule, and
drops what none of them allows. So a packet costs two look-ups and the rules of its own pod, however many pods and
policies there are, and a pod that gets or loses a label is an element of some sets more or less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agents.policy.addresses import BlockSet, PodSet, block_set, family_of, merged
from agents.policy.model import ALL_PODS, EGRESS, INGRESS, Pod, Policy, Ports, Rule

FAMILIES = (4, 6)
DIRECTIONS = (INGRESS, EGRESS)


@dataclass(frozen=True, slots=True)
class Match:
    """One way for a connection to be allowed: its peer is in ``addresses`` (None: anybody), its port in ``ports``
    (None: whatever it is). ``policy`` is the key of the policy that says so."""

    policy: str
    addresses: PodSet | BlockSet | None = None
    ports: tuple[Ports, ...] | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """What pods of one set of policies admit in one direction and family."""

    direction: str
    family: int
    policies: tuple[str, ...]
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Isolation:
    """Everything that follows from policies and this host's pods; the elements of pod sets are kept elsewhere."""

    dispatch: Mapping[tuple[str, int], Mapping[str, Chain]] = field(default_factory=dict)
    """(direction, family) -> address of a pod -> its chain."""

    @property
    def chains(self) -> frozenset[Chain]:
        """Every chain that is used."""
        return frozenset(chain for led in self.dispatch.values() for chain in led.values())

    @property
    def sets(self) -> frozenset[PodSet | BlockSet]:
        """Every set that chains refer to."""
        return frozenset(
            match.addresses for chain in self.chains for match in chain.matches if match.addresses is not None
        )

    @property
    def pod_sets(self) -> frozenset[PodSet]:
        """Those whose elements depend on pods of the cluster."""
        return frozenset(one for one in self.sets if isinstance(one, PodSet))

    @property
    def addresses(self) -> frozenset[str]:
        """Of all isolated pods."""
        return frozenset(address for led in self.dispatch.values() for address in led)


def isolation(policies: Iterable[Policy], pods: Iterable[Pod]) -> Isolation:
    """Of the pods of this host."""
    by_namespace: dict[str, list[Policy]] = {}
    for policy in sorted(policies, key=lambda one: one.key):
        by_namespace.setdefault(policy.namespace, []).append(policy)
    dispatch: dict[tuple[str, int], dict[str, Chain]] = {}
    made: dict[Chain, Chain] = {}
    for pod in sorted(pods, key=lambda one: one.key):
        selecting = [policy for policy in by_namespace.get(pod.namespace, ()) if policy.pods.matches(pod.labels)]
        for address in pod.addresses:
            family = family_of(address)
            for direction in DIRECTIONS:
                chain = chain_of(pod, selecting, direction, family)
                if chain is not None:
                    dispatch.setdefault((direction, family), {})[address] = made.setdefault(chain, chain)
    return Isolation(dispatch)


def chain_of(pod: Pod, selecting: Sequence[Policy], direction: str, family: int) -> Chain | None:
    """None when none of the policies that select the pod isolates it in this direction."""
    isolating = [policy for policy in selecting if policy.rules(direction) is not None]
    if not isolating:
        return None
    matches = dict.fromkeys(
        match
        for policy in isolating
        for rule in policy.rules(direction) or ()
        for match in _matches(policy.key, rule, pod, direction, family)
    )
    return Chain(direction, family, tuple(policy.key for policy in isolating), tuple(matches))


def _matches(policy: str, rule: Rule, pod: Pod, direction: str, family: int) -> Iterator[Match]:
    ports = set(rule.ports)
    if direction == INGRESS:
        # The pod itself is connected to: it says which numbers the names mean.
        ports |= {Ports(named.protocol, n, n) for named in rule.named for n in pod.ports.get(named, ())}
    wanted = None if rule.any_port else _ordered(ports)
    if wanted is None or wanted:
        if rule.anybody:
            yield Match(policy, None, wanted)
        if rule.peers:
            yield Match(policy, PodSet(rule.peers, family), wanted)
        if (blocks := block_set(rule.blocks, family)) is not None:
            yield Match(policy, None if blocks.everything else blocks, wanted)
    if direction == EGRESS:
        # Here each pod that is connected to has numbers of its own; what is no pod has no names for ports.
        meant = frozenset({ALL_PODS}) if rule.anybody else rule.peers
        for named in sorted(rule.named):
            if meant:
                yield Match(policy, PodSet(meant, family, named))


def _ordered(ports: Iterable[Ports]) -> tuple[Ports, ...]:
    """The same ports, without overlaps: nft takes none within one set."""
    by_protocol: dict[str, list[Ports]] = {}
    for one in ports:
        by_protocol.setdefault(one.protocol, []).append(one)
    found: list[Ports] = []
    for protocol, listed in sorted(by_protocol.items()):
        if any(one.first == 0 for one in listed):
            found.append(Ports(protocol))
        else:
            found += (Ports(protocol, *both) for both in merged((one.first, one.last) for one in listed))
    return tuple(found)
