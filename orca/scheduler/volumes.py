"""Claims, volumes and classes as the scheduler knows them, with what was promised in decisions that are under way.

A decision that needs volumes is carried out in two steps: here they are reserved at once, so that the next decision
does not take them, and `binding` writes what was decided and waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orca.api.objects import Obj, key, meta, name, namespace
from orca.api.volumes import (
    NO_PROVISIONER,
    SELECTED_NODE,
    allowed_topology,
    annotation,
    best_match,
    capacity,
    class_of,
    is_bound,
    is_delayed,
    requested,
)


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """What a pod's delayed claims get on the node that was chosen: volumes that are there, or new ones."""

    static: tuple[tuple[Obj, Obj], ...] = ()
    """(claim, volume)"""
    dynamic: tuple[Obj, ...] = ()
    """claims"""

    def __bool__(self) -> bool:
        return bool(self.static or self.dynamic)

    @property
    def claims(self) -> Iterator[Obj]:
        """All that are waited for."""
        yield from (claim for claim, _ in self.static)
        yield from self.dynamic


def claims_of(pod: Obj) -> Iterator[tuple[str, bool]]:
    """(claim's name, whether it is made for this pod alone) of every volume that is a claim."""
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield volume["persistentVolumeClaim"]["claimName"], False
        elif volume.get("ephemeral") is not None:
            yield f"{name(pod)}-{volume['name']}", True


def claim_keys(pod: Obj) -> frozenset[str]:
    """ "namespace/name" of the claims among a pod's volumes."""
    if not pod["spec"].get("volumes"):
        return frozenset()
    return frozenset(f"{namespace(pod)}/{claim_name}" for claim_name, _ in claims_of(pod))


@dataclass(slots=True)
class Volumes:
    """Keys are "namespace/name" of claims, names of volumes and classes."""

    claims: dict[str, Obj] = field(default_factory=dict)
    volumes: dict[str, Obj] = field(default_factory=dict)
    classes: dict[str, Obj] = field(default_factory=dict)
    _free: dict[str, dict[str, Obj]] = field(default_factory=dict)
    """class -> name -> volume that no controller has bound"""
    reserved: dict[str, str] = field(default_factory=dict)
    """volume -> claim it is about to be bound to"""
    promised: dict[str, str] = field(default_factory=dict)
    """claim -> node for which its volume is about to be made"""
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    """node -> CSI driver -> volumes that can be attached there"""

    # --- what the API says

    def set_claim(self, obj: Obj) -> None:
        """Takes a new or changed claim."""
        self.claims[key(obj)] = obj

    def remove_claim(self, obj: Obj) -> None:
        """Forgets a claim."""
        self.claims.pop(key(obj), None)
        self.promised.pop(key(obj), None)

    def set_volume(self, obj: Obj) -> None:
        """Takes a new or changed volume."""
        self.remove_volume(obj)
        self.volumes[name(obj)] = obj
        if not (obj["spec"].get("claimRef") or {}).get("uid"):
            self._free.setdefault(class_of(obj), {})[name(obj)] = obj

    def remove_volume(self, obj: Obj) -> None:
        """Forgets a volume."""
        old = self.volumes.pop(name(obj), None)
        if old is not None:
            of_class = self._free.get(class_of(old), {})
            of_class.pop(name(obj), None)
            if not of_class:
                self._free.pop(class_of(old), None)

    def set_class(self, obj: Obj) -> None:
        """Takes a new or changed StorageClass."""
        self.classes[name(obj)] = obj

    def remove_class(self, obj: Obj) -> None:
        """Forgets a StorageClass."""
        self.classes.pop(name(obj), None)

    def set_csi_node(self, obj: Obj) -> None:
        """Takes a new or changed CSINode."""
        limits = {
            driver["name"]: int(driver["allocatable"]["count"])
            for driver in (obj.get("spec") or {}).get("drivers") or ()
            if (driver.get("allocatable") or {}).get("count") is not None
        }
        if limits:
            self.limits[name(obj)] = limits
        else:
            self.limits.pop(name(obj), None)

    def remove_csi_node(self, obj: Obj) -> None:
        """Forgets a CSINode."""
        self.limits.pop(name(obj), None)

    # --- questions

    def attached(self, claim_names: Iterable[str]) -> dict[str, str]:
        """Volume -> CSI driver of claims (by key). One that is not bound yet counts for its class's provisioner."""
        found = {}
        for claim_key in claim_names:
            claim = self.claims.get(claim_key)
            if claim is None:
                continue
            volume = self.volumes.get(claim["spec"].get("volumeName") or "")
            if volume is not None:
                csi = volume["spec"].get("csi")
                if csi:
                    found[f"{csi['driver']}/{csi.get('volumeHandle', '')}"] = csi["driver"]
                continue
            provisioner = (self.classes.get(class_of(claim)) or {}).get("provisioner")
            if provisioner and provisioner != NO_PROVISIONER:
                found[f"{provisioner}/claim {claim_key}"] = provisioner
        return found

    def is_delayed(self, claim: Obj) -> bool:
        """Whether a claim waits for its first pod to be placed."""
        return is_delayed(self.classes.get(class_of(claim)))

    def waiting(self, pod: Obj) -> list[Obj]:
        """The pod's claims that are to be bound together with it, the largest first: it has the least choice."""
        found = []
        for claim_name, _ in claims_of(pod):
            claim = self.claims.get(f"{namespace(pod)}/{claim_name}")
            if claim is not None and not is_bound(claim) and self.is_delayed(claim) and claim not in found:
                found.append(claim)
        return sorted(found, key=lambda claim: requested(claim).value, reverse=True)

    def candidates(self, claim: Obj) -> list[Obj]:
        """Volumes that may be bound to a claim."""
        own = key(claim)
        return [
            volume
            for volume in self._free.get(class_of(claim), {}).values()
            if self.reserved.get(name(volume), own) == own and capacity(volume).value >= requested(claim).value
        ]

    def plan(self, claims: Iterable[Obj], node: str, labels: Mapping[str, str]) -> VolumePlan | None:
        """What claims would get on a node; None when one gets nothing there."""
        static: list[tuple[Obj, Obj]] = []
        dynamic = []
        taken: set[str] = set()
        for claim in claims:
            chosen = self.promised.get(key(claim)) or annotation(claim, SELECTED_NODE)
            if chosen and chosen != node:
                return None
            found = None
            if not chosen:
                found = best_match(claim, self.candidates(claim), node=(node, labels), delayed=True, taken=taken)
            if found is not None:
                taken.add(name(found))
                static.append((claim, found))
            elif self._can_be_made(claim, labels):
                dynamic.append(claim)
            else:
                return None
        return VolumePlan(tuple(static), tuple(dynamic))

    def _can_be_made(self, claim: Obj, labels: Mapping[str, str]) -> bool:
        of_class = self.classes.get(class_of(claim))
        if of_class is None or of_class.get("provisioner") in (None, NO_PROVISIONER):
            return False
        return allowed_topology(of_class, labels)

    def anywhere(self, claims: Iterable[Obj]) -> bool:
        """Whether any node will do: nothing is there to choose from, and new volumes may be anywhere."""
        return all(
            not self.candidates(claim)
            and key(claim) not in self.promised
            and not annotation(claim, SELECTED_NODE)
            and not (self.classes.get(class_of(claim)) or {}).get("allowedTopologies")
            and self._can_be_made(claim, {})
            for claim in claims
        )

    # --- promises

    def reserve(self, plan: VolumePlan, node: str) -> None:
        """Nobody else gets what was decided."""
        for claim, volume in plan.static:
            self.reserved[name(volume)] = key(claim)
        for claim in plan.dynamic:
            self.promised[key(claim)] = node

    def release(self, plan: VolumePlan) -> None:
        """It was done, or given up: from here on objects say what is."""
        for _, volume in plan.static:
            self.reserved.pop(name(volume), None)
        for claim in plan.dynamic:
            self.promised.pop(key(claim), None)


def zones_fit(volume: Obj, labels: Mapping[str, str]) -> bool:
    """Whether a node is where a volume's labels say that it is. A label may list zones, joined by ``__``."""
    for wanted in (*_ZONES, *_OLD_ZONES):
        value = (meta(volume).get("labels") or {}).get(wanted)
        if value is None:
            continue
        modern = _ZONES[_OLD_ZONES.index(wanted)] if wanted in _OLD_ZONES else wanted
        if labels.get(modern, labels.get(wanted)) not in value.split("__"):
            return False
    return True


_ZONES = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_OLD_ZONES = ("failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region")
