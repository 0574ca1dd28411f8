"""Whether Services and the holders of their addresses and node ports agree, and what has to be done. Pure.

They are written in one transaction, so they do, unless somebody changed holders or another version wrote them.
Reference: k8s.io/kubernetes ``pkg/registry/core/service/ipallocator/controller`` and ``…/portallocator/controller``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from orca.api.builtin import IPADDRESSES
from orca.api.objects import Obj, key, labels, name
from orca.api.resources import Resource
from orca.api.times import parse_time
from orca.server.holdings import FAMILY, NODE_PORTS, Holding, family_of, holdings, is_managed, owner_of

GRACE = timedelta(seconds=60)
"""A holder without its Service is left alone for so long."""


class Mend(Enum):
    """What becomes of a holder."""

    NOTHING = auto()
    """It is for a person to mend."""
    MAKE = auto()
    RENEW = auto()
    FREE = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """``about`` is a Service or an IPAddress, and with a ``reason`` an event is to tell of it."""

    resource: Resource
    held: str
    mend: Mend
    about: Obj
    owner: str = ""
    holder: Obj | None = None
    reason: str = ""
    message: str = ""


def judge(
    services: Sequence[Obj],
    holders: Mapping[Resource, Sequence[Obj]],
    *,
    networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
    ports: tuple[int, int],
    now: datetime,
) -> list[Finding]:
    """All that is not as it should be. ``ports`` is the range of node ports, inclusive."""
    held = {(row, name(holder)): holder for row, all_of in holders.items() for holder in all_of}
    by_key = {key(service): service for service in services}
    wanted: dict[Holding, str] = {}
    found: list[Finding] = []
    for service in services:
        for holding in sorted(holdings(service), key=lambda one: (one[0].plural, one[1])):
            if not _is_sound(holding):
                text = f"Cluster IP {holding[1]} is not a valid IP; please recreate Service"
                found.append(Finding(*holding, Mend.NOTHING, service, key(service), None, "ClusterIPNotValid", text))
                continue
            outside = _outside(holding, networks, ports)
            if outside is not None:
                found.append(Finding(*holding, Mend.NOTHING, service, key(service), None, *outside))
            finding = _of_service(service, holding, held.get(holding), by_key, told=outside is not None)
            found += [finding] if finding is not None else []
            wanted.setdefault(holding, key(service))
    for holding, holder in held.items():
        if holding not in wanted and is_managed(holding[0], holder) and _is_settled(holder, now):
            found.append(_surplus(holding, holder, by_key))
    return found


def _of_service(
    service: Obj, holding: Holding, holder: Obj | None, services: Mapping[str, Obj], *, told: bool
) -> Finding | None:
    row, what = holding
    own = key(service)
    texts = _ADDRESS if row is IPADDRESSES else _PORT
    words = {"what": what, "own": own, "family": family_of(what) if row is IPADDRESSES else ""}

    def finding(mend: Mend, case: str) -> Finding:
        reason, text = texts[case]
        return Finding(row, what, mend, service, own, holder, "" if told else reason, text.format(**words))

    if holder is None:
        return finding(Mend.MAKE, "missing")
    owner = owner_of(holder)
    if owner != own:
        other = services.get(owner)
        if other is not None and holding in holdings(other):
            return finding(Mend.NOTHING, "taken")
        return finding(Mend.RENEW, "wrong")
    if row is IPADDRESSES and (not is_managed(row, holder) or labels(holder).get(FAMILY) != words["family"]):
        return Finding(row, what, Mend.RENEW, service, own, holder)
    return None


_ADDRESS = {
    "missing": ("ClusterIPNotAllocated", "Cluster IP [{family}]: {what} is not allocated; repairing"),
    "taken": (
        "ClusterIPAlreadyAllocated",
        "Cluster IP [{family}]:{what} was assigned to multiple services; please recreate service",
    ),
    "wrong": (
        "ClusterIPNotAllocated",
        "the ClusterIP [{family}]: {what} for Service {own} has a wrong reference; repairing",
    ),
}
_PORT = {
    "missing": ("PortNotAllocated", "Port {what} is not allocated; repairing"),
    "taken": ("PortAlreadyAllocated", "Port {what} was assigned to multiple services; please recreate service"),
    "wrong": ("PortNotAllocated", "Port {what} is not allocated; repairing"),
}


def _outside(
    holding: Holding, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network], ports: tuple[int, int]
) -> tuple[str, str] | None:
    """(reason, message) for what lies in no range."""
    row, what = holding
    if row is NODE_PORTS:
        low, high = ports
        if low <= int(what) <= high:
            return None
        return "PortOutOfRange", f"Port {what} is not within the port range {low}-{high}; please recreate service"
    address = ipaddress.ip_address(what)
    if any(address in network for network in networks):
        return None
    text = f"Cluster IP [{family_of(what)}]: {what} is not within any configured Service CIDR; please recreate service"
    return "ClusterIPOutOfRange", text


def _is_sound(holding: Holding) -> bool:
    try:
        return holding[0] is NODE_PORTS or bool(ipaddress.ip_address(holding[1]))
    except ValueError:
        return False


def _is_settled(holder: Obj, now: datetime) -> bool:
    made = holder["metadata"].get("creationTimestamp")
    return not made or now - parse_time(made) > GRACE


def _surplus(holding: Holding, holder: Obj, services: Mapping[str, Obj]) -> Finding:
    row, what = holding
    if row is NODE_PORTS:
        return Finding(row, what, Mend.FREE, holder, "", holder)
    owner = owner_of(holder)
    if not owner:
        parent = (holder.get("spec") or {}).get("parentRef") or {}
        reference = "/".join(str(parent.get(part) or "") for part in ("group", "resource", "namespace", "name"))
        text = f"IPAddress {what} appears to have been modified, not referencing a Service {reference}: cleaning up"
        return Finding(row, what, Mend.FREE, holder, "", holder, "IPAddressNotAllocated", text)
    if owner in services:
        text = f"IPAddress: {what} for Service {owner} has a wrong reference; cleaning up"
        return Finding(row, what, Mend.FREE, holder, "", holder, "IPAddressWrongReference", text)
    text = f"IPAddress: {what} for Service {owner} appears to have leaked: cleaning up"
    return Finding(row, what, Mend.FREE, holder, "", holder, "IPAddressNotAllocated", text)
