"""What a new cluster holds before anybody can use it: the system's namespaces, the default policy, how to join.

Repeated at every start: what is missing is created, default roles regain rules and bindings regain subjects they lost
(unless their ``autoupdate`` annotation is "false"), and nothing that was added is taken away.
"""

import asyncio
from base64 import b64encode
from typing import Any

import yaml

from orca.api.builtin import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    NAMESPACES,
    PRIORITYCLASSES,
    ROLEBINDINGS,
    ROLES,
)
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj, annotations, labels, name, namespace, thaw
from orca.api.resources import Resource
from orca.auth.default_roles import default_policy
from orca.client.base import Client

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_PRIORITIES = {
    "system-node-critical": (
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
}


async def bootstrap(client: Client, *, ca: bytes, server: str, front_proxy_ca: bytes = b"") -> None:
    """Write everything; ``ca`` is the cluster CA in PEM, ``server`` the URL hosts join at. Raises ApiError."""
    for space in SYSTEM_NAMESPACES:
        await _ensure(client, NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    await asyncio.gather(*(_ensure(client, resource, obj) for resource, obj in default_policy()))
    for obj in priority_classes():
        await _ensure(client, PRIORITYCLASSES, obj)
    await _ensure(client, CONFIGMAPS, cluster_info(ca, server))
    await _ensure(client, CONFIGMAPS, extension_authentication(ca, front_proxy_ca))


def priority_classes() -> list[Obj]:
    """The two classes that pods of the system use."""
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": class_name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for class_name, (value, description) in _PRIORITIES.items()
    ]


def cluster_info(ca: bytes, server: str) -> Obj:
    """The public ConfigMap with the CA and address a joining host starts from."""
    cluster = {"certificate-authority-data": b64encode(ca).decode(), "server": server}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": cluster}],
        "contexts": [],
        "current-context": "",
        "preferences": {},
        "users": [],
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": yaml.safe_dump(kubeconfig, sort_keys=False)},
    }


def extension_authentication(ca: bytes, front_proxy_ca: bytes = b"") -> Obj:
    """Where extension API servers learn which client certificates and which proxy to trust."""
    data = {"client-ca-file": ca.decode()}
    if front_proxy_ca:
        data |= {
            "requestheader-client-ca-file": front_proxy_ca.decode(),
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-username-headers": '["X-Remote-User"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    }


async def _ensure(client: Client, resource: Resource, wanted: Obj) -> None:
    while True:
        try:
            current = await client.get(resource, name(wanted), namespace(wanted))
        except ApiError as error:
            if not is_not_found(error):
                raise
            try:
                await client.create(resource, thaw(wanted), namespace(wanted))
            except ApiError as lost:
                # Another server of this cluster starts at the same time.
                if not is_already_exists(lost):
                    raise
            return
        merged = reconciled(resource, current, wanted)
        if merged is None:
            return
        try:
            await client.update(resource, merged)
        except ApiError as error:
            if is_conflict(error):
                continue
            raise
        return


def reconciled(resource: Resource, current: Obj, wanted: Obj) -> Obj | None:
    """``current`` with what it lacks of ``wanted``; None when it lacks nothing."""
    new = thaw(current)
    if resource is CONFIGMAPS:
        new["data"] = {**(current.get("data") or {}), **wanted["data"]}
    elif resource in (CLUSTERROLES, CLUSTERROLEBINDINGS, ROLES, ROLEBINDINGS):
        if annotations(current).get(_AUTOUPDATE) == "false":
            return None
        for field, ours in (("labels", labels(wanted)), ("annotations", annotations(wanted))):
            if ours:
                new["metadata"][field] = {**ours, **(new["metadata"].get(field) or {})}
        for field in ("rules", "subjects"):
            lacking = _lacking(current.get(field) or [], wanted.get(field) or [])
            if lacking:
                new[field] = [*(current.get(field) or []), *lacking]
        if "aggregationRule" in wanted:
            new["aggregationRule"] = wanted["aggregationRule"]
    return None if new == current else new


def _lacking(held: list[Any], wanted: list[Any]) -> list[Any]:
    # Stored roles may have gained empty fields; what counts is what is set.
    known = [_set_fields(one) for one in held]
    return [one for one in wanted if _set_fields(one) not in known]


def _set_fields(one: Obj) -> Obj:
    return {key: value for key, value in one.items() if value}
