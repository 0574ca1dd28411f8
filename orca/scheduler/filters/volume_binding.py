"""VolumeBinding: a pod's claims exist, and each is bound to a volume that the node reaches, or can get one there.

Reference: kube-scheduler's plugin of this name (what it checks, and its texts).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orca.api.objects import Obj, controller_of, is_terminating, name, namespace, uid
from orca.api.volumes import is_bound, reachable_from
from orca.scheduler.filters.base import Failure, Filter, Task, where
from orca.scheduler.snapshot import Mask, Snapshot
from orca.scheduler.volumes import claims_of, zones_fit


class _OfVolumes(Filter):
    """A rule that says nothing about pods without volumes."""

    def concerns(self, task: Task, snapshot: Snapshot) -> bool:
        return bool(task.pod["spec"].get("volumes"))

    def allows(self, task: Task, snapshot: Snapshot, slot: int) -> bool:
        return not self.concerns(task, snapshot) or super().allows(task, snapshot, slot)


class VolumeClaims(_OfVolumes):
    """What concerns the pod alone: looked at before any node."""

    name = "VolumeBinding"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        storage = snapshot.storage
        for claim_name, generic in claims_of(task.pod):
            claim = storage.claims.get(f"{task.namespace}/{claim_name}")
            if claim is None:
                told = f'persistentvolumeclaim "{claim_name}"'
                made = "waiting for ephemeral volume controller to create the "
                missing = f"{made}{told}" if generic else f"{told} not found"
                yield Failure(among, missing, final=True, whole=True)
                return
            if told := _unusable(task, claim, generic):
                yield Failure(among, told, final=True, whole=True)
                return
            if not is_bound(claim) and not storage.is_delayed(claim):
                yield Failure(among, "pod has unbound immediate PersistentVolumeClaims", final=True, whole=True)
                return


def _unusable(task: Task, claim: Obj, generic: bool) -> str:
    """Why a pod cannot have this claim wherever it runs; "" when it can."""
    told = f'persistentvolumeclaim "{name(claim)}"'
    if (claim.get("status") or {}).get("phase") == "Lost":
        return f'{told} bound to non-existent persistentvolume "{claim["spec"].get("volumeName") or ""}"'
    if is_terminating(claim):
        return f"{told} is being deleted"
    if generic and (controller_of(claim) or {}).get("uid") != uid(task.pod):
        of_pod = f"{task.namespace}/{name(task.pod)}"
        return f"PVC {task.namespace}/{name(claim)} was not created for pod {of_pod} (pod is not owner)"
    return ""


class VolumeBinding(_OfVolumes):
    name = "VolumeBinding"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        if not task.pod["spec"].get("volumes"):
            return
        storage = snapshot.storage
        placed = []
        for claim_name, _ in claims_of(task.pod):
            claim = storage.claims.get(f"{namespace(task.pod)}/{claim_name}")
            if claim is None or not is_bound(claim):
                continue
            volume = storage.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                lost = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
                yield Failure(among, lost, final=True)
                return
            if (volume["spec"].get("nodeAffinity") or {}).get("required"):
                placed.append(volume)
        if placed:
            near = where(snapshot, lambda node: all(reachable_from(one, node.name, node.labels) for one in placed))
            yield Failure(among & ~near, "node(s) didn't match PersistentVolume's node affinity", final=True)
        waiting = storage.waiting(task.pod)
        if waiting and not storage.anywhere(waiting):
            able = where(snapshot, lambda node: storage.plan(waiting, node.name, node.labels) is not None)
            yield Failure(among & ~able, "node(s) didn't find available persistent volumes to bind", final=True)


class VolumeZone(_OfVolumes):
    """VolumeZone: a bound volume whose labels say where it is can be used there only."""

    name = "VolumeZone"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        storage = snapshot.storage
        for claim_name, _ in claims_of(task.pod):
            claim = storage.claims.get(f"{task.namespace}/{claim_name}")
            volume = storage.volumes.get((claim["spec"].get("volumeName") if claim else None) or "")
            if volume is not None and volume["metadata"].get("labels"):
                apart = among & ~where(snapshot, lambda node, pv=volume: zones_fit(pv, node.labels))  # type: ignore[misc]
                yield Failure(apart, "node(s) had no available volume zone", final=True)


class VolumeRestrictions(_OfVolumes):
    """VolumeRestrictions: a claim for one pod alone (ReadWriteOncePod) is nobody else's."""

    name = "VolumeRestrictions"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        storage = snapshot.storage
        wanted = set()
        for claim_name, _ in claims_of(task.pod):
            claim = storage.claims.get(f"{task.namespace}/{claim_name}")
            if claim is not None and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                wanted.add(f"{task.namespace}/{claim_name}")
        if not wanted:
            return
        rows = np.zeros(snapshot.size, dtype=bool)
        for placed in snapshot.placed.values():
            if placed.uid != task.pod["metadata"]["uid"] and wanted & placed.claims and placed.node in snapshot.slots:
                rows[snapshot.slots[placed.node]] = True
        if rows.any():
            used = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
            # Wherever it runs, the claim is in use: no node will do.
            yield Failure(among, used, final=False)
