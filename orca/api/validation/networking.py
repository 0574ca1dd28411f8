"""Ingresses, network policies, service ranges and addresses."""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update
from orca.api.validation.services import load_balancer_status

_GROUP = "networking.k8s.io"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_SUFFIXES = ("/..", "/.")


def _backend(backend: Obj, path: str, out: Errors) -> None:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        text = "cannot set both resource and service backends"
        out.append(FieldError.invalid(path, "", text))
    elif resource is not None:
        common.required(resource, "kind", f"{path}.resource", out)
        common.required(resource, "name", f"{path}.resource", out)
    elif service is None:
        out.append(FieldError.required(path, "resource or service backend is required"))
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
    elif kind not in _PATH_TYPES:
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


@on_create(_GROUP, "Ingress")
def ingress(obj: Obj) -> Errors:
    """An Ingress."""
    out: Errors = []
    spec = obj.get("spec") or {}
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            rule = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
            common.messages(rule(host), host, f"spec.tls[{i}].hosts[{j}]", out)
        if tls.get("secretName"):
            common.messages(
                names.dns1123_subdomain(tls["secretName"]), tls["secretName"], f"spec.tls[{i}].secretName", out
            )
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        text = "either `defaultBackend` or `rules` must be specified"
        out.append(FieldError.invalid("spec", rules, text))
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
    if backend is not None:
        _backend(backend, "spec.defaultBackend", out)
    name = spec.get("ingressClassName")
    if name is not None:
        common.messages(names.dns1123_subdomain(name), name, "spec.ingressClassName", out)
    return out


@on_update(_GROUP, "Ingress")
def ingress_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Ingress."""
    if subresource == "status":
        out: Errors = []
        load_balancer_status((new.get("status") or {}).get("loadBalancer") or {}, "status.loadBalancer", out)
        return out
    return ingress(new)


@on_create(_GROUP, "IngressClass")
def ingress_class(obj: Obj) -> Errors:
    """An IngressClass."""
    out: Errors = []
    spec = obj.get("spec") or {}
    controller = spec.get("controller") or ""
    if len(controller) > 250:
        out.append(FieldError.too_long("spec.controller", controller, 250))
    if not controller:
        out.append(FieldError.required("spec.controller"))
    elif "/" not in controller or names.dns1123_subdomain(controller.partition("/")[0]):
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        out.append(FieldError.invalid("spec.controller", controller, text))
    parameters = spec.get("parameters")
    if parameters is None:
        return out
    at = "spec.parameters"
    common.required(parameters, "kind", at, out, "kind is required")
    common.required(parameters, "name", at, out, "name is required")
    scope, space = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        out.append(FieldError.required(f"{at}.scope"))
    else:
        common.choice(scope, ("Cluster", "Namespace"), f"{at}.scope", out)
    if scope == "Namespace" and not space:
        text = "`parameters.scope` is set to 'Namespace'"
        out.append(FieldError.required(f"{at}.namespace", text))
    elif scope == "Cluster" and space:
        text = "`parameters.scope` is set to 'Cluster'"
        out.append(FieldError.forbidden(f"{at}.namespace", text))
    return out


@on_update(_GROUP, "IngressClass")
def ingress_class_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed IngressClass; its controller stays."""
    out = ingress_class(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    common.immutable(wanted.get("controller"), before.get("controller"), "spec.controller", out)
    return out


def _policy_port(port: Obj, path: str, out: Errors) -> None:
    if port.get("protocol") is not None:
        common.choice(port["protocol"], common.PROTOCOLS, f"{path}.protocol", out)
    first, last = port.get("port"), port.get("endPort")
    if first is not None:
        common.port(first, f"{path}.port", out)
        if last is not None:
            if isinstance(first, str):
                text = "may not be specified when `port` is non-numeric"
                out.append(FieldError.invalid(f"{path}.endPort", last, text))
            elif last < first:
                text = "must be greater than or equal to `port`"
                out.append(FieldError.invalid(f"{path}.endPort", last, text))
            elif last > 65535:
                out.append(FieldError.invalid(f"{path}.endPort", last, names.in_range(1, 65535)))
    elif last is not None:
        text = "may not be specified when `port` is not specified"
        out.append(FieldError.invalid(f"{path}.endPort", last, text))


def _peer(peer: Obj, path: str, out: Errors) -> None:
    selectors = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
    for key in selectors:
        common.label_selector(peer[key], f"{path}.{key}", out)
    block = peer.get("ipBlock")
    if block is None:
        if not selectors:
            out.append(FieldError.required(path, "must specify a peer"))
        return
    if selectors:
        text = "may not specify both ipBlock and another peer"
        out.append(FieldError.forbidden(path, text))
    cidr = block.get("cidr")
    at = f"{path}.ipBlock"
    if not cidr:
        out.append(FieldError.required(f"{at}.cidr"))
        return
    wrong = names.cidr(cidr)
    common.messages(wrong, cidr, f"{at}.cidr", out)
    for i, part in enumerate(block.get("except") or ()):
        if names.cidr(part):
            common.messages(names.cidr(part), part, f"{at}.except[{i}]", out)
        elif not wrong:
            outer, inner = ipaddress.ip_network(cidr, strict=False), ipaddress.ip_network(part, strict=False)
            inside = outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
            if not inside or inner == outer:
                text = "must be a strict subset of `cidr`"
                out.append(FieldError.invalid(f"{at}.except[{i}]", part, text))


@on_create(_GROUP, "NetworkPolicy")
def network_policy(obj: Obj) -> Errors:
    """A NetworkPolicy."""
    out: Errors = []
    spec = obj.get("spec") or {}
    common.label_selector(spec.get("podSelector"), "spec.podSelector", out)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or ()):
                _policy_port(port, f"{at}.ports[{j}]", out)
            for j, peer in enumerate(rule.get(peers) or ()):
                _peer(peer, f"{at}.{peers}[{j}]", out)
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        text = "may not specify more than two policyTypes"
        out.append(FieldError.invalid("spec.policyTypes", types, text))
    else:
        for i, kind in enumerate(types):
            if kind not in ("Ingress", "Egress"):
                out.append(FieldError.not_supported(f"spec.policyTypes[{i}]", kind, ("Egress", "Ingress")))
    return out


@on_create(_GROUP, "ServiceCIDR")
def service_cidr(obj: Obj) -> Errors:
    """A ServiceCIDR: one range, or one of each family."""
    out: Errors = []
    ranges = (obj.get("spec") or {}).get("cidrs") or []
    if not ranges:
        out.append(FieldError.required("spec.cidrs", "at least one CIDR required"))
    elif len(ranges) > 2:
        text = "may only hold up to 2 values"
        out.append(FieldError.invalid("spec", obj.get("spec"), text))
    versions = []
    for i, value in enumerate(ranges):
        wrong = names.cidr(value)
        common.messages(wrong, value, f"spec.cidrs[{i}]", out)
        if not wrong:
            network = ipaddress.ip_network(value, strict=False)
            versions.append(network.version)
            if str(network) != value:
                text = f'must be in canonical form ("{network}")'
                out.append(FieldError.invalid(f"spec.cidrs[{i}]", value, text))
    if len(versions) == 2 and versions[0] == versions[1]:
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        out.append(FieldError.invalid("spec.cidrs", ranges, text))
    return out


@on_update(_GROUP, "ServiceCIDR")
def service_cidr_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ServiceCIDR: it may grow by a second family."""
    if subresource == "status":
        return []
    out = service_cidr(new)
    wanted, before = (new.get("spec") or {}).get("cidrs") or [], (old.get("spec") or {}).get("cidrs") or []
    if wanted[: len(before)] != before:
        out.append(FieldError.invalid("spec.cidrs", wanted, common.IMMUTABLE))
    return out


@on_create(_GROUP, "IPAddress")
def ip_address(obj: Obj) -> Errors:
    """An IPAddress names what holds it."""
    out: Errors = []
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        out.append(FieldError.required("spec.parentRef"))
        return out
    for key in ("resource", "name"):
        common.required(parent, key, "spec.parentRef", out)
    return out


@on_update(_GROUP, "IPAddress")
def ip_address_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed IPAddress; its holder stays."""
    out = ip_address(new)
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    common.immutable(wanted.get("parentRef"), before.get("parentRef"), "spec.parentRef", out)
    return out
