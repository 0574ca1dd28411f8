"""CustomResourceDefinitions and APIServices."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_CRD = "apiextensions.k8s.io"


@on_create(_CRD, "CustomResourceDefinition")
def custom_resource_definition(obj: Obj) -> Errors:
    """A CustomResourceDefinition with its schemas."""
    # Here, because it judges with what this package has, and costs nothing where nobody has custom kinds.
    from orca.api.customresources import definition

    return definition.check(obj)


@on_update(_CRD, "CustomResourceDefinition")
def custom_resource_definition_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed CustomResourceDefinition."""
    from orca.api.customresources import definition

    return definition.check_status(new) if subresource == "status" else definition.check(new, old)


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
