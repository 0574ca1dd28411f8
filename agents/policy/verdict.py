"""May this connection be? Judged from policies alone, with the reasons; for explanations, not for packets. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agents.policy.model import EGRESS, INGRESS, Pod, Policy, Rule

Namespaces = Mapping[str, Mapping[str, str]]
"""name -> labels"""


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a connection: an address, and the pod that has it if it is one's."""

    address: str
    pod: Pod | None = None
    own_node: bool = False
    """It is the host that the pod on the other end runs on."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one direction. Without ``isolating`` policies everything is allowed."""

    direction: str
    allowed: bool
    isolating: tuple[str, ...] = ()
    """Keys of the policies that select the pod for this direction."""
    allowing: tuple[str, ...] = ()
    """Keys of those of them that allow the connection."""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.direction}: {'allowed' if self.allowed else 'denied'}: {self.reason}"


def judge(
    policies: Iterable[Policy], namespaces: Namespaces, source: Party, target: Party, protocol: str, port: int
) -> tuple[Verdict, Verdict]:
    """What the egress of ``source`` and the ingress of ``target`` say; the connection needs both.

    ``target`` is the endpoint that a service leads to, never the service. ``port`` is the one of the target.
    """
    known = tuple(policies)
    return (
        _direction(EGRESS, known, namespaces, source, target, protocol, port, target),
        _direction(INGRESS, known, namespaces, target, source, protocol, port, target),
    )


def _direction(
    direction: str,
    policies: tuple[Policy, ...],
    namespaces: Namespaces,
    subject: Party,
    peer: Party,
    protocol: str,
    port: int,
    target: Party,
) -> Verdict:
    pod = subject.pod
    if pod is None:
        return Verdict(direction, True, reason=f"{subject.address} is no pod that policies concern")
    if peer.pod is not None and peer.pod.key == pod.key:
        return Verdict(direction, True, reason="a pod always reaches itself")
    if peer.own_node:
        return Verdict(direction, True, reason="a pod and the host it runs on always reach each other")
    isolating = [policy for policy in policies if policy.rules(direction) is not None and policy.selects(pod)]
    names = tuple(policy.key for policy in isolating)
    if not isolating:
        return Verdict(direction, True, reason=f"no policy isolates {pod.key}")
    allowing = tuple(
        policy.key
        for policy in isolating
        if any(
            _has_peer(rule, namespaces, peer) and _has_port(rule, protocol, port, target)
            for rule in policy.rules(direction) or ()
        )
    )
    if allowing:
        return Verdict(direction, True, names, allowing, f"allowed by {', '.join(allowing)}")
    return Verdict(direction, False, names, (), f"{pod.key} is isolated by {', '.join(names)}, and none allows it")


def _has_peer(rule: Rule, namespaces: Namespaces, peer: Party) -> bool:
    if rule.anybody:
        return True
    pod = peer.pod
    if pod is not None and any(
        one.covers_namespace(pod.namespace, namespaces.get(pod.namespace)) and one.pods.matches(pod.labels)
        for one in rule.peers
    ):
        return True
    address = ipaddress.ip_address(peer.address)
    return any(block.contains(address) for block in rule.blocks)


def _has_port(rule: Rule, protocol: str, port: int, target: Party) -> bool:
    if rule.any_port or any(one.covers(protocol, port) for one in rule.ports):
        return True
    numbers = target.pod.ports if target.pod is not None else {}
    return any(one.protocol == protocol and port in numbers.get(one, ()) for one in rule.named)
