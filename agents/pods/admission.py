"""Whether a pod fits on this host beside those that are here already, as the kubelet asks of every new pod. Pure.

The scheduler sees to this for pods that it places; this is for those that name their node themselves, and for two
schedulers that chose the same room. Reference: k8s.io/kubernetes ``pkg/kubelet/lifecycle`` (predicate admission).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agents.pods.containers import init_containers, is_sidecar, main_containers, spec_of
from agents.pods.memory import Doom
from agents.pods.refusal import port_conflict, refused
from orca.api.objects import Obj, labels, name
from orca.api.quantity import parse_cpu_milli, parse_int
from orca.api.selectors import Requirement

Amounts = dict[str, int]
"""Resource name -> cpu in thousandths, everything else in bytes or pieces."""

_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


def admission(pod: Obj, others: Sequence[Obj], node: Obj | None) -> Doom | None:
    """Why the pod may not join ``others`` on ``node`` (None while that is unknown: then only ports are compared)."""
    if node is None:
        return port_conflict(pod, others)
    return _room(pod, others, node) or _affinity(pod, node) or port_conflict(pod, others) or _taints(pod, node)


# --- resources


def _room(pod: Obj, others: Sequence[Obj], node: Obj) -> Doom | None:
    capacity = amounts_of((node.get("status") or {}).get("allocatable") or {})
    if "pods" in capacity and len(others) + 1 > capacity["pods"]:
        return _short("pods", 1, len(others), capacity["pods"])
    wanted = requests_of(pod)
    used: Amounts = {}
    for other in others if wanted else ():
        _add(used, requests_of(other))
    # The kubelet's order, so that it is the same resource that is named.
    for resource in sorted(wanted, key=lambda one: (one != "cpu", one != "memory", one)):
        if resource not in capacity and (not capacity or "/" in resource):
            continue  # unknown here: somebody else's to manage
        has = capacity.get(resource, 0)
        if used.get(resource, 0) + wanted[resource] > has:
            return _short(resource, wanted[resource], used.get(resource, 0), has)
    return None


def _short(resource: str, wanted: int, used: int, capacity: int) -> Doom:
    numbers = f"requested: {wanted}, used: {used}, capacity: {capacity}"
    return refused(f"OutOf{resource}", f"Node didn't have enough resource: {resource}, {numbers}")


def requests_of(pod: Obj) -> Amounts:
    """What a pod takes: its main containers and sidecars together, or an init container beside the sidecars before it
    when that is more, and its overhead."""
    total: Amounts = {}
    for container in main_containers(pod):
        _add(total, _asked(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in init_containers(pod):
        asked = _asked(container)
        if is_sidecar(container):
            _add(sidecars, asked)
            asked = sidecars
        else:
            _add(asked, sidecars)
        for resource, amount in asked.items():
            peak[resource] = max(peak.get(resource, 0), amount)
    _add(total, sidecars)
    for resource, amount in peak.items():
        total[resource] = max(total.get(resource, 0), amount)
    _add(total, amounts_of(spec_of(pod).get("overhead") or {}))
    return {resource: amount for resource, amount in total.items() if amount}


def _asked(container: Obj) -> Amounts:
    return amounts_of((container.get("resources") or {}).get("requests") or {})


def amounts_of(quantities: Obj) -> Amounts:
    """Parsed quantities."""
    return {one: parse_cpu_milli(text) if one == "cpu" else parse_int(text) for one, text in quantities.items()}


def _add(total: Amounts, more: Amounts) -> None:
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0) + amount


# --- where it wants to be, and where it is not wanted


def _affinity(pod: Obj, node: Obj) -> Doom | None:
    spec, have = spec_of(pod), labels(node)
    chosen = all(have.get(key) == value for key, value in (spec.get("nodeSelector") or {}).items())
    by_node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    rules = by_node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if chosen and (rules is None or any(_matches(term, node) for term in rules.get("nodeSelectorTerms") or ())):
        return None
    return refused("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")


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
