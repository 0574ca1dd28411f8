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


def _removed(now: Obj, was: Obj, path: str, out: Errors) -> None:
    for kind, word in (("requests", "requests"), ("limits", "limits")):
        if set(was.get(kind) or ()) - set(now.get(kind) or ()):
            out.append(FieldError.forbidden(f"{path}.{kind}", f"resource {word} cannot be removed"))


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
    for key in ("containers", "initContainers"):
        now, was = wanted.get(key) or [], before.get(key) or []
        if len(now) != len(was):
            out.append(FieldError.forbidden(f"spec.{key}", f"{key} may not be added or removed on resize"))
            return
        if [one.get("name") for one in now] != [one.get("name") for one in was]:
            out.append(FieldError.forbidden(f"spec.{key}", f"{key} may not be renamed or reordered on resize"))
            return
    own = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(wanted) != own:
        text = "Pod QOS Class may not change as a result of resizing"
        out.append(FieldError.invalid("spec", qos_class(wanted), text))
    _containers(wanted, before, out)
    _whole(wanted, before, out)
    if out:
        return
    munged = deepcopy(wanted)
    for key in ("containers", "initContainers", "resources"):
        if key in munged:
            munged[key] = before.get(key)
    if plain(munged) != plain(before):
        lines = "\n".join(differences(plain(munged), plain(before), "spec"))
        out.append(FieldError.forbidden("spec", f"only cpu and memory resources are mutable\n{lines}\n"))


def _whole(wanted: Obj, before: Obj, out: Errors) -> None:
    """The pod's own resources: cpu and memory, too."""
    now, was = wanted.get("resources") or {}, before.get("resources") or {}
    _removed(now, was, "spec.resources", out)
    if plain(_without({"resources": now}, {"resources": was})) != plain(
        _without({"resources": was}, {"resources": was})
    ):
        out.append(FieldError.forbidden("spec", "only cpu and memory resources are mutable"))


def _containers(wanted: Obj, before: Obj, out: Errors) -> None:
    for key in ("initContainers", "containers"):
        for i, (now, was) in enumerate(zip(wanted.get(key) or (), before.get(key) or (), strict=True)):
            if key == "initContainers" and was.get("restartPolicy") != "Always":
                if plain(now) != plain(was):
                    out.append(FieldError.forbidden("spec", "resources for non-sidecar init containers are immutable"))
                continue
            _removed(now.get("resources") or {}, was.get("resources") or {}, f"spec.{key}[{i}].resources", out)
            if plain(_without(now, was)) != plain(_without(was, was)):
                which = "resources for sidecar containers" if key == "initContainers" else "resources"
                out.append(FieldError.forbidden("spec", f"only cpu and memory {which} are mutable"))
