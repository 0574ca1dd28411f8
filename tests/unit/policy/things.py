"""Objects for tests of policies."""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


def pod(
    namespace: str,
    name: str,
    *addresses: str,
    labels: dict[str, str] | None = None,
    ports: list[Obj] | None = None,
    phase: str = "Running",
    host_network: bool = False,
) -> Obj:
    """A pod with these addresses in its status."""
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels or {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "c", "ports": ports or []}], "hostNetwork": host_network},
        "status": {"phase": phase, "podIPs": [{"ip": one} for one in addresses]},
    }


def policy(namespace: str, name: str, pods: Obj | None = None, **spec: Any) -> Obj:
    """A NetworkPolicy with the default of its types."""
    types = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"podSelector": pods or {}, "policyTypes": types, **spec},
    }


def labelled(**labels: str) -> Obj:
    """A selector of labels."""
    return {"matchLabels": labels}
