"""``pods/resize``: cpu and memory of containers, sidecars and the pod as a whole change, and nothing else; the class of
service stays.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePodResize. Whether there is room is the node's to say.
"""

from __future__ import annotations

from copy import deepcopy

from orca.api.errors import FieldError
from orca.api.qos import qos_class
from orca.api.validation.comparison import differences, plain
from orca.api.validation.registry import Errors, Obj

_MIRROR = "kubernetes.io/config.mirror"
_RESIZABLE = ("cpu", "memory")


def _refused_whole(old: Obj) -> str:
    """Why this pod cannot be resized at all, or ""."""
    before = old.get("spec") or {}
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return "static pods cannot be resized"
    if (before.get("os") or {}).get("name") == "windows":
        return "windows pods cannot be resized"
    return ""


def _removed(now: Obj, was: Obj, path: str, out: Errors, *, whose: str = "") -> None:
    for kind in ("requests", "limits"):
        if set(was.get(kind) or ()) - set(now.get(kind) or ()):
            out.append(FieldError.forbidden(f"{path}.{kind}", f"{whose}resource {kind} cannot be removed"))


def _without(container: Obj, was: Obj) -> Obj:
    """*container* with cpu and memory as they were, and the policy that may change with them."""
    kept = {key: value for key, value in container.items() if key not in ("resources", "resizePolicy")}
    now, before = container.get("resources") or {}, was.get("resources") or {}
    amounts = {}
    for kind in ("limits", "requests"):
        values = {name: value for name, value in (now.get(kind) or {}).items() if name not in _RESIZABLE}
        values |= {name: value for name, value in (before.get(kind) or {}).items() if name in _RESIZABLE}
        amounts[kind] = values
    kept["resources"] = {**now, **amounts}
    kept["resizePolicy"] = was.get("resizePolicy")
    return kept


def resize(new: Obj, old: Obj, out: Errors) -> None:
    """The errors of a resize of *old* to *new*, the spec's own apart."""
    refused = _refused_whole(old)
    if refused:
        out.append(FieldError.forbidden("[]", refused))
        return
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    own = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(wanted) != own:
        text = "Pod QOS Class may not change as a result of resizing"
        out.append(FieldError.invalid("spec", (new.get("status") or {}).get("qosClass") or "", text))
    _whole(wanted, before, out)
    if _ordered(wanted, before, out):
        _containers(wanted, before, out)
    if out:
        return
    munged = deepcopy(wanted)
    for key in ("containers", "initContainers", "resources"):
        if key in munged:
            munged[key] = before.get(key)
    if plain(munged) != plain(before):
        lines = "\n".join(differences(plain(munged), plain(before), "spec"))
        out.append(FieldError.forbidden("spec", f"only cpu and memory resources are mutable\n{lines}\n"))


def _ordered(wanted: Obj, before: Obj, out: Errors) -> bool:
    """Whether the same containers are there, in the same order."""
    found = len(out)
    for key in ("containers", "initContainers"):
        now, was = wanted.get(key) or [], before.get(key) or []
        if len(now) != len(was):
            out.append(FieldError.forbidden(f"spec.{key}", f"{key} may not be added or removed on resize"))
            continue
        for i, (one, other) in enumerate(zip(now, was, strict=True)):
            if one.get("name") != other.get("name"):
                text = f"{key} may not be renamed or reordered on resize"
                out.append(FieldError.forbidden(f"spec.{key}[{i}].name", text))
    return len(out) == found


def _whole(wanted: Obj, before: Obj, out: Errors) -> None:
    """The pod's own resources: cpu and memory, too."""
    now, was = wanted.get("resources") or {}, before.get("resources") or {}
    if not any(one.get(kind) for one in (now, was) for kind in ("requests", "limits")):
        return
    if wanted.get("resources") is None:
        out.append(FieldError.forbidden("spec.resources", "pod-level resources cannot be removed"))
        return
    _removed(now, was, "spec.resources", out, whose="pod-level ")
    if plain(_without({"resources": now}, {"resources": was})) != plain(
        _without({"resources": was}, {"resources": was})
    ):
        out.append(FieldError.forbidden("spec", "only cpu and memory resources are mutable at pod-level"))


def _containers(wanted: Obj, before: Obj, out: Errors) -> None:
    pairs = [
        (f"spec.{key}[{i}]", now, was)
        for key in ("initContainers", "containers")
        for i, (now, was) in enumerate(zip(wanted.get(key) or (), before.get(key) or (), strict=True))
    ]
    for path, now, was in pairs:
        _removed(now.get("resources") or {}, was.get("resources") or {}, f"{path}.resources", out)
    for path, now, was in pairs:
        changed = plain(_without(now, was)) != plain(_without(was, was))
        if not path.startswith("spec.init"):
            if changed:
                out.append(FieldError.forbidden("spec", "only cpu and memory resources are mutable"))
        elif was.get("restartPolicy") == "Always":
            if changed:
                text = "only cpu and memory resources for init or sidecar containers are mutable"
                out.append(FieldError.forbidden(path, text))
        elif plain(now) != plain(was):
            # Hosts give these what they were made with; upstream says this where its gate for them is off.
            out.append(FieldError.forbidden("spec", "resources for non-sidecar init containers are immutable"))
