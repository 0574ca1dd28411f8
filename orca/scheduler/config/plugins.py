"""Which plugins there are, at which extension points, and what a profile makes of its lists of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orca.scheduler.config.args import Arguments
from orca.scheduler.config.reading import ConfigurationInvalid, items, mapping, number, text
from orca.scheduler.filters import FILTERS, Filter
from orca.scheduler.filters.inter_pod_affinity import InterPodAffinity
from orca.scheduler.filters.node_affinity import NodeAffinity
from orca.scheduler.filters.node_resources_fit import NodeResourcesFit
from orca.scheduler.filters.pod_topology_spread import PodTopologySpread
from orca.scheduler.profile import Profile
from orca.scheduler.scores import SCORES, Score
from orca.scheduler.scores.affinity import node_affinity, pod_affinity
from orca.scheduler.scores.base import Rate
from orca.scheduler.scores.resources import Allocation, BalancedAllocation
from orca.scheduler.scores.spread import topology_spread

_FILTER, _SCORE = ("preFilter", "filter"), ("preScore", "score")
PLUGINS: dict[str, tuple[str, ...]] = {
    "SchedulingGates": ("preEnqueue",),
    "PrioritySort": ("queueSort",),
    "NodeUnschedulable": ("filter",),
    "NodeName": ("filter",),
    "TaintToleration": ("filter", *_SCORE),
    "NodeAffinity": (*_FILTER, *_SCORE),
    "NodePorts": _FILTER,
    "NodeResourcesFit": (*_FILTER, *_SCORE),
    "VolumeRestrictions": _FILTER,
    "NodeVolumeLimits": _FILTER,
    "VolumeBinding": (*_FILTER, "reserve", "preBind"),
    "VolumeZone": _FILTER,
    "PodTopologySpread": (*_FILTER, *_SCORE),
    "InterPodAffinity": (*_FILTER, *_SCORE),
    "DefaultPreemption": ("postFilter",),
    "NodeResourcesBalancedAllocation": _SCORE,
    "ImageLocality": ("score",),
    "DefaultBinder": ("bind",),
}
"""Plugin -> its extension points, in kube-scheduler's order."""
POINTS = (
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
)
_NEEDED = ("queueSort", "reserve", "preBind", "bind")
"""What a scheduler cannot be without: nobody else would do it."""
_WEIGHTS = {score.name: score.weight for score in SCORES}


@dataclass(slots=True)
class Enabled:
    """Plugins of each extension point, in order; weights where they are not the usual."""

    at: dict[str, list[str]] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)


def enabled(value: Any, path: str) -> Enabled:
    """From a profile's ``plugins``. What is said of one point goes before what ``multiPoint`` says. Raises
    ConfigurationInvalid."""
    given = mapping(value, path, {*POINTS, "multiPoint"})
    found = Enabled()
    wanted, unwanted = _lists(given.get("multiPoint"), f"{path}.multiPoint", None, found.weights)
    defaults = [] if "*" in unwanted else [one for one in PLUGINS if one not in unwanted and one not in wanted]
    everywhere = [*defaults, *wanted]
    for point in POINTS:
        own: dict[str, int] = {}
        where = f"{path}.{point}"
        more, less = _lists(given.get(point), where, point, own)
        kept = [] if "*" in less else [one for one in everywhere if point in PLUGINS[one] and one not in less]
        # One that is named here keeps its place when it is there already, and has the weight named here.
        found.at[point] = [*kept, *(one for one in more if one not in kept)]
        found.weights.update(own)
    _check(found, path)
    return found


def _lists(value: Any, path: str, point: str | None, weights: dict[str, int]) -> tuple[list[str], set[str]]:
    given = mapping(value, path, {"enabled", "disabled"})
    wanted: list[str] = []
    for at, one in enumerate(items(given.get("enabled"), f"{path}.enabled")):
        where = f"{path}.enabled[{at}]"
        plugin = mapping(one, where, {"name", "weight"})
        named = _known(plugin.get("name"), where, point)
        if named in wanted:
            raise ConfigurationInvalid(f'{where}: plugin "{named}" is there twice')
        wanted.append(named)
        if plugin.get("weight"):
            if point not in (None, "score"):
                raise ConfigurationInvalid(f"{where}.weight: only scores have one")
            weights[named] = number(plugin["weight"], f"{where}.weight", 1, 2**31 - 1)
    unwanted = set()
    for at, one in enumerate(items(given.get("disabled"), f"{path}.disabled")):
        where = f"{path}.disabled[{at}]"
        taken = mapping(one, where, {"name", "weight"}).get("name")
        unwanted.add("*" if taken == "*" else _known(taken, where, point))
    return wanted, unwanted


def _known(value: Any, path: str, point: str | None) -> str:
    named = text(value, f"{path}.name")
    if named not in PLUGINS:
        raise ConfigurationInvalid(f'{path}: plugin "{named}" does not exist; there are {", ".join(PLUGINS)}')
    if point is not None and point not in PLUGINS[named]:
        raise ConfigurationInvalid(f'{path}: plugin "{named}" does not extend {point}')
    return named


def _check(found: Enabled, path: str) -> None:
    for point in _NEEDED:
        for plugin, points in PLUGINS.items():
            if point in points and plugin not in found.at[point]:
                raise ConfigurationInvalid(f'{path}.{point}: "{plugin}" cannot be disabled: nothing could replace it')
    for early, late in (_FILTER, _SCORE):
        for plugin, points in PLUGINS.items():
            if early in points and plugin in found.at[late] and plugin not in found.at[early]:
                raise ConfigurationInvalid(f'{path}: "{plugin}" is enabled at {late}, and needs {early} for it')


def profile(name: str, plugins: Enabled, args: Arguments, percentage: int) -> Profile:
    """The rules with their arguments."""
    made: dict[str, Filter] = {
        "NodeAffinity": NodeAffinity(args.required_nodes),
        "NodeResourcesFit": NodeResourcesFit(args.ignored, args.ignored_groups),
        "PodTopologySpread": PodTopologySpread(args.spread),
        "InterPodAffinity": InterPodAffinity(),
    }
    filters = tuple(made.get(rule.name, rule) for rule in FILTERS if rule.name in plugins.at["filter"])
    rates: dict[str, Rate] = {
        "NodeAffinity": partial(node_affinity, added=args.preferred_nodes),
        "PodTopologySpread": partial(topology_spread, defaults=args.spread),
        "InterPodAffinity": partial(pod_affinity, hard_weight=args.hard_weight, ignore_existing=args.ignore_existing),
        "NodeResourcesFit": Allocation(args.strategy),
        "NodeResourcesBalancedAllocation": BalancedAllocation(args.balanced),
    }
    scores = tuple(
        Score(
            score.name,
            plugins.weights.get(score.name, _WEIGHTS[score.name]),
            rates.get(score.name, score.rate),
            None if score.name == "NodeAffinity" and args.preferred_nodes else score.speaks,
        )
        for score in SCORES
        if score.name in plugins.at["score"]
    )
    return Profile(
        name=name,
        filters=filters,
        scores=scores,
        preemption=args.preemption if plugins.at["postFilter"] else None,
        bind_seconds=args.bind_seconds,
        percentage=percentage,
        gates=bool(plugins.at["preEnqueue"]),
    )
