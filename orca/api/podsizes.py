"""What a container of a pod counts for while it is resized: what is wished, what its node allotted, what is in force.

Reference: k8s.io/component-helpers ``resource`` (PodRequests with UseStatusResources).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orca.api.objects import Obj
from orca.api.quantity import Quantity

Sizes = Mapping[str, str]
"""Resource name -> quantity, as written."""

_NOTHING: dict[str, dict[str, Sizes]] = {}


def held(pod: Obj) -> Mapping[str, Mapping[str, Sizes]]:
    """Container -> ``requests`` and ``limits`` that count instead of the spec's; only containers whose status tells of
    other amounts than their spec, so almost always nothing.

    That is the most of what is wished, allotted and in force. A wish that the node can never fulfil counts for nothing.
    """
    status = pod.get("status")
    if not status or not (status.get("containerStatuses") or status.get("initContainerStatuses")):
        return _NOTHING
    spec = pod.get("spec") or {}
    found: dict[str, dict[str, Sizes]] = {}
    for containers, group in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")):
        told = {one.get("name"): one for one in status.get(group) or ()}
        for container in spec.get(containers) or ():
            one = told.get(container["name"])
            if one is None or (containers == "initContainers" and container.get("restartPolicy") != "Always"):
                continue
            counted = _counted(container.get("resources") or {}, one, status)
            if counted is not None:
                found[container["name"]] = counted
    return found


def held_whole(pod: Obj) -> Mapping[str, Sizes]:
    """``requests`` and ``limits`` of the pod itself that count: its spec's, or the most of them and of what its status
    tells; {} when it has none."""
    wished: Mapping[str, Sizes] = (pod.get("spec") or {}).get("resources") or {}
    status = pod.get("status") or {}
    if not wished or not (status.get("resources") or status.get("allocatedResources")):
        return wished
    told = {"resources": status.get("resources") or {}, "allocatedResources": status.get("allocatedResources")}
    return _counted(dict(wished), told, status) or wished


def _counted(wished: Obj, told: Obj, status: Obj) -> dict[str, Sizes] | None:
    actual, allotted = told.get("resources") or {}, told.get("allocatedResources")
    requests, limits = wished.get("requests") or {}, wished.get("limits") or {}
    asked = [one for one in (actual.get("requests"), allotted) if one and one != requests]
    capped = [one for one in (actual.get("limits"),) if one and one != limits]
    if not asked and not capped:
        return None
    if not is_infeasible(status):
        asked.append(requests)
        capped.append(limits)
    elif actual.get("requests") == requests or allotted == requests:
        asked.append(requests)
    return {"requests": most(asked), "limits": most(capped) if capped else limits}


def is_infeasible(status: Obj) -> bool:
    """Whether the node told that what is wished can never be there."""
    return any(
        one.get("type") == "PodResizePending" and one.get("status") == "True" and one.get("reason") == "Infeasible"
        for one in status.get("conditions") or ()
    )


def most(lists: Iterable[Sizes]) -> Sizes:
    """The greatest amount of each resource."""
    found: dict[str, str] = {}
    for sizes in lists:
        for name, amount in sizes.items():
            if name not in found or Quantity.parse(amount).value > Quantity.parse(found[name]).value:
                found[name] = amount
    return found
