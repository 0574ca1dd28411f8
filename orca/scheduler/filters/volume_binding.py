"""VolumeBinding: a pod waits for its claims, which must exist and be bound.

Nothing here binds: a claim without a volume stays one until somebody (a controller, a person) binds it. Reference:
kube-scheduler's plugin of this name (what it checks before it looks at nodes, and its texts).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orca.api.objects import Obj, is_terminating, meta, name
from orca.scheduler.filters.base import Failure, Task
from orca.scheduler.snapshot import Mask, Snapshot

_BOUND = "pv.kubernetes.io/bind-completed"


class VolumeBinding:
    name = "VolumeBinding"

    def check(self, task: Task, snapshot: Snapshot, among: Mask) -> Iterable[Failure]:
        delayed = False
        for claim_name, generic in claims_of(task.pod):
            claim = snapshot.claims.get(f"{task.namespace}/{claim_name}")
            if claim is None:
                told = f'persistentvolumeclaim "{claim_name}"'
                made = "waiting for ephemeral volume controller to create the "
                missing = f"{made}{told}" if generic else f"{told} not found"
                yield Failure(among, missing, final=True, whole=True)
                return
            if is_terminating(claim):
                yield Failure(among, f'persistentvolumeclaim "{claim_name}" is being deleted', final=True, whole=True)
                return
            if is_bound(claim):
                continue
            if (claim.get("spec") or {}).get("storageClassName") not in snapshot.delayed_classes:
                yield Failure(among, "pod has unbound immediate PersistentVolumeClaims", final=True, whole=True)
                return
            delayed = True
        if delayed:
            yield Failure(among, "node(s) didn't find available persistent volumes to bind", final=True)


def claims_of(pod: Obj) -> Iterator[tuple[str, bool]]:
    """(claim's name, whether it is made for this pod alone) of every volume that is a claim."""
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield volume["persistentVolumeClaim"]["claimName"], False
        elif volume.get("ephemeral") is not None:
            yield f"{name(pod)}-{volume['name']}", True


def is_bound(claim: Obj) -> bool:
    """It has a volume, and whoever bound it said that this is complete."""
    if not (claim.get("spec") or {}).get("volumeName"):
        return False
    return (claim.get("status") or {}).get("phase") == "Bound" or _BOUND in (meta(claim).get("annotations") or {})
