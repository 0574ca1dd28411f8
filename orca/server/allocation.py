"""Cluster IPs and node ports of Services: handed out without collisions, by any number of servers.

An address is held by an IPAddress of that name, as upstream (KEP-1880), a node port by an object of its own that the
API does not serve. ``assign`` chooses what the cache shows as free; ``claims`` are the holders that must be written in
the same transaction as the Service, so two servers cannot give out the same, and nothing can leak. Reference:
k8s.io/kubernetes ``pkg/registry/core/service/storage/alloc.go`` (fields) and KEP-3070, KEP-3668 (the lower part of a
range is left to people who choose themselves).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

from orca.api.builtin import IPADDRESSES, SERVICECIDRS, SERVICES
from orca.api.errors import ApiError, FieldError, internal, invalid, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj, is_terminating, key, name, split_key
from orca.api.resources import Resource
from orca.api.times import format_time
from orca.client.clock import Clock, SystemClock
from orca.server import families
from orca.server.holdings import FAMILY, MANAGED_BY, NODE_PORTS, OURS, family_of, holdings, owner_of
from orca.server.identifiers import new_uid
from orca.server.repair import Finding, Mend, judge
from orca.store import Also, Store

_TAKEN = "provided port is already allocated"
_MOST_ADDRESSES = 1 << 20
"""Of one range: nobody has more Services, and a search for a free one has an end."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _offset(size: int) -> int:
    """How many addresses at the start of a range are handed out last: a sixteenth, at least 16, at most 256."""
    return min(max(16, size // 16), 256) if size > 32 else 0


class ServiceAllocator:
    """Allocations from the server's own service CIDRs ("IPv4", "IPv6" or one of each, the first is what Services have
    that do not say), the ServiceCIDRs that are ready, and one node port range (inclusive)."""

    def __init__(self, store: Store, cidrs: str, ports: tuple[int, int], clock: Clock | None = None) -> None:
        self._store = store
        self._choosing: set[tuple[Resource, str]] = set()  # by requests of this process that are being written
        self._clock = clock or SystemClock()
        self.own: tuple[Network, ...] = tuple(ipaddress.ip_network(cidr) for cidr in cidrs.split(","))
        self.families = tuple(f"IPv{network.version}" for network in self.own)
        self._ports = ports
        self._random = random.Random()

    @property
    def first_address(self) -> str:
        """The address of the ``kubernetes`` Service."""
        return str(self.own[0][1])

    def assign(self, service: Obj, old: Obj | None) -> None:
        """Fill addresses and ports of ``service`` in place, with what is free as far as the cache shows. Raises
        ApiError 422."""
        spec = service.setdefault("spec", {})
        previous = (old or {}).get("spec") or {}
        _keep(spec, previous)
        kind = spec.get("type") or "ClusterIP"
        if kind == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        else:
            self._address(service, spec, previous)
        if _has_ports(spec):
            self._node_ports(service, spec)
        else:
            _drop_ports(spec, previous)
        if _needs_health_check(spec):
            self._health_port(service, spec)
        elif _needs_health_check(previous) and spec.get("healthCheckNodePort") == previous.get("healthCheckNodePort"):
            spec.pop("healthCheckNodePort", None)

    @contextmanager
    def assigned(self, service: Obj, old: Obj | None) -> Iterator[None]:
        """:meth:`assign`, and keep what was chosen from other requests of this process until the block ends."""
        self.assign(service, old)
        chosen = holdings(service) - (holdings(old) if old is not None else set()) - self._choosing
        self._choosing |= chosen
        try:
            yield
        finally:
            self._choosing -= chosen

    # -- holders

    def claims(self, service: Obj | None, old: Obj | None) -> list[Also]:
        """What must be written together with ``service`` in place of ``old``; None: it does not exist."""
        wanted = holdings(service) if service is not None else set()
        before = holdings(old) if old is not None else set()
        owner = key(service or old or {})
        found = [
            Also(resource, "", held, self._holder(resource, held, owner), 0)
            for resource, held in sorted(wanted - before, key=_by_name)
            if self._held_by(resource, held) != owner
        ]
        found += [
            Also(resource, "", held, None, None)
            for resource, held in sorted(before - wanted, key=_by_name)
            if self._held_by(resource, held) == owner
        ]
        return found

    async def repair(self, tell: Callable[[Finding], None] = lambda _: None) -> None:
        """Give Services their holders back and free what no Service holds: after an upgrade, or when somebody changed
        an IPAddress that is in use. ``tell`` hears of everything that was not as it should be. Raises ApiError 503."""
        findings = judge(
            self._store.peek_list(SERVICES),
            {row: self._store.peek_list(row) for row in (IPADDRESSES, NODE_PORTS)},
            networks=self._ranges(usable=False),
            ports=self._ports,
            now=self._clock.now(),
        )
        for finding in findings:
            if finding.reason:
                tell(finding)
            if finding.holder is not None and finding.mend in (Mend.FREE, Mend.RENEW):
                await self._free(finding.resource, finding.holder, renew=finding.mend is Mend.RENEW)
            if finding.mend in (Mend.MAKE, Mend.RENEW):
                try:
                    await self._store.create(
                        finding.resource, self._holder(finding.resource, finding.held, finding.owner)
                    )
                except ApiError as error:
                    if not is_already_exists(error):
                        raise

    async def _free(self, resource: Resource, holder: Obj, *, renew: bool) -> None:
        service = self._store.peek(SERVICES, *split_key(owner_of(holder)))
        if not renew and service is not None and (resource, name(holder)) in holdings(service):
            return  # made meanwhile
        expected = (holder["metadata"]["uid"], holder["metadata"]["resourceVersion"])
        try:
            await self._store.delete(resource, "", name(holder), expected=expected)
        except ApiError as error:
            if not is_conflict(error) and not is_not_found(error):
                raise

    def _is_free(self, resource: Resource, held: str) -> bool:
        return self._store.peek(resource, "", held) is None and (resource, held) not in self._choosing

    def _held_by(self, resource: Resource, held: str) -> str | None:
        """``namespace/name`` of the Service that holds it; "" when something else does, None when it is free."""
        holder = self._store.peek(resource, "", held)
        return None if holder is None else owner_of(holder)

    def _holder(self, resource: Resource, held: str, owner: str) -> Obj:
        space, service = split_key(owner)
        metadata: Obj = {"name": held, "uid": new_uid(), "creationTimestamp": format_time(self._clock.now())}
        if resource is IPADDRESSES:
            family = family_of(held)
            metadata |= {"labels": {FAMILY: family, MANAGED_BY: OURS}, "generation": 1}
        parent = {"group": "", "resource": "services", "namespace": space, "name": service}
        return {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "spec": {"parentRef": parent},
        }

    # -- addresses

    def _address(self, service: Obj, spec: Obj, previous: Obj) -> None:
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        if families.settled(spec, previous):
            return
        problems = families.settle(spec, previous, self.families)
        if problems:
            raise invalid(SERVICES, name(service), problems)
        listed = list(spec.get("clusterIPs") or ())
        if listed[:1] == ["None"]:
            spec["clusterIP"], spec["clusterIPs"] = "None", listed
            return
        if spec.get("clusterIP") and listed and listed[0] != spec["clusterIP"]:
            return  # validation says it with more detail
        before = previous.get("clusterIPs") or []
        for index, family in enumerate(spec["ipFamilies"]):
            if index >= len(listed):
                listed.append(self._free_address(family))
            elif not listed[index]:
                listed[index] = self._free_address(family)
            elif listed[index] not in before:
                self._check_address(service, listed[index], listed)
        spec["clusterIP"], spec["clusterIPs"] = listed[0], listed

    def _check_address(self, service: Obj, wanted: str, listed: list[str]) -> None:
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            return  # validation says it with more detail
        problem = ""
        if not any(address in network for network in self.networks()):
            problem = f"failed to allocate IP {wanted}: the provided network does not match the current range"
        elif self._held_by(IPADDRESSES, str(address)) not in (None, key(service)):
            problem = f"failed to allocate IP {wanted}: provided IP is already allocated"
        if problem:
            error = FieldError.invalid("spec.clusterIPs", listed, problem)
            raise invalid(SERVICES, name(service), [error])

    def networks(self) -> list[Network]:
        """Where addresses may come from now: the own ranges, then those of ServiceCIDRs of their families that are
        ready and not being deleted."""
        return [one for one in self._ranges(usable=True) if f"IPv{one.version}" in self.families]

    def _ranges(self, *, usable: bool) -> list[Network]:
        """The own ranges, then those of ServiceCIDRs: of the ``usable`` ones, or of all, for what a Service has of a
        range that gives out no more is still well had."""
        found = list(self.own)
        for cidr in self._store.peek_list(SERVICECIDRS):
            if usable and (is_terminating(cidr) or not _is_ready(cidr)):
                continue
            networks = map(ipaddress.ip_network, cidr["spec"].get("cidrs") or ())
            found += [network for network in networks if network not in found]
        return found

    def _free_address(self, family: str) -> str:
        for network in self.networks():
            chosen = self._free_in(network) if f"IPv{network.version}" == family else ""
            if chosen:
                return chosen
        raise internal("failed to allocate a serviceIP: range is full")

    def _free_in(self, network: Network) -> str:
        # Of a very large range only the beginning is used, as upstream does; the last address of IPv4 is broadcast.
        size = min(network.num_addresses, _MOST_ADDRESSES)
        offset = _offset(size)
        for _ in range(16):  # a nearly empty range: a few throws find a free one
            chosen = str(network[self._random.randrange(offset + 1, size - 1)]) if size > offset + 3 else ""
            if chosen and self._is_free(IPADDRESSES, chosen):
                return chosen
        for index in chain(range(offset + 1, size - 1), range(1, min(offset + 1, size - 1))):
            if self._is_free(IPADDRESSES, str(network[index])):
                return str(network[index])
        return ""

    # -- node ports

    def _node_ports(self, service: Obj, spec: Obj) -> None:
        own = key(service)
        ports = spec.get("ports") or []
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                self._check_port(service, index, port["nodePort"], own)
        here = {port["nodePort"] for port in ports if port.get("nodePort")}
        shared: dict[tuple[int, str], int] = {}  # a port number's node port serves its other protocols, too
        for port in ports:
            if port.get("nodePort"):
                shared[port.get("port") or 0, port.get("protocol") or "TCP"] = port["nodePort"]
        for port in ports:
            if port.get("nodePort") or not _wants_ports(spec):
                continue
            number, protocol = port.get("port") or 0, port.get("protocol") or "TCP"
            chosen = next((at for (of, _), at in shared.items() if of == number), None)
            if chosen is None or any(
                other.get("nodePort") == chosen and (other.get("protocol") or "TCP") == protocol for other in ports
            ):
                chosen = self._free_port(here)
            port["nodePort"] = shared[number, protocol] = chosen
            here.add(chosen)

    def _health_port(self, service: Obj, spec: Obj) -> None:
        """Whoever balances the load asks there; it is given out whether or not the ports have node ports."""
        here = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
        health = spec.get("healthCheckNodePort")
        if not health:
            spec["healthCheckNodePort"] = self._free_port(here)
            return
        problem = _TAKEN if health in here else self._port_problem(health, key(service))
        if problem:
            problem = f"failed to allocate requested HealthCheck NodePort {health}: {problem}"
            error = FieldError.invalid("spec.healthCheckNodePort", health, problem)
            raise invalid(SERVICES, name(service), [error])

    def _check_port(self, service: Obj, index: int, port: int, own: str) -> None:
        problem = self._port_problem(port, own)
        if problem:
            error = FieldError.invalid(f"spec.ports[{index}].nodePort", port, problem)
            raise invalid(SERVICES, name(service), [error])

    def _port_problem(self, port: int, own: str) -> str:
        """Why the Service ``own`` cannot have a port that it asks for; "" when it can, or has it."""
        low, high = self._ports
        holder = self._held_by(NODE_PORTS, str(port))
        if holder == own:
            return ""
        if not low <= port <= high:
            return f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
        return "" if holder is None else _TAKEN

    def _free_port(self, here: set[int]) -> int:
        for port in self._port_order():
            if port not in here and self._is_free(NODE_PORTS, str(port)):
                return port
        raise internal("failed to allocate a nodePort: range is full")

    def _port_order(self) -> Iterator[int]:
        low, high = self._ports
        size = high - low + 1
        # As upstream (KEP-3668): 16 to 128 ports at the start is left to people who choose themselves.
        offset = min(max(16, size // 32), 128) if size > 32 else 0
        for _ in range(16):
            yield self._random.randrange(low + offset, high + 1)
        yield from range(low + offset, high + 1)
        yield from range(low, low + offset)


def _drop_ports(spec: Obj, previous: Obj) -> None:
    """A Service whose type has no node ports any more gives back those that nobody touched."""
    now = [port.get("nodePort") for port in spec.get("ports") or ()]
    if {port for port in now if port} <= {
        port["nodePort"] for port in previous.get("ports") or () if port.get("nodePort")
    }:
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)


def _is_ready(cidr: Obj) -> bool:
    conditions = (cidr.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _has_ports(spec: Obj) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _wants_ports(spec: Obj) -> bool:
    """Whether ports without a node port get one; those that somebody chose, or that are there already, stay."""
    return spec.get("type") == "NodePort" or (
        spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )


def _needs_health_check(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _keep(spec: Obj, previous: Obj) -> None:
    """An update that leaves allocated fields out keeps them, as long as the type still has them (upstream's
    patchAllocatedValues); node ports go by the names of ports."""
    if not previous:
        return
    if "ExternalName" not in (spec.get("type"), previous.get("type")) and previous.get("clusterIP"):
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = list(previous.get("clusterIPs") or [previous["clusterIP"]])
            spec["clusterIP"] = previous["clusterIP"]
        elif spec.get("clusterIP") == previous["clusterIP"] and not spec.get("clusterIPs"):
            spec["clusterIPs"] = list(previous.get("clusterIPs") or [previous["clusterIP"]])
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(field) and previous.get(field):
                spec[field] = previous[field] if field == "ipFamilyPolicy" else list(previous[field])
    if _has_ports(spec) and _has_ports(previous):
        known = {
            port.get("name") or "": port["nodePort"] for port in previous.get("ports") or () if port.get("nodePort")
        }
        chosen = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            kept = known.get(port.get("name") or "")
            if not port.get("nodePort") and kept and kept not in chosen:
                port["nodePort"] = kept
    if _needs_health_check(spec) and _needs_health_check(previous) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = previous["healthCheckNodePort"]


def _by_name(holding: tuple[Resource, str]) -> tuple[str, str]:
    return holding[0].plural, holding[1]
