"""Which nodes run a DaemonSet's pod. Pure."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca.api.objects import Obj, labels, name
from orca.controllers.nodes.eviction import tolerates
from orca.controllers.nodes.taints import spec_of

_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Placement:
    """`start`: a pod should be made there; `stay`: one that is there may stay."""

    start: bool
    stay: bool


def tolerations_of(spec: Obj) -> list[Obj]:
    """The pod's own and those every daemon has: it does not leave a node because the node is in trouble."""
    found: list[Obj] = list(spec.get("tolerations") or ())
    for key, effect in (*_TOLERATED, *((_NETWORK,) if spec.get("hostNetwork") else ())):
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in found:
            found.append(toleration)
    return found


def place(spec: Obj, node: Obj) -> Placement:
    """`spec`: of the pod template."""
    if spec.get("nodeName") and spec["nodeName"] != name(node):
        return Placement(False, False)
    if not matches_node(spec, node):
        return Placement(False, False)
    tolerations = tolerations_of(spec)
    taints = [
        taint
        for taint in spec_of(node).get("taints") or ()
        if taint.get("effect") in ("NoSchedule", "NoExecute")
        and not any(tolerates(toleration, taint) for toleration in tolerations)
    ]
    return Placement(not taints, not any(taint["effect"] == "NoExecute" for taint in taints))


def matches_node(spec: Obj, node: Obj) -> bool:
    """`nodeSelector` and required node affinity."""
    selector: dict[str, str] = spec.get("nodeSelector") or {}
    if not selector.items() <= labels(node).items():
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_matches(term: Obj, node: Obj) -> bool:
    expressions: Sequence[Obj] = term.get("matchExpressions") or ()
    fields: Sequence[Obj] = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    names = {"metadata.name": name(node)}
    return all(_holds(one, labels(node)) for one in expressions) and all(_holds(one, names) for one in fields)


def _holds(requirement: Obj, values: Mapping[str, str]) -> bool:
    value = values.get(requirement["key"])
    listed: Sequence[str] = requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value is not None and value in listed
        case "NotIn":
            return value is None or value not in listed
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    try:
        left, right = int(value or ""), int(listed[0])
    except (ValueError, IndexError):
        return False
    return left > right if requirement["operator"] == "Gt" else left < right


def target_of(pod: Obj) -> str:
    """The node a daemon pod is on or meant for; "" when it says neither."""
    bound: str = pod["spec"].get("nodeName") or ""
    if bound:
        return bound
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field["operator"] == "In" and len(field["values"]) == 1:
                return str(field["values"][0])
    return ""


def aimed_at(spec: Obj, node: str) -> Obj:
    """The pod's spec with tolerations, and affinity to that one node, for the scheduler to bind."""
    made = copy.deepcopy(spec)
    made["tolerations"] = tolerations_of(spec)
    affinity = made.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    # In place of the template's terms: that the node meets them has been found out here.
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{"matchFields": fields}]}
    return made
