"""Kinds that extend the API itself."""

from __future__ import annotations

from orca.api.defaults.registry import Obj, defaults, part, put, put_text


@defaults("apiregistration.k8s.io", "APIService")
def api_service(obj: Obj) -> None:
    """The HTTPS port of the service behind it."""
    service = (obj.get("spec") or {}).get("service")
    if service is not None:
        put(service, port=443)


@defaults("apiextensions.k8s.io", "CustomResourceDefinition")
def custom_resource_definition(obj: Obj) -> None:
    """Names derived from the kind, and no conversion."""
    spec = part(obj, "spec")
    names = part(spec, "names")
    kind = names.get("kind") or ""
    if kind:
        put_text(names, singular=kind.lower(), listKind=f"{kind}List")
    conversion = part(spec, "conversion")
    put_text(conversion, strategy="None")
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        put(service, port=443)
