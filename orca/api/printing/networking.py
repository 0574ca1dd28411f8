"""Services, endpoints, ingresses, policies and address ranges."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import AGE, NAME, Cells, Obj, name, printer, spec, status, text, wide
from orca.api.printing.duration import since


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def _external(wanted: Obj, state: Obj) -> str:
    kind, extra = wanted.get("type"), wanted.get("externalIPs") or []
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(extra) or formats.NONE
    if kind == "LoadBalancer":
        given = formats.load_balancer(state.get("loadBalancer"))
        return ",".join([*([given] if given else []), *extra]) or "<pending>"
    if kind == "ExternalName":
        return wanted.get("externalName") or ""
    return "<unknown>"


def _port(port: Obj) -> str:
    if port.get("nodePort"):
        return f"{port['port']}:{port['nodePort']}/{port.get('protocol', 'TCP')}"
    return f"{port['port']}/{port.get('protocol', 'TCP')}"


@printer(
    "",
    "Service",
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "The address inside the cluster."),
    text("External-IP", "Addresses outside the cluster."),
    text("Port(s)", "Ports, node ports and protocols."),
    AGE,
    wide(text("Selector", "Labels of the pods behind the service.")),
)
def service(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get services -o wide``."""
    wanted = spec(obj)
    addresses = wanted.get("clusterIPs") or ()
    return [
        name(obj),
        wanted.get("type") or "",
        (addresses[0] if addresses else wanted.get("clusterIP")) or formats.NONE,
        _external(wanted, status(obj)),
        ",".join(_port(port) for port in wanted.get("ports") or ()) or formats.NONE,
        _age(obj, now),
        formats.labels(wanted.get("selector")),
    ]


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@printer("", "Endpoints", NAME, text("Endpoints", "Ready addresses and ports."), AGE)
def endpoints(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get endpoints``."""
    found: list[str] = []
    for subset in obj.get("subsets") or ():
        ready = [address.get("ip") or "" for address in subset.get("addresses") or ()]
        ports = subset.get("ports")
        if not ports:
            found += ready
        for port in ports or ():
            found += [_host_port(address, port.get("port", 0)) for address in ready]
    shown = formats.shortened(found, empty="" if obj.get("subsets") else formats.NONE)
    return [name(obj), shown, _age(obj, now)]


@printer(
    "discovery.k8s.io",
    "EndpointSlice",
    NAME,
    text("AddressType", "Family of the addresses."),
    text("Ports", "Ports of every endpoint."),
    text("Endpoints", "Addresses of the endpoints."),
    AGE,
)
def endpoint_slice(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get endpointslices``."""
    ports = []
    for port in obj.get("ports") or ():
        ports.append(str(port["port"]) if port.get("port") is not None else port.get("name") or "*")
    addresses = [address for e in obj.get("endpoints") or () for address in e.get("addresses") or ()]
    return [
        name(obj),
        obj.get("addressType") or "",
        formats.shortened(ports),
        formats.shortened(addresses),
        _age(obj, now),
    ]


def _hosts(rules: list[Obj]) -> str:
    hosts: list[str] = []
    for rule in rules:
        if len(hosts) == 3:
            return f"{','.join(hosts)} + {len(rules) - 3} more..."
        if rule.get("host"):
            hosts.append(rule["host"])
    return ",".join(hosts) or "*"


@printer(
    "networking.k8s.io",
    "Ingress",
    NAME,
    text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
    text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
    text("Address", "Address is a list containing ingress points for the load-balancer"),
    text("Ports", "Ports of TLS configurations that open"),
    AGE,
)
def ingress(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get ingresses``."""
    wanted = spec(obj)
    return [
        name(obj),
        wanted.get("ingressClassName") or formats.NONE,
        _hosts(wanted.get("rules") or []),
        formats.load_balancer(status(obj).get("loadBalancer")),
        "80, 443" if wanted.get("tls") else "80",
        _age(obj, now),
    ]


@printer(
    "networking.k8s.io",
    "IngressClass",
    NAME,
    text("Controller", "Controller that is responsible for handling this class"),
    text("Parameters", "A reference to a resource with additional parameters"),
    AGE,
)
def ingress_class(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get ingressclasses``."""
    wanted = spec(obj)
    parameters, shown = wanted.get("parameters"), formats.NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") is not None else ""
        shown = f"{parameters.get('kind')}{group}/{parameters.get('name')}"
    return [name(obj), wanted.get("controller") or "", shown, _age(obj, now)]


@printer("networking.k8s.io", "NetworkPolicy", NAME, text("Pod-Selector", "Pods the policy applies to."), AGE)
def network_policy(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get networkpolicies``."""
    return [name(obj), formats.selector(spec(obj).get("podSelector")), _age(obj, now)]


@printer("networking.k8s.io", "ServiceCIDR", NAME, text("CIDRs", "Ranges service addresses come from."), AGE)
def service_cidr(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get servicecidrs``."""
    return [name(obj), ",".join(spec(obj).get("cidrs") or ()), _age(obj, now)]


@printer("networking.k8s.io", "IPAddress", NAME, text("ParentRef", "The object that holds the address."))
def ip_address(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get ipaddresses``, which has no age."""
    del now
    parent, shown = spec(obj).get("parentRef"), formats.NONE
    if parent:
        group = f".{parent['group']}" if parent.get("group") else ""
        parts = [f"{parent.get('resource') or ''}{group}".lower(), parent.get("namespace"), parent.get("name") or ""]
        shown = "/".join(part for part in parts if part is not None and part != "")
    return [name(obj), shown]
