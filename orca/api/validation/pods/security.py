"""Security contexts of pods and containers."""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_MAX_ID = 2**31 - 1
_SYSCTL = re.compile(r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$")
_KINDS = {"seccompProfile": "seccomp", "appArmorProfile": "AppArmor"}
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")


def _identity(obj: Obj, key: str, path: str, out: Errors) -> None:
    value = obj.get(key)
    if value is not None and not 0 <= value <= _MAX_ID:
        out.append(FieldError.invalid(f"{path}.{key}", value, names.in_range(0, _MAX_ID)))


def _profile(obj: Obj, key: str, path: str, out: Errors) -> None:
    profile = obj.get(key)
    if profile is None:
        return
    at = f"{path}.{key}"
    kind = profile.get("type")
    common.choice(kind, _PROFILES, f"{at}.type", out, required=True)
    local = profile.get("localhostProfile")
    if kind == "Localhost":
        if not local:
            text = f"must be set when {_KINDS[key]} type is Localhost"
            out.append(FieldError.required(f"{at}.localhostProfile", text))
        elif key == "seccompProfile":
            common.local_path(local, f"{at}.localhostProfile", out)
    elif local is not None:
        text = f"can only be set when {_KINDS[key]} type is Localhost"
        out.append(FieldError.invalid(f"{at}.localhostProfile", local, text))


def pod_context(spec: Obj, context: Obj, path: str, out: Errors) -> None:
    """``securityContext`` of a pod; *path* is the spec's."""
    at = f"{path}.securityContext"
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        _identity(context, key, at, out)
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= _MAX_ID:
            out.append(FieldError.invalid(f"{at}.supplementalGroups[{i}]", group, names.in_range(0, _MAX_ID)))
    seen = set()
    for i, sysctl in enumerate(context.get("sysctls") or ()):
        name = sysctl.get("name")
        if not name:
            out.append(FieldError.required(f"{at}.sysctls[{i}].name"))
        elif len(name) > 253 or not _SYSCTL.match(name):
            text = f"must have at most 253 characters and match regex {_SYSCTL.pattern}"
            out.append(FieldError.invalid(f"{at}.sysctls[{i}].name", name, text))
        elif name in seen:
            out.append(FieldError.duplicate(f"{at}.sysctls[{i}].name", name))
        seen.add(name)
    common.choice(context.get("fsGroupChangePolicy"), ("OnRootMismatch", "Always"), f"{at}.fsGroupChangePolicy", out)
    common.choice(context.get("supplementalGroupsPolicy"), ("Merge", "Strict"), f"{at}.supplementalGroupsPolicy", out)
    _profile(context, "seccompProfile", at, out)
    _profile(context, "appArmorProfile", at, out)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        out.append(FieldError.invalid(f"{path}.shareProcessNamespace", True, text))


def container_context(context: Obj, path: str, out: Errors, *, host_users: bool) -> None:
    """``securityContext`` of a container."""
    for key in ("runAsUser", "runAsGroup"):
        _identity(context, key, path, out)
    common.choice(context.get("procMount"), ("Default", "Unmasked"), f"{path}.procMount", out)
    if context.get("procMount") == "Unmasked" and host_users:
        text = "`hostUsers` must be false to use `Unmasked`"
        out.append(FieldError.invalid(f"{path}.procMount", "Unmasked", text))
    _profile(context, "seccompProfile", path, out)
    _profile(context, "appArmorProfile", path, out)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            out.append(FieldError.invalid(path, context, text))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            out.append(FieldError.invalid(path, context, text))
