"""What to do about one claim, or one volume. Pure.

Reference: k8s.io/kubernetes ``pkg/controller/volume/persistentvolume/pv_controller.go``: states, reasons and messages
are upstream's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orca.api.objects import Obj, is_terminating, meta, name, uid
from orca.api.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    BUILT_IN,
    PROVISIONED_BY,
    PROVISIONER,
    PROVISIONER_BETA,
    SELECTED_NODE,
    annotation,
    best_match,
    capacity,
    class_of,
    is_delayed,
    mismatch,
    refers_to,
    requested,
)

Event = tuple[str, str, str]
"""(type, reason, message)"""


@dataclass(frozen=True, slots=True)
class Bind:
    """Make volume and claim point at each other."""

    volume: Obj


@dataclass(frozen=True, slots=True)
class Provision:
    """Make a volume of the class, by ourselves or by telling another provisioner."""

    storage_class: Obj


@dataclass(frozen=True, slots=True)
class Stay:
    """Nothing can be done now: the claim's phase, and what to tell."""

    phase: str
    event: Event | None = None


ClaimPlan = Bind | Provision | Stay


def plan_claim(
    claim: Obj,
    *,
    volumes: Iterable[Obj],
    named: Obj | None,
    storage_class: Obj | None,
    waits_for: Sequence[str] = (),
) -> ClaimPlan:
    """``volumes`` are those that may match (of its class, or set aside for it), ``named`` is ``spec.volumeName``'s,
    ``waits_for`` the names of pods that use the claim and have no node yet."""
    if annotation(claim, BIND_COMPLETED):
        return _bound(claim, named)
    if is_terminating(claim):
        return Stay("Pending")
    if claim["spec"].get("volumeName"):
        return _asks_for_one(claim, named)
    delayed = is_delayed(storage_class) and not annotation(claim, SELECTED_NODE)
    found = best_match(claim, volumes, delayed=is_delayed(storage_class))
    if found is not None:
        return Bind(found)
    if delayed:
        if waits_for:
            which = f"pods {','.join(waits_for)}" if len(waits_for) > 1 else f"pod {waits_for[0]}"
            text = f"waiting for {which} to be scheduled"
            return Stay("Pending", ("Normal", "WaitForPodScheduled", text))
        text = "waiting for first consumer to be created before binding"
        return Stay("Pending", ("Normal", "WaitForFirstConsumer", text))
    if not class_of(claim):
        text = "no persistent volumes available for this claim and no storage class is set"
        return Stay("Pending", ("Normal", "FailedBinding", text))
    if storage_class is None:
        text = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
        return Stay("Pending", ("Warning", "ProvisioningFailed", text))
    return Provision(storage_class)


def _asks_for_one(claim: Obj, named: Obj | None) -> ClaimPlan:
    if named is None:
        return Stay("Pending")
    if refers_to(named, claim):
        return Bind(named)
    if named["spec"].get("claimRef"):
        # It may be given back.
        text = f'volume "{name(named)}" already bound to a different claim.'
        return Stay("Pending", ("Warning", "FailedBinding", text))
    why = mismatch(named, claim)
    if why:
        text = f'Cannot bind to requested volume "{name(named)}": {why}'
        return Stay("Pending", ("Warning", "VolumeMismatch", text))
    return Bind(named)


def _bound(claim: Obj, named: Obj | None) -> ClaimPlan:
    if not claim["spec"].get("volumeName"):
        text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        return Stay("Lost", ("Warning", "ClaimLost", text))
    if named is None:
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        return Stay("Lost", ("Warning", "ClaimLost", text))
    reference = named["spec"].get("claimRef")
    if not reference or reference.get("uid") == uid(claim):
        return Bind(named)
    text = "Two claims are bound to the same volume, this one is bound incorrectly"
    return Stay("Lost", ("Warning", "ClaimMisbound", text))


def bound_volume(volume: Obj, claim: Obj, reference: Obj) -> Obj:
    """The volume pointing at the claim; itself when it does."""
    if refers_to(volume, claim) and volume["spec"]["claimRef"].get("uid"):
        return volume
    by_us = not volume["spec"].get("claimRef")
    return _annotated(
        {**volume, "spec": {**volume["spec"], "claimRef": reference}}, {BOUND_BY_CONTROLLER: "yes"} if by_us else {}
    )


def bound_claim(claim: Obj, volume: Obj) -> Obj:
    """The claim pointing at the volume; itself when it does."""
    if claim["spec"].get("volumeName") == name(volume) and annotation(claim, BIND_COMPLETED):
        return claim
    marks = {BIND_COMPLETED: "yes"}
    if not claim["spec"].get("volumeName"):
        marks[BOUND_BY_CONTROLLER] = "yes"
        by = annotation(volume, PROVISIONED_BY)
        if by in BUILT_IN:  # other provisioners had to be told before
            marks |= {PROVISIONER: by, PROVISIONER_BETA: by}
    return _annotated({**claim, "spec": {**claim["spec"], "volumeName": name(volume)}}, marks)


def bound_status(claim: Obj, volume: Obj) -> Obj:
    """The claim's whole status. Its capacity follows the volume's, but for one that grows only when that has grown."""
    status = dict(claim.get("status") or {})
    status["phase"] = "Bound"
    status["accessModes"] = list(volume["spec"].get("accessModes") or ())
    known = (status.get("capacity") or {}).get("storage")
    if known is None or annotation(volume, PROVISIONED_BY) in BUILT_IN:
        status["capacity"] = dict(volume["spec"].get("capacity") or {})
    return status


def grown_volume(volume: Obj, claim: Obj) -> Obj | None:
    """One of ours with the capacity that the claim asks for meanwhile; None when it has that."""
    if annotation(volume, PROVISIONED_BY) not in BUILT_IN or requested(claim).value <= capacity(volume).value:
        return None
    wanted = {**volume["spec"].get("capacity", {}), "storage": str(requested(claim))}
    return {**volume, "spec": {**volume["spec"], "capacity": wanted}}


def _annotated(obj: Obj, marks: Mapping[str, str]) -> Obj:
    if not marks:
        return obj
    annotations = {**(meta(obj).get("annotations") or {}), **marks}
    return {**obj, "metadata": {**meta(obj), "annotations": annotations}}


# --- volumes


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """``phase`` to have ("": as it is) with its message; ``unbind``: give the volume free again, ``wholly`` or but for
    the name a person wrote; ``reclaim``: do what the reclaim policy says; ``look``: the claim has to be looked at."""

    phase: str = ""
    message: str = ""
    unbind: bool = False
    wholly: bool = False
    reclaim: bool = False
    look: bool = False


def plan_volume(volume: Obj, claim: Obj | None) -> VolumePlan:
    """``claim`` is that of ``spec.claimRef`` by name, None when there is none of its uid."""
    reference = volume["spec"].get("claimRef")
    if not reference or not reference.get("uid"):
        return VolumePlan("Available", look=bool(reference))
    phase = (volume.get("status") or {}).get("phase")
    over = phase in ("Released", "Failed")
    if claim is None or uid(claim) != reference["uid"]:
        return VolumePlan("" if over else "Released", reclaim=True)
    if not claim["spec"].get("volumeName"):
        return VolumePlan(look=True)
    if claim["spec"]["volumeName"] == name(volume):
        return VolumePlan("Bound")
    if annotation(volume, PROVISIONED_BY) and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
        return VolumePlan("" if over else "Released", reclaim=True)
    return VolumePlan(unbind=True, wholly=bool(annotation(volume, BOUND_BY_CONTROLLER)))


def unbound(volume: Obj, *, wholly: bool) -> Obj:
    """The volume without its claim, or with the name alone that a person gave it."""
    reference = volume["spec"]["claimRef"]
    kept = (
        {}
        if wholly
        else {
            "claimRef": {key: reference[key] for key in ("kind", "apiVersion", "namespace", "name") if key in reference}
        }
    )
    spec = {key: value for key, value in volume["spec"].items() if key != "claimRef"} | kept
    annotations = {
        key: value for key, value in (meta(volume).get("annotations") or {}).items() if key != BOUND_BY_CONTROLLER
    }
    return {**volume, "spec": spec, "metadata": {**meta(volume), "annotations": annotations}}


def claim_key(volume: Obj) -> str:
    """ "namespace/name" of the claim a volume is set aside for, "" for none."""
    reference = volume["spec"].get("claimRef")
    return f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""
