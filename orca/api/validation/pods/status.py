"""What agents and controllers may write into a Pod's status.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation`` ValidatePodStatusUpdate. On the way of every report of every
agent, so nothing is looked at twice and what did not change is not looked at.
"""

from __future__ import annotations

import ipaddress

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import restarts
from orca.api.validation.registry import Errors, Obj

_SYSTEM_CONDITIONS = frozenset({"PodScheduled", "Ready", "Initialized"})
_NOT_NEGATIVE = "must be a non-negative integer"
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_MAX_ID = 2**31 - 1


def _conditions(items: list[Obj], out: Errors) -> None:
    for i, condition in enumerate(items):
        if (condition.get("observedGeneration") or 0) < 0:
            at = f"status.conditions[{i}].observedGeneration"
            out.append(FieldError.invalid(at, condition["observedGeneration"], _NOT_NEGATIVE))
        kind = condition.get("type") or ""
        if kind not in _SYSTEM_CONDITIONS:
            common.messages(names.qualified_name(kind), kind, f"status.conditions[{i}].Type", out)


def _addresses(now: Obj, was: Obj, key: str, out: Errors) -> None:
    wanted = [one.get("ip") or "" for one in now.get(key) or ()]
    before = [one.get("ip") for one in was.get(key) or ()]
    at = f"status.{key}"
    if key == "hostIPs" and wanted and (now.get("hostIP") or "") != wanted[0]:
        out.append(FieldError.invalid(f"{at}[0].ip", wanted[0], "must be equal to `hostIP`"))
    if wanted == before:
        return
    for i, address in enumerate(wanted):
        if address not in before:
            common.messages(names.ip_address(address), address, f"{at}[{i}]", out)
    if len(wanted) > 1:
        try:
            families = {ipaddress.ip_address(address).version for address in wanted}
        except ValueError:
            return
        if len(families) < 2 or len(wanted) > 2:
            text = "may specify no more than one IP for each IP family"
            out.append(FieldError.invalid(at, now[key], text))


def _claims(status: Obj, spec: Obj, out: Errors) -> None:
    known = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen = set()
    for i, one in enumerate(status.get("resourceClaimStatuses") or ()):
        at, name = f"status.resourceClaimStatuses[{i}]", one.get("name") or ""
        if name not in known:
            text = "must match the name of an entry in `spec.resourceClaims`"
            out.append(FieldError.invalid(f"{at}.name", name, text))
        if name in seen:
            out.append(FieldError.duplicate(f"{at}.name", name))
        seen.add(name)
        claim = one.get("resourceClaimName")
        if claim is not None:
            common.messages(names.dns1123_subdomain(claim), claim, f"{at}.resourceClaimName", out)


def _user(user: Obj, system: str, at: str, out: Errors) -> None:
    linux = user.get("linux")
    if linux is None:
        return
    if system == "windows":
        out.append(FieldError.forbidden(f"{at}.user.linux", "cannot be set for a windows pod"))
        return
    found = [("uid", linux.get("uid") or 0), ("gid", linux.get("gid") or 0)]
    found += [(f"supplementalGroups[{i}]", group) for i, group in enumerate(linux.get("supplementalGroups") or ())]
    for key, value in found:
        if not 0 <= value <= _MAX_ID:
            out.append(FieldError.invalid(f"{at}.user.linux.{key}", value, names.in_range(0, _MAX_ID)))


def _devices(one: Obj, spec: Obj, kind: str, at: str, out: Errors) -> None:
    """Health of what a container was given: only of what it asked for, each thing once."""
    if kind == "ephemeralContainerStatuses":
        out.append(FieldError.forbidden(f"{at}.allocatedResourcesStatus", "must not be specified in container status"))
        return
    listed = spec.get("containers" if kind == "containerStatuses" else "initContainers") or ()
    asked = next((c.get("resources") or {} for c in listed if c.get("name") == one.get("name")), None)
    for i, given in enumerate(one["allocatedResourcesStatus"]):
        where, name = f"{at}.allocatedResourcesStatus[{i}]", given.get("name") or ""
        if asked is not None:
            _asked_for(name, asked, f"{where}.name", out)
        seen = set()
        for j, thing in enumerate(given.get("resources") or ()):
            health, uid = thing.get("health") or "", thing.get("resourceID") or ""
            if health not in _HEALTH:
                out.append(FieldError.not_supported(f"{where}.resources[{j}].health", health, _HEALTH))
            if uid in seen:
                out.append(FieldError.duplicate(f"{where}.resources[{j}].resourceID", uid))
            seen.add(uid)


def _asked_for(name: str, asked: Obj, path: str, out: Errors) -> None:
    if name.startswith("claim:"):
        known = [
            f"claim:{claim.get('name')}" + (f"/{claim['request']}" if claim.get("request") else "")
            for claim in asked.get("claims") or ()
        ]
        text = (
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or "
            "'claim:<claimName>' if request is empty"
        )
    else:
        known, text = list(asked.get("requests") or ()), "must match one of the container's resource requests"
    if name not in known:
        out.append(FieldError.invalid(path, name, text))


def changed(new: Obj, old: Obj, out: Errors) -> None:
    """The status of *new* where it differs from that of *old*."""
    now, was = new.get("status") or {}, old.get("status") or {}
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    conditions = now.get("conditions")
    if conditions and conditions != was.get("conditions"):
        _conditions(conditions, out)
    if (spec.get("nodeName") or "") != (before.get("nodeName") or ""):
        out.append(FieldError.forbidden("status.nodeName", "may not be changed directly"))
    nominated = now.get("nominatedNodeName")
    if nominated and nominated != was.get("nominatedNodeName"):
        at = "status.nominatedNodeName"
        common.messages(names.dns1123_subdomain(nominated), nominated, at, out)
        if before.get("nodeName"):
            out.append(FieldError.forbidden(at, "may not be set on pods that are already bound to a node"))
    if (now.get("observedGeneration") or 0) < 0:
        out.append(FieldError.invalid("status.observedGeneration", now["observedGeneration"], _NOT_NEGATIVE))
    common.immutable(now.get("qosClass"), was.get("qosClass"), "status.qosClass", out)
    restarts.transitions(now, was, before, out)
    if now.get("resourceClaimStatuses"):
        _claims(now, spec, out)
    _addresses(now, was, "podIPs", out)
    _addresses(now, was, "hostIPs", out)
    system = (spec.get("os") or {}).get("name") or "linux"
    for kind in _STATUSES:
        for i, one in enumerate(now.get(kind) or ()):
            if one.get("user"):
                _user(one["user"], system, f"status.{kind}[{i}]", out)
            if one.get("allocatedResourcesStatus"):
                _devices(one, spec, kind, f"status.{kind}[{i}]", out)
