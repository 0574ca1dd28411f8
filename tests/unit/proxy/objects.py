"""Services and EndpointSlices for tests."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


def service(name: str = "web", *, ports: list[Obj] | None = None, status: Obj | None = None, **spec: Any) -> Obj:
    base: Obj = {"type": "ClusterIP", "clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50"]}
    listed = ports or [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**base, "ports": listed, **spec},
        "status": status or {},
    }


def endpoint(ip: str, node: str = "host-1", **conditions: bool) -> Obj:
    return {"addresses": [ip], "nodeName": node, "conditions": conditions or {"ready": True}}


def endpoint_slice(*endpoints: Obj, name: str = "web-1", service: str = "web", ports: list[Obj] | None = None,
                   kind: str = "IPv4") -> Obj:  # fmt: skip
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": kind,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}] if ports is None else ports,
        "endpoints": list(endpoints),
    }
