"""Objects every cluster starts with, kept there: namespaces, RBAC defaults, the ``kubernetes`` Service, cluster-info.

Runs through the same verbs as everybody, creates what is missing and repairs what must be so; on a cluster that has
everything it only reads.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import orjson
import structlog
import yaml

from orca.api.builtin import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    PRIORITYCLASSES,
    SERVICECIDRS,
    SERVICES,
)
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj, meta, name, namespace
from orca.api.resources import Resource
from orca.auth.default_roles import default_policy
from orca.client.base import Client

log = structlog.get_logger()

NAMESPACE_NAMES = ("kube-system", "kube-public", "kube-node-lease", "default")
_AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_CLUSTER_INFO = "cluster-info"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the objects tell. ``address`` is where clients reach this server."""

    address: str
    port: int
    service_address: str
    service_cidr: str
    ca_pem: str
    front_proxy_ca_pem: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.port}"


async def bootstrap(client: Client, facts: ClusterFacts) -> bool:
    """Make it so; false when admission refused something, and it has to be tried again. Raises ApiError 503 when the
    store is away.

    A webhook that cannot be reached must not keep the server from starting: what serves it may need the server.
    """
    refused = 0
    for space in NAMESPACE_NAMES:
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        refused += not await admitted(_ensure(client, NAMESPACES, obj))
    # At once: one after the other, each would wait for the disk.
    done = await asyncio.gather(
        *(admitted(_ensure_rbac(client, resource, obj)) for resource, obj in default_policy()),
        *(admitted(_ensure(client, resource, obj)) for resource, obj in _fixed(facts)),
    )
    return refused == 0 and all(done)


async def admitted(write: Awaitable[None]) -> bool:
    """Whether a write of the server's own went through. Raises ApiError 503 when the store is away."""
    try:
        await write
    except ApiError as error:
        if error.code == 503:
            raise
        log.warning("an object every cluster has could not be written", error=str(error))
        return False
    return True


async def keep_kubernetes_service(client: Client, facts: ClusterFacts, servers: Sequence[tuple[str, int]]) -> None:
    """The ``kubernetes`` Service leads to all living ``servers``; called again when they change."""
    await _ensure(client, SERVICES, _service(facts))
    service = await client.get(SERVICES, "kubernetes", "default")
    port = service["spec"]["ports"][0].get("targetPort") or facts.port
    # Nobody but this machine could follow loopback addresses, and the API refuses them as endpoints.
    addresses = [host for host, at in servers if at == port and not ip_address(host).is_loopback]
    if not addresses:
        return
    await _ensure_same(client, ENDPOINTS, _endpoints(addresses, port), ("subsets",))
    await _ensure_same(client, ENDPOINTSLICES, _endpoint_slice(addresses, port), ("endpoints", "ports"))


async def _find(client: Client, resource: Resource, obj: Obj) -> Obj | None:
    try:
        return await client.get(resource, name(obj), namespace(obj))
    except ApiError as error:
        if is_not_found(error):
            return None
        raise


async def _ensure(client: Client, resource: Resource, obj: Obj) -> None:
    if await _find(client, resource, obj) is not None:
        return
    try:
        await client.create(resource, obj)
    except ApiError as error:
        if not is_already_exists(error):
            raise


async def _ensure_same(client: Client, resource: Resource, obj: Obj, fields: tuple[str, ...]) -> None:
    present = await _find(client, resource, obj)
    if present is None:
        await _ensure(client, resource, obj)
    elif any(present.get(field) != obj.get(field) for field in fields):
        try:
            await client.update(resource, {**present, **{field: obj.get(field) for field in fields}})
        except ApiError as error:
            if not is_conflict(error):
                raise


async def _ensure_rbac(client: Client, resource: Resource, obj: Obj) -> None:
    """Missing rules and subjects come back, added ones stay; ``autoupdate: "false"`` keeps our hands off."""
    present = await _find(client, resource, obj)
    if present is None:
        await _ensure(client, resource, obj)
        return
    if (
        resource not in (CLUSTERROLES, CLUSTERROLEBINDINGS)
        or (meta(present).get("annotations") or {}).get(_AUTO_UPDATE) == "false"
    ):
        return
    new = dict(present)
    for field in ("rules", "subjects"):
        have = [_set_fields(one) for one in present.get(field) or ()]
        missing = [one for one in obj.get(field) or () if _set_fields(one) not in have]
        if missing:
            new[field] = [*(present.get(field) or ()), *missing]
    if "aggregationRule" in obj:
        new["aggregationRule"] = obj["aggregationRule"]
    if new != present:
        try:
            await client.update(resource, new)
        except ApiError as error:
            if not is_conflict(error):  # another server of this cluster starts at the same time
                raise


def _set_fields(part: Obj) -> Obj:
    """Without the empty fields a stored one may have gained."""
    return {key: value for key, value in part.items() if value}


# -- the objects


def _fixed(facts: ClusterFacts) -> Iterable[tuple[Resource, Obj]]:
    yield from ((PRIORITYCLASSES, one) for one in _priority_classes())
    yield (
        SERVICECIDRS,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [facts.service_cidr]},
        },
    )
    yield CONFIGMAPS, _cluster_info(facts)
    yield CONFIGMAPS, _extension_authentication(facts)


def _priority_classes() -> Iterable[Obj]:
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


def _cluster_info(facts: ClusterFacts) -> Obj:
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
        "metadata": {"name": _CLUSTER_INFO, "namespace": "kube-public"},
        "data": {"kubeconfig": yaml.safe_dump(kubeconfig, sort_keys=False)},
    }


def _extension_authentication(facts: ClusterFacts) -> Obj:
    """How aggregated API servers recognise us and our clients."""
    data = {"client-ca-file": facts.ca_pem}
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
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    }


def _service(facts: ClusterFacts) -> Obj:
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


def _endpoints(addresses: Sequence[str], port: int) -> Obj:
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


def _endpoint_slice(addresses: Sequence[str], port: int) -> Obj:
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
