"""Which addresses a Service of type LoadBalancer has. Pure: from the Service, the pools, and who has what.

What a Service has it keeps, also when a pool changed meanwhile; what it asks for by name it gets or nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from orca.api.objects import Obj, annotations, labels, namespace
from orca.controllers.loadbalancers.pools import Pool, describe

CLASS = "orca.io/layer2"
"""``loadBalancerClass`` of Services that are ours; so are those without any."""
ANNOUNCED_BY = "orca.io/announced-by"
"""Annotation: the node that answers for the addresses, "" while none may. That it is there marks a Service as ours."""
CLEANUP = "service.kubernetes.io/load-balancer-cleanup"
_ADDRESSES = ("orca.io/load-balancer-ips", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")
_POOL = ("orca.io/load-balancer-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool")
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"


class NoAddressError(Exception):
    """The Service cannot have what it asks for; the message says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """``families``: of which an address is wanted, in order; all of them when ``strict``. ``addresses``: exactly
    these. ``pool``: only from there."""

    families: tuple[str, ...]
    strict: bool = True
    addresses: tuple[str, ...] = ()
    pool: str = ""


def is_ours(service: Obj) -> bool:
    """Whether its addresses are to come from here."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") in (None, CLASS)


def is_marked(service: Obj) -> bool:
    """Whether it has, or had, addresses from here."""
    return ANNOUNCED_BY in annotations(service)


def ingress_of(service: Obj) -> list[Obj]:
    """``status.loadBalancer.ingress``."""
    return list(((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ())


def addresses_of(service: Obj) -> tuple[str, ...]:
    """What it has now."""
    return tuple(entry["ip"] for entry in ingress_of(service) if entry.get("ip"))


def wanted_ingress(service: Obj, chosen: Sequence[str]) -> list[Obj]:
    """What its status shall say."""
    ports = [
        {"port": port["port"], "protocol": port.get("protocol") or "TCP"} for port in service["spec"].get("ports") or ()
    ]
    return [{"ip": address, "ipMode": "VIP", "ports": ports} for address in chosen]


def wish_of(service: Obj) -> Wish:
    """Raises NoAddressError when it contradicts itself."""
    spec, found = service["spec"], annotations(service)
    families = tuple(spec.get("ipFamilies") or ("IPv4",))
    pool = next((found[name] for name in _POOL if found.get(name)), "")
    text = next((found[name] for name in _ADDRESSES if found.get(name)), "")
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if spec.get("loadBalancerIP"):
        if asked and spec["loadBalancerIP"] not in asked:
            raise NoAddressError("spec.loadBalancerIP and the annotation ask for different addresses")
        asked = asked or [spec["loadBalancerIP"]]
    canonical = []
    for one in asked:
        try:
            canonical.append(str(ip_address(one)))
        except ValueError:
            raise NoAddressError(f'"{one}" is not an IP address') from None
    of = [_family(one) for one in canonical]
    if len(set(of)) != len(of):
        raise NoAddressError(f"asks for more than one address of a family: {', '.join(canonical)}")
    foreign = [one for one in canonical if _family(one) not in families]
    if foreign:
        raise NoAddressError(f"asks for {', '.join(foreign)}, but is of {', '.join(families)} only")
    return Wish(families, spec.get("ipFamilyPolicy") != "PreferDualStack", tuple(canonical), pool)


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def holders(services: Iterable[Obj]) -> dict[str, Obj]:
    """Address -> the Service that has it; the older one where two do, which is how a mistake mends itself."""
    found: dict[str, Obj] = {}
    for service in sorted(services, key=_age):
        for address in addresses_of(service):
            found.setdefault(address, service)
    return found


def _age(service: Obj) -> tuple[str, str]:
    return service["metadata"].get("creationTimestamp") or "", service["metadata"].get("uid") or ""


def choose(service: Obj, pools: Sequence[Pool], held: Mapping[str, Obj], hosts: frozenset[str]) -> tuple[str, ...]:
    """The addresses it shall have, in the order of its families. ``held``: see :func:`holders`; ``hosts``: addresses
    that hosts have themselves. Raises NoAddressError."""
    wish = wish_of(service)
    own = service["metadata"].get("uid")
    taken = {address for address, holder in held.items() if holder["metadata"].get("uid") != own} | hosts
    if wish.addresses:
        return _asked_for(service, wish, pools, taken)
    allowed = [pool for pool in pools if pool.serves(namespace(service))]
    if wish.pool:
        if wish.pool not in [pool.name for pool in pools]:
            raise NoAddressError(f'there is no pool "{wish.pool}"; there are: {describe(pools) or "none"}')
        allowed = [pool for pool in allowed if pool.name == wish.pool]
        if not allowed:
            raise NoAddressError(f'pool "{wish.pool}" is not for namespace "{namespace(service)}"')
    else:
        allowed = [pool for pool in allowed if pool.auto_assign]
    kept = {
        _family(address): address
        for address in addresses_of(service)
        if address not in taken and _fits(wish, address, pools)
    }
    found = [kept.get(family) or _free(family, allowed, taken) for family in wish.families]
    missing = [family for family, address in zip(wish.families, found, strict=True) if not address]
    if missing and (wish.strict or not any(found)):
        if not allowed:
            raise NoAddressError("no address pool is for this Service")
        raise NoAddressError(f"no {' or '.join(missing)} address is free in {describe(allowed)}")
    return tuple(address for address in found if address)


def _fits(wish: Wish, address: str, pools: Sequence[Pool]) -> bool:
    """An address that is in no pool any more may stay, one of another pool than is asked for may not."""
    pool = next((one for one in pools if ip_address(address) in one), None)
    return not wish.pool or pool is None or pool.name == wish.pool


def _asked_for(service: Obj, wish: Wish, pools: Sequence[Pool], taken: set[str]) -> tuple[str, ...]:
    for address in wish.addresses:
        pool = next((one for one in pools if ip_address(address) in one), None)
        if pool is None:
            raise NoAddressError(f"{address} is in no pool; there are: {describe(pools) or 'none'}")
        if wish.pool and pool.name != wish.pool:
            raise NoAddressError(f'{address} is not in pool "{wish.pool}"')
        if not pool.serves(namespace(service)):
            raise NoAddressError(f'pool "{pool.name}" is not for namespace "{namespace(service)}"')
        if address in taken:
            raise NoAddressError(f"{address} is in use")
    have = {_family(address): address for address in wish.addresses}
    if wish.strict and len(wish.families) > len(have):
        missing = [family for family in wish.families if family not in have]
        raise NoAddressError(f"asks for no {missing[0]} address, but requires both families")
    return tuple(have[family] for family in wish.families if family in have)


def _free(family: str, pools: Sequence[Pool], taken: set[str]) -> str:
    for pool in pools:
        for address in pool.addresses(family):
            if str(address) not in taken:
                return str(address)
    return ""


def left_to_another_proxy(service: Obj) -> bool:
    """Our hosts would announce it and have no rules for it."""
    return OTHER_PROXY_LABEL in labels(service)
