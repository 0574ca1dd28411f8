"""cpu and memory of a pod's containers: wished, allotted, in force; and how the last follows the second. Pure.

Reference: k8s.io/kubernetes ``pkg/kubelet/kuberuntime`` (computePodResizeAction, updatePodContainerResources) and
``pkg/kubelet/kubelet_pods.go`` (convertContainerStatusResources).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from agents.pods.containers import init_containers, is_changed, is_sidecar, main_containers, spec_of
from agents.pods.memory import Memory
from agents.pods.resources import SHARES_PER_CPU, amounts, limits_of
from agents.pods.sizing import POD, Pending, Progress, Sizing
from agents.runtime.model import SIZES, ContainerInfo, Resources
from orca.api.objects import Obj
from orca.api.times import parse_time

_WHOLE = "pod"
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def resizable(pod: Obj) -> list[Obj]:
    """Sidecars and main containers, in order."""
    return [*(one for one in init_containers(pod) if is_sidecar(one)), *main_containers(pod)]


def wished(pod: Obj) -> dict[str, Obj]:
    """What the object asks for: ``resources`` by name of container, and of the pod itself."""
    found = {one["name"]: one.get("resources") or {} for one in resizable(pod)}
    whole = spec_of(pod).get("resources")
    if whole:
        found[POD] = whole
    return found


def same(one: Obj, other: Obj) -> bool:
    """Whether two ``resources`` mean the same cpu and memory, however they are written."""
    if one == other:
        return True
    holders = {"resources": one}, {"resources": other}
    return all(amounts(holders[0], kind) == amounts(holders[1], kind) for kind in ("requests", "limits"))


def settled(pod: Obj, allotted: Mapping[str, Obj]) -> bool:
    """Whether this host has allotted what the object asks for."""
    return all(same(allotted.get(name, wish), wish) for name, wish in wished(pod).items())


def as_allotted(pod: Obj, allotted: Mapping[str, Obj]) -> Obj:
    """The pod with the sizes allotted in the place of those wished; the same object when they do not differ."""
    if settled(pod, allotted):
        return pod
    spec = dict(spec_of(pod))
    if POD in allotted:
        spec["resources"] = allotted[POD]
    for group in ("initContainers", "containers"):
        if spec.get(group):
            spec[group] = [
                {**one, "resources": allotted[one["name"]]} if one["name"] in allotted else one for one in spec[group]
            ]
    return {**pod, "spec": spec}


def label_of(container: Obj, whole: Obj | None = None) -> str:
    """What a container is made with, for its label; another agent reads it (:func:`from_label`). ``whole`` are the
    ``resources`` of its pod, whose limits hold where it has none of its own."""
    told = container.get("resources") or {}
    if whole and whole.get("limits"):
        told = {**told, _WHOLE: whole["limits"]}
    return json.dumps(told, separators=(",", ":"), sort_keys=True)


def from_label(info: ContainerInfo) -> Obj | None:
    """What a container was made with; None when it does not tell."""
    text = info.labels.get(SIZES)
    found: Obj | None = json.loads(text) if text else None
    if found is not None:
        found.pop(_WHOLE, None)
    return found


def remembered(pod: Obj, saved: Sizing | None, containers: Iterable[ContainerInfo]) -> Sizing:
    """What this host has allotted to a pod it meets: as saved when it was resized, else what its containers were made
    with, else what it asks for. What its status tells of resizes goes on to hold."""
    sizing = saved or Sizing()
    made = {info.container: info for info in sorted(containers, key=lambda info: info.attempt)}
    # What the agent before this one was about to do to the pod's own cgroup, nobody knows.
    sizing.whole = not made
    for name, wish in wished(pod).items():
        if name not in sizing.allotted:
            known = from_label(made[name]) if name in made else None
            sizing.allotted[name] = wish if known is None else known
            if name == POD:
                # No container tells of it.
                sizing.unsaved = True
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("status") != "True":
            continue
        generation, message = int(one.get("observedGeneration") or 0), one.get("message") or ""
        if one.get("type") == "PodResizePending":
            since = parse_time(one.get("lastTransitionTime") or "1970-01-01T00:00:00Z")
            sizing.pending = Pending(one.get("reason") or "", message, generation, since)
        elif one.get("type") == "PodResizeInProgress":
            sizing.progress = Progress(generation, message)
    return sizing


@dataclass(frozen=True, slots=True)
class Update:
    """One call to the engine. ``limits`` has the fields of one resource; ``request`` is the memory requested, in bytes,
    when that changes."""

    container: str
    id: str
    limits: Resources
    grows: bool
    shrinks_memory: bool = False
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to happen for the running containers to have what is allotted to them."""

    restarts: frozenset[str] = frozenset()
    """Ids of containers whose policy is to be made anew."""
    updates: tuple[Update, ...] = ()
    placements: tuple[Update, ...] = ()
    """Other cpus to run on: nobody resized anything."""

    def __bool__(self) -> bool:
        return bool(self.restarts or self.updates)


def changes(pod: Obj, memory: Memory) -> Changes:
    """Memory before cpu, and of each what shrinks before what grows."""
    restarts, sizes, cpus, placements = set(), [], [], []
    sizing = memory.sizing
    whole = sizing.allotted.get(POD, spec_of(pod).get("resources"))
    for container in resizable(pod):
        info = memory.newest(container["name"])
        if info is None or not info.running or is_untold(info) or is_changed(container, info):
            continue
        allotted: Obj = sizing.allotted.get(info.container, container.get("resources")) or {}
        wanted = _Wanted(allotted, whole, 0 if info.container in sizing.exclusive else sizing.period)
        on = sizing.cpus.get(info.container, "")
        if on and on != info.resources.cpuset:
            placements.append(Update(info.container, info.id, Resources(cpuset=on), grows=False))
        if info.id not in sizing.requested and wanted.is_in(info):
            continue
        by_memory, by_cpu = _of_memory(info, wanted, memory), _of_cpu(info, wanted)
        policies = {one.get("resourceName"): one.get("restartPolicy") for one in container.get("resizePolicy") or ()}
        if (by_memory and policies.get("memory") == "RestartContainer") or (
            by_cpu and policies.get("cpu") == "RestartContainer"
        ):
            restarts.add(info.id)
            continue
        sizes += [by_memory] if by_memory else []
        cpus += [by_cpu] if by_cpu else []
    sizes.sort(key=lambda one: one.grows)
    cpus.sort(key=lambda one: one.grows)
    return Changes(frozenset(restarts), (*sizes, *cpus), tuple(placements))


def on_its_cpus(limits: Resources, sizing: Sizing, container: str) -> Resources:
    """The limits of a container that is to be made, with the cpus it is to run on."""
    if container in sizing.exclusive:
        limits = replace(limits, cpu_quota=0, cpu_period=0)
    return replace(limits, cpuset=sizing.cpus.get(container, ""))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a container is to have: what is allotted to it, and what that means here and now."""

    allotted: Obj
    whole: Obj | None
    period: int

    @property
    def limits(self) -> Resources:
        return limits_of({"resources": self.allotted}, self.whole, period=self.period)

    @property
    def request(self) -> int:
        """Bytes."""
        found: int = amounts({"resources": self.allotted}, "requests").get("memory", 0)
        return found

    def is_in(self, info: ContainerInfo) -> bool:
        """The short way for the many that were never resized."""
        label = info.labels.get(SIZES)
        if label is None or label != label_of({"resources": self.allotted}, self.whole):
            return False
        return replace(info.resources, cpuset="") == _limits(label, self.period)


def in_progress(left: Changes, memory: Memory) -> bool:
    """Whether a running container, or one stopped for it, has not yet what is allotted. Others are made right."""
    sizing = memory.sizing
    begun = sizing.progress is not None and (sizing.unsaved or not sizing.whole)
    return bool(left or begun or not_yet_again(memory))


def not_yet_again(memory: Memory) -> set[str]:
    """Ids of containers stopped for a resize after which no newer one ran; one only created may be removed again."""
    stopped = memory.sizing.restarting
    found: set[str] = set()
    for known in memory.containers.values() if stopped else ():
        last = next((info for info in known if info.state != "created"), None)
        if last is not None and last.id in stopped:
            found.add(last.id)
    return found


def _of_memory(info: ContainerInfo, wanted: _Wanted, memory: Memory) -> Update | None:
    limit, had = wanted.limits.memory, info.resources.memory
    request = wanted.request
    # An engine without memory limits drops them and shows none.
    limited = bool(limit) and limit != had and not (had == 0 and _made_with(info, wanted.period).memory)
    asked = request != _requested(info, wanted.allotted, memory)
    if not limited and not asked:
        return None
    return Update(
        info.container,
        info.id,
        Resources(memory=limit) if limited else Resources(),
        # No limit is the greatest one.
        grows=limited and had != 0 and limit > had,
        shrinks_memory=limited and (had == 0 or limit < had),
        request=request,
    )


def _requested(info: ContainerInfo, allotted: Obj, memory: Memory) -> int:
    """Bytes requested when the container was made, or by an update since."""
    if info.id in memory.sizing.requested:
        return memory.sizing.requested[info.id]
    made = from_label(info)
    found: int = amounts({"resources": allotted if made is None else made}, "requests").get("memory", 0)
    return found


def _of_cpu(info: ContainerInfo, wanted: _Wanted) -> Update | None:
    limits, had = wanted.limits, info.resources
    quota = bool(limits.cpu_quota) and _rate(limits) != _rate(had)
    quota = quota and not (had.cpu_quota == 0 and _made_with(info, wanted.period).cpu_quota)
    shares = had.cpu_shares > 0 and limits.cpu_shares != had.cpu_shares
    if not shares and not quota:
        return None
    grows = (had.cpu_quota > 0 and _rate(limits) > _rate(had)) if quota else limits.cpu_shares > had.cpu_shares
    changed = Resources(
        limits.cpu_shares if had.cpu_shares else 0, *((limits.cpu_quota, limits.cpu_period) if quota else ())
    )
    return Update(info.container, info.id, changed, grows=grows)


def _made_with(info: ContainerInfo, period: int) -> Resources:
    return _limits(info.labels.get(SIZES) or "{}", period)


@lru_cache(maxsize=1024)
def _limits(label: str, period: int) -> Resources:
    told = json.loads(label)
    return limits_of({"resources": told}, {"limits": told.get(_WHOLE) or {}}, period=period)


def _rate(limits: Resources) -> float:
    """Share of one cpu, 0 when not limited."""
    return limits.cpu_quota / limits.cpu_period if limits.cpu_quota > 0 and limits.cpu_period else 0.0


def in_force(container: Obj, info: ContainerInfo, sizing: Sizing, whole: Obj | None) -> tuple[Obj, Obj]:
    """``resources`` and ``allocatedResources`` of a container's status: the first from what the engine says of a
    running container, as far as the kernel knows it. ``whole`` are the ``resources`` of its pod."""
    given: Obj = sizing.allotted.get(container["name"], container.get("resources") or {})
    found = {**given}
    if info.running and not is_untold(info):
        period = 0 if info.container in sizing.exclusive else sizing.period
        wanted, had = _Wanted(given, sizing.allotted.get(POD, whole), period).limits, info.resources
        made = _made_with(info, period)
        requests, limits = dict(given.get("requests") or {}), dict(given.get("limits") or {})
        if "cpu" in requests and had.cpu_shares and wanted.cpu_shares != had.cpu_shares:
            requests["cpu"] = f"{-(-had.cpu_shares * 1000 // SHARES_PER_CPU)}m"
        if "cpu" in limits and period and _rate(wanted) != _rate(had):
            if had.cpu_quota > 0:
                limits["cpu"] = f"{round(_rate(had) * 1000)}m"
            elif not made.cpu_quota:
                del limits["cpu"]  # the first limit it gets, and not there yet
        if "memory" in limits and wanted.memory != had.memory:
            if had.memory:
                limits["memory"] = binary(had.memory)
            elif not made.memory:
                del limits["memory"]
        found |= {"limits": limits, "requests": requests}
        found = {kind: sizes for kind, sizes in found.items() if sizes}
    return found, given.get("requests") or {}


def is_untold(info: ContainerInfo) -> bool:
    """The engine told nothing of the container's sizes."""
    return info.resources == Resources()


def binary(amount: int) -> str:
    """Bytes as upstream writes them: ``128Mi``."""
    power = 0
    while amount and amount % 1024 == 0 and power < len(_BINARY) - 1:
        amount, power = amount // 1024, power + 1
    return f"{amount}{_BINARY[power]}"
