"""Security contexts of pods and containers.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` validatePodSpecSecurityContext, ValidateSecurityContext.
"""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation.pods import windows
from orca.api.validation.registry import Errors, Obj

_MAX_ID = 2**31 - 1
_SYSCTL = re.compile(r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$")
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_MAX_PROFILE = 4095
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_CHANGE_POLICIES = ("Always", "OnRootMismatch")
_GROUP_POLICIES = ("Merge", "Strict")
_LABEL_POLICIES = ("MountOption", "Recursive")
_WINDOWS_TEXT = "cannot be set for a windows pod"
_LINUX_TEXT = "windows options cannot be set for a linux pod"
_NOT_WINDOWS_POD = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls", "runAsUser",
    "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy",
)  # fmt: skip
_NOT_WINDOWS_CONTAINER = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip


def _identity(obj: Obj, key: str, path: str, out: Errors) -> None:
    value = obj.get(key)
    if value is not None and not 0 <= value <= _MAX_ID:
        out.append(FieldError.invalid(f"{path}.{key}", value, names.in_range(0, _MAX_ID)))


def _one_of(obj: Obj, key: str, allowed: tuple[str, ...], path: str, out: Errors) -> None:
    value = obj.get(key)
    if value is not None and value not in allowed:
        out.append(FieldError.not_supported(f"{path}.{key}", value, allowed))


def _kind(profile: Obj, key: str, path: str, out: Errors) -> str:
    kind = profile.get("type") or ""
    if not kind:
        out.append(FieldError.required(f"{path}.type", f"type is required when {key} is set"))
    elif kind not in _PROFILES:
        out.append(FieldError.not_supported(f"{path}.type", kind, _PROFILES))
    return str(kind)


def _seccomp(profile: Obj | None, path: str, out: Errors) -> None:
    if profile is None:
        return
    at = f"{path}.seccompProfile"
    local = profile.get("localhostProfile")
    where = f"{at}.localhostProfile"
    if _kind(profile, "seccompProfile", at, out) != "Localhost":
        if local is not None:
            out.append(FieldError.invalid(where, profile, "can only be set when seccomp type is Localhost"))
    elif local is None:
        out.append(FieldError.required(where, "must be set when seccomp type is Localhost"))
    else:
        if local.startswith("/"):
            out.append(FieldError.invalid(where, local, "must be a relative path"))
        if ".." in local.split("/"):
            out.append(FieldError.invalid(where, local, "must not contain '..'"))


def _app_armor(profile: Obj | None, path: str, out: Errors) -> None:
    if profile is None:
        return
    at = f"{path}.appArmorProfile"
    local = profile.get("localhostProfile")
    where = f"{at}.localhostProfile"
    kind = _kind(profile, "appArmorProfile", at, out)
    if kind in ("RuntimeDefault", "Unconfined") and local is not None:
        out.append(FieldError.invalid(where, local, "can only be set when AppArmor type is Localhost"))
    if kind != "Localhost":
        return
    if not local:
        out.append(FieldError.required(where, "must be set when AppArmor type is Localhost"))
        return
    if local != local.strip():
        out.append(FieldError.invalid(where, local, "must not be padded with whitespace"))
    if len(local.encode()) > _MAX_PROFILE:
        out.append(FieldError.too_long(where, "", _MAX_PROFILE))


def _sysctls(spec: Obj, items: list[Obj], path: str, out: Errors) -> None:
    seen = set()
    for i, sysctl in enumerate(items):
        name = sysctl.get("name") or ""
        at = f"{path}[{i}].name"
        if not name:
            out.append(FieldError.required(at))
        elif len(name) > 253 or not _SYSCTL.match(name):
            text = f"must have at most 253 characters and match regex {_SYSCTL.pattern}"
            out.append(FieldError.invalid(at, name, text))
        elif name in seen:
            out.append(FieldError.duplicate(at, name))
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net"):
            out.append(FieldError.invalid(at, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and (dotted == "kernel.sem" or dotted.startswith(_IPC_SYSCTLS)):
            out.append(FieldError.invalid(at, name, "may not be specified when 'hostIPC' is true"))


def pod_context(spec: Obj, context: Obj, path: str, out: Errors) -> None:
    """``securityContext`` of a pod, and what of the spec belongs to it; *path* is the spec's."""
    at = f"{path}.securityContext"
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        _identity(context, key, at, out)
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= _MAX_ID:
            out.append(FieldError.invalid(f"{at}.supplementalGroups[{i}]", group, names.in_range(0, _MAX_ID)))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        out.append(FieldError.invalid(f"{at}.shareProcessNamespace", True, text))
    if not context:
        return
    if context.get("sysctls"):
        _sysctls(spec, context["sysctls"], f"{at}.sysctls", out)
    _one_of(context, "fsGroupChangePolicy", _CHANGE_POLICIES, at, out)
    _seccomp(context.get("seccompProfile"), at, out)
    if context.get("windowsOptions") is not None:
        windows.options(context["windowsOptions"], f"{at}.windowsOptions", out)
    _app_armor(context.get("appArmorProfile"), at, out)
    _one_of(context, "supplementalGroupsPolicy", _GROUP_POLICIES, at, out)
    _one_of(context, "seLinuxChangePolicy", _LABEL_POLICIES, at, out)


def pod_system(spec: Obj, path: str, out: Errors, *, system: str) -> None:
    """What a pod for *system* may not ask for, containers apart; *path* is the spec's."""
    context = spec.get("securityContext") or {}
    at = f"{path}.securityContext"
    if system == "linux":
        if context.get("windowsOptions") is not None:
            out.append(FieldError.forbidden(f"{at}.windowsOptions", _LINUX_TEXT))
        return
    for key in _NOT_WINDOWS_POD:
        if context.get(key) is not None and context[key] != []:
            out.append(FieldError.forbidden(f"{at}.{key}", _WINDOWS_TEXT))
    for key in ("hostUsers", "shareProcessNamespace"):
        if spec.get(key) is not None:
            out.append(FieldError.forbidden(f"{path}.{key}", _WINDOWS_TEXT))
    for key in ("hostPID", "hostIPC"):
        if spec.get(key):
            out.append(FieldError.forbidden(f"{path}.{key}", _WINDOWS_TEXT))


def container_system(context: Obj, path: str, out: Errors, *, system: str) -> None:
    """What a container of a pod for *system* may not ask for; *path* is the context's."""
    if system == "linux":
        if context.get("windowsOptions") is not None:
            out.append(FieldError.forbidden(f"{path}.windowsOptions", _LINUX_TEXT))
    elif system == "windows":
        for key in _NOT_WINDOWS_CONTAINER:
            if context.get(key) is not None:
                out.append(FieldError.forbidden(f"{path}.{key}", _WINDOWS_TEXT))


def host_users(spec: Obj, path: str, out: Errors) -> None:
    """A pod with users of its own shares no other namespace of the host; upstream's capitals are its own."""
    for key, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(key):
            out.append(FieldError.forbidden(f"{path}.{shown}", "when `hostUsers` is false"))


def container_context(context: Obj, path: str, out: Errors, *, host_users: bool) -> None:
    """``securityContext`` of a container."""
    for key in ("runAsUser", "runAsGroup"):
        _identity(context, key, path, out)
    mount = context.get("procMount")
    if mount is not None:
        _one_of(context, "procMount", ("Default", "Unmasked"), path, out)
        if mount == "Unmasked" and host_users:
            text = "`hostUsers` must be false to use `Unmasked`"
            out.append(FieldError.invalid(f"{path}.procMount", "Unmasked", text))
    _seccomp(context.get("seccompProfile"), path, out)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            out.append(FieldError.invalid(path, context, text))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            out.append(FieldError.invalid(path, context, text))
    if context.get("windowsOptions") is not None:
        windows.options(context["windowsOptions"], f"{path}.windowsOptions", out)
    _app_armor(context.get("appArmorProfile"), path, out)
