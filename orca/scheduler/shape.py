"""What a pod asks for, parsed once for all pods of one shape (a ReplicaSet's pods share one).

Reference: kube-scheduler's computePodResourceRequest and k8s.io/component-helpers resource helpers (facts only).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from orca.api.objects import Obj
from orca.api.podsizes import Sizes, held, held_whole
from orca.api.quantity import parse_cpu_milli, parse_int
from orca.api.selectors import Requirement, Selector, from_label_selector

Requests = dict[str, int]
"""Resource name -> amount: cpu in thousandths, everything else in bytes or pieces."""

NONZERO_CPU = 100
NONZERO_MEMORY = 200 * 1024 * 1024
"""What a container that asks for nothing is counted as when nodes are compared."""

HostPort = tuple[str, str, int]
"""(host IP, protocol, port)"""

_NODE_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One nodeSelectorTerm: all labels and all fields (only metadata.name exists). An empty one matches nothing."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def matches(self, name: str, labels: dict[str, str]) -> bool:
        if not self.labels and not self.fields:
            return False
        named = {"metadata.name": name}
        return all(one.matches(labels) for one in self.labels) and all(one.matches(named) for one in self.fields)


@dataclass(frozen=True, slots=True)
class PodTerm:
    """One (anti-)affinity term. `namespaces` None: chosen by `namespace_selector`."""

    selector: Selector
    topology_key: str
    namespaces: frozenset[str]
    namespace_selector: Selector | None
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """One topology spread constraint. `hard`: DoNotSchedule."""

    topology_key: str
    max_skew: int
    selector: Selector
    hard: bool
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The scheduling-relevant part of a pod. Identity is equality: one instance a shape."""

    requests: Requests
    nonzero: tuple[int, int]
    ports: tuple[HostPort, ...]
    images: tuple[str, ...]
    containers: int
    selector: tuple[Requirement, ...]
    required_nodes: tuple[NodeTerm, ...] | None
    preferred_nodes: tuple[tuple[int, NodeTerm], ...]
    tolerations: tuple[Obj, ...]
    affinity: tuple[PodTerm, ...]
    anti_affinity: tuple[PodTerm, ...]
    preferred_affinity: tuple[PodTerm, ...]
    spread: tuple[Spread, ...]


def shape_of(pod: Obj) -> Shape:
    """The shape of a pod; the same instance for pods that ask for the same."""
    spec = pod["spec"]
    metadata = pod["metadata"]
    # A pod that is being resized holds the most of what it had and what it wants.
    counted = held(pod) if spec.get("nodeName") else {}
    containers = [_asked(one, counted) for one in spec.get("containers") or ()]
    initial = [_asked(one, counted) for one in spec.get("initContainers") or ()]
    relevant = {
        "containers": containers,
        "initContainers": initial,
        "labels": metadata.get("labels") if spec.get("topologySpreadConstraints") else None,
        "namespace": metadata.get("namespace") if spec.get("affinity") else None,
    }
    for part in ("affinity", "nodeSelector", "tolerations", "topologySpreadConstraints", "overhead", "resources"):
        if spec.get(part):
            relevant[part] = spec[part]
    if spec.get("resources") and spec.get("nodeName"):
        relevant["resources"] = held_whole(pod)
    return _parse(orjson.dumps(relevant, option=orjson.OPT_SORT_KEYS))


def _asked(container: Obj, counted: Mapping[str, Mapping[str, Sizes]]) -> Obj:
    sizes = counted.get(container.get("name") or "") or container.get("resources") or {}
    requests = sizes.get("requests") or {}
    ports = [port for port in container.get("ports") or () if port.get("hostPort")]
    return {"r": requests, "p": ports, "i": container.get("image", ""), "s": container.get("restartPolicy", "")}


@lru_cache(maxsize=4096)
def _parse(relevant: bytes) -> Shape:
    spec = orjson.loads(relevant)
    affinity = spec.get("affinity") or {}
    nodes = affinity.get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    space = spec.get("namespace") or ""
    requests = _requests(spec)
    ports = [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in [*spec["containers"], *(one for one in spec["initContainers"] if one["s"] == "Always")]
        for port in container["p"]
    ]
    pods = affinity.get("podAffinity") or {}
    anti = affinity.get("podAntiAffinity") or {}
    return Shape(
        requests=requests,
        nonzero=_nonzero(spec, requests),
        ports=tuple(ports),
        images=tuple(container["i"] for container in spec["containers"]),
        containers=len(spec["containers"]),
        selector=tuple(
            Requirement(key, "in", frozenset((value,))) for key, value in (spec.get("nodeSelector") or {}).items()
        ),
        required_nodes=tuple(map(node_term, required.get("nodeSelectorTerms") or ())) if required else None,
        preferred_nodes=tuple(
            (int(term["weight"]), node_term(term.get("preference") or {}))
            for term in nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        tolerations=tuple(spec.get("tolerations") or ()),
        affinity=_pod_terms(pods.get("requiredDuringSchedulingIgnoredDuringExecution"), space),
        anti_affinity=_pod_terms(anti.get("requiredDuringSchedulingIgnoredDuringExecution"), space),
        preferred_affinity=_weighted(pods, space, 1) + _weighted(anti, space, -1),
        spread=tuple(_spread(one, spec.get("labels") or {}) for one in spec.get("topologySpreadConstraints") or ()),
    )


def amounts(quantities: dict[str, Any]) -> Requests:
    """Parsed resource quantities; what cannot be read counts as nothing."""
    found: Requests = {}
    for name, quantity in quantities.items():
        try:
            found[name] = parse_cpu_milli(quantity) if name == "cpu" else parse_int(quantity)
        except ValueError:
            found[name] = 0
    return found


def _requests(spec: Obj) -> Requests:
    """Containers run together, ordinary init containers one after the other beside the sidecars before them."""
    total: Requests = {}
    for container in spec["containers"]:
        _add(total, amounts(container["r"]))
    sidecars: Requests = {}
    peak: Requests = {}
    for container in spec["initContainers"]:
        asked = amounts(container["r"])
        if container["s"] == "Always":
            _add(sidecars, asked)
            _raise(peak, sidecars)
        else:
            _add(asked, sidecars)
            _raise(peak, asked)
    _add(total, sidecars)
    _raise(total, peak)
    total.update(amounts((spec.get("resources") or {}).get("requests") or {}))
    _add(total, amounts(spec.get("overhead") or {}))
    return {name: amount for name, amount in total.items() if amount}


def _add(total: Requests, more: Requests) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Requests, other: Requests) -> None:
    for name, amount in other.items():
        total[name] = max(total.get(name, 0), amount)


def _nonzero(spec: Obj, requests: Requests) -> tuple[int, int]:
    cpu = memory = 0
    for container in spec["containers"]:
        asked = amounts(container["r"])
        cpu += asked.get("cpu", NONZERO_CPU)
        memory += asked.get("memory", NONZERO_MEMORY)
    return max(cpu, requests.get("cpu", 0)), max(memory, requests.get("memory", 0))


def node_term(term: Obj) -> NodeTerm:
    """A nodeSelectorTerm."""
    return NodeTerm(_requirements(term.get("matchExpressions")), _requirements(term.get("matchFields")))


def _requirements(expressions: Any) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(one["key"], _NODE_OPERATORS[one["operator"]], frozenset(one.get("values") or ()))
        for one in expressions or ()
    )


def _pod_terms(terms: Any, space: str, weight: int = 0) -> tuple[PodTerm, ...]:
    found = []
    for term in terms or ():
        chosen = term.get("namespaceSelector")
        named = frozenset(term.get("namespaces") or (() if chosen is not None else (space,)))
        found.append(
            PodTerm(
                selector=from_label_selector(term.get("labelSelector")),
                topology_key=term["topologyKey"],
                namespaces=named,
                namespace_selector=from_label_selector(chosen) if chosen is not None else None,
                weight=weight,
            )
        )
    return tuple(found)


def _weighted(section: Obj, space: str, sign: int) -> tuple[PodTerm, ...]:
    found: tuple[PodTerm, ...] = ()
    for term in section.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
        found += _pod_terms([term["podAffinityTerm"]], space, sign * int(term["weight"]))
    return found


def _spread(constraint: Obj, labels: dict[str, str]) -> Spread:
    selector = from_label_selector(constraint.get("labelSelector"))
    added = tuple(
        Requirement(key, "in", frozenset((labels[key],)))
        for key in constraint.get("matchLabelKeys") or ()
        if key in labels
    )
    if added and not selector.nothing:
        selector = Selector(tuple(sorted(selector.requirements + added, key=lambda one: one.key)))
    return Spread(
        topology_key=constraint["topologyKey"],
        max_skew=int(constraint["maxSkew"]),
        selector=selector,
        hard=constraint.get("whenUnsatisfiable") != "ScheduleAnyway",
        min_domains=int(constraint.get("minDomains") or 1),
        honor_affinity=constraint.get("nodeAffinityPolicy") != "Ignore",
        honor_taints=constraint.get("nodeTaintsPolicy") == "Honor",
    )
