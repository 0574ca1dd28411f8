"""The claims of a StatefulSet's pods: what they look like and who owns them. Pure.

`persistentVolumeClaimRetentionPolicy` works by ownership: a claim that the set owns is collected with the set, one that
a pod owns is collected with that pod, and one that nobody owns stays.
"""

import copy
from collections.abc import Sequence

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orca.api.objects import Obj, controller_of, is_terminating, name, namespace, owner_references, uid
from orca.controllers.claims import owner_reference
from orca.controllers.statefulset.identity import claim_name


def claims_of(statefulset: Obj, ordinal: int) -> list[Obj]:
    """The claims that the pod of that ordinal needs, as they would be created."""
    return [
        _claim(statefulset, template, ordinal) for template in statefulset["spec"].get("volumeClaimTemplates") or ()
    ]


def _claim(statefulset: Obj, template: Obj, ordinal: int) -> Obj:
    own = template.get("metadata") or {}
    selected = (statefulset["spec"].get("selector") or {}).get("matchLabels") or {}
    metadata: Obj = {"name": claim_name(statefulset, template, ordinal), "namespace": namespace(statefulset)}
    if own.get("labels") or selected:
        metadata["labels"] = {**(own.get("labels") or {}), **selected}
    if own.get("annotations"):
        metadata["annotations"] = dict(own["annotations"])
    if _policy(statefulset, "whenDeleted") == "Delete":
        metadata["ownerReferences"] = [owner_reference(STATEFULSETS, statefulset)]
    return {
        "apiVersion": PERSISTENTVOLUMECLAIMS.api_version,
        "kind": PERSISTENTVOLUMECLAIMS.kind,
        "metadata": metadata,
        "spec": copy.deepcopy(template.get("spec") or {}),
    }


def _policy(statefulset: Obj, when: str) -> str:
    policy = statefulset["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get(when) or "Retain"


def owners(statefulset: Obj, claim: Obj, pod: Obj, *, condemned: bool) -> list[Obj] | None:
    """The owner references that `claim` should have while `pod` uses it; None when they are right already.

    `condemned`: the pod's ordinal is no longer wanted. A claim that something else controls is left alone.
    """
    mine = (uid(statefulset), uid(pod))
    controller = controller_of(claim)
    if controller is not None and controller["uid"] not in mine:
        return None
    present = owner_references(claim)
    wanted = [reference for reference in present if reference["uid"] not in mine]
    if condemned and _policy(statefulset, "whenScaled") == "Delete":
        wanted.append(owner_reference(PODS, pod))
    elif _policy(statefulset, "whenDeleted") == "Delete":
        wanted.append(owner_reference(STATEFULSETS, statefulset))
    return None if _uids(present) == _uids(wanted) else wanted


def is_stale(claim: Obj, pod_name: str) -> bool:
    """Whether it goes with an earlier pod of that name; a new one has to wait for a new claim."""
    return any(
        reference["kind"] == PODS.kind and reference["name"] == pod_name for reference in owner_references(claim)
    )


def _uids(references: Sequence[Obj]) -> set[str]:
    return {reference["uid"] for reference in references}


def leaving(claims: Sequence[Obj]) -> str:
    """Why a pod cannot be made with claims of which one is on its way out; "" when none is."""
    return next((f"pvc {name(one)} is being deleted" for one in claims if is_terminating(one)), "")
