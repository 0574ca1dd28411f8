"""Which address families a Service has: one or two, by its policy and what the cluster has. Pure.

Reference: k8s.io/kubernetes ``pkg/registry/core/service/storage/alloc.go`` (initIPFamilyFields). A PreferDualStack
Service changes only when somebody says so, never because the cluster's families did.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca.api.errors import FieldError
from orca.api.objects import Obj

SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}
_POLICY = "spec.ipFamilyPolicy"


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def settled(spec: Obj, previous: Obj) -> bool:
    """Whether an update leaves a PreferDualStack Service as it is, whatever families the cluster has by now."""
    return bool(
        previous
        and spec.get("ipFamilyPolicy") == PREFER == previous.get("ipFamilyPolicy")
        and spec.get("type") == previous.get("type") != "ExternalName"
        and spec.get("clusterIPs") == previous.get("clusterIPs")
        and spec.get("ipFamilies") == previous.get("ipFamilies")
    )


def settle(spec: Obj, previous: Obj, cluster: Sequence[str]) -> list[FieldError]:
    """Fill ``ipFamilyPolicy`` and ``ipFamilies`` and cut what a downgrade releases, in place; what is wrong with them.

    ``previous`` is the spec before, {} for a new Service; ``cluster`` are its families, the first being the default.
    """
    if settled(spec, previous):
        return []
    bare = spec.get("clusterIP") == "None" and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = previous.get("ipFamilyPolicy") or (REQUIRE if bare else SINGLE)
    policy = spec["ipFamilyPolicy"]
    problems = _reduce(spec, previous, policy) if previous else []
    problems += _too_many(spec, policy)
    problems += _infer(spec, cluster)
    if problems:
        return problems
    if bare:
        # Somebody else's endpoints: of any family, also of one that the cluster has no addresses of.
        families = spec.get("ipFamilies") or [cluster[0]]
        spec["ipFamilies"] = [families[0], _OTHER[families[0]]] if policy != SINGLE and len(families) < 2 else families
        return []
    if policy == REQUIRE and len(cluster) < 2:
        text = "this cluster is not configured for dual-stack services"
        problems.append(FieldError.invalid(_POLICY, policy, text))
    problems += [
        FieldError.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(spec.get("ipFamilies") or ())
        if family not in cluster
    ]
    if problems:
        return problems
    families = list(spec.get("ipFamilies") or [cluster[0]])
    if policy != SINGLE and len(families) == 1 and len(cluster) == 2:
        families.append(_OTHER[families[0]])
    spec["ipFamilies"] = families
    return []


def _reduce(spec: Obj, previous: Obj, policy: str) -> list[FieldError]:
    """An update to one family: what is listed as before loses its second entry; taking it out alone is not enough."""
    found = []
    for field, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        listed, before = spec.get(field) or [], previous.get(field) or []
        if policy == SINGLE:
            if listed == before and len(listed) > 1:
                spec[field] = listed[:1]
        elif len(before) == 2 and len(listed) == 1 and listed[0] == before[0]:
            text = f"must be 'SingleStack' to release the secondary {what}"
            found.append(FieldError.invalid(_POLICY, policy, text))
    return found


def _too_many(spec: Obj, policy: str) -> list[FieldError]:
    if policy != SINGLE:
        return []
    return [
        FieldError.invalid(
            _POLICY, policy, f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
        )
        for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
        if len(spec.get(field) or ()) == 2
    ]


def _infer(spec: Obj, cluster: Sequence[str]) -> list[FieldError]:
    """Families that follow from addresses somebody chose."""
    families, found = list(spec.get("ipFamilies") or ()), []
    for index, address in enumerate(spec.get("clusterIPs") or ()):
        if address == "None":
            break
        family = family_of(address)
        if index < len(families):
            continue
        if family not in cluster:
            text = f"{family} is not configured on this cluster"
            found.append(FieldError.invalid(f"spec.clusterIPs[{index}]", spec["clusterIPs"], text))
        else:
            families.append(family)
    if families:
        spec["ipFamilies"] = families
    return found
