"""What of a Pod may change after it was created, through which door.

The main door takes images, a shorter deadline, more tolerations and, while the pod is gated, narrower placement.
``resize``, ``ephemeralcontainers``, ``binding`` and ``status`` each take only their part.
"""

from __future__ import annotations

from typing import Any

from orca.api.errors import FieldError
from orca.api.validation.comparison import differences, plain
from orca.api.validation.pods import containers, spec
from orca.api.validation.pods.resize import resize
from orca.api.validation.registry import Errors, Obj, on_update

_MIRROR = "kubernetes.io/config.mirror"
_ALLOWED = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _images(new: list[Obj], old: list[Obj], path: str, out: Errors) -> bool:
    """Same containers, sound images; False when nothing further can be compared."""
    if len(new) != len(old):
        out.append(FieldError.forbidden(path, "pod updates may not add or remove containers"))
        return False
    for i, one in enumerate(new):
        image = one.get("image") or ""
        if not image:
            out.append(FieldError.required(f"{path}[{i}].image"))
        elif image != image.strip():
            text = "must not have leading or trailing whitespace"
            out.append(FieldError.invalid(f"{path}[{i}].image", image, text))
    return True


def _deadline(new: Obj, old: Obj, out: Errors) -> None:
    path = "spec.activeDeadlineSeconds"
    value, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if value is not None:
        if before is not None and before < value:
            out.append(FieldError.invalid(path, value, "must be less than or equal to previous value"))
    elif before is not None:
        out.append(FieldError.invalid(path, None, "must not update from a positive integer to nil value"))


def _tolerations(new: list[Obj], old: list[Obj], out: Errors) -> None:
    """Every old toleration is still there; only its seconds may differ."""

    def identity(toleration: Obj) -> Any:
        return {key: value for key, value in plain(toleration).items() if key != "tolerationSeconds"}

    kept = [identity(toleration) for toleration in new]
    for toleration in old:
        if identity(toleration) not in kept:
            text = "existing toleration can not be modified except its tolerationSeconds"
            out.append(FieldError.forbidden("spec.tolerations", text))
            return


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
            text = "only additions are allowed (no mutations or deletions)"
            out.append(FieldError.invalid("spec.nodeSelector", wanted, text))
            return


def _main(new: Obj, old: Obj, out: Errors) -> None:
    for key in ("containers", "initContainers"):
        if not _images(new.get(key) or [], old.get(key) or [], f"spec.{key}", out):
            return
    _deadline(new, old, out)
    _gates(new, old, out)
    munged = dict(new)
    for key in ("containers", "initContainers"):
        before = old.get(key) or []
        munged[key] = [{**one, "image": before[i].get("image")} for i, one in enumerate(new.get(key) or ())]
    munged["activeDeadlineSeconds"] = old.get("activeDeadlineSeconds")
    munged["schedulingGates"] = old.get("schedulingGates")
    _tolerations(new.get("tolerations") or [], old.get("tolerations") or [], out)
    munged["tolerations"] = old.get("tolerations")
    if old.get("schedulingGates"):
        _node_selector(new, old, out)
        munged["nodeSelector"] = old.get("nodeSelector")
        munged["affinity"] = old.get("affinity")
    grace = old.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and new.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = grace
    left, right = plain(munged), plain(old)
    if left != right:
        lines = "\n".join(differences(left, right, "spec"))
        out.append(FieldError.forbidden("spec", f"{_ALLOWED}\n{lines}\n"))


def _mirror(new: Obj, old: Obj, out: Errors) -> None:
    left = (new["metadata"].get("annotations") or {}).get(_MIRROR)
    right = (old["metadata"].get("annotations") or {}).get(_MIRROR)
    if left != right:
        change = "add" if right is None else "remove or update"
        path = f"metadata.annotations[{_MIRROR}]"
        out.append(FieldError.forbidden(path, f"may not {change} mirror pod annotation"))


def _ephemeral(new: Obj, old: Obj, out: Errors) -> None:
    """Ephemeral containers are only added."""
    wanted = new.get("ephemeralContainers") or []
    known = {one.get("name"): i for i, one in enumerate(wanted)}
    for before in old.get("ephemeralContainers") or ():
        name = before.get("name")
        if name not in known:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            out.append(FieldError.forbidden("spec.ephemeralContainers", text))
        elif plain(wanted[known[name]]) != plain(before):
            text = f'existing ephemeral containers "{name}" may not be changed\n'
            out.append(FieldError.forbidden("spec.ephemeralContainers", text))
    names = {one.get("name") or "" for key in ("containers", "initContainers") for one in new.get(key) or ()}
    kinds = {volume.get("name", ""): "" for volume in new.get("volumes") or ()}
    pod = containers.PodContext(new, kinds, template=False)
    containers.ephemeral(wanted, "spec.ephemeralContainers", out, pod, names)


def _transitions(new: Obj, old: Obj, out: Errors) -> None:
    """A container that will not be restarted does not come back from the dead."""
    policy = (old.get("spec") or {}).get("restartPolicy")
    if policy == "Always":
        return
    now, before = new.get("status") or {}, old.get("status") or {}
    own = {c.get("name") for c in (old.get("spec") or {}).get("containers") or () if c.get("restartPolicy")}
    for i, was in enumerate(before.get("containerStatuses") or ()):
        ended = (was.get("state") or {}).get("terminated")
        if ended is None or was.get("name") in own or (ended.get("exitCode") and policy == "OnFailure"):
            continue
        for one in now.get("containerStatuses") or ():
            if one.get("name") == was.get("name") and (one.get("state") or {}).get("terminated") is None:
                text = "may not be transitioned to non-terminated state"
                out.append(FieldError.forbidden(f"status.containerStatuses[{i}].state", text))


@on_update("", "Pod")
def pod(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Pod, through the main door or a subresource."""
    out: Errors = []
    _mirror(new, old, out)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    if subresource == "":
        spec.pod_spec(wanted, "spec", out, template=False)
        _main(wanted, before, out)
    elif subresource == "status":
        _transitions(new, old, out)
    elif subresource == "ephemeralcontainers":
        _ephemeral(wanted, before, out)
    elif subresource == "resize":
        spec.pod_spec(wanted, "spec", out, template=False)
        resize(new, old, out)
    return out
