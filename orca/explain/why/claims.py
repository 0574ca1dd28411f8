"""What the claims of a pod wait for: a volume, a class, a provisioner, or the pod itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orca.api.objects import Obj, is_terminating, meta, name, namespace
from orca.api.volumes import NO_PROVISIONER, capacity, class_of, has_class, is_bound, is_delayed, mismatch, requested
from orca.explain.why import events
from orca.explain.why.findings import Finding, World
from orca.scheduler.volumes import claims_of

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_TROUBLE = ("ProvisioningFailed", "FailedBinding", "VolumeMismatch", "ClaimLost", "ClaimMisbound")


def explain_claims(pod: Obj, world: World, now: datetime) -> Iterator[Finding]:
    """Of the claims of a pod that are not ready to be used, each with what it lacks."""
    known = {name(one): one for one in world.claims if namespace(one) == namespace(pod)}
    for called, generic in claims_of(pod):
        claim = known.get(called)
        if claim is None:
            says = f'its claim "{called}" does not exist'
            if generic:
                yield Finding(f"{says} yet: it is made for this pod", waits=True)
            else:
                others = ", ".join(sorted(known)) or "none"
                yield Finding(says, f"make the PersistentVolumeClaim {called} (there are: {others})")
        elif is_terminating(claim):
            kept = f" (held by {', '.join(found)})" if (found := meta(claim).get("finalizers")) else ""
            fix = "end the pods that use it, then make it anew"
            yield Finding(f'its claim "{called}" is being deleted{kept}', fix)
        elif (claim.get("status") or {}).get("phase") == "Lost":
            gone = claim["spec"].get("volumeName")
            yield Finding(f'its claim "{called}" has lost its volume {gone}', "make the claim and its content anew")
        elif not is_bound(claim):
            yield from _unbound(claim, world, now)


def _unbound(claim: Obj, world: World, now: datetime) -> Iterator[Finding]:
    says = f'its claim "{name(claim)}" has no volume'
    wanted = class_of(claim)
    classes = {name(one): one for one in world.classes}
    trouble = events.newest(world, claim, _TROUBLE)
    details = (f"{trouble['reason']}: {events.text(trouble)}{events.ago(trouble, now)}",) if trouble is not None else ()
    asks = f"{requested(claim)} {'+'.join(claim['spec'].get('accessModes') or ())}"
    if bound := claim["spec"].get("volumeName"):
        volume = next((one for one in world.volumes if name(one) == bound), None)
        if volume is None:
            yield Finding(f"{says}: it asks for {bound}, which does not exist", f"make the PersistentVolume {bound}")
        elif wrong := mismatch(volume, claim):
            yield Finding(f"{says}: it asks for {bound}: {wrong}", "correct the claim or the volume", details)
        else:
            yield Finding(f"{says}: it is being bound to {bound}", details=details, waits=True)
        return
    if not wanted:
        yield _by_hand(claim, world, says, asks, details)
        return
    if wanted not in classes:
        fix = f"make the StorageClass {wanted}, or name one that is there ({', '.join(sorted(classes)) or 'none'})"
        if any(class_of(one) == wanted for one in world.volumes):
            yield _by_hand(claim, world, says, asks, details)
        else:
            yield Finding(f'{says}: there is no StorageClass "{wanted}"', fix, details)
        return
    storage_class = classes[wanted]
    provisioner = storage_class.get("provisioner") or ""
    if provisioner == NO_PROVISIONER:
        yield _by_hand(claim, world, f"{says}: nothing makes volumes of the class {wanted}", asks, details)
    elif is_delayed(storage_class):
        yield Finding(f"{says} yet: one is made for it where the pod is placed", details=details, waits=not details)
    else:
        who = f"{says}: {provisioner} has not made one of the class {wanted} ({asks}) yet"
        if details:
            yield Finding(
                f"{who}: {details[0]}", f"see what {provisioner} says, and kubectl describe pvc {name(claim)}"
            )
        else:
            yield Finding(who, f"see that {provisioner} runs", waits=events.since(_made(claim), now) < 30)


def _by_hand(claim: Obj, world: World, says: str, asks: str, details: tuple[str, ...]) -> Finding:
    """Only a PersistentVolume that somebody makes can serve it: the nearest one, and what is wrong with it."""
    free = [one for one in world.volumes if not one["spec"].get("claimRef") and class_of(one) == class_of(claim)]
    near = [(mismatch(one, claim), one) for one in free]
    for wrong, volume in sorted(near, key=lambda one: (bool(one[0]), capacity(one[1]).value)):
        if wrong:
            has = f"{capacity(volume)} {'+'.join(volume['spec'].get('accessModes') or ())}"
            says += f": asks for {asks}; the nearest volume, {name(volume)}, has {has}: {wrong}"
            return Finding(says, "make a volume that serves it, or ask for less", details)
        return Finding(f"{says} yet: {name(volume)} would serve it", details=details, waits=True)
    fix = f"make a PersistentVolume with {asks}{_of_class(claim)}"
    if not has_class(claim) or not class_of(claim):
        default = [name(one) for one in world.classes if (meta(one).get("annotations") or {}).get(_DEFAULT_CLASS)]
        known = ", ".join(default or sorted(name(one) for one in world.classes))
        fix += f", or set storageClassName{f' ({known})' if known else ''}"
    return Finding(f"{says}: no free PersistentVolume serves it ({asks}{_of_class(claim)})", fix, details)


def _of_class(claim: Obj) -> str:
    return f" of the class {class_of(claim)}" if class_of(claim) else " without a class"


def _made(claim: Obj) -> str | None:
    return meta(claim).get("creationTimestamp")
