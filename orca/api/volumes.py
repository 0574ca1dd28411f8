"""Which volume serves which claim. Pure; the binder and the scheduler ask the same questions.

Reference: k8s.io/component-helpers ``storage/volume``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orca.api.objects import Obj, is_terminating, labels, meta, name, namespace, uid
from orca.api.quantity import Quantity
from orca.api.selectors import Requirement, from_label_selector

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
PROVISIONER_BETA = "volume.beta.kubernetes.io/storage-provisioner"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
RECLAIM_ON = "orca.io/reclaim-on"
"""Label of a released volume: the node that removes what is on it, and then the volume."""
LOCAL_PATH = "orca.io/local-path"
NFS_SUBDIR = "orca.io/nfs-subdir"
BUILT_IN = frozenset({LOCAL_PATH, NFS_SUBDIR})
"""Provisioners that orca itself has."""
NFS_BASE = "orca.io/nfs-base"
"""Annotation of a sub-directory's volume: the directory of the export below which it is made."""
ON_DELETE = "orca.io/on-delete"
"""Annotation: one of ``ON_DELETE_WORDS``."""
DELETE, RETAIN, ARCHIVE = ON_DELETE_WORDS = ("delete", "retain", "archive")
_CLASS = "volume.beta.kubernetes.io/storage-class"
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


def annotation(obj: Obj, key: str) -> str:
    """ "" when it has none."""
    return str((meta(obj).get("annotations") or {}).get(key) or "")


def class_of(obj: Obj) -> str:
    """The storage class of a claim or volume, "" for none."""
    return annotation(obj, _CLASS) or str((obj.get("spec") or {}).get("storageClassName") or "")


def has_class(claim: Obj) -> bool:
    """Whether a claim says anything about its class: "" means a volume without class, nothing the default class."""
    return (
        _CLASS in (meta(claim).get("annotations") or {})
        or (claim.get("spec") or {}).get("storageClassName") is not None
    )


def requested(claim: Obj) -> Quantity:
    """The storage a claim asks for."""
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return Quantity.parse(requests.get("storage") or "0")


def capacity(volume: Obj) -> Quantity:
    """The storage a volume has."""
    return Quantity.parse(((volume.get("spec") or {}).get("capacity") or {}).get("storage") or "0")


def mode(obj: Obj) -> str:
    """``Filesystem`` or ``Block``."""
    return str((obj.get("spec") or {}).get("volumeMode") or "Filesystem")


def attributes_class(obj: Obj) -> str:
    """``volumeAttributesClassName`` of a claim or volume, "" for none."""
    return str((obj.get("spec") or {}).get("volumeAttributesClassName") or "")


def attributes_classes(obj: Obj) -> set[str]:
    """The VolumeAttributesClasses that a claim or volume asks for, has, or is being changed to."""
    status = obj.get("status") or {}
    changing = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    found = {attributes_class(obj), status.get("currentVolumeAttributesClassName"), changing}
    return {one for one in found if one}


def access_modes(obj: Obj) -> frozenset[str]:
    """Those that a claim wants or a volume has."""
    return frozenset((obj.get("spec") or {}).get("accessModes") or ())


def refers_to(volume: Obj, claim: Obj) -> bool:
    """Whether a volume is set aside for a claim, by a person (without uid) or by a controller."""
    reference = (volume.get("spec") or {}).get("claimRef")
    if not reference or (reference.get("namespace"), reference.get("name")) != (namespace(claim), name(claim)):
        return False
    return not reference.get("uid") or reference["uid"] == uid(claim)


def is_bound(claim: Obj) -> bool:
    """It has a volume, and whoever bound it said that this is complete."""
    if not (claim.get("spec") or {}).get("volumeName"):
        return False
    return (claim.get("status") or {}).get("phase") == "Bound" or BIND_COMPLETED in (
        meta(claim).get("annotations") or {}
    )


def mismatch(volume: Obj, claim: Obj) -> str:
    """Why a volume that a claim names cannot be the one, in upstream's words; "" when it can."""
    if is_terminating(volume):
        return f'the volume is marked for deletion "{name(volume)}"'
    if requested(claim).value > capacity(volume).value:
        return "requested PV is too small"
    if class_of(claim) != class_of(volume):
        return "storageClassName does not match"
    if attributes_class(claim) != attributes_class(volume):
        return "volumeAttributesClassName does not match"
    if mode(claim) != mode(volume):
        return "incompatible volumeMode"
    if not access_modes(claim) <= access_modes(volume):
        return "incompatible accessMode"
    return ""


def reachable_from(volume: Obj, node_name: str, node_labels: Mapping[str, str]) -> bool:
    """Whether a volume can be used on a node: its ``spec.nodeAffinity``."""
    required = ((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required")
    return required is None or selects(required, node_name, node_labels)


def selects(selector: Obj, node_name: str, node_labels: Mapping[str, str]) -> bool:
    """A NodeSelector: any of its terms, each of which is all its expressions and fields."""
    return any(_term(term, node_name, node_labels) for term in selector.get("nodeSelectorTerms") or ())


def _term(term: Obj, node_name: str, node_labels: Mapping[str, str]) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": node_name}
    return all(_requirement(one).matches(node_labels) for one in expressions) and all(
        _requirement(one).matches(named) for one in fields
    )


def _requirement(one: Obj) -> Requirement:
    return Requirement(one["key"], _OPERATORS[one["operator"]], frozenset(one.get("values") or ()))


def allowed_topology(storage_class: Obj, node_labels: Mapping[str, str]) -> bool:
    """Whether a class lets volumes be made for a node: ``allowedTopologies``."""
    topologies = storage_class.get("allowedTopologies") or ()
    return not topologies or any(
        all(node_labels.get(one["key"]) in one["values"] for one in term.get("matchLabelExpressions") or ())
        for term in topologies
    )


def best_match(
    claim: Obj,
    volumes: Iterable[Obj],
    *,
    node: tuple[str, Mapping[str, str]] | None = None,
    delayed: bool = False,
    taken: Collection[str] = (),
) -> Obj | None:
    """The volume for a claim: the one set aside for it, else the smallest that serves, with as few modes as possible.

    ``node`` (name, labels) restricts to what can be used there. A ``delayed`` claim without a node gets only what was
    set aside for it. ``taken`` are names of volumes that others are about to get.
    """
    wanted, best = requested(claim).value, None
    selector = (claim.get("spec") or {}).get("selector")
    chosen = from_label_selector(selector) if selector else None
    for volume in volumes:
        reference = (volume.get("spec") or {}).get("claimRef")
        own = refers_to(volume, claim)
        if (reference and not own) or is_terminating(volume) or name(volume) in taken:
            continue
        if capacity(volume).value < wanted or mode(volume) != mode(claim):
            continue
        if attributes_class(volume) != attributes_class(claim) or not access_modes(claim) <= access_modes(volume):
            continue
        if node is not None and not reachable_from(volume, *node):
            continue
        if own:
            return volume
        if (node is None and delayed) or (volume.get("status") or {}).get("phase") != "Available":
            continue
        if class_of(volume) != class_of(claim):
            continue
        if chosen is not None and not chosen.matches(labels(volume)):
            continue
        if best is None or _order(volume) < _order(best):
            best = volume
    return best


def _order(volume: Obj) -> tuple[int, object, str]:
    return len(access_modes(volume)), capacity(volume).value, name(volume)


def is_delayed(storage_class: Obj | None) -> bool:
    """Whether claims of a class wait for their first pod."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
