"""CustomResourceDefinitions and APIServices."""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.admissionregistration import client_config
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_CRD = "apiextensions.k8s.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("", "byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SIMPLE_PATH = re.compile(r"^\.([A-Za-z_][-A-Za-z0-9_]*)(\.[A-Za-z_][-A-Za-z0-9_]*)*$")


def _names(spec_names: Obj, path: str, out: Errors) -> None:
    kind, list_kind = spec_names.get("kind") or "", spec_names.get("listKind") or ""
    plural, singular = spec_names.get("plural") or "", spec_names.get("singular") or ""
    common.messages(names.dns1035_label(plural), plural, f"{path}.plural", out)
    if singular:
        common.messages(names.dns1035_label(singular), singular, f"{path}.singular", out)
    if not kind:
        out.append(FieldError.required(f"{path}.kind"))
    for key, value in (("kind", kind), ("listKind", list_kind)):
        if value:
            for text in names.dns1035_label(value.lower()):
                shown = f"may have mixed case, but should otherwise match: {text}"
                out.append(FieldError.invalid(f"{path}.{key}", value, shown))
    if kind and kind == list_kind:
        text = "kind and listKind may not be the same"
        out.append(FieldError.invalid(f"{path}.listKind", list_kind, text))
    for key in ("shortNames", "categories"):
        for i, value in enumerate(spec_names.get(key) or ()):
            common.messages(names.dns1035_label(value), value, f"{path}.{key}[{i}]", out)


def _subresources(obj: Obj, path: str, out: Errors) -> None:
    scale = obj.get("scale")
    if scale is None:
        return
    for key, prefix, needed in (
        ("specReplicasPath", ".spec.", True),
        ("statusReplicasPath", ".status.", True),
        ("labelSelectorPath", "", False),
    ):
        value = scale.get(key)
        at = f"{path}.scale.{key}"
        if not value:
            if needed:
                out.append(FieldError.required(at))
        elif not _SIMPLE_PATH.match(value):
            out.append(FieldError.invalid(at, value, "must be a simple json path"))
        elif not value.startswith(prefix or (".status.", ".spec.")):
            wanted = prefix or ".spec or .status"
            text = f"should be a json path under {wanted.rstrip('.')}"
            out.append(FieldError.invalid(at, value, text))


def _columns(items: list[Obj], path: str, out: Errors) -> None:
    for i, column in enumerate(items):
        at = f"{path}[{i}]"
        common.required(column, "name", at, out)
        kind = column.get("type")
        if not kind:
            out.append(FieldError.required(f"{at}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif kind not in _COLUMN_TYPES:
            out.append(FieldError.invalid(f"{at}.type", kind, f"must be one of {','.join(_COLUMN_TYPES)}"))
        shape = column.get("format") or ""
        if shape not in _COLUMN_FORMATS:
            text = f"must be one of {','.join(_COLUMN_FORMATS[1:])}"
            out.append(FieldError.invalid(f"{at}.format", shape, text))
        common.required(column, "jsonPath", at, out)


def _version(version: Obj, path: str, out: Errors, *, preserve: bool) -> None:
    name = version.get("name") or ""
    common.messages(names.dns1035_label(name), name, f"{path}.name", out)
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    at = f"{path}.schema.openAPIV3Schema"
    if schema is None:
        if not preserve:
            out.append(FieldError.required(at, "schemas are required"))
    else:
        kind = schema.get("type")
        if not kind:
            out.append(FieldError.required(f"{at}.type", "must not be empty at the root"))
        elif kind != "object":
            out.append(FieldError.invalid(f"{at}.type", kind, "must be object at the root"))
        if schema.get("nullable"):
            out.append(FieldError.forbidden(f"{at}.nullable", "nullable cannot be true at the root"))
    _subresources(version.get("subresources") or {}, f"{path}.subresources", out)
    _columns(version.get("additionalPrinterColumns") or [], f"{path}.additionalPrinterColumns", out)
    fields = version.get("selectableFields") or []
    if len(fields) > 8:
        out.append(FieldError.too_many(f"{path}.selectableFields", len(fields), 8))
    for i, field in enumerate(fields):
        if not _SIMPLE_PATH.match(field.get("jsonPath") or ""):
            text = "is an invalid path: must be a simple json path"
            out.append(FieldError.invalid(f"{path}.selectableFields[{i}].jsonPath", field.get("jsonPath"), text))


def _conversion(spec: Obj, out: Errors) -> None:
    conversion = spec.get("conversion") or {}
    strategy, webhook = conversion.get("strategy"), conversion.get("webhook")
    at = "spec.conversion"
    if not strategy:
        out.append(FieldError.required(f"{at}.strategy"))
    elif strategy not in ("None", "Webhook"):
        out.append(FieldError.not_supported(f"{at}.strategy", strategy, ("None", "Webhook")))
    if strategy == "Webhook":
        config = (webhook or {}).get("clientConfig")
        if config is None:
            text = "required when strategy is set to Webhook"
            out.append(FieldError.required(f"{at}.webhookClientConfig", text))
        else:
            client_config(config, f"{at}.webhookClientConfig", out)
        versions = (webhook or {}).get("conversionReviewVersions") or []
        if not versions:
            out.append(FieldError.required(f"{at}.conversionReviewVersions"))
        elif not {"v1", "v1beta1"} & set(versions):
            text = "must include at least one of v1, v1beta1"
            out.append(FieldError.invalid(f"{at}.conversionReviewVersions", versions, text))
    elif webhook is not None:
        text = "should not be set when strategy is not set to Webhook"
        out.append(FieldError.forbidden(f"{at}.webhook", text))


@on_create(_CRD, "CustomResourceDefinition")
def definition(obj: Obj) -> Errors:
    """A CustomResourceDefinition: its names, versions, columns and conversion; schemas in depth are elsewhere."""
    out: Errors = []
    spec = obj.get("spec") or {}
    group, spec_names = spec.get("group") or "", spec.get("names") or {}
    wanted = f"{spec_names.get('plural') or ''}.{group}"
    name = obj["metadata"].get("name") or ""
    if name != wanted:
        out.append(FieldError.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if not group:
        out.append(FieldError.required("spec.group"))
    else:
        common.messages(names.dns1123_subdomain(group), group, "spec.group", out)
        if "." not in group:
            out.append(FieldError.invalid("spec.group", group, "should be a domain with at least one dot"))
    if group.endswith((".k8s.io", ".kubernetes.io")) or group in ("k8s.io", "kubernetes.io"):
        key = "api-approved.kubernetes.io"
        if not (obj["metadata"].get("annotations") or {}).get(key):
            text = 'protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111'
            out.append(FieldError.required(f"metadata.annotations[{key}]", text))
    common.choice(spec.get("scope"), ("Cluster", "Namespaced"), "spec.scope", out, required=True)
    versions = spec.get("versions") or []
    preserve = bool(spec.get("preserveUnknownFields"))
    if preserve:
        text = "must be false in order to use defaults in the schema"
        out.append(FieldError.invalid("spec.preserveUnknownFields", True, text))
    seen = set()
    for i, version in enumerate(versions):
        _version(version, f"spec.versions[{i}]", out, preserve=preserve)
        if version.get("name") in seen:
            out.append(FieldError.invalid("spec.versions", versions, "must contain unique version names"))
        seen.add(version.get("name"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        out.append(FieldError.invalid("spec.versions", versions, text))
    if not any(version.get("served") for version in versions):
        out.append(FieldError.invalid("spec.versions", versions, "must have at least one served version"))
    _names(spec_names, "spec.names", out)
    _conversion(spec, out)
    return out


@on_update(_CRD, "CustomResourceDefinition")
def definition_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed definition: once established its group, scope and kind stay, and stored versions cannot be dropped."""
    if subresource == "status":
        return []
    out = definition(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    conditions = (old.get("status") or {}).get("conditions") or ()
    common.immutable(wanted.get("group"), before.get("group"), "spec.group", out)
    if any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions):
        common.immutable(wanted.get("scope"), before.get("scope"), "spec.scope", out)
        for key in ("kind", "plural"):
            left, right = (wanted.get("names") or {}).get(key), (before.get("names") or {}).get(key)
            common.immutable(left, right, f"spec.names.{key}", out)
    known = {version.get("name") for version in wanted.get("versions") or ()}
    for i, stored in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if stored not in known:
            text = "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"  # noqa: E501
            path = f"status.storedVersions[{i}]"
            out.append(FieldError.invalid(path, stored, text.replace("v1", str(stored))))
    return out


@on_create("apiregistration.k8s.io", "APIService")
def api_service(obj: Obj) -> Errors:
    """An APIService."""
    out: Errors = []
    spec = obj.get("spec") or {}
    group, version, name = spec.get("group") or "", spec.get("version") or "", obj["metadata"].get("name") or ""
    if name != f"{version}.{group}":
        out.append(FieldError.invalid("metadata.name", name, 'must be `spec.version+"."+spec.group`'))
    if group:
        common.messages(names.dns1123_subdomain(group), group, "spec.group", out)
    elif version != "v1":
        text = "only v1 may have an empty group and it better be legacy kube"
        out.append(FieldError.required("spec.group", text))
    common.messages(names.dns1035_label(version), version, "spec.version", out)
    least, order = spec.get("groupPriorityMinimum") or 0, spec.get("versionPriority") or 0
    if not 0 < least <= 20000:
        text = "must be positive and less than 20000"
        out.append(FieldError.invalid("spec.groupPriorityMinimum", least, text))
    if not 0 < order <= 1000:
        out.append(FieldError.invalid("spec.versionPriority", order, "must be positive and less than 1000"))
    service, insecure, bundle = spec.get("service"), spec.get("insecureSkipTLSVerify"), spec.get("caBundle")
    if service is None:
        if bundle:
            text = "local APIServices may not have a caBundle"
            out.append(FieldError.invalid("spec.caBundle", bundle, text))
        if insecure:
            text = "local APIServices may not have insecureSkipTLSVerify"
            out.append(FieldError.invalid("spec.insecureSkipTLSVerify", True, text))
        return out
    for key in ("namespace", "name"):
        common.required(service, key, "spec.service", out)
    if service.get("port") is not None and not 1 <= service["port"] <= 65535:
        text = f"port is not valid: {names.in_range(1, 65535)}"
        out.append(FieldError.invalid("spec.service.port", service["port"], text))
    if insecure and bundle:
        text = "may not be true if caBundle is present"
        out.append(FieldError.invalid("spec.insecureSkipTLSVerify", True, text))
    return out


@on_update("apiregistration.k8s.io", "APIService")
def api_service_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed APIService."""
    return [] if subresource == "status" else api_service(new)
