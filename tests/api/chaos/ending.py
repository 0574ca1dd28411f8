"""What is left when nobody changes or harms anything any more: what of it is not as it was wished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from orca.api.resources import Resource
from tests.api.chaos.world import Obj, World, controller_of, is_active, is_going, is_over, is_ready, key_of

Wanted = Mapping[tuple[Resource, str], Obj]
RECORDS = ("events", "leases")


def missing(world: World, wanted: Wanted) -> list[str]:
    """Empty once all has come true."""
    found: list[str] = []
    for (resource, name), wish in wanted.items():
        key = f"{wish['metadata']['namespace']}/{name}"
        there = world.get(resource.plural, key)
        if there is None or is_going(there):
            found.append(f"{resource.plural} {key}: not there")
            continue
        found += [f"{resource.plural} {key}: {what}" for what in _workload(world, resource.plural, there, wish)]
    found += [f"{kind} {key}: {what}" for kind, key, what in _leftovers(world)]
    found += [f"endpointslices of {key}: {what}" for key, what in _slices(world)]
    found += [
        f"resourcequotas {key_of(one)}: {what}" for one in world.all("resourcequotas") for what in _quota(world, one)
    ]
    return found


def _workload(world: World, kind: str, there: Obj, wish: Obj) -> Iterator[str]:
    status = there.get("status") or {}
    if kind in ("jobs", "cronjobs"):
        over = [one["type"] for one in status.get("conditions") or () if one["status"] == "True"]
        if kind == "jobs" and "Complete" not in over:
            yield f"not complete: {status}"
        if kind == "cronjobs" and status.get("lastScheduleTime") is None:
            yield "never started"
        return
    if status.get("observedGeneration") != there["metadata"]["generation"]:
        yield "its status is of an earlier state"
    if kind != "daemonsets" and there["spec"].get("replicas") != wish["spec"].get("replicas"):
        yield f"{there['spec'].get('replicas')} replicas are asked for, {wish['spec'].get('replicas')} were wished"
    count = len(world.all("nodes")) if kind == "daemonsets" else there["spec"]["replicas"]
    pods = list(_pods(world, kind, there))
    version = wish["spec"]["template"]["spec"]["containers"][0].get("env")
    good = [pod for pod in pods if is_active(pod) and is_ready(pod)]
    if len(good) != count or len(pods) != count:
        yield f"{len(pods)} pods, {len(good)} of them ready, {count} wanted"
    if kind in ("deployments", "statefulsets", "daemonsets"):
        old = [key_of(pod) for pod in pods if pod["spec"]["containers"][0].get("env") != version]
        if old:
            yield f"of another template: {old}"
    told = {
        "deployments": ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"),
        "daemonsets": ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled"),
        "statefulsets": ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"),
    }.get(kind, ("replicas", "readyReplicas", "availableReplicas"))
    wrong = {part: status.get(part, 0) for part in told if status.get(part, 0) != count}
    if wrong:
        yield f"the status says {wrong}, {count} there are"


def _pods(world: World, kind: str, there: Obj) -> Iterable[Obj]:
    uid = there["metadata"]["uid"]
    if kind != "deployments":
        return world.pods_of(uid)
    sets = [one for one in world.all("replicasets") if controller_of(one) == uid]
    return [pod for one in sets for pod in world.pods_of(one["metadata"]["uid"])]


def _leftovers(world: World) -> Iterator[tuple[str, str, str]]:
    alive = {one["metadata"]["uid"] for kind in list(world.kinds) for one in world.all(kind)}
    spaces = set(world.kinds["namespaces"])
    for kind in list(world.kinds):
        if kind in RECORDS:
            continue
        for key, one in world.kinds[kind].items():
            space = one["metadata"].get("namespace")
            owners = one["metadata"].get("ownerReferences") or ()
            if owners and not any(owner["uid"] in alive for owner in owners):
                yield kind, key, "its owner is gone"
            if space and space not in spaces:
                yield kind, key, "its namespace is gone"
            if is_going(one):
                yield kind, key, "is still going"
    for pod in world.all("pods"):
        if not is_over(pod) and not pod["spec"].get("nodeName"):
            yield "pods", key_of(pod), "waits for a node"


def _slices(world: World) -> Iterator[tuple[str, str]]:
    for service in world.all("services"):
        space, selector = service["metadata"]["namespace"], service["spec"].get("selector")
        if not selector:
            continue
        ready = Counter(
            pod["status"]["podIP"]
            for pod in world.all("pods")
            if pod["metadata"]["namespace"] == space
            and selector.items() <= (pod["metadata"].get("labels") or {}).items()
            and is_ready(pod)
            and is_active(pod)
        )
        told = Counter(
            address
            for one in world.all("endpointslices")
            if one["metadata"]["namespace"] == space
            and (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service["metadata"]["name"]
            for endpoint in one.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        )
        if ready != told:
            yield key_of(service), f"{sorted(told.elements())}, ready are {sorted(ready.elements())}"


def _quota(world: World, quota: Obj) -> Iterator[str]:
    space = quota["metadata"]["namespace"]
    there = sum(pod["metadata"]["namespace"] == space and not is_over(pod) for pod in world.all("pods"))
    used = (quota.get("status") or {}).get("used", {}).get("pods")
    if used != str(there):
        yield f"{used} pods used, {there} there are"
