"""Services: ports, addresses, types, and what may not change once it was given."""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES = ("Cluster", "Local")
_MAX_AFFINITY = 86400
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def non_special(address: str, path: str, out: Errors) -> None:
    """Not unspecified, loopback, link-local or a link-local multicast address."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        out.append(FieldError.invalid(path, address, f"may not be unspecified ({address})"))
    if ip.is_loopback:
        out.append(FieldError.invalid(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if ip.is_link_local:
        text = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        out.append(FieldError.invalid(path, address, text))
    packed = ip.packed
    if packed[:3] == b"\xe0\x00\x00" if ip.version == 4 else packed[0] == 0xFF and packed[1] & 0x0F == 2:
        text = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        out.append(FieldError.invalid(path, address, text))


def _ports(spec: Obj, out: Errors) -> None:
    ports = spec.get("ports") or []
    kind = spec.get("type")
    seen_names: set[str] = set()
    seen_ports: set[tuple[str, int]] = set()
    seen_node_ports: set[tuple[str, int]] = set()
    for i, port in enumerate(ports):
        at = f"spec.ports[{i}]"
        name, number, protocol = port.get("name"), port.get("port") or 0, port.get("protocol")
        if not name:
            if len(ports) > 1:
                out.append(FieldError.required(f"{at}.name"))
        else:
            common.messages(names.dns1123_label(name), name, f"{at}.name", out)
            if name in seen_names:
                out.append(FieldError.duplicate(f"{at}.name", name))
            seen_names.add(name)
        if not 1 <= number <= 65535:
            out.append(FieldError.invalid(f"{at}.port", number, names.in_range(1, 65535)))
        common.choice(protocol, common.PROTOCOLS, f"{at}.protocol", out, required=True)
        if kind != "ExternalName" or port.get("targetPort") is not None:
            common.port(port.get("targetPort"), f"{at}.targetPort", out)
        app = port.get("appProtocol")
        if app:
            common.messages(names.qualified_name(app), app, f"{at}.appProtocol", out)
        node_port = port.get("nodePort") or 0
        if node_port:
            if kind == "ClusterIP":
                text = "may not be used when `type` is 'ClusterIP'"
                out.append(FieldError.forbidden(f"{at}.nodePort", text))
            elif not 1 <= node_port <= 65535:
                out.append(FieldError.invalid(f"{at}.nodePort", node_port, names.in_range(1, 65535)))
            if (str(protocol), node_port) in seen_node_ports:
                out.append(FieldError.duplicate(f"{at}.nodePort", node_port))
            seen_node_ports.add((str(protocol), node_port))
        if (str(protocol), number) in seen_ports:
            out.append(FieldError.duplicate(at, {"protocol": protocol, "port": number}))
        seen_ports.add((str(protocol), number))


def _cluster_ips(spec: Obj, out: Errors) -> None:
    first, listed = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if spec.get("type") == "ExternalName":
        for key, given in (("clusterIPs", first or listed), ("ipFamilies", spec.get("ipFamilies"))):
            if given:
                out.append(FieldError.forbidden(f"spec.{key}", "may not be set for ExternalName services"))
        if spec.get("ipFamilyPolicy") is not None:
            text = "may not be set for ExternalName services"
            out.append(FieldError.forbidden("spec.ipFamilyPolicy", text))
        return
    if listed:
        if first and first != listed[0]:
            text = "first value must match `clusterIP`"
            out.append(FieldError.invalid("spec.clusterIPs", listed, text))
        elif not first:
            text = "must be empty when `clusterIP` is not specified"
            out.append(FieldError.required("spec.clusterIP", text))
    if len(listed) > 2:
        text = "may only hold up to 2 values"
        out.append(FieldError.invalid("spec.clusterIPs", listed, text))
    for i, value in enumerate(listed or ([first] if first else [])):
        path = f"spec.clusterIPs[{i}]"
        if value == "None":
            if len(listed) > 1:
                out.append(FieldError.invalid("spec.clusterIPs", listed, "'None' must be the first and only value"))
            continue
        wrong = names.ip_address(value)
        common.messages(wrong, value, path, out)
        expected = (spec.get("ipFamilies") or [])[i : i + 1]
        if not wrong and expected in (["IPv4"], ["IPv6"]) and expected != ["IPv6" if ":" in value else "IPv4"]:
            text = f"expected an {expected[0]} value as indicated by `ipFamilies[{i}]`"
            out.append(FieldError.invalid(path, value, text))
    if len(listed) == 2 and "None" not in listed and len({":" in value for value in listed}) == 1:
        text = "may specify no more than one IP for each IP family"
        out.append(FieldError.invalid("spec.clusterIPs", listed, text))
    families = spec.get("ipFamilies") or []
    before = common.there_before(families)
    for i, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            out.append(FieldError.not_supported(f"spec.ipFamilies[{i}]", family, ("IPv4", "IPv6")))
        elif before[i]:
            out.append(FieldError.duplicate(f"spec.ipFamilies[{i}]", family))
    policy = spec.get("ipFamilyPolicy")
    common.choice(policy, ("SingleStack", "PreferDualStack", "RequireDualStack"), "spec.ipFamilyPolicy", out)


def _affinity(spec: Obj, out: Errors) -> None:
    affinity = spec.get("sessionAffinity")
    config, at = spec.get("sessionAffinityConfig"), "spec.sessionAffinityConfig"
    common.choice(affinity, ("ClientIP", "None"), "spec.sessionAffinity", out, required=True)
    if affinity == "None" and config is not None:
        out.append(FieldError.forbidden(at, "must not be set when session affinity is None"))
    if affinity != "ClientIP":
        return
    text = "when session affinity type is ClientIP"
    if config is None:
        out.append(FieldError.required(at, text))
    elif config.get("clientIP") is None:
        out.append(FieldError.required(f"{at}.clientIP", text))
    elif config["clientIP"].get("timeoutSeconds") is None:
        out.append(FieldError.required(f"{at}.clientIP.timeoutSeconds", text))
    else:
        seconds = config["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= _MAX_AFFINITY:
            text = f"must be greater than 0 and less than {_MAX_AFFINITY}"
            out.append(FieldError.invalid(f"{at}.clientIP.timeoutSeconds", seconds, text))


def _traffic(spec: Obj, out: Errors) -> None:
    kind, external = spec.get("type"), spec.get("externalTrafficPolicy")
    external_ips = kind == "ClusterIP" and bool(spec.get("externalIPs"))
    if external:
        if kind not in ("NodePort", "LoadBalancer") and not external_ips:
            text = "may only be set for externally-accessible services"
            out.append(FieldError.invalid("spec.externalTrafficPolicy", external, text))
        else:
            common.choice(external, _POLICIES, "spec.externalTrafficPolicy", out)
    elif kind in ("NodePort", "LoadBalancer"):
        out.append(FieldError.required("spec.externalTrafficPolicy"))
    internal = spec.get("internalTrafficPolicy")
    if internal is None:
        if kind in ("NodePort", "LoadBalancer", "ClusterIP"):
            out.append(FieldError.required("spec.internalTrafficPolicy"))
    else:
        common.choice(internal, _POLICIES, "spec.internalTrafficPolicy", out)
    common.choice(
        spec.get("trafficDistribution"), ("PreferClose", "PreferSameNode", "PreferSameZone"),
        "spec.trafficDistribution", out,
    )  # fmt: skip
    health = spec.get("healthCheckNodePort") or 0
    if health < 0 or health > 65535:
        out.append(FieldError.invalid("spec.healthCheckNodePort", health, names.in_range(0, 65535)))
    elif health and not (kind == "LoadBalancer" and external == "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        out.append(FieldError.invalid("spec.healthCheckNodePort", health, text))


def _source_ranges(spec: Obj, annotations: Obj, out: Errors) -> None:
    """The field, or else the annotation that was there before it."""
    only = "may only be used when `type` is 'LoadBalancer'"
    ranges, written = spec.get("loadBalancerSourceRanges"), annotations.get(_RANGES)
    if ranges:
        at = "spec.LoadBalancerSourceRanges"
        if spec.get("type") != "LoadBalancer":
            out.append(FieldError.forbidden(at, only))
        for i, value in enumerate(ranges):
            common.messages(names.cidr(value.strip()), value.strip(), f"{at}[{i}]", out)
    elif written is not None:
        at = f"metadata.annotations[{_RANGES}]"
        if spec.get("type") != "LoadBalancer":
            out.append(FieldError.forbidden(at, only))
        for value in written.strip().split(",") if written.strip() else ():
            common.messages(names.cidr(value.strip()), value.strip(), at, out)


def _load_balancer(spec: Obj, out: Errors) -> None:
    kind = spec.get("type")
    if kind == "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is None:
            out.append(FieldError.required("spec.allocateLoadBalancerNodePorts"))
    elif spec.get("allocateLoadBalancerNodePorts") is not None:
        text = "may only be used when `type` is 'LoadBalancer'"
        out.append(FieldError.forbidden("spec.allocateLoadBalancerNodePorts", text))
    name = spec.get("loadBalancerClass")
    if name is not None:
        if kind != "LoadBalancer":
            text = "may only be used when `type` is 'LoadBalancer'"
            out.append(FieldError.forbidden("spec.loadBalancerClass", text))
        common.messages(names.qualified_name(name), name, "spec.loadBalancerClass", out)


def _external_name(spec: Obj, out: Errors) -> None:
    value = (spec.get("externalName") or "").removesuffix(".")
    if value:
        common.messages(names.dns1123_subdomain(value), value, "spec.externalName", out)
    else:
        out.append(FieldError.required("spec.externalName"))


@on_create("", "Service")
def service(obj: Obj) -> Errors:
    """A Service."""
    out: Errors = []
    spec = obj.get("spec") or {}
    kind = spec.get("type")
    headless = spec.get("clusterIP") == "None"
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if _HINTS in annotations and annotations.get(_MODE, annotations[_HINTS]) != annotations[_HINTS]:
        text = f"must match annotations[{_HINTS}] when both are specified"
        out.append(FieldError.invalid(f"metadata.annotations[{_MODE}]", annotations[_MODE], text))
    if not spec.get("ports") and not headless and kind != "ExternalName":
        out.append(FieldError.required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and headless:
        article = f"may not be set to 'None' for {kind} services"
        out.append(FieldError.invalid("spec.clusterIPs[0]", "None", article))
    if kind == "ExternalName":
        _external_name(spec, out)
    _ports(spec, out)
    common.labels(spec.get("selector"), "spec.selector", out)
    _affinity(spec, out)
    _cluster_ips(spec, out)
    for i, address in enumerate(spec.get("externalIPs") or ()):
        wrong = names.ip_address(address)
        common.messages(wrong, address, f"spec.externalIPs[{i}]", out)
        if not wrong:
            non_special(address, f"spec.externalIPs[{i}]", out)
    common.choice(kind, _TYPES, "spec.type", out, required=True)
    _source_ranges(spec, annotations, out)
    _load_balancer(spec, out)
    _traffic(spec, out)
    return out


def load_balancer_status(state: Obj, path: str, out: Errors) -> None:
    """``status.loadBalancer`` of a Service or an Ingress."""
    for i, ingress in enumerate(state.get("ingress") or ()):
        at = f"{path}.ingress[{i}]"
        address, host, mode = ingress.get("ip"), ingress.get("hostname"), ingress.get("ipMode")
        if address:
            common.messages(names.ip_address(address), address, f"{at}.ip", out)
        if mode is not None:
            if not address:
                text = "may not be specified when `ip` is not set"
                out.append(FieldError.forbidden(f"{at}.ipMode", text))
            common.choice(mode, ("Proxy", "VIP"), f"{at}.ipMode", out)
        if host:
            common.messages(names.dns1123_subdomain(host), host, f"{at}.hostname", out)
            if not names.ip_address(host):
                text = "must be a DNS name, not an IP address"
                out.append(FieldError.invalid(f"{at}.hostname", host, text))


def _needs_health_check(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _families_stay(wanted: Obj, before: Obj, has: list[str], had: list[str], out: Errors) -> None:
    """The first family never changes, the second and its address only as a whole: added, or released by the policy."""
    fixed = "may not change once set"
    families, old = wanted.get("ipFamilies") or [], before.get("ipFamilies") or []
    if len(has) == len(had) == 2 and has[1] != had[1]:
        out.append(FieldError.invalid("spec.clusterIPs[1]", has, fixed))
    if old and (not families or families[0] != old[0]):
        text = fixed if families else "primary ipFamily can not be unset"
        out.append(FieldError.invalid("spec.ipFamilies[0]", families or None, text))
    elif len(families) == len(old) == 2 and families[1] != old[1]:
        out.append(FieldError.invalid("spec.ipFamilies[1]", families, fixed))
    single = wanted.get("ipFamilyPolicy") == "SingleStack"
    if not single and len(had) == 2 and len(has) == 1:
        text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        out.append(FieldError.invalid("spec.ipFamilyPolicy", wanted.get("ipFamilyPolicy"), text))


@on_update("", "Service")
def service_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Service: its primary address stays, unless it turns to or from ExternalName."""
    out: Errors = []
    if subresource == "status":
        balancer = (new.get("status") or {}).get("loadBalancer") or {}
        if balancer.get("ingress") and (new.get("spec") or {}).get("type") != "LoadBalancer":
            text = 'may only be used when `spec.type` is "LoadBalancer"'
            out.append(FieldError.forbidden("status.loadBalancer.ingress", text))
        load_balancer_status(balancer, "status.loadBalancer", out)
        return out
    wanted, before = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" not in (wanted.get("type"), before.get("type")):
        had = before.get("clusterIPs") or ([before["clusterIP"]] if before.get("clusterIP") else [])
        has = wanted.get("clusterIPs") or ([wanted["clusterIP"]] if wanted.get("clusterIP") else [])
        if had and (not has or has[0] != had[0]):
            text = "primary clusterIP can not be unset" if not has else "may not change once set"
            out.append(FieldError.invalid("spec.clusterIPs[0]", has or None, text))
        _families_stay(wanted, before, has, had, out)
        both = _needs_health_check(wanted) and _needs_health_check(before)
        if both and wanted.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
            out.append(FieldError.forbidden("spec.healthCheckNodePort", "field is immutable"))
    same_type = wanted.get("type") == before.get("type") == "LoadBalancer"
    if same_type and wanted.get("loadBalancerClass") != before.get("loadBalancerClass"):
        text = "may not change once set"
        out.append(FieldError.invalid("spec.loadBalancerClass", wanted.get("loadBalancerClass"), text))
    return out + service(new)
