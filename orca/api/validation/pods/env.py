"""Environment variables and where their values come from."""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_SUBSCRIPT = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)
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
_KNOWN_PATHS = frozenset({*ENV_PATHS, *VOLUME_PATHS, "spec.host", "spec.restartPolicy",
                         "spec.schedulerName", "status.phase"})  # fmt: skip
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE = ("limits.hugepages-", "requests.hugepages-")
_DIVIDED = {
    "limits.cpu": "cpu", "requests.cpu": "cpu", "limits.memory": "memory", "requests.memory": "memory",
    "limits.ephemeral-storage": "local ephemeral storage", "requests.ephemeral-storage": "local ephemeral storage",
}  # fmt: skip
_CPU_DIVISORS = ("1m", "1")
_BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def field_ref(ref: Obj, allowed: tuple[str, ...], path: str, out: Errors) -> None:
    """A reference to a field of the pod itself."""
    if not common.required(ref, "apiVersion", path, out) or not common.required(ref, "fieldPath", path, out):
        return
    value = ref["fieldPath"]
    if value in allowed and ref["apiVersion"] == "v1":
        return
    at = f"{path}.fieldPath"
    match = _SUBSCRIPT.fullmatch(value)
    wrong = ""
    if ref["apiVersion"] != "v1":
        wrong = f"unsupported pod version: {ref['apiVersion']}"
    elif match is not None and match[1] not in ("metadata.annotations", "metadata.labels"):
        wrong = f"field label does not support subscript: {value}"
    elif match is None and value not in _KNOWN_PATHS:
        wrong = f"field label not supported: {value}"
    if wrong:
        out.append(FieldError.invalid(at, value, f"error converting fieldPath: {wrong}"))
    elif match is None:
        out.append(FieldError.not_supported(at, "spec.nodeName" if value == "spec.host" else value, allowed))
    else:
        # Annotation keys are case-insensitive names.
        key = match[2].lower() if match[1] == "metadata.annotations" else match[2]
        common.messages(names.qualified_name(key), key, path, out)


def resource_ref(ref: Obj, path: str, out: Errors, *, in_volume: bool) -> None:
    """A reference to a container's request or limit."""
    name = ref.get("resource") or ""
    if in_volume and not ref.get("containerName"):
        out.append(FieldError.required(f"{path}.containerName"))
    elif not name:
        out.append(FieldError.required(f"{path}.resource"))
    elif name not in _RESOURCES and not name.startswith(_HUGE):
        out.append(FieldError.not_supported(f"{path}.resource", name, _RESOURCES))
    divisor = ref.get("divisor")
    if divisor is not None and divisor != "0":
        _divisor(name, str(divisor), path, out)


def _divisor(name: str, divisor: str, path: str, out: Errors) -> None:
    kind = _DIVIDED.get(name) or ("hugepages" if name.startswith(_HUGE) else "")
    allowed = _CPU_DIVISORS if kind == "cpu" else _BYTE_DIVISORS
    if kind and divisor not in allowed:
        listed = "1m and 1" if kind == "cpu" else ", ".join(_BYTE_DIVISORS)
        text = f"only divisor's values {listed} are supported with the {kind} resource"
        out.append(FieldError.invalid(f"{path}.divisor", name, text))


def _key_ref(ref: Obj, path: str, out: Errors) -> None:
    name = ref.get("name") or ""
    common.messages(names.dns1123_subdomain(name), name, f"{path}.name", out)
    if common.required(ref, "key", path, out):
        common.messages(names.config_key(ref["key"]), ref["key"], f"{path}.key", out)


def _file_ref(ref: Obj, path: str, out: Errors, known: dict[str, str]) -> None:
    if common.required(ref, "key", path, out):
        common.messages(names.env_var_name(ref["key"]), ref["key"], f"{path}.key", out)
    name = ref.get("volumeName") or ""
    at = f"{path}.volumeName"
    if common.required(ref, "volumeName", path, out):
        common.messages(names.dns1123_label(name), name, at, out)
    if common.required(ref, "path", path, out):
        common.no_backsteps(ref["path"], f"{path}.path", out)
    if name not in known:
        out.append(FieldError.not_found(at, name))
    elif known[name] != "emptyDir":
        out.append(FieldError.invalid(at, name, "referenced volume must be of type emptyDir"))


def _value_from(variable: Obj, source: Obj, path: str, out: Errors, known: dict[str, str]) -> None:
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
            _file_ref(ref, at, out, known)
        else:
            _key_ref(ref, at, out)
    if used == 0:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        out.append(FieldError.invalid(path, "", text))
    elif variable.get("value"):
        out.append(FieldError.invalid(path, "", "may not be specified when `value` is not empty"))
    elif used > 1:
        out.append(FieldError.invalid(path, "", "may not have more than one field specified at a time"))


def variables(items: list[Obj], path: str, out: Errors, known: dict[str, str]) -> None:
    """``env`` of a container; *known* are the pod's volumes by name, with their kinds."""
    for i, variable in enumerate(items):
        name = variable.get("name")
        if not name:
            out.append(FieldError.required(f"{path}[{i}].name"))
        elif not name.isidentifier():
            common.messages(names.env_var_name(name), name, f"{path}[{i}].name", out)
        source = variable.get("valueFrom")
        if source is not None:
            _value_from(variable, source, f"{path}[{i}].valueFrom", out, known)


def sources(items: list[Obj], path: str, out: Errors) -> None:
    """``envFrom`` of a container."""
    for i, source in enumerate(items):
        at = f"{path}[{i}]"
        prefix = source.get("prefix")
        if prefix:
            common.messages(names.env_var_name(prefix), prefix, f"{at}.prefix", out)
        refs = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in refs:
            if common.required(source[kind], "name", f"{at}.{kind}", out):
                name = source[kind]["name"]
                # As a prefix of names: upstream lets a dash end it here.
                common.messages(names.dns1123_subdomain(names.as_prefix(name)), name, f"{at}.{kind}.name", out)
        if not refs:
            out.append(FieldError.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(refs) > 1:
            out.append(FieldError.invalid(path, "", "may not have more than one field specified at a time"))
