"""LimitRanger: a namespace's LimitRanges give containers default requests and limits, and bound what may be asked for.

Reference: k8s.io/kubernetes ``plugin/pkg/admission/limitranger``.
"""

from collections.abc import Iterator
from typing import Any

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster
from orca.admission.first_look import FirstLook
from orca.api.builtin import LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.quantity import Quantity
from orca.api.quota.amounts import amounts_of, containers_of, pod_total

Amounts = dict[str, str]
_ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger:
    """As upstream's plugin of this name."""

    kinds = frozenset({PODS, PERSISTENTVOLUMECLAIMS})
    subresources = frozenset({"", "resize"})

    def __init__(self, cluster: Cluster, first: FirstLook | None = None) -> None:
        self._cluster = cluster
        self._first = first or FirstLook(cluster)

    async def admit(self, attrs: Attributes) -> None:
        """Fills requests and limits of the containers of pods that are new or resized."""
        if self._first.due(attrs.namespace) and not self._cluster.peek_list(LIMITRANGES, attrs.namespace):
            await self._first.take(attrs.namespace)
        if not _sized(attrs) or attrs.obj is None:
            return
        told: list[str] = []
        for limit in self._limits(attrs.namespace, "Container"):
            spec = attrs.obj.get("spec") or {}
            for key, word in (("containers", "container"), ("initContainers", "init container")):
                for container in spec.get(key) or ():
                    told += _fill(container, limit, word)
        if told:
            metadata = attrs.obj.setdefault("metadata", {})
            noted = {_ANNOTATION: "LimitRanger plugin set: " + "; ".join(told)}
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **noted}

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403 with every bound that is broken."""
        if attrs.obj is None:
            return
        broken: list[str] = []
        if _sized(attrs):
            for limit in self._limits(attrs.namespace, "Container"):
                for container in containers_of(attrs.obj):
                    broken += _problems("Container", limit, *amounts_of(container))
            for limit in self._limits(attrs.namespace, "Pod"):
                broken += _problems("Pod", limit, *_as_text(attrs.obj))
        elif attrs.of(PERSISTENTVOLUMECLAIMS, CREATE, UPDATE):
            requests, _ = amounts_of(attrs.obj.get("spec") or {})
            for limit in self._limits(attrs.namespace, "PersistentVolumeClaim"):
                broken += _problems("PersistentVolumeClaim", limit, requests, None)
        if broken:
            raise _refused(attrs, broken)

    def _limits(self, namespace: str, kind: str) -> Iterator[Obj]:
        for limit_range in self._cluster.peek_list(LIMITRANGES, namespace):
            for limit in (limit_range.get("spec") or {}).get("limits") or ():
                if limit.get("type") == kind:
                    yield limit


def _sized(attrs: Attributes) -> bool:
    """A pod's amounts are set: it is new, or resized."""
    if attrs.subresource == "resize":
        return attrs.resource is PODS and attrs.operation == UPDATE
    return attrs.of(PODS, CREATE)


def _refused(attrs: Attributes, broken: list[str]) -> ApiError:
    return attrs.forbidden(broken[0] if len(broken) == 1 else f"[{', '.join(broken)}]")


def _fill(container: Obj, limit: Obj, word: str) -> Iterator[str]:
    """Sets what is missing; gives what was set, for the pod's annotation."""
    defaults, default_requests = limit.get("default") or {}, limit.get("defaultRequest") or {}
    if not defaults and not default_requests:
        return
    resources = container.setdefault("resources", {})
    own = dict(resources.get("limits") or {})
    # A request follows the container's own limit before it follows the range's default.
    requests = {**default_requests, **own, **(resources.get("requests") or {})}
    limits = {**defaults, **own}
    for field, amounts, one in (("requests", requests, "request"), ("limits", limits, "limit")):
        before = resources.get(field) or {}
        # A request that follows the container's own limit is the API's default, not the range's.
        added = sorted(key for key in amounts if key not in before and (field == "limits" or key not in own))
        if added:
            yield f"{', '.join(added)} {one} for {word} {container.get('name') or ''}"
        if amounts:
            resources[field] = amounts


def _as_text(pod: Obj) -> tuple[Amounts, Amounts]:
    requests, limits = pod_total(pod)
    return {key: str(one) for key, one in requests.items()}, {key: str(one) for key, one in limits.items()}


def _problems(kind: str, limit: Obj, requests: Amounts, limits: Amounts | None) -> Iterator[str]:
    for resource, bound in (limit.get("min") or {}).items():
        yield from _below(kind, resource, bound, requests, limits)
    for resource, bound in (limit.get("max") or {}).items():
        yield from _above(kind, resource, bound, requests, limits)
    for resource, bound in (limit.get("maxLimitRequestRatio") or {}).items():
        yield from _ratio(kind, resource, bound, requests, limits or {})


def _below(kind: str, resource: str, bound: Any, requests: Amounts, limits: Amounts | None) -> Iterator[str]:
    text = f"minimum {resource} usage per {kind} is {Quantity.parse(bound)}"
    asked = requests.get(resource)
    if asked is None:
        yield f"{text}.  No request is specified"
    elif Quantity.parse(asked).value < Quantity.parse(bound).value:
        yield f"{text}, but request is {Quantity.parse(asked)}"
    elif limits and resource in limits and Quantity.parse(limits[resource]).value < Quantity.parse(bound).value:
        yield f"{text}, but limit is {Quantity.parse(limits[resource])}"


def _beyond(amount: Any, bound: Any) -> bool:
    return Quantity.parse(amount).value > Quantity.parse(bound).value


def _above(kind: str, resource: str, bound: Any, requests: Amounts, limits: Amounts | None) -> Iterator[str]:
    text = f"maximum {resource} usage per {kind} is {Quantity.parse(bound)}"
    if limits is None:
        if resource in requests and _beyond(requests[resource], bound):
            yield f"{text}, but request is {Quantity.parse(requests[resource])}"
        return
    if resource not in limits:
        yield f"{text}.  No limit is specified"
    elif _beyond(limits[resource], bound):
        yield f"{text}, but limit is {Quantity.parse(limits[resource])}"
    elif resource in requests and _beyond(requests[resource], bound):
        yield f"{text}, but request is {Quantity.parse(requests[resource])}"


def _ratio(kind: str, resource: str, bound: Any, requests: Amounts, limits: Amounts) -> Iterator[str]:
    asked, allowed = requests.get(resource), limits.get(resource)
    text = f"{resource} max limit to request ratio per {kind} is {Quantity.parse(bound)}"
    if asked is None or not Quantity.parse(asked).value:
        yield f"{text}, but no request is specified or request is 0"
    elif allowed is None or not Quantity.parse(allowed).value:
        yield f"{text}, but no limit is specified or limit is 0"
    else:
        ratio = Quantity.parse(allowed).value / Quantity.parse(asked).value
        if ratio > Quantity.parse(bound).value:
            yield f"{text}, but provided ratio is {ratio:.6f}"
