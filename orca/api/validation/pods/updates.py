"""What of a Pod may change after it was created, through which door.

The main door takes images, a shorter deadline, more tolerations and, while the pod is gated, narrower placement.
``resize``, ``ephemeralcontainers``, ``binding`` and ``status`` each take only their part.
Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePodUpdate and its like.
"""

from __future__ import annotations

from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation.comparison import differences, plain
from orca.api.validation.pods import marks, scheduling, spec, status
from orca.api.validation.pods.resize import resize
from orca.api.validation.registry import Errors, Obj, on_update

_MAX_INT = 2**31 - 1
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_ADDITIONS = "only additions are allowed (no mutations or deletions)"
_ALLOWED = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _images(new: list[Obj], old: list[Obj], path: str, out: Errors) -> bool:
    """Same number of containers; False when nothing further can be compared. Images are judged with the spec."""
    if len(new) != len(old):
        out.append(FieldError.forbidden(path, "pod updates may not add or remove containers"))
        return False
    return True


def _deadline(new: Obj, old: Obj, out: Errors) -> bool:
    """The deadline comes, or comes nearer; False when nothing further is looked at."""
    path = "spec.activeDeadlineSeconds"
    value, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if value is None:
        if before is not None:
            out.append(FieldError.invalid(path, None, "must not update from a positive integer to nil value"))
        return True
    if not 0 <= value <= _MAX_INT:
        out.append(FieldError.invalid(path, value, names.in_range(0, _MAX_INT)))
        return False
    if before is not None and before < value:
        out.append(FieldError.invalid(path, value, "must be less than or equal to previous value"))
        return False
    return True


def _tolerations(new: list[Obj], old: list[Obj], out: Errors) -> None:
    """Every old toleration is still there; only its seconds may differ."""

    def identity(toleration: Obj) -> Any:
        return {key: value for key, value in plain(toleration).items() if key != "tolerationSeconds"}

    if new == old:
        return
    kept = [identity(toleration) for toleration in new]
    for toleration in old:
        if identity(toleration) not in kept:
            text = "existing toleration can not be modified except its tolerationSeconds"
            out.append(FieldError.forbidden("spec.tolerations", text))
            return
    scheduling.tolerations(new, "spec.tolerations", out)


def _gates(new: Obj, old: Obj, out: Errors) -> None:
    before = {gate.get("name") for gate in old.get("schedulingGates") or ()}
    for i, gate in enumerate(new.get("schedulingGates") or ()):
        if gate.get("name") not in before:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            out.append(FieldError.forbidden(f"spec.schedulingGates[{i}].name", text))


def _node_selector(new: Obj, old: Obj, out: Errors) -> None:
    """A gated pod's node selector may grow."""
    wanted = new.get("nodeSelector") or {}
    for key, value in (old.get("nodeSelector") or {}).items():
        if wanted.get(key) != value:
            text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            out.append(FieldError.invalid("spec.nodeSelector", wanted, text))
            return


def _only_adds(new: Obj, old: Obj) -> bool:
    """Whether the node selector term *new* selects no more than *old*: an empty one selects nothing, and stays so."""
    rules = ("matchExpressions", "matchFields")
    if not any(old.get(key) for key in rules) and any(new.get(key) for key in rules):
        return False
    return all(plain((new.get(key) or [])[: len(old.get(key) or ())]) == plain(old.get(key) or []) for key in rules)


def _node_affinity(new: Obj | None, old: Obj | None, out: Errors) -> None:
    """A gated pod's required node affinity may come, or get more expressions in each of its terms."""
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    before = ((old or {}).get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    wanted = ((new or {}).get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    if not before:
        return
    if len(before) != len(wanted):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        out.append(FieldError.invalid(path, wanted, text))
        return
    for i, (now, was) in enumerate(zip(wanted, before, strict=True)):
        if not _only_adds(now, was):
            out.append(FieldError.invalid(f"{path}[{i}]", now, _ADDITIONS))


def _gated(munged: Obj, new: Obj, old: Obj, out: Errors) -> None:
    _node_selector(new, old, out)
    munged["nodeSelector"] = old.get("nodeSelector")
    affinity, before = new.get("affinity") or {}, old.get("affinity") or {}
    now, was = affinity.get("nodeAffinity"), before.get("nodeAffinity")
    if plain(now or {}) != plain(was or {}):
        _node_affinity(now, was, out)
        munged["affinity"] = {**affinity, "nodeAffinity": was}


def _main(new: Obj, old: Obj, out: Errors) -> None:
    for key in ("containers", "initContainers"):
        if not _images(new.get(key) or [], old.get(key) or [], f"spec.{key}", out):
            return
    if not _deadline(new, old, out):
        return
    _tolerations(new.get("tolerations") or [], old.get("tolerations") or [], out)
    _gates(new, old, out)
    if new == old:
        return
    munged = dict(new)
    for key in ("containers", "initContainers"):
        before = old.get(key) or []
        munged[key] = [{**one, "image": before[i].get("image")} for i, one in enumerate(new.get(key) or ())]
    for key in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        munged[key] = old.get(key)
    if old.get("schedulingGates"):
        _gated(munged, new, old, out)
    grace = old.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and new.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = grace
    left, right = plain(munged), plain(old)
    if left != right:
        lines = "\n".join(differences(left, right, "spec"))
        out.append(FieldError.forbidden("spec", f"{_ALLOWED}\n{lines}\n"))


def _ephemeral(new: Obj, old: Obj, out: Errors) -> None:
    """Ephemeral containers are only added."""
    wanted = {one.get("name"): one for one in new.get("ephemeralContainers") or ()}
    for before in old.get("ephemeralContainers") or ():
        name = before.get("name")
        if name not in wanted:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            out.append(FieldError.forbidden("spec.ephemeralContainers", text))
        elif plain(wanted[name]) != plain(before):
            lines = "\n".join(differences(plain(wanted[name]), plain(before), name))
            text = f'existing ephemeral containers "{name}" may not be changed\n{lines}\n'
            out.append(FieldError.forbidden("spec.ephemeralContainers", text))


@on_update("", "Pod")
def pod(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Pod, through the main door or a subresource."""
    out: Errors = []
    values, had = new["metadata"].get("annotations"), old["metadata"].get("annotations")
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    if subresource == "status":
        if values != had:
            marks.changed(values, had, "metadata.annotations", out)
            marks.specific(values, wanted, "metadata.annotations", out)
        status.changed(new, old, out)
    elif subresource in ("", "ephemeralcontainers", "resize"):
        spec.whole(new, out)
        if subresource == "resize":
            resize(new, old, out)
            return out
        if values != had:
            marks.changed(values, had, "metadata.annotations", out)
        if subresource == "":
            _main(wanted, before, out)
        elif had and marks.MIRROR in had:
            return [FieldError.forbidden("[]", "static pods do not support ephemeral containers")]
        else:
            _ephemeral(wanted, before, out)
    return out
