"""Whether a pod fits on this host beside those that are here already, as the kubelet asks of every new pod. Pure.

The scheduler sees to this for pods that it places; this is for those that name their node themselves, and for two
schedulers that chose the same room. Reference: k8s.io/kubernetes ``pkg/kubelet/lifecycle`` (predicate admission).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agents.pods.containers import spec_of
from agents.pods.memory import Doom
from agents.pods.preemption import NoVictims, victims
from agents.pods.refusal import port_conflict, refused
from agents.resources.amounts import Amounts, add, amounts_of, requests_of
from agents.resources.quality import is_critical, is_static
from orca.api.objects import Obj, labels, name
from orca.api.selectors import Requirement

_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource of which the node has too little left."""

    resource: str
    wanted: int
    used: int
    capacity: int

    @property
    def missing(self) -> int:
        return self.wanted - (self.capacity - self.used)

    @property
    def doom(self) -> Doom:
        """How the pod is refused for it."""
        numbers = f"requested: {self.wanted}, used: {self.used}, capacity: {self.capacity}"
        return refused(f"OutOf{self.resource}", f"Node didn't have enough resource: {self.resource}, {numbers}")


def admission(
    pod: Obj, others: Sequence[Obj], node: Obj | None, ending: Sequence[Obj] = ()
) -> tuple[Doom | None, list[Obj]]:
    """Why the pod may not join ``others`` on ``node`` (None while that is unknown: then only ports are compared), and
    which of them have to end first, because it is critical and has no room otherwise. ``ending`` are those of the
    others that this host is ending already."""
    if node is None:
        return port_conflict(pod, others), []
    short = shortages(pod, others, node)
    misplaced = _affinity(pod, node) or port_conflict(pod, others) or _taints(pod, node)
    if not short:
        return misplaced, []
    if not is_critical(pod):
        return short[0].doom, []
    if misplaced is not None:
        return misplaced, []
    staying = [other for other in others if other not in ending]
    try:
        missing = {one.resource: one.missing for one in shortages(pod, staying, node)}
        return None, [*ending, *victims(pod, staying, missing)]
    except NoVictims as error:
        text = "Unexpected error while attempting to recover from admission failure: "
        text += f"preemption: error finding a set of pods to preempt: {error}"
        return refused("UnexpectedAdmissionError", text), []


# --- resources


def shortages(pod: Obj, others: Sequence[Obj], node: Obj) -> list[Shortage]:
    """What the node has too little of for ``pod`` beside ``others``."""
    found = []
    capacity = amounts_of((node.get("status") or {}).get("allocatable") or {})
    if "pods" in capacity and len(others) + 1 > capacity["pods"]:
        found.append(Shortage("pods", 1, len(others), capacity["pods"]))
    wanted = requests_of(pod)
    used: Amounts = {}
    for other in others if wanted else ():
        add(used, requests_of(other))
    # The kubelet's order, so that it is the same resource that is named.
    first = ("cpu", "memory", "ephemeral-storage")
    for resource in sorted(wanted, key=lambda one: (first.index(one) if one in first else len(first), one)):
        if resource not in capacity and (not capacity or "/" in resource):
            continue  # unknown here: somebody else's to manage
        has = capacity.get(resource, 0)
        if used.get(resource, 0) + wanted[resource] > has:
            found.append(Shortage(resource, wanted[resource], used.get(resource, 0), has))
    return found


# --- where it wants to be, and where it is not wanted


def _affinity(pod: Obj, node: Obj) -> Doom | None:
    spec, have = spec_of(pod), labels(node)
    chosen = all(have.get(key) == value for key, value in (spec.get("nodeSelector") or {}).items())
    by_node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    rules = by_node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if chosen and (rules is None or selects(rules, node)):
        return None
    return refused("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")


def selects(selector: Obj, node: Obj) -> bool:
    """Whether a node selector (``nodeSelectorTerms``) has the node among those it names."""
    return any(_matches(term, node) for term in selector.get("nodeSelectorTerms") or ())


def _matches(term: Obj, node: Obj) -> bool:
    expressions, fields = _parsed(term.get("matchExpressions")), _parsed(term.get("matchFields"))
    if not expressions and not fields:
        return False
    named = {"metadata.name": name(node)}
    return all(one.matches(labels(node)) for one in expressions) and all(one.matches(named) for one in fields)


def _parsed(expressions: Iterable[Obj] | None) -> list[Requirement]:
    return [
        Requirement(one["key"], _OPERATORS[one["operator"]], frozenset(one.get("values") or ()))
        for one in expressions or ()
    ]


def _taints(pod: Obj, node: Obj) -> Doom | None:
    if is_static(pod):
        return None
    tolerations = spec_of(pod).get("tolerations") or ()
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint.get("effect") == "NoExecute" and not any(_tolerates(one, taint) for one in tolerations):
            text = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
            return refused("TaintToleration", text)
    return None


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    same: bool = (toleration.get("value") or "") == (taint.get("value") or "")
    return (toleration.get("operator") or "Equal") == "Equal" and same
