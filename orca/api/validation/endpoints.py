"""Endpoints and EndpointSlices."""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update
from orca.api.validation.services import non_special

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MAX_ENDPOINTS = 1000
MAX_PORTS = 20000


def _subset_address(address: Obj, path: str, out: Errors) -> None:
    value = address.get("ip") or ""
    wrong = names.ip_address(value)
    common.messages(wrong, value, f"{path}.ip", out)
    if address.get("hostname"):
        common.messages(names.dns1123_label(address["hostname"]), address["hostname"], f"{path}.hostname", out)
    if address.get("nodeName"):
        common.messages(names.dns1123_subdomain(address["nodeName"]), address["nodeName"], f"{path}.nodeName", out)
    if not wrong:
        non_special(value, f"{path}.ip", out)


def _subset_port(port: Obj, path: str, out: Errors, *, named: bool) -> None:
    name, number = port.get("name"), port.get("port") or 0
    if named and not name:
        out.append(FieldError.required(f"{path}.name"))
    elif name:
        common.messages(names.dns1123_label(name), name, f"{path}.name", out)
    if not 1 <= number <= 65535:
        out.append(FieldError.invalid(f"{path}.port", number, names.in_range(1, 65535)))
    common.choice(port.get("protocol"), common.PROTOCOLS, f"{path}.protocol", out, required=True)
    if port.get("appProtocol"):
        common.messages(names.qualified_name(port["appProtocol"]), port["appProtocol"], f"{path}.appProtocol", out)


@on_create("", "Endpoints")
def endpoints(obj: Obj) -> Errors:
    """An Endpoints object."""
    out: Errors = []
    for i, subset in enumerate(obj.get("subsets") or ()):
        at = f"subsets[{i}]"
        addresses, waiting = subset.get("addresses") or [], subset.get("notReadyAddresses") or []
        if not addresses and not waiting:
            out.append(FieldError.required(at, "must specify `addresses` or `notReadyAddresses`"))
        for j, address in enumerate(addresses):
            _subset_address(address, f"{at}.addresses[{j}]", out)
        for j, address in enumerate(waiting):
            _subset_address(address, f"{at}.notReadyAddresses[{j}]", out)
        ports = subset.get("ports") or []
        for j, port in enumerate(ports):
            _subset_port(port, f"{at}.ports[{j}]", out, named=len(ports) > 1)
    return out


def _domain(value: str, path: str, out: Errors) -> None:
    """A fully qualified domain name: two labels at least, with or without the dot that ends it."""
    name = value.removesuffix(".")
    if not value:
        out.append(FieldError.required(path))
    elif wrong := names.dns1123_subdomain(name):
        out.append(FieldError.invalid(path, name, ",".join(wrong)))
    elif "." not in name:
        text = "should be a domain with at least two segments separated by dots"
        out.append(FieldError.invalid(path, name, text))
    else:
        for label in name.split("."):
            if wrong := names.dns1123_label(label):
                out.append(FieldError.invalid(path, label, ",".join(wrong)))
                return


def _slice_address(value: str, kind: str, path: str, out: Errors) -> None:
    if kind == "FQDN":
        _domain(value, path, out)
        return
    wrong = names.ip_address(value)
    if wrong:
        common.messages(wrong, value, path, out)
        return
    if ipaddress.ip_address(value).version != (4 if kind == "IPv4" else 6):
        text = f"must be a valid {kind} address"
        out.append(FieldError.invalid(path, value, text))
        return
    non_special(value, path, out)


def _endpoint(endpoint: Obj, kind: str, path: str, out: Errors) -> None:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        out.append(FieldError.required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > 100:
        out.append(FieldError.too_many(f"{path}.addresses", len(addresses), 100))
    for i, value in enumerate(addresses):
        _slice_address(value, kind, f"{path}.addresses[{i}]", out)
    node = endpoint.get("nodeName")
    if node is not None:
        common.messages(names.dns1123_subdomain(node), node, f"{path}.nodeName", out)
    common.labels(endpoint.get("deprecatedTopology"), f"{path}.deprecatedTopology", out)
    host = endpoint.get("hostname")
    if host is not None:
        common.messages(names.dns1123_label(host), host, f"{path}.hostname", out)
    hints = endpoint.get("hints") or {}
    for key, limit in (("forZones", 8), ("forNodes", 8)):
        if len(hints.get(key) or ()) > limit:
            out.append(FieldError.too_many(f"{path}.hints.{key}", len(hints[key]), limit))


@on_create("discovery.k8s.io", "EndpointSlice")
def endpoint_slice(obj: Obj) -> Errors:
    """An EndpointSlice."""
    out: Errors = []
    kind = obj.get("addressType") or ""
    if not kind:
        out.append(FieldError.required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        out.append(FieldError.not_supported("addressType", kind, _ADDRESS_TYPES))
    items = obj.get("endpoints") or []
    if len(items) > MAX_ENDPOINTS:
        out.append(FieldError.too_many("endpoints", len(items), MAX_ENDPOINTS))
    elif kind in _ADDRESS_TYPES:
        for i, endpoint in enumerate(items):
            _endpoint(endpoint, kind, f"endpoints[{i}]", out)
    ports = obj.get("ports") or []
    if len(ports) > MAX_PORTS:
        out.append(FieldError.too_many("ports", len(ports), MAX_PORTS))
        return out
    seen = set()
    for i, port in enumerate(ports):
        name = port.get("name") or ""
        if name:
            common.messages(names.dns1123_label(name), name, f"ports[{i}].name", out)
        if name in seen:
            out.append(FieldError.duplicate(f"ports[{i}].name", name))
        seen.add(name)
        common.choice(port.get("protocol"), common.PROTOCOLS, f"ports[{i}].protocol", out, required=True)
        number = port.get("port")
        if number is not None and not 1 <= number <= 65535:
            out.append(FieldError.invalid(f"ports[{i}].port", number, names.in_range(1, 65535)))
        app = port.get("appProtocol")
        if app:
            common.messages(names.qualified_name(app), app, f"ports[{i}].appProtocol", out)
    return out


@on_update("discovery.k8s.io", "EndpointSlice")
def endpoint_slice_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed EndpointSlice; its address type stays."""
    out = endpoint_slice(new)
    common.immutable(new.get("addressType"), old.get("addressType"), "addressType", out)
    return out
