"""Environment variables and where their values come from."""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_SUBSCRIPT = re.compile(r"^(metadata\.(?:annotations|labels))\['(.*)'\]$")
ENV_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_PATHS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_KNOWN_PATHS = frozenset({*ENV_PATHS, *VOLUME_PATHS, "spec.restartPolicy", "spec.schedulerName", "status.phase"})
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def field_ref(ref: Obj, allowed: tuple[str, ...], path: str, out: Errors) -> None:
    """A reference to a field of the pod itself."""
    if not common.required(ref, "apiVersion", path, out) or not common.required(ref, "fieldPath", path, out):
        return
    value = ref["fieldPath"]
    at = f"{path}.fieldPath"
    match = _SUBSCRIPT.match(value)
    if match is None:
        if value not in _KNOWN_PATHS:
            out.append(FieldError.invalid(at, value, f"error converting fieldPath: field label not supported: {value}"))
        elif value not in allowed:
            out.append(FieldError.not_supported(at, value, allowed))
        return
    key = match[2]
    # Annotation keys are case-insensitive names.
    rule = names.qualified_name(key.lower() if match[1] == "metadata.annotations" else key)
    common.messages(rule, key, at, out)


def resource_ref(ref: Obj, path: str, out: Errors, *, in_volume: bool) -> None:
    """A reference to a container's request or limit."""
    if in_volume and not ref.get("containerName"):
        out.append(FieldError.required(f"{path}.containerName"))
    elif not ref.get("resource"):
        out.append(FieldError.required(f"{path}.resource"))
    elif ref["resource"] not in _RESOURCES and ".hugepages-" not in ref["resource"]:
        out.append(FieldError.not_supported(f"{path}.resource", ref["resource"], _RESOURCES))


def _key_ref(ref: Obj, path: str, out: Errors) -> None:
    common.required(ref, "name", path, out)
    if common.required(ref, "key", path, out):
        common.messages(names.config_key(ref["key"]), ref["key"], f"{path}.key", out)


def _value_from(variable: Obj, source: Obj, path: str, out: Errors) -> None:
    used = 0
    for kind in _SOURCES:
        ref = source.get(kind)
        if ref is None:
            continue
        used += 1
        at = f"{path}.{kind}"
        if kind == "fieldRef":
            field_ref(ref, ENV_PATHS, at, out)
        elif kind == "resourceFieldRef":
            resource_ref(ref, at, out, in_volume=False)
        elif kind == "fileKeyRef":
            for key in ("volumeName", "path", "key"):
                common.required(ref, key, at, out)
        else:
            _key_ref(ref, at, out)
    if used == 0:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        out.append(FieldError.invalid(path, "", text))
    elif variable.get("value"):
        out.append(FieldError.invalid(path, "", "may not be specified when `value` is not empty"))
    elif used > 1:
        out.append(FieldError.invalid(path, "", "may not have more than one field specified at a time"))


def variables(items: list[Obj], path: str, out: Errors) -> None:
    """``env`` of a container."""
    for i, variable in enumerate(items):
        name = variable.get("name")
        if not name:
            out.append(FieldError.required(f"{path}[{i}].name"))
        elif not name.isidentifier():
            common.messages(names.env_var_name(name), name, f"{path}[{i}].name", out)
        source = variable.get("valueFrom")
        if source is not None:
            _value_from(variable, source, f"{path}[{i}].valueFrom", out)


def sources(items: list[Obj], path: str, out: Errors) -> None:
    """``envFrom`` of a container."""
    for i, source in enumerate(items):
        at = f"{path}[{i}]"
        prefix = source.get("prefix")
        if prefix:
            common.messages(names.env_var_name(prefix), prefix, f"{at}.prefix", out)
        refs = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in refs:
            common.required(source[kind], "name", f"{at}.{kind}", out)
        if not refs:
            out.append(FieldError.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(refs) > 1:
            out.append(FieldError.invalid(path, "", "may not have more than one field specified at a time"))
