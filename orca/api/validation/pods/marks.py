"""Annotations that mean something for a pod: mirrors of static pods, what deleting costs, profiles of old.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePodSpecificAnnotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orca.api.errors import FieldError, quote
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

MIRROR = "kubernetes.io/config.mirror"
_COST = "controller.kubernetes.io/pod-deletion-cost"
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
_LOCALHOST = "localhost/"
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_KINDS = ("initContainers", "containers", "ephemeralContainers")


def _containers(spec: Obj, path: str) -> Iterator[tuple[Obj, str]]:
    for kind in _KINDS:
        for i, container in enumerate(spec.get(kind) or ()):
            yield container, f"{path}.{kind}[{i}]"


def _cost_is_fine(value: str) -> bool:
    return bool(_WHOLE.fullmatch(value)) and value != "-0" and -(2**31) <= int(value[:12]) < 2**31 and len(value) < 12


def _seccomp_profile(value: str, path: str, out: Errors) -> None:
    if value.startswith(_LOCALHOST):
        common.relative_path(value.removeprefix(_LOCALHOST), path, out)
    elif value not in ("runtime/default", "docker/default", "unconfined"):
        out.append(FieldError.invalid(path, value, "must be a valid seccomp profile"))


def specific(values: Obj | None, spec: Obj, path: str, out: Errors) -> None:
    """The annotations *values* of a pod, or of a template, with *spec*."""
    if not values:
        return
    if MIRROR in values and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        out.append(FieldError.invalid(f"{path}[{MIRROR}]", values[MIRROR], text))
    if _COST in values and not _cost_is_fine(values[_COST]):
        out.append(FieldError.invalid(f"{path}[{_COST}]", values[_COST], "must be a 32bit integer"))
    for key, value in values.items():
        if key == _SECCOMP_POD or key.startswith(_SECCOMP):
            _seccomp_profile(value, f"{path}.{key}", out)
        elif key.startswith(_APP_ARMOR):
            name = key.removeprefix(_APP_ARMOR)
            if all(container.get("name") != name for container, _ in _containers(spec, "")):
                out.append(FieldError.invalid(f"{path}[{key}]", name, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith(_LOCALHOST):
                text = f"invalid AppArmor profile name: {quote(value)}"
                out.append(FieldError.invalid(f"{path}[{key}]", value, text))


def _matches(annotation: str, profile: Obj, path: str, word: str, out: Errors) -> None:
    kind = profile.get("type")
    fine = {
        "Unconfined": annotation == "unconfined",
        "RuntimeDefault": annotation == "runtime/default" or (word == "seccomp" and annotation == "docker/default"),
        "Localhost": annotation.startswith(_LOCALHOST),
    }.get(str(kind), True)
    if not fine:
        text = f"{word} type in annotation and field must match"
        out.append(FieldError.forbidden(f"{path}.type", text))
    elif kind == "Localhost" and annotation.removeprefix(_LOCALHOST) != profile.get("localhostProfile"):
        text = f"{word} profile in annotation and field must match"
        out.append(FieldError.forbidden(f"{path}.localhostProfile", text))


def agree(values: Obj | None, spec: Obj, path: str, out: Errors) -> None:
    """Where annotations and fields of a new pod both name a profile, they name the same; *path* is the spec's."""
    if not values or not any("seccomp" in key or "apparmor" in key for key in values):
        return
    whole = spec.get("securityContext") or {}
    if whole.get("seccompProfile") is not None and _SECCOMP_POD in values:
        _matches(
            values[_SECCOMP_POD], whole["seccompProfile"], f"{path}.securityContext.seccompProfile", "seccomp", out
        )
    windows = (spec.get("os") or {}).get("name") == "windows"
    for container, at in _containers(spec, path):
        own = container.get("securityContext") or {}
        name = container.get("name")
        seccomp, armor = own.get("seccompProfile"), own.get("appArmorProfile") or whole.get("appArmorProfile")
        if seccomp is not None and f"{_SECCOMP}{name}" in values:
            at_profile = f"{at}.securityContext.seccompProfile"
            _matches(values[f"{_SECCOMP}{name}"], seccomp, at_profile, "seccomp", out)
        if armor is not None and f"{_APP_ARMOR}{name}" in values and not windows:
            at_profile = f"{at}.securityContext.appArmorProfile"
            _matches(values[f"{_APP_ARMOR}{name}"], armor, at_profile, "apparmor", out)


def changed(new: Obj | None, old: Obj | None, path: str, out: Errors) -> None:
    """What a mirror is of, and profiles of AppArmor, stay as they were."""
    if not new and not old:
        return
    now, was = new or {}, old or {}
    for verb, keys in (
        ("remove or update", [key for key in was if now.get(key) != was[key]]),
        ("add", [key for key in now if key not in was]),
    ):
        for key in keys:
            if key.startswith(_APP_ARMOR):
                out.append(FieldError.forbidden(f"{path}[{key}]", f"may not {verb} AppArmor annotations"))
            elif key == MIRROR:
                out.append(FieldError.forbidden(f"{path}[{key}]", f"may not {verb} mirror pod annotation"))
