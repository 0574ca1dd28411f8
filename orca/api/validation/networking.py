"""Network policies, service ranges and addresses."""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "networking.k8s.io"


def _policy_port(port: Obj, path: str, out: Errors) -> None:
    protocol, first, last = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in common.PROTOCOLS:
        out.append(FieldError.not_supported(f"{path}.protocol", protocol, ("TCP", "UDP", "SCTP")))
    at = f"{path}.endPort"
    if first is None:
        if last is not None:
            out.append(FieldError.invalid(at, last, "may not be specified when `port` is not specified"))
    elif isinstance(first, str):
        if last is not None:
            out.append(FieldError.invalid(at, last, "may not be specified when `port` is non-numeric"))
        common.messages(names.port_name(first), first, f"{path}.port", out)
    else:
        common.messages(names.port_number(first), first, f"{path}.port", out)
        if last is not None:
            if last < first:
                out.append(FieldError.invalid(at, last, "must be greater than or equal to `port`"))
            common.messages(names.port_number(last), last, at, out)


def _ranges(spec: Obj) -> frozenset[str]:
    """Every range of addresses that a policy names: a changed policy may keep what older servers took."""
    blocks = [
        peer.get("ipBlock") or {}
        for direction, peers in (("ingress", "from"), ("egress", "to"))
        for rule in spec.get(direction) or ()
        for peer in rule.get(peers) or ()
    ]
    return frozenset(value for block in blocks for value in (block.get("cidr"), *(block.get("except") or ())) if value)


def _peer(peer: Obj, path: str, out: Errors, kept: frozenset[str]) -> None:
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
    outer = _network(cidr, f"{at}.cidr", out, kept)
    for i, part in enumerate(block.get("except") or ()):
        inner = _network(part, f"{at}.except[{i}]", out, kept)
        if outer is None or inner is None:
            continue
        inside = outer.version == inner.version and inner.network_address in outer
        if not inside or inner.prefixlen <= outer.prefixlen:
            text = "must be a strict subset of `cidr`"
            out.append(FieldError.invalid(f"{at}.except[{i}]", part, text))


def _network(
    value: str, path: str, out: Errors, kept: frozenset[str]
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if value not in kept:
        common.messages(names.cidr(value), value, path, out)
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def _policy(spec: Obj, kept: frozenset[str], out: Errors) -> None:
    common.label_selector(spec.get("podSelector"), "spec.podSelector", out)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or ()):
                _policy_port(port, f"{at}.ports[{j}]", out)
            for j, peer in enumerate(rule.get(peers) or ()):
                _peer(peer, f"{at}.{peers}[{j}]", out, kept)
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        text = "may not specify more than two policyTypes"
        out.append(FieldError.invalid("spec.policyTypes", types, text))
    else:
        for i, kind in enumerate(types):
            if kind not in ("Ingress", "Egress"):
                out.append(FieldError.not_supported(f"spec.policyTypes[{i}]", kind, ("Ingress", "Egress")))


@on_create(_GROUP, "NetworkPolicy")
def network_policy(obj: Obj) -> Errors:
    """A NetworkPolicy."""
    out: Errors = []
    _policy(obj.get("spec") or {}, frozenset(), out)
    return out


@on_update(_GROUP, "NetworkPolicy")
def network_policy_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed NetworkPolicy."""
    out: Errors = []
    _policy(new.get("spec") or {}, _ranges(old.get("spec") or {}), out)
    return out


def _service_ranges(spec: Obj, out: Errors) -> None:
    ranges, at = spec.get("cidrs") or [], "spec.cidrs"
    if not ranges:
        out.append(FieldError.required(at, "at least one CIDR required"))
        return
    if len(ranges) > 2:
        out.append(FieldError.invalid(at, spec, "may only hold up to 2 values"))
        return
    if len(ranges) == 2 and {_version(value) for value in ranges} != {4, 6}:
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        out.append(FieldError.invalid(at, spec, text))
        return
    for i, value in enumerate(ranges):
        wrong = names.cidr(value)
        common.messages(wrong, value, f"{at}[{i}]", out)
        if not wrong and (text := str(ipaddress.ip_network(value, strict=False))) != value:
            out.append(FieldError.invalid(f"{at}[{i}]", value, f'must be in canonical form ("{text}")'))


def _version(value: str) -> int:
    try:
        return ipaddress.ip_network(value, strict=False).version
    except ValueError:
        return 0


@on_create(_GROUP, "ServiceCIDR")
def service_cidr(obj: Obj) -> Errors:
    """A ServiceCIDR: one range, or one of each family."""
    out: Errors = []
    _service_ranges(obj.get("spec") or {}, out)
    return out


@on_update(_GROUP, "ServiceCIDR")
def service_cidr_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ServiceCIDR: it may grow by a second family. Its conditions are not judged: "Ready" has no reason."""
    out: Errors = []
    if subresource == "status":
        return out
    wanted, before = (new.get("spec") or {}).get("cidrs") or [], (old.get("spec") or {}).get("cidrs") or []
    if len(before) == 1 and len(wanted) == 2 and wanted[0] == before[0]:
        _service_ranges(new["spec"], out)
    else:
        common.immutable(wanted, before, "spec.cidrs", out)
    return out


@on_create(_GROUP, "IPAddress")
def ip_address(obj: Obj) -> Errors:
    """An IPAddress names what holds it."""
    out: Errors = []
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        out.append(FieldError.required("spec.parentRef"))
        return out
    at = "spec.parentRef"
    if parent.get("group"):
        common.messages(names.dns1123_subdomain(parent["group"]), parent["group"], f"{at}.group", out)
    common.segment(parent, "resource", at, out)
    common.segment(parent, "name", at, out)
    if parent.get("namespace"):
        common.segment(parent, "namespace", at, out)
    return out


@on_update(_GROUP, "IPAddress")
def ip_address_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed IPAddress; its holder stays."""
    del subresource
    out: Errors = []
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    common.immutable(wanted.get("parentRef"), before.get("parentRef"), "spec.parentRef", out)
    return out
