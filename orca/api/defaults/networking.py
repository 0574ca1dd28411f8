"""Services, endpoints, policies and ingress classes."""

from __future__ import annotations

from orca.api.defaults.registry import Obj, defaults, part, put, put_text

AFFINITY_SECONDS = 10800


def _protocol(ports: list[Obj] | None) -> None:
    for port in ports or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"


def _session_affinity(spec: Obj) -> None:
    put_text(spec, sessionAffinity="None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}


@defaults("", "Service")
def service(obj: Obj) -> None:
    """Defaults of a Service; addresses, node ports and IP families are the allocator's."""
    spec = part(obj, "spec")
    put_text(spec, type="ClusterIP")
    _session_affinity(spec)
    ports = spec.get("ports")
    _protocol(ports)
    for port in ports or ():
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    kind = spec["type"]
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        put_text(spec, externalTrafficPolicy="Cluster")
    if kind in ("NodePort", "LoadBalancer", "ClusterIP"):
        put(spec, internalTrafficPolicy="Cluster")
    status = part(obj, "status")
    balancer = part(status, "loadBalancer")
    if kind == "LoadBalancer":
        put(spec, allocateLoadBalancerNodePorts=True)
        for ingress in balancer.get("ingress") or ():
            if ingress.get("ip"):
                put(ingress, ipMode="VIP")


@defaults("", "Endpoints")
def endpoints(obj: Obj) -> None:
    """TCP for ports that do not say."""
    for subset in obj.get("subsets") or ():
        _protocol(subset.get("ports"))


@defaults("discovery.k8s.io", "EndpointSlice")
def endpoint_slice(obj: Obj) -> None:
    """Ports have a name, possibly empty, and a protocol."""
    for port in obj.get("ports") or ():
        put(port, name="", protocol="TCP")


@defaults("networking.k8s.io", "NetworkPolicy")
def network_policy(obj: Obj) -> None:
    """Policy types follow from which rules are there; ports are TCP."""
    spec = part(obj, "spec")
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            put(port, protocol="TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


@defaults("networking.k8s.io", "IngressClass")
def ingress_class(obj: Obj) -> None:
    """Parameters are cluster-wide unless said otherwise."""
    parameters = (obj.get("spec") or {}).get("parameters")
    if parameters is not None:
        put(parameters, scope="Cluster")
