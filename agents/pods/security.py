"""``securityContext`` of pod and container to what the runtime is told.

Pure, but for the text of a seccomp profile. Reference: k8s.io/kubernetes ``pkg/kubelet/kuberuntime/security_context*``.
"""

from __future__ import annotations

from pathlib import Path

from agents.pods.containers import spec_of
from agents.pods.environment import ConfigError
from agents.pods.naming import pod_title
from agents.runtime.accounts import Accounts
from agents.runtime.errors import RefusedByEngine
from agents.runtime.model import ImageInfo, Security
from orca.api.objects import Obj

LARGEST_ID = 2**31 - 1


def security_of(
    pod: Obj,
    container: Obj,
    image: ImageInfo | None,
    seccomp_root: Path,
    *,
    seccomp_default: bool = False,
    accounts: Accounts | None = None,
) -> Security:
    """The container's settings over the pod's.

    ``accounts`` are the image's, where :func:`needs_accounts`. Raises ``ConfigError`` for what must not be run, and
    ``RefusedByEngine`` for what the host cannot give.
    """
    shared: Obj = spec_of(pod).get("securityContext") or {}
    own: Obj = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    if _setting(own, shared, "runAsNonRoot"):
        _require_non_root(pod, container, _setting(own, shared, "runAsUser"), image)
    user, groups = _identity(own, shared, image, accounts)
    return Security(
        user=user,
        groups=groups,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        privileged=privileged,
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        unmasked_proc=own.get("procMount") == "Unmasked",
        seccomp="" if privileged else _seccomp(own, shared, seccomp_root, by_default=seccomp_default),
        apparmor=_apparmor(own.get("appArmorProfile") or shared.get("appArmorProfile")),
        selinux=_selinux(own.get("seLinuxOptions") or shared.get("seLinuxOptions")),
    )


def _setting(own: Obj, shared: Obj, key: str) -> int | bool | None:
    value = own.get(key)
    return shared.get(key) if value is None else value


# --- who it is


def needs_accounts(pod: Obj, container: Obj, image: ImageInfo | None) -> bool:
    """Whether the container's groups hang on what the image's files say of its user.

    The engine adds a user's memberships by itself, but only when it is given no group; so they are ours to find when a
    group is given, and ours to keep out, by giving one, when there shall be none (policy Strict).
    """
    shared: Obj = spec_of(pod).get("securityContext") or {}
    _, group = _user_and_group(container.get("securityContext") or {}, shared, image)
    return not group if _strict(shared) else bool(group)


def _strict(shared: Obj) -> bool:
    return shared.get("supplementalGroupsPolicy") == "Strict"


def _user_and_group(own: Obj, shared: Obj, image: ImageInfo | None) -> tuple[str, str]:
    """As the specs and the image name them; "" for a group that nobody names."""
    user, group = _setting(own, shared, "runAsUser"), _setting(own, shared, "runAsGroup")
    of_image, _, group_of_image = (image.user if image is not None else "").partition(":")
    if user is None:
        return of_image or "0", group_of_image if group is None else str(group)
    return str(user), "" if group is None else str(group)


def _identity(own: Obj, shared: Obj, image: ImageInfo | None, accounts: Accounts | None) -> tuple[str, tuple[str, ...]]:
    """``user[:group]`` ("" for the image's own), and further groups."""
    user, group = _user_and_group(own, shared, image)
    groups = [str(item) for item in shared.get("supplementalGroups") or ()]
    if shared.get("fsGroup") is not None:
        groups.append(str(shared["fsGroup"]))
    if _strict(shared):
        group = group or str((accounts or Accounts()).primary_group(user))
    elif group and accounts is not None:
        groups += [str(one) for one in accounts.memberships(user)]
    declared = _setting(own, shared, "runAsUser") is None and _setting(own, shared, "runAsGroup") is None
    if declared and not _strict(shared):
        user, group = "", ""
    return f"{user}:{group}" if group else user, tuple(dict.fromkeys(groups))


def _require_non_root(pod: Obj, container: Obj, user: int | bool | None, image: ImageInfo | None) -> None:
    where = f'(pod: "{pod_title(pod)}", container: {container["name"]})'
    if user is not None:
        if user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    declared = (image.user if image is not None else "").partition(":")[0] or "0"
    if not declared.isdigit():
        text = f"container has runAsNonRoot and image has non-numeric user ({declared}), cannot verify user is non-root"
        raise ConfigError(f"{text} {where}")
    if int(declared) == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if int(declared) > LARGEST_ID:
        text = f"container has runAsNonRoot and image has an invalid user id ({declared}). (Must be 1-({LARGEST_ID})): "
        raise ConfigError(f"{text}must be between 0 and {LARGEST_ID}, inclusive {where}")


# --- what it may do


def _seccomp(own: Obj, shared: Obj, root: Path, *, by_default: bool) -> str:
    """Empty for the engine's own profile, ``unconfined``, or the JSON text of one."""
    profile = own.get("seccompProfile") or shared.get("seccompProfile") or {}
    match profile.get("type"):
        case None:
            return "" if by_default else "unconfined"
        case "RuntimeDefault":
            return ""
        case "Localhost":
            if not profile.get("localhostProfile"):
                raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
            path = root / str(profile["localhostProfile"])
            try:
                return path.read_text()
            except OSError as error:
                problem = (error.strerror or str(error)).lower()
                raise RefusedByEngine(f'cannot load seccomp profile "{path}": open {path}: {problem}') from error
    return "unconfined"


def _apparmor(profile: Obj | None) -> str:
    """Empty for the engine's own profile where the host has AppArmor."""
    match (profile or {}).get("type"):
        case "Localhost":
            return str((profile or {}).get("localhostProfile", ""))
        case "Unconfined":
            return "unconfined"
    return ""


def _selinux(options: Obj | None) -> tuple[str, ...]:
    found = options or {}
    return tuple(f"{part}:{found[part]}" for part in ("user", "role", "type", "level") if found.get(part))
