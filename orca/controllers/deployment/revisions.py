"""The ReplicaSets of a Deployment: which one is its template's, names and hashes, revisions and other annotations."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence

from orca.api.builtin import DEPLOYMENTS, REPLICASETS
from orca.api.objects import Obj, annotations, is_terminating, meta, name, uid
from orca.controllers import podstate
from orca.controllers.claims import owner_reference
from orca.controllers.deployment.sizes import Limits, Member

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
LARGEST = "deployment.kubernetes.io/max-replicas"
ROLLBACK = "deprecated.deployment.rollback.to"
"""Asks for the template of a revision, 0 for that of the last one; what `rollbackTo` of the first API became."""
OWN = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        ROLLBACK,
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        LARGEST,
    }
)
"""Annotations that are never copied from a Deployment to its ReplicaSets."""

# Without vowels and digits that look like letters, so that no hash reads as a word (upstream's SafeEncodeString).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_HISTORY_CHARS = 2000
_LONGEST_NAME = 253


def template_hash(template: Obj, collisions: int | None) -> str:
    """Ten safe characters, stable for equal templates; `collisions` gives another one when the name was taken."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = int.from_bytes(hashlib.sha256(f"{text}#{collisions or 0}".encode()).digest()[:8])
    letters = []
    for _ in range(10):
        digest, index = divmod(digest, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def same_template(one: Obj, other: Obj) -> bool:
    """Equal but for the hash label."""
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Obj) -> Obj:
    metadata = dict(template.get("metadata") or {})
    found = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != HASH_LABEL}
    rest = {k: v for k, v in metadata.items() if v not in (None, {}, [])}
    return {"metadata": {**rest, "labels": found}, "spec": template.get("spec")}


def find_new(deployment: Obj, replicasets: Sequence[Obj]) -> Obj | None:
    """The oldest ReplicaSet with the Deployment's template."""
    template = deployment["spec"]["template"]
    for candidate in sorted(replicasets, key=lambda rs: (podstate.created_at(rs), name(rs))):
        if same_template(candidate["spec"]["template"], template):
            return candidate
    return None


def revision_of(obj: Obj) -> int:
    """The revision annotation, 0 when missing or unreadable."""
    return _number(annotations(obj), REVISION) or 0


def member_of(replicaset: Obj) -> Member:
    """The numbers rollouts are computed with."""
    status = replicaset.get("status") or {}
    found = annotations(replicaset)
    replicas = replicaset["spec"].get("replicas")
    wanted = 1 if replicas is None else int(replicas)
    return Member(
        uid=uid(replicaset),
        created=podstate.created_at(replicaset),
        replicas=wanted,
        # A set that was just scaled down still reports pods that are already given up.
        available=min(status.get("availableReplicas") or 0, wanted),
        actual=status.get("replicas") or 0,
        desired=_number(found, DESIRED),
        largest=_number(found, LARGEST),
    )


def _number(found: Mapping[str, str], annotation: str) -> int | None:
    try:
        return int(found[annotation])
    except (KeyError, ValueError):
        return None


def copied_annotations(obj: Obj) -> dict[str, str]:
    """Annotations that a Deployment and its ReplicaSets share (change-cause for one)."""
    return {k: v for k, v in annotations(obj).items() if k not in OWN}


def size_annotations(limits: Limits) -> dict[str, str]:
    """What a ReplicaSet remembers of the Deployment's size for proportional scaling."""
    return {DESIRED: str(limits.replicas), LARGEST: str(limits.most)}


def refreshed_annotations(deployment: Obj, replicaset: Obj, revision: int) -> dict[str, str]:
    """The annotations of the template's ReplicaSet: copied ones, and the newest revision; the former in history."""
    found = {**annotations(replicaset), **copied_annotations(deployment)}
    former = _number(found, REVISION)
    if (former or 0) >= revision:
        return found
    found[REVISION] = str(revision)
    if former:
        history = [*filter(None, found.get(REVISION_HISTORY, "").split(",")), str(former)]
        while len(",".join(history)) > _HISTORY_CHARS:
            history.pop(0)
        found[REVISION_HISTORY] = ",".join(history)
    return found


def build_new(deployment: Obj, replicas: int, revision: int, limits: Limits) -> Obj:
    """The ReplicaSet of the Deployment's template, not yet created."""
    spec = deployment["spec"]
    digest = template_hash(spec["template"], (deployment.get("status") or {}).get("collisionCount"))
    template = copy.deepcopy(spec["template"])
    template_meta = template.setdefault("metadata", {})
    template_meta["labels"] = {**(template_meta.get("labels") or {}), HASH_LABEL: digest}
    selector = copy.deepcopy(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
    made: Obj = {"replicas": replicas, "selector": selector, "template": template}
    if spec.get("minReadySeconds"):
        made["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": REPLICASETS.api_version,
        "kind": REPLICASETS.kind,
        "metadata": {
            "name": f"{name(deployment)[: _LONGEST_NAME - len(digest) - 1]}-{digest}",
            "namespace": meta(deployment)["namespace"],
            "labels": dict(template_meta["labels"]),
            "annotations": {**copied_annotations(deployment), REVISION: str(revision), **size_annotations(limits)},
            "ownerReferences": [owner_reference(DEPLOYMENTS, deployment)],
        },
        "spec": made,
    }


def rollback_of(deployment: Obj) -> int | None:
    """The revision that the Deployment shall go back to, 0 for the last one; None when it need not."""
    return _number(annotations(deployment), ROLLBACK)


def rolled_back(deployment: Obj, replicasets: Sequence[Obj]) -> tuple[Obj, tuple[str, str, str]]:
    """The Deployment with the template and annotations of the revision that it asks for, and what is told about it; it
    no longer asks in any case. `replicasets` are all it has, that of its present template among them."""
    kept = {k: v for k, v in annotations(deployment).items() if k != ROLLBACK}
    asked = rollback_of(deployment) or 0
    wanted = asked or _last_revision(replicasets)
    found = next((rs for rs in replicasets if wanted and revision_of(rs) == wanted), None)
    spec = deployment["spec"]
    if found is None:
        text = "Unable to find the revision to rollback to." if asked else "Unable to find last revision."
        event = ("Warning", "DeploymentRollbackRevisionNotFound", text)
    elif same_template(found["spec"]["template"], spec["template"]):
        text = f'The rollback revision contains the same template as current deployment "{name(deployment)}"'
        event = ("Warning", "DeploymentRollbackTemplateUnchanged", text)
    else:
        template = copy.deepcopy(found["spec"]["template"])
        template["metadata"] = dict(template.get("metadata") or {})
        template["metadata"]["labels"] = {
            k: v for k, v in (template["metadata"].get("labels") or {}).items() if k != HASH_LABEL
        }
        spec = {**spec, "template": template}
        kept = {k: v for k, v in kept.items() if k in OWN} | copied_annotations(found)
        text = f'Rolled back deployment "{name(deployment)}" to revision {wanted}'
        event = ("Normal", "DeploymentRollback", text)
    return {**deployment, "metadata": {**meta(deployment), "annotations": kept}, "spec": spec}, event


def _last_revision(replicasets: Sequence[Obj]) -> int:
    """The one before the newest; 0 when there is none."""
    return sorted([0, 0, *map(revision_of, replicasets)])[-2]


def surplus(deployment: Obj, old: Sequence[Obj]) -> list[Obj]:
    """Old, empty ReplicaSets beyond `revisionHistoryLimit`, lowest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None:
        return []
    alive = sorted(
        (rs for rs in old if not is_terminating(rs)),
        key=lambda rs: (revision_of(rs), podstate.created_at(rs), name(rs)),
    )
    excess = len(alive) - limit
    return [rs for rs in alive[: max(excess, 0)] if _is_empty(rs)]


def _is_empty(replicaset: Obj) -> bool:
    status = replicaset.get("status") or {}
    return (
        not status.get("replicas")
        and replicaset["spec"].get("replicas") == 0
        and meta(replicaset).get("generation", 0) <= status.get("observedGeneration", 0)
    )
