"""Namespaces, nodes, services, claims and other objects that start with a state of their own."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime

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
    NODES,
    ROLEBINDINGS,
    ROLES,
    SERVICES,
)
from orca.api.customresources.naming import FINALIZER, terminating
from orca.api.objects import Obj
from orca.api.strategy import register
from orca.api.times import format_time

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


def _create_node(obj: Obj) -> None:
    """Nodes take their configuration from nowhere else any more."""
    (obj.get("spec") or {}).pop("configSource", None)
    (obj.get("status") or {}).pop("config", None)


def _update_node(new: Obj, old: Obj, subresource: str) -> None:
    """As ``_create_node``; what an old node has may stay."""
    del subresource
    for key, field in (("spec", "configSource"), ("status", "config")):
        if field in (new.get(key) or ()) and not (old.get(key) or {}).get(field):
            del new[key][field]


def _create_crd(obj: Obj) -> None:
    versions = (obj.get("spec") or {}).get("versions") or []
    stored = [version.get("name") for version in versions if version.get("storage")]
    obj["status"] = {"storedVersions": stored[:1], "conditions": [], "acceptedNames": {"plural": "", "kind": ""}}


def _delete_crd(obj: Obj, now: str) -> None:
    """Its objects go first: a controller empties it and takes the finalizer off."""
    fields = obj["metadata"]
    if FINALIZER not in (fields.get("finalizers") or ()):
        fields["finalizers"] = [*(fields.get("finalizers") or ()), FINALIZER]
    text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    obj["status"] = terminating(obj, now, "True", "InstanceDeletionPending", text)


def _update_crd(new: Obj, old: Obj, subresource: str) -> None:
    """A version that becomes the storage version is remembered as stored."""
    if subresource:
        return
    status = new.setdefault("status", {})
    stored = status.get("storedVersions") or []
    for version in (new.get("spec") or {}).get("versions") or ():
        if version.get("storage") and version.get("name") not in stored:
            status["storedVersions"] = [*stored, version["name"]]


def _update_request(new: Obj, old: Obj, subresource: str) -> None:
    """What was asked for stays; ``approval`` decides and ``status`` signs, neither does the other's part."""
    if "spec" in old:
        new["spec"] = deepcopy(old["spec"])
    if subresource == "approval":
        conditions = (new.get("status") or {}).get("conditions")
        new["status"] = deepcopy(old.get("status") or {})
        if conditions is not None:
            new["status"]["conditions"] = conditions
    if subresource in ("approval", "status"):
        _settle_conditions(new["status"], old.get("status") or {}, signing=subresource == "status")


def _settle_conditions(status: Obj, before: Obj, *, signing: bool) -> None:
    """Decisions stay as they were where another part is written; times that nobody gave are now."""
    conditions, old = status.get("conditions") or [], before.get("conditions") or []
    for kind in ("Approved", "Denied") if signing else ():
        had = [one for one in old if one.get("type") == kind]
        places = [i for i, one in enumerate(conditions) if one.get("type") == kind]
        if len(had) != len(places):
            break
        for place, one in zip(places, had, strict=True):
            conditions[place] = deepcopy(one)
    now = format_time(datetime.now(UTC))
    for one in conditions:
        one["lastUpdateTime"] = one.get("lastUpdateTime") or now
        if not one.get("lastTransitionTime"):
            same = (
                past["lastTransitionTime"]
                for past in old
                if past.get("lastTransitionTime")
                and (past.get("type"), past.get("status")) == (one.get("type"), one.get("status"))
            )
            one["lastTransitionTime"] = next(same, now)


def _faces_out(spec: Obj) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))


def _drop_of_old_type(spec: Obj, before: Obj) -> None:
    """Fields that only the old type knows go with it, unless the client set them anew."""
    gone: list[str] = []
    if _faces_out(before) and not _faces_out(spec):
        gone.append("externalTrafficPolicy")
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        gone += ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"]
    if spec.get("type") == "ExternalName" and before.get("type") != "ExternalName":
        gone += ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
    for field in gone:
        if field in spec and spec[field] == before.get(field):
            del spec[field]


def _update_service(new: Obj, old: Obj, subresource: str) -> None:
    """``clusterIP`` is the first of ``clusterIPs``: who changes or empties only the one means both."""
    if subresource:
        return
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    _drop_of_old_type(spec, before)
    listed = spec.get("clusterIPs") or []
    if not listed or listed != before.get("clusterIPs") or spec.get("clusterIP") == before.get("clusterIP"):
        return
    if spec.get("clusterIP"):
        spec["clusterIPs"] = [spec["clusterIP"], *listed[1:]]
    else:
        del spec["clusterIPs"]


register(NAMESPACES, prepare_create=_create_namespace, prepare_update=_update_namespace)
register(CERTIFICATESIGNINGREQUESTS, prepare_update=_update_request)
register(CUSTOMRESOURCEDEFINITIONS, prepare_create=_create_crd, prepare_update=_update_crd, prepare_delete=_delete_crd)
register(NODES, prepare_create=_create_node, prepare_update=_update_node)
register(SERVICES, prepare_update=_update_service)
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
for _row in (EVENTS, EVENTS_V1):
    register(_row, dependents="ignore")
