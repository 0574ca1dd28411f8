"""Arguments of plugins (``pluginConfig``): one function a plugin, from the object to what rules are made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orca.api.objects import Obj
from orca.scheduler.config.reading import ConfigurationInvalid, flag, items, mapping, number, one_of, text
from orca.scheduler.filters.pod_topology_spread import SYSTEM, Defaults
from orca.scheduler.profile import BIND_SECONDS, TRIED, PreemptionArgs
from orca.scheduler.scores.resources import CPU_AND_MEMORY, LEAST, MOST, RATIO, SCORED, FitStrategy
from orca.scheduler.shape import NodeTerm, node_term

Resources = tuple[tuple[str, int], ...]
_TYPE = frozenset(("apiVersion", "kind"))


@dataclass(slots=True)
class Arguments:
    """All arguments of one profile; what is not given is as kube-scheduler has it."""

    ignored: frozenset[str] = frozenset()
    ignored_groups: frozenset[str] = frozenset()
    strategy: FitStrategy = SCORED
    balanced: Resources = CPU_AND_MEMORY
    spread: Defaults = SYSTEM
    hard_weight: int = 1
    ignore_existing: bool = False
    required_nodes: tuple[NodeTerm, ...] | None = None
    preferred_nodes: tuple[tuple[int, NodeTerm], ...] = ()
    bind_seconds: float = BIND_SECONDS
    preemption: PreemptionArgs = TRIED


def take(into: Arguments, plugin: str, args: Any, path: str) -> None:
    """Raises ConfigurationInvalid."""
    reader = _READERS.get(plugin)
    if reader is None:
        raise ConfigurationInvalid(f'{path}: plugin "{plugin}" takes no arguments')
    if isinstance(args, dict) and args.get("kind") not in (None, f"{plugin}Args"):
        raise ConfigurationInvalid(f"{path}.kind: {args['kind']!r} is not {plugin}Args")
    reader(into, args, path)


def _fit(into: Arguments, args: Any, path: str) -> None:
    given = mapping(args, path, _TYPE | {"ignoredResources", "ignoredResourceGroups", "scoringStrategy"})
    ignored = items(given.get("ignoredResources"), path)
    into.ignored = frozenset(text(one, f"{path}.ignoredResources") for one in ignored)
    groups = items(given.get("ignoredResourceGroups"), path)
    into.ignored_groups = frozenset(text(one, f"{path}.ignoredResourceGroups") for one in groups)
    if any("/" in one for one in into.ignored_groups):
        raise ConfigurationInvalid(f"{path}.ignoredResourceGroups: a group has no /")
    path = f"{path}.scoringStrategy"
    wanted = mapping(given.get("scoringStrategy"), path, {"type", "resources", "requestedToCapacityRatio"})
    kind = one_of(wanted.get("type", LEAST), f"{path}.type", (LEAST, MOST, RATIO))
    shape: tuple[tuple[int, int], ...] = ()
    if kind == RATIO:
        shape = _shape(wanted.get("requestedToCapacityRatio"), f"{path}.requestedToCapacityRatio")
    elif wanted.get("requestedToCapacityRatio") is not None:
        raise ConfigurationInvalid(f"{path}.requestedToCapacityRatio: only with type {RATIO}")
    into.strategy = FitStrategy(kind, _resources(wanted.get("resources"), f"{path}.resources"), shape)


def _shape(value: Any, path: str) -> tuple[tuple[int, int], ...]:
    points: list[tuple[int, int]] = []
    for at, one in enumerate(items(mapping(value, path, {"shape"}).get("shape"), f"{path}.shape")):
        where = f"{path}.shape[{at}]"
        point = mapping(one, where, {"utilization", "score"})
        used = number(point.get("utilization", 0), f"{where}.utilization", 0, 100)
        if points and used <= points[-1][0]:
            raise ConfigurationInvalid(f"{where}.utilization: must be greater than the one before")
        points.append((used, number(point.get("score", 0), f"{where}.score", 0, 10)))
    if not points:
        raise ConfigurationInvalid(f"{path}.shape: at least one point must be specified")
    return tuple(points)


def _resources(value: Any, path: str, most: int = 100) -> Resources:
    found: dict[str, int] = {}
    for at, one in enumerate(items(value, path)):
        where = f"{path}[{at}]"
        given = mapping(one, where, {"name", "weight"})
        named = text(given.get("name"), f"{where}.name")
        if named in found:
            raise ConfigurationInvalid(f'{where}.name: "{named}" is there twice')
        found[named] = number(given.get("weight") or 1, f"{where}.weight", 1, most)
    return tuple(found.items()) or CPU_AND_MEMORY


def _balanced(into: Arguments, args: Any, path: str) -> None:
    given = mapping(args, path, _TYPE | {"resources"})
    into.balanced = _resources(given.get("resources"), f"{path}.resources", most=1)


def _spread(into: Arguments, args: Any, path: str) -> None:
    given = mapping(args, path, _TYPE | {"defaultConstraints", "defaultingType"})
    listed = items(given.get("defaultConstraints"), f"{path}.defaultConstraints")
    kind = one_of(given.get("defaultingType", "System"), f"{path}.defaultingType", ("System", "List"))
    if kind == "System":
        if listed:
            raise ConfigurationInvalid(f"{path}.defaultConstraints: only with defaultingType List")
        return
    found = []
    for at, one in enumerate(listed):
        where = f"{path}.defaultConstraints[{at}]"
        if isinstance(one, dict) and one.get("labelSelector") is not None:
            raise ConfigurationInvalid(f"{where}.labelSelector: must not be set; pods are counted by their owner's")
        constraint = mapping(one, where, {"maxSkew", "topologyKey", "whenUnsatisfiable"})
        action = one_of(
            constraint.get("whenUnsatisfiable"), f"{where}.whenUnsatisfiable", ("DoNotSchedule", "ScheduleAnyway")
        )
        skew = number(constraint.get("maxSkew"), f"{where}.maxSkew", 1, 2**31 - 1)
        found.append((text(constraint.get("topologyKey"), f"{where}.topologyKey"), skew, action == "DoNotSchedule"))
    if len({(key, hard) for key, _, hard in found}) != len(found):
        raise ConfigurationInvalid(f"{path}.defaultConstraints: a topologyKey and whenUnsatisfiable are there twice")
    into.spread = Defaults(tuple(found), system=False)


def _pods(into: Arguments, args: Any, path: str) -> None:
    given = mapping(args, path, _TYPE | {"hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods"})
    into.hard_weight = number(given.get("hardPodAffinityWeight", 1), f"{path}.hardPodAffinityWeight", 0, 100)
    ignore = given.get("ignorePreferredTermsOfExistingPods", False)
    into.ignore_existing = flag(ignore, f"{path}.ignorePreferredTermsOfExistingPods")


def _nodes(into: Arguments, args: Any, path: str) -> None:
    required, preferred = (f"{kind}DuringSchedulingIgnoredDuringExecution" for kind in ("required", "preferred"))
    path = f"{path}.addedAffinity"
    added = mapping(mapping(args, path, _TYPE | {"addedAffinity"}).get("addedAffinity"), path, {required, preferred})
    if added.get(required) is not None:
        where = f"{path}.{required}"
        terms = items(mapping(added[required], where, {"nodeSelectorTerms"}).get("nodeSelectorTerms"), where)
        if not terms:
            raise ConfigurationInvalid(f"{where}.nodeSelectorTerms: must have at least one node selector term")
        into.required_nodes = tuple(_term(one, f"{where}.nodeSelectorTerms[{at}]") for at, one in enumerate(terms))
    weighed = []
    for at, one in enumerate(items(added.get(preferred), f"{path}.{preferred}")):
        where = f"{path}.{preferred}[{at}]"
        given = mapping(one, where, {"weight", "preference"})
        weight = number(given.get("weight"), f"{where}.weight", 1, 100)
        weighed.append((weight, _term(given.get("preference"), f"{where}.preference")))
    into.preferred_nodes = tuple(weighed)


def _term(value: Any, path: str) -> NodeTerm:
    term: Obj = mapping(value, path, {"matchExpressions", "matchFields"})
    for part in ("matchExpressions", "matchFields"):
        for at, one in enumerate(items(term.get(part), f"{path}.{part}")):
            where = f"{path}.{part}[{at}]"
            given = mapping(one, where, {"key", "operator", "values"})
            text(given.get("key"), f"{where}.key")
            operators = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
            operator = one_of(given.get("operator"), f"{where}.operator", operators)
            values = [text(one, f"{where}.values") for one in items(given.get("values"), f"{where}.values")]
            wanted = {"Exists": 0, "DoesNotExist": 0, "Gt": 1, "Lt": 1}.get(operator, len(values) or 1)
            if len(values) != wanted:
                raise ConfigurationInvalid(f"{where}.values: operator {operator} does not go with {len(values)} values")
    return node_term(term)


def _volumes(into: Arguments, args: Any, path: str) -> None:
    given = mapping(args, path, _TYPE | {"bindTimeoutSeconds", "shape"})
    if given.get("shape"):
        raise ConfigurationInvalid(f"{path}.shape: nodes are not scored by their storage (StorageCapacityScoring)")
    seconds = given.get("bindTimeoutSeconds", int(BIND_SECONDS))
    into.bind_seconds = float(number(seconds, f"{path}.bindTimeoutSeconds", 0, 2**31 - 1))


def _preemption(into: Arguments, args: Any, path: str) -> None:
    given = mapping(args, path, _TYPE | {"minCandidateNodesPercentage", "minCandidateNodesAbsolute"})
    share, absolute = given.get("minCandidateNodesPercentage", 10), given.get("minCandidateNodesAbsolute", 100)
    into.preemption = PreemptionArgs(
        number(share, f"{path}.minCandidateNodesPercentage", 0, 100),
        number(absolute, f"{path}.minCandidateNodesAbsolute", 0, 2**31 - 1),
    )
    if not share and not absolute:
        both = "minCandidateNodesPercentage and minCandidateNodesAbsolute"
        raise ConfigurationInvalid(f"{path}: {both} cannot both be 0")


_READERS = {
    "NodeResourcesFit": _fit,
    "NodeResourcesBalancedAllocation": _balanced,
    "PodTopologySpread": _spread,
    "InterPodAffinity": _pods,
    "NodeAffinity": _nodes,
    "VolumeBinding": _volumes,
    "DefaultPreemption": _preemption,
}
