"""Endpoints and EndpointSlices.

Reference: k8s.io/kubernetes ``pkg/apis/discovery/validation`` and ``pkg/apis/core/validation``.
"""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.remembering import remembered
from orca.api.validation import common
from orca.api.validation.comparison import plain
from orca.api.validation.kindnames import NameRule
from orca.api.validation.registry import Errors, Obj, on_create, on_update
from orca.api.validation.services import non_special

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MAX_ENDPOINTS = 1000
MAX_PORTS = 20000
MAX_ADDRESSES = 100
MAX_HINTS = 8
MAX_TOPOLOGY = 16
_ZONE = "topology.kubernetes.io/zone"


@remembered(8192)
def _is_faultless(address: str) -> bool:
    """Nothing is wrong with an address, whatever its family is to be. Kept: one change of a Service of a thousand pods
    has all their addresses judged again."""
    out: Errors = []
    if names.ip_address(address) or str(ipaddress.ip_address(address)) != address:
        return False
    non_special(address, "", out)
    return not out


def _subset_address(address: Obj, path: str, out: Errors) -> None:
    value = address.get("ip") or ""
    faultless = _is_faultless(value)
    if not faultless:
        common.messages(names.ip_address(value), value, f"{path}.ip", out)
    if address.get("hostname"):
        common.messages(names.dns1123_label(address["hostname"]), address["hostname"], f"{path}.hostname", out)
    node = address.get("nodeName")
    if node is not None:
        common.messages(names.dns1123_subdomain(node), node, f"{path}.nodeName", out)
    if faultless:
        return
    try:
        non_special(value, f"{path}.ip", out)
    except ValueError:
        out.append(FieldError.invalid(f"{path}.ip", value, "must be a valid IP address"))


def _subset_port(port: Obj, path: str, out: Errors, *, named: bool) -> None:
    name, number = port.get("name"), port.get("port") or 0
    if named and not name:
        out.append(FieldError.required(f"{path}.name"))
    elif name:
        common.messages(names.dns1123_label(name), name, f"{path}.name", out)
    if not 1 <= number <= 65535:
        out.append(FieldError.invalid(f"{path}.port", number, names.in_range(1, 65535)))
    common.choice(port.get("protocol"), common.PROTOCOLS, f"{path}.protocol", out, required=True)
    _app_protocol(port, path, out)


def _app_protocol(port: Obj, path: str, out: Errors) -> None:
    name = port.get("appProtocol")
    if name is not None:
        common.messages(names.qualified_name(name), name, f"{path}.appProtocol", out)


def _subsets(obj: Obj, out: Errors) -> None:
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


@on_create("", "Endpoints")
def endpoints(obj: Obj) -> Errors:
    """An Endpoints object."""
    out: Errors = []
    _subsets(obj, out)
    return out


@on_update("", "Endpoints")
def endpoints_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Endpoints object; what an older server took may stay."""
    del subresource
    found = endpoints(new)
    return [] if found and plain(new.get("subsets")) == plain(old.get("subsets")) else found


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


def _slice_address(value: str, kind: str, path: str, i: int, out: Errors) -> None:
    at = f"{path}[{i}]"
    if kind == "FQDN":
        _domain(value, at, out)
        return
    if (":" in value) == (kind == "IPv6") and _is_faultless(value):
        return
    wrong = names.ip_address(value)
    if wrong:
        common.messages(wrong, value, at, out)
        return
    found = ipaddress.ip_address(value)
    if kind == "IPv6" and str(found) != value:
        out.append(FieldError.invalid(at, value, f'must be in canonical form ("{found}")'))
        return
    if found.version != int(kind[-1]):
        # Upstream tells of the list here.
        out.append(FieldError.invalid(path, value, f"must be an {kind} address"))
    non_special(value, at, out)


def _hints(hints: Obj, key: str, judge: NameRule, path: str, out: Errors) -> bool:
    """One sort of hints; whether there are not too many to judge more."""
    items, at = hints.get(key) or [], f"{path}.{key}"
    if len(items) > MAX_HINTS:
        out.append(FieldError.too_many(at, len(items), MAX_HINTS))
        return False
    seen: set[str] = set()
    for i, item in enumerate(items):
        name = item.get("name") or ""
        if name in seen:
            out.append(FieldError.duplicate(f"{at}[{i}].name", name))
        seen.add(name)
        common.messages(judge(name), name, f"{at}[{i}].name", out)
    return True


def _topology(labels: Obj, path: str, out: Errors) -> None:
    if len(labels) > MAX_TOPOLOGY:
        out.append(FieldError.too_many(path, len(labels), MAX_TOPOLOGY))
    common.labels(labels, path, out)
    if _ZONE in labels:
        out.append(FieldError("Internal", f"{path}[{_ZONE}]", "", "reserved key was not removed in conversion"))


def _endpoint(endpoint: Obj, kind: str, path: str, out: Errors) -> None:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        out.append(FieldError.required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > MAX_ADDRESSES:
        out.append(FieldError.too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES))
    if kind in _ADDRESS_TYPES:
        for i, value in enumerate(addresses):
            _slice_address(value, kind, f"{path}.addresses", i, out)
    node = endpoint.get("nodeName")
    if node is not None:
        common.messages(names.dns1123_subdomain(node), node, f"{path}.nodeName", out)
    if endpoint.get("deprecatedTopology"):
        _topology(endpoint["deprecatedTopology"], f"{path}.deprecatedTopology", out)
    host = endpoint.get("hostname")
    if host is not None:
        common.messages(names.dns1123_label(host), host, f"{path}.hostname", out)
    hints = endpoint.get("hints")
    if hints and _hints(hints, "forZones", names.label_value, f"{path}.hints", out):
        _hints(hints, "forNodes", names.dns1123_subdomain, f"{path}.hints", out)


def _ports(ports: list[Obj], out: Errors) -> None:
    if len(ports) > MAX_PORTS:
        out.append(FieldError.too_many("ports", len(ports), MAX_PORTS))
        return
    seen = set()
    for i, port in enumerate(ports):
        name = port.get("name") or ""
        if name:
            common.messages(names.dns1123_label(name), name, f"ports[{i}].name", out)
        if name in seen:
            out.append(FieldError.duplicate(f"ports[{i}].name", name))
        seen.add(name)
        if port.get("protocol") is None:
            out.append(FieldError.required(f"ports[{i}].protocol"))
        common.known(port.get("protocol"), common.PROTOCOLS, f"ports[{i}].protocol", out)
        _app_protocol(port, f"ports[{i}]", out)


def _endpoints(obj: Obj, out: Errors) -> None:
    items = obj.get("endpoints") or []
    if len(items) > MAX_ENDPOINTS:
        out.append(FieldError.too_many("endpoints", len(items), MAX_ENDPOINTS))
        return
    for i, endpoint in enumerate(items):
        _endpoint(endpoint, obj.get("addressType") or "", f"endpoints[{i}]", out)


def _outside(obj: Obj, out: Errors) -> None:
    common.choice(obj.get("addressType"), _ADDRESS_TYPES, "addressType", out, required=True)
    _ports(obj.get("ports") or [], out)


@on_create("discovery.k8s.io", "EndpointSlice")
def endpoint_slice(obj: Obj) -> Errors:
    """An EndpointSlice."""
    out: Errors = []
    _outside(obj, out)
    _endpoints(obj, out)
    return out


@on_update("discovery.k8s.io", "EndpointSlice")
def endpoint_slice_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed EndpointSlice: its address type stays, and what an older server took may stay."""
    del subresource
    out: Errors = []
    _outside(new, out)
    found: Errors = []
    _endpoints(new, found)
    if found and plain(new.get("endpoints")) != plain(old.get("endpoints")):
        out += found
    common.immutable(new.get("addressType"), old.get("addressType"), "addressType", out)
    return out
