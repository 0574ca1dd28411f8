"""Namespaces, nodes, services, claims and other objects that start with a state of their own."""

from __future__ import annotations

from copy import deepcopy

from orca.api.builtin import (
    CERTIFICATESIGNINGREQUESTS,
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CUSTOMRESOURCEDEFINITIONS,
    ENDPOINTS,
    EVENTS,
    EVENTS_V1,
    LEASES,
    LIMITRANGES,
    NAMESPACES,
    ROLEBINDINGS,
    ROLES,
    SERVICES,
)
from orca.api.objects import Obj
from orca.api.strategy import register

NAMESPACE_FINALIZER = "kubernetes"


def _create_namespace(obj: Obj) -> None:
    obj["status"] = {"phase": "Active"}
    spec = obj.get("spec") or {}
    finalizers = spec.get("finalizers") or []
    if NAMESPACE_FINALIZER not in finalizers:
        obj["spec"] = {**spec, "finalizers": [*finalizers, NAMESPACE_FINALIZER]}


def _update_namespace(new: Obj, old: Obj, subresource: str) -> None:
    """Finalizers go only through ``finalize``."""
    if subresource != "finalize":
        if "spec" in old:
            new["spec"] = deepcopy(old["spec"])
        else:
            new.pop("spec", None)


def _create_crd(obj: Obj) -> None:
    versions = (obj.get("spec") or {}).get("versions") or []
    stored = [version.get("name") for version in versions if version.get("storage")]
    obj["status"] = {"storedVersions": stored, "conditions": None, "acceptedNames": {"plural": "", "kind": ""}}


def _create_request(obj: Obj) -> None:
    obj["status"] = {}


register(NAMESPACES, prepare_create=_create_namespace, prepare_update=_update_namespace)
register(CERTIFICATESIGNINGREQUESTS, prepare_create=_create_request)
register(CUSTOMRESOURCEDEFINITIONS, prepare_create=_create_crd)
for _row in (
    ENDPOINTS,
    EVENTS,
    EVENTS_V1,
    LEASES,
    LIMITRANGES,
    ROLES,
    ROLEBINDINGS,
    CLUSTERROLES,
    CLUSTERROLEBINDINGS,
    SERVICES,
):
    register(_row, create_on_update=True)
