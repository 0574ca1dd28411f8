"""Ingresses and their classes.

Reference: k8s.io/kubernetes ``pkg/apis/networking/validation``.
"""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update
from orca.api.validation.services import load_balancer_status

_GROUP = "networking.k8s.io"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_MAX_CONTROLLER = 250
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")


def _reference(ref: Obj, path: str, out: Errors) -> None:
    group = ref.get("apiGroup")
    if group is not None:
        common.messages(names.dns1123_subdomain(group), group, f"{path}.apiGroup", out)
    common.segment(ref, "kind", path, out)
    common.segment(ref, "name", path, out)


def _backend(backend: Obj, path: str, out: Errors) -> None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        text = "cannot set both resource and service backends"
        out.append(FieldError.invalid(path, "", text))
    elif resource is not None:
        _reference(resource, f"{path}.resource", out)
    elif service is None:
        out.append(FieldError.invalid(path, "", "resource or service backend is required"))
    else:
        name = service.get("name")
        at = f"{path}.service"
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        else:
            common.messages(names.dns1123_label(name), name, f"{at}.name", out)
        port = service.get("port") or {}
        word, number = port.get("name"), port.get("number") or 0
        if word and number:
            text = "cannot set both port name & port number"
            out.append(FieldError.invalid(path, "", text))
        elif word:
            common.messages(names.port_name(word), word, f"{at}.port.name", out)
        elif number:
            common.port(number, f"{at}.port.number", out)
        else:
            out.append(FieldError.required(path, "port name or number is required"))


def _http_path(item: Obj, path: str, out: Errors) -> None:
    kind, value = item.get("pathType"), item.get("path") or ""
    if kind is None:
        out.append(FieldError.required(f"{path}.pathType", "pathType must be specified"))
        return
    if kind not in _PATH_TYPES:
        out.append(FieldError.not_supported(f"{path}.pathType", kind, _PATH_TYPES))
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            out.append(FieldError.invalid(f"{path}.path", value, "must be an absolute path"))
    else:
        if not value.startswith("/"):
            out.append(FieldError.invalid(f"{path}.path", value, "must be an absolute path"))
        for bad in _BAD_SEQUENCES:
            if bad in value:
                out.append(FieldError.invalid(f"{path}.path", value, f"must not contain '{bad}'"))
        for bad in _BAD_SUFFIXES:
            if value.endswith(bad):
                out.append(FieldError.invalid(f"{path}.path", value, f"cannot end with '{bad}'"))
    _backend(item.get("backend") or {}, f"{path}.backend", out)


def _host(host: str, path: str, out: Errors) -> None:
    if not names.ip_address(host):
        out.append(FieldError.invalid(path, host, "must be a DNS name, not an IP address"))
    rule = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
    common.messages(rule(host), host, path, out)


def _ingress(obj: Obj, out: Errors, *, secrets_checked: bool = True) -> None:
    spec = obj.get("spec") or {}
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        text = "either `defaultBackend` or `rules` must be specified"
        out.append(FieldError.invalid("spec", rules, text))
    if backend is not None:
        _backend(backend, "spec.defaultBackend", out)
    for i, rule in enumerate(rules):
        if rule.get("host"):
            _host(rule["host"], f"spec.rules[{i}].host", out)
        http = rule.get("http")
        if http is not None:
            paths = http.get("paths") or []
            if not paths:
                out.append(FieldError.required(f"spec.rules[{i}].http.paths"))
            for j, item in enumerate(paths):
                _http_path(item, f"spec.rules[{i}].http.paths[{j}]", out)
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            rule = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
            common.messages(rule(host), host, f"spec.tls[{i}].hosts[{j}]", out)
        if secrets_checked and tls.get("secretName"):
            common.messages(
                names.dns1123_subdomain(tls["secretName"]), tls["secretName"], f"spec.tls[{i}].secretName", out
            )
    name = spec.get("ingressClassName")
    if name is not None:
        common.messages(names.dns1123_subdomain(name), name, "spec.ingressClassName", out)


@on_create(_GROUP, "Ingress")
def ingress(obj: Obj) -> Errors:
    """An Ingress."""
    out: Errors = []
    _ingress(obj, out)
    name = (obj.get("spec") or {}).get("ingressClassName")
    named = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    if None not in (name, named) and name != named:
        text = "must match `ingressClassName` when both are specified"
        out.append(FieldError.invalid(f"annotations.{_CLASS_ANNOTATION}", named, text))
    return out


@on_update(_GROUP, "Ingress")
def ingress_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Ingress; names of secrets that were stored once stay allowed."""
    out: Errors = []
    if subresource == "status":
        load_balancer_status((new.get("status") or {}).get("loadBalancer") or {}, "status.loadBalancer", out)
        return out
    stored = [tls.get("secretName") for tls in (old.get("spec") or {}).get("tls") or ()]
    _ingress(new, out, secrets_checked=not any(name and names.dns1123_subdomain(name) for name in stored))
    return out


@on_create(_GROUP, "IngressClass")
def ingress_class(obj: Obj) -> Errors:
    """An IngressClass."""
    out: Errors = []
    spec = obj.get("spec") or {}
    controller = spec.get("controller") or ""
    if len(controller.encode()) > _MAX_CONTROLLER:
        out.append(FieldError.too_long("spec.controller", controller, _MAX_CONTROLLER))
    common.domain_prefixed_path(controller, "spec.controller", out)
    parameters = spec.get("parameters")
    if parameters is not None:
        _reference(parameters, "spec.parameters", out)
        _scope(parameters, "spec.parameters", out)
    return out


def _scope(parameters: Obj, path: str, out: Errors) -> None:
    scope, space = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        out.append(FieldError.required(f"{path}.scope"))
    elif scope not in ("Cluster", "Namespace"):
        out.append(FieldError.not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Namespace":
        if space is None:
            out.append(FieldError.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            common.messages(names.dns1123_label(space), space, f"{path}.namespace", out)
    elif space is not None:
        out.append(FieldError.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))


@on_update(_GROUP, "IngressClass")
def ingress_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed IngressClass; its controller stays."""
    out: Errors = []
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    common.immutable(wanted.get("controller"), before.get("controller"), "spec.controller", out)
    return out + ingress_class(new)
