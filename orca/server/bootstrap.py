"""Keeps the objects every cluster starts with: namespaces, RBAC defaults, the ``kubernetes`` Service, cluster-info.

Runs through the same verbs as everybody, creates what is missing and repairs what must be so; on a cluster that has
everything it only reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
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
    ROLEBINDINGS,
    ROLES,
    SERVICECIDRS,
    SERVICES,
)
from orca.api.errors import ApiError, is_already_exists, is_away, is_conflict, is_not_found
from orca.api.objects import Obj, meta, name, namespace
from orca.api.resources import Resource
from orca.auth.default_roles import default_policy
from orca.auth.pki import merged_bundle
from orca.client.base import Client
from orca.server.initial_objects import (
    CLUSTER_INFO,
    ClusterFacts,
    extension_authentication,
    fixed,
    kubernetes_endpoint_slice,
    kubernetes_endpoints,
    kubernetes_service,
)

log = structlog.get_logger()

NAMESPACE_NAMES = ("kube-system", "kube-public", "kube-node-lease", "default")
CONFLICTS = 10
"""How often somebody else may be faster."""
_AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_POLICY = (CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS)


async def bootstrap(client: Client, facts: ClusterFacts) -> bool:
    """Make it so; false when admission refused something, and it has to be tried again. Raises ApiError 503 or 504 when
    the store is away.

    A webhook that cannot be reached must not keep the server from starting: what serves it may need the server.
    """
    refused = 0
    for space in NAMESPACE_NAMES:
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
        refused += not await admitted(_ensure(client, NAMESPACES, obj))
    # At once: one after the other, each would wait for the disk.
    done = await asyncio.gather(
        *(admitted(_ensure(client, resource, obj)) for resource, obj in (*default_policy(), *fixed(facts))),
    )
    return refused == 0 and all(done)


async def admitted(write: Awaitable[None]) -> bool:
    """Whether a write of the server's own went through. Raises ApiError 503, 504 when the store is away."""
    try:
        await write
    except ApiError as error:
        if is_away(error):
            raise
        log.warning("an object every cluster has could not be written", error=str(error))
        return False
    return True


async def keep_kubernetes_service(client: Client, facts: ClusterFacts, servers: Sequence[tuple[str, int]]) -> None:
    """The ``kubernetes`` Service leads to all living ``servers``; called again when they change."""
    await _ensure(client, SERVICES, kubernetes_service(facts))
    service = await client.get(SERVICES, "kubernetes", "default")
    port = service["spec"]["ports"][0].get("targetPort") or facts.port
    # Nobody but this machine could follow loopback addresses, and the API refuses them as endpoints.
    addresses = [host for host, at in servers if at == port and not ip_address(host).is_loopback]
    if not addresses:
        return
    await _ensure_same(client, ENDPOINTS, kubernetes_endpoints(addresses, port), ("subsets",))
    await _ensure_same(client, ENDPOINTSLICES, kubernetes_endpoint_slice(addresses, port), ("endpoints", "ports"))


async def keep_extension_authentication(client: Client, facts: ClusterFacts) -> None:
    """What aggregated API servers read to recognise us comes back, whoever deleted it."""
    await _ensure(client, CONFIGMAPS, extension_authentication(facts))


async def _find(client: Client, resource: Resource, obj: Obj) -> Obj | None:
    try:
        return await client.get(resource, name(obj), namespace(obj))
    except ApiError as error:
        if is_not_found(error):
            return None
        raise


async def _ensure(client: Client, resource: Resource, obj: Obj) -> None:
    for last in (*(False,) * (CONFLICTS - 1), True):
        present = await _find(client, resource, obj)
        try:
            if present is None:
                await client.create(resource, obj)
            elif (new := reconciled(resource, present, obj)) is not None:
                await client.update(resource, new)
            return
        except ApiError as error:
            # Another server of this cluster starts as well, or a controller was faster: what is there now counts.
            if last or not (is_already_exists(error) or is_conflict(error)):
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


def reconciled(resource: Resource, present: Obj, wanted: Obj) -> Obj | None:
    """``present`` with what it lacks of ``wanted``; None when it lacks nothing.

    Roles and bindings regain rules, subjects, labels and annotations and keep what was added, unless their
    ``autoupdate`` is "false". The ConfigMaps that name certificate authorities follow them. The rest stays as it is.
    """
    if resource is CONFIGMAPS:
        data = _reconciled_data(name(wanted), present.get("data") or {}, wanted["data"])
        return None if data == (present.get("data") or {}) else {**present, "data": data}
    if resource is SERVICECIDRS:
        grown = wanted["spec"]["cidrs"]
        # A cluster that was of one family and is of two from now on.
        return {**present, "spec": {**present["spec"], "cidrs": grown}} if _grows(present["spec"], grown) else None
    if resource not in _POLICY or (meta(present).get("annotations") or {}).get(_AUTO_UPDATE) == "false":
        return None
    new = dict(present)
    for field in ("rules", "subjects"):
        held = [_set_fields(one) for one in present.get(field) or ()]
        lacking = [one for one in wanted.get(field) or () if _set_fields(one) not in held]
        if lacking:
            new[field] = [*(present.get(field) or ()), *lacking]
    for field in ("labels", "annotations"):
        held_fields, ours = meta(present).get(field) or {}, meta(wanted).get(field) or {}
        if not ours.keys() <= held_fields.keys():
            new["metadata"] = {**new["metadata"], field: {**ours, **held_fields}}
    if "aggregationRule" in wanted:
        new["aggregationRule"] = wanted["aggregationRule"]
    return None if new == present else new


def _grows(spec: Obj, wanted: list[str]) -> bool:
    return len(wanted) == 2 and spec.get("cidrs") == wanted[:1]


def _reconciled_data(config_map: str, held: Obj, wanted: Obj) -> Obj:
    if config_map == CLUSTER_INFO:
        # Servers differ in their address, but all have one authority: only hosts that would not believe us are helped.
        same = _authority(held.get("kubeconfig", "")) == _authority(wanted["kubeconfig"])
        return held if same else {**held, **wanted}
    merged = {**held}
    for field, value in wanted.items():
        if field.endswith("-ca-file"):
            merged[field] = merged_bundle(held.get(field, ""), value)
        else:
            lists = (_texts(held.get(field, "")), _texts(value))
            merged[field] = orjson.dumps([*lists[0], *(one for one in lists[1] if one not in lists[0])]).decode()
    return merged


def _authority(kubeconfig: str) -> object:
    try:
        return yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]["certificate-authority-data"]
    except (yaml.YAMLError, LookupError, TypeError):
        return None  # unreadable: replaced


def _texts(json_list: str) -> list[str]:
    try:
        found = orjson.loads(json_list)
    except orjson.JSONDecodeError:
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _set_fields(part: Obj) -> Obj:
    """Without the empty fields a stored one may have gained."""
    return {key: value for key, value in part.items() if value}
