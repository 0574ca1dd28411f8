"""``windowsOptions``: accepted and judged as upstream does, though no host of this server runs Windows.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` validateWindowsSecurityContextOptions.
"""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_SPEC_KIB = 64
_MAX_DOMAIN, _MAX_USER = 256, 104
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_BAD_USER = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def options(obj: Obj, path: str, out: Errors) -> None:
    """``windowsOptions`` of a pod or a container."""
    name = obj.get("gmsaCredentialSpecName")
    if name is not None:
        common.messages(names.dns1123_subdomain(name), name, f"{path}.gmsaCredentialSpecName", out)
    text = obj.get("gmsaCredentialSpec")
    if text == "":
        why = "gmsaCredentialSpec cannot be an empty string"
        out.append(FieldError.invalid(f"{path}.gmsaCredentialSpec", text, why))
    elif text is not None and len(text.encode()) > _SPEC_KIB * 1024:
        why = f"gmsaCredentialSpec size must be under {_SPEC_KIB} KiB"
        out.append(FieldError.invalid(f"{path}.gmsaCredentialSpec", text, why))
    user = obj.get("runAsUserName")
    if user is not None:
        common.messages(_user(user), user, f"{path}.runAsUserName", out)


def _user(value: str) -> list[str]:
    parts = value.split("\\")
    if not value:
        return ["runAsUserName cannot be an empty string"]
    if _CONTROL.search(value):
        return ["runAsUserName cannot contain control characters"]
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    found = []
    user = parts[-1]
    if len(parts) == 2:
        if len(parts[0]) >= _MAX_DOMAIN:
            found.append(f"runAsUserName's Domain length must be under {_MAX_DOMAIN} characters")
        if not _NETBIOS.fullmatch(parts[0]) and not _DNS.fullmatch(parts[0]):
            found.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    if not user:
        found.append("runAsUserName's User cannot be empty")
    elif len(user) > _MAX_USER:
        found.append(f"runAsUserName's User length must not be longer than {_MAX_USER} characters")
    if user and not user.strip(". "):
        found.append("runAsUserName's User cannot contain only periods or spaces")
    if _BAD_USER.search(user):
        found.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return found


def _host_process(owner: Obj) -> bool | None:
    found = ((owner.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    return None if found is None else bool(found)


def host_process(spec: Obj, path: str, out: Errors) -> None:
    """Containers that are processes of the host: all of a pod or none, and on its network."""
    whole = _host_process(spec)
    count = of_host = 0
    for kind in _CONTAINERS:
        for i, container in enumerate(spec.get(kind) or ()):
            count += 1
            own = _host_process(container)
            if whole is not None and own is not None and own != whole:
                text = f"pod hostProcess value must be identical if both are specified, was {str(whole).lower()}"
                at = f"{path}.{kind}[{i}].securityContext.windowsOptions.hostProcess"
                out.append(FieldError.invalid(at, own, text))
            of_host += bool(whole if own is None else own)
    if of_host and of_host != count:
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        out.append(FieldError.invalid(path, "", text))
    if of_host and not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        out.append(FieldError.invalid(f"{path}.hostNetwork", False, text))


def mentioned(spec: Obj) -> bool:
    """Whether anything of *spec* has ``windowsOptions``."""
    if "windowsOptions" in (spec.get("securityContext") or ()):
        return True
    return any(
        "windowsOptions" in (container.get("securityContext") or ())
        for kind in _CONTAINERS
        for container in spec.get(kind) or ()
    )
