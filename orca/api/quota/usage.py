"""What an object counts for in a ResourceQuota.

Reference: k8s.io/kubernetes ``pkg/quota/v1/evaluator/core``.
"""

from collections.abc import Iterable

from orca.api.builtin import (
    CONFIGMAPS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
)
from orca.api.objects import Obj
from orca.api.podphase import is_finished
from orca.api.quantity import Quantity
from orca.api.quota.amounts import Total, amounts_of, containers_of, pod_total
from orca.api.resources import Resource
from orca.api.volumes import attributes_classes

ONE = Quantity.parse("1")
_BY_NAME = (CONFIGMAPS, PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS, SECRETS, SERVICES)
_PLAIN_REQUESTS = ("cpu", "memory", "ephemeral-storage")
_COMPUTE = {
    *_PLAIN_REQUESTS,
    *(f"{side}.{name}" for side in ("requests", "limits") for name in _PLAIN_REQUESTS),
}
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


def usage_of(resource: Resource, obj: Obj) -> Total:
    """Quota name -> amount."""
    found: Total = {f"count/{resource.group_resource}": ONE}
    if resource in _BY_NAME:
        found[resource.plural] = ONE
    if resource is PODS:
        found.update(_pod(obj))
    elif resource is SERVICES:
        found.update(_service(obj))
    elif resource is PERSISTENTVOLUMECLAIMS:
        found.update(_claim(obj))
    return found


def counted_by(quota_name: str, table: Iterable[Resource]) -> Resource | None:
    """The resource whose objects a name of `spec.hard` counts; None for a name that counts nothing."""
    if quota_name.startswith("count/"):
        wanted = quota_name.removeprefix("count/")
        return next((row for row in table if row.namespaced and row.group_resource == wanted), None)
    if quota_name == "requests.storage" or _CLASS_SUFFIX in quota_name:
        return PERSISTENTVOLUMECLAIMS
    if quota_name in ("services.nodeports", "services.loadbalancers"):
        return SERVICES
    for row in _BY_NAME:
        if quota_name == row.plural:
            return row
    side, _, amount = quota_name.partition(".")
    pods = quota_name in ("pods", *_PLAIN_REQUESTS) or (side in ("requests", "limits") and amount)
    return PODS if pods else None


def lacking(pod: Obj, hard: dict[str, str]) -> dict[str, list[str]]:
    """Quota name -> containers without the request or limit that the quota makes obligatory."""
    found: dict[str, list[str]] = {}
    for key in sorted(hard):
        if key not in _COMPUTE:
            continue
        side, _, amount = key.rpartition(".") if "." in key else ("requests", "", key)
        for container in containers_of(pod):
            requests, limits = amounts_of(container)
            if amount not in (limits if side == "limits" else requests):
                found.setdefault(key, []).append(container.get("name") or "")
    return found


def in_scopes(resource: Resource, obj: Obj, quota: Obj) -> bool:
    """Whether a quota's scopes and scope selector take in an object. Scopes are about pods, one is about claims: a
    quota that has any takes in nothing else."""
    spec = quota.get("spec") or {}
    asked: list[tuple[str, str, list[str]]] = [(scope, "Exists", []) for scope in spec.get("scopes") or ()]
    for one in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        asked.append((one.get("scopeName") or "", one.get("operator") or "", one.get("values") or []))
    if resource is PODS:
        return all(_pod_in_scope(obj, *one) for one in asked)
    if resource is PERSISTENTVOLUMECLAIMS:
        return all(_claim_in_scope(obj, *one) for one in asked)
    return not asked


def _claim_in_scope(claim: Obj, scope: str, operator: str, values: list[str]) -> bool:
    """By the class that the claim asks for, those that it has and is changed to included."""
    if scope != "VolumeAttributesClass":
        return False
    named = attributes_classes(claim)
    return {
        "In": not named.isdisjoint(values),
        "NotIn": not named or not named <= set(values),
        "Exists": bool(named),
        "DoesNotExist": not named,
    }.get(operator, False)


def _pod_in_scope(pod: Obj, scope: str, operator: str, values: list[str]) -> bool:
    spec = pod.get("spec") or {}
    match scope:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _best_effort(pod)
        case "NotBestEffort":
            return not _best_effort(pod)
        case "PriorityClass":
            named = spec.get("priorityClassName") or ""
            return {
                "In": named in values,
                "NotIn": named not in values,
                "Exists": bool(named),
                "DoesNotExist": not named,
            }.get(operator, False)
        case "CrossNamespacePodAffinity":
            return _reaches_over(spec.get("affinity") or {})
    return False


def _best_effort(pod: Obj) -> bool:
    return not any(
        name in side for container in containers_of(pod) for side in amounts_of(container) for name in ("cpu", "memory")
    )


def _reaches_over(affinity: Obj) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        weighted = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [one.get("podAffinityTerm") or {} for one in weighted]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def _pod(pod: Obj) -> Total:
    if is_finished(pod):
        return {}
    requests, limits = pod_total(pod, status=True)
    found: Total = {"pods": ONE}
    for name, amount in requests.items():
        found[f"requests.{name}"] = amount
        if name in _PLAIN_REQUESTS:
            found[name] = amount
    found.update({f"limits.{name}": amount for name, amount in limits.items()})
    return found


def _service(service: Obj) -> Total:
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    found: Total = {}
    balanced = kind == "LoadBalancer"
    if kind == "NodePort" or (balanced and spec.get("allocateLoadBalancerNodePorts") is not False):
        found["services.nodeports"] = Quantity.parse(len(spec.get("ports") or ()))
    if balanced:
        found["services.loadbalancers"] = ONE
    return found


def _claim(claim: Obj) -> Total:
    spec = claim.get("spec") or {}
    found: Total = {}
    # What an expansion has taken already is not given back by asking for less.
    allotted = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
    said = [Quantity.parse(one) for one in (amounts_of(spec)[0].get("storage"), allotted) if one is not None]
    asked = max(said, key=lambda one: one.value, default=None)
    name = spec.get("storageClassName")
    if asked is not None:
        found["requests.storage"] = asked
    if name:
        found[f"{name}{_CLASS_SUFFIX}persistentvolumeclaims"] = ONE
        if asked is not None:
            found[f"{name}{_CLASS_SUFFIX}requests.storage"] = asked
    return found
