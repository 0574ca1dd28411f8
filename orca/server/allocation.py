"""Cluster IPs and node ports of Services: handed out without collisions.

What is taken is read off the store's Services under ``lock``, which the caller holds until its Service is stored, so
nothing can leak: an address is free again the moment its Service is gone. Reference: k8s.io/kubernetes
``pkg/registry/core/service/storage/alloc.go`` (fields) and KEP-3070 (the lower part of a range is left to people who
choose addresses themselves).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Iterator

from orca.api.builtin import SERVICES
from orca.api.errors import FieldError, internal, invalid
from orca.api.objects import Obj, key, meta, name
from orca.store import Store

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _offset(size: int) -> int:
    """How many addresses at the start of a range are handed out last: a sixteenth, at least 16, at most 256."""
    return min(max(16, size // 16), 256) if size > 32 else 0


class ServiceAllocator:
    """Allocations for one service CIDR and one node port range (inclusive)."""

    def __init__(self, store: Store, cidr: str, ports: tuple[int, int]) -> None:
        self.lock = asyncio.Lock()
        self._store = store
        self.network: Network = ipaddress.ip_network(cidr)
        self._ports = ports
        self._random = random.Random()

    @property
    def first_address(self) -> str:
        """The address of the ``kubernetes`` Service."""
        return str(self.network[1])

    def assign(self, service: Obj, old: Obj | None) -> None:
        """Fill addresses and ports of ``service`` in place; call with ``lock`` held. Raises ApiError 422."""
        spec = service.setdefault("spec", {})
        previous = (old or {}).get("spec") or {}
        _keep(spec, previous)
        kind = spec.get("type") or "ClusterIP"
        if kind == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        else:
            self._address(service, spec, previous)
        if _wants_ports(spec):
            self._node_ports(service, spec)
        else:
            self._drop_ports(spec, previous)

    # -- addresses

    def _address(self, service: Obj, spec: Obj, previous: Obj) -> None:
        self._check_families(service, spec)
        wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        family = f"IPv{self.network.version}"
        if wanted == "None":
            spec["clusterIP"] = "None"
            spec.setdefault("clusterIPs", ["None"])
        elif not wanted:
            spec["clusterIP"] = self._free_address()
            spec["clusterIPs"] = [spec["clusterIP"]]
        else:
            if wanted != previous.get("clusterIP"):
                self._check_address(service, wanted)
            spec["clusterIP"] = wanted
            spec.setdefault("clusterIPs", [wanted])
        spec.setdefault("ipFamilies", [family])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _check_families(self, service: Obj, spec: Obj) -> None:
        """A second family, or another than the cluster's one, is refused. Raises ApiError 422."""
        headless_without_pods = spec.get("clusterIP") == "None" and not spec.get("selector")
        family = f"IPv{self.network.version}"
        problems = []
        if spec.get("ipFamilyPolicy") == "RequireDualStack" and not headless_without_pods:
            text = "this cluster is not configured for dual-stack services"
            problems.append(FieldError.invalid("spec.ipFamilyPolicy", "RequireDualStack", text))
        for index, wanted in enumerate(spec.get("ipFamilies") or ()):
            if wanted in ("IPv4", "IPv6") and wanted != family and not headless_without_pods:
                text = "not configured on this cluster"
                problems.append(FieldError.invalid(f"spec.ipFamilies[{index}]", wanted, text))
        if problems:
            raise invalid(SERVICES, name(service), problems)

    def _check_address(self, service: Obj, wanted: str) -> None:
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            return  # validation says it with more detail
        problem = ""
        if address not in self.network:
            problem = (
                f"failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. "
                f"The range of valid IPs is {self.network}"
            )
        elif wanted in self._taken(key(service)):
            problem = f"failed to allocate IP {wanted}: provided IP is already allocated"
        if problem:
            error = FieldError.invalid("spec.clusterIPs", [wanted], problem)
            raise invalid(SERVICES, name(service), [error])

    def _taken(self, except_key: str = "") -> set[str]:
        return {
            address
            for other in self._store.peek_list(SERVICES)
            if key(other) != except_key
            for address in (other.get("spec") or {}).get("clusterIPs") or ()
            if address != "None"
        }

    def _free_address(self) -> str:
        taken = self._taken()
        size = self.network.num_addresses
        offset = _offset(size)
        for _ in range(16):  # a nearly empty range: a few throws find a free one
            chosen = str(self.network[self._random.randrange(offset + 1, size - 1)]) if size > offset + 3 else ""
            if chosen and chosen not in taken:
                return chosen
        for index in (*range(offset + 1, size - 1), *range(1, offset + 1)):
            if str(self.network[index]) not in taken:
                return str(self.network[index])
        raise internal("failed to allocate a serviceIP: range is full")

    # -- node ports

    def _node_ports(self, service: Obj, spec: Obj) -> None:
        own = key(service)
        taken = {
            (protocol, port)
            for other in self._store.peek_list(SERVICES)
            if key(other) != own
            for protocol, port in _node_ports_of(other.get("spec") or {})
        }
        ports = spec.get("ports") or []
        fixed = [(port.get("protocol") or "TCP", port["nodePort"]) for port in ports if port.get("nodePort")]
        for index, port in enumerate(ports):
            chosen = port.get("nodePort")
            if chosen:
                self._check_port(service, index, chosen, (port.get("protocol") or "TCP", chosen) in taken)
        taken.update(fixed)
        used_here: dict[int, int] = {}  # port -> node port, shared by the protocols of one port number
        for port in ports:
            protocol, number = port.get("protocol") or "TCP", port.get("port") or 0
            if not port.get("nodePort"):
                shared = used_here.get(number)
                if shared is None or (protocol, shared) in taken:
                    shared = self._free_port(protocol, taken)
                port["nodePort"] = shared
                taken.add((protocol, shared))
            used_here[number] = port["nodePort"]
        if spec.get("externalTrafficPolicy") == "Local" and spec.get("type") == "LoadBalancer":
            health = spec.get("healthCheckNodePort")
            if not health:
                spec["healthCheckNodePort"] = self._free_port("TCP", taken)

    def _check_port(self, service: Obj, index: int, port: int, is_taken: bool) -> None:
        low, high = self._ports
        problem = ""
        if not low <= port <= high:
            problem = f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
            old = self._store.peek(SERVICES, meta(service).get("namespace", ""), name(service))
            if old is not None and any(port == taken for _, taken in _node_ports_of(old.get("spec") or {})):
                problem = ""
        elif is_taken:
            problem = "provided port is already allocated"
        if problem:
            error = FieldError.invalid(f"spec.ports[{index}].nodePort", port, problem)
            raise invalid(SERVICES, name(service), [error])

    def _free_port(self, protocol: str, taken: set[tuple[str, int]]) -> int:
        for port in self._port_order():
            if (protocol, port) not in taken:
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

    def _drop_ports(self, spec: Obj, previous: Obj) -> None:
        """A Service that stops being a NodePort gives back ports that it did not ask for."""
        before = {port for _, port in _node_ports_of(previous)}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in before:
                del port["nodePort"]
        if not _wants_ports(spec):
            spec.pop("healthCheckNodePort", None)


def _wants_ports(spec: Obj) -> bool:
    kind = spec.get("type")
    if kind == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return kind == "NodePort"


def _keep(spec: Obj, previous: Obj) -> None:
    """An update that leaves allocated fields out keeps them, as long as the type still has them."""
    if not previous or (spec.get("type") or "ClusterIP") == "ExternalName":
        return
    if not spec.get("clusterIP") and not spec.get("clusterIPs") and previous.get("clusterIP"):
        spec["clusterIP"] = previous["clusterIP"]
        spec["clusterIPs"] = list(previous.get("clusterIPs") or [previous["clusterIP"]])
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if not spec.get(field) and previous.get(field):
            spec[field] = previous[field]
    if _wants_ports(spec):
        known = {
            (port.get("protocol") or "TCP", port.get("port")): port["nodePort"]
            for port in previous.get("ports") or ()
            if port.get("nodePort")
        }
        chosen = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            kept = known.get((port.get("protocol") or "TCP", port.get("port")))
            if not port.get("nodePort") and kept and kept not in chosen:
                port["nodePort"] = kept
        if previous.get("healthCheckNodePort") and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = previous["healthCheckNodePort"]


def _node_ports_of(spec: Obj) -> Iterator[tuple[str, int]]:
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            yield port.get("protocol") or "TCP", port["nodePort"]
    if spec.get("healthCheckNodePort"):
        yield "TCP", spec["healthCheckNodePort"]
