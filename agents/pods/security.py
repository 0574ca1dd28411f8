"""``securityContext`` of pod and container to what the runtime is told. Pure."""

from __future__ import annotations

from pathlib import Path

from agents.pods.containers import spec_of
from agents.pods.environment import ConfigError
from agents.runtime.model import ImageInfo, Security
from orca.api.objects import Obj


def security_of(pod: Obj, container: Obj, image: ImageInfo | None, seccomp_root: Path) -> Security:
    """The container's settings over the pod's. Raises ``ConfigError`` for what must not or cannot be run."""
    shared: Obj = spec_of(pod).get("securityContext") or {}
    own: Obj = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    user = _setting(own, shared, "runAsUser")
    group = _setting(own, shared, "runAsGroup")
    if _setting(own, shared, "runAsNonRoot"):
        _require_non_root(container, user, image)
    groups = [str(item) for item in shared.get("supplementalGroups") or ()]
    if shared.get("fsGroup") is not None and str(shared["fsGroup"]) not in groups:
        groups.append(str(shared["fsGroup"]))
    return Security(
        user=_user(user, group, image),
        groups=tuple(groups),
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        privileged=privileged,
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        unmasked_proc=own.get("procMount") == "Unmasked",
        seccomp="" if privileged else _seccomp(own.get("seccompProfile") or shared.get("seccompProfile"), seccomp_root),
        apparmor=_apparmor(own.get("appArmorProfile") or shared.get("appArmorProfile")),
        selinux=_selinux(own.get("seLinuxOptions") or shared.get("seLinuxOptions")),
    )


def _setting(own: Obj, shared: Obj, key: str) -> int | bool | None:
    value = own.get(key)
    return shared.get(key) if value is None else value


def _user(user: int | bool | None, group: int | bool | None, image: ImageInfo | None) -> str:
    if user is None and group is None:
        return ""
    if user is None:
        # A group alone: keep the image's user.
        own = (image.user if image is not None else "").partition(":")[0] or "0"
        return f"{own}:{group}"
    return str(user) if group is None else f"{user}:{group}"


def _require_non_root(container: Obj, user: int | bool | None, image: ImageInfo | None) -> None:
    if user is not None:
        if user == 0:
            raise ConfigError("container's runAsUser breaks non-root policy")
        return
    declared = (image.user if image is not None else "").partition(":")[0]
    if declared in ("", "0", "root"):
        raise ConfigError("container has runAsNonRoot and image will run as root")
    if not declared.isdigit():
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({declared}), cannot verify user is non-root"
        )


def _seccomp(profile: Obj | None, root: Path) -> str:
    kind = (profile or {}).get("type", "Unconfined")
    if kind == "RuntimeDefault":
        return ""
    if kind == "Localhost":
        path = root / str((profile or {}).get("localhostProfile", ""))
        try:
            return path.read_text()
        except OSError as error:
            raise ConfigError(f"cannot load seccomp profile {path}: {error.strerror}") from error
    return "unconfined"


def _apparmor(profile: Obj | None) -> str:
    kind = (profile or {}).get("type", "RuntimeDefault")
    if kind == "Localhost":
        return str((profile or {}).get("localhostProfile", ""))
    return "unconfined" if kind == "Unconfined" else ""


def _selinux(options: Obj | None) -> tuple[str, ...]:
    found = options or {}
    return tuple(f"{part}:{found[part]}" for part in ("user", "role", "type", "level") if found.get(part))
