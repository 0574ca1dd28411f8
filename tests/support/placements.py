"""An independent judge of placements: the rules of scheduling in the plainest words, over objects as the API has them.

It shares no code with the scheduler: what both get wrong alike would not be seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

Obj = dict[str, Any]
_UNITS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def amount(quantity: str) -> Decimal:
    """A quantity as a number."""
    digits = quantity.rstrip("kMGTim")
    return Decimal(digits) * _UNITS[quantity[len(digits) :]]


def selected(selector: Obj | None, labels: Mapping[str, str]) -> bool:
    """A label selector; none selects nothing."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression(one, labels) for one in selector.get("matchExpressions") or ()
    )


def _expression(one: Obj, labels: Mapping[str, str]) -> bool:
    key, values = one["key"], one.get("values") or []
    match one["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    found = labels.get(key, "")
    if not found.lstrip("-").isdigit():
        return False
    return int(found) > int(values[0]) if one["operator"] == "Gt" else int(found) < int(values[0])


def _labels(obj: Obj) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def wants_node(pod: Obj, node: Obj) -> bool:
    """Node selector and required node affinity."""
    labels = _labels(node)
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    terms = (((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}).get(
        "nodeSelectorTerms"
    )
    if terms is None:
        return True
    named = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(_expression(one, labels) for one in term.get("matchExpressions") or ())
        and all(_expression(one, named) for one in term.get("matchFields") or ())
        for term in terms
    )


def endures(pod: Obj, node: Obj) -> bool:
    """Taints and the cordon."""
    taints = [one for one in node["spec"].get("taints") or () if one["effect"] in ("NoSchedule", "NoExecute")]
    if node["spec"].get("unschedulable"):
        taints = [*taints, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    return all(any(_tolerates(one, taint) for one in pod["spec"].get("tolerations") or ()) for taint in taints)


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _requests(pod: Obj) -> Counter[str]:
    total: Counter[str] = Counter({"pods": Decimal(1)})  # type: ignore[dict-item]
    for container in pod["spec"]["containers"]:
        for resource, quantity in ((container.get("resources") or {}).get("requests") or {}).items():
            total[resource] += amount(quantity)  # type: ignore[assignment]
    return total


def _ports(pod: Obj) -> set[tuple[str, int]]:
    return {
        (port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def overfull(node: Obj, pods: list[Obj]) -> list[str]:
    """Resources and host ports that a node has too little of for its pods."""
    used: Counter[str] = Counter()
    ports: Counter[tuple[str, int]] = Counter()
    for pod in pods:
        used.update(_requests(pod))
        ports.update(_ports(pod))
    room = node["status"]["allocatable"]
    short = [one for one, wanted in used.items() if wanted > amount(str(room.get(one, "0")))]
    return short + [f"port {number}" for (_, number), users in ports.items() if users > 1]


def _terms(pod: Obj, kind: str) -> list[Obj]:
    return list(((pod["spec"].get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or ())


def _about(term: Obj, owner: Obj, other: Obj) -> bool:
    spaces = term.get("namespaces") or [owner["metadata"].get("namespace")]
    return other["metadata"].get("namespace") in spaces and selected(term.get("labelSelector"), _labels(other))


Cluster = tuple[Mapping[str, Obj], Mapping[str, list[Obj]]]
"""(nodes by name, pods by the name of their node)"""


def _in_domain(cluster: Cluster, node: Obj, key: str) -> Iterable[Obj]:
    nodes, pods = cluster
    value = _labels(node).get(key)
    if value is None:
        return
    for name, there in pods.items():
        if _labels(nodes[name]).get(key) == value:
            yield from there


def broken_by(pod: Obj, node: Obj, cluster: Cluster) -> list[str]:
    """What would be broken if the pod, which is not in the cluster yet, were placed on a node."""
    nodes, pods = cluster
    name = node["metadata"]["name"]
    broken = [] if wants_node(pod, node) else ["node affinity"]
    broken += [] if endures(pod, node) else ["taints"]
    broken += overfull(node, [*pods.get(name, []), pod])
    everybody = [one for there in pods.values() for one in there]
    affinity = _terms(pod, "podAffinity")
    fitting = [one for one in everybody if all(_about(term, pod, one) for term in affinity)]
    first = not fitting and all(_about(term, pod, pod) for term in affinity)
    for term in affinity:
        near = list(_in_domain(cluster, node, term["topologyKey"]))
        if term["topologyKey"] not in _labels(node) or not (first or any(one in fitting for one in near)):
            broken.append("pod affinity")
    for term in _terms(pod, "podAntiAffinity"):
        if any(_about(term, pod, one) for one in _in_domain(cluster, node, term["topologyKey"])):
            broken.append("pod anti-affinity")
    for holder_node, there in pods.items():
        for one in there:
            for term in _terms(one, "podAntiAffinity"):
                key = term["topologyKey"]
                value = _labels(nodes[holder_node]).get(key)
                if value is not None and value == _labels(node).get(key) and _about(term, one, pod):
                    broken.append("another's anti-affinity")
    hard = [
        one
        for one in pod["spec"].get("topologySpreadConstraints") or ()
        if one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
    ]
    for constraint in hard:
        counts = spread_counts(pod, constraint, hard, cluster)
        key = constraint["topologyKey"]
        if any(one["topologyKey"] not in _labels(node) for one in hard):
            broken.append("spreading (no label)")
            continue
        itself = int(selected(constraint.get("labelSelector"), _labels(pod)))
        least = min(counts.values()) if len(counts) >= constraint.get("minDomains", 1) and counts else 0
        if counts.get(_labels(node)[key], 0) + itself - least > constraint["maxSkew"]:
            broken.append("spreading")
    return broken


def spread_counts(pod: Obj, constraint: Obj, hard: list[Obj], cluster: Cluster) -> dict[str, int]:
    """Matching pods of each domain of a constraint."""
    nodes, pods = cluster
    counts: dict[str, int] = {}
    for name, node in nodes.items():
        if any(one["topologyKey"] not in _labels(node) for one in hard):
            continue
        if constraint.get("nodeAffinityPolicy", "Honor") == "Honor" and not wants_node(pod, node):
            continue
        if constraint.get("nodeTaintsPolicy") == "Honor" and not endures(pod, {**node, "spec": _taints_only(node)}):
            continue
        value = _labels(node)[constraint["topologyKey"]]
        matching = [
            one
            for one in pods.get(name, [])
            if one["metadata"].get("namespace") == pod["metadata"].get("namespace")
            and selected(constraint.get("labelSelector"), _labels(one))
        ]
        counts[value] = counts.get(value, 0) + len(matching)
    return counts


def _taints_only(node: Obj) -> Obj:
    return {"taints": node["spec"].get("taints") or []}


def violations(nodes: Iterable[Obj], pods: Iterable[Obj]) -> list[str]:
    """What is wrong with a cluster that was filled without a node or pod going away, whatever the order: of anti-
    affinity, spreading and all that concerns one node. Its cost grows with pods, not with pods × nodes."""
    by_name = {node["metadata"]["name"]: {"spec": {}, **node} for node in nodes}
    there: dict[str, list[Obj]] = defaultdict(list)
    found = []
    for pod in pods:
        name = pod["spec"].get("nodeName") or ""
        if not name:
            continue
        told = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']} on {name}"
        node = by_name.get(name)
        if node is None:
            found.append(f"{told}: no such node")
            continue
        there[name].append(pod)
        found += [] if wants_node(pod, node) else [f"{told}: node affinity"]
        found += [] if endures(pod, node) else [f"{told}: taints"]
    for name, some in there.items():
        found += [f"{name}: too little {one}" for one in overfull(by_name[name], some)]
    return found + _between_pods(by_name, there)


def _between_pods(nodes: Mapping[str, Obj], there: Mapping[str, list[Obj]]) -> list[str]:
    found = []
    # By domain once for all, since pods of one workload ask the same of the same domains.
    domains: dict[str, dict[str, list[Obj]]] = {}

    def members(key: str, node: Obj) -> list[Obj]:
        if key not in domains:
            domains[key] = defaultdict(list)
            for name, some in there.items():
                value = _labels(nodes[name]).get(key)
                if value is not None:
                    domains[key][value] += some
        return domains[key].get(_labels(node).get(key, ""), [])

    matches: dict[tuple[str, str], int] = {}

    def count(term: Obj, owner: Obj, node: Obj) -> int:
        space, value = owner["metadata"].get("namespace"), _labels(node).get(term["topologyKey"])
        question = (repr((term, space)), str(value))
        if question not in matches:
            matches[question] = sum(1 for one in members(term["topologyKey"], node) if _about(term, owner, one))
        return matches[question]

    lonely: Counter[str] = Counter()
    spreads: dict[str, tuple[Obj, Obj, list[Obj]]] = {}
    for name, some in there.items():
        for pod in some:
            told = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']} on {name}"
            for term in _terms(pod, "podAntiAffinity"):
                if count(term, pod, nodes[name]) > int(_about(term, pod, pod)):
                    found.append(f"{told}: pod anti-affinity")
            for term in _terms(pod, "podAffinity"):
                itself = int(_about(term, pod, pod))
                if count(term, pod, nodes[name]) > itself:
                    continue
                lonely[repr(term)] += 1
                if not itself or lonely[repr(term)] > 1:
                    found.append(f"{told}: pod affinity")
            hard = [
                one
                for one in pod["spec"].get("topologySpreadConstraints") or ()
                if one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
            ]
            for one in hard:
                spreads[repr((one, pod["metadata"].get("namespace"), pod["spec"].get("nodeSelector")))] = pod, one, hard
    for pod, constraint, hard in spreads.values():
        counts = spread_counts(pod, constraint, hard, (nodes, there))
        if counts and max(counts.values()) - min(counts.values()) > constraint["maxSkew"]:
            found.append(f"spreading over {constraint['topologyKey']}: {counts}")
    return found
