"""The objects every cluster starts with, as facts; :mod:`orca.server.bootstrap` writes them and keeps them so."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
import yaml

from orca.api.builtin import CONFIGMAPS, PRIORITYCLASSES, SERVICECIDRS, STORAGECLASSES
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.volumes import LOCAL_PATH

CLUSTER_INFO = "cluster-info"
EXTENSION_AUTHENTICATION = "extension-apiserver-authentication"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the objects tell. ``address`` is where clients reach this server."""

    address: str
    port: int
    service_address: str
    service_cidr: str
    ca_pem: str
    front_proxy_ca_pem: str = ""
    client_ca_pem: str = ""  # further authorities whose client certificates are taken

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.port}"


def fixed(facts: ClusterFacts) -> Iterable[tuple[Resource, Obj]]:
    """All that do not depend on which servers live; the default policy is :mod:`orca.auth.default_roles`'s."""
    yield from ((PRIORITYCLASSES, one) for one in priority_classes())
    yield STORAGECLASSES, local_path_class()
    yield (
        SERVICECIDRS,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": facts.service_cidr.split(",")},
        },
    )
    yield CONFIGMAPS, cluster_info(facts)
    yield CONFIGMAPS, extension_authentication(facts)


def priority_classes() -> Iterable[Obj]:
    """The two classes that pods of the system use."""
    for class_name, value, who in (
        ("system-node-critical", 2000001000, "must not be moved from their current node"),
        (
            "system-cluster-critical",
            2000000000,
            "must run in the cluster, but can be moved to another node if necessary",
        ),
    ):
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": class_name},
            "value": value,
            "description": f"Used for system critical pods that {who}.",
        }


def local_path_class() -> Obj:
    """The class of claims that name none: a directory of the host where their first pod runs."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local-path",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def cluster_info(facts: ClusterFacts) -> Obj:
    """What a host that wants to join may read without credentials: the server's address and CA."""
    kubeconfig: Obj = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "",
                "cluster": {"certificate-authority-data": _base64(facts.ca_pem), "server": facts.url},
            }
        ],
        "contexts": None,
        "current-context": "",
        "preferences": {},
        "users": None,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CLUSTER_INFO, "namespace": "kube-public"},
        "data": {"kubeconfig": yaml.safe_dump(kubeconfig, sort_keys=False)},
    }


def extension_authentication(facts: ClusterFacts) -> Obj:
    """How aggregated API servers recognise us and our clients."""
    data = {"client-ca-file": facts.ca_pem + facts.client_ca_pem}
    if facts.front_proxy_ca_pem:
        data |= {
            "requestheader-client-ca-file": facts.front_proxy_ca_pem,
            "requestheader-allowed-names": orjson.dumps(["front-proxy-client"]).decode(),
            "requestheader-username-headers": orjson.dumps(["X-Remote-User"]).decode(),
            "requestheader-uid-headers": orjson.dumps(["X-Remote-Uid"]).decode(),
            "requestheader-group-headers": orjson.dumps(["X-Remote-Group"]).decode(),
            "requestheader-extra-headers-prefix": orjson.dumps(["X-Remote-Extra-"]).decode(),
        }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": EXTENSION_AUTHENTICATION, "namespace": "kube-system"},
        "data": data,
    }


def kubernetes_service(facts: ClusterFacts) -> Obj:
    """The Service ``default/kubernetes``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": facts.service_address,
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "targetPort": facts.port, "protocol": "TCP"}],
        },
    }


def kubernetes_endpoints(addresses: Sequence[str], port: int) -> Obj:
    """Its Endpoints; no controller makes them, as the Service has no selector."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {
                "addresses": [{"ip": address} for address in addresses],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
        ],
    }


def kubernetes_endpoint_slice(addresses: Sequence[str], port: int) -> Obj:
    """Its EndpointSlice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
